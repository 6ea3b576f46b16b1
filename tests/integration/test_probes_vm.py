"""The probes on real AArch64 kernels: a good libc is green, wrong programs are red, no rseq is neither."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.check import Material, PlaceCheck
from pipeline.check.announced import RseqAnnounced
from pipeline.check.contexts import RseqContexts, RseqThreads
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
from pipeline.core.arch import arch
from pipeline.core.outcome import Finding, NotJudged, Outcome
from pipeline.place import BatchResult
from pipeline.place.vm import VmPlace
from tests.check.probe_kit import material
from tests.integration import machines
from tests.integration import probe_bench as kit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

AARCH64 = arch("aarch64")
CHECKS: tuple[PlaceCheck, ...] = (
    RseqRegistered(), RseqTunable(), RseqRelro(), RseqOwn(), RseqCritical(), GetcpuMigration(), GetcpuPath(),
    GetcpuSteps(), GetcpuFallback(), GetcpuSpeed(), RseqStatic(), RseqSecure(),
    RseqRefused(), RseqRefusedLater(),
    RseqAnnounced(), RseqThreads(), RseqContexts(),
)  # fmt: skip
#: Checks that are red on a program whose sched_getcpu makes a system call, or whose sections are unannounced.
WRONG: tuple[PlaceCheck, ...] = (GetcpuPath(), GetcpuSteps(), RseqCritical())
BY_SYSTEM_CALL = """
#define _GNU_SOURCE
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
int sched_getcpu (void)
{
  unsigned int cpu;
  return syscall (SYS_getcpu, &cpu, 0, 0) < 0 ? -1 : (int) cpu;
}
"""
WRONG_DIRECTORY = "wrong"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probes, init, and below ``wrong`` the same with three that are wrong."""
    good = kit.compile_all(AARCH64, tmp_path_factory.mktemp("probes"))
    kit.compile_one(AARCH64, kit.paths.PROBES / "init.c", good / "init", "-static")
    source = tmp_path_factory.mktemp("source") / "by-system-call.c"
    source.write_text(BY_SYSTEM_CALL)
    wrong = good / WRONG_DIRECTORY
    for name in ("getcpu-path", "getcpu-once"):
        probe = kit.paths.PROBES / f"{name.replace('-', '_')}.c"
        kit.compile_one(AARCH64, probe, wrong / name, str(source))
    kit.compile_one(AARCH64, kit.paths.PROBES / "rseq_critical.c", wrong / "rseq-critical", "-DBROKEN")
    for release in (kit.LIKE, kit.OPPOSITE, kit.SYMBOLLESS):
        static = wrong / f"getcpu-once-static-{release}"
        kit.compile_one(AARCH64, kit.paths.PROBES / "getcpu_once.c", static, str(source), "-static")
    shutil.copy2(good / "step-count", wrong)
    return good


@pytest.fixture(scope="module")
def on(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    root = kit.make_root(AARCH64, tmp_path_factory.mktemp("root"))
    return material({kit.LIKE: root}, machine="aarch64", programs=programs)


def run(place: VmPlace, on: Material, wrong: Sequence[PlaceCheck] = ()) -> tuple[BatchResult, BatchResult]:
    """One boot: what all checks saw, and what the wrong programs' checks saw."""
    good_jobs = [job for check in CHECKS for job in check.jobs(on)]
    wrong_jobs = [
        replace(
            job,
            id=f"wrong {job.id}",
            argv=tuple(a.replace(kit.PROBES, f"{kit.PROBES}/{WRONG_DIRECTORY}") for a in job.argv),
        )
        for check in wrong
        for job in check.jobs(on)
    ]
    roots = {name: b.root for name, b in on.built.items()}
    batch = place.run_batch(roots, {kit.PROBES: on.programs}, [*good_jobs, *wrong_jobs])
    renamed = {
        name.removeprefix("wrong "): replace(result, id=name.removeprefix("wrong "))
        for name, result in batch.results.items()
        if name.startswith("wrong ")
    }
    return batch, replace(batch, results=renamed)


def with_its_size(on: Material, batch: BatchResult) -> Material:
    """The cross compiler's libc is whatever the distribution has: only its __rseq_size is taken from it."""
    said = batch.results[RseqRegistered().jobs(on)[0].id].lines()
    first = next(line for line in said if line["from"] == "libc")
    assert first["size"] in (20, 28, 32, 33)
    rseq = on.profile.rseq.model_copy(update={"size_on": first["size"]})
    return replace(on, profile=on.profile.model_copy(update={"rseq": rseq}))


@kit.AS_RELEASED
@pytest.mark.parametrize("kernel", ["stable", "next", "sid", "pages-16k"])
def test_a_real_kernel_tells_good_from_wrong(on: Material, kernel: str, tmp_path: Path) -> None:
    place = VmPlace(AARCH64, machines.kernel_for("aarch64", kernel), log_dir=tmp_path)
    batch, wrong = run(place, on, WRONG)
    assert batch.trouble == ""
    assert batch.facts is not None
    on = with_its_size(on, batch)
    found = kit.answers(on, place.name, batch, CHECKS)
    assert len(found) == sum(len(check.questions(on, place.name)) for check in CHECKS) > 3 * len(CHECKS)
    for case, answer in found.items():
        if case.startswith("getcpu.speed") and batch.facts.emulation:
            assert isinstance(answer, NotJudged)
            assert batch.facts.emulation in answer.reason
        else:
            assert isinstance(answer, Finding)
            assert answer.outcome is Outcome.PASS, (case, answer)
    calls = [
        a.measures["system_calls"]
        for case, a in found.items()
        if case.startswith("getcpu.steps") and isinstance(a, Finding)
    ]
    assert calls == [0, 0, 1, 1, 0, 0]  # unset (on), off, on, dynamic and static: what the backport is for

    red = {
        c: a.outcome for c, a in kit.answers(on, place.name, wrong, WRONG).items() if isinstance(a, Finding)
    }
    for case, outcome in red.items():
        off_is_right = case.startswith(("getcpu.path", "getcpu.steps")) and case.endswith("tunable=0")
        assert outcome is (Outcome.PASS if off_is_right else Outcome.FAIL), case
    assert len(red) == 3 * len(WRONG) + 3  # steps of a dynamic and a static program


def test_a_kernel_that_refuses_rseq_is_missing_never_green(on: Material, tmp_path: Path) -> None:
    place = VmPlace(
        AARCH64,
        machines.kernel_for("aarch64", "next"),
        log_dir=tmp_path,
        extra_cmdline=("pipeline.refuse_rseq",),
    )
    batch, _ = run(place, on)
    assert batch.trouble == ""
    for case, answer in kit.answers(on, place.name, batch, CHECKS).items():
        if case.startswith("getcpu.speed") and isinstance(answer, NotJudged):
            continue
        assert isinstance(answer, Finding)
        without_rseq_too = case.startswith(
            ("rseq.tunable", "rseq.relro", "getcpu.migration", "rseq.refused ")
        )
        assert answer.outcome is (Outcome.PASS if without_rseq_too else Outcome.MISSING), (case, answer)


HIDING: tuple[PlaceCheck, ...] = (
    RseqRegistered(), RseqCritical(), GetcpuMigration(), GetcpuPath(), RseqRefused(),
)  # fmt: skip
#: cpuset CPUS PROGRAM ARG...: runs a program in a control group that has these CPUs alone.
CPUSET = """
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#define GROUP "/tmp/cpus"
static int put (const char *file, const char *text)
{
  int fd = open (file, O_WRONLY);
  if (fd < 0 || write (fd, text, strlen (text)) < 0)
    {
      perror (file);
      return 0;
    }
  return close (fd) == 0;
}
int main (int argc, char **argv)
{
  char name[64], file[128];
  if (argc < 3)
    return 2;
  if (access (GROUP, F_OK) != 0) /* the root is read-only */
    mount ("none", "/tmp", "tmpfs", 0, "");
  mkdir (GROUP, 0755);
  if (access (GROUP "/cgroup.procs", F_OK) != 0 && mount ("none", GROUP, "cgroup2", 0, "") != 0)
    {
      perror ("cgroup2");
      return 3;
    }
  snprintf (name, sizeof name, GROUP "/with-%s", argv[1]);
  mkdir (name, 0755);
  if (!put (GROUP "/cgroup.subtree_control", "+cpuset"))
    return 3;
  snprintf (file, sizeof file, "%s/cpuset.cpus", name);
  if (!put (file, argv[1]))
    return 3;
  snprintf (file, sizeof file, "%s/cgroup.procs", name);
  if (!put (file, "0"))
    return 3;
  execv (argv[2], argv + 2);
  return 127;
}
"""


@kit.AS_RELEASED
def test_cpus_that_a_control_group_hides(on: Material, programs: Path, tmp_path: Path) -> None:
    """With CPU 1 of 0 to 3 alone nothing can migrate, and that is said; with 1 and 3 all is right."""
    source = tmp_path / "cpuset.c"
    source.write_text(CPUSET)
    kit.compile_one(AARCH64, source, programs / "cpuset", "-static")
    jobs = [
        replace(job, id=f"{cpus} {job.id}", argv=(f"{kit.PROBES}/cpuset", cpus, *job.argv))
        for cpus in ("1", "1,3")
        for check in HIDING
        for job in check.jobs(on)
    ]
    place = VmPlace(AARCH64, machines.kernel_for("aarch64", "next"), log_dir=tmp_path, cpus=4)
    batch = place.run_batch({name: b.root for name, b in on.built.items()}, {kit.PROBES: programs}, jobs)
    assert batch.trouble == ""
    for cpus in ("1", "1,3"):
        begin = f"{cpus} "
        seen = {n.removeprefix(begin): r for n, r in batch.results.items() if n.startswith(begin)}
        results = {n: replace(r, id=n) for n, r in seen.items()}
        here = replace(batch, results=results)
        bench_here = with_its_size(on, here)
        for case, answer in kit.answers(bench_here, place.name, here, HIDING).items():
            assert isinstance(answer, Finding)
            # who is killed for a call needs no second CPU
            two = case.startswith(("getcpu.migration", "rseq.refused")) and "SIGSYS" not in case
            alone = cpus == "1" and two
            assert answer.outcome is (Outcome.MISSING if alone else Outcome.PASS), (cpus, case, answer)
            if case.startswith("getcpu.migration") and not alone:
                assert answer.measures["cpus"] == 2
