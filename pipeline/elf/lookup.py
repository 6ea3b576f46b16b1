"""How ld.so finds a symbol in one file: hash table, versions, then the symbol itself.

This is glibc's algorithm (elf/dl-lookup.c: do_lookup_x, check_match; elf/dl-version.c) over the loaded image.
It shares with `Elf` only the bytes by address: no symbol is counted, no section header read, and the version
tables are walked by their links, for ld.so looks at no DT_VERDEFNUM. So what one reader is wrong about, the
other is not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from pipeline.elf import (
    SHN_ABS,
    SHN_UNDEF,
    STB_GLOBAL,
    STB_WEAK,
    STT_COMMON,
    STT_FUNC,
    STT_GNU_IFUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_TLS,
    STV_HIDDEN,
    STV_INTERNAL,
    Elf,
)
from pipeline.elf.image import (
    DT_GNU_HASH,
    DT_HASH,
    DT_SYMTAB,
    text,
)
from pipeline.elf.versions import MAX_VERSIONS
from pipeline.elf.walk import HIDDEN_BIT, Walked

STB_GNU_UNIQUE = 10
#: Types that ld.so accepts (ALLOWED_STT), and bindings: others are not found.
_TYPES = frozenset({STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_COMMON, STT_TLS, STT_GNU_IFUNC})
_BINDINGS = frozenset({STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE})
_LOCAL = frozenset({STV_HIDDEN, STV_INTERNAL})

_SYM = struct.Struct("<IBBHQQ")
_WORD = struct.Struct("<I")
_HASH = struct.Struct("<2I")
_GNU_HASH = struct.Struct("<4I")


def gnu_hash(name: bytes) -> int:
    """DT_GNU_HASH's hash of a name (Bernstein's, 32 bits)."""
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def elf_hash(name: bytes) -> int:
    """The gABI's hash of a name: of DT_HASH, vd_hash and vna_hash (28 bits)."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        value ^= (value >> 24) & 0xF0
        value &= 0x0FFFFFFF
    return value


class Raw(NamedTuple):
    """A symbol table entry: ``other`` is st_other whole, ``section`` st_shndx."""

    name: bytes
    binding: int
    type: int
    other: int
    section: int
    value: int
    size: int


class Lookup(Walked):
    """One file's symbols, as ld.so finds them. Tables raise `MalformedInput` when they are first used."""

    def __init__(self, binary: Elf) -> None:
        super().__init__(binary)
        self._symtab = binary.window(binary.tags[DT_SYMTAB], "the symbol table") if binary.dynamic else (0, 0)
        self._seen: dict[int, Raw] = {}

    # -- symbols ----------------------------------------------------------------------------------------

    def symbol(self, index: int) -> Raw:
        """The entry at ``index`` of the symbol table."""
        if index in self._seen:
            return self._seen[index]
        at, end = self._symtab
        name, info, other, section, value, size = self.binary.record(
            _SYM, at + _SYM.size * index, end, "the symbol table"
        )
        strings = self.binary.strings
        stop = strings.find(b"\0", name)
        if stop < 0:
            raise self.binary.malformed(f"a symbol's name at {name:#x} lies outside the string table")
        found = Raw(strings[name:stop], info >> 4, info & 15, other, section, value, size)
        return self._seen.setdefault(index, found)

    @cached_property
    def _gnu(self) -> tuple[tuple[int, ...], int, tuple[int, ...], int, int, int] | None:
        """Bloom words, shift, buckets, first symbol, and where the chains begin and must end."""
        binary = self.binary
        if DT_GNU_HASH not in binary.tags:
            return None
        at, end = binary.window(binary.tags[DT_GNU_HASH], "the GNU hash table")
        count, first, words, shift = binary.record(_GNU_HASH, at, end, "the GNU hash table")
        if not count or not words or words & (words - 1):
            raise binary.malformed(
                f"a GNU hash table of {count} buckets and {words} Bloom words, not a power of 2"
            )
        at += _GNU_HASH.size
        chains = at + 8 * words + 4 * count
        if chains > end:
            raise binary.malformed("the GNU hash table goes beyond its segment")
        bloom = struct.unpack_from(f"<{words}Q", binary.data, at)
        buckets = struct.unpack_from(f"<{count}I", binary.data, at + 8 * words)
        return bloom, shift & 63, buckets, first, chains, end

    def _gnu_chain(self, index: int) -> Iterator[tuple[int, int]]:
        """(symbol index, hash in the chain) from a bucket's first symbol to the chain's end."""
        assert self._gnu is not None
        first, at, end = self._gnu[3:]
        if index < first:
            raise self.binary.malformed(f"a bucket of the GNU hash table names symbol {index}, below {first}")
        at += 4 * (index - first)
        data, unpack = self.binary.data, _WORD.unpack_from
        while True:
            if at + 4 > end:
                raise self.binary.malformed("a chain of the GNU hash table goes beyond its segment")
            (value,) = unpack(data, at)
            yield index, value
            if value & 1:
                return
            index, at = index + 1, at + 4

    def _by_gnu_hash(self, name: bytes) -> Iterator[int]:
        """Candidates for ``name`` by DT_GNU_HASH, the Bloom filter first."""
        assert self._gnu is not None
        bloom, shift, buckets = self._gnu[:3]
        value = gnu_hash(name)
        word = bloom[(value >> 6) & (len(bloom) - 1)]
        if not (word >> (value & 63)) & (word >> ((value >> shift) & 63)) & 1:
            return
        start = buckets[value % len(buckets)]
        if start:
            for index, chained in self._gnu_chain(start):
                if (chained ^ value) >> 1 == 0:
                    yield index

    @cached_property
    def _sysv(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Buckets and chains of DT_HASH."""
        binary = self.binary
        if DT_HASH not in binary.tags:
            return None
        at, end = binary.window(binary.tags[DT_HASH], "the hash table")
        buckets, chains = binary.record(_HASH, at, end, "the hash table")
        if not buckets or at + 8 + 4 * (buckets + chains) > end:
            raise binary.malformed(f"a hash table of {buckets} buckets and {chains} symbols")
        words = struct.unpack_from(f"<{buckets + chains}I", binary.data, at + 8)
        return words[:buckets], words[buckets:]

    def _by_hash(self, start: int) -> Iterator[int]:
        """Symbols of a bucket of DT_HASH; a chain that runs in a circle is malformed."""
        assert self._sysv is not None
        chains = self._sysv[1]
        seen = 0
        while start:
            if start >= len(chains) or seen > len(chains):
                raise self.binary.malformed("a chain of the hash table has no end")
            yield start
            start, seen = chains[start], seen + 1

    @property
    def styles(self) -> tuple[int, ...]:
        """The hash tables there are; ld.so uses the first of them."""
        return tuple(tag for tag in (DT_GNU_HASH, DT_HASH) if tag in self.binary.tags)

    def hashed(self, style: int) -> dict[int, bytes]:
        """Every symbol that a hash table holds: index -> name. ``style`` is one of `styles`."""
        found: list[int] = []
        if style == DT_GNU_HASH and self._gnu:
            for start in self._gnu[2]:
                if start:
                    found += [index for index, _ in self._gnu_chain(start)]
        elif self._sysv:
            for start in self._sysv[0]:
                found += self._by_hash(start)
        return {index: self.symbol(index).name for index in found}

    # -- the lookup -------------------------------------------------------------------------------------

    def find(self, name: bytes, node: str | None, *, style: int | None = None) -> int | None:
        """Index of the symbol that a reference to ``name`` at ``node`` binds to, None if there is none.

        ``node`` None asks for no version, as dlsym does: the default one. ``style`` is the hash table to use
        (default: the one ld.so uses). A file without versions satisfies a reference with one.
        """
        style = style or (self.styles[0] if self.styles else 0)
        if style == DT_GNU_HASH:
            candidates = self._by_gnu_hash(name)
        elif style == DT_HASH and self._sysv:
            buckets = self._sysv[0]
            candidates = self._by_hash(buckets[elf_hash(name) % len(buckets)])
        else:
            return None
        version = None if node is None else (elf_hash(node.encode("utf-8", "surrogateescape")), node)
        defaults: list[int] = []
        for index in candidates:
            symbol = self.symbol(index)
            if not _eligible(symbol) or symbol.name != name:
                continue
            bits = self.bits(index)
            if version is not None and self.versym is not None:
                there = self.versions.get(bits & MAX_VERSIONS, (0, ""))
                if there != version and (there[0] or bits >= HIDDEN_BIT):
                    continue
            elif version is None and self.versym is not None and bits & MAX_VERSIONS >= 2:
                if bits < HIDDEN_BIT:
                    defaults.append(index)
                continue
            return index if _bindable(symbol) else None
        if len(defaults) == 1:
            return defaults[0] if _bindable(self.symbol(defaults[0])) else None
        return None

    def exported(self) -> Iterator[tuple[str, int, str, bool]]:
        """(name, version index, node or "", hidden) of every symbol that a reference can bind to.

        What the hash table ld.so uses does not lead to (also by its Bloom filter and buckets) is not there.
        """
        gnu = DT_GNU_HASH in self.binary.tags
        for index in self._led_to() if gnu else self.hashed(DT_HASH) if self.styles else ():
            symbol = self.symbol(index)
            if _eligible(symbol) and _bindable(symbol):
                bits = self.bits(index)
                node = self.versions.get(bits & MAX_VERSIONS, (0, ""))[1]
                yield text(symbol.name), bits & MAX_VERSIONS, node, bits >= HIDDEN_BIT

    def _led_to(self) -> Iterator[int]:
        """Symbols that DT_GNU_HASH leads to by their names: bucket, chain and Bloom filter fit."""
        if self._gnu is None:
            return
        bloom, shift, buckets = self._gnu[:3]
        words, count = len(bloom) - 1, len(buckets)
        seen: set[int] = set()
        for bucket, start in enumerate(buckets):
            for index, chained in self._gnu_chain(start) if start else ():
                value = gnu_hash(self.symbol(index).name)
                word = bloom[(value >> 6) & words]
                if (
                    value % count == bucket
                    and (chained ^ value) >> 1 == 0
                    and (word >> (value & 63)) & (word >> ((value >> shift) & 63)) & 1
                    and index not in seen
                ):
                    seen.add(index)
                    yield index


def _eligible(symbol: Raw) -> bool:
    if symbol.section == SHN_UNDEF or symbol.type not in _TYPES:
        return False
    return bool(symbol.value) or symbol.section == SHN_ABS or symbol.type == STT_TLS


def _bindable(symbol: Raw) -> bool:
    """Found, and then ignored: hidden, internal and local symbols."""
    return symbol.other & 3 not in _LOCAL and symbol.binding in _BINDINGS
