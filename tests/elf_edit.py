"""Edits of real ELF files, each wrong in exactly one way, that leave every listing as it was."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from pipeline import elf
from pipeline.elf import Elf, versions
from pipeline.elf.image import DT_GNU_HASH, DT_SYMTAB, DT_VERDEF, DT_VERNEED, DT_VERSYM
from pipeline.elf.lookup import Lookup, gnu_hash

#: (the file's bytes, the file as it was) -> changed in place
Edit = Callable[[bytearray, Elf], None]


def edit(file: Path, change: Edit) -> None:
    """Apply one edit to a file in place; it must change something."""
    before = file.read_bytes()
    data = bytearray(before)
    change(data, elf.parse(before, file.name))
    assert data != before, "the edit changed nothing"
    file.write_bytes(data)


def _put(data: bytearray, layout: str, at: int, *values: int) -> None:
    struct.pack_into("<" + layout, data, at, *values)


def symbol_index(binary: Elf, name: str) -> int:
    return next(n for n, s in enumerate(binary.all_symbols, 1) if s.name == name)


def symbol_at(binary: Elf, name: str) -> int:
    """File offset of a symbol's entry."""
    return binary.window(binary.tags[DT_SYMTAB], "x")[0] + 24 * symbol_index(binary, name)


def out_of_the_chain(name: str) -> Edit:
    """The hash in the GNU hash table's chain is another: the symbol is in the table alone."""

    def change(data: bytearray, binary: Elf) -> None:
        at, _ = binary.window(binary.tags[DT_GNU_HASH], "x")
        buckets, first, bloom, _ = struct.unpack_from("<4I", data, at)
        link = at + 16 + 8 * bloom + 4 * buckets + 4 * (symbol_index(binary, name) - first)
        (value,) = struct.unpack_from("<I", data, link)
        _put(data, "I", link, value ^ 0x100)

    return change


def out_of_the_bloom(name: str) -> Edit:
    """A bit of the Bloom filter that only this symbol needs is cleared."""

    def change(data: bytearray, binary: Elf) -> None:
        at, _ = binary.window(binary.tags[DT_GNU_HASH], "x")
        _, _, words, shift = struct.unpack_from("<4I", data, at)

        def bits(hashed: int) -> set[tuple[int, int]]:
            word = (hashed >> 6) & (words - 1)
            return {(word, hashed & 63), (word, (hashed >> shift) & 63)}

        others = [bits(gnu_hash(s.name.encode())) for s in binary.defined if s.name != name]
        lone = bits(gnu_hash(name.encode())).difference(*others)
        assert lone, f"{name} has no bit of its own"
        word, bit = sorted(lone)[0]
        (value,) = struct.unpack_from("<Q", data, at + 16 + 8 * word)
        _put(data, "Q", at + 16 + 8 * word, value & ~(1 << bit))

    return change


def empty_bucket(name: str) -> Edit:
    """The bucket of this symbol (and of all that share it) is empty."""

    def change(data: bytearray, binary: Elf) -> None:
        at, _ = binary.window(binary.tags[DT_GNU_HASH], "x")
        buckets, _, bloom, _ = struct.unpack_from("<4I", data, at)
        _put(data, "I", at + 16 + 8 * bloom + 4 * (gnu_hash(name.encode()) % buckets), 0)

    return change


def _definition_at(binary: Elf, node: str) -> int:
    at, _ = binary.window(binary.tags[DT_VERDEF], "x")
    for definition in Lookup(binary).definitions:
        if definition.name == node:
            return at
        at += struct.unpack_from("<I", binary.data, at + 16)[0]
    raise AssertionError(f"no {node}")


def verdef_hash(node: str) -> Edit:
    return lambda data, binary: _put(data, "I", _definition_at(binary, node) + 8, 0x1234567)


def verdef_flags(node: str, flags: int) -> Edit:
    return lambda data, binary: _put(data, "H", _definition_at(binary, node) + 2, flags)


def verdef_revision(node: str) -> Edit:
    return lambda data, binary: _put(data, "H", _definition_at(binary, node), 2)


def without_parent(node: str) -> Edit:
    """The node's list of names ends after its own."""

    def change(data: bytearray, binary: Elf) -> None:
        at = _definition_at(binary, node)
        _put(data, "H", at + 6, 1)
        _put(data, "I", at + struct.unpack_from("<I", data, at + 12)[0] + 4, 0)

    return change


def _requirement_at(binary: Elf, node: str) -> int:
    """File offset of the Vernaux of a node that is needed."""
    at, _ = binary.window(binary.tags[DT_VERNEED], "x")
    while True:
        _, _, _, aux, step = struct.unpack_from("<HHIII", binary.data, at)
        aux += at
        while True:
            _, _, _, name, link = struct.unpack_from("<IHHII", binary.data, aux)
            if binary.string(name) == node:
                return int(aux)
            if not link:
                break
            aux += link
        if not step:
            raise AssertionError(f"{node} is not needed")
        at += step


def verneed_hash(node: str) -> Edit:
    return lambda data, binary: _put(data, "I", _requirement_at(binary, node), 0x1234567)


def verneed_weak(node: str) -> Edit:
    return lambda data, binary: _put(data, "H", _requirement_at(binary, node) + 4, versions.VER_FLG_WEAK)


def hidden_version(name: str) -> Edit:
    """``name@@NODE`` becomes ``name@NODE``, or the other way round."""

    def change(data: bytearray, binary: Elf) -> None:
        at = binary.window(binary.tags[DT_VERSYM], "x")[0] + 2 * symbol_index(binary, name)
        _put(data, "H", at, struct.unpack_from("<H", data, at)[0] ^ 0x8000)

    return change


def symbol_info(name: str, binding: int, kind: int) -> Edit:
    return lambda data, binary: _put(data, "B", symbol_at(binary, name) + 4, binding << 4 | kind)


def symbol_other(name: str, other: int) -> Edit:
    return lambda data, binary: _put(data, "B", symbol_at(binary, name) + 5, other)


def symbol_value(name: str, value: int) -> Edit:
    return lambda data, binary: _put(data, "Q", symbol_at(binary, name) + 8, value)


def symbol_size(name: str, size: int) -> Edit:
    return lambda data, binary: _put(data, "Q", symbol_at(binary, name) + 16, size)


def segment_at(binary: Elf, kind: int, nth: int = 0) -> int:
    """File offset of the nth program header of a type."""
    found = [n for n, s in enumerate(binary.segments) if s.type == kind]
    return int(struct.unpack_from("<Q", binary.data, 32)[0] + 56 * found[nth])


def segment(kind: int, *, nth: int = 0, **fields: int) -> Edit:
    """Fields of a program header: type, flags, offset, vaddr, filesz, memsz, align."""
    where = {"type": ("I", 0), "flags": ("I", 4), "offset": ("Q", 8), "vaddr": ("Q", 16), "filesz": ("Q", 32),
             "memsz": ("Q", 40), "align": ("Q", 48)}  # fmt: skip

    def change(data: bytearray, binary: Elf) -> None:
        at = segment_at(binary, kind, nth)
        for name, value in fields.items():
            layout, into = where[name]
            _put(data, layout, at + into, value)

    return change


def dynamic_entry(binary: Elf, tag: int) -> int:
    """File offset of an entry of the dynamic section."""
    (segment,) = (s for s in binary.segments if s.type == elf.image.PT_DYNAMIC)
    start, _ = binary.window(segment.vaddr, "x")
    for at in range(start, start + segment.filesz, 16):
        if struct.unpack_from("<q", binary.data, at)[0] == tag:
            return at
    raise AssertionError(f"no tag {tag:#x}")


def tag_value(tag: int, value: int) -> Edit:
    return lambda data, binary: _put(data, "Q", dynamic_entry(binary, tag) + 8, value)


def tag_becomes(tag: int, other: int, value: int | None = None) -> Edit:
    """An entry of the dynamic section gets another tag, and a value if one is given."""

    def change(data: bytearray, binary: Elf) -> None:
        at = dynamic_entry(binary, tag)
        _put(data, "q", at, other)
        if value is not None:
            _put(data, "Q", at + 8, value)

    return change


def dynamic_copied() -> Edit:
    """PT_DYNAMIC's p_offset names a copy at the file's end: tools read that, ld.so the one in memory."""

    def change(data: bytearray, binary: Elf) -> None:
        (dynamic,) = (s for s in binary.segments if s.type == elf.image.PT_DYNAMIC)
        start, _ = binary.window(dynamic.vaddr, "x")
        at = -(-len(data) // 16) * 16
        data.extend(bytes(at - len(data)) + data[start : start + dynamic.filesz])
        _put(data, "Q", segment_at(binary, elf.image.PT_DYNAMIC) + 8, at)

    return change


def no_sections(data: bytearray, _: Elf) -> None:
    _put(data, "Q", 40, 0)
    _put(data, "H", 60, 0)
