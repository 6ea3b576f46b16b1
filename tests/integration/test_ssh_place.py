"""A real sshd on loopback: results come back, nothing stays behind, and each break is told apart."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.core.arch import host_arch
from pipeline.core.errors import WorldError
from pipeline.core.run import run, running
from pipeline.place import BatchResult, Job
from pipeline.place.ssh import SshPlace
from tests.integration import machines

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@dataclass
class Server:
    """A running sshd; ``remote`` is where its sessions keep temporary files."""

    place: SshPlace
    port: int
    pid: int
    remote: Path
    programs: Path
    root: Path

    def run(self, *programs: str, timeout: float = 30.0) -> BatchResult:
        jobs = [Job(f"{n}-{p}", "r", (f"/probes/{p}",), timeout=timeout) for n, p in enumerate(programs)]
        return self.place.run_batch({"r": self.root}, {"/probes": self.programs}, jobs)

    def left_behind(self) -> list[str]:
        """What is still there after the sessions had ten seconds to clean up."""
        for _ in range(100):
            if not list(self.remote.iterdir()):
                return []
            time.sleep(0.1)
        return [str(p) for p in self.remote.rglob("*")]

    @contextmanager
    def after_lines(self, lines: int, act: Callable[[], object]) -> Iterator[None]:
        """While the block runs: ``act`` as soon as so many result lines came."""
        over = threading.Event()
        assert self.place.log is not None
        log = self.place.log

        def watch() -> None:
            while not over.wait(0.02):
                found = list(log.parent.glob(f"{log.name}.*"))
                if found and found[0].read_bytes().count(b"\n") >= lines:
                    assert list(self.remote.iterdir()), "nothing was ever there: the test shows nothing"
                    act()
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def kill_sessions(self) -> None:
        """Kill the server's processes for its connections, as if the machine had gone."""
        for pid in _descendants(self.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                if b"sshd" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # it ended meanwhile
        return []
    return [found for child in children for found in (int(child), *_descendants(int(child)))]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port: int = s.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"sshd does not listen: {log.read_text()}")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return machines.compile_probes(host_arch().name, tmp_path_factory.mktemp("ssh-probes"))


@pytest.fixture
def serve(tmp_path: Path, programs: Path) -> Iterator[Callable[..., Server]]:
    """Start a server with further lines of configuration; all of it ends with the test."""
    remote = Path(tempfile.mkdtemp(prefix="sshd-test-"))  # tmp_path is closed to other users
    remote.chmod(0o1777)
    managers = []

    def start(*config: str) -> Server:
        for name in ("host_key", "user_key"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name])
        shutil.copy(tmp_path / "user_key.pub", tmp_path / "authorized_keys")
        port = _free_port()
        host_key = (tmp_path / "host_key.pub").read_text()
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
        lines = [
            f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {tmp_path}/host_key", "UsePAM no",
            f"AuthorizedKeysFile {tmp_path}/authorized_keys", "StrictModes no", "PermitRootLogin yes",
            "PasswordAuthentication no", "PidFile none", *config, f"SetEnv TMPDIR={remote}",
        ]  # fmt: skip
        (tmp_path / "sshd_config").write_text("\n".join(lines) + "\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # a service manager would make it
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "/usr/sbin/sshd"
        log = tmp_path / "sshd.log"
        manager = running([sshd, "-D", "-f", tmp_path / "sshd_config", "-E", log])
        process = manager.__enter__()
        managers.append(manager)
        _wait_for(port, process, log)
        options = (
            "-F", "none", "-i", str(tmp_path / "user_key"), "-o", "IdentitiesOnly=yes",
            "-o", f"UserKnownHostsFile={tmp_path}/known_hosts", "-o", "StrictHostKeyChecking=yes",
        )  # fmt: skip
        place = SshPlace(f"{getpass.getuser()}@127.0.0.1:{port}", options, tmp_path / "results")
        root = machines.empty_root(tmp_path / "root")
        return Server(place, port, process.pid, remote, programs, root)

    try:
        yield start
    finally:
        for manager in managers:
            manager.__exit__(None, None, None)
        shutil.rmtree(remote)


def test_jobs_run_there_and_nothing_is_left(serve: Callable[..., Server]) -> None:
    server = serve()
    batch = server.run("rseq", "environment", "none")
    assert batch.trouble == ""
    assert batch.facts is not None
    assert batch.facts.kernel == os.uname().release
    assert batch.facts.place == server.place.name
    assert set(batch.results) == {"0-rseq", "1-environment", "2-none"}
    assert batch.results["1-environment"].lines()[0]["env"] == []
    assert "No such file" in batch.results["2-none"].error
    assert server.left_behind() == []


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can make a session of another user; else all are one"
)
def test_root_is_not_needed_there(serve: Callable[..., Server]) -> None:
    become = 'setpriv --reuid 65534 --regid 65534 --clear-groups /bin/sh -c "$SSH_ORIGINAL_COMMAND"'
    server = serve(f"ForceCommand {become}")
    batch = server.run("environment")
    assert batch.trouble == ""
    assert batch.results["0-environment"].lines()[0]["uid"] == 0, "root of a user namespace of its own"
    assert server.left_behind() == []


def test_without_namespaces_the_reason_is_given(serve: Callable[..., Server]) -> None:
    """The session may have no further user namespace and has no root's right to mount."""
    bare = 'setpriv --bounding-set=-sys_admin,-sys_chroot /bin/sh -c \\"\\$SSH_ORIGINAL_COMMAND\\"'
    limit = f"echo 0 >/proc/sys/user/max_user_namespaces && exec {bare}"
    server = serve(f'ForceCommand unshare --user --map-root-user sh -c "{limit}"')
    batch = server.run("rseq")
    assert "no mount namespace" in batch.trouble
    assert batch.facts is not None
    assert not batch.results
    assert server.left_behind() == []


def test_connection_refused_has_a_remedy(serve: Callable[..., Server]) -> None:
    server = serve()
    closed = replace(server.place, destination=f"{getpass.getuser()}@127.0.0.1:{_free_port()}")
    server.place = replace(closed, options=(*closed.options, "-o", "StrictHostKeyChecking=no"))
    with pytest.raises(WorldError, match="Connection refused") as caught:
        server.run("rseq")
    assert "ssh -o BatchMode=yes" in caught.value.hint


def test_a_key_that_is_not_known_there(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve()
    (tmp_path / "authorized_keys").write_text("")
    with pytest.raises(WorldError, match="Permission denied"):
        server.run("rseq")
    assert server.left_behind() == []


def test_a_host_key_that_is_another(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve()
    known = f"[127.0.0.1]:{server.port} {(tmp_path / 'user_key.pub').read_text()}"
    (tmp_path / "known_hosts").write_text(known)
    with pytest.raises(WorldError, match="Host key verification failed"):
        server.run("rseq")


def test_connection_cut_mid_run(serve: Callable[..., Server]) -> None:
    server = serve()
    with server.after_lines(2, server.kill_sessions):
        batch = server.run("rseq", "sleep", "rseq")
    assert "the connection broke" in batch.trouble
    assert "cut short after 1 jobs" in batch.trouble
    assert set(batch.results) == {"0-rseq"}
    assert server.left_behind() == []


def test_a_runner_that_is_killed_there(serve: Callable[..., Server]) -> None:
    server = serve()
    batch = server.run("rseq", "kill-runner", "rseq")
    assert "the runner ended with status 137" in batch.trouble
    assert set(batch.results) == {"0-rseq"}
    assert server.left_behind() == []


def test_interrupted_nothing_is_left(serve: Callable[..., Server]) -> None:
    server = serve()
    interrupt = server.after_lines(1, lambda: os.kill(os.getpid(), signal.SIGINT))
    with interrupt, pytest.raises(KeyboardInterrupt):
        server.run("sleep")
    assert server.left_behind() == []


def test_no_room_there_is_named(serve: Callable[..., Server], tmp_path: Path) -> None:
    """Its temporary directory is none, so no directory can be made."""
    (tmp_path / "file").write_text("")
    server = serve(f"SetEnv TMPDIR={tmp_path}/file")
    with pytest.raises(WorldError, match=r"cannot be used: .*mktemp"):
        server.run("rseq")
