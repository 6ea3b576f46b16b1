"""What is sent over ssh, to whom, and what is refused before anything is sent."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest

from pipeline.core.errors import UsageError, WorldError
from pipeline.place import BatchResult, Job, ssh
from pipeline.place.ssh import SshPlace
from tests.place.test_initramfs import release


def elf(path: Path, machine: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little"))
    path.chmod(0o755)
    return path


def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    """An ``ssh`` on the PATH that records its arguments, one call a line, and does ``body``."""
    script, calls = tmp_path / "bin" / "ssh", tmp_path / "calls"
    script.parent.mkdir()
    head = f"#!{sys.executable}\nimport sys, time\nprint(sys.argv[1:], file=open({str(calls)!r}, 'a'))\n"
    script.write_text(head + textwrap.dedent(body))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
    return calls


def batch(place: SshPlace, tmp_path: Path, machine: int = 62) -> BatchResult:
    elf(tmp_path / "probes" / "runner", machine)
    (tmp_path / "root").mkdir(exist_ok=True)
    jobs = [Job("one", "r", ("/probes/one",))]
    return place.run_batch({"r": tmp_path / "root"}, {"/probes": tmp_path / "probes"}, jobs)


def test_the_archive_has_jobs_filtered_roots_and_whole_overlays(tmp_path: Path) -> None:
    root = release(tmp_path / "root")
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "lib.a").write_bytes(b"libc")
    (tmp_path / "probes" / "lib.a").chmod(0o755)
    jobs = [Job("one", "r", ("/probes/one",))]
    raw = ssh._archive({"r": root}, {"/probes": tmp_path / "probes"}, jobs)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        members = {m.name: m for m in tar}
        assert tar.extractfile("jobs").read().startswith(b"jobs 1\n")  # type: ignore[union-attr]
        assert tar.extractfile("overlays/0/lib.a").read() == b"libc"  # type: ignore[union-attr]
    assert members["overlays/0/lib.a"].islnk(), "the same content twice is sent once"
    assert members["roots/r/lib"].linkname == "lib64"
    assert members["roots/r/lib64/libc.so.6"].mode == 0o755
    assert members["roots/r/probes"].isdir()
    assert not [name for name in members if name.endswith((".h", "libc.a"))]


@pytest.mark.parametrize(
    ("destination", "address"),
    [
        ("me@host", "me@host"),
        ("host", "host"),
        ("me@host:2222", "ssh://me@host:2222"),
        ("::1", "::1"),
    ],
)
def test_addresses(destination: str, address: str) -> None:
    assert SshPlace(destination)._address() == ("--", address)
    assert SshPlace(destination).name == f"ssh:{destination}"


@pytest.mark.parametrize("destination", ["", "-oProxyCommand=evil"])
def test_an_option_is_no_address(destination: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_ssh(tmp_path, monkeypatch, "")
    with pytest.raises(UsageError, match="no machine for ssh"):
        batch(SshPlace(destination), tmp_path)
    assert not calls.exists()


def test_without_a_runner_nothing_is_tried(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="/probes/runner"):
        SshPlace("host").run_batch({}, {"/probes": tmp_path}, [])


def test_programs_for_another_machine_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_ssh(tmp_path, monkeypatch, "print('/tmp/x aarch64', flush=True); sys.stdin.read()")
    with pytest.raises(WorldError, match="is aarch64, the programs are for x86_64") as caught:
        batch(SshPlace("host"), tmp_path)
    assert "--arch aarch64" in caught.value.hint
    assert len(calls.read_text().splitlines()) == 1
    assert "'BatchMode=yes'" in calls.read_text()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('Connection refused')", "Connection refused"),
        ("sys.exit(90)", "ssh ended with status 90"),
        ("print('Welcome to host! Today is a good day.')", "ssh ended with status 0"),
        ("print('/tmp/$(reboot) x86_64')", "ssh ended with status 0"),
    ],
)
def test_a_machine_that_does_not_serve_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    fake_ssh(tmp_path, monkeypatch, body)
    with pytest.raises(WorldError, match=f"ssh:host cannot be used: {message}") as caught:
        batch(SshPlace("host"), tmp_path)
    assert "known_hosts" in caught.value.hint


def test_the_key_agent_is_passed_on_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
    assert ssh._agent() == {"SSH_AUTH_SOCK": "/run/agent"}
