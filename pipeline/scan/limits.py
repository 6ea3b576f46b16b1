"""How large an archive may be, and how far it may expand: what is beyond is refused while it is read."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.errors import MalformedInput
from pipeline.rpm.payload import Readable

CHUNK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds for one archive: bytes of one member and of all, members, and how far it may expand.

    ``ratio`` is unpacked bytes to packed ones, and counts only beyond ``free`` bytes.
    """

    member: int = 1 << 30
    total: int = 1 << 36
    members: int = 1_000_000
    ratio: int = 500
    free: int = 1 << 28


class Meter:
    """Counts what an archive expands to, and refuses what is beyond the limits."""

    def __init__(self, limits: Limits, packed: int, where: str) -> None:
        self.limits, self.packed, self.where = limits, packed, where
        self.bytes = self.members = 0

    def add(self, count: int) -> None:
        self.bytes += count
        limits = self.limits
        if self.bytes > limits.total:
            raise self._refused(f"expands to more than {limits.total} bytes")
        if self.bytes > limits.free and self.bytes > limits.ratio * max(self.packed, 1):
            raise self._refused(f"expands to more than {limits.ratio} times its size")

    def member(self, name: str, size: int) -> None:
        self.members += 1
        if self.members > self.limits.members:
            raise self._refused(f"has more than {self.limits.members} members")
        if size > self.limits.member:
            raise self._refused(f"has a member {name!r} of {size} bytes, more than {self.limits.member}")

    def _refused(self, what: str) -> MalformedInput:
        return MalformedInput(
            f"{self.where}: {what}, which is refused",
            hint="if it is what it should be, unpack it and name its directory",
        )


class Metered:
    """A stream whose bytes are counted."""

    def __init__(self, source: Readable, meter: Meter) -> None:
        self._source, self._meter = source, meter

    def read(self, size: int = -1, /) -> bytes:
        parts = []
        while size:
            part = self._source.read(CHUNK if size < 0 else min(size, CHUNK))
            if not part:
                break
            self._meter.add(len(part))
            parts.append(part)
            size -= len(part) if size > 0 else 0
        return b"".join(parts)
