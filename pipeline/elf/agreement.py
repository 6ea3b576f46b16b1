"""Do segments and tags say what section headers say of the same bytes?

The linker writes both: sections for tools, segments and tags for the kernel and ld.so. A tool that changes
one of the two leaves a file that looks right and runs otherwise: a relocation less, constants that can be
written, initial values of threads that are zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.elf import Elf
from pipeline.elf.image import (
    DT_JMPREL,
    DT_PLTRELSZ,
    DT_RELA,
    DT_RELASZ,
    DT_RELR,
    DT_RELRSZ,
    PF_W,
    PF_X,
    PT_GNU_EH_FRAME,
    PT_INTERP,
    PT_LOAD,
)
from pipeline.elf.layout import SectionHeader, sections
from pipeline.elf.notes import PT_GNU_PROPERTY, PT_NOTE
from pipeline.elf.relocatable import SHF_EXECINSTR

PT_TLS = 7
SHT_NOTE, SHT_NOBITS = 7, 8
SHF_WRITE, SHF_ALLOC, SHF_TLS = 1, 2, 0x400
_NAMES = {PT_INTERP: "the interpreter", PT_NOTE: "notes", PT_TLS: "thread-local data",
          PT_GNU_EH_FRAME: "the table of frames", PT_GNU_PROPERTY: "GNU properties"}  # fmt: skip
#: What ld.so does at the start and the end, by the types of its sections and the tags of its tables.
_TABLES: dict[str, tuple[tuple[int, ...], tuple[tuple[int, int], ...]]] = {
    "relocations": ((4,), ((DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ))),
    "packed relocations": ((19,), ((DT_RELR, DT_RELRSZ),)),
    "constructors": ((14,), ((25, 27),)),
    "destructors": ((15,), ((26, 28),)),
}

#: From an address up to another.
Range = tuple[int, int]


def faults(binary: Elf) -> list[str]:
    """What disagrees, in words; none if nothing does or if the file has no section headers.

    Raises `MalformedInput`.
    """
    headers = [s for s in sections(binary) if s.flags & SHF_ALLOC]
    found = list(_places(binary))
    if headers:
        found += [*_access(binary, headers), *_parts(binary, headers)]
        if binary.dynamic:
            found += _tables(binary, headers)
    return found


def _places(binary: Elf) -> Iterator[str]:
    """The kernel goes by a segment's offset, ld.so by its address."""
    for segment in binary.segments:
        if segment.type in _NAMES and segment.filesz:
            start, _ = binary.window(segment.vaddr, _NAMES[segment.type])
            if start != segment.offset:
                yield (
                    f"{_NAMES[segment.type]} at {start:#x} in the file by address, at {segment.offset:#x} by "
                    "offset"
                )


def _access(binary: Elf, headers: Iterable[SectionHeader]) -> Iterator[str]:
    """What is mapped writable or executable is what has to be, and no more."""
    loads = [s for s in binary.segments if s.type == PT_LOAD]
    wanted = dict.fromkeys(loads, 0)
    for section in headers:
        if not section.size or (section.flags & SHF_TLS and section.type == SHT_NOBITS):
            continue
        holding = [s for s in loads if s.holds(section.addr, section.size)]
        if not holding:
            yield f"the section at {section.addr:#x} is in no segment"
            continue
        wanted[holding[-1]] |= PF_W * bool(section.flags & SHF_WRITE)
        wanted[holding[-1]] |= PF_X * bool(section.flags & SHF_EXECINSTR)
    for load, flags in wanted.items():
        for bit, word in ((PF_W, "writable"), (PF_X, "executable")):
            if (load.flags ^ flags) & bit:
                is_, are = ("", "not ") if load.flags & bit else ("not ", "")
                yield f"the segment at {load.vaddr:#x} is {is_}{word}, its sections are {are}so"


def _parts(binary: Elf, headers: list[SectionHeader]) -> Iterator[str]:
    """Thread-local data and notes: the segments hold the sections that are such."""
    local = [s for s in headers if s.flags & SHF_TLS and s.size]
    start, end = min((s.addr for s in local), default=0), max((s.addr + s.size for s in local), default=0)
    filled = max((s.addr + s.size for s in local if s.type != SHT_NOBITS), default=start)
    sizes = {(start, filled - start, end - start)} if local else set()
    segments = {(s.vaddr, s.filesz, s.memsz) for s in binary.segments if s.type == PT_TLS and s.memsz}
    if sizes != segments:
        yield (
            f"thread-local data at {_shown(segments)} by the segments, at {_shown(sizes)} by the sections "
            "(address, bytes in the file, in memory)"
        )
    notes = [s for s in binary.segments if s.type == PT_NOTE]
    for section in headers:
        if section.type == SHT_NOTE and not any(s.holds(section.addr, section.size) for s in notes):
            yield f"the notes at {section.addr:#x} are in no segment of notes"


def _tables(binary: Elf, headers: Iterable[SectionHeader]) -> Iterator[str]:
    for what, (types, tags) in _TABLES.items():
        there = _joined((s.addr, s.addr + s.size) for s in headers if s.type in types)
        named = _joined(
            (binary.tags[at], binary.tags[at] + binary.tags.get(size, 0))
            for at, size in tags
            if at in binary.tags
        )
        if there != named:
            yield f"{what} at {_shown(named)} by the tags, at {_shown(there)} by the sections"


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """Ranges in order, those that meet as one: some linkers count one table as part of another."""
    found: list[Range] = []
    for start, end in sorted(r for r in ranges if r[0] < r[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _shown(found: Iterable[tuple[int, ...]]) -> str:
    return ", ".join("-".join(f"{n:#x}" for n in one) for one in sorted(found)) or "none"
