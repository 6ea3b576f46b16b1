"""Where two packages that should be the same first differ: a field, a file, a section, a symbol."""

from __future__ import annotations

import io
from dataclasses import fields
from itertools import zip_longest
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section, SymbolTableSection

from pipeline.core.errors import MalformedInput
from pipeline.elf.damaged import DAMAGED
from pipeline.rpm import package

#: Fields of `package.Rpm` that follow from the others.
_DERIVED = frozenset(
    {"path", "files", "header_sha256", "payload_digest", "payload_digest_alt", "payload_offset", "size"}
)
ELF = b"\x7fELF"
SHOWN = 60


def first_difference(one: Path, other: Path) -> str:
    """The first difference of two packages in words, "" if they have the same bytes.

    Files of the payload come before the lists that follow from them. Raises `MalformedInput`.
    """
    if one.read_bytes() == other.read_bytes():
        return ""
    with package.payload(one) as ours, package.payload(other) as theirs:
        for a, b in zip_longest(ours, theirs):
            if a is None or b is None:
                return f"{(a or b).name} is in one of them only"
            if a.name != b.name:
                return f"{a.name} stands where the other has {b.name}"
            left, right = a.read(), b.read()
            if left != right:
                return f"{a.name}: {_bytes(left, right)}"
    if found := _metadata(package.read(one), package.read(other)):
        return found
    ours_raw, theirs_raw = package.fields(one), package.fields(other)
    tags = [t for t in sorted({*ours_raw, *theirs_raw}) if ours_raw.get(t) != theirs_raw.get(t)]
    return f"the header, in tag {', '.join(map(str, tags))}" if tags else "the signature header"


def _metadata(one: package.Rpm, other: package.Rpm) -> str:
    for field in fields(package.Rpm):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if field.name not in _DERIVED and left != right:
            return f"{field.name}: {_short(left)} and {_short(right)}"
    for a, b in zip(one.files, other.files, strict=False):
        for field in fields(package.FileEntry):
            left, right = getattr(a, field.name), getattr(b, field.name)
            if left != right:
                return f"{a.path}: {field.name} is {_short(left)} and {_short(right)}"
    return ""


def _bytes(left: bytes, right: bytes) -> str:
    if left.startswith(ELF) and right.startswith(ELF):
        try:
            if found := _elf(left, right):
                return found
        except (MalformedInput, *DAMAGED):  # then by its bytes
            pass
    at = _offset(left, right)
    return f"byte {at}: {left[at : at + 24]!r} and {right[at : at + 24]!r}"


def _elf(left: bytes, right: bytes) -> str:
    """The first section that differs and the symbol that it differs in, "" if all sections are the same.

    Code comes first, then data, then what follows from them, and last the build id, which follows from all.
    """
    ours, theirs = ELFFile(io.BytesIO(left)), ELFFile(io.BytesIO(right))
    found = []
    for a, b in zip_longest(ours.iter_sections(), theirs.iter_sections()):
        if a is None or b is None:
            return f"section {(a or b).name} is in one of them only"
        if a.name != b.name:
            return f"section {a.name} stands where the other has {b.name}"
        if a["sh_type"] == "SHT_NOBITS" or (mine := a.data()) == (other := b.data()):
            continue
        at = _offset(mine, other)
        what = f"{mine[at : at + 24]!r} and {other[at : at + 24]!r}"
        found.append((_rank(a), f"section {a.name}{_symbol(ours, a, at)}, byte {at}: {what}"))
    return min(found, key=lambda ranked: ranked[0])[1] if found else ""


def _rank(section: Section) -> int:
    """How early a difference in a section is worth naming."""
    flags = section["sh_flags"]
    if section["sh_type"] != "SHT_PROGBITS":
        return 3 if section["sh_type"] == "SHT_NOTE" else 2
    return 0 if flags & SH_FLAGS.SHF_EXECINSTR else 1 if flags & SH_FLAGS.SHF_ALLOC else 2


def _symbol(elf: ELFFile, section: Section, at: int) -> str:
    """``, NAME+OFFSET`` of the symbol that has a byte of a section, "" if none has."""
    address = section["sh_addr"] + at
    for table in elf.iter_sections():
        if not isinstance(table, SymbolTableSection):
            continue
        for symbol in table.iter_symbols():
            start = symbol["st_value"] if section["sh_addr"] else section["sh_addr"] + symbol["st_value"]
            if not section["sh_addr"] and symbol["st_shndx"] != elf.get_section_index(section.name):
                continue
            if symbol.name and start <= address < start + symbol["st_size"]:
                return f", {symbol.name}+{address - start}"
    return ""


def _offset(left: bytes, right: bytes) -> int:
    """The first byte that differs; the length of the shorter one if it begins the other."""
    return next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
