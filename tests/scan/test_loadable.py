"""What every ld.so refuses, on real files that are wrong in one way (the loader says so in the oracle)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.core.run import run
from pipeline.elf.image import DT_PLTREL, DT_RELA, DT_RELAENT, DT_VERSYM, PT_DYNAMIC, PT_GNU_RELRO, PT_LOAD
from pipeline.scan.judge import Answer
from tests import elf_edit as edits
from tests.scan import kit, odd_files
from tests.scan.kit import ARCH, NEW
from tests.scan.test_judge import scanned, the_one

STARTS, FAILS, NOT_APPLICABLE = Answer.STARTS, Answer.FAILS, Answer.NOT_APPLICABLE
F = odd_files.F


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("os-abi-freebsd", "another system's ABI"), ("abi-version", "version 9 of the ABI"),
        ("padding", "padding"), ("e-version", "e_version"), ("executable", "ET_EXEC"),
    ],
)  # fmt: skip
def test_the_header_of_a_library(tmp_path: Path, name: str, words: str) -> None:
    library = kit.program(tmp_path, "libf.so", kit.PLAIN, *odd_files.SHARED)
    assert the_one(library, NEW).answer is STARTS
    edits.edit(library, odd_files.header(*odd_files.HEADERS[name]))
    judged = the_one(library, NEW)
    assert judged.answer is FAILS
    assert words in judged.missing[0].sentence


def test_of_a_program_the_kernel_reads_the_header(tmp_path: Path) -> None:
    program = kit.program(tmp_path, "p", kit.PLAIN)
    edits.edit(program, odd_files.header("B", 12, 1))
    assert the_one(program, NEW).answer is STARTS


def test_relocations_that_no_loader_knows_and_no_dynamic_section(tmp_path: Path) -> None:
    library = kit.program(tmp_path, "libf.so", "int x, *p = &x;\n" + F, *odd_files.SHARED)
    edits.edit(library, odd_files.unknown_relocation)
    judged = the_one(library, NEW)
    assert judged.answer is FAILS
    assert "type 250" in judged.missing[0].sentence
    program = kit.program(tmp_path, "p", kit.PLAIN)
    for tag, value in ((DT_PLTREL, 17), (DT_RELAENT, 16)):
        edits.edit(program, edits.tag_value(tag, value))
        assert "ld.so asserts" in the_one(program, NEW).missing[0].sentence
        program = kit.program(tmp_path, "p", kit.PLAIN)
    edits.edit(program, edits.tag_becomes(DT_RELA, 0x60000011))
    assert "of Android's form" in the_one(program, NEW).reason
    assert the_one(program, NEW).answer is Answer.UNKNOWN
    program = kit.program(tmp_path, "p", kit.PLAIN)
    edits.edit(program, edits.segment(PT_DYNAMIC, type=0))
    assert the_one(program, NEW).answer is FAILS


def test_versions_without_their_table_and_of_another_revision(tmp_path: Path) -> None:
    program = kit.program(tmp_path, "p", kit.PLAIN)
    edits.edit(program, edits.tag_becomes(DT_VERSYM, 0x6FFFFF00))
    assert "DT_VERSYM" in the_one(program, NEW).missing[0].sentence
    (tmp_path / "x.map").write_text("V_1 { global: f; local: *; };\n")
    odd_files.pair("gcc", tmp_path / "d", F, (f"-Wl,--version-script={tmp_path / 'x.map'}",))
    edits.edit(tmp_path / "d" / "libf.so", odd_files.VERSIONS["revision"])
    by_name = {Path(f.item.file).name: f.judgements[NEW] for f in scanned(tmp_path / "d").files}
    assert by_name["user"].answer is FAILS


def test_without_default_directories_no_library_of_glibc_is_found(tmp_path: Path) -> None:
    flags = ("-Wl,-z,nodefaultlib",)
    program = kit.program(tmp_path, "p", kit.PLAIN, *flags)
    judged = the_one(program, NEW)
    assert judged.answer is FAILS
    assert "DF_1_NODEFLIB" in judged.missing[0].sentence
    library = kit.program(tmp_path, "l.so", kit.PLAIN, *flags, *odd_files.SHARED)
    assert the_one(library, NEW).answer is STARTS  # whoever loads it has libc.so.6
    maths = "#include <math.h>\ndouble f (double x) { return sin (x); }\n"
    more = kit.program(tmp_path, "m.so", maths, *flags, *odd_files.SHARED, "-lm")
    assert [m.dso for m in the_one(more, NEW).missing] == ["libm.so.6"]


def test_a_filter_needs_what_it_stands_for(tmp_path: Path) -> None:
    library = kit.program(tmp_path, "l.so", F, *odd_files.SHARED, "-Wl,-F,libnowhere.so.9")
    assert the_one(library, NEW).elsewhere == ("libnowhere.so.9",)
    assert the_one(kit.program(tmp_path, "x.so", F, *odd_files.SHARED, "-Wl,-F,libm.so.6")).elsewhere == ()


def test_a_program_is_no_library(tmp_path: Path) -> None:
    odd_files.pair("gcc", tmp_path / "d", F, ())
    by_name = {Path(f.item.file).name: f.judgements[NEW] for f in scanned(tmp_path / "d").files}
    assert by_name["user"].answer is STARTS
    kit.program(tmp_path / "d", "libf.so", F + "int main (void) { return 0; }\n", "-pie", "-rdynamic")
    by_name = {Path(f.item.file).name: f.judgements[NEW] for f in scanned(tmp_path / "d").files}
    assert by_name["libf.so"].answer is STARTS  # it is a program, and starts
    assert by_name["user"].answer is FAILS
    assert "libf.so is a position-independent executable" in by_name["user"].missing[0].sentence


@pytest.mark.parametrize("place", ["/usr", "/", "/usr/.", "/lib/..", "/opt", ""])
def test_where_the_loader_is(tmp_path: Path, place: str) -> None:
    where = f"{place}{ARCH.interp}"
    program = kit.program(tmp_path, "p", kit.PLAIN, f"-Wl,-dynamic-linker,{where}")
    assert the_one(program, NEW).answer is (Answer.UNKNOWN if place == "/opt" else STARTS)


def test_the_loaders_name_ends_at_the_first_zero(tmp_path: Path) -> None:
    """As the kernel reads it: a name that was shortened in place."""
    program = kit.program(
        tmp_path, "p", kit.USES_RSEQ, "-Wl,-dynamic-linker,/opt/a/much/longer/way/to/ld.so.1"
    )
    assert the_one(program).answer is NOT_APPLICABLE
    edits.edit(program, odd_files.renamed_loader(ARCH.interp))
    assert the_one(program).answer is FAILS


@pytest.mark.parametrize("fields", [{"align": 16}, {"align": 3}, {"align": 1 << 30, "nth": -1}])
def test_loaders_before_glibc_2_35_ask_for_alignment(
    tmp_path: Path, fields: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = kit.program(tmp_path, "l.so", kit.PLAIN, *odd_files.SHARED)
    edits.edit(library, edits.segment(PT_LOAD, **fields))
    assert the_one(library, NEW).answer is STARTS
    load = profiles.load
    monkeypatch.setattr(profiles, "load", lambda name: load(name).model_copy(update={"glibc": "2.34"}))
    judged = the_one(library, NEW)
    assert judged.answer is FAILS
    assert "ld.so before glibc 2.35 refuses it" in judged.missing[0].sentence
    edits.edit(library, odd_files.header("H", 16, 1))  # no library any more
    assert the_one(library, NEW).answer is NOT_APPLICABLE


def test_a_segment_elsewhere_in_a_page_than_in_the_file(tmp_path: Path) -> None:
    for name, flags in (("l.so", odd_files.SHARED), ("p", ())):
        file = kit.program(tmp_path, name, kit.PLAIN, *flags)
        edits.edit(file, odd_files.moved)
        judged = the_one(file, NEW)
        assert judged.answer is FAILS
        assert "another place of a page" in judged.missing[0].sentence


def test_what_is_made_read_only_must_be_mapped(tmp_path: Path) -> None:
    """lld lets it end with a page of 64 KiB: the kernel maps no more than what is in pages of 4."""
    program = kit.program(tmp_path, "p", kit.PLAIN)
    edits.edit(program, edits.segment(PT_GNU_RELRO, memsz=1 << 20))
    assert "PT_GNU_RELRO" in the_one(program, NEW).missing[0].sentence
    library = kit.program(tmp_path, "l.so", kit.PLAIN, *odd_files.SHARED)
    edits.edit(library, edits.segment(PT_GNU_RELRO, memsz=1 << 20))
    assert the_one(library, NEW).answer is FAILS


def test_the_loader_is_there_whatever_is_searched(tmp_path: Path) -> None:
    """ld.so is loaded before a library without default directories that needs it for its threads' data."""
    flags = ("-Wl,-z,nodefaultlib", "-fPIC", "-mtls-dialect=gnu" if ARCH.name == "x86_64" else "-g")
    odd_files.pair("gcc", tmp_path / "d", odd_files.WAYS["tls"][0], flags)
    assert {f.judgements[NEW].answer for f in scanned(tmp_path / "d").files} == {STARTS}


def test_a_static_program_of_another_system(tmp_path: Path) -> None:
    file = kit.program(tmp_path, "p", "void _start (void) { for (;;); }\n", "-nostdlib", "-static")
    edits.edit(file, odd_files.header("B", 7, 9))
    assert the_one(file, NEW).answer is NOT_APPLICABLE


@pytest.mark.parametrize("flags", [("-no-pie",), ("-pie",), ("-shared", "-fPIC"), ("-static",)])
def test_debug_information_kept_apart_starts_nowhere(tmp_path: Path, flags: tuple[str, ...]) -> None:
    file = kit.program(tmp_path, "p", kit.PLAIN, "-g", *flags)
    assert the_one(file, NEW).answer is STARTS
    run(["objcopy", "--only-keep-debug", file, tmp_path / "p.debug"])
    assert the_one(tmp_path / "p.debug", NEW).answer is NOT_APPLICABLE
