"""``ar`` archives (man 5 ar): Debian packages, and libraries of object files.

``!<arch>\\n``, then members, each with a header of 60 bytes: name (16), time, owner, group and mode (32
together), size (10, decimal), a backtick and a newline. Members begin at even offsets. GNU keeps names that
are too long in a member ``//``, and refers to them as ``/OFFSET``; ``/`` and ``/SYM64/`` are indices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pipeline.core.errors import MalformedInput

MAGIC = b"!<arch>\n"
_HEAD = 60
_REMEDY = "build or fetch the file again"


class ArMember(NamedTuple):
    """A file in an archive: its name, where its data begin, and how many bytes they are."""

    name: str
    at: int
    size: int


def members(file: BinaryIO, where: str) -> Iterator[ArMember]:
    """The files of the archive ``file`` (called ``where`` in errors), in order; indices are left out.

    Raises `MalformedInput` if it is none, is damaged, or is cut short.
    """
    length = file.seek(0, 2)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise MalformedInput(f"{where} is no ar archive", hint=_REMEDY)
    at, names = len(MAGIC), b""
    while at < length:
        file.seek(at)
        head = file.read(_HEAD)
        number = head[48:58].strip()
        if len(head) < _HEAD or head[58:] != b"`\n" or not number.isdigit():
            raise MalformedInput(f"{where} is no ar archive: broken header at byte {at}", hint=_REMEDY)
        name, at, size = head[:16].rstrip().decode(errors="replace"), at + _HEAD, int(number)
        if at + size > length:
            raise MalformedInput(f"{where} is not a whole ar archive: it ends within {name}", hint=_REMEDY)
        if name == "//":
            names = file.read(size)
        elif name not in ("/", "/SYM64/"):
            if name.startswith("/") and name[1:].isdigit():
                name = names[int(name[1:]) :].partition(b"/\n")[0].decode(errors="replace")
            yield ArMember(name.rstrip("/"), at, size)
        at += size + size % 2


def index(file: BinaryIO, where: str) -> frozenset[str]:
    """The symbols that the archive's index has, by which a linker finds members; empty if it has no index.

    The index is its first member: a number of entries, as many offsets (of 4 bytes, in ``/SYM64/`` of 8, big
    endian), as many names that end in a zero byte. Raises `MalformedInput` if it is damaged, or if an offset
    is that of no member.
    """
    starts = {m.at - _HEAD for m in members(file, where)}
    file.seek(len(MAGIC))
    head = file.read(_HEAD)
    width = {"/": 4, "/SYM64/": 8}.get(head[:16].rstrip().decode(errors="replace"))
    if width is None:
        return frozenset()
    data = file.read(int(head[48:58]))
    count = int.from_bytes(data[:width], "big")
    end = width * (count + 1)
    room = end <= len(data)  # the number may be any
    offsets = {int.from_bytes(data[at : at + width], "big") for at in range(width, end if room else 0, width)}
    names = data[end:].split(b"\0")[:-1]
    if not room or len(names) < count or not offsets <= starts:
        raise MalformedInput(f"{where}: its index is damaged", hint=_REMEDY)
    return frozenset(name.decode(errors="replace") for name in names[:count])


class Part:
    """The data of one member as a stream, which nothing that reads it can close."""

    def __init__(self, file: BinaryIO, member: ArMember) -> None:
        self._file, self._left = file, member.size
        file.seek(member.at)

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data
