"""The archive in an RPM: decompression, the cpio format "newc", and unpacking that never leaves its root.

The cpio format is that of the kernel's ``Documentation/driver-api/early-userspace/buffer-format.rst``. rpm
has a variant for files of 4 GiB and more (and, from rpm 6 on, for all packages of its format 6): a member is
headed by ``07070X`` and its number in the header's file list, which says the rest.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, cast

import zstandard

from pipeline.core.errors import MalformedInput

MAGIC, STRIPPED = b"070701", b"07070X"
HEAD, STRIPPED_HEAD = 110, 14
TRAILER = "TRAILER!!!"
CHUNK = 1 << 20
#: links followed on the way to one file, as in Linux (MAXSYMLINKS)
MAX_LINKS = 40
MAX_NAME = 1 << 16

_REMEDY = "fetch or build the package again; `rpm -Kv FILE` shows what rpm makes of it"


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@contextmanager
def decompressed(file: BinaryIO, compressor: str, where: str) -> Iterator[Readable]:
    """``file`` (from where it stands) through the decompressor of rpm's name ``compressor``.

    What a decompressor says of broken data while the block runs becomes `MalformedInput`.
    """
    try:
        match compressor:
            case "zstd":
                with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
                    yield stream
            case "xz" | "lzma":
                with lzma.open(file) as stream:
                    yield cast(BinaryIO, stream)
            case "gzip":
                with gzip.open(file) as stream:
                    yield cast(BinaryIO, stream)
            case "bzip2":
                with bz2.open(file) as stream:
                    yield stream
            case "none" | "identity":
                yield file
            case _:
                raise MalformedInput(f"{where}: compressor {compressor!r} is not known", hint=_REMEDY)
    except (zstandard.ZstdError, lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile) as e:
        raise MalformedInput(f"{where}: the payload cannot be decompressed: {e}", hint=_REMEDY) from e
    except OSError as e:
        if e.errno is None:  # bz2 says so of broken data
            raise MalformedInput(f"{where}: the payload cannot be decompressed: {e}", hint=_REMEDY) from e
        raise


class _Stream:
    """Reads exact counts from a decompressor and knows how far it is."""

    def __init__(self, source: Readable, where: str) -> None:
        self._source = source
        self._where = where
        self.position = 0

    def exactly(self, count: int) -> bytes:
        parts = []
        while count:
            part = self._source.read(min(count, CHUNK))
            if not part:
                raise MalformedInput(f"{self._where}: the archive ends too early", hint=_REMEDY)
            parts.append(part)
            count -= len(part)
            self.position += len(part)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        while count:
            count -= len(self.exactly(min(count, CHUNK)))

    def align(self) -> None:
        self.exactly(-self.position % 4)


@dataclass
class PayloadMember:
    """One archive member: ``name`` as stored (``./usr/bin/x``), ``mode`` (``st_mode``), ``size`` in bytes,
    ``inode`` (major, minor, number) and ``links`` to tell hard links by."""

    name: str
    mode: int
    size: int
    inode: tuple[int, int, int]
    links: int
    _stream: _Stream
    _left: int

    @property
    def path(self) -> str:
        """Where it is installed: ``/usr/bin/x``."""
        return "/" + self.name.removeprefix(".").lstrip("/")

    def read(self, count: int = -1) -> bytes:
        """The next ``count`` bytes (all that is left if negative), b"" at the end."""
        count = self._left if count < 0 else min(count, self._left)
        data = self._stream.exactly(count)
        self._left -= count
        return data

    def finish(self) -> None:
        """Go past what was not read."""
        self._stream.skip(self._left)
        self._left = 0
        self._stream.align()


class Listed(NamedTuple):
    """A file as the package's header lists it: absolute path, mode, size in bytes, number of its inode."""

    path: str
    mode: int
    size: int
    inode: int


class _List:
    """The header's file list, as the stripped variant needs it."""

    def __init__(self, listed: Sequence[Listed], where: str) -> None:
        self._listed = listed
        self._where = where
        self._same: dict[int, list[int]] = {}
        for number, entry in enumerate(listed):
            if stat.S_ISREG(entry.mode) and entry.inode:
                self._same.setdefault(entry.inode, []).append(number)

    def member(self, head: bytes, stream: _Stream) -> PayloadMember:
        """The member whose head names its number; of hard links only the last one listed has data."""
        try:
            number = int(head[len(STRIPPED) :], 16)
            entry = self._listed[number]
        except (ValueError, IndexError):
            raise MalformedInput(
                f"{self._where}: cpio member {head!r} is not in the file list", hint=_REMEDY
            ) from None
        stream.align()
        same = self._same.get(entry.inode, [number]) if stat.S_ISREG(entry.mode) else [number]
        has_data = stat.S_ISLNK(entry.mode) or (stat.S_ISREG(entry.mode) and same[-1] == number)
        size = entry.size if has_data else 0
        return PayloadMember(f".{entry.path}", entry.mode, size, (0, 0, entry.inode), len(same), stream, size)


def members(source: Readable, where: str, listed: Sequence[Listed] = ()) -> Iterator[PayloadMember]:
    """The members up to the trailer; ``listed`` is the header's file list, for rpm's stripped variant.

    Raises `MalformedInput` on anything that is neither.
    """
    stream, files = _Stream(source, where), _List(listed, where)
    while True:
        head = stream.exactly(STRIPPED_HEAD)
        if head.startswith(STRIPPED):
            member = files.member(head, stream)
            yield member
            member.finish()
            continue
        if not head.startswith(MAGIC):
            raise MalformedInput(f"{where}: the payload is no cpio archive of format newc", hint=_REMEDY)
        head += stream.exactly(HEAD - STRIPPED_HEAD)
        try:
            fields = [int(head[n : n + 8], 16) for n in range(6, HEAD, 8)]
        except ValueError:
            raise MalformedInput(f"{where}: broken cpio member header {head!r}", hint=_REMEDY) from None
        inode, mode, _, _, links, _, size, major, minor, _, _, name_size, _ = fields
        if not 0 < name_size <= MAX_NAME:
            raise MalformedInput(f"{where}: cpio member name of {name_size} bytes", hint=_REMEDY)
        name = stream.exactly(name_size)[:-1].decode(errors="surrogateescape")
        stream.align()
        if name == TRAILER:
            return
        member = PayloadMember(name, mode, size, (major, minor, inode), links, stream, size)
        yield member
        member.finish()


def parts_of(name: str, where: str) -> list[str]:
    """The components of an archive member's name; `MalformedInput` if one of them leads out."""
    parts = [p for p in name.split("/") if p not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise MalformedInput(f"{where}: member {name!r} leads out of the root", hint=_REMEDY)
    return parts


def inside(root: Path, path: str, *, follow_last: bool = True) -> Path:
    """Where ``path`` is below ``root`` when ``root`` is taken for ``/``, links followed as chroot would.

    The result need not exist. Raises `OSError` (ELOOP) on a loop of links.
    """
    here: list[str] = []
    todo = [p for p in reversed(path.split("/")) if p not in ("", ".")]
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del here[-1:]
            continue
        candidate = root.joinpath(*here, part)
        if candidate.is_symlink() and (todo or follow_last):
            links += 1
            if links > MAX_LINKS:
                raise OSError(40, "Too many levels of symbolic links", str(candidate))
            target = candidate.readlink().as_posix()
            if target.startswith("/"):
                here = []
            todo += [p for p in reversed(target.split("/")) if p not in ("", ".")]
        else:
            here.append(part)
    return root.joinpath(*here)


class _Clash(MalformedInput):
    """A file where a directory is, or the other way round: what is there came first."""


class _Unpacker:
    def __init__(self, root: Path, where: str) -> None:
        self.root = root
        self.where = where
        self.directories: list[tuple[Path, int]] = []
        #: where directories really are; forgotten when a link comes or goes
        self.parents: dict[str, Path] = {}
        #: hard links: the paths of an inode so far, and the one of them that has the data
        self.waiting: dict[tuple[int, int, int], list[Path]] = {}

    def wrong(self, member: PayloadMember, why: str) -> MalformedInput:
        return MalformedInput(f"{self.where}: member {member.name!r} {why}", hint=_REMEDY)

    def clash(self, member: PayloadMember, why: str) -> _Clash:
        return _Clash(f"{self.where}: member {member.name!r} {why}", hint=_REMEDY)

    def place(self, member: PayloadMember) -> None:
        parts = parts_of(member.name, self.where)
        if not parts:
            return
        above = "/".join(parts[:-1])
        try:
            parent = self.parents.get(above)
            if parent is None:
                parent = inside(self.root, above)
                parent.mkdir(parents=True, exist_ok=True)
                self.parents[above] = parent
        except (FileExistsError, NotADirectoryError):
            raise self.clash(member, "lies below something that is no directory") from None
        except OSError as e:
            if e.errno == 40:
                raise self.wrong(member, "lies below a loop of links") from None
            raise
        self.put(parent / parts[-1], member)

    def put(self, path: Path, member: PayloadMember) -> None:
        kind = stat.S_IFMT(member.mode)
        if kind == stat.S_IFDIR:
            real = inside(self.root, path.relative_to(self.root).as_posix())
            if real.exists() and not real.is_dir():
                raise self.clash(member, "is a directory where a file is")
            real.mkdir(parents=True, exist_ok=True)
            self.directories.append((real, stat.S_IMODE(member.mode)))
            return
        if path.is_dir() and not path.is_symlink():
            raise self.clash(member, "would replace a directory")
        if path.is_symlink():
            self.parents.clear()
        path.unlink(missing_ok=True)
        if kind == stat.S_IFLNK:
            target = member.read().decode(errors="surrogateescape")
            if not target or "\0" in target:
                raise self.wrong(member, "is a link to nowhere")
            path.symlink_to(target)
            self.parents.clear()
        elif kind == stat.S_IFREG:
            self.regular(path, member)
        else:
            raise self.wrong(member, f"is of a kind that is not unpacked (mode {member.mode:o})")

    def regular(self, path: Path, member: PayloadMember) -> None:
        if member.links > 1:
            group = self.waiting.setdefault(member.inode, [])
            group.append(path)
            if not member.size:  # the data comes with another of them; if with none, it is empty
                if len(group) == 1:
                    path.touch()
                    path.chmod(stat.S_IMODE(member.mode))
                else:
                    path.hardlink_to(group[0])
                return
            for other in group[:-1]:
                other.unlink()
        with path.open("xb") as out:
            while chunk := member.read(CHUNK):
                out.write(chunk)
        path.chmod(stat.S_IMODE(member.mode))
        if member.links > 1:
            for other in self.waiting[member.inode][:-1]:
                other.hardlink_to(path)

    def finish(self) -> None:
        # at the end and from below, so that a directory of mode 0555 can be filled; the owner may always
        # write, because a stored result is also removed again
        for path, mode in reversed(self.directories):
            path.chmod(mode | stat.S_IRWXU)


def unpack(found: Iterator[PayloadMember], root: Path, where: str, *, first_stays: bool = False) -> None:
    """Write members below ``root``; see `pipeline.rpm.package.extract`. Raises `MalformedInput`."""
    unpacker = _Unpacker(root, where)
    for member in found:
        try:
            unpacker.place(member)
        except _Clash:
            if not first_stays:
                raise
    unpacker.finish()
