"""A built RPM taken apart, changed, and put together again so that every digest in it is right.

What is wrong afterwards is what an edit made wrong, and nothing else: `rpm -K` accepts the result.
"""

from __future__ import annotations

import hashlib
import io
import stat
from bisect import bisect
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import zstandard

from pipeline.core.errors import MalformedInput, UsageError
from pipeline.rpm.package import PAYLOADCOMPRESSOR, PAYLOADDIGEST
from pipeline.rpm.payload import HEAD, MAGIC, TRAILER, decompressed
from pipeline.rpm.writing import INT32, SIG_PAYLOADSIZE, STRINGS, Parts

TOTAL, DIGESTALGO, PAYLOADDIGESTALT = 1009, 5011, 5097
SIZES, MODES, DIGESTS, LINKS, FLAGS, USERS, GROUPS = 1028, 1030, 1035, 1036, 1037, 1039, 1040
DIRINDEXES, BASENAMES, DIRNAMES, INODES = 1116, 1117, 1118, 1096
COLORS, LANGUAGES, CAPABILITIES, VERSION, RELEASE = 1140, 1097, 5010, 1001, 1002
#: every column of the file list, one value a file (rpm's rpmtag.h)
COLUMNS = (SIZES, MODES, 1033, 1034, DIGESTS, LINKS, FLAGS, USERS, GROUPS, 1045, 1095, INODES, 1097,
           DIRINDEXES, BASENAMES, 1140, 1141, 1143, 1144, 5010, 5090)  # fmt: skip
#: names, flags, versions of each kind of dependency
DEPENDENCIES = {
    "provides": (1047, 1112, 1113),
    "requires": (1049, 1048, 1050),
    "conflicts": (1054, 1053, 1055),
    "obsoletes": (1090, 1114, 1115),
    "recommends": (5046, 5048, 5047),
}
_SENSES = {"<": 2, "<=": 10, "=": 8, ">=": 12, ">": 4}


@dataclass(frozen=True)
class Member:
    """One member of the archive: its head's thirteen numbers (cpio "newc"), its name and its bytes."""

    head: tuple[int, ...]
    name: str
    data: bytes

    @property
    def path(self) -> str:
        """The file's absolute path."""
        return "/" + self.name.removeprefix("./").lstrip("/")


class RpmFile:
    """The parts of one RPM, to be changed in place. Raises `MalformedInput` for what is no zstd RPM."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._parts = Parts.of(path.read_bytes(), str(path))
        self.header = self._parts.header
        compressor = self.header.strings(PAYLOADCOMPRESSOR)
        if compressor != ("zstd",):
            raise MalformedInput(f"{path}: only packages compressed with zstd can be edited")
        with decompressed(io.BytesIO(self._parts.packed), "zstd", str(path)) as stream:
            archive = bytearray()
            while chunk := stream.read(1 << 20):
                archive += chunk
        self.members = _members(bytes(archive), str(path))
        #: what is done to the payload after the header was written; None leaves it as the header says
        self.late: dict[str, bytes] = {}

    # -- the file list

    @property
    def paths(self) -> list[str]:
        """Every path of the header's list, in its order."""
        directories = self.header.strings(DIRNAMES)
        rows = zip(self.header.numbers(DIRINDEXES), self.header.strings(BASENAMES), strict=True)
        return [f"/{(directories[n] + name).lstrip('/')}" for n, name in rows]  # of sources names alone

    def row(self, path: str) -> int:
        """Where a path is in the list; raises `UsageError`."""
        try:
            return self.paths.index(path)
        except ValueError:
            raise UsageError(f"{self.name} has no file {path}", hint="correct the entry's file") from None

    def column(self, tag: int, path: str, value: int | str) -> None:
        """Change one file's value in one column of the list."""
        cells = self.header.cells(tag)
        cells[self.row(path)] = value if isinstance(value, int) else value.encode()
        self.header.put(tag, cells)

    def read(self, path: str) -> bytes:
        """A file's bytes; raises `UsageError`."""
        return self._member(path).data

    def _member(self, path: str) -> Member:
        for member in self.members:
            if member.path == path:
                return member
        raise UsageError(f"{self.name} has no file {path} in its payload", hint="correct the entry's file")

    def write(self, path: str, data: bytes) -> None:
        """Give a file other bytes; size and digest in the list follow."""
        member = self._member(path)
        place = self.members.index(member)
        self.members[place] = replace(member, data=data, head=_with(member.head, size=len(data)))
        total = self.header.numbers(TOTAL)
        if total:
            self.header.keep_type(TOTAL, [total[0] + len(data) - len(member.data)])
        self.column(SIZES, path, len(data))
        self.column(DIGESTS, path, hashlib.sha256(data).hexdigest())

    def md5(self) -> None:
        """Digests of files as rpm made them before it had others (OpenPGP's number 1)."""
        made = {m.path: hashlib.md5(m.data, usedforsecurity=False).hexdigest() for m in self.members}
        cells = zip(self.paths, self.header.cells(DIGESTS), strict=True)
        self.header.put(DIGESTS, [made[path].encode() if old else old for path, old in cells])
        self.header.keep_type(DIGESTALGO, [1])

    def mode(self, path: str, mode: int) -> None:
        """Change a file's permission bits."""
        member = self._member(path)
        full = stat.S_IFMT(member.head[1]) | mode
        self.members[self.members.index(member)] = replace(member, head=_with(member.head, mode=full))
        self.column(MODES, path, full)

    def optional(self, tag: int, path: str, text: str) -> None:
        """Change one file's text in a column that is there only where some file has one."""
        if tag not in self.header.values:
            self.header.set(tag, [""] * len(self.paths), STRINGS)
        self.column(tag, path, text)

    def release(self, to: str) -> None:
        """Another release number, also wherever the package's relations name its own."""
        (version,), (old,) = self.header.strings(VERSION), self.header.strings(RELEASE)
        self.header.keep_type(RELEASE, [to])
        for _, _, versions in DEPENDENCIES.values():
            named = self.header.strings(versions)
            if named:
                new = [f"{version}-{to}" if v == f"{version}-{old}" else v for v in named]
                self.header.keep_type(versions, new)

    def link(self, path: str, target: str) -> None:
        """Let a symbolic link point elsewhere."""
        member = self._member(path)
        raw = target.encode()
        new = replace(member, data=raw, head=_with(member.head, size=len(raw)))
        self.members[self.members.index(member)] = new
        self.column(SIZES, path, len(raw))
        self.column(LINKS, path, target)

    def remove(self, path: str) -> None:
        """Take a file out of list and payload."""
        row = self.row(path)
        self.members = [m for m in self.members if m.path != path]
        for tag in COLUMNS:
            if tag in self.header.values:
                cells = self.header.cells(tag)
                del cells[row]
                self.header.put(tag, cells)

    def add(self, path: str, data: bytes, *, like: str) -> None:
        """Add a file with the mode, owner and flags of ``like``."""
        model = self.row(like)
        where = PurePosixPath(path)
        directory = f"{where.parent}/".replace("//", "/")
        directories = list(self.header.strings(DIRNAMES))
        if directory not in directories:
            directories.append(directory)
            self.header.keep_type(DIRNAMES, directories)
        row = bisect(self.paths, path)
        inode = max(self.header.numbers(INODES)) + 1
        for tag in COLUMNS:
            if tag in self.header.values:
                cells = self.header.cells(tag)
                cells.insert(row, cells[model])
                self.header.put(tag, cells)
        # two rows have the same name until these are set, so they are set by number
        color = data[4] if data.startswith(b"\x7fELF") else 0
        for tag, value in (
            (COLORS, color),
            (DIRINDEXES, directories.index(directory)), (BASENAMES, where.name.encode()), (INODES, inode),
            (SIZES, len(data)), (DIGESTS, hashlib.sha256(data).hexdigest().encode()), (LINKS, b""),
        ):  # fmt: skip
            if tag in self.header.values:
                cells = self.header.cells(tag)
                cells[row] = value
                self.header.put(tag, cells)
        head = _with(self._member(like).head, size=len(data), inode=inode, links=1)
        names = [m.path for m in self.members]
        self.members.insert(bisect(names, path), Member(head, f".{path}", data))

    # -- dependencies and scriptlets

    def depend(self, kind: str, text: str, *, remove: bool = False) -> None:
        """Add or remove ``NAME`` or ``NAME = VERSION`` of a kind in `DEPENDENCIES`; raises `UsageError`."""
        names, flags, versions = DEPENDENCIES[kind]
        name, _, rest = text.partition(" ")
        sense, _, version = rest.partition(" ")
        columns = (self.header.strings(names), self.header.numbers(flags), self.header.strings(versions))
        rows = list(zip(*columns, strict=True))
        if remove:
            left = [r for r in rows if r[0] != name or (version and r[2] != version)]
            if len(left) == len(rows):
                raise UsageError(f"{self.name} {kind} no {text}", hint="correct the entry")
            rows = left
        else:
            rows.append((name, _SENSES[sense] if sense else 0, version))
        rows.sort(key=lambda r: r[0].encode())
        self.header.set(names, [r[0] for r in rows], STRINGS)
        self.header.set(flags, [r[1] for r in rows], INT32)
        self.header.set(versions, [r[2] for r in rows], STRINGS)

    # -- writing

    def save(self, path: Path) -> None:
        """Write the package. ``late`` bytes replace members' after every digest of the list was made."""
        members = [replace(m, data=self.late.get(m.path, m.data)) for m in self.members]
        archive = _archive(members)
        packed = zstandard.ZstdCompressor(level=3, write_checksum=False).compress(archive)
        self.header.keep_type(PAYLOADDIGEST, [hashlib.sha256(packed).hexdigest()])
        if PAYLOADDIGESTALT in self.header.values:
            self.header.keep_type(PAYLOADDIGESTALT, [hashlib.sha256(archive).hexdigest()])
        signature = self._parts.signature
        if SIG_PAYLOADSIZE in signature.values:
            signature.keep_type(SIG_PAYLOADSIZE, [len(archive)])
        path.write_bytes(replace(self._parts, packed=packed).written())


def _with(
    head: tuple[int, ...],
    *,
    size: int | None = None,
    mode: int | None = None,
    inode: int | None = None,
    links: int | None = None,
) -> tuple[int, ...]:
    """A member's head with other numbers."""
    new = list(head)
    for place, value in ((0, inode), (1, mode), (4, links), (6, size)):
        if value is not None:
            new[place] = value
    return tuple(new)


def _members(archive: bytes, where: str) -> list[Member]:
    found: list[Member] = []
    at = 0
    while True:
        if archive[at : at + 6] != MAGIC:
            raise MalformedInput(f"{where}: member {len(found)} of the archive is no newc member")
        head = tuple(int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13))
        at += HEAD
        name = archive[at : at + head[11] - 1].decode(errors="surrogateescape")
        at += head[11]
        at += -at % 4
        if name == TRAILER:
            return found
        found.append(Member(head, name, archive[at : at + head[6]]))
        at += head[6]
        at += -at % 4


def _archive(members: list[Member]) -> bytes:
    out = bytearray()
    last = Member((0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), TRAILER, b"")
    for member in (*members, last):
        raw = member.name.encode(errors="surrogateescape") + b"\0"
        numbers = (*member.head[:6], len(member.data), *member.head[7:11], len(raw), 0)
        out += MAGIC + b"".join(b"%08x" % n for n in numbers) + raw
        out += b"\0" * (-len(out) % 4) + member.data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)
