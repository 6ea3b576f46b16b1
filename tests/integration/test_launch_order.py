"""launch.order and its like for real: this machine's C library is green, and what is wrong is not."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from pipeline.build.workshop import programs as listed
from pipeline.check.guards import Environment, Guards
from pipeline.check.loading import Loading
from pipeline.check.order import LaunchOrder
from pipeline.check.probing import ProbeCheck
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, Outcome
from tests.integration import probe_bench as kit

pytestmark = pytest.mark.integration

PREFIXES = ("order-", "loading", "guards", "environment", "runner", "rseq-tracer")
NAMES = tuple(p.name for p in listed() if p.name.startswith(PREFIXES))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit.compile_all(host_arch(), tmp_path_factory.mktemp("probes"), only=NAMES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = kit.make_release_root(host_arch(), tmp_path_factory.mktemp("root"))
    ldconfig = made / "usr" / "sbin" / "ldconfig"
    ldconfig.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2("/sbin/ldconfig", ldconfig)
    (made / "etc").mkdir(exist_ok=True)
    return made


def ask(check: ProbeCheck, root: Path, programs: Path) -> dict[str, Finding]:
    of = kit.host_profile().model_copy(update={"glibc": platform.libc_ver()[1]})
    return kit.ask(check, kit.host_bench(root, programs, of=of))


@pytest.mark.parametrize("check", [LaunchOrder(), Loading(), Guards(), Environment()], ids=lambda c: c.name)
def test_this_machines_glibc_is_green(check: ProbeCheck, root: Path, programs: Path) -> None:
    found = ask(check, root, programs)
    assert {case: f.seen for case, f in found.items() if f.outcome is not Outcome.PASS} == {}
    assert len(found) == len(check.cases(kit.host_bench(root, programs)))


def test_a_library_that_needs_no_other_is_constructed_too_early(
    root: Path, programs: Path, tmp_path: Path
) -> None:
    """order-top without its needs: the two it should wait for are constructed after it, or never."""
    program = next(p for p in listed() if p.name == "order-top")
    made = kit.compile_one(host_arch(), kit.paths.PROBES / program.source, tmp_path / "wrong", *program.flags)
    found = ask(LaunchOrder(), root, kit.replaced(programs, "order-top", made, tmp_path / "programs"))
    assert {case for case, f in found.items() if f.outcome is Outcome.FAIL} == {
        case for case in found if case.startswith("dynamic")
    }
    assert "+left did not happen" in found["dynamic, tunable unset"].seen


def test_a_program_that_looks_elsewhere_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    program = next(p for p in listed() if p.name == "loading-runpath")
    flags = [flag.replace("/etc/runpath", "/etc/elsewhere") for flag in program.flags]
    made = kit.compile_one(host_arch(), kit.paths.PROBES / program.source, tmp_path / "wrong", *flags)
    found = ask(Loading(), root, kit.replaced(programs, program.name, made, tmp_path / "programs"))
    assert [f.outcome for f in found.values()] == [Outcome.FAIL]
    assert all("runpath: found as /etc/cached" in f.seen for f in found.values()), found


def test_an_auditor_that_is_not_there_is_not_heard(root: Path, programs: Path, tmp_path: Path) -> None:
    kept = shutil.copytree(programs, tmp_path / "programs")
    (kept / "environment-auditor").unlink()
    found = ask(Environment(), root, kept)
    red = {case: f.seen for case, f in found.items() if f.outcome is not Outcome.PASS}
    assert red == {"by an ordinary program, tunable unset": "auditor: its variable was not heard"}


#: Threads begin with no guard, as if it had not been copied.
NO_GUARD = """
#include <pthread.h>
#include <stdlib.h>
int __real_pthread_create (pthread_t *, const pthread_attr_t *, void *(*) (void *), void *);
struct begin { void *(*function) (void *); void *argument; };
static void *begin (void *of)
{
  struct begin b = *(struct begin *) of;
  __asm__ volatile ("movq $0, %%fs:0x28" : : : "memory");
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


@pytest.mark.skipif(platform.machine() != "x86_64", reason="on AArch64 all threads have one guard")
def test_a_thread_without_a_guard_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    (tmp_path / "extra.c").write_text(NO_GUARD)
    made = kit.compile_one(
        host_arch(), kit.paths.PROBES / "guards.c", tmp_path / "wrong", str(tmp_path / "extra.c"),
        "-Wl,--wrap=pthread_create",
    )  # fmt: skip
    found = ask(Guards(), root, kit.replaced(programs, "guards", made, tmp_path / "programs"))
    red = {case: f.seen for case, f in found.items() if f.outcome is not Outcome.PASS}
    assert red == {
        "dynamic, tunable unset": "thread: the stack guard is not made of the kernel's random bytes"
    }


def test_what_a_secure_program_loads_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    """/etc/ld.so.preload is heard by every program: as if the variable had been."""
    other = shutil.copytree(root, tmp_path / "root", symlinks=True)
    (other / "etc").mkdir(exist_ok=True)
    for directory in (other, other / "etc"):  # the program's real user is another
        directory.chmod(0o755)
    (other / "etc/ld.so.preload").write_text("/probes/environment-preload\n")
    found = ask(Environment(), other, programs)
    red = {case: f.seen for case, f in found.items() if f.outcome is not Outcome.PASS}
    assert red == {"dynamic, tunable unset": "preload: its variable was heard"}
