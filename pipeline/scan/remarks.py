"""What is worth knowing of a file and decides nothing: the processor, kernel and stack it asks for."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pipeline.core.arch import ARCHES
from pipeline.elf import Elf
from pipeline.elf.image import DT_RELR, PT_LOAD
from pipeline.elf.layout import PAGE

_PT_NOTE, _PT_GNU_STACK, _PT_GNU_PROPERTY = 4, 0x6474E551, 0x6474E553
_PF_X = 1
#: Notes of the name "GNU" (elf.h): the oldest kernel, and the properties.
_NT_GNU_ABI_TAG, _NT_GNU_PROPERTY = 1, 5
#: The ISA levels a program needs, as bits (x86-64 psABI, GNU_PROPERTY_X86_ISA_1_NEEDED).
_ISA_NEEDED = 0xC0008002
_ISA_LEVELS = {1: "x86-64-baseline", 2: "x86-64-v2", 4: "x86-64-v3", 8: "x86-64-v4"}
_R_X86_64_TLSDESC = 36
_NOTE = struct.Struct("<3I")
#: A kernel older than this is older than any of these releases runs on.
_USUAL_KERNEL = (3, 10, 0)


def remarks_of(binary: Elf, arch: str) -> tuple[str, ...]:
    """The remarks on a file, none for most. Notes that are cut short are passed over: ld.so does so too."""
    found = []
    for kind, name, raw in _notes(binary):
        if name != b"GNU\0":
            continue
        if kind == _NT_GNU_ABI_TAG and len(raw) >= 16:
            kernel = struct.unpack_from("<4I", raw)[1:]
            if kernel > _USUAL_KERNEL:
                found.append(f"asks for Linux {'.'.join(map(str, kernel))} (ABI tag)")
        elif kind == _NT_GNU_PROPERTY and (level := _isa_level(raw)):
            found.append(f"needs a processor of {level} (ISA level)")
    stacks = [s for s in binary.segments if s.type == _PT_GNU_STACK]
    if any(s.flags & _PF_X for s in stacks) or (not stacks and arch == "x86_64"):
        found.append("has an executable stack")
    if DT_RELR in binary.tags:
        found.append("has packed relative relocations (RELR)")
    if arch == "x86_64" and binary.dynamic and _R_X86_64_TLSDESC in binary.relocation_types:
        found.append("uses TLS descriptors (GNU2_TLS)")
    page = ARCHES[arch].largest_page if arch in ARCHES else PAGE
    if any((s.vaddr - s.offset) % page for s in binary.segments if s.type == PT_LOAD):
        found.append(f"does not load where pages are of {page >> 10} KiB (segments aligned to less)")
    return tuple(dict.fromkeys(found))


def _notes(binary: Elf) -> Iterator[tuple[int, bytes, bytes]]:
    """(type, name, content) of the notes in PT_NOTE and PT_GNU_PROPERTY; those of 8 bytes' alignment too."""
    for segment in binary.segments:
        if segment.type not in (_PT_NOTE, _PT_GNU_PROPERTY):
            continue
        align = 8 if segment.align == 8 else 4
        data = binary.data[segment.offset : segment.offset + segment.filesz]
        at = 0
        while at + _NOTE.size <= len(data):
            names, content, kind = _NOTE.unpack_from(data, at)
            start = at + -(-(_NOTE.size + names) // align) * align
            if start + content > len(data):
                break
            yield kind, data[at + _NOTE.size : at + _NOTE.size + names], data[start : start + content]
            at = start + -(-content // align) * align


def _isa_level(raw: bytes) -> str:
    """The highest level among the properties, "" for none or the baseline."""
    at, bits = 0, 0
    while at + 8 <= len(raw):
        kind, size = struct.unpack_from("<2I", raw, at)
        if kind == _ISA_NEEDED and size == 4 and at + 12 <= len(raw):
            bits |= struct.unpack_from("<I", raw, at + 8)[0]
        at += 8 + -(-size // 8) * 8
    return _ISA_LEVELS.get(1 << (bits.bit_length() - 1), "") if bits > 1 else ""
