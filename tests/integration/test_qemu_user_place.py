"""User-mode QEMU: programs start, glibc falls back, and the place says what it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.errors import ToolMissing, UsageError
from pipeline.place import BatchResult, Job
from pipeline.place.qemu_user import QemuUserPlace
from tests.integration import machines

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

FOREIGN = next(a for a in ARCHES.values() if a != host_arch())
Run = Callable[..., BatchResult]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return machines.compile_probes(FOREIGN.name, tmp_path_factory.mktemp("user-probes"))


@pytest.fixture
def run(tmp_path: Path, programs: Path) -> Run:
    place = QemuUserPlace(FOREIGN, log=tmp_path / "results")

    def call(*names: str, timeout: float = 30.0) -> BatchResult:
        jobs = [
            Job(f"{n}-{p}", "r", (f"/probes/{p}", "x y"), {"A": "b"}, timeout) for n, p in enumerate(names)
        ]
        return place.run_batch({"r": machines.empty_root(tmp_path / "r")}, {"/probes": programs}, jobs)

    return call


@pytest.mark.parametrize("root", [True, False], ids=["root", "user"])
def test_programs_start_and_fall_back(run: Run, monkeypatch: pytest.MonkeyPatch, root: bool) -> None:
    """``user`` takes an ordinary user's way, through a user namespace, also where root runs the test."""
    if not root:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    batch = run("rseq", "environment")
    assert batch.trouble == ""
    facts = batch.facts
    assert facts is not None
    assert (facts.machine, facts.rseq, facts.emulation) == (FOREIGN.name, "ENOSYS", "user")
    assert not facts.judges_rseq
    assert not facts.judges_time
    seen = batch.results["0-rseq"].lines()[0]
    assert seen["rseq_size"] == 0
    assert seen["cpu"] in range(os.cpu_count() or 1)
    (said,) = batch.results["1-environment"].lines()
    said["env"] = sorted(said["env"])  # QEMU 10 hands it on in another order
    assert said == {"argc": 2, "uid": 0, "last": "x y", "env": ["A=b", "PIPELINE_EMULATED=1"]}


def test_a_runner_that_is_killed(run: Run) -> None:
    batch = run("rseq", "kill-runner", "rseq")
    assert "cut short after 1 jobs" in batch.trouble
    assert set(batch.results) == {"0-rseq"}


def test_a_job_that_does_not_end(run: Run) -> None:
    batch = run("sleep", "rseq", timeout=0.2)
    assert batch.trouble == ""
    assert batch.results["0-sleep"].timed_out
    assert batch.results["1-rseq"].status == 0


def test_without_qemu_the_package_is_named(tmp_path: Path, programs: Path) -> None:
    place = QemuUserPlace(FOREIGN, qemu="qemu-none-static", log=tmp_path / "results")
    with pytest.raises(ToolMissing, match="qemu-none-static is not installed") as caught:
        place.run_batch({}, {"/probes": programs}, [])
    assert "qemu-user-static" in caught.value.hint


def test_without_a_runner_nothing_is_tried(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="/probes/runner"):
        QemuUserPlace(FOREIGN).run_batch({}, {"/probes": tmp_path}, [])
