"""Relocatable objects, as archives hold them by the thousand: global symbols, and what the stack may do.

Formats: gABI chapter 4 (sections, symbol tables), 64 bits, little endian. Read by hand, for pyelftools takes
many times as long.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from pipeline.core.errors import MalformedInput

ET_REL = 1
SHT_SYMTAB = 2
SHF_EXECINSTR = 4
SHN_UNDEF = 0
#: Its flags say whether the stack of a program that has the object in it may be executed.
STACK = b".note.GNU-stack"
_HEAD = struct.Struct("<4sBB10xHH20xQ10xHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_BINDINGS = {1: "", 2: "weak", 10: "unique"}
_TYPES = {0: "notype", 1: "object", 2: "func", 5: "common", 6: "tls", 10: "ifunc"}
_VISIBILITIES = ("", "internal", "hidden", "protected")
WEAK = 2


class ObjectSymbol(NamedTuple):
    """A symbol that others can see or provide; binding, type and visibility are ELF's numbers."""

    name: str
    binding: int
    type: int
    visibility: int
    section: int

    @property
    def words(self) -> str:
        """``func``, ``object weak hidden``: what a linker goes by."""
        words = (
            _TYPES.get(self.type, f"type-{self.type}"),
            _BINDINGS.get(self.binding, f"binding-{self.binding}"),
            _VISIBILITIES[self.visibility],
        )
        return " ".join(word for word in words if word)


class Relocatable:
    """One object. Raises `MalformedInput` calling it ``where``."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data, self._where = data, where
        try:
            magic, width, order, kind, self.machine, at, size, count, self._names = _HEAD.unpack_from(data)
            if (magic, width, order, kind) != (b"\x7fELF", 2, 1, ET_REL) or size != _SECTION.size:
                raise self._malformed("no relocatable object of 64 bits")
            if at + size * count > len(data):
                raise self._malformed("its table of sections ends behind the file")
            self._sections = [_SECTION.unpack_from(data, at + size * n) for n in range(count)]
        except struct.error as e:
            raise self._malformed(str(e)) from None

    def _malformed(self, why: str) -> MalformedInput:
        return MalformedInput(f"{self._where}: {why}", hint="build or fetch the package again")

    def _bytes(self, number: int) -> bytes:
        """A section's content."""
        if number >= len(self._sections):
            raise self._malformed(f"there is no section {number}")
        _, _, _, _, at, size, *_ = self._sections[number]
        if at + size > len(self._data):
            raise self._malformed("a section ends behind the file")
        return self._data[at : at + size]

    def _string(self, table: bytes, at: int) -> bytes:
        end = table.find(b"\0", at)
        if at > len(table) or end < 0:
            raise self._malformed("a name has no end")
        return table[at:end]

    @cached_property
    def symbols(self) -> tuple[ObjectSymbol, ...]:
        """The symbols that are not local, in the table's order."""
        found = []
        for number, section in enumerate(self._sections):
            if section[1] != SHT_SYMTAB:
                continue
            raw, names = self._bytes(number), self._bytes(section[6])
            if len(raw) % _SYMBOL.size:
                raise self._malformed("its symbol table is cut")
            for name, info, other, where, _, _ in _SYMBOL.iter_unpack(raw):
                if info >> 4:
                    text = self._string(names, name).decode(errors="replace")
                    found.append(ObjectSymbol(text, info >> 4, info & 15, other & 3, where))
        return tuple(found)

    @property
    def defined(self) -> Iterator[ObjectSymbol]:
        """Those of them that it defines."""
        return (symbol for symbol in self.symbols if symbol.section != SHN_UNDEF)

    @property
    def executable_stack(self) -> bool:
        """Whether a program linked with it has a stack that can be executed."""
        names = self._bytes(self._names)
        flags = [s[2] for s in self._sections if self._string(names, s[0]) == STACK]
        return not flags or bool(flags[0] & SHF_EXECINSTR)
