"""The probes for AArch64: they compile without a warning, and user-mode QEMU is used for what it can show."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.check import PlaceCheck
from pipeline.check.critical import RseqCritical
from pipeline.check.fallback import GetcpuFallback
from pipeline.check.getcpu import GetcpuMigration, GetcpuPath, GetcpuSteps
from pipeline.check.ownership import RseqOwn
from pipeline.check.refusal import RseqRefused, RseqRefusedLater
from pipeline.check.registration import RseqRegistered, RseqTunable
from pipeline.check.relro import RseqRelro
from pipeline.check.secure import RseqSecure
from pipeline.check.speed import GetcpuSpeed
from pipeline.check.static import RseqStatic
from pipeline.core.arch import arch, host_arch
from pipeline.core.outcome import Finding, NotJudged, Outcome
from pipeline.place import qemu_user
from pipeline.place.host import HostPlace
from tests.check.probe_kit import material
from tests.integration import probe_bench as kit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(host_arch().name == "aarch64", reason="here AArch64 is the host, not emulated"),
]

AARCH64 = arch("aarch64")
QEMU = "qemu-aarch64-static"
JUDGED: tuple[PlaceCheck, ...] = (RseqTunable(), RseqRelro(), GetcpuMigration(), RseqRefused())
REFUSED: tuple[PlaceCheck, ...] = (
    RseqRegistered(), RseqOwn(), RseqCritical(), GetcpuPath(), GetcpuSteps(), GetcpuSpeed(),
    RseqStatic(), RseqSecure(), RseqRefusedLater(), GetcpuFallback(),
)  # fmt: skip


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = kit.compile_all(AARCH64, tmp_path_factory.mktemp("probes"))
    found = shutil.which(QEMU)
    assert found, f"{QEMU} is not installed: `nox -s setup` installs it"
    shutil.copy2(found, into / QEMU)
    shutil.copy2(found, into / qemu_user.QEMU)
    return into


def test_user_mode_qemu_shows_the_fallback_and_refuses_the_rest(programs: Path, tmp_path: Path) -> None:
    root = kit.make_root(AARCH64, tmp_path / "root")
    on = material({kit.LIKE: root}, machine="aarch64", programs=programs)
    runner = kit.compile_one(host_arch(), kit.paths.PROBES / "runner.c", tmp_path / "runner", "-static")
    place = kit.Emulated(HostPlace(runner, name="qemu-user", emulation="user"), QEMU)
    batch = kit.observe(place, on, JUDGED)
    assert batch.trouble == ""
    assert batch.facts is not None
    batch = replace(batch, facts=replace(batch.facts, rseq="ENOSYS", machine="aarch64"))
    for case, answer in kit.answers(on, "qemu-user", batch, JUDGED).items():
        if case.startswith("rseq.refused") and "ENOSYS" not in case:  # QEMU makes no filter
            assert isinstance(answer, NotJudged)
            continue
        assert isinstance(answer, Finding)
        assert answer.outcome is Outcome.PASS, (case, answer)
        assert not case.startswith("rseq.refused") or "refused by the place itself" in answer.seen
    refused = kit.answers(on, "qemu-user", batch, REFUSED)
    assert len(refused) == sum(len(check.questions(on, "qemu-user")) for check in REFUSED)
    assert all(isinstance(a, NotJudged) and a.reason for a in refused.values())


def test_the_runner_says_what_user_mode_qemu_has(programs: Path, tmp_path: Path) -> None:
    """The AArch64 runner under QEMU: rseq is refused there, which is how a place finds out."""
    jobs, out = tmp_path / "jobs", tmp_path / "out"
    jobs.write_text("jobs 1\nend 0\n")
    kit.run([programs / QEMU, programs / "runner", "--jobs", jobs, "--out", out])
    batch = kit.decode_results(out.read_bytes(), place="qemu-user", emulation="user")
    assert batch.trouble == ""
    assert batch.facts is not None
    assert batch.facts.machine == "aarch64"
    assert batch.facts.rseq == "ENOSYS"
