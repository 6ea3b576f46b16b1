"""Real machines, really booted: what a good one brings back, and how each bad one is told apart.

Kernels come from the Debian archive (once; then from the user's store). Everything holds with and without
KVM.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.arch import arch, host_arch
from pipeline.place import BatchResult, Job
from pipeline.place.batch import EMULATED
from pipeline.place.vm import VmPlace
from tests.integration import machines

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ARCHES = ("x86_64", "aarch64")


@pytest.fixture(scope="session")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The programs for an architecture, compiled when first asked for."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = machines.compile_probes(name, tmp_path_factory.mktemp(f"probes-{name}"))
        return made[name]

    return get


class Bed:
    """A place under test with everything a batch needs; files of one run in ``tmp_path``."""

    def __init__(self, name: str, tmp_path: Path, programs: Path, kernel: str = "next") -> None:
        self.place = VmPlace(
            arch(name),
            machines.kernel_for(name, kernel),
            log_dir=tmp_path / "logs",
            qemu_options=("-pidfile", str(tmp_path / "pid")),
        )
        self.pid_file = tmp_path / "pid"
        self.roots = {r: machines.empty_root(tmp_path / r) for r in ("one", "two")}
        self.overlay = {"/probes": programs}

    def run(self, *programs: str, timeout: float = 60.0, root: str = "one") -> BatchResult:
        jobs = [Job(f"{n}-{p}", root, (f"/probes/{p}",), timeout=timeout) for n, p in enumerate(programs)]
        return self.place.run_batch(self.roots, self.overlay, jobs)

    @contextmanager
    def after_lines(self, lines: int, act: Callable[[int], object]) -> Iterator[None]:
        """While the block runs: as soon as so many result lines came, ``act`` on QEMU's process id."""
        logs = self.place.log_dir
        assert logs is not None

        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                found = list(logs.glob("*.results.jsonl.*"))
                if found and found[0].read_bytes().count(b"\n") >= lines:
                    act(int(self.pid_file.read_text()))
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture
def aarch64(tmp_path: Path, probes: Callable[[str], Path]) -> Bed:
    return Bed("aarch64", tmp_path, probes("aarch64"))


@pytest.mark.parametrize("kernel", ["stable", "next"])
@pytest.mark.parametrize("name", ARCHES)
def test_a_machine_runs_jobs_and_brings_them_back(
    name: str, kernel: str, tmp_path: Path, probes: Callable[[str], Path]
) -> None:
    bed = Bed(name, tmp_path, probes(name), kernel)
    jobs = [
        Job("rseq", "one", ("/probes/rseq",)),
        Job("off", "two", ("/probes/rseq",), env={"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}),
        Job("args", "two", ("/probes/environment", "a b", "c%d"), env={"X": "1"}),
        Job("slow", "one", ("/probes/sleep",), timeout=0.2),
        Job("absent", "one", ("/probes/none",)),
    ]
    start = time.monotonic()
    batch = bed.place.run_batch(bed.roots, bed.overlay, jobs)
    seconds = time.monotonic() - start
    assert batch.trouble == ""
    facts = batch.facts
    assert facts is not None
    assert (facts.machine, facts.rseq, facts.cpus) == (name, "EINVAL", 2)
    assert facts.kernel == bed.place.kernel.release != ""
    assert facts.place == f"vm:{facts.kernel}"
    if name != host_arch().name:
        assert facts.emulation == "tcg"
    assert set(batch.results) == {job.id for job in jobs}
    # 20 or 32 by glibc alone; from 2.40 on by the kernel too, and 28 is 6.3 and newer
    assert batch.results["rseq"].lines()[0]["rseq_size"] in (20, 28, 32)
    assert batch.results["off"].lines()[0]["rseq_size"] == 0
    env = ["X=1", f"{EMULATED}=1"] if facts.emulation else ["X=1"]
    assert batch.results["args"].lines() == [{"argc": 3, "uid": 0, "last": "c%d", "env": env}]
    assert batch.results["slow"].timed_out
    assert "No such file" in batch.results["absent"].error
    assert batch.log is not None
    assert "pipeline-init: done" in batch.log.read_text()
    assert seconds < 60, f"boot, five jobs and shutdown took {seconds:.0f} s"


def test_a_kernel_without_rseq_is_seen_as_such(aarch64: Bed) -> None:
    aarch64.place = replace(aarch64.place, extra_cmdline=("pipeline.refuse_rseq",))
    batch = aarch64.run("rseq")
    assert batch.trouble == ""
    assert batch.facts is not None
    assert batch.facts.rseq == "ENOSYS"
    assert batch.results["0-rseq"].lines()[0]["rseq_size"] == 0


def test_qemu_killed_mid_run(aarch64: Bed) -> None:
    with aarch64.after_lines(2, lambda pid: os.kill(pid, signal.SIGKILL)):
        batch = aarch64.run("rseq", "sleep", "rseq")
    assert "was killed by signal 9" in batch.trouble
    assert "cut short after 1 jobs" in batch.trouble
    assert set(batch.results) == {"0-rseq"}


def test_results_cut_while_the_machine_lives(aarch64: Bed) -> None:
    batch = aarch64.run("rseq", "kill-runner", "rseq")
    assert "the runner was ended by signal 9" in batch.trouble
    assert "cut short after 1 jobs" in batch.trouble
    assert set(batch.results) == {"0-rseq"}


@pytest.mark.parametrize("name", ARCHES)
def test_a_panic_mid_run(name: str, tmp_path: Path, probes: Callable[[str], Path]) -> None:
    batch = Bed(name, tmp_path, probes(name)).run("rseq", "panic", "rseq")
    assert "the kernel panicked: sysrq triggered crash" in batch.trouble
    assert set(batch.results) == {"0-rseq"}


def test_a_panic_before_init(aarch64: Bed) -> None:
    aarch64.place = replace(aarch64.place, extra_cmdline=("rdinit=/nonexistent",))
    batch = aarch64.run("rseq")
    assert "the kernel panicked" in batch.trouble
    assert batch.facts is None
    assert not batch.results


def test_a_guest_that_hangs(aarch64: Bed) -> None:
    aarch64.place = replace(aarch64.place, silence_s=4.0)
    batch = aarch64.run("rseq", "stop-runner", timeout=1.0)
    assert "it hung: nothing came for 8 s while running 1-stop-runner (2 of 2)" in batch.trouble
    assert set(batch.results) == {"0-rseq"}
    assert not _alive(aarch64)


def test_a_machine_that_stands_still(aarch64: Bed) -> None:
    aarch64.place = replace(aarch64.place, silence_s=4.0)
    with aarch64.after_lines(1, lambda pid: os.kill(pid, signal.SIGSTOP)):
        batch = aarch64.run("sleep", timeout=1.0)
    assert "it hung: nothing came for 8 s while running 0-sleep (1 of 1)" in batch.trouble
    assert batch.facts is not None
    assert not batch.results
    assert not _alive(aarch64)


def test_interrupted_qemu_does_not_live_on(aarch64: Bed) -> None:
    interrupt = aarch64.after_lines(1, lambda _: os.kill(os.getpid(), signal.SIGINT))
    with interrupt, pytest.raises(KeyboardInterrupt):
        aarch64.run("sleep")
    assert not _alive(aarch64)


def test_qemus_own_complaint_is_passed_on(aarch64: Bed) -> None:
    aarch64.place = replace(aarch64.place, qemu_options=("-device", "no-such-device"))
    batch = aarch64.run("rseq")
    assert "ended with status 1" in batch.trouble
    assert "no-such-device" in batch.trouble


def test_an_init_that_fails_says_why(aarch64: Bed, tmp_path: Path) -> None:
    (tmp_path / "bad.ko").write_bytes(b"no module")
    bad = replace(aarch64.place.kernel, modules=(tmp_path / "bad.ko",))
    aarch64.place = replace(aarch64.place, kernel=bad)
    batch = aarch64.run("rseq")
    assert "init in the machine failed: /pipeline/module/bad.ko: Exec format error" in batch.trouble
    assert batch.facts is None


def _alive(bed: Bed) -> bool:
    """Whether the last QEMU still runs. Its pid file is gone if it ended in order."""
    if not bed.pid_file.exists():
        return False
    try:
        os.kill(int(bed.pid_file.read_text()), 0)
    except ProcessLookupError:
        return False
    return True
