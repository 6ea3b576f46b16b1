"""Headers and link-time files that are wrong in one way each, described by a real compiler."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from pipeline.build import described, headers
from pipeline.build.workplace import Workplace
from pipeline.check import Material
from pipeline.check.devel import Committed, DevelDelta, Dialects, devel_path, rendered
from pipeline.core import ar, paths
from pipeline.core.arch import host_arch
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.records import SourceRecord
from pipeline.core.run import run
from pipeline.elf.types import types
from pipeline.rpm import inventory
from tests.check import probe_kit

PASS, FAIL, MISSING, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.MISSING, Outcome.ERROR
MACHINE = host_arch()
REPOSITORY = paths.BASELINES
PTHREAD = """#include <bits/lock.h>
typedef union { struct lock data; char size[16]; long align; } pthread_mutex_t;
#define PTHREAD_MUTEX_INITIALIZER { { 0, 0, LOCK_INITIALIZER } }
#define PTHREAD_ONCE_INIT 0
#define PTHREAD_KIND 3
"""
LOCK = """#ifndef LOCK
#define LOCK
#define LOCK_INITIALIZER 7
struct lock { int kind; unsigned int spins : 3, more : 5; void *owner; };
enum kinds { NORMAL, RECURSIVE = 4 };
typedef int (*callback) (const char *, struct lock [2]);
#endif
"""
RSEQ = "struct rseq_area { int cpu; };\n#define RSEQ_SIG 1\n"
SCRIPT = "/* GNU ld script */\nGROUP ( /lib64/libc.so.6 /usr/lib64/libc_nonshared.a )\n"
LARGE = "char filler[70000] = {1}; int one (void) { return 1; } int two (void) { return 2; } "
NONSHARED = (
    'extern int at (int); __attribute__ ((visibility ("hidden"))) int atexit (void) { return at (1); }'
)


def object_of(directory: Path, source: str, name: str = "x.o") -> Path:
    (directory / "x.c").write_text(source)
    run(["gcc", "-O1", "-c", "x.c", "-o", name], cwd=directory)
    return directory / name


def release(root: Path, *, rseq: bool = False) -> Path:
    """A release's root with two headers, a linker script, a start file and an archive."""
    include, lib = root / "usr" / "include", root / "usr" / "lib64"
    for directory in (include / "bits", include / "sys", lib):
        directory.mkdir(parents=True)
    (include / "stdio.h").write_text("struct file { long at; };\n")
    (include / "pthread.h").write_text(PTHREAD)
    (include / "bits" / "lock.h").write_text(LOCK)
    if rseq:
        (include / "sys" / "rseq.h").write_text(RSEQ)
    (lib / "libc.so").write_text(SCRIPT)
    object_of(lib, "extern int main (void); int _start (void) { return main (); }", "crt1.o")
    object_of(lib, NONSHARED, "atexit_with_a_long_name.oS")
    run(["ar", "rc", "libc_nonshared.a", "atexit_with_a_long_name.oS"], cwd=lib)
    (lib / "atexit_with_a_long_name.oS").unlink()
    archive(lib, f"{LARGE}{'int __rseq_size, _dl_rseq_size;' if rseq else ''}")
    (lib / "x.c").unlink()
    return root


def archive(lib: Path, source: str) -> None:
    """libc.a, as large as one that holds the library itself."""
    (lib / "libc.a").unlink(missing_ok=True)
    object_of(lib, source, "all.o")
    run(["ar", "rc", "libc.a", "all.o"], cwd=lib)
    (lib / "all.o").unlink()
    assert (lib / "libc.a").stat().st_size > headers.SMALL


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(paths, "BASELINES", tmp_path / "repository" / "abi-baselines")
    monkeypatch.setattr(Workplace, "identity", lambda *_: {"host": "tools"})


def material(tmp_path: Path, roots: dict[str, Path]) -> Material:
    """A bench of these releases, their headers described."""
    programs = tmp_path / "entry" / "probes"
    shutil.rmtree(programs.parent, ignore_errors=True)
    (programs.parent / described.KIND).mkdir(parents=True)
    for name, root in roots.items():
        made = described.describe(MACHINE, Workplace(None, "native"), root)
        (programs.parent / described.KIND / name).symlink_to(made)
    on = probe_kit.material(roots, machine=MACHINE.name, programs=programs)
    native = {
        n: b.model_copy(update={"manifest": b.manifest.model_copy(update={"mode": "native"})})
        for n, b in on.built.items()
    }
    return Material(profile=on.profile, arch=on.arch, built=native, programs=programs)


def edit(root: Path, file: str, old: str, new: str) -> None:
    path = root / "usr" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


#: file below /usr, what is replaced in it, by what, and what the difference names
WRONG = [
    ("include/bits/lock.h", "void *owner;", "void *owner; int extra;", "bits/lock.h: struct lock"),
    ("include/bits/lock.h", "int kind;", "unsigned int kind;", "bits/lock.h: struct lock"),
    ("include/bits/lock.h", "spins : 3, more : 5", "spins : 5, more : 3", "bits/lock.h: struct lock"),
    ("include/bits/lock.h", "RECURSIVE = 4", "RECURSIVE = 5", "bits/lock.h: enum kinds"),
    ("include/bits/lock.h", "const char *", "char *", "bits/lock.h: typedef callback"),
    ("include/bits/lock.h", "INITIALIZER 7", "INITIALIZER 8", "bits/lock.h: macro LOCK_INITIALIZER"),
    ("include/pthread.h", "size[16]", "size[24]", "pthread.h: typedef pthread_mutex_t"),
    ("include/pthread.h", "{ { 0, 0, LOCK", "{ { 1, 0, LOCK", "pthread.h: macro PTHREAD_MUTEX_INITIALIZER"),
    ("include/pthread.h", "ONCE_INIT 0", "ONCE_INIT 1", "pthread.h: macro PTHREAD_ONCE_INIT"),
    ("include/stdio.h", "struct file { long at; };", "#error broken", "stdio.h"),
    ("lib64/libc.so", "/usr/lib64/libc_nonshared.a", "", "usr/lib64/libc.so"),
    ("lib64/libc.so", "/lib64/libc.so.6", "/lib64/libc.so.7", "usr/lib64/libc.so"),
]  # fmt: skip


def committed(on: Material, release: str = "12.0") -> Finding:
    return next(f for f in Committed().run(on) if f.target.release == release)


def commit(on: Material, release: str = "12.0") -> Path:
    file = devel_path(on.target(release))
    file.parent.mkdir(parents=True, exist_ok=True)
    directory = on.programs.parent / described.KIND / release
    file.write_text(rendered(described.committed(directory), "glibc-2.36-1"))
    return file


def test_as_committed_and_without_it(tmp_path: Path) -> None:
    on = material(tmp_path, {"12.0": release(tmp_path / "a")})
    assert committed(on).outcome is MISSING
    file = commit(on)
    assert committed(on).outcome is PASS
    assert committed(on).evidence == (f"abi-baselines/bookworm/12.0/{MACHINE.name}.devel",)
    lines = file.read_text().splitlines()
    assert "pthread.h: macro PTHREAD_MUTEX_INITIALIZER: { { 0, 0, LOCK_INITIALIZER } }" in lines
    assert "usr/lib64/libc.so: script GROUP ( /lib64/libc.so.6 /usr/lib64/libc_nonshared.a )" in lines
    assert "usr/lib64/libc_nonshared.a(atexit_with_a_long_name.oS): defines atexit (func hidden)" in lines
    assert "usr/lib64/crt1.o: defines _start (func)" in lines
    file.write_text(file.read_text() + "a: line\n")
    assert committed(on).outcome is ERROR


@pytest.mark.parametrize(("file", "old", "new", "words"), WRONG)
def test_a_change_is_named_both_ways(tmp_path: Path, file: str, old: str, new: str, words: str) -> None:
    good, bad = release(tmp_path / "a"), release(tmp_path / "b", rseq=True)
    commit(material(tmp_path, {"12.0": good}))
    on = material(tmp_path, {"12.0": good, "12.1": bad})
    (step,) = DevelDelta().run(on)
    assert step.outcome is PASS, step.seen
    edit(bad, file, old, new)
    (step,) = DevelDelta().run(material(tmp_path, {"12.0": good, "12.1": bad}))
    assert step.outcome is FAIL
    assert words in step.seen
    edit(good, file, old, new)
    finding = committed(material(tmp_path, {"12.0": good}))
    assert finding.outcome is FAIL
    assert words in finding.seen


def test_a_start_file_or_an_archive_that_is_another(tmp_path: Path) -> None:
    good, bad = release(tmp_path / "a"), release(tmp_path / "b", rseq=True)
    object_of(bad / "usr" / "lib64", "int _start (void) { return 0; } int more;", "crt1.o")
    (step,) = DevelDelta().run(material(tmp_path, {"12.0": good, "12.1": bad}))
    assert "usr/lib64/crt1.o: defines _start (func), more (object); needs nothing" in step.seen
    (bad / "usr" / "lib64" / "libc_nonshared.a").write_bytes(ar.MAGIC)
    (step,) = DevelDelta().run(material(tmp_path, {"12.0": good, "12.1": bad}))
    assert "- usr/lib64/libc_nonshared.a(atexit_with_a_long_name.oS)" in step.seen


#: what libc.a has in a later release beyond the earlier one's, and what is said of it
ARCHIVES = [
    (LARGE + "int __rseq_size, _dl_rseq_size;", ""),
    (
        LARGE.replace("int two", "int too"),
        "+ usr/lib64/libc.a: too: defined func\n- usr/lib64/libc.a: two: defined func",
    ),
    (LARGE.replace("int two", "static int __attribute__ ((used)) two"), "- usr/lib64/libc.a: two: defined"),
    (LARGE + "int more;", "+ usr/lib64/libc.a: more: defined"),
    (LARGE + "int rseq_more;", "+ usr/lib64/libc.a: rseq_more: defined"),
    (LARGE + "int _more;", "+ usr/lib64/libc.a: _more: defined"),
    ("", "- usr/lib64/libc.a: archive"),
]


@pytest.mark.parametrize(("source", "words"), ARCHIVES)
def test_what_libc_a_defines(tmp_path: Path, source: str, words: str) -> None:
    good, bad = release(tmp_path / "a"), release(tmp_path / "b", rseq=True)
    commit(material(tmp_path, {"12.0": good}))
    lib = bad / "usr" / "lib64"
    if source:
        archive(lib, source)
    else:
        (lib / "libc.a").unlink()
    (step,) = DevelDelta().run(material(tmp_path, {"12.0": good, "12.1": bad}))
    assert step.outcome is (FAIL if words else PASS), step.seen
    assert words in step.seen
    assert step.seen.count("defined") <= 2, "a whole archive is one line"
    shutil.copy2(good / "usr" / "lib64" / "libc.a", tmp_path / "good.a")
    if source:
        shutil.copy2(lib / "libc.a", good / "usr" / "lib64")
    else:
        (good / "usr" / "lib64" / "libc.a").unlink()
    said = committed(material(tmp_path, {"12.0": good}))
    assert said.outcome is FAIL
    assert "- usr/lib64/libc.a: 3 symbols " in said.seen


def test_a_name_of_libc_a_that_becomes_weak(tmp_path: Path) -> None:
    good, bad = release(tmp_path / "a"), release(tmp_path / "b", rseq=True)
    source = LARGE.replace("int two", "__attribute__ ((weak)) int two")
    archive(bad / "usr" / "lib64", f"{source} int __rseq_size;")
    (step,) = DevelDelta().run(material(tmp_path, {"12.0": good, "12.1": bad}))
    assert step.outcome is FAIL
    assert "- usr/lib64/libc.a: two: defined func\n+ usr/lib64/libc.a: two: defined func weak" in step.seen


SERIES = [
    ("usr/include/stdio.h", "long at", "short at", "struct file"),
    ("usr/include/bits/lock.h", "INITIALIZER 7", "INITIALIZER 8", "LOCK_INITIALIZER"),
    ("usr/include/bits/lock.h", "RECURSIVE = 4", "RECURSIVE = 5", "enum kinds"),
    ("usr/lib64/libc.so", "/lib64/libc.so.6 ", "", "libc.so"),
    ("usr/include/pthread.h", "PTHREAD_KIND 3", "PTHREAD_KIND 4", ""),
    ("usr/include/stdio.h", "struct file", "#define NEW 1\nstruct extra { int new; };\nstruct file", ""),
]


@pytest.mark.parametrize(("file", "old", "new", "words"), SERIES)
def test_a_dist_gits_series_brings_more_and_keeps_what_there_was(
    tmp_path: Path, file: str, old: str, new: str, words: str
) -> None:
    good, bad = release(tmp_path / "a"), release(tmp_path / "b", rseq=True)
    text = (bad / file).read_text()
    assert old in text
    (bad / file).write_text(text.replace(old, new))
    archive(bad / "usr" / "lib64", LARGE + "int more;")
    of = material(tmp_path, {"12.0": good, "12.1": bad})
    source = SourceRecord(kind="distgit", origin="distgit:elsewhere", sha256="0" * 64, pinned=False)
    manifest = of.built["12.1"].manifest.model_copy(update={"source": source})
    theirs = of.built["12.1"].model_copy(update={"manifest": manifest})
    (step,) = DevelDelta().run(replace(of, built={**of.built, "12.1": theirs}))
    assert step.outcome is (FAIL if words else PASS), step.seen
    assert words in step.seen
    assert step.measures["new"] > 0


def test_the_index_of_an_archive(tmp_path: Path) -> None:
    (tmp_path / "usr" / "lib64").mkdir(parents=True)
    archive(tmp_path / "usr" / "lib64", LARGE)
    data = (tmp_path / "usr" / "lib64" / "libc.a").read_bytes()
    assert ar.index(io.BytesIO(data), "a") == {"filler", "one", "two"}
    for wrong in (
        data[:68] + b"\0\0\x40\0" + data[72:],  # more entries than there is room for
        data[:8] + b"/SYM64/".ljust(16) + data[24:68] + b"\xff" * 8 + data[76:],  # and than can be counted
        data[:72] + b"\0\0\0\4" + data[76:],  # an offset at which no member begins
    ):
        with pytest.raises(MalformedInput, match="index"):
            ar.index(io.BytesIO(wrong), "a")
    bare = ar.MAGIC + data[68 + int(data[56:66]) :]
    assert ar.index(io.BytesIO(bare), "a") == frozenset()
    assert ar.index(io.BytesIO(ar.MAGIC), "a") == frozenset()


def test_the_rseq_header_comes_with_the_symbols_and_only_then(tmp_path: Path) -> None:
    roots = {n: release(tmp_path / n, rseq=n != "12.0") for n in ("12.0", "12.0.z", "12.1")}
    found = {f.target.release: f for f in DevelDelta().run(material(tmp_path, roots))}
    assert {f.outcome for f in found.values()} == {PASS}
    assert "sys/rseq.h: macro RSEQ_SIG" in found["12.0 -> 12.1"].seen
    shutil.rmtree(roots["12.1"] / "usr" / "include" / "sys")
    found = {f.target.release: f for f in DevelDelta().run(material(tmp_path, roots))}
    assert found["12.0 -> 12.1"].outcome is FAIL
    assert "did not come with the symbols" in found["12.0 -> 12.1"].seen
    assert found["12.0.z -> 12.1"].outcome is FAIL
    shutil.copytree(roots["12.0.z"] / "usr" / "include" / "sys", roots["12.1"] / "usr" / "include" / "sys")
    edit(roots["12.1"], "include/sys/rseq.h", "int cpu", "long cpu")
    found = {f.target.release: f for f in DevelDelta().run(material(tmp_path, roots))}
    assert found["12.0.z -> 12.1"].outcome is FAIL


def test_headers_that_do_not_compile_are_the_packages_fault(tmp_path: Path) -> None:
    root = release(tmp_path / "a")
    for header in ("stdio.h", "pthread.h"):
        (root / "usr" / "include" / header).write_text("#error no\n")
    on = material(tmp_path, {"12.0": root})
    commit_file = devel_path(on.target("12.0"))
    commit_file.parent.mkdir(parents=True)
    commit_file.write_text(rendered([], "x"))
    assert committed(on).outcome is FAIL
    shutil.rmtree(root / "usr" / "include")
    finding = committed(material(tmp_path, {"12.0": root}))
    assert finding.outcome is FAIL
    assert "glibc-devel" in finding.seen


def test_another_makers_headers_are_asked_about_only_with_facts_of_theirs(tmp_path: Path) -> None:
    on = material(tmp_path, {"12.0": release(tmp_path / "a")})
    theirs = on.built["12.0"].model_copy(
        update={"manifest": on.built["12.0"].manifest.model_copy(update={"mode": "supplied"})}
    )
    asked = Material(profile=on.profile, arch=on.arch, built={"12.0": theirs}, programs=on.programs)
    assert Committed().questions(asked) == []
    file = commit(on)
    file.rename(devel_path(on.target("12.0"), foreign=True))
    assert committed(asked).outcome is PASS


@pytest.mark.parametrize(
    ("text", "dialects"),
    [
        ("int f (int new);", ["C++98", "C++11", "C++17", "C++20"]),
        ("inline int f (void);", ["C90"]),
        ("#if __STDC_VERSION__ > 201710L\n#error too new\n#endif", ["C2x"]),
        ("#ifdef _FORTIFY_SOURCE\nunknown_t f (void);\n#endif", ["fortified"]),
        ("#ifdef _TIME_BITS\nunknown_t f (void);\n#endif", ["large files and times"]),
        ("#ifndef _GNU_SOURCE\n#error not alone\n#endif", ["C90", "GNU C90", "C99", "C2x", "POSIX"]),
    ],
)
def test_a_header_that_compiles_as_gnu_c_alone(tmp_path: Path, text: str, dialects: list[str]) -> None:
    good, bad = release(tmp_path / "a"), release(tmp_path / "b")
    with (bad / "usr" / "include" / "stdio.h").open("a") as header:
        header.write(f"{text}\n")
    one, two = Dialects().run(material(tmp_path, {"12.0": good, "12.1": bad}))
    assert (one.outcome, one.measures) == (PASS, {"dialects": len(described.DIALECTS)}), one.seen
    assert two.outcome is FAIL
    lines = two.seen.splitlines()
    assert [line for line in dialects if not any(x.startswith(f"{line}: ") for x in lines)] == [], two.seen
    assert all("stdio.h:" in line for line in lines)


def test_what_was_not_described_is_missing(tmp_path: Path) -> None:
    on = material(tmp_path, {"12.0": release(tmp_path / "a")})
    commit(on)
    shutil.rmtree(on.programs.parent)
    assert committed(on).outcome is MISSING


def test_an_object_with_unknown_kinds_of_symbols(tmp_path: Path) -> None:
    """Bindings and types without a name are told by their number."""
    data = bytearray(object_of(tmp_path, "int one (void) { return 1; }").read_bytes())
    table = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    at = next(n for n, s in enumerate(table.iter_symbols()) if s.name == "one")
    data[table["sh_offset"] + at * table["sh_entsize"] + 4] = 0x7B
    assert headers.symbols(bytes(data), "x.o") == "defines one (11 7); needs nothing"
    data[0x28:0x30] = b"\xff" * 8  # where the section headers are
    with pytest.raises(MalformedInput, match=r"x\.o"):
        headers.symbols(bytes(data), "x.o")


def test_an_object_without_debug_information_and_a_broken_archive(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="no debug information"):
        types(object_of(tmp_path, "int x;"), "/usr/include")
    with pytest.raises(MalformedInput, match="no ar archive"):
        list(headers.members(ar.MAGIC + b"x" * 61, "a.a"))
    with pytest.raises(MalformedInput, match=r"x\.o"):
        headers.symbols(b"\x7fELF and no more", "x.o")


def test_macros_are_those_at_the_end() -> None:
    text = (
        '# 1 "/r/a.h"\n#define A 1\n#define B(x)  x +\tx\n# 1 "/other/b.h"\n#define C 1\n'
        '# 2 "/r/a.h" 2\n#undef A\n#define D\n'
    )
    assert headers.macros(text, "/r/") == {"a.h: B": "(x) x + x", "a.h: D": ""}


@pytest.mark.parametrize(
    "file",
    sorted(
        f.relative_to(paths.BASELINES).as_posix()
        for kind in ("packages", "devel")
        for f in paths.BASELINES.glob(f"bookworm/*/*.{kind}")
    ),
)
def test_what_is_committed_is_whole(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    text = (paths.BASELINES / file).read_text()
    release = file.split("/")[1]
    if file.endswith(".packages"):
        packages = inventory.parse(text, file).packages
        assert any("sys/rseq.h" in f for f in packages["glibc-devel"]) is (release != "12.0")
        assert set(packages) >= {"glibc", "glibc-common", "glibc-devel", "glibc-static", "glibc-utils"}
        assert inventory.outside(packages) == {"kernel-headers", "/usr/bin/perl"}
    else:
        assert len(text.splitlines()) > 800


def test_something_is_committed() -> None:
    """An inventory that is gone asks no question: this notices."""
    for name in ("12.0/x86_64", "12.0/aarch64", "12.0.z/aarch64"):
        for kind in ("packages", "devel"):
            assert (REPOSITORY / f"bookworm/{name}.{kind}").is_file()
