"""pyelftools, written by others and by way of section headers, reads real libraries as we do."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection, GNUVerSymSection
from elftools.elf.hash import ELFHashSection, GNUHashSection
from elftools.elf.sections import NoteSection, SymbolTableSection

from pipeline import elf
from pipeline.core.arch import host_arch
from pipeline.elf import agreement, layout
from pipeline.elf.hardening import traits
from pipeline.elf.image import DT_GNU_HASH, DT_HASH
from pipeline.elf.lookup import Lookup
from pipeline.elf.notes import bits
from tests.elf_fixtures import LOADER_RSEQ

_BINDINGS = {0: "STB_LOCAL", 1: "STB_GLOBAL", 2: "STB_WEAK", 10: "STB_LOOS"}
_TYPES = {0: "STT_NOTYPE", 1: "STT_OBJECT", 2: "STT_FUNC", 6: "STT_TLS", 10: "STT_LOOS"}
_VISIBILITY = {0: "STV_DEFAULT", 1: "STV_INTERNAL", 2: "STV_HIDDEN", 3: "STV_PROTECTED"}


def host_files() -> list[Path]:
    """The libraries and programs of this machine's own glibc."""
    library = Path("/lib") / host_arch().triplet
    names = [
        "libc.so.6",
        "libm.so.6",
        "libresolv.so.2",
        "libthread_db.so.1",
        "libpthread.so.0",
        "libmvec.so.1",
    ]
    found = [p for p in (library / name for name in names) if p.is_file()]
    found += sorted((library / "gconv").glob("UTF-*.so"))
    found += [Path(host_arch().interp), Path("/usr/bin/getconf"), Path("/usr/bin/iconv")]
    assert len(found) >= 8
    return found


@pytest.fixture(scope="module", params=[*host_files(), None], ids=lambda p: p.name if p else "small")
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[elf.Elf, ELFFile]:
    path = request.param or LOADER_RSEQ.but(flags=("-Wl,--hash-style=both",)).build(
        tmp_path_factory.mktemp("small") / "ld.so"
    )
    return elf.read(path), ELFFile(BytesIO(Path(path).read_bytes()))


def one(other: ELFFile, kind: type[Any]) -> Any:
    """The section of a kind, None if there is none."""
    return next((s for s in other.iter_sections() if type(s) is kind), None)


def table(other: ELFFile) -> SymbolTableSection:
    found = other.get_section_by_name(".dynsym")
    assert isinstance(found, SymbolTableSection)
    return found


def test_symbols_versions_and_how_they_are_bound(both: tuple[elf.Elf, ELFFile]) -> None:
    ours, other = both
    versions, definitions = one(other, GNUVerSymSection), one(other, GNUVerDefSection)
    names = {}
    if definitions is not None:
        names = {
            d["vd_ndx"]: next(iter(aux)).name for d, aux in definitions.iter_versions() if d["vd_flags"] != 1
        }
    requirements = one(other, GNUVerNeedSection)
    if requirements is not None:
        for _, auxiliaries in requirements.iter_versions():
            names.update({aux["vna_other"]: aux.name for aux in auxiliaries})
    theirs = list(table(other).iter_symbols())
    assert len(theirs) == ours.symbol_count
    lookup = Lookup(ours)
    for index, (symbol, mine) in enumerate(zip(theirs[1:], ours.all_symbols, strict=True), 1):
        raw = lookup.symbol(index)
        assert symbol.name == mine.name == raw.name.decode()
        info = symbol["st_info"]
        assert (info["bind"], info["type"]) == (_BINDINGS[mine.binding], _TYPES[mine.type])
        assert symbol["st_other"]["visibility"] == _VISIBILITY[mine.visibility]
        assert (symbol["st_value"], symbol["st_size"]) == (mine.value, mine.size) == raw[5:7]
        if versions is not None:
            number = versions.get_symbol(index)["ndx"]
            if isinstance(number, int):  # not local, not global without a version
                node, hidden = lookup.version_of(index)
                assert (names[number & 0x7FFF], number > 0x7FFF) == (node, hidden)


def test_the_hash_tables_find_the_same(both: tuple[elf.Elf, ELFFile]) -> None:
    ours, other = both
    lookup = Lookup(ours)
    theirs = {DT_GNU_HASH: one(other, GNUHashSection), DT_HASH: one(other, ELFHashSection)}
    assert {tag for tag, section in theirs.items() if section} == set(lookup.styles)
    for style in lookup.styles:
        for symbol in ours.defined:
            if symbol.binding == elf.STB_LOCAL:
                continue
            found = theirs[style].get_symbol(symbol.name)
            assert found is not None
            node = symbol.version if symbol.version not in ("-", "Base", "Local") else None
            mine = lookup.find(symbol.name.encode(), node, style=style)
            assert mine is not None
            assert lookup.symbol(mine).name.decode() == found.name
        for absent in ("no_such_symbol", "__rseq_nothing", ""):
            assert theirs[style].get_symbol(absent) is None
            assert lookup.find(absent.encode(), None, style=style) is None


def test_version_definitions_and_requirements(both: tuple[elf.Elf, ELFFile]) -> None:
    ours, other = both
    lookup = Lookup(ours)
    definitions, requirements = one(other, GNUVerDefSection), one(other, GNUVerNeedSection)
    theirs = [] if definitions is None else [
        (d["vd_ndx"], d["vd_flags"], d["vd_hash"], [aux.name for aux in names])
        for d, names in definitions.iter_versions()
    ]  # fmt: skip
    assert theirs == [(d.number, d.flags, d.hash, [d.name, *d.parents]) for d in lookup.definitions]
    needs = [] if requirements is None else [
        (need.name, aux.name, aux["vna_flags"], aux["vna_hash"], aux["vna_other"])
        for need, auxiliaries in requirements.iter_versions()
        for aux in auxiliaries
    ]  # fmt: skip
    assert needs == [(r.file, r.name, r.flags, r.hash, r.number) for r in lookup.requirements]


def test_marks_and_notes(both: tuple[elf.Elf, ELFFile]) -> None:
    ours, other = both
    lines = traits(ours)
    (dynamic,) = (s for s in other.iter_segments() if isinstance(s, DynamicSegment))
    tags = list(dynamic.iter_tags())
    needed: list[str] = [getattr(tag, "needed") for tag in tags if tag["d_tag"] == "DT_NEEDED"]  # noqa: B009
    assert f"needed {' '.join(needed) or 'nothing'}" in lines
    flags = {tag["d_tag"]: tag["d_val"] for tag in tags}
    assert ("binding at the start" in lines) == bool(
        "DT_BIND_NOW" in flags or flags.get("DT_FLAGS", 0) & 8 or flags.get("DT_FLAGS_1", 0) & 1
    )
    assert f"e_flags {other['e_flags']:#x}" in lines
    found = set()
    for section in other.iter_sections():
        if not isinstance(section, NoteSection) or not section["sh_flags"] & 2:
            continue
        for note in section.iter_notes():
            if note["n_type"] == "NT_GNU_ABI_TAG":
                tag = note["n_desc"]
                found.add(f"abi-tag Linux {tag['abi_major']}.{tag['abi_minor']}.{tag['abi_tiny']}")
            elif note["n_type"] == "NT_GNU_BUILD_ID":
                found.add(f"build-id {len(note['n_desc']) // 2} bytes")
            elif note["n_type"] == "NT_GNU_PROPERTY_TYPE_0":
                for one_property in note["n_desc"]:
                    if one_property["pr_type"] == "GNU_PROPERTY_X86_FEATURE_1_AND":
                        found.add(f"property x86 features: {bits(one_property['pr_data'], ('IBT', 'SHSTK'))}")
    assert found <= set(lines)
    assert {x for x in lines if re.match(r"abi-tag|build-id|property x86 features", x)} <= found


def test_segments_and_sections_agree(both: tuple[elf.Elf, ELFFile]) -> None:
    ours, other = both
    assert layout.faults(ours, ours.symbol_count) == agreement.faults(ours) == []
    assert [(s.addr, s.offset, s.size) for s in layout.sections(ours)] == [
        (s["sh_addr"], s["sh_offset"], s["sh_size"]) for s in other.iter_sections()
    ]
    assert [(s.vaddr, s.offset, s.memsz, s.align) for s in ours.segments] == [
        (s["p_vaddr"], s["p_offset"], s["p_memsz"], s["p_align"]) for s in other.iter_segments()
    ]
