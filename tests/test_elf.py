"""The ELF reader: right on what compilers make, and never anything but `MalformedInput` on the rest."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import elf
from pipeline.core.errors import MalformedInput
from pipeline.core.run import run
from pipeline.elf.image import (
    DT_GNU_HASH,
    DT_SYMTAB,
    DT_VERDEF,
    DT_VERSYM,
    ET_DYN,
    ET_EXEC,
    PT_DYNAMIC,
    PT_LOAD,
    ForeignElf,
)
from tests.elf_fixtures import LD, LOADER_RSEQ, MODULE

#: offset of e_phoff, and of p_type, p_offset, p_vaddr and p_filesz in a program header
E_PHOFF, P_OFFSET, P_FILESZ = 32, 8, 32


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return LOADER_RSEQ.build(tmp_path_factory.mktemp("elf") / "ld.so")


@pytest.fixture(scope="module")
def whole(loader: Path) -> bytes:
    return loader.read_bytes()


def everything(data: bytes) -> None:
    """Ask the file for all it has."""
    binary = elf.parse(data, "x.so")
    _ = binary.interp, binary.soname, binary.needed, binary.runpath, binary.needs, binary.nodes
    _ = binary.defined, binary.undefined, binary.imports, binary.is_shared_object


def test_reads_symbols_with_versions_and_sizes(loader: Path) -> None:
    binary = elf.read(loader)
    symbols = {s.name: s for s in binary.defined}
    assert binary.soname == LD
    assert binary.type == ET_DYN
    assert binary.nodes == {"GLIBC_2.2.5", "GLIBC_2.35", "GLIBC_PRIVATE"}
    offset = symbols["__rseq_offset"]
    assert (offset.version, offset.size, offset.type, offset.hidden) == (
        "GLIBC_2.35",
        8,
        elf.STT_OBJECT,
        False,
    )
    assert binary.in_relro(offset.value, offset.size)
    assert not binary.in_read_only_data(offset.value, offset.size)
    assert binary.in_read_only_data(symbols["__rseq_flags"].value, 4)
    assert not binary.in_relro(symbols["__rseq_flags"].value, 4)


def test_program_and_library_are_told_apart(tmp_path: Path, loader: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text("int main (void) { return 0; }")
    for name, flags, shared, kind in (
        ("pie", ["-pie", "-fPIE"], False, ET_DYN),
        ("fixed", ["-no-pie"], False, ET_EXEC),
        ("static", ["-static"], False, ET_EXEC),
        ("static-pie", ["-static-pie", "-fPIE"], False, ET_DYN),
    ):
        run(["gcc", *flags, "-o", tmp_path / name, source])
        binary = elf.read(tmp_path / name)
        assert (binary.is_shared_object, binary.type) == (shared, kind), name
    assert elf.read(tmp_path / "pie").interp
    assert elf.read(tmp_path / "pie").needed == ("libc.so.6",)
    assert elf.read(loader).is_shared_object
    assert elf.read(MODULE.build(tmp_path / "module.so")).is_shared_object


def test_undefined_symbols_of_a_program_that_defines_none(tmp_path: Path) -> None:
    """Its GNU hash table is empty and counts nothing, with section headers and without."""
    source = tmp_path / "main.c"
    source.write_text('#include <stdio.h>\nint main (void) { return puts ("x"); }')
    program = tmp_path / "main"
    run(["gcc", "-pie", "-fPIE", "-o", program, source])
    binary = elf.read(program)
    assert DT_GNU_HASH in binary.tags
    wanted = {s.name: s.version for s in binary.undefined}
    assert wanted["puts"].startswith("GLIBC_2.")
    stripped = bytearray(program.read_bytes())
    stripped[40:48] = bytes(8)  # e_shoff
    stripped[60:62] = bytes(2)  # e_shnum
    again = {s.name: s.version for s in elf.parse(bytes(stripped), "main").undefined}
    assert again == wanted
    (need,) = binary.needs
    assert need.file == "libc.so.6"
    assert wanted["puts"] in need.versions
    assert not need.weak


def test_a_large_file_is_mapped_and_reads_the_same(tmp_path: Path, whole: bytes) -> None:
    file = tmp_path / "padded.so"
    file.write_bytes(whole + bytes(elf.READ_WHOLE))
    assert elf.read(file).defined == elf.parse(whole, "x").defined


def test_without_gnu_hash_the_old_hash_table_counts(tmp_path: Path) -> None:
    old = LOADER_RSEQ.but(flags=("-Wl,--hash-style=sysv",)).build(tmp_path / "old.so")
    binary = elf.read(old)
    assert DT_GNU_HASH not in binary.tags
    assert {s.name for s in binary.defined} >= {"__rseq_size", "_dl_mcount", "_rtld_global"}


def test_no_elf_is_none(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("/* GNU ld script */")
    (tmp_path / "empty").write_bytes(b"")
    assert elf.read_if_elf(tmp_path / "script") is None
    assert elf.read_if_elf(tmp_path / "empty") is None
    with pytest.raises(MalformedInput, match="ELF magic"):
        elf.read(tmp_path / "script")


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (4, b"\x01", "32-bit"),
        (5, b"\x02", "big-endian"),
        (4, b"\x07", "unknown class"),
        (E_PHOFF, b"\xff" * 8, "program headers would end at byte"),
        (54, b"\x00\x01", "program headers of 256 bytes"),
    ],
)
def test_a_bad_header_is_named(whole: bytes, at: int, value: bytes, says: str) -> None:
    with pytest.raises(MalformedInput, match=says) as caught:
        everything(whole[:at] + value + whole[at + len(value) :])
    assert "x.so" in caught.value.message
    assert (says in ("32-bit", "big-endian")) == isinstance(caught.value, ForeignElf)


def _dynamic(data: bytes) -> range:
    """Offsets of the entries of the dynamic section."""
    (phoff,) = struct.unpack_from("<Q", data, E_PHOFF)
    (count,) = struct.unpack_from("<H", data, 56)
    for at in range(phoff, phoff + 56 * count, 56):
        if struct.unpack_from("<I", data, at)[0] == PT_DYNAMIC:
            (offset,) = struct.unpack_from("<Q", data, at + P_OFFSET)
            (size,) = struct.unpack_from("<Q", data, at + P_FILESZ)
            return range(offset, offset + size, 16)
    raise AssertionError("no PT_DYNAMIC")


@pytest.mark.parametrize(
    ("tag", "value", "says"),
    [
        (5, 1 << 40, "string table at address 0x10000000000 lies in no loaded segment"),
        (10, 1 << 30, "string table .* goes beyond its segment"),
        (10, 4, "lies outside the string table"),
        (11, 16, "symbols of 16 bytes"),
        (0x6FFFFFFD, 9, "version definitions are missing"),
        (0x6FFFFFFD, 1 << 20, "more than 32767"),
        (0x6FFFFFFD, 2, "version index"),
    ],
)
def test_a_bad_dynamic_tag_is_named(whole: bytes, tag: int, value: int, says: str) -> None:
    data = bytearray(whole)
    (at,) = (a for a in _dynamic(whole) if struct.unpack_from("<Q", whole, a)[0] == tag)
    struct.pack_into("<Q", data, at + 8, value)
    with pytest.raises(MalformedInput, match=says):
        everything(bytes(data))


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        (DT_GNU_HASH, "the GNU hash table goes beyond its segment"),
        (DT_VERDEF, "a version definition goes beyond its segment"),
        (DT_SYMTAB, r"the dynamic symbol table .* goes beyond its segment"),
        (DT_VERSYM, r"the symbol versions .* goes beyond its segment"),
    ],
)
def test_a_table_that_begins_at_the_very_end_of_a_segment(whole: bytes, tag: int, says: str) -> None:
    first = next(s for s in elf.parse(whole, "x.so").segments if s.type == PT_LOAD)
    data = bytearray(whole)
    (at,) = (a for a in _dynamic(whole) if struct.unpack_from("<Q", whole, a)[0] == tag)
    struct.pack_into("<Q", data, at + 8, first.vaddr + first.filesz - 4)
    with pytest.raises(MalformedInput, match=says):
        everything(bytes(data))


@pytest.mark.parametrize(
    ("into", "value", "says"),
    [
        (0, 1 << 20, "buckets go beyond their segment"),
        (4, 1000, r"begins at symbol 1000 and names \d+"),
        (8, 1 << 20, "go beyond"),
    ],
)
def test_a_gnu_hash_table_that_makes_no_sense(whole: bytes, into: int, value: int, says: str) -> None:
    """Its number of buckets, first symbol and size of the Bloom filter."""
    data = bytearray(whole)
    at, _ = elf.parse(whole, "x.so").window(elf.parse(whole, "x.so").tags[DT_GNU_HASH], "x")
    struct.pack_into("<I", data, at + into, value)
    with pytest.raises(MalformedInput, match=says):
        everything(bytes(data))


def test_a_symbol_whose_name_lies_nowhere(whole: bytes) -> None:
    data = bytearray(whole)
    binary = elf.parse(whole, "x.so")
    at, _ = binary.window(binary.tags[DT_SYMTAB], "x")
    struct.pack_into("<I", data, at + 24, 1 << 20)
    with pytest.raises(MalformedInput, match="a symbol's name at 0x100000 lies outside"):
        everything(bytes(data))


def test_a_chain_of_the_gnu_hash_table_without_end(tmp_path: Path) -> None:
    whole = MODULE.build(tmp_path / "module.so").read_bytes()
    binary = elf.parse(whole, "x.so")
    at, end = binary.window(binary.tags[DT_GNU_HASH], "x")
    buckets, _, bloom, _ = struct.unpack_from("<4I", whole, at)
    data = bytearray(whole)
    for link in range(at + 16 + 8 * bloom + 4 * buckets, end - 3, 4):
        data[link] &= 0xFE
    with pytest.raises(MalformedInput, match="a chain of the GNU hash table has no end"):
        everything(bytes(data))


def test_a_dynamic_section_without_end(whole: bytes) -> None:
    data = bytearray(whole)
    for at in _dynamic(whole):
        if struct.unpack_from("<Q", data, at)[0] == 0:
            struct.pack_into("<Q", data, at, 0x6FFFFEF0)
    with pytest.raises(MalformedInput, match="has no end"):
        everything(bytes(data))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_raise_only_malformed_input(whole: bytes, data: st.DataObject) -> None:
    """Most of what matters is in the first pages and the dynamic section, so those are hit more often."""
    damaged = bytearray(whole)
    dynamic = _dynamic(whole).start
    place = st.one_of(
        st.integers(0, 63), st.integers(64, 1500), st.integers(dynamic, dynamic + 400),
        st.integers(0, len(whole) - 1),
    )  # fmt: skip
    for at in data.draw(st.lists(place, min_size=1, max_size=6)):
        damaged[min(at, len(damaged) - 1)] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    try:
        everything(bytes(damaged[:end]))
    except MalformedInput as e:
        assert "x.so" in e.message  # noqa: PT017  # either outcome is right, an error must name the file


def test_every_truncation_is_malformed_or_whole(whole: bytes) -> None:
    expected = elf.parse(whole, "x.so").defined
    for end in range(0, len(whole), 7):
        try:
            assert elf.parse(whole[:end], "x.so").defined == expected
        except MalformedInput:
            continue
