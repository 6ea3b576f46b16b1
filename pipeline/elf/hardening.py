"""What a file is beside its symbols, in lines: how it is protected, whom it needs, what marks it carries.

Each line is one trait; two files of equal lines are equal in all that `elf.hardening` asks about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.elf import Elf
from pipeline.elf.image import (
    DT_GNU_HASH,
    DT_HASH,
    DT_RPATH,
    DT_RUNPATH,
    ET_DYN,
    ET_EXEC,
    PF_W,
    PF_X,
    PT_DYNAMIC,
    PT_GNU_RELRO,
    PT_GNU_STACK,
    PT_LOAD,
)
from pipeline.elf.layout import PAGE
from pipeline.elf.notes import EM_AARCH64, bits, describe

DT_PLTGOT, DT_INIT_ARRAY, DT_FINI_ARRAY, DT_TEXTREL, DT_BIND_NOW, DT_FLAGS = 3, 25, 26, 22, 24, 30
DT_FLAGS_1 = 0x6FFFFFFB
DF_TEXTREL, DF_BIND_NOW, DF_1_NOW = 4, 8, 1
_FLAGS = ("ORIGIN", "SYMBOLIC", "TEXTREL", "BIND_NOW", "STATIC_TLS")
_FLAGS_1 = (
    "NOW", "GLOBAL", "GROUP", "NODELETE", "LOADFLTR", "INITFIRST", "NOOPEN", "ORIGIN", "DIRECT", "TRANS",
    "INTERPOSE", "NODEFLIB", "NODUMP", "CONFALT", "ENDFILTEE", "DISPRELDNE", "DISPRELPND", "NODIRECT",
    "IGNMULDEF", "NOKSYMS", "NOHDR", "EDITED", "NORELOC", "SYMINTPOSE", "GLOBAUDIT", "SINGLETON", "STUB",
    "PIE",
)  # fmt: skip
#: Tags of the AArch64 psABI; the first two come from the compiler's branch protection.
_AARCH64_TAGS = {0x70000001: "property BTI PLT", 0x70000003: "property PAC PLT", 0x70000005: "variant-pcs"}
#: Tags by which ld.so looks elsewhere for symbols, binds them otherwise, or has others look on; true: the
#: value is a string. No file of glibc has one (gABI chapter 5, and Sun's extensions).
_ELSEWHERE = {
    16: ("symbolic", False), 32: ("preinit-array", False), 0x6FFFFEFA: ("config", True),
    0x6FFFFEFB: ("depaudit", True), 0x6FFFFEFC: ("audit", True),
}  # fmt: skip
#: What belongs into RELRO where everything is bound at the start.
_PROTECTED = {DT_INIT_ARRAY: "init-array", DT_FINI_ARRAY: "fini-array", DT_PLTGOT: "got"}
_TYPES = {ET_EXEC: "EXEC", ET_DYN: "DYN"}
#: Lines that begin so depend on the compiler and its settings.
PROPERTY = "property "


def traits(binary: Elf, unresolved: Iterable[str] = ()) -> tuple[str, ...]:
    """The lines of a file; ``unresolved`` are the symbols that nothing loaded with it has.

    Raises `MalformedInput`.
    """
    return (
        *_header(binary),
        *_names(binary),
        *_protection(binary),
        *_marks(binary),
        *(f"unresolved {name}" for name in unresolved),
    )


def _header(binary: Elf) -> Iterator[str]:
    ident = binary.data[:16]
    yield f"type {_TYPES.get(binary.type, binary.type)}"
    yield f"osabi {ident[7]} version {ident[8]}"
    yield f"e_flags {binary.flags:#x}"


def _names(binary: Elf) -> Iterator[str]:
    """What it needs and where it looks; the order of DT_NEEDED is that of the search."""
    if binary.interp:
        yield f"interpreter {binary.interp}"
    yield f"needed {' '.join(binary.needed) or 'nothing'}"
    for tag, word in ((DT_RPATH, "rpath"), (DT_RUNPATH, "runpath")):
        if tag in binary.tags:
            yield f"{word} {binary.string(binary.tags[tag])}"
    for tag, (word, named) in _ELSEWHERE.items():
        if tag in binary.tags:
            yield f"{word} {binary.string(binary.tags[tag])}" if named else word
    yield from (f"auxiliary {name}" for name in binary.auxiliaries)
    yield from (f"filter {name}" for name in binary.filters)


def _protection(binary: Elf) -> Iterator[str]:
    stacks = [s for s in binary.segments if s.type == PT_GNU_STACK]
    yield f"stack {_access(stacks[0].flags) if stacks else 'executable: no PT_GNU_STACK'}"
    yield "relro " + (", ".join(_protected(binary)) or "none")
    for segment in binary.segments:
        if segment.type == PT_LOAD and segment.flags & PF_W and segment.flags & PF_X:
            yield f"segment {_access(segment.flags)}"
    flags, flags_1 = binary.tags.get(DT_FLAGS, 0), binary.tags.get(DT_FLAGS_1, 0)
    now = DT_BIND_NOW in binary.tags or flags & DF_BIND_NOW or flags_1 & DF_1_NOW
    yield f"binding {'at the start' if now else 'lazy'}"
    if DT_TEXTREL in binary.tags or flags & DF_TEXTREL:
        yield "text relocations"


def _access(flags: int) -> str:
    return "".join(letter if flags & bit else "-" for bit, letter in ((4, "r"), (2, "w"), (1, "x")))


def _protected(binary: Elf) -> Iterator[str]:
    """What lies in the part of PT_GNU_RELRO that ld.so really protects: whole pages (elf/dl-reloc.c)."""
    for segment in binary.segments:
        if segment.type != PT_GNU_RELRO:
            continue
        start, end = segment.vaddr // PAGE * PAGE, (segment.vaddr + segment.memsz) // PAGE * PAGE
        if start >= end:
            yield "less than a page"
            continue
        yield "yes"
        places = [(s.vaddr, "dynamic") for s in binary.segments if s.type == PT_DYNAMIC]
        places += [(binary.tags[tag], what) for tag, what in _PROTECTED.items() if tag in binary.tags]
        for address, what in places:
            if start <= address < end:
                yield what


def _marks(binary: Elf) -> Iterator[str]:
    styles = [word for tag, word in ((DT_GNU_HASH, "gnu"), (DT_HASH, "sysv")) if tag in binary.tags]
    yield f"hash {' '.join(styles) or 'none'}"
    yield f"flags {bits(binary.tags.get(DT_FLAGS, 0), _FLAGS) or 'none'}"
    yield f"flags-1 {bits(binary.tags.get(DT_FLAGS_1, 0), _FLAGS_1) or 'none'}"
    lines, properties = describe(binary)
    yield from lines
    if binary.machine == EM_AARCH64:
        properties += [word for tag, word in _AARCH64_TAGS.items() if tag in binary.tags]
    yield from properties
