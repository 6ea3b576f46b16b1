"""What programs do on this machine's C library: threads, debuggers, clocks and strings are green."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.build.workshop import compiler
from pipeline.build.workshop import programs as listed
from pipeline.check.clocks import FUNCTIONS, Clocks
from pipeline.check.probing import ProbeCheck
from pipeline.check.strings import BEST, Strings
from pipeline.check.threads import Credentials, Debugger, Threads
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.run import run
from tests.integration import probe_bench as kit

pytestmark = pytest.mark.integration

PREFIXES = ("threads", "debugged", "clock-once", "runner", "step-count", "strings")
NAMES = tuple(p.name for p in listed() if p.name.startswith(PREFIXES))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit.compile_all(host_arch(), tmp_path_factory.mktemp("probes"), only=NAMES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = kit.make_release_root(host_arch(), tmp_path_factory.mktemp("root"))
    (libc,) = made.rglob("libc.so.6")
    found = run([compiler(host_arch(), cxx=False), "-print-file-name=libthread_db.so.1"]).text.strip()
    shutil.copy2(Path(found).resolve(), libc.parent / "libthread_db.so.1")
    return made


def ask(check: ProbeCheck, root: Path, programs: Path) -> dict[str, Finding]:
    return kit.ask(check, kit.host_bench(root, programs))


def red(found: dict[str, Finding]) -> dict[str, str]:
    return {case: f.seen for case, f in found.items() if f.outcome is not Outcome.PASS}


CHECKS = (Threads(), Credentials(), Debugger(), Clocks(), Strings())


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.name)
def test_this_machines_glibc_is_green(check: ProbeCheck, root: Path, programs: Path) -> None:
    found = ask(check, root, programs)
    assert red(found) == {}
    assert len(found) == len(check.cases(kit.host_bench(root, programs)))


#: What each thread does before its own function, as if glibc had left it so.
WRAPPED = """
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int __real_pthread_create (pthread_t *, const pthread_attr_t *, void *(*) (void *), void *);
struct begin { void *(*function) (void *); void *argument; };
static void *begin (void *of)
{
  struct begin b = *(struct begin *) of;
  sigset_t all;
  sigfillset (&all);
  (void) all;
  WRONG;
  return b.function (b.argument);
}
int __wrap_pthread_create (pthread_t *id, const pthread_attr_t *attr, void *(*f) (void *), void *argument)
{
  struct begin *b = malloc (sizeof *b);
  b->function = f;
  b->argument = argument;
  return __real_pthread_create (id, attr, begin, b);
}
"""


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("syscall (SYS_set_robust_list, NULL, 24)", "the kernel has no list of robust mutexes"),
        ("pthread_sigmask (SIG_SETMASK, &all, NULL)", "the signals that are blocked: "),
        ("abort ()", "it ended with signal 6"),
    ],
)
def test_threads_that_begin_wrongly_are_red(
    wrong: str, words: str, root: Path, programs: Path, tmp_path: Path
) -> None:
    (tmp_path / "extra.c").write_text(WRAPPED.replace("WRONG", wrong))
    made = kit.compile_one(
        host_arch(), kit.paths.PROBES / "threads/main.c", tmp_path / "wrong", str(tmp_path / "extra.c"),
        "-Wl,--wrap=pthread_create",
    )  # fmt: skip
    found = red(ask(Threads(), root, kit.replaced(programs, "threads", made, tmp_path / "programs")))
    assert set(found) == {"dynamic, tunable unset"}
    assert words in found["dynamic, tunable unset"]


#: clock_gettime that asks the kernel.
BY_SYSTEM_CALL = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int __wrap_clock_gettime (clockid_t id, struct timespec *to);
int __wrap_clock_gettime (clockid_t id, struct timespec *to)
{
  return (int) syscall (SYS_clock_gettime, id, to);
}
"""


#: clock_gettime as on a machine so slow that the kernel writes the clock while it is read, again and again.
AGAIN = """
#include <time.h>
int __wrap_clock_gettime (clockid_t id, struct timespec *to);
int __real_clock_gettime (clockid_t id, struct timespec *to);
int __wrap_clock_gettime (clockid_t id, struct timespec *to)
{
  for (int n = 0; n < 20000; n++)
    __real_clock_gettime (id, to);
  return 0;
}
"""


def test_a_clock_that_is_read_again_and_again_is_not_counted_for_ever(
    root: Path, programs: Path, tmp_path: Path
) -> None:
    (tmp_path / "extra.c").write_text(AGAIN)
    made = kit.compile_one(
        host_arch(), kit.paths.PROBES / "clock_once.c", tmp_path / "slow", str(tmp_path / "extra.c"),
        "-Wl,--wrap=clock_gettime",
    )  # fmt: skip
    on = kit.host_bench(root, kit.replaced(programs, "clock-once", made, tmp_path / "programs"))
    assert red(kit.ask(Clocks(), on)) == {}


def test_a_clock_read_by_a_system_call_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    assert "clock_gettime" in FUNCTIONS
    (tmp_path / "extra.c").write_text(BY_SYSTEM_CALL)
    made = kit.compile_one(
        host_arch(), kit.paths.PROBES / "clock_once.c", tmp_path / "wrong", str(tmp_path / "extra.c"),
        "-Wl,--wrap=clock_gettime",
    )  # fmt: skip
    found = red(ask(Clocks(), root, kit.replaced(programs, "clock-once", made, tmp_path / "programs")))
    assert found == {"dynamic, tunable unset": "clock_gettime does not ask the vDSO (1 system calls)"}


#: A memmove that copies forward always.
FORWARD = """
#include <stddef.h>
void *memmove (void *to, const void *from, size_t n)
{
  for (size_t i = 0; i < n; i++)
    ((char *) to)[i] = ((const char *) from)[i];
  return to;
}
"""


def test_a_memmove_that_copies_forward_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    (tmp_path / "extra.c").write_text(FORWARD)
    flags = next(p.flags for p in listed() if p.name == "strings")
    made = kit.compile_one(
        host_arch(), kit.paths.PROBES / "strings.c", tmp_path / "wrong", str(tmp_path / "extra.c"), *flags
    )
    found = red(ask(Strings(), root, kit.replaced(programs, "strings", made, tmp_path / "programs")))
    assert found[f"{BEST}, tunable unset"] == "memmove is wrong of 3 bytes, 0 before the end of memory"
    assert "static, tunable unset" not in found
