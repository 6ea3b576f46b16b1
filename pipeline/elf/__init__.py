"""What the loader knows of an ELF file: its dynamic symbols with their versions, and what it needs.

The formats are those of the gABI (chapter 5) and of the GNU extensions DT_GNU_HASH, DT_VERSYM, DT_VERDEF and
DT_VERNEED. Section headers may be absent or wrong without changing an answer about what a file defines.
Tables are unpacked in bulk and only when asked for, so that thousands of files can be read in seconds. A file
that is not well formed raises `MalformedInput` and never yields half an answer.
"""

from __future__ import annotations

import functools
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from pipeline.elf.image import (
    DT_GNU_HASH,
    DT_HASH,
    DT_JMPREL,
    DT_PLTRELSZ,
    DT_RELA,
    DT_RELACOUNT,
    DT_RELASZ,
    DT_SYMENT,
    DT_SYMTAB,
    DT_VERSYM,
    MAGIC,
    text,
)
from pipeline.elf.versions import MAX_VERSIONS, UNVERSIONED, Versioned

SHT_DYNSYM = 11
SHN_UNDEF, SHN_ABS = 0, 0xFFF1
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_COMMON, STT_TLS, STT_GNU_IFUNC = 0, 1, 2, 5, 6, 10
STV_DEFAULT, STV_INTERNAL, STV_HIDDEN, STV_PROTECTED = 0, 1, 2, 3

#: Files up to this many bytes are read, larger ones are mapped: only the pages that are needed come in.
READ_WHOLE = 1 << 16

_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
#: Of a relocation r_info only.
_RELA_INFO = struct.Struct("<8xQ8x")
_HASH = struct.Struct("<2I")
_GNU_HASH = struct.Struct("<4I")


class Symbol(NamedTuple):
    """A dynamic symbol.

    ``version`` is its node ("-": the file has no versions, "Base": the file's base version, "Local": index
    0); ``hidden`` is true for ``name@node``, false for the default version ``name@@node``. ``section`` is
    st_shndx, ``value`` an address (an offset for TLS), ``size`` bytes.
    """

    name: str
    version: str
    hidden: bool
    binding: int
    type: int
    visibility: int
    section: int
    value: int
    size: int


class Import(NamedTuple):
    """A symbol a file wants from elsewhere.

    ``version`` is the node it is bound to and ``file`` the DSO the linker found it in ("-" and "": none).
    ``copied`` is the size in bytes of the program's own copy of a datum (a copy relocation; otherwise 0).
    """

    name: str
    version: str
    file: str
    weak: bool
    copied: int = 0


class Elf(Versioned):
    """One ELF file's dynamic symbols and versions; made by `read` or `parse`.

    Tables are unpacked on first use and raise `MalformedInput` then.
    """

    # -- symbols ----------------------------------------------------------------------------------------

    @property
    def symbol_count(self) -> int:
        """Entries of the dynamic symbol table, its null symbol too; 0 without a table."""
        return self._symbol_count if self.dynamic else 0

    @cached_property
    def _symbol_count(self) -> int:
        """How many dynamic symbols there are: no tag says it, the hash tables do."""
        if DT_GNU_HASH in self.tags:
            at, end = self.window(self.tags[DT_GNU_HASH], "the GNU hash table")
            buckets, first, bloom, _ = self.record(_GNU_HASH, at, end, "the GNU hash table")
            at += 16 + 8 * bloom
            if at + 4 * buckets > end:
                raise self.malformed("the GNU hash table's buckets go beyond their segment")
            last = max(struct.unpack_from(f"<{buckets}I", self.data, at), default=0)
            if last:
                if last < first:
                    raise self.malformed(f"the GNU hash table begins at symbol {first} and names {last}")
                chains = at + 4 * buckets
                return last + 1 + self._chain_length(chains + 4 * (last - first), end)
        if DT_HASH in self.tags:
            at, end = self.window(self.tags[DT_HASH], "the hash table")
            return self.record(_HASH, at, end, "the hash table")[1]
        return self._count_without_hash()

    def _chain_length(self, at: int, end: int) -> int:
        """Entries after the one at ``at`` up to the one with the lowest bit set, which ends a chain."""
        length = 0
        while at + 4 <= end:
            if self.data[at] & 1:
                return length
            at += 4
            length += 1
        raise self.malformed("a chain of the GNU hash table has no end")

    def _count_without_hash(self) -> int:
        """A file that defines nothing has an empty GNU hash table, which does not count what it imports.

        The section headers do, where they are there and agree with DT_SYMTAB; otherwise the symbols that
        relocations name are all that matter.
        """
        if self._shentsize == _SHDR.size and self._shoff + self._shnum * _SHDR.size <= len(self.data):
            table = self.data[self._shoff : self._shoff + self._shnum * _SHDR.size]
            for section in _SHDR.iter_unpack(table):
                if section[1] == SHT_DYNSYM and section[3] == self.tags[DT_SYMTAB]:
                    return int(section[5] // _SYM.size)
        return max(self.relocated, default=0) + 1

    @cached_property
    def _relocations(self) -> frozenset[int]:
        """Each different r_info there is: the symbol's index above 32 bits, the type below.

        The first DT_RELACOUNT relocations name no symbol and are not read, as in ld.so.
        """
        found: set[tuple[int, ...]] = set()
        none = self.tags.get(DT_RELACOUNT, 0) * _RELA.size
        for address, size, skipped in ((DT_RELA, DT_RELASZ, none), (DT_JMPREL, DT_PLTRELSZ, 0)):
            length = self.tags.get(size, 0) // _RELA.size * _RELA.size
            if address in self.tags and length > skipped:
                raw = self.memory(self.tags[address], length, "the relocations")
                found.update(_RELA_INFO.iter_unpack(raw[skipped:]))
        return frozenset(info for (info,) in found)

    @cached_property
    def relocated(self) -> frozenset[int]:
        """Indexes of the symbols that relocations name: ld.so looks up these and no others."""
        return frozenset(info >> 32 for info in self._relocations) - {0}

    @cached_property
    def relocation_types(self) -> frozenset[int]:
        """The types of relocations there are, but for the relative ones that DT_RELACOUNT counts."""
        return frozenset(info & 0xFFFFFFFF for info in self._relocations)

    def _raw_symbols(self) -> Iterator[tuple[tuple[int, int, int, int, int, int], int]]:
        """Symbol table entries with their version index and hidden bit (0 and none without versions)."""
        if not self.dynamic:
            return iter(())
        if self.tags.get(DT_SYMENT, _SYM.size) != _SYM.size:
            raise self.malformed(f"symbols of {self.tags[DT_SYMENT]} bytes, not {_SYM.size}")
        count = self._symbol_count
        table = self.memory(self.tags[DT_SYMTAB], count * _SYM.size, "the dynamic symbol table")
        versions: tuple[int, ...] = (0,) * count
        if DT_VERSYM in self.tags:
            raw = self.memory(self.tags[DT_VERSYM], 2 * count, "the symbol versions")
            versions = struct.unpack(f"<{count}H", raw)
        pairs = zip(_SYM.iter_unpack(table), versions, strict=True)
        next(pairs, None)  # the first symbol is the null symbol
        return pairs

    def _symbols(self, *, undefined: bool | None) -> tuple[Symbol, ...]:
        strings, find = (self.strings, self.strings.find) if self.dynamic else (b"", b"".find)
        names = self._version_names
        versioned = DT_VERSYM in self.tags
        symbols = []
        for (name, info, other, section, value, size), index in self._raw_symbols():
            if undefined is not None and undefined is not (section == SHN_UNDEF):
                continue
            end = find(b"\0", name)
            if end < 0:
                raise self.malformed(f"a symbol's name at {name:#x} lies outside the string table")
            if versioned:
                version = names.get(index & MAX_VERSIONS)
                if version is None:
                    raise self.malformed(
                        f"symbol {text(strings[name:end])} has the version index {index & MAX_VERSIONS}, "
                        "which is neither defined nor required"
                    )
            else:
                version = UNVERSIONED
            bare, hidden = text(strings[name:end]), index > MAX_VERSIONS
            symbols.append(
                Symbol(bare, version, hidden, info >> 4, info & 15, other & 3, section, value, size)
            )
        return tuple(symbols)

    @cached_property
    def defined(self) -> tuple[Symbol, ...]:
        """The symbols defined here, in the table's order."""
        return self._symbols(undefined=False)

    @cached_property
    def undefined(self) -> tuple[Symbol, ...]:
        """The symbols wanted from elsewhere, in the table's order."""
        return self._symbols(undefined=True)

    @cached_property
    def all_symbols(self) -> tuple[Symbol, ...]:
        """Defined and undefined symbols: all of the table but the null symbol it begins with."""
        return self._symbols(undefined=None)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """What the loader must find elsewhere, in the table's order.

        That is every undefined symbol that a relocation names, and each datum that a program keeps its own
        copy of: the table shows it as defined, but at a version that is required and not defined here.
        """
        if not self.dynamic or not self.relocated:
            return ()
        found: list[Import] = []
        names, files = self._requirements[1], self._requirements[2]
        own = self._definitions
        relocated = sorted(self.relocated)
        table, end = self.window(self.tags[DT_SYMTAB], "the dynamic symbol table")
        last = relocated[-1]
        if table + (last + 1) * _SYM.size > end:
            raise self.malformed(f"a relocation names symbol {last}, which goes beyond its segment")
        versions: Sequence[int] = ()
        if DT_VERSYM in self.tags:
            raw = self.memory(self.tags[DT_VERSYM], 2 * (last + 1), "the symbol versions")
            versions = struct.unpack(f"<{last + 1}H", raw)
        # of each index below a version whose symbols are wanted elsewhere
        wanted = {i: (names[i], file) for i, file in files.items() if i not in own}
        nobody = (UNVERSIONED, "")
        data, unpack, size_of = self.data, _SYM.unpack_from, _SYM.size
        strings, find = self.strings, self.strings.find
        for number in relocated:
            name, info, _, section, _, size = unpack(data, table + number * size_of)
            required = wanted.get(versions[number] & MAX_VERSIONS) if versions else wanted.get(0)
            if (section != SHN_UNDEF and required is None) or info >> 4 == STB_LOCAL:
                continue
            stop = find(b"\0", name)
            bare = _shared(strings[name:stop]) if stop >= 0 else self.string(name)
            version, file = required or nobody
            found.append(_import(bare, version, file, info >> 4 == STB_WEAK, size if section else 0))
        return tuple(found)


@functools.lru_cache(maxsize=1 << 17)
def _shared(raw: bytes) -> str:
    """`text`, once for names that many files want: of 10,000 programs most are the same."""
    return text(raw)


#: `Import`, once for what many files want alike.
_import = functools.lru_cache(maxsize=1 << 17)(Import)


def parse(data: bytes, name: str) -> Elf:
    """The ELF file in ``data``; ``name`` is what errors call it. Raises `MalformedInput`."""
    return Elf(data, name)


def read(path: str | os.PathLike[str], name: str = "") -> Elf:
    """The ELF file at ``path`` (called ``name`` in errors, or else by its path).

    Raises `MalformedInput` (`ForeignElf` for 32-bit and big-endian files) and OSError if it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _from_descriptor(descriptor, name or os.fspath(path))
    finally:
        os.close(descriptor)


def read_if_elf(path: str | os.PathLike[str], name: str = "") -> Elf | None:
    """As `read`, but None for a file that does not begin with the ELF magic."""
    return read_or_head(path, len(MAGIC), name)[0]


def read_or_head(path: str | os.PathLike[str], count: int, name: str = "") -> tuple[Elf | None, bytes]:
    """As `read_if_elf`, and the first ``count`` bytes (at least 4 are asked for) of what is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.pread(descriptor, count, 0)
        if head[: len(MAGIC)] != MAGIC:
            return None, head
        return _from_descriptor(descriptor, name or os.fspath(path)), b""
    finally:
        os.close(descriptor)


def _from_descriptor(descriptor: int, name: str) -> Elf:
    size = os.fstat(descriptor).st_size
    if size > READ_WHOLE:
        return Elf(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ), name)
    return Elf(os.pread(descriptor, size, 0), name)
