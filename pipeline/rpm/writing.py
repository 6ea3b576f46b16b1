"""RPMs taken apart, and written again with every digest right (rpm's ``docs/manual/format_header.md``).

Reading for judgement is `pipeline.rpm.package`'s; this module reads only what it will write again, and
keeps the types and the immutable region, so that rpm takes the result for a package that rpmbuild wrote.
What is not changed is written as it was, byte for byte.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.errors import MalformedInput
from pipeline.rpm.header import ENTRY, HEADER, HEADER_MAGIC
from pipeline.rpm.package import LEAD, SIG_MD5, SIG_SHA256, SIG_SIZE

SIG_SHA1, SIG_PAYLOADSIZE, SIG_RESERVED = 269, 1007, 1008

#: Types of values in a header.
INT8, INT16, INT32, INT64, STRING, BINARY, STRINGS, I18N = 2, 3, 4, 5, 6, 7, 8, 9
_CODES = {1: "B", INT8: "B", INT16: "H", INT32: "I", INT64: "Q"}
#: Tags of the regions that the digests cover: of a signature header, and of a main one.
REGIONS = (62, 63)

#: integers, strings as bytes, or (`BINARY`) plain bytes
Value = tuple[Any, ...] | bytes


@dataclass
class Header:
    """Tag -> (type, values). ``region``: the tag of the immutable region, 0 if the header has none."""

    region: int
    values: dict[int, tuple[int, Value]] = field(default_factory=dict)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The integers of a tag, () if it is not there."""
        kind, value = self.values.get(tag, (INT32, ()))
        assert kind in _CODES, tag
        return tuple(int(v) for v in value)

    def strings(self, tag: int) -> tuple[str, ...]:
        """The strings of a tag, () if it is not there."""
        _, value = self.values.get(tag, (STRINGS, ()))
        return tuple(v.decode(errors="surrogateescape") for v in value if isinstance(v, bytes))

    def cells(self, tag: int) -> list[Any]:
        """The values of an array, as they are kept."""
        value = self.values[tag][1]
        assert isinstance(value, tuple)
        return list(value)

    def put(self, tag: int, cells: Sequence[Any]) -> None:
        """Replace the values of an array with such as `cells` gives."""
        self.values[tag] = (self.values[tag][0], tuple(cells))

    def set(self, tag: int, values: Sequence[int] | Sequence[str], kind: int) -> None:
        """Replace the values of a tag; without values it is removed."""
        if not values:
            self.values.pop(tag, None)
        elif kind in _CODES:
            self.values[tag] = (kind, tuple(int(v) for v in values))
        else:
            raw = tuple(str(v).encode(errors="surrogateescape") for v in values)
            self.values[tag] = (kind, raw)

    def keep_type(self, tag: int, values: Sequence[int] | Sequence[str]) -> None:
        """Replace the values of a tag that is there."""
        self.set(tag, values, self.values[tag][0])


def parse(raw: bytes, where: str) -> tuple[Header, int]:
    """The header at the beginning of ``raw`` and its length in bytes. Raises `MalformedInput`."""
    try:
        magic, entries, size = HEADER.unpack_from(raw)
        if magic != HEADER_MAGIC:
            raise MalformedInput(f"{where}: does not begin like a header")
        start = HEADER.size + ENTRY.size * entries
        store = raw[start : start + size]
        index = [ENTRY.unpack_from(raw, HEADER.size + ENTRY.size * n) for n in range(entries)]
        region = index[0][0] if index and index[0][0] in REGIONS else 0
        header = Header(region)
        for tag, kind, offset, count in index[1:] if region else index:
            header.values[tag] = (kind, _value(store, kind, offset, count))
    except (struct.error, KeyError, ValueError) as e:
        raise MalformedInput(f"{where}: the header makes no sense: {e}") from e
    return header, start + size


def _value(store: bytes, kind: int, offset: int, count: int) -> Value:
    if kind == BINARY:
        return store[offset : offset + count]
    if kind in _CODES:
        return struct.unpack_from(f">{count}{_CODES[kind]}", store, offset)
    found: list[bytes] = []
    for _ in range(count):
        end = store.index(b"\0", offset)
        found.append(store[offset:end])
        offset = end + 1
    return tuple(found)


def pack(header: Header) -> bytes:
    """The header's bytes, all entries in the region if it has one."""
    index, store = b"", b""
    for tag, (kind, value) in sorted(header.values.items()):
        if kind in _CODES:
            code = _CODES[kind]
            store += b"\0" * (-len(store) % struct.calcsize(code))
            data = struct.pack(f">{len(value)}{code}", *value)
        elif kind == BINARY:
            assert isinstance(value, bytes)
            data = value
        else:
            data = b"".join(v + b"\0" for v in value if isinstance(v, bytes))
        index += ENTRY.pack(tag, kind, len(store), len(value))
        store += data
    entries = len(header.values)
    if header.region:
        entries += 1
        index = ENTRY.pack(header.region, BINARY, len(store), ENTRY.size) + index
        # the trailer's offset is that of the index, seen from the store's begin backwards
        store += struct.pack(">IIiI", header.region, BINARY, -entries * ENTRY.size, ENTRY.size)
    return HEADER.pack(HEADER_MAGIC, entries, len(store)) + index + store


@dataclass
class Parts:
    """A whole package; ``packed`` is its compressed archive."""

    lead: bytes
    signature: Header
    header: Header
    packed: bytes

    @staticmethod
    def of(raw: bytes, where: str) -> Parts:
        """Take a package's bytes apart. Raises `MalformedInput`."""
        signature, length = parse(raw[LEAD.size :], f"{where}: signature")
        start = LEAD.size + length + -length % 8
        header, length = parse(raw[start:], f"{where}: header")
        return Parts(raw[: LEAD.size], signature, header, raw[start + length :])

    def written(self) -> bytes:
        """The package's bytes, with digests and size made anew; signatures of others are left out."""
        main = pack(self.header)
        made: dict[int, tuple[int, Value]] = {
            SIG_SHA1: (STRING, (hashlib.sha1(main, usedforsecurity=False).hexdigest().encode(),)),
            SIG_SHA256: (STRING, (hashlib.sha256(main).hexdigest().encode(),)),
            SIG_SIZE: (INT32, (len(main) + len(self.packed),)),
            SIG_MD5: (BINARY, hashlib.md5(main + self.packed, usedforsecurity=False).digest()),
        }
        kept = {*made, SIG_PAYLOADSIZE, SIG_RESERVED}
        signature = Header(self.signature.region)
        signature.values = {t: made.get(t, value) for t, value in self.signature.values.items() if t in kept}
        sig = pack(signature)
        return self.lead + sig + b"\0" * (-len(sig) % 8) + main + self.packed
