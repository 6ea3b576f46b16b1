"""An RPM's header: an index of tags and a store of values, decoded on demand.

Numbers of tags and flags are those of rpm's ``rpmtag.h`` and ``rpmds.h``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BufferedReader

from pipeline.core.errors import MalformedInput

HEADER = struct.Struct(">8sII")
HEADER_MAGIC = b"\x8e\xad\xe8\x01\x00\x00\x00\x00"
ENTRY = struct.Struct(">IIII")
#: rpm's own limits (lib/header.c): more is refused before memory is taken for it
MAX_ENTRIES = 0xFFFF
MAX_STORE = 256 << 20

SENSE_LESS, SENSE_GREATER, SENSE_EQUAL = 2, 4, 8

REMEDY = "fetch or build the package again; `rpm -Kv FILE` shows what rpm makes of it"


@dataclass(frozen=True, order=True)
class Dependency:
    """One provided, required or obsoleted name; ``version`` is "" where none is named."""

    name: str
    flags: int = 0
    version: str = ""

    def __str__(self) -> str:
        """As ``rpm -qp --provides`` prints it: ``glibc = 2.34-28.el9_0``."""
        sense = "".join(
            sign
            for bit, sign in ((SENSE_LESS, "<"), (SENSE_GREATER, ">"), (SENSE_EQUAL, "="))
            if self.flags & bit
        )
        return f"{self.name} {sense} {self.version}" if sense and self.version else self.name


class RpmHeader:
    """A header's index and store, values decoded on demand."""

    def __init__(self, raw: bytes, entries: int, where: str) -> None:
        self.raw = raw
        self.where = where
        self._store = memoryview(raw)[HEADER.size + ENTRY.size * entries :]
        self._index: dict[int, tuple[int, int, int]] = {}
        for n in range(entries):
            tag, kind, offset, count = ENTRY.unpack_from(raw, HEADER.size + ENTRY.size * n)
            if offset > len(self._store) or count > len(self._store):
                raise self._bad(tag)
            if tag in self._index:  # which of the two rpm takes is rpm's affair: no tool writes both
                raise MalformedInput(f"{where}: tag {tag} is there twice", hint=REMEDY)
            self._index[tag] = (kind, offset, count)

    def _bad(self, tag: int) -> MalformedInput:
        return MalformedInput(f"{self.where}: entry of tag {tag} makes no sense", hint=REMEDY)

    def __contains__(self, tag: int) -> bool:
        return tag in self._index

    def fields(self) -> dict[int, tuple[int, int, bytes]]:
        """By tag: type, count, and the bytes up to the next field's."""
        starts = sorted({offset for _, offset, _ in self._index.values()})
        ends = dict(zip(starts, [*starts[1:], len(self._store)], strict=True))
        return {
            tag: (kind, count, bytes(self._store[offset : ends[offset]]))
            for tag, (kind, offset, count) in self._index.items()
        }

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The integers of a tag, () if it is not there."""
        if tag not in self._index:
            return ()
        kind, offset, count = self._index[tag]
        code = {1: "B", 2: "B", 3: "H", 4: "I", 5: "Q"}.get(kind)
        if code is None:
            raise self._bad(tag)
        try:
            return struct.unpack_from(f">{count}{code}", self._store, offset)
        except struct.error:
            raise self._bad(tag) from None

    def strings(self, tag: int) -> tuple[str, ...]:
        """The strings of a tag, () if it is not there."""
        if tag not in self._index:
            return ()
        kind, offset, count = self._index[tag]
        if kind not in (6, 8, 9):
            raise self._bad(tag)
        # only as far as the strings can reach: splitting the whole rest would be quadratic over all tags
        found: list[str] = []
        raw = self._store.obj
        assert isinstance(raw, bytes)
        position = len(raw) - len(self._store) + offset
        for _ in range(1 if kind == 6 else count):
            end = raw.find(b"\0", position)
            if end < 0:
                raise self._bad(tag)
            found.append(raw[position:end].decode(errors="surrogateescape"))
            position = end + 1
        return tuple(found)

    def string(self, tag: int, default: str | None = None) -> str:
        values = self.strings(tag)
        if values:
            return values[0]
        if default is None:
            raise MalformedInput(f"{self.where}: tag {tag} is missing", hint=REMEDY)
        return default

    def number(self, tag: int) -> int | None:
        values = self.numbers(tag)
        return values[0] if values else None

    def dependencies(self, tags: tuple[int, int, int]) -> tuple[Dependency, ...]:
        names, flags, versions = self.strings(tags[0]), self.numbers(tags[1]), self.strings(tags[2])
        if not len(names) == len(flags) == len(versions):
            raise self._bad(tags[0])
        return tuple(Dependency(n, f, v) for n, f, v in zip(names, flags, versions, strict=True))


def exactly(file: BufferedReader, count: int, where: str) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise MalformedInput(f"{where}: the file ends in the middle of it", hint=REMEDY)
    return data


def read_header(file: BufferedReader, where: str) -> RpmHeader:
    intro = exactly(file, HEADER.size, where)
    magic, entries, store = HEADER.unpack(intro)
    if magic != HEADER_MAGIC or entries > MAX_ENTRIES or store > MAX_STORE:
        raise MalformedInput(f"{where}: does not begin like a header", hint=REMEDY)
    return RpmHeader(intro + exactly(file, ENTRY.size * entries + store, where), entries, where)
