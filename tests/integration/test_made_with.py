"""Programs made with headers and start files that are wrong in one way, on this machine's kernel."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.build import workshop
from pipeline.build.workplace import host_kernel_headers
from pipeline.check import PlaceCheck
from pipeline.check.made_with import KINDS, AsUser, CriticalSection, Linking, Profiled
from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.run import run
from pipeline.place.host import HostPlace
from pipeline.profile import load
from tests.integration import probe_bench as kit

pytestmark = pytest.mark.integration

PASS, FAIL, MISSING, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.MISSING, Outcome.ERROR
MACHINE = host_arch()


def compiled(into: Path, source: str, text: str | None = None, kinds: Sequence[str] = KINDS) -> Path:
    """The programs of one source (``text`` instead of it) in these ways of linking, and the runner."""
    listed = {p.name: p for p in workshop.programs()}
    into.mkdir(parents=True)
    kit.compile_one(MACHINE, paths.PROBES / "runner.c", into / "runner", *listed["runner"].flags)
    file = paths.PROBES / "devel" / f"{source}.c"
    if text is not None:
        file = into / f"{source}.c"
        file.write_text(text)
    for kind in kinds:
        flags = listed[f"{source}-{kind}"].flags
        kit.compile_one(MACHINE, file, into / f"{source}-{kind}-{kit.LIKE}", *flags)
    return into


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's C library with the libraries beside it."""
    made = kit.make_root(MACHINE, tmp_path_factory.mktemp("root"))
    libc = next(made.rglob("libc.so.6"))
    for name in ("libm.so.6", "libresolv.so.2"):
        shutil.copy2(run(["gcc", f"-print-file-name={name}"]).text.strip(), libc.parent / name)
    return made


def ask(check: PlaceCheck, root: Path, programs: Path) -> dict[str, Finding]:
    on = kit.host_bench(root, programs)
    batch = kit.observe(HostPlace(programs / "runner"), on, [check])
    found = check.judge(on, "host", batch)
    assert {(a.target, a.case) for a in found} == {(q.target, q.case) for q in check.questions(on, "host")}
    return {a.case: a for a in found if isinstance(a, Finding)}


def changed(source: str, old: str, new: str) -> str:
    text = (paths.PROBES / "devel" / f"{source}.c").read_text()
    assert old in text
    return text.replace(old, new)


@kit.AS_RELEASED
def test_right_headers_and_start_files(root: Path, tmp_path: Path) -> None:
    found = ask(CriticalSection(), root, compiled(tmp_path / "a", "section"))
    assert len(found) == 12
    assert {f.outcome for f in found.values()} == {PASS}, {f.seen for f in found.values()}
    found = ask(Linking(), root, compiled(tmp_path / "b", "link"))
    assert {case: f.outcome for case, f in found.items()} == dict.fromkeys(KINDS, PASS)


def test_a_profile_that_is_whole_and_one_that_lacks_a_call(root: Path, tmp_path: Path) -> None:
    found = ask(Profiled(), root, compiled(tmp_path / "a", "profiled"))
    assert {case: f.outcome for case, f in found.items()} == dict.fromkeys(KINDS, PASS), found
    (tmp_path / "writable.h").write_text((paths.PROBES / "writable.h").read_text())
    text = changed("profiled", "n < CALLS", "n + 1 < CALLS")
    found = ask(Profiled(), root, compiled(tmp_path / "b", "profiled", text, kinds=("pie",)))
    assert found["pie"].outcome is FAIL
    assert "calls is 1233, not 1234" in found["pie"].seen


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"i"(RSEQ_SIG)', '"i"(RSEQ_SIG ^ 1)', "signal 11"),
        ('"=m"(area->rseq_cs)', '"=m"(area->flags)', ""),  # struct rseq with rseq_cs elsewhere
        ("+ __rseq_offset);", "+ __rseq_offset + 64);", ""),
        ("int libc = __rseq_size > 0;", "int libc = 0;", "registering an area of one's own"),
    ],
)
def test_a_header_that_says_something_else(
    root: Path, tmp_path: Path, old: str, new: str, words: str
) -> None:
    programs = compiled(tmp_path / "a", "section", changed("section", old, new), ["pie", "static"])
    found = {
        c: f for c, f in ask(CriticalSection(), root, programs).items() if c.startswith(("pie", "static,"))
    }
    outcomes = {f.outcome for f in found.values()}
    assert FAIL in outcomes
    assert outcomes <= {FAIL, PASS}  # where glibc's own area does not matter it is no fault
    assert any(words in f.seen for f in found.values() if f.outcome is FAIL)
    on = [f for case, f in found.items() if case.endswith(("=1", "unset"))]
    assert {f.outcome for f in on} == {FAIL}


def test_start_files_that_forget_something(root: Path, tmp_path: Path) -> None:
    """What the program sees if constructors do not run, or a handler is not called."""
    no_start = changed("link", '.init_array"', '.init_arrax"')
    found = ask(Linking(), root, compiled(tmp_path / "a", "link", no_start, ["pie"]))
    assert found["pie"].outcome is FAIL
    assert "pmfe" in found["pie"].seen
    no_exit = changed("link", "atexit (at_the_end) != 0 ||", "")
    found = ask(Linking(), root, compiled(tmp_path / "b", "link", no_exit.replace("at_the_end (void)",
                "__attribute__ ((unused)) at_the_end (void)"), ["pie"]))  # fmt: skip
    assert found["pie"].outcome is FAIL
    assert "did not print" in found["pie"].seen


@kit.AS_RELEASED
def test_no_archive_to_link_with_is_missing(root: Path, tmp_path: Path) -> None:
    found = ask(Linking(), root, compiled(tmp_path / "a", "link", kinds=["pie", "no-pie"]))
    assert {case: f.outcome for case, f in found.items()} == {
        "pie": PASS, "no-pie": PASS, "static": MISSING, "static-pie": MISSING
    }  # fmt: skip
    assert "no libc.a" in found["static"].seen


@kit.AS_RELEASED
@pytest.mark.parametrize("wrong", ["libm.so.6", "directory", "loader", ""])
def test_what_only_root_may_read(root: Path, tmp_path: Path, wrong: str) -> None:
    """Started by root it is all right; an ordinary user is refused."""
    mine = tmp_path / "root"
    shutil.copytree(root, mine, symlinks=True)
    mine.chmod(0o755)
    library = next(mine.rglob("libm.so.6"))
    if wrong == "libm.so.6":
        library.chmod(0o700)
    elif wrong == "directory":
        library.parent.chmod(0o700)
    elif wrong == "loader":
        (mine / MACHINE.interp.lstrip("/")).chmod(0o700)
    programs = compiled(tmp_path / "a", "link", kinds=["pie", "no-pie"])
    kit.compile_one(MACHINE, paths.PROBES / "as_user.c", programs / "as-user", "-static")
    as_root = ask(Linking(), mine, programs)
    assert {as_root[k].outcome for k in ("pie", "no-pie")} == {PASS}
    found = ask(AsUser(), mine, programs)
    assert {f.outcome for f in found.values()} == {FAIL if wrong else PASS}, found["pie"].seen
    assert not wrong or "status 12" in found["pie"].seen  # refused by ld.so (127) or by the kernel (126)


# -- the header's types, in every dialect ---------------------------------------------------------------


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release's usr/include: the host's headers that <sys/rseq.h> needs."""
    include = tmp_path_factory.mktemp("release") / "usr" / "include"
    words = run(["gcc", "-M", paths.PROBES / "devel" / "header.c"]).text.split()
    own = re.compile(rf"^/usr/include/(?:{MACHINE.triplet}/)?(?!linux/|asm/|asm-generic/)(.*)$")
    for word in words:
        if found := own.match(word):
            (include / found[1]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(word, include / found[1])
    return include


def refused(include: Path, tmp_path: Path) -> set[str]:
    """The header programs that do not compile with this usr/include, by the workshop's own command lines."""
    kernel = host_kernel_headers(tmp_path, MACHINE)
    root = include.parent.parent
    cxx = run(["sh", "-c", "g++ -xc++ -E -v /dev/null 2>&1 | sed -n 's,^ \\(/.*c++.*\\)$,-isystem \\1,p'"])
    bad = set()
    for program in workshop.programs():
        if program.name.startswith("header-"):
            call = workshop.compile_call(MACHINE, program, str(root), str(kernel), "/dev/null")
            done = run(
                ["sh", "-c", f"cxxdirs='{cxx.text.replace(chr(10), ' ')}'; cd {paths.PROBES}; {call}"],
                success_codes=None,
            )
            bad |= {program.name} if done.returncode else set()
    return bad


ALL = {p.name for p in workshop.programs() if p.name.startswith("header-")}
ALONE = {"header-alone"}


@kit.AS_RELEASED
@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", set()),
        ("extern const ptrdiff_t __rseq_offset;", "extern const int __rseq_offset;", ALL),
        ("extern const ptrdiff_t __rseq_offset;", "extern ptrdiff_t __rseq_offset;", ALL),
        ("extern const unsigned int __rseq_size;", "extern const unsigned long __rseq_size;", ALL),
        ("extern const unsigned int __rseq_flags;", "extern const int __rseq_flags;", ALL),
        ("extern const unsigned int __rseq_flags;", "", ALL),
        ("    uint32_t cpu_id;", "    uint64_t cpu_id;", ALONE),  # glibc's own copy of the struct
        ("    uint32_t flags;\n  } __attribute__ ((__aligned__ (32)));",
         "    uint32_t flags;\n  } __attribute__ ((__aligned__ (64)));", ALONE),
        ("    RSEQ_CPU_ID_REGISTRATION_FAILED = -2,", "    RSEQ_CPU_ID_REGISTRATION_FAILED = -3,", ALONE),
        ("    uint64_t post_commit_offset;\n    uint64_t abort_ip;",
         "    uint64_t abort_ip;\n    uint64_t post_commit_offset;", ALONE),
    ],
)  # fmt: skip
def test_types_in_every_dialect(
    headers: Path, tmp_path: Path, old: str, new: str, expected: set[str]
) -> None:
    include = tmp_path / "usr" / "include"
    shutil.copytree(headers, include)
    file = include / "sys" / "rseq.h"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    assert refused(include, tmp_path) == expected


def test_another_signature_and_no_header_at_all(headers: Path, tmp_path: Path) -> None:
    include = tmp_path / "usr" / "include"
    shutil.copytree(headers, include)
    file = include / "bits" / "rseq.h"
    file.write_text(file.read_text() + "\n#undef RSEQ_SIG\n#define RSEQ_SIG 0x12345678\n")
    assert refused(include, tmp_path) == ALL
    (include / "sys" / "rseq.h").unlink()
    assert refused(include, tmp_path) == ALL


def test_the_programs_of_a_release_are_made_where_the_symbols_are() -> None:
    made = workshop.made_of(workshop.programs(), load("bookworm"), ["12.0", "12.1"])
    names = {one.name for one in made}
    assert "section-pie-12.1" in names
    assert "section-pie-12.0" not in names
    assert {"link-static-12.0", "link-static-12.1", "link-shared-12.0"} <= names
