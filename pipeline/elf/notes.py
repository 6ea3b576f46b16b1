"""Notes of an ELF file that the kernel, ld.so or an auditor goes by: ABI tag, build id, GNU properties.

Layouts: gABI chapter 5 (notes), the Linux gABI extensions and the psABIs of x86-64 and AArch64 (properties).
Notes are found by program headers, as the loader finds them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pipeline.elf.image import LoadedImage

PT_NOTE, PT_GNU_PROPERTY = 4, 0x6474E553
NT_GNU_ABI_TAG, NT_GNU_BUILD_ID, NT_GNU_PROPERTY_TYPE_0 = 1, 3, 5
EM_X86_64, EM_AARCH64 = 62, 183
_HEADER = struct.Struct("<3I")
_PROPERTY = struct.Struct("<2I")
_SYSTEMS = {0: "Linux", 1: "Hurd", 2: "Solaris", 3: "FreeBSD"}
#: ISA levels of the x86-64 psABI, lowest first: the bits of GNU_PROPERTY_X86_ISA_1_*.
ISA_LEVELS = ("x86-64-baseline", "x86-64-v2", "x86-64-v3", "x86-64-v4")
#: machine -> property type -> its name and those of its bits, lowest first
_PROPERTIES: dict[int, dict[int, tuple[str, tuple[str, ...]]]] = {
    EM_X86_64: {
        0xC0000002: ("x86 features", ("IBT", "SHSTK", "LAM_U48", "LAM_U57")),
        0xC0008002: ("x86 ISA needed", ISA_LEVELS),
        0xC0010002: ("x86 ISA used", ISA_LEVELS),
    },
    EM_AARCH64: {0xC0000000: ("AArch64 features", ("BTI", "PAC", "GCS"))},
}


def notes(image: LoadedImage, kind: int = PT_NOTE) -> Iterator[tuple[str, int, bytes]]:
    """Owner, type and descriptor of every note in segments of one kind. Raises `MalformedInput`."""
    for segment in image.segments:
        if segment.type != kind or not segment.filesz:
            continue
        raw = image.memory(segment.vaddr, segment.filesz, "the notes")
        align = 8 if segment.align == 8 else 4
        at = 0
        while at + _HEADER.size <= len(raw):
            name_size, size, number = _HEADER.unpack_from(raw, at)
            start = _up(at + _HEADER.size + name_size, align)
            if start + size > len(raw):
                raise image.malformed("a note goes beyond its segment")
            owner = raw[at + _HEADER.size : at + _HEADER.size + name_size].rstrip(b"\0")
            yield owner.decode("latin-1"), number, raw[start : start + size]
            at = _up(start + size, align)


def _up(offset: int, align: int) -> int:
    return -(-offset // align) * align


def describe(image: LoadedImage) -> tuple[list[str], list[str]]:
    """Lines for the notes that do not depend on the compiler, and for the properties, which do.

    ``abi-tag Linux 3.2.0`` (the oldest kernel it runs on), ``build-id 20 bytes``; ``property x86 features:
    IBT SHSTK``. Raises `MalformedInput`.
    """
    lines: list[str] = []
    properties: list[str] = []
    loose = False
    for owner, kind, raw in notes(image):
        if owner == "GNU" and kind == NT_GNU_ABI_TAG and len(raw) >= 16:
            system, *version = struct.unpack_from("<4I", raw)
            name = _SYSTEMS.get(system, f"system {system}")
            lines.append(f"abi-tag {name} {'.'.join(map(str, version))}")
        elif owner == "GNU" and kind == NT_GNU_BUILD_ID:
            lines.append(f"build-id {len(raw)} bytes")
        elif owner == "GNU" and kind == NT_GNU_PROPERTY_TYPE_0:
            loose = True
        else:
            lines.append(f"note {owner} {kind}")
    for _, kind, raw in notes(image, PT_GNU_PROPERTY):  # where the kernel and ld.so look for them
        if kind == NT_GNU_PROPERTY_TYPE_0:
            properties += _described(image, raw)
            loose = False
    if loose:
        properties.append("property note that no PT_GNU_PROPERTY names")
    return lines, properties


def _described(image: LoadedImage, raw: bytes) -> Iterator[str]:
    at = 0
    while at + _PROPERTY.size <= len(raw):
        kind, size = _PROPERTY.unpack_from(raw, at)
        at += _PROPERTY.size
        if at + size > len(raw):
            raise image.malformed("a property goes beyond its note")
        value = int.from_bytes(raw[at : at + size], "little")
        title, names = _PROPERTIES.get(image.machine, {}).get(kind, (f"{kind:#x}", ()))
        yield f"property {title}: {bits(value, names) or 'none'}"
        at = _up(at + size, 8)


def bits(value: int, names: tuple[str, ...]) -> str:
    """Names of the bits that are set, those without a name in hexadecimal."""
    known = [name for n, name in enumerate(names) if value >> n & 1]
    rest = value >> len(names) << len(names)
    return " ".join([*known, *([f"{rest:#x}"] if rest else [])])
