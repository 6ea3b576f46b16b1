"""What the loader does and a reader of symbol tables misses: each on a real file, wrong in that one way."""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from pipeline import elf
from pipeline.abi.listing import PRIVATE
from pipeline.core.run import run
from pipeline.elf import versions
from pipeline.elf.image import DT_STRSZ, DT_STRTAB, DT_VERNEED, PT_GNU_STACK, PT_LOAD
from pipeline.scan.facts import facts_of
from pipeline.scan.judge import Answer, Judgement, Setting, judge
from pipeline.scan.loading import SYSTEM
from pipeline.scan.release import Release
from tests import elf_edit as edits
from tests.elf_fixtures import Dso
from tests.scan import kit
from tests.scan.kit import ARCH, MIDDLE, NEW, OLD
from tests.scan.test_judge import answers, scanned, the_one, words

STARTS, FAILS, UNKNOWN = Answer.STARTS, Answer.FAILS, Answer.UNKNOWN
FOO, NEWER_FOO, SHARED = kit.FOO, kit.NEWER_FOO, kit.SHARED_FOO


def patchelf(file: Path, *options: str) -> None:
    run([kit.PATCHELF, *options, file])


def by_name(top: Path, release: str = OLD) -> dict[str, Judgement]:
    """The answers for the files of a tree or an archive, by their names in it."""
    return {
        f.item.member or str(Path(f.item.file).relative_to(top)): f.judgements[release]
        for f in scanned(top).files
    }


# -- (a) a library comes along only if the loader finds it ----------------------------------------------


def laid_out(top: Path, parts: tuple[Path, Path], program: str, library: str, *options: str) -> Path:
    for part, name in zip(parts, (program, library), strict=True):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(part, top / name)
    if options:
        patchelf(top / program, *options)
    return top


ORIGIN = ("--set-rpath", "$ORIGIN/../lib")


@pytest.mark.parametrize(
    "options", [ORIGIN, ("--force-rpath", *ORIGIN), ("--set-rpath", "/none:${ORIGIN}/../lib")]
)
def test_a_library_on_the_search_path_comes_along(
    tmp_path: Path, parts: tuple[Path, Path], options: tuple[str, ...]
) -> None:
    found = by_name(laid_out(tmp_path / "top", parts, "bin/user", "lib/libfoo.so.1", *options))
    assert found["bin/user"].answer is FAILS
    assert found["bin/user"].reason.endswith("lib/libfoo.so.1 fails")
    assert found["bin/user"].elsewhere == ()


@pytest.mark.parametrize("options", [(), ("--set-rpath", "$ORIGIN"), ("--set-rpath", "/opt/lib")])
def test_a_library_that_the_loader_does_not_find_is_the_systems(
    tmp_path: Path, parts: tuple[Path, Path], options: tuple[str, ...]
) -> None:
    found = by_name(laid_out(tmp_path / "top", parts, "bin/user", "lib/libfoo.so.1", *options))
    assert (found["bin/user"].answer, found["bin/user"].elsewhere) == (STARTS, ("libfoo.so.1",))
    assert found["lib/libfoo.so.1"].answer is FAILS


def test_anothers_wheel_in_the_same_directory_does_not_come_along(
    tmp_path: Path, parts: tuple[Path, Path]
) -> None:
    user, library = parts
    dist = tmp_path / "dist"
    dist.mkdir()
    patchelf(user, "--set-rpath", "$ORIGIN/../other.libs")
    for name, files in (
        ("mine-1-py3-none-any.whl", {"mine/user": user}),
        ("other-1-py3-none-any.whl", {"other/user": user, "other.libs/libfoo.so.1": library}),
    ):
        with zipfile.ZipFile(dist / name, "w") as wheel:
            for inside, file in files.items():
                wheel.write(file, inside)
    found = by_name(dist)
    assert found["mine/user"].answer is STARTS
    assert found["other/user"].answer is FAILS


def test_a_wheels_data_directories_are_where_they_are_installed(
    tmp_path: Path, parts: tuple[Path, Path]
) -> None:
    user, library = parts
    patchelf(user, "--set-rpath", "$ORIGIN/../other.libs")
    file = tmp_path / "other-1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.write(user, "other-1.data/purelib/other/user")
        wheel.write(library, "other.libs/libfoo.so.1")
    assert by_name(file)["other-1.data/purelib/other/user"].answer is FAILS


def test_the_search_path_of_who_loads_counts_only_as_rpath(tmp_path: Path) -> None:
    """DT_RPATH is searched for what a library needs too, DT_RUNPATH for the file's own needs only."""
    top = tmp_path / "top"
    library = kit.program(top / "lib", "libfoo.so.1", NEWER_FOO, *SHARED)
    middle = kit.program(top / "lib", "libbar.so.1", "int foo (void);\nint bar (void) { return foo (); }\n",
                         "-shared", "-fPIC", "-Wl,-soname,libbar.so.1", str(library))  # fmt: skip
    user = kit.program(top / "bin", "user", FOO.replace("foo", "bar"), str(middle),
                       "-Wl,--allow-shlib-undefined", "-Wl,--disable-new-dtags",
                       "-Wl,-rpath,$ORIGIN/../lib")  # fmt: skip
    assert by_name(top)["bin/user"].answer is FAILS
    patchelf(user, "--set-rpath", "$ORIGIN/../lib")
    found = by_name(top)
    assert (found["bin/user"].answer, found["bin/user"].elsewhere) == (STARTS, ("libfoo.so.1",))


@pytest.mark.parametrize("link", [True, False])
def test_a_link_leads_to_the_library(tmp_path: Path, parts: tuple[Path, Path], link: bool) -> None:
    top = laid_out(tmp_path / "top", parts, "bin/user", "lib/libfoo.so.1.2", *ORIGIN)
    if link:
        (top / "lib/libfoo.so.1").symlink_to("libfoo.so.1.2")
    expected = (FAILS, ()) if link else (STARTS, ("libfoo.so.1",))
    run(["tar", "-C", top, "-cf", tmp_path / "x.tar", "."])
    for where, name in ((top, "bin/user"), (tmp_path / "x.tar", "./bin/user")):
        found = by_name(where)[name]
        assert (found.answer, found.elsewhere) == expected


def test_default_directories_of_a_root_and_of_nothing_else(tmp_path: Path, parts: tuple[Path, Path]) -> None:
    for name, expected in (("usr/lib64", FAILS), ("lib64", STARTS)):
        top = laid_out(tmp_path / name.replace("/", "-"), parts, "bin/user", f"{name}/libfoo.so.1")
        assert by_name(top)["bin/user"].answer is expected


def test_what_a_library_from_the_tree_does_not_have(tmp_path: Path, parts: tuple[Path, Path]) -> None:
    """Another version of the library: the symbol is gone, and with it the program's start."""
    other = kit.program(tmp_path / "other", "libfoo.so.1", "int bar (void) { return 0; }\n", *SHARED)
    top = laid_out(tmp_path / "top", (parts[0], other), "bin/user", "lib/libfoo.so.1", *ORIGIN)
    found = by_name(top, NEW)
    assert (found["bin/user"].answer, words(found["bin/user"])) == (FAILS, ["foo"])


def test_a_library_finds_in_its_program_what_it_does_not_bring(tmp_path: Path) -> None:
    calls_back = "int cb (void);\nint foo (void) { return cb (); }\n"
    library = kit.program(tmp_path / "top", "libfoo.so.1", calls_back, *SHARED)
    for exported, expected in (("-rdynamic", STARTS), ("-Wl,--allow-shlib-undefined", FAILS)):
        source = FOO + ("int cb (void) { return 0; }\n" if expected is STARTS else "")
        kit.program(tmp_path / "top", "user", source, str(library), exported, "-Wl,-rpath,$ORIGIN")
        assert by_name(tmp_path / "top", NEW)["user"].answer is expected


# -- (b) packed relative relocations --------------------------------------------------------------------


def test_relr_without_its_requirement(tmp_path: Path) -> None:
    """Tools lose the node; ld.so refuses the file, and an older one leaves its relocations out."""
    file = kit.program(tmp_path, "relr", kit.PLAIN, "-pie", "-Wl,-z,pack-relative-relocs")
    assert answers(file) == [STARTS] * 3
    edits.edit(file, renamed_requirement("GLIBC_ABI_DT_RELR", kit.BASE_NODE))
    assert answers(file) == [FAILS] * 3
    assert "without the requirement of GLIBC_ABI_DT_RELR" in words(the_one(file))[0]
    kit.put(OLD, kit.without(kit.host_listings(), "libc.so.6", node="GLIBC_ABI_DT_RELR"))
    assert "which that loader leaves out" in words(the_one(file))[0]


def renamed_requirement(node: str, other: str) -> edits.Edit:
    """The requirement of a node becomes one of another node, with the right hash."""

    def change(data: bytearray, binary: elf.Elf) -> None:
        at = edits._requirement_at(binary, node)
        name = binary.strings.index(other.encode() + b"\0")
        struct.pack_into("<I", data, at, elf.lookup.elf_hash(other.encode()))
        struct.pack_into("<I", data, at + 8, name)

    return change


# -- (c) (f) requirements -------------------------------------------------------------------------------

MATHS = "#include <math.h>\nint main (int n, char **v) { (void) v; return sin (n) > 0.5; }\n"


def test_a_requirement_whose_library_is_no_longer_needed(tmp_path: Path) -> None:
    file = kit.program(tmp_path, "maths", MATHS, "-lm")
    assert answers(file) == [STARTS] * 3
    patchelf(file, "--remove-needed", "libm.so.6")
    assert answers(file) == [FAILS] * 3
    assert "requires versions of libm.so.6, which is not needed" in words(the_one(file))[0]


def test_and_one_that_another_library_may_bring(tmp_path: Path) -> None:
    foo = kit.program(tmp_path / "foo", "libfoo.so.1", "int foo (void) { return 0; }\n", *SHARED)
    file = kit.program(tmp_path, "maths", MATHS, "-lm", "-Wl,--no-as-needed", str(foo))
    patchelf(file, "--remove-needed", "libm.so.6")
    assert answers(file) == [UNKNOWN] * 3
    brings = kit.program(tmp_path / "lib", "libfoo.so.1", "int foo (void) { return 0; }\n", *SHARED,
                         "-Wl,--no-as-needed", "-lm")  # fmt: skip
    patchelf(file, "--set-rpath", "$ORIGIN/lib")
    found = {Path(f.item.file): f.judgements[NEW].answer for f in scanned(file, brings).files}
    assert found == {file: STARTS, brings: STARTS}


def test_the_requirements_own_flag_decides_not_the_references(tmp_path: Path) -> None:
    """All references weak and the requirement strong: refused. The flag alone lets ld.so pass over it."""
    weak = "extern __attribute__ ((weak)) int _dl_find_object (void *, void *);\n"
    weak += "int main (void) { return !&_dl_find_object; }\n"
    file = kit.program(tmp_path, "weak", weak, "-w")
    kit.put(OLD, kit.without(kit.host_listings(), "libc.so.6", node=kit.NODE))
    edits.edit(file, verneed_flags(kit.NODE, 0x10))  # a flag that means nothing
    assert answers(file) == [FAILS, STARTS, STARTS]
    assert words(the_one(file)) == [f"the version {kit.NODE} itself in libc.so.6"]
    edits.edit(file, verneed_flags(kit.NODE, versions.VER_FLG_WEAK))
    assert answers(file) == [STARTS] * 3


def verneed_flags(node: str, flags: int) -> edits.Edit:
    return lambda data, binary: struct.pack_into("<H", data, edits._requirement_at(binary, node) + 4, flags)


def test_a_requirement_with_a_wrong_hash(plain: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(plain, tmp_path / "p"))
    edits.edit(file, edits.verneed_hash(elf.read(plain).needs[0].versions[0]))
    assert answers(file) == [FAILS] * 3
    assert "with a wrong hash" in words(the_one(file))[0]


def test_a_table_of_another_revision(plain: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(plain, tmp_path / "p"))
    edits.edit(file, lambda data, binary: struct.pack_into(
        "<H", data, binary.window(binary.tags[DT_VERNEED], "x")[0], 2))  # fmt: skip
    assert answers(file) == [FAILS] * 3
    assert "unsupported version 2" in words(the_one(file))[0]


# -- (d) tables over two segments -----------------------------------------------------------------------


def test_a_string_table_over_two_adjacent_segments(plain: Path, tmp_path: Path) -> None:
    """As in the wheels of semgrep 1.166 to 1.185, which run."""
    before = elf.read(plain)
    first = next(s for s in before.segments if s.type == PT_LOAD)
    middle = before.tags[DT_STRTAB] + before.tags[DT_STRSZ] // 2 - first.vaddr
    file = Path(shutil.copy(plain, tmp_path / "p"))

    def split(data: bytearray, binary: elf.Elf) -> None:
        """The first PT_LOAD becomes two; PT_GNU_STACK makes room for the second."""
        at, spare = edits.segment_at(binary, PT_LOAD), edits.segment_at(binary, PT_GNU_STACK)
        struct.pack_into("<2Q", data, at + 32, middle, middle)
        place, left = first.vaddr + middle, first.filesz - middle
        second = struct.pack("<2I6Q", PT_LOAD, first.flags, place, place, place, left, left, 1)
        data[at + 56 : spare + 56] = second + data[at + 56 : spare]

    edits.edit(file, split)
    assert elf.read(file).strings == before.strings
    assert facts_of(elf.read(file)).imports == facts_of(before).imports
    assert answers(file) == [STARTS] * 3
    edits.edit(file, edits.segment(PT_LOAD, nth=1, offset=middle + 4096))
    assert answers(file) == [UNKNOWN] * 3


# -- (e) own copies of glibc's libraries ----------------------------------------------------------------


def test_an_own_copy_of_a_library_of_glibc(tmp_path: Path) -> None:
    top = tmp_path / "top"
    file = kit.program(top, "maths", MATHS, "-lm")
    (top / "lib").mkdir()
    shutil.copy(run(["gcc", "-print-file-name=libm.so.6"]).text.strip(), top / "lib" / "libm.so.6")
    assert by_name(top)["maths"].notes == ()
    patchelf(file, "--set-rpath", "$ORIGIN/lib")
    found = by_name(top)["maths"]
    assert found.answer is UNKNOWN
    assert "GLIBC_PRIVATE of ld-linux" in found.reason
    assert found.notes == (f"brings its own libm.so.6 ({top}/lib/libm.so.6)",)


def test_an_own_copy_that_wants_what_this_build_has_not(tmp_path: Path) -> None:
    """Where the baseline knows the private symbols, a missing one is a failure and no doubt."""
    file = tmp_path / "libm.so.6"
    shutil.copy(run(["gcc", "-print-file-name=libm.so.6"]).text.strip(), file)
    facts = facts_of(elf.read(file))
    wanted = {i.name for i in facts.imports if i.version == PRIVATE and i.file == ARCH.loader}
    assert wanted
    listings = kit.host_listings()
    names = {ARCH.loader: SYSTEM, "libc.so.6": SYSTEM}
    for private, expected in ((wanted, UNKNOWN), (set(), FAILS)):
        release = Release("1", ARCH.name, listings, frozenset(listings), {ARCH.loader: frozenset(private)})
        assert judge(facts, release, Setting(names)).answer is expected


# -- (g) the hash table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lose", [edits.out_of_the_chain, edits.out_of_the_bloom, edits.empty_bucket])
def test_what_the_hash_table_does_not_hold_is_not_there(
    tmp_path: Path, lose: object, parts: tuple[Path, Path]
) -> None:
    two = "int foo (void) { return 0; }\nint bar (void) { return 1; }\n"
    foo = kit.program(tmp_path / "foo", "libfoo.so.1", two, *SHARED)
    top = laid_out(tmp_path / "top", (parts[0], foo), "bin/user", "lib/libfoo.so.1", *ORIGIN)
    assert by_name(top)["bin/user"].answer is STARTS
    assert callable(lose)
    edits.edit(top / "lib/libfoo.so.1", lose("foo"))
    assert words(by_name(top)["bin/user"]) == ["foo"]


def test_a_symbol_that_no_relocation_names_is_not_looked_up(tmp_path: Path) -> None:
    """The table lists it as undefined, and ld.so never asks."""
    file = kit.program(tmp_path, "user", kit.PLAIN, "-Wl,-u,no_such", "-Wl,--unresolved-symbols=ignore-all")
    if "no_such" in run(["readelf", "-W", "--dyn-syms", file]).text:
        assert answers(file) == [STARTS] * 3


def test_a_library_without_versions_that_is_named_for_one(tmp_path: Path) -> None:
    """ld.so stops at an assertion: the library that the requirement names has no versions at all."""
    foo = Dso("libfoo.so.1", "int foo (void) { return 0; }\n", {"FOO_1": ("foo",)})
    file = kit.program(tmp_path, "user", FOO, str(foo.build(tmp_path / "lib" / "libfoo.so.1")),
                       "-Wl,-rpath,$ORIGIN/lib")  # fmt: skip
    found = {Path(f.item.file): f.judgements for f in scanned(file, tmp_path / "lib").files}
    assert found[file][NEW].answer is STARTS
    foo.but(nodes={}).build(tmp_path / "lib" / "libfoo.so.1")
    found = {Path(f.item.file): f.judgements for f in scanned(file, tmp_path / "lib").files}
    assert words(found[file][NEW]) == ["foo@FOO_1 is wanted of libfoo.so.1, which has no versions"]
    foo.but(nodes={"FOO_2": ("foo",)}).build(tmp_path / "lib" / "libfoo.so.1")
    found = {Path(f.item.file): f.judgements for f in scanned(file, tmp_path / "lib").files}
    assert words(found[file][MIDDLE]) == ["foo@FOO_1 in libfoo.so.1"]
