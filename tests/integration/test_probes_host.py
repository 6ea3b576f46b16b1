"""The probes for real: this machine's kernel and C library, and programs and places that are wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.check import PlaceCheck
from pipeline.check.announced import RseqAnnounced
from pipeline.check.critical import RseqCritical
from pipeline.check.fallback import GetcpuFallback
from pipeline.check.getcpu import GetcpuMigration, GetcpuPath, GetcpuSteps
from pipeline.check.ownership import RseqOwn
from pipeline.check.registration import RseqRegistered, RseqTunable
from pipeline.check.secure import RseqSecure
from pipeline.check.speed import GetcpuSpeed
from pipeline.check.static import KINDS, RseqStatic
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, NotJudged, Outcome
from pipeline.place import Job
from pipeline.place.batch import for_emulation
from pipeline.place.host import HostPlace
from tests.integration import probe_bench as kit

pytestmark = pytest.mark.integration

DETERMINISTIC: tuple[PlaceCheck, ...] = (
    RseqRegistered(), RseqTunable(), RseqOwn(), RseqCritical(), GetcpuMigration(), GetcpuPath(),
    GetcpuSteps(), GetcpuFallback(), RseqAnnounced(),
)  # fmt: skip


def but(name: str) -> list[PlaceCheck]:
    """All of them but one."""
    return [check for check in DETERMINISTIC if check.name != name]


#: A sched_getcpu that never looks at the rseq area, as 2.34-74.el9's did not.
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
ALWAYS_ZERO = "int sched_getcpu (void); int sched_getcpu (void) { return 0; }\n"
DROPS_A_BIT = """
#define _GNU_SOURCE
#include <sched.h>
#include <sys/rseq.h>
int sched_getcpu (void)
{
  volatile struct rseq *area = (void *) ((char *) __builtin_thread_pointer () + __rseq_offset);
  unsigned int cpu;
  if ((int) area->cpu_id >= 0)
    return (int) (area->cpu_id & ~(1U << BIT));
  return getcpu (&cpu, 0) < 0 ? -1 : (int) (cpu & ~(1U << BIT));
}
"""
KNOWS_ONE_MARK = """
#define _GNU_SOURCE
#include <sched.h>
#include <sys/rseq.h>
int sched_getcpu (void)
{
  volatile struct rseq *area = (void *) ((char *) __builtin_thread_pointer () + __rseq_offset);
  unsigned int cpu;
  if (area->cpu_id != (unsigned int) RSEQ_CPU_ID_REGISTRATION_FAILED)
    return (int) area->cpu_id;
  return getcpu (&cpu, 0) < 0 ? -1 : (int) cpu;
}
"""
GOES_BY_THE_SIZE = """
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/rseq.h>
#include <unistd.h>
__attribute__ ((constructor)) static void give_back (void)
{
  if (getauxval (27) > 128)
    syscall (CALL, (char *) __builtin_thread_pointer () + __rseq_offset, 32, 1, RSEQ_SIG);
}
"""
CRASHES = "int main (void) { __builtin_trap (); }\n"


def wrong_program(programs: Path, tmp_path: Path, name: str, extra: str, *, alone: bool = False) -> Path:
    """The probes with one that has ``extra`` linked in (or is nothing else)."""
    source = tmp_path / "extra.c"
    source.write_text(extra)
    probe = kit.paths.PROBES / f"{name.replace('-', '_')}.c"
    sources = [] if alone else [str(probe)]
    wrong = kit.compile_one(host_arch(), source, tmp_path / "wrong", *sources)
    return kit.replaced(programs, name, wrong, tmp_path / "programs")


def ask(check: PlaceCheck, root: Path, programs: Path, place: HostPlace | None = None) -> list[Outcome]:
    """Outcomes for the tunable unset, 0, 1."""
    on = kit.host_bench(root, programs)
    batch = kit.observe(place or HostPlace(programs / "runner"), on, [check])
    found = check.judge(on, "host", batch)
    assert not [a for a in found if isinstance(a, NotJudged)]
    return [a.outcome for a in found if isinstance(a, Finding)]


PASS, FAIL, MISSING, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.MISSING, Outcome.ERROR


@kit.AS_RELEASED
def test_this_machines_glibc_is_green(root: Path, programs: Path, tmp_path: Path) -> None:
    on = kit.host_bench(root, programs)
    log = tmp_path / "log" / "batch.jsonl"
    place = HostPlace(programs / "runner", log=log)
    batch = kit.observe(place, on, DETERMINISTIC)
    assert batch.trouble == ""
    assert batch.facts is not None
    assert batch.facts.kernel == os.uname().release
    assert log.read_bytes().count(b"\n") == len(batch.results) + 2
    found = kit.answers(on, "host", batch, DETERMINISTIC)
    assert len(found) == sum(len(check.questions(on, "host")) for check in DETERMINISTIC)
    lone = len(os.sched_getaffinity(0)) == 1
    for case, answer in found.items():
        assert isinstance(answer, Finding)
        two = case.startswith(("getcpu.migration", "getcpu.fallback"))
        expected = MISSING if lone and two else PASS
        assert answer.outcome is expected, answer


def test_nothing_was_written_to_the_root(root: Path, programs: Path) -> None:
    before = sorted(p.relative_to(root) for p in root.rglob("*"))
    job = Job("x", "r", (host_arch().interp, f"{kit.PROBES}/rseq-threads", "1"))
    batch = HostPlace(programs / "runner").run_batch({"r": root}, {kit.PROBES: programs}, [job])
    assert batch.results["x"].status == 0
    assert sorted(p.relative_to(root) for p in root.rglob("*")) == before
    assert not any((root / "probes").iterdir())


@kit.AS_RELEASED
@pytest.mark.parametrize("check", but("getcpu.migration"), ids=lambda c: c.name)  # right either way
def test_a_flipped_default_is_red(check: PlaceCheck, root: Path, programs: Path) -> None:
    on = kit.host_bench(root, programs, kit.OPPOSITE)
    batch = kit.observe(HostPlace(programs / "runner"), on, [check])
    outcomes = [a.outcome for a in check.judge(on, "host", batch) if isinstance(a, Finding)]
    ways = len(outcomes) // 3
    assert outcomes == [FAIL] * ways + [PASS] * 2 * ways


def test_symbols_that_should_not_be_there_are_red(root: Path, programs: Path) -> None:
    on = kit.host_bench(root, programs, "12.0")
    check = RseqRegistered()
    batch = kit.observe(HostPlace(programs / "runner"), on, [check])
    found = kit.answers(on, "host", batch, [check])
    assert {a.outcome for a in found.values() if isinstance(a, Finding)} == {FAIL}


@pytest.mark.parametrize("release", [kit.LIKE, kit.OPPOSITE, kit.SYMBOLLESS])
def test_static_programs_are_seen_as_they_are(release: str, root: Path, programs: Path) -> None:
    """This machine's libc.a registers by default and has the symbols, so only the default can be wrong."""
    on, check = kit.host_bench(root, programs, release), RseqStatic()
    batch = kit.observe(HostPlace(programs / "runner"), on, [check])
    found = check.judge(on, "host", batch)
    default = PASS if release == kit.LIKE else FAIL
    assert {a.case: a.outcome for a in found if isinstance(a, Finding)} == {
        f"{kind}, {state}": outcome
        for kind in KINDS
        for state, outcome in (("tunable unset", default), ("tunable=0", PASS), ("tunable=1", PASS))
    }


def test_a_static_program_that_does_not_register_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    """One that gives its registration back before main, as if its libc.a had never registered."""
    source = tmp_path / "extra.c"
    source.write_text(f"""
        #include <stddef.h>
        #include <sys/rseq.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        __attribute__ ((constructor)) static void give_back (void)
        {{
          syscall ({kit.RSEQ_SYSCALL}, (char *) __builtin_thread_pointer () + __rseq_offset,
                   32, 1, RSEQ_SIG);
        }}
    """)
    program = kit.paths.PROBES / "rseq_threads.c"
    wrong = kit.compile_one(
        host_arch(), source, tmp_path / "wrong", str(program), "-static", "-DSTATIC", f"-I{program.parent}"
    )
    probes = kit.replaced(programs, f"rseq-static-{kit.LIKE}", wrong, tmp_path / "programs")
    assert ask(RseqStatic(), root, probes) == [FAIL, PASS, PASS, PASS, FAIL, PASS]


def test_a_release_without_libc_a_is_missing(root: Path, programs: Path, tmp_path: Path) -> None:
    probes = tmp_path / "programs"
    shutil.copytree(programs, probes)
    (probes / f"rseq-static-pie-{kit.LIKE}").unlink()
    assert ask(RseqStatic(), root, probes) == [PASS, MISSING] * 3


@kit.AS_RELEASED
@pytest.mark.parametrize("release", [kit.LIKE, kit.OPPOSITE])
def test_a_secure_program_does_not_hear_the_tunable(release: str, root: Path, programs: Path) -> None:
    """This machine's libc is on by default: it cannot be switched off, and off is not its default."""
    on, check = kit.host_bench(root, programs, release), RseqSecure()
    batch = kit.observe(HostPlace(programs / "runner"), on, [check])
    found = [a for a in check.judge(on, "host", batch) if isinstance(a, Finding)]
    assert [a.outcome for a in found] == [PASS if release == kit.LIKE else FAIL] * 6
    if os.geteuid() == 0:
        assert {a.measures["secure_by"] for a in found} == {"kernel"}


@kit.AS_RELEASED
def test_a_program_that_hears_the_tunable_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    """The tracer is told nothing, so the program is an ordinary one that only says that it is secure."""
    source = tmp_path / "ordinary.c"
    source.write_text(f"""
        #include <unistd.h>
        static const char words[] = "{{\\"from\\":\\"secure\\",\\"by\\":\\"kernel\\"}}\\n"
          "{{\\"from\\":\\"auxv\\",\\"secure\\":1,\\"tunables\\":null}}\\n";
        int main (int argc, char **argv)
        {{
          if (argc < 3 || write (1, words, sizeof words - 1) < 0)
            return 2;
          argv[1] = "{kit.PROBES}/real-tracer";
          execv (argv[1], argv + 1);
          return 2;
        }}
    """)
    wrong = kit.compile_one(host_arch(), source, tmp_path / "wrong", "-static")
    probes = kit.replaced(programs, "rseq-tracer", wrong, tmp_path / "programs")
    shutil.copy2(programs / "rseq-tracer", probes / "real-tracer")
    assert ask(RseqSecure(), root, probes) == [PASS, PASS, FAIL, FAIL, PASS, PASS]


@kit.AS_RELEASED
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no capability to give up")
def test_a_secure_program_is_seen_without_the_capability_to_trace(
    root: Path, programs: Path, tmp_path: Path
) -> None:
    """As in a container, whose root may trace its own programs and no others'."""
    runner = tmp_path / "runner.sh"
    runner.write_text(f'#!/bin/sh\nexec setpriv --bounding-set -sys_ptrace {programs}/runner "$@"\n')
    runner.chmod(0o755)
    assert ask(RseqSecure(), root, programs, HostPlace(runner)) == [PASS] * 6


@kit.AS_RELEASED
def test_another_size_is_red(root: Path, programs: Path) -> None:
    real = kit.size_when_on()
    on = kit.host_bench(root, programs, of=kit.profile(size_on=real + 12))
    check = RseqRegistered()
    batch = kit.observe(HostPlace(programs / "runner"), on, [check])
    found = list(check.judge(on, "host", batch))
    assert [a.outcome for a in found if isinstance(a, Finding)] == [FAIL, PASS, FAIL]


@pytest.mark.parametrize(
    ("check", "program"), [(GetcpuPath(), "getcpu-path"), (GetcpuSteps(), "getcpu-once")]
)
def test_a_getcpu_that_does_not_use_rseq_is_red(
    check: PlaceCheck, program: str, root: Path, programs: Path, tmp_path: Path
) -> None:
    # With rseq off a system call is right; but where there is a vDSO the same count on and off is not.
    off = FAIL if check.name == "getcpu.steps" and host_arch().name == "x86_64" else PASS
    wrong = wrong_program(programs, tmp_path, program, BY_SYSTEM_CALL)
    outcomes = ask(check, root, wrong)
    ways = len(outcomes) // 3
    assert outcomes[::ways] == [FAIL, off, FAIL]
    if ways == 2:  # that of libc.a is as it was
        assert outcomes[1::2] == [PASS] * 3


@pytest.mark.parametrize("bit", [0, 10, 15, 17, 30])
def test_a_getcpu_that_drops_a_bit_is_red(bit: int, root: Path, programs: Path, tmp_path: Path) -> None:
    """With bit 10 it is right on every machine with up to 1,024 CPUs."""
    wrong = wrong_program(programs, tmp_path, "getcpu-path", DROPS_A_BIT.replace("BIT", str(bit)))
    here = FAIL if 1 << bit & max(os.sched_getaffinity(0)) else PASS
    assert ask(GetcpuPath(), root, wrong) == [FAIL, here, FAIL]


def test_a_mark_that_is_taken_for_a_cpu_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    """Right with rseq on and off, until a program gives glibc's registration back: then the area says -1."""
    wrong = wrong_program(programs, tmp_path, "getcpu-path", KNOWS_ONE_MARK)
    assert ask(GetcpuPath(), root, wrong) == [FAIL] * 3


def on_the_last_cpu(programs: Path, tmp_path: Path) -> HostPlace:
    """The host, its programs seeing one CPU that is not the first."""
    last = max(os.sched_getaffinity(0))
    assert last > 0, "these tests need a second CPU"
    runner = tmp_path / "runner.sh"
    runner.write_text(f'#!/bin/sh\nexec taskset --cpu-list {last} {programs}/runner "$@"\n')
    runner.chmod(0o755)
    return HostPlace(runner)


@kit.AS_RELEASED
def test_hidden_cpus_are_right_and_never_a_green_that_shows_nothing(
    root: Path, programs: Path, tmp_path: Path
) -> None:
    on, place = kit.host_bench(root, programs), on_the_last_cpu(programs, tmp_path)
    batch = kit.observe(place, on, DETERMINISTIC)
    assert batch.trouble == ""
    assert batch.facts is not None
    assert batch.facts.cpus == 1
    for case, answer in kit.answers(on, "host", batch, DETERMINISTIC).items():
        assert isinstance(answer, Finding)
        lone = case.startswith(("getcpu.migration", "getcpu.fallback"))
        assert answer.outcome is (MISSING if lone else PASS), answer
    zero = wrong_program(programs, tmp_path, "getcpu-path", ALWAYS_ZERO)
    assert ask(GetcpuPath(), root, zero, place) == [FAIL] * 3


def test_a_wrong_answer_is_red_where_cpus_are_hidden(root: Path, programs: Path, tmp_path: Path) -> None:
    place = on_the_last_cpu(programs, tmp_path)
    wrong = wrong_program(programs, tmp_path, "getcpu-migrate", ALWAYS_ZERO)
    assert ask(GetcpuMigration(), root, wrong, place) == [FAIL] * 3


@kit.AS_RELEASED
def test_a_program_that_goes_by_what_is_announced_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    """It gives glibc's registration back, as one would that has a larger area to register."""
    wrong = wrong_program(
        programs, tmp_path, "rseq-threads", GOES_BY_THE_SIZE.replace("CALL", str(kit.RSEQ_SYSCALL))
    )
    assert ask(RseqAnnounced(), root, wrong) == [FAIL, PASS, PASS, PASS, FAIL, PASS]
    assert ask(RseqRegistered(), root, wrong) == [PASS, PASS, PASS]


def test_a_wrong_answer_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    if os.sched_getaffinity(0) == {0}:
        pytest.fail("these tests need a second CPU")
    wrong = wrong_program(programs, tmp_path, "getcpu-migrate", ALWAYS_ZERO)
    assert ask(GetcpuMigration(), root, wrong) == [FAIL] * 3


def test_unprotected_increments_are_lost_and_red(root: Path, programs: Path, tmp_path: Path) -> None:
    source = kit.paths.PROBES / "rseq_critical.c"
    broken = kit.compile_one(host_arch(), source, tmp_path / "broken", "-DBROKEN")
    wrong = kit.replaced(programs, "rseq-critical", broken, tmp_path / "programs")
    assert ask(RseqCritical(), root, wrong) == [FAIL] * 3


@pytest.mark.parametrize("check", but("rseq.tunable"), ids=lambda c: c.name)  # which runs ld.so itself
def test_a_crash_is_an_error(check: PlaceCheck, root: Path, programs: Path, tmp_path: Path) -> None:
    program = check.jobs(kit.host_bench(root, programs))[0].argv[0].rpartition("/")[2]
    wrong = wrong_program(programs, tmp_path, program, CRASHES, alone=True)
    assert set(ask(check, root, wrong)) == {ERROR}


def test_speed_has_samples_and_a_getcpu_by_system_call_is_red(
    root: Path, programs: Path, tmp_path: Path
) -> None:
    check = GetcpuSpeed()
    on = kit.host_bench(root, programs)
    batch = kit.observe(HostPlace(programs / "runner"), on, [check])
    found = kit.answers(on, "host", batch, [check])
    if batch.facts is not None and not batch.facts.judges_time:
        assert all(isinstance(a, NotJudged) for a in found.values())
        return
    switched_on = found["getcpu.speed tunable=1"]
    assert isinstance(switched_on, Finding)
    assert switched_on.outcome in (PASS, MISSING), switched_on  # a busy machine must not make it red
    assert min(switched_on.measures["on_ns"]) < min(switched_on.measures["raw_ns"])
    assert len(switched_on.measures["direct_ns"]) >= 50
    wrong = wrong_program(programs, tmp_path, "getcpu-speed", BY_SYSTEM_CALL)
    assert ask(check, root, wrong)[2] is FAIL


def test_where_times_are_not_judged_a_few_rounds_are_enough(root: Path, programs: Path) -> None:
    jobs = for_emulation(GetcpuSpeed().jobs(kit.host_bench(root, programs)), 1.0)
    batch = HostPlace(programs / "runner").run_batch(
        {j.root: root for j in jobs}, {kit.PROBES: programs}, jobs
    )
    assert {len(line["ns"]) for line in batch.results[jobs[0].id].lines()} == {5}
