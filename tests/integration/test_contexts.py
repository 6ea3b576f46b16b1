"""Threads and contexts for real: this machine's C library, and programs of which one thing is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.check.contexts import CHECKS, Looks, RseqContexts, RseqThreads
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, Outcome
from pipeline.place.host import HostPlace
from tests.integration import probe_bench as kit

pytestmark = pytest.mark.integration

PASS, FAIL = Outcome.PASS, Outcome.FAIL
NAMES = ("rseq-starts", "rseq-starts-tls", "rseq-starts-static", "rseq-contexts", "rseq-contexts-static",
         "rseq-library", "rseq-auditor", "rseq-copied", "runner", "look-tracer", "refuse-clone3")  # fmt: skip

#: The cases of `RseqThreads` in which the dynamic program runs with rseq on.
RED_WHEN_ON = {
    f"{kind}, {case}" for kind in ("dynamic", "clone3 refused") for case in ("tunable unset", "tunable=1")
}
#: Gives the calling thread's registration back.
GIVE_BACK = f"""
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>
static inline void give_back (void)
{{
  syscall ({kit.RSEQ_SYSCALL}, (char *) __builtin_thread_pointer () + __rseq_offset, 32, 1, RSEQ_SIG);
}}
"""
#: A pthread_create whose threads are not registered where WRONG says so.
CREATE = """
int __real_pthread_create (pthread_t *, const pthread_attr_t *, void *(*) (void *), void *);
static pthread_t seen[4096];
static int count;
struct begin { void *(*function) (void *); void *argument; int affinity, priority; };
static __attribute__ ((unused)) int before (void)
{
  for (int i = 0; i < count; i++)
    if (seen[i] == pthread_self ())
      return 1;
  return 0;
}
static void *begin (void *of)
{
  struct begin b = *(struct begin *) of;
  if (WRONG)
    give_back ();
  seen[__atomic_fetch_add (&count, 1, __ATOMIC_SEQ_CST)] = pthread_self ();
  return b.function (b.argument);
}
int __wrap_pthread_create (pthread_t *id, const pthread_attr_t *attr, void *(*f) (void *), void *argument)
{
  struct begin *b = malloc (sizeof *b);
  cpu_set_t set;
  int policy = PTHREAD_INHERIT_SCHED;
  b->function = f;
  b->argument = argument;
  CPU_ZERO (&set);
  if (attr)
    pthread_attr_getinheritsched (attr, &policy);
  b->affinity = attr && pthread_attr_getaffinity_np (attr, sizeof set, &set) == 0 && CPU_COUNT (&set) < 1024;
  b->priority = policy == PTHREAD_EXPLICIT_SCHED;
  return __real_pthread_create (id, attr, begin, b);
}
"""
FORK = """
pid_t __real_fork (void);
pid_t __wrap_fork (void)
{
  pid_t pid = __real_fork ();
  if (pid == 0)
    WHAT;
  return pid;
}
"""
CPU = """
#include <sched.h>
int sched_getcpu (void) { return 0; }
"""
NODE = """
#include <sched.h>
int getcpu (unsigned int *cpu, unsigned int *node)
{
  if (node)
    *node = 0;
  if (cpu)
    *cpu = 0;
  return 0;
}
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit.compile_all(host_arch(), tmp_path_factory.mktemp("probes"), only=NAMES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit.make_release_root(host_arch(), tmp_path_factory.mktemp("root"))


def ask(check: Looks, root: Path, programs: Path) -> Mapping[str, Finding]:
    on = kit.host_bench(root, programs)
    batch = kit.observe(HostPlace(programs / "runner"), on, [check])
    answers = check.judge(on, "host", batch)
    assert all(isinstance(a, Finding) for a in answers)
    return {a.case: a for a in answers if isinstance(a, Finding)}


def wrong(programs: Path, tmp_path: Path, name: str, extra: str, *flags: str) -> Path:
    source = tmp_path / "extra.c"
    source.write_text(extra)
    probe = kit.paths.PROBES / f"{name.replace('-', '_')}.c"
    made = kit.compile_one(host_arch(), source, tmp_path / "wrong", str(probe), *flags)
    return kit.replaced(programs, name, made, tmp_path / "programs")


@kit.AS_RELEASED
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.name)
def test_this_machines_glibc_is_green(check: Looks, root: Path, programs: Path) -> None:
    found = ask(check, root, programs)
    assert {case: (f.outcome, f.seen) for case, f in found.items() if f.outcome is not PASS} == {}
    assert len(found) == 3 * len(check.programs)


@kit.AS_RELEASED
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.name)
def test_a_flipped_default_is_red(check: Looks, root: Path, programs: Path) -> None:
    on = kit.host_bench(root, programs, kit.OPPOSITE)
    batch = kit.observe(HostPlace(programs / "runner"), on, [check])
    found = {a.case: a.outcome for a in check.judge(on, "host", batch) if isinstance(a, Finding)}
    assert {o for case, o in found.items() if "unset" in case} == {FAIL}
    assert {o for case, o in found.items() if "unset" not in case} == {PASS}


@kit.AS_RELEASED
@pytest.mark.parametrize(
    ("where", "contexts"),
    [
        ("before ()", ("joined", "several at once", "on an own stack")),
        ("b.affinity", ("with an affinity",)),
        ("b.priority", ("with a priority", "with both")),
    ],
    ids=["used descriptor", "affinity", "priority"],
)
def test_one_way_of_starting_that_does_not_register_is_red(
    root: Path, programs: Path, tmp_path: Path, where: str, contexts: tuple[str, ...]
) -> None:
    probes = wrong(
        programs, tmp_path, "rseq-starts", GIVE_BACK + CREATE.replace("WRONG", where),
        "-Wl,--wrap=pthread_create",
    )  # fmt: skip
    found = ask(RseqThreads(), root, probes)
    red = {case for case, f in found.items() if f.outcome is FAIL}
    assert red == RED_WHEN_ON
    seen = found["dynamic, tunable=1"].seen
    assert any(f"{context}: not registered with the kernel" in seen for context in contexts), seen


@kit.AS_RELEASED
def test_children_that_are_not_registered_are_red(root: Path, programs: Path, tmp_path: Path) -> None:
    probes = wrong(
        programs, tmp_path, "rseq-contexts", GIVE_BACK + FORK.replace("WHAT", "give_back ()"),
        "-Wl,--wrap=fork",
    )  # fmt: skip
    found = ask(RseqContexts(), root, probes)
    assert found["dynamic, tunable=1"].outcome is FAIL
    assert "child of fork: not registered with the kernel" in found["dynamic, tunable=1"].seen
    assert found["static, tunable=1"].outcome is PASS


AREA = "((volatile struct rseq *) ((char *) __builtin_thread_pointer () + __rseq_offset))"


@kit.AS_RELEASED
@pytest.mark.parametrize(
    ("change", "cases"),
    [
        (("flags", 1), ("tunable=0", "tunable=1")),
        (("cpu_id_start", 3), ("tunable=0",)),
    ],
    ids=["flags", "index"],
)
def test_wrong_words_of_the_area_in_children_alone_are_red(
    root: Path, programs: Path, tmp_path: Path, change: tuple[str, int], cases: tuple[str, ...]
) -> None:
    word, value = change
    extra = GIVE_BACK + FORK.replace("WHAT", f"{AREA}->{word} = {value}")
    found = ask(RseqContexts(), root, wrong(programs, tmp_path, "rseq-contexts", extra, "-Wl,--wrap=fork"))
    for case in cases:
        assert found[f"dynamic, {case}"].outcome is FAIL
        assert f"child of fork: the area's {word} is {value:#x}, not 0" in found[f"dynamic, {case}"].seen
        assert found[f"static, {case}"].outcome is PASS


def test_a_child_of_the_other_fork_that_is_not_registered_is_red(
    root: Path, programs: Path, tmp_path: Path
) -> None:
    extra = GIVE_BACK + FORK.replace("_fork", "__Fork").replace("WHAT", "give_back ()")
    probes = wrong(programs, tmp_path, "rseq-contexts", extra, "-Wl,--wrap=_Fork")
    found = ask(RseqContexts(), root, probes)["dynamic, tunable=1"]
    assert found.outcome is FAIL
    assert "child of _Fork: not registered with the kernel" in found.seen


def test_a_child_that_crashes_is_a_fail_that_says_where(root: Path, programs: Path, tmp_path: Path) -> None:
    probes = wrong(
        programs, tmp_path, "rseq-contexts", GIVE_BACK + FORK.replace("WHAT", "abort ()"), "-Wl,--wrap=fork"
    )
    found = ask(RseqContexts(), root, probes)["dynamic, tunable=0"]
    assert found.outcome is FAIL
    assert "child of fork ended with signal 6" in found.seen


#: A thread that never looks, and gives its registration back.
SILENT = (
    GIVE_BACK
    + """
#include <pthread.h>
static void *silent (void *unused)
{
  give_back ();
  return unused;
}
static void __attribute__ ((constructor)) begin (void)
{
  pthread_t id;
  if (pthread_create (&id, NULL, silent, NULL) == 0)
    pthread_join (id, NULL);
}
"""
)


@kit.AS_RELEASED
def test_a_thread_that_never_looks_is_asked_about_when_it_ends(
    root: Path, programs: Path, tmp_path: Path
) -> None:
    found = ask(RseqThreads(), root, wrong(programs, tmp_path, "rseq-starts", SILENT))
    red = {case: f.seen for case, f in found.items() if f.outcome is FAIL}
    assert red.keys() == RED_WHEN_ON
    assert all("1 of 66 threads ended without registration" in seen for seen in red.values()), red


def test_a_library_unloaded_without_registration_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    """Destructors run in the reverse of the order in which they are linked."""
    probes = tmp_path / "programs"
    shutil.copytree(programs, probes)
    extra = tmp_path / "extra.c"
    extra.write_text(GIVE_BACK + "static void __attribute__ ((destructor)) end (void) { give_back (); }\n")
    (probes / "rseq-library").unlink()
    source = kit.paths.PROBES / "rseq_library.c"
    kit.compile_one(host_arch(), source, probes / "rseq-library", str(extra), "-shared", "-fPIC")
    found = ask(RseqContexts(), root, probes)["dynamic, tunable=1"]
    assert found.outcome is FAIL
    assert "destructor of a library: not registered with the kernel" in found.seen


@pytest.mark.parametrize(
    ("extra", "said"),
    [(CPU, "sched_getcpu was wrong on"), (NODE, "getcpu was wrong on")],
    ids=["cpu", "node"],
)
def test_a_wrong_number_is_red(root: Path, programs: Path, tmp_path: Path, extra: str, said: str) -> None:
    probes = wrong(programs, tmp_path, "rseq-starts", "#define _GNU_SOURCE\n" + extra)
    found = ask(RseqThreads(), root, probes)["dynamic, tunable=0"]
    assert found.outcome is FAIL
    assert said in found.seen


def test_a_library_that_never_looks_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    probes = tmp_path / "programs"
    shutil.copytree(programs, probes)
    source = tmp_path / "silent.c"
    source.write_text(
        "void look_from_library (const char *); void look_from_library (const char *c) { (void) c; }\n"
    )
    (probes / "rseq-library").unlink()
    kit.compile_one(host_arch(), source, probes / "rseq-library", "-shared", "-fPIC")
    found = ask(RseqContexts(), root, probes)["dynamic, tunable=1"]
    assert found.outcome is FAIL
    assert "a library loaded by dlmopen" in found.seen


OFFSET = "#include <stddef.h>\nextern const ptrdiff_t __rseq_offset;\nconst ptrdiff_t __rseq_offset = 64;\n"


def test_an_offset_that_is_not_where_the_kernel_writes_is_red(
    root: Path, programs: Path, tmp_path: Path
) -> None:
    probes = wrong(programs, tmp_path, "rseq-starts", OFFSET, "-rdynamic")
    found = ask(RseqThreads(), root, probes)
    assert found["dynamic, tunable=1"].outcome is FAIL
    assert "__rseq_offset +64" in found["dynamic, tunable=1"].seen
    assert found["static, tunable=1"].outcome is PASS


def test_a_program_without_its_copies_is_red(root: Path, programs: Path, tmp_path: Path) -> None:
    """A position-independent program has none; and copies that differ from the loader's are none."""
    probes = wrong(programs, tmp_path, "rseq-copied", "", "-fPIC", "-pie", "-DCOPIED")
    found = ask(RseqContexts(), root, probes)["non-PIE, tunable=1"]
    assert found.outcome is FAIL
    assert "not copied into the program" in found.seen


def test_copies_that_are_not_what_the_loader_has_are_red(root: Path, programs: Path, tmp_path: Path) -> None:
    probes = wrong(programs, tmp_path, "rseq-copied", OFFSET, "-fno-pie", "-no-pie", "-DCOPIED", "-rdynamic")
    found = ask(RseqContexts(), root, probes)["non-PIE, tunable=1"]
    assert found.outcome is FAIL
    assert "the copy of __rseq_offset is not what ld.so has" in found.seen
