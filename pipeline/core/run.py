"""The one way to run a program.

The environment is built from nothing: a few names are passed on (`PASSED_ON`), the caller adds what it
means to add. GLIBC_TUNABLES, LD_LIBRARY_PATH and LD_PRELOAD therefore never leak in. The program gets a
process group of its own, and the whole group is ended on ^C, on a timeout and on any error.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from pipeline.core.errors import CommandFailed, NoSpace, ToolMissing, WorldError, says_disk_full

#: Names that a program may take from our environment: where programs, homes, proxies, certificates, agents
#: and container engines are, and nothing that changes how glibc or a compiler works.
PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
    "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "APT_CONFIG",
    "all_proxy", "ALL_PROXY", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE",
    "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "CONTAINER_HOST", "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF", "REGISTRY_AUTH_FILE",
)  # fmt: skip

TAIL_LINES = 25
#: Characters of one line in a message; the log has them all.
SHOWN = 240
GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Completed:
    """How a program ended: ``returncode``, its output (empty where it went to a log) and its duration."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A new environment: `PASSED_ON` from ours, a C locale, then ``extra``."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    for directory in ("/usr/sbin", "/sbin"):  # rpm, mkfs and friends on a user's PATH of Debian
        if directory not in env["PATH"].split(":"):
            env["PATH"] += f":{directory}"
    env["LC_ALL"] = "C.UTF-8"
    env.update(extra or {})
    return env


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process group politely, then for good, and reap its leader.

    The leader's end is not the end of it: what it started is in the same group and may outlive it.
    """
    try:
        _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and (process.poll() is None or _signal_group(process, 0)):
            time.sleep(0.02)
    finally:  # also on a second, impatient ^C
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], signum: int) -> bool:
    """Send a signal to the group; whether there was anyone to send it to."""
    try:
        os.killpg(process.pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    success_codes: Collection[int] | None = (0,),
    stdin: bytes | None = None,
    timeout: float | None = None,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    remedy: str = "",
) -> Completed:
    """Run ``argv`` to its end and return how it ended.

    ``env`` is added to `clean_environment`. With ``log`` both outputs go to that file (appended) instead of
    being returned, and each line is also given to ``on_line``. ``success_codes=None`` accepts any status
    (but `NoSpace` is raised all the same: a full disk is no answer to what was asked).
    ``timeout`` is in seconds. ``remedy`` is the hint of the error if it fails.

    Raises `ToolMissing`, `NoSpace` (recognised in the program's words) or `CommandFailed`.
    """
    args = [os.fspath(a) for a in argv]
    start = time.monotonic()
    with ExitStack() as stack:
        sink: BinaryIO | None = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            sink = stack.enter_context(log.open("ab"))
        source: int | IO[bytes] = subprocess.DEVNULL
        if stdin is not None and sink is None:
            source = subprocess.PIPE
        elif stdin is not None:  # no pipe is fed while the log is followed
            source = stack.enter_context(tempfile.TemporaryFile())
            source.write(stdin)
            source.seek(0)
        process = stack.enter_context(
            _started(
                args,
                env=env,
                cwd=cwd,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if sink else subprocess.PIPE,
            )
        )
        try:
            if sink is not None:
                tail = _follow(process, sink, on_line, timeout)
                stdout = stderr = b""
                process.wait(None if timeout is None else max(0.1, timeout - (time.monotonic() - start)))
            else:
                stdout, stderr = process.communicate(stdin, timeout)
                tail = _last_lines(stderr or stdout, stderr)
        except subprocess.TimeoutExpired:
            raise CommandFailed(
                f"{args[0]} did not end within {timeout:.0f} s", hint=remedy, log=str(log or "")
            ) from None
    done = Completed(tuple(args), process.returncode, stdout, stderr, time.monotonic() - start)
    full = done.returncode != 0 and says_disk_full(stderr.decode(errors="replace"))
    if done.returncode not in success_codes if success_codes is not None else full:
        _signal_group(process, signal.SIGKILL)  # what a failed program may have left behind
        _raise(done, tail, log, remedy)
    return done


def first_line(argv: Sequence[str]) -> str:
    """The first line a program says (of its version); "" if it is not here, fails, or is silent for 20 s."""
    try:
        return next(iter(run(argv, timeout=20).text.splitlines()), "")
    except WorldError:
        return ""


@contextmanager
def running(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | BinaryIO = subprocess.DEVNULL,
    stderr: int | BinaryIO = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``argv`` and let the block go on beside it; when the block ends, so does its whole group.

    The environment is made as for `run`; ends are as in `subprocess.Popen`. For what must be watched
    while it runs (a virtual machine, a server); anything else is for `run`. Raises `ToolMissing`.
    """
    args = [os.fspath(a) for a in argv]
    with _started(args, env=env, cwd=None, stdin=stdin, stdout=stdout, stderr=stderr) as process:
        try:
            yield process
        finally:
            end_group(process)


@contextmanager
def _started(
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdin: int | IO[bytes],
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a group of its own, which any exception in the block ends. Raises `ToolMissing`.

    A signal that comes while the program is being started would find a child that is not known yet, so it
    is kept until the block is there to end the child.
    """
    with ExitStack() as held:
        kept = held.enter_context(_signals_kept())
        try:
            process = subprocess.Popen(
                args, env=clean_environment(env), cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr,
                start_new_session=True,
            )  # fmt: skip
        except (FileNotFoundError, PermissionError, NotADirectoryError) as e:
            raise _not_started(args[0], cwd, e) from None
        with process:
            try:
                held.close()
                for signum in kept:
                    signal.raise_signal(signum)
                yield process
            except BaseException:
                end_group(process)
                raise


@contextmanager
def _signals_kept() -> Iterator[list[int]]:
    """Signals that would end us are only noted down while the block runs."""
    kept: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's business
        yield kept
        return
    ends = [s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if callable(signal.getsignal(s))]
    before = {signum: signal.signal(signum, lambda n, _: kept.append(n)) for signum in ends}
    try:
        yield kept
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _not_started(program: str, cwd: Path | None, error: OSError) -> WorldError:
    if cwd is not None and not cwd.is_dir():
        return WorldError(f"{program} cannot run in {cwd}: there is no such directory")
    why = "is not installed" if isinstance(error, FileNotFoundError) else f"cannot be run: {error.strerror}"
    return ToolMissing(
        f"{program} {why}",
        hint="`nox -s setup` installs what is missing; `nox -s setup -- --check` lists it",
    )


def _last_lines(output: bytes, stderr: bytes) -> str:
    """The last lines, and before them the first of ``stderr`` that tells of a full disk."""
    tail = output.decode(errors="replace").splitlines()[-TAIL_LINES:]
    disk_full = next((x for x in stderr.decode(errors="replace").splitlines() if says_disk_full(x)), "")
    return "\n".join([disk_full, *tail] if disk_full and disk_full not in tail else tail)


def _follow(
    process: subprocess.Popen[bytes],
    sink: BinaryIO,
    on_line: Callable[[str], None] | None,
    timeout: float | None,
) -> str:
    """Copy the output to ``sink`` as it comes; return the last lines.

    A line that tells of a full disk is kept in front of them: many more may follow in a parallel build.
    """
    assert process.stdout is not None
    deadline = None if timeout is None else time.monotonic() + timeout
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    disk_full = ""
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and (left <= 0 or not selector.select(left)):
                raise subprocess.TimeoutExpired(process.args, timeout or 0)
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            sink.write(chunk)
            *lines, pending = (pending + chunk).split(b"\n")
            for raw in lines:
                line = raw.decode(errors="replace")
                tail.append(line)
                if not disk_full and says_disk_full(line):
                    disk_full = line
                if on_line:
                    on_line(line)
        sink.flush()
    if pending:
        tail.append(pending.decode(errors="replace"))
    if disk_full and disk_full not in tail:
        tail.appendleft(disk_full)
    return "\n".join(tail)


def _readable(tail: str) -> str:
    """Lines as a terminal can show them: a compiler's command line may have thousands of characters."""
    return "\n".join(t if len(t) <= SHOWN else f"{t[: SHOWN - 60]} … {t[-60:]}" for t in tail.splitlines())


def _raise(done: Completed, tail: str, log: Path | None, remedy: str) -> None:
    name = done.argv[0]
    where = f"; full log: {log}" if log else ""
    if says_disk_full(tail):
        # its words may only be quoted (a test's name, a source line): the tail shows which it was
        raise NoSpace(f"the disk filled up while {name} ran{where}\n{_readable(tail)}".rstrip())
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
    what = " ".join(done.argv[:3]) + (" …" if len(done.argv) > 3 else "")
    raise CommandFailed(
        f"{what} ended with {how}{where}\n{_readable(tail)}".rstrip(),
        hint=remedy,
        returncode=done.returncode,
        log=str(log or ""),
        tail=tail,
    )
