"""Where a file's parts lie: does what is in the file agree with what is in memory?

ld.so goes by addresses, the linker and most tools by section headers and file offsets. A file in which the
two differ exports one thing when a program is linked and another when it is started. Sections are read here,
and only here, to compare them with what the loader uses.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pipeline.elf import Elf
from pipeline.elf.image import (
    DT_GNU_HASH,
    DT_HASH,
    DT_STRTAB,
    DT_SYMTAB,
    DT_VERDEF,
    DT_VERNEED,
    DT_VERSYM,
    PT_DYNAMIC,
    PT_LOAD,
)

#: The smallest page of any machine here; ld.so rounds segments to pages.
PAGE = 4096
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SHT_DYNAMIC, _SHT_DYNSYM, _SHT_STRTAB = 6, 11, 3
#: Section types of the tables that ld.so finds by a tag (gABI, and GNU's extensions).
_BY_TAG = {
    5: DT_HASH,
    0x6FFFFFF6: DT_GNU_HASH,
    0x6FFFFFFD: DT_VERDEF,
    0x6FFFFFFE: DT_VERNEED,
    0x6FFFFFFF: DT_VERSYM,
    _SHT_DYNSYM: DT_SYMTAB,
}
_TABLES = {
    DT_HASH: "hash table", DT_GNU_HASH: "GNU hash table", DT_VERDEF: "version definitions",
    DT_VERNEED: "version requirements", DT_VERSYM: "symbol versions", DT_SYMTAB: "symbol table",
    DT_STRTAB: "string table",
}  # fmt: skip


class SectionHeader(NamedTuple):
    """A section header: ``type`` SHT_*, ``name`` an offset in the table of names."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int


def sections(binary: Elf) -> tuple[SectionHeader, ...]:
    """The section headers, none if there are none. Raises `MalformedInput` for a table cut short."""
    offset, entry, count = binary.section_table
    if not offset or not count:
        return ()
    if entry != _SHDR.size or offset + count * entry > len(binary.data):
        raise binary.malformed("its section headers go beyond the file")
    table = binary.data[offset : offset + count * entry]
    return tuple(SectionHeader(*raw[:7]) for raw in _SHDR.iter_unpack(table))


def faults(binary: Elf, symbols: int) -> list[str]:
    """What disagrees, in words; none for a file all readers read alike.

    ``symbols`` is how many dynamic symbols the loader's tables count.
    """
    return [*_segment_faults(binary), *_dynamic_faults(binary), *_section_faults(binary, symbols)]


def _segment_faults(binary: Elf) -> list[str]:
    """ld.so refuses some of these, and maps others over one another."""
    found = []
    top = 0
    for load in (s for s in binary.segments if s.type == PT_LOAD):
        where = f"the segment at {load.vaddr:#x}"
        if load.align & (load.align - 1) or load.align % PAGE:
            found.append(f"{where} is aligned to {load.align:#x}, which is no multiple of a page")
        elif (load.vaddr - load.offset) % max(load.align, PAGE):
            found.append(f"{where} has the file offset {load.offset:#x}: not the same place in a page")
        if load.filesz > load.memsz:
            found.append(f"{where} has {load.filesz:#x} bytes in the file and {load.memsz:#x} in memory")
        if load.vaddr // PAGE * PAGE < top:
            found.append(f"{where} lies over the one before it, which ends at {top:#x}")
        top = -(-(load.vaddr + load.memsz) // PAGE) * PAGE
    return found


def _dynamic_faults(binary: Elf) -> list[str]:
    found = []
    for segment in (s for s in binary.segments if s.type == PT_DYNAMIC and s.filesz):
        start, _ = binary.window(segment.vaddr, "the dynamic section")
        if start != segment.offset:
            found.append(
                f"the dynamic section is at {start:#x} in the file for the loader (by its address) and at "
                f"{segment.offset:#x} for other tools (by its offset)"
            )
    found += [f"the dynamic section has the tag {tag:#x} more than once" for tag in binary.repeated_tags]
    return found


def _section_faults(binary: Elf, symbols: int) -> list[str]:
    """The linker finds the tables by section headers; they must be the tables that ld.so finds."""
    if not binary.dynamic:
        return []
    headers = sections(binary)
    if not headers:
        return ["it has no section headers: the linker sees none of its symbols"]
    found: list[str] = []
    wanted = {tag: binary.tags[tag] for tag in _BY_TAG.values() if tag in binary.tags}
    seen: dict[int, list[SectionHeader]] = {}
    for section in headers:
        if section.type in _BY_TAG:
            seen.setdefault(_BY_TAG[section.type], []).append(section)
            if section.type == _SHT_DYNSYM:
                if section.size != 24 * symbols:
                    found.append(
                        f"the symbol table has {section.size / 24:g} symbols for the linker and "
                        f"{symbols} for the loader"
                    )
                if section.link < len(headers):
                    seen.setdefault(DT_STRTAB, []).append(headers[section.link])
        elif section.type == _SHT_DYNAMIC:
            for segment in binary.segments:
                if segment.type == PT_DYNAMIC and (segment.vaddr, segment.offset) != section[3:5]:
                    found.append(
                        f"the dynamic section is at {section.addr:#x} for the linker and at "
                        f"{segment.vaddr:#x} for the loader"
                    )
    wanted[DT_STRTAB] = binary.tags.get(DT_STRTAB, 0)
    for tag, what in _TABLES.items():
        places = {(s.addr, s.offset) for s in seen.get(tag, ())}
        address = wanted.get(tag)
        here = {(address, binary.window(address, what)[0])} if address is not None else set()
        if places != here:
            found.append(f"the {what} is {_at(places)} for the linker and {_at(here)} for the loader")
    return found


def _at(places: set[tuple[int, int]]) -> str:
    return ", ".join(f"at {a:#x} (offset {o:#x})" for a, o in sorted(places)) or "absent"
