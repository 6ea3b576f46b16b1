"""The files in wheels, RPMs, debs and tar archives, read without unpacking anything onto the disk.

What an archive is, its first bytes say, not its name. Everything is bounded (`Limits`), names are only ever
shown, and an archive that is damaged, cut short, encrypted or beyond the bounds raises `MalformedInput`:
what could not be read is never left out in silence.
"""

from __future__ import annotations

import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self, cast

from pipeline.core import ar
from pipeline.core.errors import EvidenceError, MalformedInput
from pipeline.rpm import package
from pipeline.rpm.payload import Readable, decompressed

RPM_MAGIC, ZIP_MAGIC, EMPTY_ZIP = b"\xed\xab\xee\xdb", b"PK\x03\x04", b"PK\x05\x06"
DEB_FIRST = b"debian-binary"
#: First bytes of a compressed stream -> rpm's name of the compressor.
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_BLOCK = 512
_USTAR = 257
#: Bytes that tell what a file is.
HEAD = 1024
CHUNK = 1 << 20
_REMEDY = "get the file again; nothing was said of what could not be read"


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


class Member(NamedTuple):
    """A file in an archive: its name as stored, and its bytes; or a link to ``link`` (then without bytes).

    A hard link's target begins with "/": the archive's own top.
    """

    name: str
    data: bytes
    link: str = ""


class _Meter:
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


class _Metered:
    """A stream whose bytes are counted."""

    def __init__(self, source: Readable, meter: _Meter) -> None:
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


def kind_of(head: bytes) -> str:
    """``zip``, ``rpm``, ``deb``, ``ar``, ``tar``, ``compressed`` (a tar archive, or not), or ""."""
    if head.startswith((ZIP_MAGIC, EMPTY_ZIP)):
        return "zip"
    if head.startswith(RPM_MAGIC):
        return "rpm"
    if head.startswith(ar.MAGIC):
        return "deb" if head[len(ar.MAGIC) :].startswith(DEB_FIRST) else "ar"
    if head[_USTAR : _USTAR + 5] == b"ustar":
        return "tar"
    return "compressed" if _compressor(head) else ""


def _compressor(head: bytes) -> str:
    return next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), "")


def head_of(file: BinaryIO) -> bytes:
    """The bytes that tell what a file is; the file is left at its beginning."""
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    return head


def members(file: BinaryIO, where: str, limits: Limits) -> Iterator[Member] | None:
    """The regular files of the archive ``file`` (called ``where`` in errors), or None if it is none.

    A compressed file that holds no tar archive is none either. Raises `MalformedInput`, also while the
    members are taken; those that came before the damage are whole.
    """
    head = head_of(file)
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    meter = _Meter(limits, size, where)
    match kind_of(head):
        case "zip":
            return _zip(file, meter)
        case "rpm":
            return _rpm(file, meter)
        case "deb":
            return _deb(file, meter)
        case "tar":
            return _tar(_Metered(file, meter), meter)
        case "compressed":
            return _compressed_tar(file, meter) if _holds_tar(file, where) else None
    return None


class _Lent:
    """A file that a decompressor may read and not close, which zstandard's would."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read


@contextmanager
def _decompressed(file: BinaryIO, compressor: str, where: str) -> Iterator[Readable]:
    try:
        with decompressed(cast(BinaryIO, _Lent(file)), compressor, where) as stream:
            yield stream
    except MemoryError:
        raise MalformedInput(f"{where}: it asks for more memory than there is", hint=_REMEDY) from None


@contextmanager
def unpacked(file: BinaryIO, where: str) -> Iterator[Readable]:
    """The bytes of ``file``, decompressed if it is compressed."""
    compressor = _compressor(head_of(file))
    if not compressor:
        yield cast(Readable, file)
        return
    with _decompressed(file, compressor, where) as stream:
        yield stream


def _holds_tar(file: BinaryIO, where: str) -> bool:
    """Whether a compressed file begins like a tar archive. Raises `MalformedInput` if that cannot be seen."""
    compressor = _compressor(head_of(file))
    with _decompressed(file, compressor, where) as stream:
        head = stream.read(_BLOCK)
        while 0 < len(head) < _BLOCK and (more := stream.read(_BLOCK - len(head))):
            head += more
    file.seek(0)
    return kind_of(head) == "tar"


def _compressed_tar(file: BinaryIO, meter: _Meter) -> Iterator[Member]:
    with _decompressed(file, _compressor(head_of(file)), meter.where) as stream:
        yield from _tar(_Metered(stream, meter), meter)


# -- tar ------------------------------------------------------------------------------------------------


class _StrictInfo(tarfile.TarInfo):
    """A header that makes no sense, or none at all, is an error: tarfile takes either for the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:  # Debian's Pythons do not come by frombuf
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed leaves it out
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise _BrokenTar("the end of the archive is missing") from None
        except tarfile.HeaderError as e:
            raise _BrokenTar(f"a header makes no sense: {e}") from None


class _BrokenTar(Exception):
    pass


def _tar(stream: _Metered, meter: _Meter) -> Iterator[Member]:
    try:
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", tarinfo=_StrictInfo) as archive:
            for info in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would remember every header
                meter.member(info.name, info.size)
                if info.issym() or info.islnk():
                    yield Member(info.name, b"", info.linkname if info.issym() else f"/{info.linkname}")
                if not info.isreg():
                    continue
                if info.issparse():
                    raise _BrokenTar(f"the member {info.name!r} is sparse, which is not read")
                source = archive.extractfile(info)
                data = source.read() if source else b""
                if len(data) != info.size:
                    raise _BrokenTar(f"it ends within {info.name!r}")
                yield Member(info.name, data)
        while stream.read(CHUNK):  # so that a compressed stream's own checksum is looked at
            pass
    except (tarfile.TarError, _BrokenTar, UnicodeDecodeError) as e:
        raise MalformedInput(f"{meter.where}: not a whole tar archive: {e}", hint=_REMEDY) from None


# -- zip ------------------------------------------------------------------------------------------------


def _zip(file: BinaryIO, meter: _Meter) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                meter.member(info.filename, info.file_size)
                if info.is_dir():
                    continue
                if info.flag_bits & 1:
                    raise MalformedInput(f"{meter.where}: {info.filename!r} is encrypted", hint=_REMEDY)
                with archive.open(info) as source:  # to the end: there the checksum is looked at
                    data = _Metered(source, meter).read()
                if stat.S_ISLNK(info.external_attr >> 16):
                    yield Member(info.filename, b"", data.decode(errors="replace"))
                else:
                    yield Member(info.filename, data)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as e:
        raise MalformedInput(f"{meter.where}: not a whole zip archive: {e}", hint=_REMEDY) from None


# -- rpm, deb -------------------------------------------------------------------------------------------


def _rpm(file: BinaryIO, meter: _Meter) -> Iterator[Member]:
    with tempfile.NamedTemporaryFile(prefix="scan-", suffix=".rpm") as copy:
        name = getattr(file, "name", "")
        path = Path(name) if isinstance(name, str) and name else Path(copy.name)
        if path == Path(copy.name):  # an RPM within another archive
            file.seek(0)
            while chunk := file.read(CHUNK):
                copy.write(chunk)
            copy.flush()
        try:
            package.verify(path, meter.where)
            with package.payload(path, meter.where) as found:
                for member in found:
                    meter.member(member.name, member.size)
                    meter.add(member.size)
                    name = member.name.removeprefix(".")
                    if member.size and stat.S_ISREG(member.mode):
                        yield Member(name, member.read())
                    elif member.size and stat.S_ISLNK(member.mode):
                        yield Member(name, b"", member.read().decode(errors="replace"))
        except EvidenceError as e:
            raise MalformedInput(e.message, hint=_REMEDY) from None


def _deb(file: BinaryIO, meter: _Meter) -> Iterator[Member]:
    seen = []
    for name, at, size in ar.members(file, meter.where):
        seen.append(name)
        if not name.startswith("data.tar"):
            continue
        with tempfile.TemporaryFile() as data:
            file.seek(at)
            _copy(file, data, size)
            data.seek(0)
            head = head_of(data)
            if kind_of(head) == "tar":
                yield from _tar(_Metered(data, meter), meter)
            elif _compressor(head):
                yield from _compressed_tar(data, meter)
            else:
                raise MalformedInput(f"{meter.where}: {name} is of a kind that is not read", hint=_REMEDY)
        return
    raise MalformedInput(f"{meter.where}: a deb without data.tar (it has {', '.join(seen)})", hint=_REMEDY)


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count and (chunk := source.read(min(count, CHUNK))):
        target.write(chunk)
        count -= len(chunk)
