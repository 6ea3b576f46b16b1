"""An ELF file as the loader maps it: header, segments, dynamic section, and bytes by address.

Everything is found through the program headers and PT_DYNAMIC (gABI chapters 4 and 5), as ld.so does: by
address, never by p_offset of anything but PT_LOAD. Every offset is checked before it is followed: a file that
is not well formed raises `MalformedInput` with its name and what is wrong with it.
"""

from __future__ import annotations

import mmap
import struct
from functools import cached_property
from typing import NamedTuple

from pipeline.core.errors import MalformedInput

MAGIC = b"\x7fELF"

ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_RELRO = 1, 2, 3, 0x6474E552
PT_GNU_EH_FRAME, PT_GNU_STACK = 0x6474E550, 0x6474E551
PF_X, PF_W = 1, 2
DT_NULL, DT_NEEDED, DT_PLTRELSZ, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA = 0, 1, 2, 4, 5, 6, 7
DT_RELAENT, DT_PLTREL = 9, 20
DT_RELASZ, DT_STRSZ, DT_SYMENT, DT_SONAME, DT_RPATH, DT_JMPREL, DT_RUNPATH = 8, 10, 11, 14, 15, 23, 29
DT_GNU_HASH, DT_VERSYM, DT_RELACOUNT, DT_FLAGS_1 = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFF9, 0x6FFFFFFB
DT_RELR, DT_RELRSZ, DT_PLTGOT, DT_FLAGS = 36, 35, 3, 30
DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
DT_AUXILIARY, DT_FILTER = 0x7FFFFFFD, 0x7FFFFFFF
DF_1_PIE, DF_1_NODEFLIB = 0x08000000, 0x800

_EHDR = struct.Struct("<HHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_DYN = struct.Struct("<qQ")

Buffer = bytes | mmap.mmap


class ForeignElf(MalformedInput):
    """An ELF file of a kind the pipeline does not read: 32-bit or big-endian."""


class Segment(NamedTuple):
    """A program header: ``type`` PT_*, ``flags`` PF_*, the rest bytes and addresses."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int
    align: int = 0

    def holds(self, address: int, size: int) -> bool:
        """Whether the memory ``address`` to ``address + size`` lies in this segment."""
        return self.vaddr <= address and address + size <= self.vaddr + self.memsz


class LoadedImage:
    """One 64-bit little-endian ELF file, never changed.

    ``name`` is what errors call it, ``type`` e_type, ``machine`` e_machine, ``flags`` e_flags. Raises
    `MalformedInput` (`ForeignElf` for a kind that is not read) when made, and for its parts when they are
    asked for.
    """

    def __init__(self, data: Buffer, name: str) -> None:
        self.name = name
        self.data = data
        if data[:4] != MAGIC:
            raise self.malformed("it does not begin with the ELF magic")
        ident = data[:16]
        if len(ident) == 16 and ident[4] == 1:
            raise ForeignElf(f"{name}: a 32-bit ELF file; only 64-bit ones are read")
        if len(ident) == 16 and ident[5] == 2:
            raise ForeignElf(f"{name}: a big-endian ELF file; only little-endian ones are read")
        if len(data) < 64:
            raise self.malformed(f"its header is cut short at {len(data)} of 64 bytes")
        if ident[4] != 2 or ident[5] != 1 or ident[6] != 1:
            raise self.malformed(f"unknown class, byte order or version ({ident[4:7].hex(' ')})")
        header = _EHDR.unpack_from(data, 16)
        self.type, self.machine, self.entry = header[0], header[1], header[3]
        self._shoff, self._shentsize, self._shnum = header[5], header[10], header[11]
        phoff, phentsize, phnum = header[4], header[8], header[9]
        if phnum and phentsize != _PHDR.size:
            raise self.malformed(f"program headers of {phentsize} bytes, not {_PHDR.size}")
        table = self._file_bytes(phoff, phnum * _PHDR.size, "the program headers") if phnum else b""
        self.segments = tuple(
            Segment(kind, flags, offset, vaddr, filesz, memsz, align)
            for kind, flags, offset, vaddr, _, filesz, memsz, align in _PHDR.iter_unpack(table)
        )
        # ld.so maps them in order: where two overlap, the later one is what a program sees
        self._loads = _joined([s for s in self.segments if s.type == PT_LOAD and s.filesz])[::-1]
        self.flags = header[6]
        self.tags: dict[int, int] = {}
        self.repeated_tags: list[int] = []
        self._needed_offsets: list[int] = []
        self._filter_offsets: list[int] = []
        self._auxiliary_offsets: list[int] = []
        self._read_dynamic()

    def malformed(self, what: str) -> MalformedInput:
        """The error to raise for this file."""
        return MalformedInput(
            f"{self.name}: malformed ELF file: {what}",
            hint="nothing can be said of this file; replace it by a whole one",
        )

    # -- bytes ------------------------------------------------------------------------------------------

    def _file_bytes(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > len(self.data):
            raise self.malformed(
                f"{what} would end at byte {offset + size} of a file of {len(self.data)} bytes"
            )
        return self.data[offset : offset + size]

    def window(self, address: int, what: str) -> tuple[int, int]:
        """File offset of ``address``, and the offset where its segment's bytes end."""
        for load in self._loads:
            into = address - load.vaddr
            if 0 <= into < load.filesz:
                end = load.offset + load.filesz
                if end > len(self.data):
                    raise self.malformed(
                        f"the segment of {what} ends at byte {end} of a file of {len(self.data)} bytes"
                    )
                return load.offset + into, end
        raise self.malformed(f"{what} at address {address:#x} lies in no loaded segment")

    def memory(self, address: int, size: int, what: str) -> bytes:
        """``size`` bytes at ``address`` as the loader would map them."""
        start, end = self.window(address, what)
        if size > end - start:
            raise self.malformed(f"{what} ({size} bytes at {address:#x}) goes beyond its segment")
        return self.data[start : start + size]

    def record(self, layout: struct.Struct, at: int, end: int, what: str) -> tuple[int, ...]:
        """The fields of one record at file offset ``at`` that must not go beyond ``end``."""
        if at + layout.size > end:
            raise self.malformed(f"{what} goes beyond its segment")
        return layout.unpack_from(self.data, at)

    # -- the dynamic section ----------------------------------------------------------------------------

    def _read_dynamic(self) -> None:
        found = [s for s in self.segments if s.type == PT_DYNAMIC and s.filesz]
        if not found:
            return
        if len(found) > 1:
            raise self.malformed("it has two PT_DYNAMIC segments")
        raw = self.memory(found[0].vaddr, found[0].filesz, "the dynamic section")
        for tag, value in _DYN.iter_unpack(raw[: len(raw) // _DYN.size * _DYN.size]):
            if tag == DT_NULL:
                return
            if tag == DT_NEEDED:
                self._needed_offsets.append(value)
            elif tag == DT_FILTER:
                self._filter_offsets.append(value)
            elif tag == DT_AUXILIARY:
                self._auxiliary_offsets.append(value)
            else:
                if tag in self.tags:
                    self.repeated_tags.append(tag)
                self.tags[tag] = value  # of a tag that is there twice ld.so takes the last
        raise self.malformed("its dynamic section has no end (DT_NULL)")

    @property
    def section_table(self) -> tuple[int, int, int]:
        """e_shoff, e_shentsize and e_shnum. The loader needs no sections."""
        return self._shoff, self._shentsize, self._shnum

    @property
    def dynamic(self) -> bool:
        """Whether there is a dynamic section with a symbol table."""
        return DT_SYMTAB in self.tags

    @property
    def is_shared_object(self) -> bool:
        """A library or module, not a position-independent program.

        libc.so.6 and ld.so can be run, yet have a soname; a program has none, and is marked as PIE by
        newer linkers or names an interpreter.
        """
        if self.type != ET_DYN or not self.dynamic:
            return False
        if DT_SONAME in self.tags:
            return True
        pie = self.tags.get(DT_FLAGS_1, 0) & DF_1_PIE
        return not pie and not any(s.type == PT_INTERP for s in self.segments)

    @property
    def begins(self) -> bool:
        """Whether the instruction that a program begins with is in the file."""
        return any(
            s.type == PT_LOAD and 0 <= self.entry - s.vaddr < min(s.filesz, len(self.data) - s.offset)
            for s in self.segments
        )

    @cached_property
    def interp(self) -> str:
        """The loader that PT_INTERP names, up to the first zero byte as the kernel has it, or ""."""
        for segment in self.segments:
            if (
                segment.type == PT_INTERP and segment.filesz
            ):  # nothing of it is in a file of debug information
                raw = self._file_bytes(segment.offset, segment.filesz, "the interpreter's name")
                if not raw.endswith(b"\0"):
                    raise self.malformed("the interpreter's name has no end")
                return text(raw[: raw.index(b"\0")])
        return ""

    @cached_property
    def strings(self) -> bytes:
        """The dynamic string table."""
        if DT_STRTAB not in self.tags or DT_STRSZ not in self.tags:
            raise self.malformed("it has no dynamic string table (DT_STRTAB, DT_STRSZ)")
        return self.memory(self.tags[DT_STRTAB], self.tags[DT_STRSZ], "the dynamic string table")

    def string(self, offset: int) -> str:
        """The name at ``offset`` in the dynamic string table."""
        strings = self.strings
        end = strings.find(b"\0", offset)
        if end < 0:
            raise self.malformed(
                f"a name at {offset:#x} lies outside the string table of {len(strings)} bytes"
            )
        return text(strings[offset:end])

    @cached_property
    def soname(self) -> str:
        """DT_SONAME, "" if there is none."""
        return self.string(self.tags[DT_SONAME]) if DT_SONAME in self.tags else ""

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """DT_NEEDED, in order."""
        return tuple(self.string(offset) for offset in self._needed_offsets)

    @cached_property
    def filters(self) -> tuple[str, ...]:
        """DT_FILTER: libraries that must be there as well, for it stands before them."""
        return tuple(self.string(offset) for offset in self._filter_offsets)

    @cached_property
    def auxiliaries(self) -> tuple[str, ...]:
        """DT_AUXILIARY: libraries that are loaded if they are there."""
        return tuple(self.string(offset) for offset in self._auxiliary_offsets)

    @cached_property
    def runpath(self) -> str:
        """DT_RUNPATH, or else DT_RPATH, or else ""."""
        for tag in (DT_RUNPATH, DT_RPATH):
            if tag in self.tags:
                return self.string(self.tags[tag])
        return ""

    def in_relro(self, address: int, size: int) -> bool:
        """Whether this memory is made read-only by the loader after relocation (PT_GNU_RELRO)."""
        return any(s.type == PT_GNU_RELRO and s.holds(address, size) for s in self.segments)

    def in_read_only_data(self, address: int, size: int) -> bool:
        """Whether this memory is mapped without write permission from the start.

        It may be executable: not every linker keeps constants and code in segments of their own.
        """
        return any(s.type == PT_LOAD and not s.flags & PF_W and s.holds(address, size) for s in self.segments)


def _joined(loads: list[Segment]) -> list[Segment]:
    """Segments that follow each other in file and memory as one: a table may go from one into the next.

    Strip and patchelf make such files (``.dynstr`` over two PT_LOADs), and ld.so never sees where one ends.
    """
    found: list[Segment] = []
    for load in loads:
        last = found[-1] if found else None
        if (
            last
            and last.filesz == last.memsz
            and (last.vaddr + last.filesz, last.offset + last.filesz) == (load.vaddr, load.offset)
        ):
            size = last.filesz + load.filesz
            found[-1] = last._replace(filesz=size, memsz=last.memsz + load.memsz)
        else:
            found.append(load)
    return found


def text(raw: bytes) -> str:
    """A name from a string table; bytes that are no UTF-8 stay visible as escapes."""
    return raw.decode("utf-8", "backslashreplace")
