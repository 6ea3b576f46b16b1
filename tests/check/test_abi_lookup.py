"""Each edit leaves the listing as it is and makes ld.so find something else: abi.lookup alone is red."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pipeline import elf
from pipeline.check import abi, abi_lookup
from pipeline.elf import image, notes
from pipeline.elf.image import (
    DT_GNU_HASH,
    DT_HASH,
    DT_PLTRELSZ,
    DT_STRTAB,
    DT_SYMENT,
    DT_VERDEFNUM,
    PT_DYNAMIC,
    PT_LOAD,
)
from tests import elf_edit as edits
from tests.check.release_kit import AFTER, BEFORE, UPDATE, Stage, make_stage
from tests.elf_edit import Edit
from tests.elf_fixtures import LD, LIBC, LOADER, LOADER_RSEQ, Dso

CHECKS = (*abi.CHECKS, *abi_lookup.CHECKS)
LOADER_PATH, LIBC_PATH = f"lib64/{LD}", "lib64/libc.so.6"
#: A libc that needs a version of the loader, and has a hash table of either style.
IMPORTS = LIBC.but(
    source=LIBC.source + "extern void _dl_mcount (void);\nvoid calls (void) { _dl_mcount (); }\n",
    nodes={**LIBC.nodes, "GLIBC_2.34": ("environ", "calls")},
    flags=("-Wl,--hash-style=both",),
)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = make_stage(tmp_path, monkeypatch)
    stub = LOADER_RSEQ.build(tmp_path / "stub" / LD)
    libc = IMPORTS.but(flags=(*IMPORTS.flags, "-Wl,--no-as-needed", str(stub)))
    made.release(BEFORE, LOADER, libc)
    made.release(UPDATE, LOADER_RSEQ, libc)
    made.release(AFTER, LOADER_RSEQ, libc)
    made.commit(BEFORE, UPDATE, AFTER)
    assert made.red(CHECKS) == {}
    return made


def test_what_is_right_is_green(stage: Stage) -> None:
    found = stage.answers(CHECKS)["abi.lookup", AFTER]
    assert found.measures["files"] == 3
    assert found.measures["symbols"] >= 12
    assert "symbols found in 3 files" in found.seen


def _hash_without_symbol(data: bytearray, binary: elf.Elf) -> None:
    """DT_HASH alone loses a symbol: readers that use it differ from ld.so."""
    at, _ = binary.window(binary.tags[DT_HASH], "x")
    count = int.from_bytes(data[at : at + 4], "little")
    data[at + 8 : at + 8 + 4 * count] = bytes(4 * count)


def _moved_table(data: bytearray, binary: elf.Elf) -> None:
    """The section header of the string table names another place than DT_STRTAB."""
    for n, section in enumerate(elf.layout.sections(binary)):
        if section.addr == binary.tags[DT_STRTAB]:
            at = binary.section_table[0] + 64 * n
            data[at + 24 : at + 32] = (section.offset + 8).to_bytes(8, "little")


def _frame_elsewhere(data: bytearray, binary: elf.Elf) -> None:
    """The second entry of the table that is searched is for another address."""
    (table,) = (s for s in binary.segments if s.type == image.PT_GNU_EH_FRAME)
    data[table.offset + 20] ^= 1


def _frames_of_no_code(data: bytearray, binary: elf.Elf) -> None:
    """Each frame that the table names begins where it should, and is for no byte."""
    (table,) = (s for s in binary.segments if s.type == image.PT_GNU_EH_FRAME)
    (count,) = struct.unpack_from("<I", data, table.offset + 8)
    for n in range(count):
        (where,) = struct.unpack_from("<i", data, table.offset + 12 + 8 * n + 4)
        struct.pack_into("<I", data, table.offset + where + 12, 0)


def _frames_of_another_form(data: bytearray, binary: elf.Elf) -> None:
    (table,) = (s for s in binary.segments if s.type == image.PT_GNU_EH_FRAME)
    data[table.offset] = 2


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        (LOADER_PATH, edits.out_of_the_chain("__rseq_size"), "__rseq_size@@GLIBC_2.35: not found"),
        (LOADER_PATH, edits.out_of_the_bloom("_rtld_global"), "_rtld_global@@GLIBC_PRIVATE: not found"),
        (LOADER_PATH, edits.empty_bucket("_r_debug"), "_r_debug@@GLIBC_2.2.5: not found"),
        (LOADER_PATH, edits.verdef_hash("GLIBC_2.35"), "vd_hash of GLIBC_2.35 is 0x1234567, not"),
        (LOADER_PATH, edits.verdef_revision("GLIBC_2.35"), "vd_version of GLIBC_2.35 is 2"),
        (LOADER_PATH, edits.symbol_value("__rseq_flags", 0), "__rseq_flags@@GLIBC_2.35: not found"),
        (LOADER_PATH, edits.dynamic_copied(), "the dynamic section is at"),
        (LOADER_PATH, edits.segment(PT_DYNAMIC, offset=0x40), "the dynamic section is at"),
        (LOADER_PATH, edits.segment(PT_LOAD, nth=1, align=3), "aligned to 0x3"),
        (LOADER_PATH, edits.no_sections, "no section headers"),
        (LOADER_PATH, _moved_table, "the string table is at"),
        (LOADER_PATH, edits.tag_becomes(DT_SYMENT, DT_STRTAB, 0x40), "more than once"),
        (LIBC_PATH, edits.tag_value(DT_PLTRELSZ, 0), "relocations at "),
        (LIBC_PATH, edits.segment(PT_LOAD, flags=6), "the segment at 0x0 is writable, its sections are no"),
        (LIBC_PATH, edits.segment(PT_LOAD, flags=5), "the segment at 0x0 is executable, its sections are no"),
        (LIBC_PATH, edits.segment(PT_LOAD, nth=1, flags=4), "is not executable, its sections are so"),
        (LIBC_PATH, edits.segment(notes.PT_NOTE, offset=0x40), "notes at "),
        (LIBC_PATH, edits.segment(image.PT_GNU_EH_FRAME, type=0), "it has no table of frames"),
        (LIBC_PATH, _frame_elsewhere, "entry 1 of the table of frames is for"),
        (LIBC_PATH, _frames_of_no_code, "no frame is for printf@GLIBC_2.2.5"),
        (LIBC_PATH, _frames_of_another_form, "its table of frames is of the form 02"),
        (LIBC_PATH, edits.verneed_hash("GLIBC_2.2.5"), "vna_hash of GLIBC_2.2.5 of"),
        (LIBC_PATH, _hash_without_symbol, "printf@@GLIBC_2.2.5: not found in the hash table (DT_HASH)"),
    ],
)  # fmt: skip
def test_what_the_loader_does_not_find_is_red(stage: Stage, path: str, change: Edit, says: str) -> None:
    stage.edit(AFTER, path, change)
    red = stage.red(CHECKS)
    if says == "more than once":  # the last of two DT_STRTAB holds, so the names are others for all checks
        red = {("abi.lookup", AFTER): red["abi.lookup", AFTER]}
    assert set(red) == {("abi.lookup", AFTER)}, {k: f.seen for k, f in red.items()}
    assert says in red["abi.lookup", AFTER].seen, red["abi.lookup", AFTER].seen


def test_a_dynamic_section_elsewhere_in_memory_is_what_the_listing_sees(stage: Stage) -> None:
    """p_vaddr names another section than p_offset: ld.so sees that one, and so do we."""

    def change(data: bytearray, binary: elf.Elf) -> None:
        flags = edits.symbol_index(binary, "__rseq_flags")
        edits.segment(PT_DYNAMIC, vaddr=binary.all_symbols[flags - 1].value, filesz=16)(data, binary)

    stage.edit(AFTER, LOADER_PATH, change)
    assert ("abi.baseline", AFTER) in stage.red(CHECKS)


def test_a_hash_table_that_cannot_be_followed_is_a_verdict(stage: Stage) -> None:
    def change(data: bytearray, binary: elf.Elf) -> None:
        at, _ = binary.window(binary.tags[DT_GNU_HASH], "x")
        data[at + 8 : at + 12] = (3).to_bytes(4, "little")

    stage.edit(AFTER, LIBC_PATH, change)
    found = stage.red(CHECKS)["abi.lookup", AFTER]
    assert found.outcome.name == "FAIL"
    assert "malformed" in found.seen


def test_a_symbol_twice_in_the_hash_is_red(stage: Stage) -> None:
    """A hash that holds what the table hides: a hidden symbol is found by nobody, yet it is there."""
    stage.edit(AFTER, LOADER_PATH, edits.symbol_other("_rtld_global", elf.STV_HIDDEN))
    red = stage.red(CHECKS)
    assert "holds _rtld_global" in red["abi.lookup", AFTER].seen


def test_counts_of_versions_are_compared_with_the_links(stage: Stage) -> None:
    stage.edit(AFTER, LOADER_PATH, edits.tag_value(DT_VERDEFNUM, 3))
    red = stage.red(CHECKS)
    assert "3 versions defined by the tag, 4 along the links" in red["abi.lookup", AFTER].seen


def test_an_empty_release_is_an_error(stage: Stage, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    built = stage.built[AFTER]
    stage.built[AFTER] = built.model_copy(update={"root": empty})
    assert stage.red(abi_lookup.CHECKS)["abi.lookup", AFTER].outcome.name == "ERROR"


def test_old_hash_tables_are_looked_up_too(stage: Stage) -> None:
    old = LOADER_RSEQ.but(flags=("-Wl,--hash-style=sysv",))
    assert isinstance(old, Dso)
    stage.release(AFTER, old)
    assert stage.red(abi_lookup.CHECKS) == {}


def test_functions_without_frames_are_red(stage: Stage) -> None:
    """As a compiler makes them that was told to."""
    libc = LIBC.but(flags=(*LIBC.flags, "-fno-asynchronous-unwind-tables"))
    stage.release(AFTER, LOADER_RSEQ, libc)
    assert "it has no table of frames" in stage.red(abi_lookup.CHECKS)["abi.lookup", AFTER].seen
