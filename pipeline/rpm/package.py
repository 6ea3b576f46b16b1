"""Reads RPM packages without rpm: their metadata, whether they are whole, and their files.

The format is rpm's version 3/4 file: a lead (96 bytes), a signature header padded to eight bytes, the main
header, and a compressed cpio archive. Tag and flag numbers are those of rpm's ``rpmtag.h`` and ``rpmds.h``;
``docs/manual/format_*.md`` in rpm's source describes the layout.
"""

from __future__ import annotations

import hashlib
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from pipeline.core.errors import EvidenceError, MalformedInput, UsageError
from pipeline.rpm import payload as rpmpayload
from pipeline.rpm.payload import Listed, Member

LEAD = struct.Struct(">4sBBHH66sHH16x")
LEAD_MAGIC = b"\xed\xab\xee\xdb"
HEADER = struct.Struct(">8sII")
HEADER_MAGIC = b"\x8e\xad\xe8\x01\x00\x00\x00\x00"
ENTRY = struct.Struct(">IIII")
#: rpm's own limits (lib/header.c): more is refused before memory is taken for it
MAX_ENTRIES = 0xFFFF
MAX_STORE = 256 << 20

SIG_LONGSIZE, SIG_SHA256, SIG_SIZE, SIG_MD5 = 270, 273, 1000, 1004
NAME, VERSION, RELEASE, EPOCH, ARCH, SOURCERPM = 1000, 1001, 1002, 1003, 1022, 1044
FILEINODES = 1096
FILESIZES, FILEMODES, FILEDIGESTS, FILELINKTOS, FILEFLAGS = 1028, 1030, 1035, 1036, 1037
DIRINDEXES, BASENAMES, DIRNAMES, LONGFILESIZES = 1116, 1117, 1118, 5008
PAYLOADFORMAT, PAYLOADCOMPRESSOR, PAYLOADDIGEST, PAYLOADDIGESTALGO = 1124, 1125, 5092, 5093
#: (names, flags, versions)
PROVIDES = (1047, 1112, 1113)
REQUIRES = (1049, 1048, 1050)
OBSOLETES = (1090, 1114, 1115)

SENSE_LESS, SENSE_GREATER, SENSE_EQUAL = 2, 4, 8
FILE_GHOST = 64
#: rpm's numbers of hash algorithms are those of OpenPGP (RFC 9580, 9.5)
HASHES = {2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512"}

_REMEDY = "fetch or build the package again; `rpm -Kv FILE` shows what rpm makes of it"


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


@dataclass(frozen=True)
class FileEntry:
    """One file of the package's list: absolute path, mode (``st_mode``), size in bytes, hexadecimal digest
    ("" for what is no regular file), the target of a symbolic link, rpm's file flags, and a number that
    hard links share (0: not known)."""

    path: str
    mode: int
    size: int
    digest: str
    link: str
    flags: int
    inode: int = 0

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def ghost(self) -> bool:
        """Owned by the package, but not in it."""
        return bool(self.flags & FILE_GHOST)


@dataclass(frozen=True)
class Rpm:
    """A package's metadata. ``epoch`` is None where the package has none; ``source_rpm`` "" in a source
    package. ``payload_offset`` and ``size`` (of the whole file as the package states it) are in bytes."""

    path: Path
    name: str
    epoch: int | None
    version: str
    release: str
    arch: str
    source_rpm: str
    provides: tuple[Dependency, ...]
    requires: tuple[Dependency, ...]
    obsoletes: tuple[Dependency, ...]
    files: tuple[FileEntry, ...]
    compressor: str
    header_sha256: str
    payload_digest: str
    payload_hash: str
    payload_offset: int
    size: int

    @property
    def nvr(self) -> str:
        return f"{self.name}-{self.version}-{self.release}"

    @property
    def nvra(self) -> str:
        return f"{self.nvr}.{'src' if self.is_source else self.arch}"

    @property
    def is_source(self) -> bool:
        return not self.source_rpm


class _Header:
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
            self._index[tag] = (kind, offset, count)

    def _bad(self, tag: int) -> MalformedInput:
        return MalformedInput(f"{self.where}: entry of tag {tag} makes no sense", hint=_REMEDY)

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
            raise MalformedInput(f"{self.where}: tag {tag} is missing", hint=_REMEDY)
        return default

    def number(self, tag: int) -> int | None:
        values = self.numbers(tag)
        return values[0] if values else None

    def dependencies(self, tags: tuple[int, int, int]) -> tuple[Dependency, ...]:
        names, flags, versions = self.strings(tags[0]), self.numbers(tags[1]), self.strings(tags[2])
        if not len(names) == len(flags) == len(versions):
            raise self._bad(tags[0])
        return tuple(Dependency(n, f, v) for n, f, v in zip(names, flags, versions, strict=True))


def _exactly(file: BufferedReader, count: int, where: str) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise MalformedInput(f"{where}: the file ends in the middle of it", hint=_REMEDY)
    return data


def _header(file: BufferedReader, where: str) -> _Header:
    intro = _exactly(file, HEADER.size, where)
    magic, entries, store = HEADER.unpack(intro)
    if magic != HEADER_MAGIC or entries > MAX_ENTRIES or store > MAX_STORE:
        raise MalformedInput(f"{where}: does not begin like a header", hint=_REMEDY)
    return _Header(intro + _exactly(file, ENTRY.size * entries + store, where), entries, where)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as e:
        raise EvidenceError(
            f"cannot read {path}: {e.strerror}", hint="check the path and its permissions"
        ) from e


def _files(header: _Header) -> tuple[FileEntry, ...]:
    names, dirs, indexes = header.strings(BASENAMES), header.strings(DIRNAMES), header.numbers(DIRINDEXES)
    sizes = header.numbers(LONGFILESIZES) or header.numbers(FILESIZES)
    columns = (
        header.numbers(FILEMODES),
        sizes,
        header.strings(FILEDIGESTS) or ("",) * len(names),
        header.strings(FILELINKTOS) or ("",) * len(names),
        header.numbers(FILEFLAGS) or (0,) * len(names),
        header.numbers(FILEINODES) or (0,) * len(names),
    )
    if any(len(c) != len(names) for c in (*columns, indexes)) or any(i >= len(dirs) for i in indexes):
        raise MalformedInput(f"{header.where}: the columns of the file list differ in length", hint=_REMEDY)
    rows = zip(names, indexes, *columns, strict=True)
    return tuple(FileEntry(dirs[i] + name, *rest) for name, i, *rest in rows)


def _parse(file: BufferedReader, path: Path) -> tuple[Rpm, _Header, _Header]:
    lead = _exactly(file, LEAD.size, f"{path}: lead")
    if not lead.startswith(LEAD_MAGIC):
        raise MalformedInput(f"{path} is not an RPM package", hint="name RPM files (*.rpm)")
    signature = _header(file, f"{path}: signature header")
    _exactly(file, -len(signature.raw) % 8, f"{path}: signature header")
    main = _header(file, f"{path}: header")
    offset = file.tell()
    form = main.string(PAYLOADFORMAT, "cpio")
    if form != "cpio":
        raise MalformedInput(f"{path}: payload format {form!r} is not known (cpio is)", hint=_REMEDY)
    payload_digests = main.strings(PAYLOADDIGEST)
    hash_number = main.number(PAYLOADDIGESTALGO) or 8
    if hash_number not in HASHES:
        raise MalformedInput(f"{path}: payload digest algorithm {hash_number} is not known", hint=_REMEDY)
    stated = signature.number(SIG_LONGSIZE) or signature.number(SIG_SIZE)
    rpm = Rpm(
        path=path,
        name=main.string(NAME),
        epoch=main.number(EPOCH),
        version=main.string(VERSION),
        release=main.string(RELEASE),
        arch=main.string(ARCH),
        source_rpm=main.string(SOURCERPM, ""),
        provides=main.dependencies(PROVIDES),
        requires=main.dependencies(REQUIRES),
        obsoletes=main.dependencies(OBSOLETES),
        files=_files(main),
        # rpm leaves the tag out for gzip in very old packages only; "identity" and "none" mean none
        compressor=main.string(PAYLOADCOMPRESSOR, "gzip"),
        header_sha256=signature.string(SIG_SHA256, ""),
        payload_digest=payload_digests[0] if payload_digests else "",
        payload_hash=HASHES[hash_number],
        payload_offset=offset,
        size=offset - len(main.raw) + stated if stated else 0,
    )
    return rpm, signature, main


def read(path: Path) -> Rpm:
    """The metadata of a package, its digests not checked (see `verify`).

    Raises `MalformedInput` (no RPM, cut off, nonsense in the headers) or `EvidenceError` (not readable).
    """
    with _opened(path) as file:
        return _parse(file, path)[0]


def verify(path: Path) -> Rpm:
    """The metadata of a package whose header and payload have the digests it carries.

    This finds damage and change, not forgery: whoever writes a package can write its digests. Raises
    `MalformedInput` naming the file and what differs; a package without sha256 digests (before rpm 4.14)
    cannot be verified and is refused likewise.
    """
    with _opened(path) as file:
        rpm, _, main = _parse(file, path)
        actual = path.stat().st_size
        if rpm.size and actual != rpm.size:
            raise MalformedInput(
                f"{path} is {actual} bytes long, and states {rpm.size}: "
                + ("cut off" if actual < rpm.size else "something was added"),
                hint=_REMEDY,
            )
        if not rpm.header_sha256 or not rpm.payload_digest:
            missing = "header" if not rpm.header_sha256 else "payload"
            raise MalformedInput(f"{path} carries no sha256 digest of its {missing}", hint=_REMEDY)
        header = hashlib.sha256(main.raw).hexdigest()
        if header != rpm.header_sha256:
            raise MalformedInput(
                f"{path}: header has sha256 {header}, the signature header says {rpm.header_sha256}: altered",
                hint=_REMEDY,
            )
        file.seek(rpm.payload_offset)
        payload = hashlib.file_digest(file, rpm.payload_hash).hexdigest()
        if payload != rpm.payload_digest:
            raise MalformedInput(
                f"{path}: payload has {rpm.payload_hash} {payload}, the header says {rpm.payload_digest}: "
                "cut off or altered",
                hint=_REMEDY,
            )
    return rpm


@contextmanager
def payload(path: Path) -> Iterator[Iterator[Member]]:
    """The members of a package's archive in order, each readable until the next one is asked for.

    ``with payload(p) as members: for m in members: m.read()``. Raises `MalformedInput`.
    """
    with _opened(path) as file:
        rpm = _parse(file, path)[0]
        file.seek(rpm.payload_offset)
        with rpmpayload.decompressed(file, rpm.compressor, str(path)) as stream:
            listed = [Listed(f.path, f.mode, f.size, f.inode) for f in rpm.files]
            yield rpmpayload.members(stream, str(path), listed)


def extract(path: Path, destination: Path) -> None:
    """Unpack a package's files below ``destination`` (an existing directory), which acts as its ``/``.

    Nothing is written outside: names with ``..`` are refused, and symbolic links on the way are followed
    as if ``destination`` were the root. Ownership is not kept (root is not needed), modes are. No script
    of the package is run. Raises `MalformedInput`, `UsageError` if ``destination`` is no directory.
    """
    if not destination.is_dir():
        raise UsageError(f"{destination} is not a directory")
    with payload(path) as found:
        rpmpayload.unpack(found, destination, str(path))
