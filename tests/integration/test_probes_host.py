"""The probes for real: this machine's kernel and C library, and programs and places that are wrong."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
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
from pipeline.core.errors import PipelineError
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

#: refuse NUMBER ERRNO PROGRAM ARG...: runs a program to which a system call is refused by a filter.
REFUSE = """
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
int main (int argc, char **argv)
{
  if (argc < 4)
    return 2;
  struct sock_filter code[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, (unsigned int) atoi (argv[1]), 0, 1),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int) atoi (argv[2])),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = { sizeof code / sizeof *code, code };
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
      || prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
    return 2;
  execv (argv[3], argv + 3);
  return 127;
}
"""
ENOSYS, EPERM = 38, 1
PTRACE = {"x86_64": 101, "aarch64": 117}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit.compile_all(host_arch(), tmp_path_factory.mktemp("probes"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit.make_root(host_arch(), tmp_path_factory.mktemp("root"))


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


def refusing(programs: Path, tmp_path: Path, number: int, errno: int) -> HostPlace:
    """A place whose runner and jobs are refused a system call."""
    source = tmp_path / "refuse.c"
    source.write_text(REFUSE)
    refuse = kit.compile_one(host_arch(), source, tmp_path / "refuse", "-static")
    runner = tmp_path / "runner.sh"
    runner.write_text(f'#!/bin/sh\nexec {refuse} {number} {errno} {programs}/runner "$@"\n')
    runner.chmod(0o755)
    return HostPlace(runner)


@pytest.mark.parametrize("errno", [ENOSYS, EPERM])
def test_a_filter_that_refuses_rseq_is_missing_never_green(
    errno: int, root: Path, programs: Path, tmp_path: Path
) -> None:
    place = refusing(programs, tmp_path, kit.RSEQ_SYSCALL, errno)
    on = kit.host_bench(root, programs)
    checks = (*DETERMINISTIC, GetcpuSpeed())
    batch = kit.observe(place, on, checks)
    assert batch.trouble == ""
    assert batch.facts is not None
    assert batch.facts.rseq == {ENOSYS: "ENOSYS", EPERM: "EPERM"}[errno]
    for case, answer in kit.answers(on, "host", batch, checks).items():
        assert isinstance(answer, Finding)
        if case.startswith(("rseq.tunable", "getcpu.migration")):  # true without rseq as well
            assert answer.outcome in (PASS, MISSING)
        else:
            assert answer.outcome is MISSING, answer


def test_a_filter_that_refuses_tracing_is_missing(root: Path, programs: Path, tmp_path: Path) -> None:
    place = refusing(programs, tmp_path, PTRACE[host_arch().name], EPERM)
    for check in (RseqRegistered(), GetcpuSteps(), GetcpuPath(), RseqOwn(), RseqCritical()):
        assert set(ask(check, root, programs, place)) == {MISSING}, check.name


def test_a_killed_runner_is_missing(root: Path, programs: Path, tmp_path: Path) -> None:
    runner = tmp_path / "runner.sh"
    runner.write_text(
        f"""#!/bin/sh
{programs}/runner "$@" &
until grep -q '"kind":"job"' "$4" 2>/dev/null; do sleep 0.05; done
kill -9 $!
wait $!
"""
    )
    runner.chmod(0o755)
    place = HostPlace(runner)
    on = kit.host_bench(root, programs)
    jobs = [
        Job("rseq.registered/12.1/tunable unset", "12.1", (f"{kit.PROBES}/rseq-threads", "1")),
        Job("rseq.critical/12.1/tunable=0", "12.1", (f"{kit.PROBES}/rseq-critical", "60000")),
    ]
    batch = place.run_batch({"12.1": root}, {kit.PROBES: programs}, jobs)
    assert "signal 9" in batch.trouble or "status 137" in batch.trouble
    assert "cut short after 1 jobs" in batch.trouble
    answer = kit.answers(on, "host", batch, [RseqCritical()])["rseq.critical tunable=0"]
    assert isinstance(answer, Finding)
    assert answer.outcome is MISSING
    assert "cut short" in answer.seen


def test_roots_that_cannot_be_laid_over_are_trouble(root: Path, programs: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(root, bare)
    (bare / "probes").rmdir()
    on = kit.host_bench(bare, programs)
    batch = kit.observe(HostPlace(programs / "runner"), on, [RseqOwn()])
    assert "nothing can be mounted there" in batch.trouble
    assert {a.outcome for a in RseqOwn().judge(on, "host", batch) if isinstance(a, Finding)} == {MISSING}


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


def test_a_job_that_hangs_floods_or_does_not_exist(root: Path, programs: Path, tmp_path: Path) -> None:
    flood = tmp_path / "flood.c"
    flood.write_text('#include <stdio.h>\nint main (void) { for (;;) puts ("{}"); }\n')
    kit.compile_one(host_arch(), flood, tmp_path / "programs" / "flood", "-static")
    shutil.copy2(programs / "rseq-critical", tmp_path / "programs")
    jobs = [
        Job("hang", "r", (f"{kit.PROBES}/rseq-critical", "60000"), timeout=0.5),
        Job("flood", "r", (f"{kit.PROBES}/flood",)),
        Job("absent", "r", (f"{kit.PROBES}/absent",)),
        Job("nowhere", "s", (f"{kit.PROBES}/flood",)),
        Job("last", "r", (f"{kit.PROBES}/rseq-critical", "10"), env={"A": "b"}),
    ]
    place = HostPlace(programs / "runner")
    batch = place.run_batch({"r": root}, {kit.PROBES: tmp_path / "programs"}, jobs)
    assert batch.trouble == ""
    hang, flooded, absent, nowhere, last = (batch.results[j.id] for j in jobs)
    assert hang.timed_out
    assert 0.5 <= hang.seconds < 5
    assert (flooded.code, absent.code, nowhere.code, hang.code) == ("output", "exec", "root", "")
    assert (nowhere.place_at_fault, absent.place_at_fault) == (True, False)
    assert "wrote more than" in flooded.error
    assert len(flooded.stdout) == 1 << 20
    assert absent.error.endswith("No such file or directory")
    assert "was not told where" in nowhere.error
    assert last.status == 0


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A directory every user may enter; pytest's own is private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_an_ordinary_user_can_use_the_host(root: Path, programs: Path, for_all: Path) -> None:
    """In a user namespace of his own; where the machine forbids those, every answer is MISSING."""
    user = "setpriv --reuid 65534 --regid 65534 --clear-groups" if os.geteuid() == 0 else ""
    for name, source in (("r", root), ("p", programs)):
        shutil.copytree(source, for_all / name)
        (for_all / name).chmod(0o755)
    runner = for_all / "runner.sh"
    runner.write_text(
        f"""#!/bin/sh
: >"$4"
chmod 666 "$4" "$2"
chmod 755 "$(dirname "$4")"
exec {user} {for_all}/p/runner "$@"
"""
    )
    runner.chmod(0o755)
    on = kit.host_bench(for_all / "r", for_all / "p")
    batch = kit.observe(HostPlace(runner), on, [RseqRegistered(), RseqSecure()])
    found = kit.answers(on, "host", batch, [RseqRegistered(), RseqSecure()])
    outcomes = [a.outcome for a in found.values() if isinstance(a, Finding)]
    try:
        kit.run([*user.split(), "unshare", "-Urm", "true"])
    except PipelineError:
        assert outcomes == [MISSING] * 9
    else:
        assert outcomes == [PASS] * 9
        makers = {a.measures.get("secure_by") for a in found.values()}
        assert makers == {None, "tracer"}  # there is nobody else to be
