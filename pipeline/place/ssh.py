"""A machine of one's own over OpenSSH: the same runner on real hardware, root not needed.

One session makes a directory there and holds it: when its standard input ends (because we are done, were
interrupted, or the connection broke) it ends the runner and removes the directory. Two more sessions over
the same connection bring the files (a tar stream) and run the jobs. So nothing is left behind, whichever
side goes first.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths, progress
from pipeline.core.arch import ARCHES
from pipeline.core.errors import UsageError, WorldError
from pipeline.core.run import run, running
from pipeline.place import BatchResult, Job, payload
from pipeline.place.batch import decode_results, encode_jobs, longest
from pipeline.place.watch import Watch, kept

PROBES = "/probes"
#: Options of every connection: never ask, notice a dead line within 15 s, compress.
ALWAYS = (
    "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=5",
    "-o", "ServerAliveCountMax=3", "-o", "Compression=yes", "-o", "ForwardAgent=no", "-o", "ForwardX11=no",
    "-o", "ControlPersist=no", "-T",
)  # fmt: skip
#: ssh's own failures; any other status is the remote command's.
SSH_FAILED = 255
CONNECT_LIMIT = 30.0
REMOVE_LIMIT = 15.0
#: Holds the directory. What it prints first: the directory and ``uname -m``.
HOLD = (
    'd=$(mktemp -d "${TMPDIR:-/tmp}/glibc-pipeline.XXXXXX") || exit 90; '
    'echo "$d $(uname -m)"; trap "" HUP INT TERM PIPE; cat >/dev/null; exec 2>/dev/null; '
    'p=$(cat "$d/pid" 2>/dev/null) && kill "$p" && sleep 1 && kill -9 "$p"; '
    'rm -rf -- "$d" || { sleep 1; rm -rf -- "$d"; }'
)


@dataclass(frozen=True)
class SshPlace:
    """The machine ``destination`` (``USER@HOST``, ``HOST``, either with ``:PORT``, or a name in ssh's own
    configuration). ``options`` are given to every ssh. ``log`` keeps the raw results."""

    destination: str
    options: tuple[str, ...] = ()
    log: Path | None = None

    @property
    def name(self) -> str:
        return f"ssh:{self.destination}"

    def run_batch(
        self, roots: Mapping[str, Path], overlay: Mapping[str, Path], jobs: Sequence[Job]
    ) -> BatchResult:
        """See `pipeline.place.Place`.

        Raises `ToolMissing` without ssh, `WorldError` if the machine cannot be reached, is of another
        architecture than the programs, or takes no files; `UsageError` if the overlay has no runner.
        """
        programs = overlay.get(PROBES)
        if programs is None or not (programs / "runner").is_file():
            raise UsageError(f"a machine over ssh needs {PROBES}/runner in the overlay")
        label = re.sub(r"[^A-Za-z0-9.+_-]", "-", self.destination)
        log = self.log or paths.logs() / f"ssh-{label}.results.jsonl"
        with (
            progress.step(f"{self.name}: {len(jobs)} jobs") as step,
            tempfile.TemporaryDirectory(prefix="gp-ssh-") as scratch,
            kept(log) as results,
        ):
            step.at("connecting")
            with self._held(Path(scratch)) as there:
                there.must_run(_elf_machine(programs / "runner"))
                step.at("sending the releases")
                there.send(_archive(roots, overlay, jobs))
                trouble = there.run_jobs(list(overlay), jobs, results, Path(scratch, "run.err"), step)
            batch = decode_results(results.read_bytes(), place=self.name, log=log, trouble=trouble)
            step.done(f"{len(batch.results)} of {len(jobs)} results")
        if batch.trouble:
            progress.warn(f"{self.name}: {batch.trouble}")
        return batch

    @contextmanager
    def _held(self, scratch: Path) -> Iterator[_There]:
        """A directory there, while the block runs."""
        ssh = ("ssh", *ALWAYS, *self.options, *self._address())
        control = ("-o", f"ControlPath={scratch / 'c'}")
        errors = scratch / "hold.err"
        argv = [*ssh[:-2], *control, "-o", "ControlMaster=yes", *ssh[-2:], _command(HOLD)]
        with (
            errors.open("wb") as stderr,
            running(
                argv, env=_agent(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            ) as master,
        ):
            assert master.stdin is not None
            assert master.stdout is not None
            try:
                words = master.stdout.readline().decode(errors="replace").split()
                if len(words) != 2 or not re.fullmatch(r"/[A-Za-z0-9._/+-]+", words[0]):
                    raise self._unreachable(master, errors)
                yield _There(self.name, (*ssh[:-2], *control, *ssh[-2:]), words[0], words[1], errors, master)
            finally:
                master.stdin.close()  # tells the other side to clean up; it ends when it has
                try:
                    master.wait(REMOVE_LIMIT)
                except subprocess.TimeoutExpired:
                    progress.warn(f"{self.name} did not confirm that it removed its files")
                master.stdout.close()

    def _address(self) -> tuple[str, str]:
        """``--`` and the destination; a port becomes ssh's own form of address."""
        if not self.destination or self.destination.startswith("-"):
            raise UsageError(
                f"{self.destination!r} is no machine for ssh", hint="write --place ssh:USER@HOST[:PORT]"
            )
        if re.fullmatch(r"[^:/]+:[0-9]+", self.destination):
            return "--", f"ssh://{self.destination}"
        return "--", self.destination

    def _unreachable(self, master: subprocess.Popen[bytes], errors: Path) -> WorldError:
        try:
            how = f"ssh ended with status {master.wait(CONNECT_LIMIT)}"
        except subprocess.TimeoutExpired:
            how = "the login shell there prints something of its own"
        said = " ".join(errors.read_text(errors="replace").split())
        return WorldError(
            f"{self.name} cannot be used: {said or how}",
            hint=f"`ssh -o BatchMode=yes {self.destination} true` must work without question or output: "
            "check name, port, key (ssh-add) and host key (~/.ssh/known_hosts)",
        )


@dataclass(frozen=True)
class _There:
    """A directory on the other machine, and the connection to it."""

    name: str
    ssh: tuple[str, ...]
    directory: str
    machine: str
    errors: Path
    master: subprocess.Popen[bytes]

    def must_run(self, machine: str) -> None:
        """Raises `WorldError` if programs for ``machine`` do not run there."""
        if machine != self.machine:
            raise WorldError(
                f"{self.name} is {self.machine}, the programs are for {machine}",
                hint=f"choose what it can run: --arch {self.machine}",
            )

    def send(self, archive: bytes) -> None:
        """Unpack a tar archive there."""
        run(
            [*self.ssh, _command(f"tar -x -m -f - -C {shlex.quote(self.directory)}")],
            env=_agent(),
            stdin=archive,
            timeout=1800,
            remedy=f"{self.name} needs tar and room for {len(archive) >> 20} MiB in its temporary directory",
        )

    def run_jobs(
        self,
        overlays: Sequence[str],
        jobs: Sequence[Job],
        results: Path,
        errors: Path,
        step: progress.Running,
    ) -> str:
        """Run them, what they give going to ``results``; returns what went wrong, or ""."""
        runner = [
            "./overlays/0/runner",
            "--jobs",
            "jobs",
            "--out",
            "fd:1",
            "--roots",
            f"{self.directory}/roots",
        ]
        for n, path in enumerate(overlays):
            runner += ["--overlay", f"{path}={self.directory}/overlays/{n}"]
        script = (
            f"cd {shlex.quote(self.directory)} || exit; {shlex.join(runner)} & echo $! >pid; wait $!; "
            "s=$?; rm -f pid; exit $s"
        )
        argv = [*self.ssh, _command(script)]
        with (
            results.open("wb") as stdout,
            errors.open("wb") as stderr,
            running(argv, env=_agent(), stdout=stdout, stderr=stderr) as process,
        ):
            watch = Watch(jobs, results, ("starting the runner", 60.0), ("ending", 30.0), longest(jobs))
            hang = watch.until_end(process, step)
        if hang:
            return hang
        said = " ".join(errors.read_text(errors="replace").split())
        if process.returncode == SSH_FAILED or self.master.poll() is not None:
            said = " ".join((said, *self.errors.read_text(errors="replace").split()))
            return f"the connection broke: {said.strip() or 'ssh said nothing'}"
        if process.returncode:
            return f"the runner ended with status {process.returncode}: {said or 'it said nothing'}"
        return ""


def _command(script: str) -> str:
    """One argument for ssh: whatever the user's shell there is, ``sh`` runs the script."""
    return f"exec /bin/sh -c {shlex.quote(script)}"


def _agent() -> dict[str, str]:
    """The user's key agent, the one thing ssh needs of our environment."""
    return {name: os.environ[name] for name in ("SSH_AUTH_SOCK",) if name in os.environ}


def _elf_machine(program: Path) -> str:
    """The architecture a program is for, as ``uname -m`` calls it ("" if we know of none)."""
    with program.open("rb") as f:
        header = f.read(20)
    code = int.from_bytes(header[18:20], "little")
    return next((a.name for a in ARCHES.values() if a.elf_machine == code and header[:4] == b"\x7fELF"), "")


def _archive(roots: Mapping[str, Path], overlay: Mapping[str, Path], jobs: Sequence[Job]) -> bytes:
    """Job file, roots and overlays (numbered in their order) as a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add_bytes(tar, "jobs", encode_jobs(jobs))
        seen: dict[tuple[int, int, str], str] = {}
        for name, tree in roots.items():
            _add_tree(tar, f"roots/{name}", tree, seen, filtered=True)
            for mount_point in payload.MOUNT_POINTS:
                _add_directory(tar, f"roots/{name}/{mount_point}")
        for n, tree in enumerate(overlay.values()):
            _add_tree(tar, f"overlays/{n}", tree, seen, filtered=False)
    return out.getvalue()


def _add_tree(
    tar: tarfile.TarFile, prefix: str, tree: Path, seen: dict[tuple[int, int, str], str], *, filtered: bool
) -> None:
    _add_directory(tar, prefix)
    for item in payload.items(tree, filtered=filtered):
        name = f"{prefix}/{item.name}"
        if item.path.is_symlink():
            info = _info(name, tarfile.SYMTYPE, 0o777)
            info.linkname = os.readlink(item.path)  # noqa: PTH115  # as it is written, not a Path
            tar.addfile(info)
        elif item.path.is_dir():
            _add_directory(tar, name)
        else:
            key = payload.content_key(item.path)
            if key in seen and key[1]:
                info = _info(name, tarfile.LNKTYPE, key[0])
                info.linkname = seen[key]
                tar.addfile(info)
            else:
                seen[key] = name
                info = _info(name, tarfile.REGTYPE, key[0] & 0o777 | 0o400)
                info.size = key[1]
                with item.path.open("rb") as f:
                    tar.addfile(info, f)


def _add_directory(tar: tarfile.TarFile, name: str) -> None:
    tar.addfile(_info(name, tarfile.DIRTYPE, 0o755))


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = _info(name, tarfile.REGTYPE, 0o644)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _info(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, int(time.time())
    return info
