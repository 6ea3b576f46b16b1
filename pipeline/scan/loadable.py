"""What every ld.so refuses whatever symbols there are: headers, the dynamic section, kinds of relocations.

The rules of glibc's elf/dl-load.c (open_verify, _dl_map_object_from_fd) and of each architecture's
dl-machine.h.
Of a program the kernel reads the header, and looks at less.
"""

from __future__ import annotations

import struct

from pipeline.elf import Elf
from pipeline.elf.image import (
    DF_1_PIE,
    DT_FLAGS_1,
    DT_PLTREL,
    DT_RELA,
    DT_RELAENT,
    DT_VERDEF,
    DT_VERNEED,
    DT_VERSYM,
    ET_EXEC,
    PT_GNU_RELRO,
    PT_LOAD,
)
from pipeline.elf.layout import PAGE

#: e_ident[EI_OSABI]: System V and GNU, with what e_ident[EI_ABIVERSION] may be at most.
OS_ABIS = {0: 0, 3: 3}
#: DT_ANDROID_REL, DT_ANDROID_RELA and DT_ANDROID_RELR, as lld's --pack-dyn-relocs=android writes them.
_ANDROID = (0x6000000F, 0x60000011, 0x6FFFE000)
#: Bytes of a relocation (Elf64_Rela).
RELA_SIZE = 24
#: Relocations that ld.so applies.
_RELOCATIONS = {
    "x86_64": {0, 1, 2, 5, 6, 7, 8, 10, 16, 17, 18, 24, 32, 33, 36, 37, 38},
    "aarch64": {0, 257, 1024, 1025, 1026, 1027, 1028, 1029, 1030, 1031, 1032},
}


def refused(binary: Elf, arch: str, *, library: bool) -> str:
    """Why no ld.so loads the file, "" if one does."""
    if not binary.dynamic:
        return "it has no dynamic section"
    if library and (why := _header(binary)):
        return why
    if library and binary.type == ET_EXEC:
        return "it is an executable of a fixed address (ET_EXEC) and names no loader"
    if any((s.vaddr - s.offset) % PAGE for s in binary.segments if s.type == PT_LOAD):
        return "a segment begins at another place of a page than in the file"
    if _relro_is_unmapped(binary, library=library):
        return "what is to be made read-only (PT_GNU_RELRO) is not all mapped"
    return _tables(binary, arch)


def unsure(binary: Elf) -> str:
    """Why it cannot be said what ld.so makes of the file, "" if it can."""
    if binary.tags.keys().isdisjoint(_ANDROID):
        return ""
    return "has packed relocations of Android's form, which ld.so leaves out"


def _relro_is_unmapped(binary: Elf, *, library: bool) -> bool:
    """Whether mprotect is refused, which ends the program (elf/dl-reloc.c: _dl_protect_relro).

    The kernel maps the segments of a program and nothing between them, ld.so a library in one piece.
    """
    loads = [(s.vaddr // PAGE, -(-(s.vaddr + s.memsz) // PAGE)) for s in binary.segments if s.type == PT_LOAD]
    if library and loads:
        loads = [(loads[0][0], loads[-1][1])]
    for relro in (s for s in binary.segments if s.type == PT_GNU_RELRO):
        at, end = relro.vaddr // PAGE, (relro.vaddr + relro.memsz) // PAGE
        for first, last in loads:
            if first <= at < last:
                at = last
        if at < end:
            return True
    return False


def _tables(binary: Elf, arch: str) -> str:
    """Why ld.so refuses what the dynamic section names."""
    if DT_VERSYM not in binary.tags and (DT_VERNEED in binary.tags or DT_VERDEF in binary.tags):
        return "it has versions and no table that says which symbol has which (DT_VERSYM)"
    if binary.tags.get(DT_PLTREL, DT_RELA) != DT_RELA:
        return "it has relocations of a form (DT_REL) that ld.so asserts there is not"
    if DT_RELA in binary.tags and binary.tags.get(DT_RELAENT) != RELA_SIZE:
        return f"its relocations are not of {RELA_SIZE} bytes (DT_RELAENT), as ld.so asserts"
    unknown = binary.relocation_types - _RELOCATIONS.get(arch, binary.relocation_types)
    return f"it has relocations of type {min(unknown)}, which ld.so does not know" if unknown else ""


#: A version of glibc as numbers.
Version = tuple[int, int]


def refused_before(binary: Elf) -> tuple[tuple[Version, str], ...]:
    """What older loaders refuse of a library: the first glibc that does not, and why others do.

    Until 2.35 a segment's alignment had to be one of whole pages, and its address had to be aligned like its
    offset (upstream 163f625cf9).
    """
    for load in (s for s in binary.segments if s.type == PT_LOAD):
        if load.align % PAGE:
            return (((2, 35), f"a segment is aligned to {load.align} bytes, which are no whole pages"),)
        if (load.vaddr - load.offset) & (load.align - 1):
            return (((2, 35), "the address of a segment is not aligned as its offset in the file is"),)
    return ()


def _header(binary: Elf) -> str:
    ident = binary.data[:16]
    most = OS_ABIS.get(ident[7])
    if most is None:
        return f"its header names another system's ABI (EI_OSABI {ident[7]})"
    if ident[8] > most:
        return f"its header names version {ident[8]} of the ABI, which ld.so does not know"
    if any(ident[9:16]):
        return "the padding in its header is not zero"
    if struct.unpack_from("<I", binary.data, 20) != (1,):
        return "its header names another version of ELF (e_version)"
    return ""


def not_a_library(binary: Elf) -> str:
    """Why ld.so does not load a program for one that needs a library of its name, "" if it does."""
    if binary.type == ET_EXEC:
        return "an executable"
    return "a position-independent executable" if binary.tags.get(DT_FLAGS_1, 0) & DF_1_PIE else ""
