"""The files in wheels, RPMs, debs and tar archives, read without unpacking anything onto the disk.

What an archive is, its first bytes say, not its name. All is bounded (`pipeline.scan.limits`), names are only
ever shown, and an archive that is damaged, cut short, encrypted or beyond the bounds raises
`MalformedInput`: what could not be read is never left out in silence.
"""

from __future__ import annotations

import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self, cast

from pipeline.core import ar
from pipeline.core.errors import EvidenceError, MalformedInput
from pipeline.elf.image import MAGIC as ELF_MAGIC
from pipeline.rpm import package
from pipeline.rpm.payload import Readable, decompressed
from pipeline.scan.limits import CHUNK, Limits, Meter, Metered

#: What the file in a compressed file is called.
DECOMPRESSED = "decompressed"
RPM_MAGIC, ZIP_MAGIC, EMPTY_ZIP = b"\xed\xab\xee\xdb", b"PK\x03\x04", b"PK\x05\x06"
DEB_FIRST = b"debian-binary"
#: First bytes of a compressed stream -> rpm's name of the compressor.
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
#: First bytes of archives that are not read -> what they are.
UNREAD = {b"hsqs": "squashfs", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "RAR"}
#: A zip archive's last record, of this many bytes, if it has no comment.
_ZIP_END, ZIP_END_SIZE = b"PK\x05\x06", 22
_BLOCK = 512
_USTAR = 257
#: Bytes that tell what a file is.
HEAD = 1024
_REMEDY = "get the file again; nothing was said of what could not be read"


class Member(NamedTuple):
    """A file in an archive: its name as stored, and its bytes; or a link to ``link`` (then without bytes).

    A hard link's target begins with "/": the archive's own top; ``hard`` tells it from a symbolic one.
    """

    name: str
    data: bytes
    link: str = ""
    hard: bool = False


def kind_of(head: bytes) -> str:
    """``zip``, ``rpm``, ``deb``, ``ar``, ``tar``, ``compressed`` (a tar archive, or not), or "".

    Of `UNREAD` their names.
    """
    if head.startswith((ZIP_MAGIC, EMPTY_ZIP)):
        return "zip"
    if head.startswith(RPM_MAGIC):
        return "rpm"
    if head.startswith(ar.MAGIC):
        return "deb" if head[len(ar.MAGIC) :].startswith(DEB_FIRST) else "ar"
    if head[_USTAR : _USTAR + 5] == b"ustar":
        return "tar"
    if _compressor(head):
        return "compressed"
    return next((name for magic, name in UNREAD.items() if head.startswith(magic)), "")


def ends_as_zip(tail: bytes) -> bool:
    """Whether a file with these last bytes has a zip archive behind what it is: a program, a script."""
    return tail[-ZIP_END_SIZE:][:4] == _ZIP_END


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

    A compressed file that holds neither a tar archive nor an ELF file is none either. Raises
    `MalformedInput`, also while the members are taken; those that came before the damage are whole.
    """
    head = head_of(file)
    size = file.seek(0, 2)
    file.seek(max(size - ZIP_END_SIZE, 0))
    kind = "zip" if ends_as_zip(file.read()) else kind_of(head)
    file.seek(0)
    meter = Meter(limits, size, where)
    match kind:
        case "zip":
            return _zip(file, meter)
        case "rpm":
            return _rpm(file, meter)
        case "deb":
            return _deb(file, meter)
        case "tar":
            return _tar(Metered(file, meter), meter)
        case "compressed":
            return _compressed(file, meter)
    if kind in ("", "ar"):
        return None
    raise MalformedInput(f"{where}: an archive ({kind}) of a kind that is not read", hint="unpack it first")


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


def compressed_kind(file: BinaryIO, where: str) -> str:
    """What a compressed file holds: ``tar``, ``ELF``, or "". Raises `MalformedInput` if it cannot be seen."""
    compressor = _compressor(head_of(file))
    with _decompressed(file, compressor, where) as stream:
        head = stream.read(_BLOCK)
        while 0 < len(head) < _BLOCK and (more := stream.read(_BLOCK - len(head))):
            head += more
    file.seek(0)
    if head.startswith(ELF_MAGIC):
        return "ELF"
    return "tar" if kind_of(head) == "tar" else ""


def _compressed(file: BinaryIO, meter: Meter) -> Iterator[Member] | None:
    match compressed_kind(file, meter.where):
        case "tar":
            return _compressed_tar(file, meter)
        case "ELF":
            return _compressed_file(file, meter)
    return None


def _compressed_tar(file: BinaryIO, meter: Meter) -> Iterator[Member]:
    with _decompressed(file, _compressor(head_of(file)), meter.where) as stream:
        yield from _tar(Metered(stream, meter), meter)


def _compressed_file(file: BinaryIO, meter: Meter) -> Iterator[Member]:
    """The one file in a compressed file: its name is not stored everywhere, and not given."""
    with _decompressed(file, _compressor(head_of(file)), meter.where) as stream:
        data = Metered(stream, meter).read()
        meter.member(DECOMPRESSED, len(data))
        yield Member(DECOMPRESSED, data)


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


def _tar(stream: Metered, meter: Meter) -> Iterator[Member]:
    try:
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", tarinfo=_StrictInfo) as archive:
            for info in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would remember every header
                meter.member(info.name, info.size)
                if info.issym():
                    yield Member(info.name, b"", info.linkname)
                elif info.islnk():
                    yield Member(info.name, b"", f"/{info.linkname}", hard=True)
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


def _zip(file: BinaryIO, meter: Meter) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                meter.member(info.filename, info.file_size)
                if info.is_dir():
                    continue
                if info.flag_bits & 1:
                    raise MalformedInput(f"{meter.where}: {info.filename!r} is encrypted", hint=_REMEDY)
                with archive.open(info) as source:  # to the end: there the checksum is looked at
                    data = Metered(source, meter).read()
                if stat.S_ISLNK(info.external_attr >> 16):
                    yield Member(info.filename, b"", data.decode(errors="replace"))
                else:
                    yield Member(info.filename, data)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as e:
        raise MalformedInput(f"{meter.where}: not a whole zip archive: {e}", hint=_REMEDY) from None


# -- rpm, deb -------------------------------------------------------------------------------------------


def _rpm(file: BinaryIO, meter: Meter) -> Iterator[Member]:
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


def _deb(file: BinaryIO, meter: Meter) -> Iterator[Member]:
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
                yield from _tar(Metered(data, meter), meter)
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
