"""Places on which something goes wrong: no answer is green there, and what went wrong is said."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.check.critical import RseqCritical
from pipeline.check.getcpu import GetcpuPath, GetcpuSteps
from pipeline.check.ownership import RseqOwn
from pipeline.check.registration import RseqRegistered
from pipeline.check.secure import RseqSecure
from pipeline.check.speed import GetcpuSpeed
from pipeline.core.arch import host_arch
from pipeline.core.errors import PipelineError
from pipeline.core.outcome import Finding, Outcome
from pipeline.place import Job
from pipeline.place.host import HostPlace
from tests.integration import probe_bench as kit
from tests.integration.test_probes_host import DETERMINISTIC, ask

pytestmark = pytest.mark.integration

PASS, MISSING = Outcome.PASS, Outcome.MISSING

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
