"""rseq refused for real: this machine's glibc is green, and programs that are each wrong in one way are red.

A program is made wrong by what is linked into it: a constructor that spoils what glibc set up, or a function
that takes the place of glibc's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.check.refusal import ERRORS, FATAL, KILLED, RefusalCheck, RseqRefused, RseqRefusedLater
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, Outcome
from pipeline.host.image import BuildImage
from pipeline.place import Place
from pipeline.place.container import ContainerPlace
from pipeline.place.host import HostPlace
from tests.integration import probe_bench as kit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a second CPU is needed"),
]

PASS, FAIL, MISSING, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.MISSING, Outcome.ERROR
CASES = tuple(f"{e}, {s}" for s in ("tunable unset", "tunable=0", "tunable=1") for e in ERRORS)
OFF = tuple(case for case in CASES if case.endswith("tunable=0"))

PRELUDE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>
#define RSEQ_CALL %d
#define AREA ((volatile struct rseq *) ((char *) __builtin_thread_pointer () + __rseq_offset))
static int told (void) { return syscall (RSEQ_CALL, 0, 0, 0xffff, 0) == 0 ? 0 : errno; }
static int refused (void) { return told () != EINVAL; }
static void *real (const char *name) { return dlsym (RTLD_NEXT, name); }
#define CREATE pthread_t *id, const pthread_attr_t *a, void *(*f) (void *), void *x
#define REAL_CREATE ((int (*) (CREATE)) real ("pthread_create")) (id, a, f, x)
void *unused[] = { (void *) told, (void *) refused, (void *) real };
"""
AT_START = {
    "crashes": "__attribute__ ((constructor)) static void f (void) { if (refused ()) __builtin_trap (); }",
    "crashes for EPERM": "__attribute__ ((constructor)) static void f (void) "
    "{ if (told () == EPERM) __builtin_trap (); }",
    "complains": '__attribute__ ((constructor)) static void f (void) { if (refused ()) fputs ("no rseq\\n", '
    "stderr); }",
    "takes itself for registered on EBUSY": "__attribute__ ((constructor)) static void f (void) "
    "{ if (told () == EBUSY) AREA->cpu_id = AREA->cpu_id_start; }",
    "an index": "__attribute__ ((constructor)) static void f (void) "
    "{ if (refused ()) AREA->cpu_id_start = -1U; }",
    "flags": "__attribute__ ((constructor)) static void f (void) { if (refused ()) AREA->flags = 1; }",
    "a size": 'const unsigned int size __asm__ ("__rseq_size") = 32;',
    "uninitialized": "__attribute__ ((constructor)) static void f (void) { AREA->cpu_id = -1U; }",
    "a CPU": "__attribute__ ((constructor)) static void f (void) { AREA->cpu_id = 0; }",
    "a wrong CPU": "int sched_getcpu (void) { return refused () ? 0 : (int) AREA->cpu_id; }",
    "no CPU": "int sched_getcpu (void) { return (int) AREA->cpu_id; }",
    "no threads": "int pthread_create (CREATE) { return refused () ? EAGAIN : REAL_CREATE; }",
    "fatal threads": "int pthread_create (CREATE) { if (refused ()) abort (); return REAL_CREATE; }",
}
#: Wrong where rseq is on: what has to end the process does not, or not so.
LATER = {
    # glibc looks whether the creator is registered
    "silent": "int pthread_create (CREATE) { AREA->cpu_id = -2U; return REAL_CREATE; }",
    "silent when stopped": "int pthread_create (CREATE) { if (a) AREA->cpu_id = -2U; return REAL_CREATE; }",
    "no words": "int pthread_create (CREATE) { if (refused ()) abort (); return REAL_CREATE; }",
    "other words": 'int pthread_create (CREATE) { if (refused ()) { fputs ("Fatal\\n", stderr); abort (); } '
    "return REAL_CREATE; }",
    "another end": 'int pthread_create (CREATE) { if (refused ()) { fputs ("%s\\n", stderr); _exit (1); } '
    "return REAL_CREATE; }",
    "crash": "int pthread_create (CREATE) { if (refused ()) __builtin_trap (); return REAL_CREATE; }",
    "no thread": "int pthread_create (CREATE) { return refused () ? EAGAIN : REAL_CREATE; }",
    "the old ones": "int sched_getcpu (void) { return refused () ? 0 : (int) AREA->cpu_id; }",
}


def ask(
    check: RefusalCheck, root: Path, programs: Path, place: Place | None = None, release: str = kit.LIKE,
    *, killed: bool = False,
) -> dict[str, Finding]:  # fmt: skip
    """The cases where rseq is answered with an error, or those where who calls it is ``killed``."""
    on = kit.host_bench(root, programs, release)
    batch = kit.observe(place or HostPlace(programs / "runner"), on, [check])
    assert batch.trouble == ""
    found = {f.case: f for f in check.judge(on, "host", batch) if isinstance(f, Finding)}
    assert [c for c in found if KILLED not in c] == list(CASES)
    return {case: f for case, f in found.items() if killed is (KILLED in case)}


def red(found: dict[str, Finding]) -> set[str]:
    assert {f.outcome for f in found.values()} <= {PASS, FAIL}
    return {case for case, f in found.items() if f.outcome is FAIL}


def wrong(programs: Path, into: Path, extra: str) -> Path:
    source = into / "extra.c"
    source.write_text(PRELUDE % kit.RSEQ_SYSCALL + extra.replace("%s", FATAL))
    probe = kit.paths.PROBES / "rseq_refused.c"
    made = kit.compile_one(host_arch(), source, into / "wrong", str(probe), "-rdynamic")
    return kit.replaced(programs, "rseq-refused", made, into / "programs")


@pytest.mark.parametrize("check", [RseqRefused(), RseqRefusedLater()], ids=lambda c: c.name)
def test_this_machines_glibc_is_green(check: RefusalCheck, root: Path, programs: Path) -> None:
    found = ask(check, root, programs)
    assert not red(found), found
    assert all("refused by a filter" in f.seen for f in found.values())


@pytest.mark.parametrize("check", [RseqRefused(), RseqRefusedLater()], ids=lambda c: c.name)
def test_a_container_is_green_too(
    check: RefusalCheck, root: Path, programs: Path, host_in_a_container: BuildImage
) -> None:
    """Its engine has a filter of its own, and ours comes on top."""
    found = ask(check, root, programs, ContainerPlace(host_in_a_container))
    assert not red(found), found


@pytest.mark.parametrize("fault", AT_START)
def test_a_start_that_goes_wrong_is_red(fault: str, root: Path, programs: Path, tmp_path: Path) -> None:
    found = ask(RseqRefused(), root, wrong(programs, tmp_path, AT_START[fault]))
    of_one = fault.rpartition(" ")[2] if fault.endswith(("EPERM", "EBUSY")) else ""
    expected = {c for c in CASES if of_one in c}
    assert red(found) == expected, found
    assert all(f.seen.startswith("dynamic: ") for c, f in found.items() if c in expected)


@kit.AS_RELEASED
@pytest.mark.parametrize("fault", LATER)
def test_a_later_failure_that_is_not_the_documented_one_is_red(
    fault: str, root: Path, programs: Path, tmp_path: Path
) -> None:
    found = red(ask(RseqRefusedLater(), root, wrong(programs, tmp_path, LATER[fault])))
    off_too = not fault.startswith("silent")  # which is right when off
    assert found == (set(CASES) if off_too else set(CASES) - set(OFF))


def test_a_call_where_rseq_is_off_is_red_where_it_kills(root: Path, programs: Path, tmp_path: Path) -> None:
    assert {c: f.outcome for c, f in ask(RseqRefused(), root, programs, killed=True).items()} == {
        f"{KILLED}, tunable=0": PASS
    }
    source = tmp_path / "extra.c"
    source.write_text(
        "#include <unistd.h>\n__attribute__ ((constructor)) static void call (void) "
        f"{{ syscall ({kit.RSEQ_SYSCALL}, 0, 0, 9, 0); }}\n"
    )
    plain = kit.paths.PROBES / "launch" / "plain.c"
    made = kit.compile_one(host_arch(), source, tmp_path / "wrong", str(plain))
    probes = kit.replaced(programs, "launch-plain", made, tmp_path / "programs")
    found = ask(RseqRefused(), root, probes, killed=True)
    assert red(found) == {f"{KILLED}, tunable=0"}
    assert "launch-plain: signal 31" in found[f"{KILLED}, tunable=0"].seen


def test_registering_when_it_is_off_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    """Threads that register whatever the tunable says, and end the process when they cannot."""
    extra = f'int pthread_create (CREATE) {{ if (refused ()) {{ fputs ("{FATAL}\\n", stderr); abort (); }} '
    found = ask(RseqRefusedLater(), root, wrong(programs, tmp_path, extra + "return REAL_CREATE; }"))
    assert red(found) == set(OFF), found


def test_one_wrong_program_of_the_matrix_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    source = tmp_path / "extra.c"
    source.write_text(PRELUDE % kit.RSEQ_SYSCALL + AT_START["crashes for EPERM"])
    plain = kit.paths.PROBES / "launch" / "plain.c"
    made = kit.compile_one(host_arch(), source, tmp_path / "wrong", str(plain))
    found = ask(RseqRefused(), root, kit.replaced(programs, "launch-plain", made, tmp_path / "programs"))
    # where rseq is off the matrix is not started: nothing would be refused
    assert red(found) == {c for c in CASES if "EPERM" in c and "tunable=0" not in c}
    assert found["EPERM, tunable unset"].seen.startswith("launch-plain: ")


@pytest.mark.parametrize("kind", ["static", "static-pie"])
def test_a_static_program_that_is_wrong_is_red(kind: str, root: Path, programs: Path, tmp_path: Path) -> None:
    source = tmp_path / "extra.c"
    source.write_text(
        PRELUDE.replace("dlsym (RTLD_NEXT, name)", "(void *) name") % kit.RSEQ_SYSCALL + AT_START["a CPU"]
    )
    probe = kit.paths.PROBES / "rseq_refused.c"
    flags: Sequence[str] = ("-static",) if kind == "static" else ("-fPIE", "-static-pie")
    made = kit.compile_one(host_arch(), source, tmp_path / "wrong", str(probe), *flags, "-DSTATIC")
    name = f"rseq-refused-{kind}-{kit.LIKE}"
    found = ask(RseqRefused(), root, kit.replaced(programs, name, made, tmp_path / "programs"))
    assert red(found) == {c for c in CASES if "EBUSY" not in c}  # where only the dynamic one is started
    assert {f.seen.partition(":")[0] for c, f in found.items() if "EBUSY" not in c} == {kind}


def test_a_flipped_default_is_red(root: Path, programs: Path) -> None:
    found = ask(RseqRefusedLater(), root, programs, release=kit.OPPOSITE)
    assert red(found) == {c for c in CASES if "unset" in c}


def test_symbols_that_should_not_be_there_are_red(root: Path, programs: Path) -> None:
    assert red(ask(RseqRefused(), root, programs, release=kit.SYMBOLLESS)) == set(CASES)


@pytest.mark.parametrize("check", [RseqRefused(), RseqRefusedLater()], ids=lambda c: c.name)
def test_without_libc_a_it_is_missing(
    check: RefusalCheck, root: Path, programs: Path, tmp_path: Path
) -> None:
    probes = kit.replaced(programs, "runner", programs / "runner", tmp_path / "programs")
    (probes / f"rseq-refused-static-{kit.LIKE}").unlink()
    found = ask(check, root, probes)
    with_static = [f for case, f in found.items() if "EBUSY" not in case]
    assert {f.outcome for f in with_static} == {MISSING}
    assert all("no libc.a" in f.seen for f in with_static)


def runner(programs: Path, tmp_path: Path, *before: str) -> HostPlace:
    """The host, with something in front of the runner."""
    script = tmp_path / "runner.sh"
    script.write_text(f'#!/bin/sh\nexec {" ".join(before)} {programs}/runner "$@"\n')
    script.chmod(0o755)
    return HostPlace(script)


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_a_place_that_refuses_rseq_itself_answers_the_first_question_alone(
    error: str, root: Path, programs: Path, tmp_path: Path
) -> None:
    """A filter over a filter: the newer one's error is what a program is told."""
    source = tmp_path / "refuse.c"
    source.write_text(
        f"""#include "rseq_filter.h"
        int main (int argc, char **argv)
        {{
          if (argc < 2 || refuse_rseq ({error}) != 0)
            return 2;
          execv (argv[1], argv + 1);
          return 127;
        }}"""
    )
    refuse = kit.compile_one(host_arch(), source, tmp_path / "refuse", "-static")
    place = runner(programs, tmp_path, str(refuse))
    assert not red(ask(RseqRefused(), root, programs, place))
    later = ask(RseqRefusedLater(), root, programs, place)
    assert {f.outcome for f in later.values()} == {MISSING}
    assert all(f"the place refuses rseq ({error})" in f.seen for f in later.values())


@pytest.mark.parametrize("check", [RseqRefused(), RseqRefusedLater()], ids=lambda c: c.name)
def test_one_cpu_is_missing_never_green(
    check: RefusalCheck, root: Path, programs: Path, tmp_path: Path
) -> None:
    last = str(max(os.sched_getaffinity(0)))
    found = ask(check, root, programs, runner(programs, tmp_path, "taskset", "--cpu-list", last))
    assert {f.outcome for f in found.values()} == {MISSING}
    assert all("one CPU" in f.seen for f in found.values())
