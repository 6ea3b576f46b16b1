"""Reads RPM packages without rpm: their metadata, whether they are whole, and their files.

The format is rpm's version 3/4 file: a lead (96 bytes), a signature header padded to eight bytes, the main
header, and a compressed cpio archive. Tag and flag numbers are those of rpm's ``rpmtag.h`` and
``rpmfiles.h``; ``docs/manual/format_*.md`` in rpm's source describes the layout.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from pipeline.core import store
from pipeline.core.errors import EvidenceError, MalformedInput, UsageError
from pipeline.rpm import labels, scripts
from pipeline.rpm import payload as rpmpayload
from pipeline.rpm.header import REMEDY, Dependency, RpmHeader, exactly, read_header
from pipeline.rpm.payload import Listed, PayloadMember
from pipeline.rpm.scripts import Script

LEAD = struct.Struct(">4sBBHH66sHH16x")
LEAD_MAGIC = b"\xed\xab\xee\xdb"

SIG_LONGSIZE, SIG_SHA256, SIG_SIZE, SIG_MD5 = 270, 273, 1000, 1004
NAME, VERSION, RELEASE, EPOCH, ARCH, SOURCERPM = 1000, 1001, 1002, 1003, 1022, 1044
FILEINODES = 1096
FILESIZES, FILEMODES, FILEDIGESTS, FILELINKTOS, FILEFLAGS = 1028, 1030, 1035, 1036, 1037
FILERDEVS, FILEUSERNAME, FILEGROUPNAME, FILEVERIFYFLAGS, FILECOLORS = 1033, 1039, 1040, 1045, 1140
FILECAPS, FILEDIGESTALGO, FILELANGS = 5010, 5011, 1097
DIRINDEXES, BASENAMES, DIRNAMES, LONGFILESIZES = 1116, 1117, 1118, 5008
PAYLOADFORMAT, PAYLOADCOMPRESSOR, PAYLOADDIGEST, PAYLOADDIGESTALGO = 1124, 1125, 5092, 5093
#: digest of the payload before it was compressed (rpm 4.16 and later write it)
PAYLOADDIGESTALT = 5097
PREFIXES = 1098
BUILDTIME, BUILDHOST = 1006, 1007
#: (names, flags, versions)
PROVIDES = (1047, 1112, 1113)
REQUIRES = (1049, 1048, 1050)
OBSOLETES = (1090, 1114, 1115)
#: the other relations by rpm's name for them
RELATIONS = {
    "conflicts": (1054, 1053, 1055),
    "recommends": (5046, 5048, 5047),
    "suggests": (5049, 5051, 5050),
    "supplements": (5052, 5054, 5053),
    "enhances": (5055, 5057, 5056),
    "orders": (5035, 5037, 5036),
}

FILE_GHOST = 64
#: rpm's numbers of hash algorithms are those of OpenPGP (RFC 9580, 9.5)
HASHES = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512"}


@dataclass(frozen=True)
class FileEntry:
    """One file of the package's list: absolute path, mode (``st_mode``), size in bytes, hexadecimal digest
    ("" for what is no regular file), the target of a symbolic link, rpm's file flags, a number that hard
    links share (0: not known), owner and group by name, capabilities as text (``cap_net_raw=ep``), what
    ``rpm -V`` looks at (all bits set: everything), the numbers of a device, rpm's color (1: 32-bit ELF,
    2: 64-bit ELF, 0: neither), and its languages (``de|fr``; "" if it is installed for all)."""

    path: str
    mode: int
    size: int
    digest: str
    link: str
    flags: int
    inode: int = 0
    owner: str = ""
    group: str = ""
    capabilities: str = ""
    verified: int = 0xFFFFFFFF
    device: int = 0
    color: int = 0
    languages: str = ""

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
    package. ``relations`` are those beside Provides, Requires and Obsoletes (`RELATIONS`), ``labels``
    name and text of what it says of itself (`pipeline.rpm.labels`).
    ``payload_digest_alt`` is of the payload before compression ("" if not stated), ``file_hash`` the
    algorithm of the files' digests. ``payload_offset`` and ``size`` (of the whole file as the package states
    it) are in bytes. ``made``: when (seconds since 1970) and on which host."""

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
    relations: Mapping[str, tuple[Dependency, ...]]
    scripts: tuple[Script, ...]
    prefixes: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    files: tuple[FileEntry, ...]
    compressor: str
    header_sha256: str
    payload_digest: str
    payload_hash: str
    payload_digest_alt: str
    file_hash: str
    payload_offset: int
    size: int
    made: str

    @property
    def nvr(self) -> str:
        return f"{self.name}-{self.version}-{self.release}"

    @property
    def nvra(self) -> str:
        return f"{self.nvr}.{'src' if self.is_source else self.arch}"

    @property
    def is_source(self) -> bool:
        return not self.source_rpm


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as e:
        raise EvidenceError(
            f"cannot read {path}: {e.strerror}", hint="check the path and its permissions"
        ) from e


def _files(header: RpmHeader) -> tuple[FileEntry, ...]:
    names, dirs, indexes = header.strings(BASENAMES), header.strings(DIRNAMES), header.numbers(DIRINDEXES)
    sizes = header.numbers(LONGFILESIZES) or header.numbers(FILESIZES)
    columns = (
        header.numbers(FILEMODES),
        sizes,
        header.strings(FILEDIGESTS) or ("",) * len(names),
        header.strings(FILELINKTOS) or ("",) * len(names),
        header.numbers(FILEFLAGS) or (0,) * len(names),
        header.numbers(FILEINODES) or (0,) * len(names),
        header.strings(FILEUSERNAME) or ("",) * len(names),
        header.strings(FILEGROUPNAME) or ("",) * len(names),
        header.strings(FILECAPS) or ("",) * len(names),
        header.numbers(FILEVERIFYFLAGS) or (0xFFFFFFFF,) * len(names),
        header.numbers(FILERDEVS) or (0,) * len(names),
        header.numbers(FILECOLORS) or (0,) * len(names),
        header.strings(FILELANGS) or ("",) * len(names),
    )
    if any(len(c) != len(names) for c in (*columns, indexes)) or any(i >= len(dirs) for i in indexes):
        raise MalformedInput(f"{header.where}: the columns of the file list differ in length", hint=REMEDY)
    if odd := [mode for mode in columns[0] if mode > 0xFFFF]:
        raise MalformedInput(f"{header.where}: no file has the mode {odd[0]:o}", hint=REMEDY)
    rows = zip(names, indexes, *columns, strict=True)
    return tuple(FileEntry(dirs[i] + name, *rest) for name, i, *rest in rows)


def _hash(header: RpmHeader, tag: int, default: int, what: str) -> str:
    number = header.number(tag) or default
    if number not in HASHES:
        raise MalformedInput(f"{what} digest algorithm {number} is not known", hint=REMEDY)
    return HASHES[number]


def _parse(file: BufferedReader, path: Path, where: str) -> tuple[Rpm, RpmHeader, RpmHeader]:
    lead = exactly(file, LEAD.size, f"{where}: lead")
    if not lead.startswith(LEAD_MAGIC):
        raise MalformedInput(f"{where} is not an RPM package", hint="name RPM files (*.rpm)")
    signature = read_header(file, f"{where}: signature header")
    exactly(file, -len(signature.raw) % 8, f"{where}: signature header")
    main = read_header(file, f"{where}: header")
    offset = file.tell()
    form = main.string(PAYLOADFORMAT, "cpio")
    if form != "cpio":
        raise MalformedInput(f"{where}: payload format {form!r} is not known (cpio is)", hint=REMEDY)
    payload_digests = main.strings(PAYLOADDIGEST)
    payload_hash = _hash(main, PAYLOADDIGESTALGO, 8, f"{where}: payload")
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
        relations={kind: found for kind, tags in RELATIONS.items() if (found := main.dependencies(tags))},
        scripts=scripts.read(main),
        prefixes=main.strings(PREFIXES),
        labels=labels.read(main, signature),
        files=_files(main),
        # rpm leaves the tag out for gzip in very old packages only; "identity" and "none" mean none
        compressor=main.string(PAYLOADCOMPRESSOR, "gzip"),
        header_sha256=signature.string(SIG_SHA256, ""),
        payload_digest=payload_digests[0] if payload_digests else "",
        payload_hash=payload_hash,
        payload_digest_alt=main.string(PAYLOADDIGESTALT, ""),
        file_hash=_hash(main, FILEDIGESTALGO, 1, f"{where}: file"),
        payload_offset=offset,
        size=offset - len(main.raw) + stated if stated else 0,
        made=f"{main.number(BUILDTIME) or 0} at {main.string(BUILDHOST, '')}",
    )
    return rpm, signature, main


def read(path: Path) -> Rpm:
    """The metadata of a package, its digests not checked (see `verify`); read once while it is unchanged.

    Raises `MalformedInput` (no RPM, cut off, nonsense in the headers) or `EvidenceError` (not readable).
    """
    with _opened(path) as file:
        key = store.identity(os.fstat(file.fileno()))
        found = _read_before.get((path, key)) if key else None
        if found is None:
            found = _parse(file, path, str(path))[0]
            if key:
                _read_before[path, key] = found
    return found


#: Packages that this process read before, by path and what tells the file from its successor.
_read_before: dict[tuple[Path, tuple[int, ...]], Rpm] = {}
#: Those of which it found the digests right.
_verified: set[tuple[Path, tuple[int, ...]]] = set()


def fields(path: Path) -> dict[int, tuple[int, int, bytes]]:
    """Every field of a package's header by tag: its type, its count and its bytes. Raises as `read`."""
    with _opened(path) as file:
        return _parse(file, path, str(path))[2].fields()


def verify(path: Path, name: str = "") -> Rpm:
    """The metadata of a package whose header and payload have the digests it carries.

    This finds damage and change, not forgery: whoever writes a package can write its digests. Raises
    `MalformedInput` naming the file and what differs; a package without sha256 digests (before rpm 4.14)
    cannot be verified and is refused likewise. ``name`` is what errors call it, if not by its path. One that
    was right is not read again while it is unchanged.
    """
    where = name or str(path)
    with _opened(path) as file:
        key = store.identity(os.fstat(file.fileno()))
        if key and (path, key) in _verified:
            return read(path)
        rpm, _, main = _parse(file, path, where)
        actual = path.stat().st_size
        if rpm.size and actual != rpm.size:
            raise MalformedInput(
                f"{where} is {actual} bytes long, and states {rpm.size}: "
                + ("cut off" if actual < rpm.size else "something was added"),
                hint=REMEDY,
            )
        if not rpm.header_sha256 or not rpm.payload_digest:
            missing = "header" if not rpm.header_sha256 else "payload"
            raise MalformedInput(f"{where} carries no sha256 digest of its {missing}", hint=REMEDY)
        header = hashlib.sha256(main.raw).hexdigest()
        if header != rpm.header_sha256:
            raise MalformedInput(
                f"{where}: header has sha256 {header}, the signature header says {rpm.header_sha256}: "
                "altered",
                hint=REMEDY,
            )
        file.seek(rpm.payload_offset)
        payload = hashlib.file_digest(file, rpm.payload_hash).hexdigest()
        if payload != rpm.payload_digest:
            raise MalformedInput(
                f"{where}: payload has {rpm.payload_hash} {payload}, the header says {rpm.payload_digest}: "
                "cut off or altered",
                hint=REMEDY,
            )
    if key:
        _verified.add((path, key))
        _read_before[path, key] = rpm
    return rpm


@contextmanager
def payload(path: Path, name: str = "") -> Iterator[Iterator[PayloadMember]]:
    """The members of a package's archive in order, each readable until the next one is asked for.

    ``with payload(p) as members: for m in members: m.read()``. Raises `MalformedInput`; ``name`` is what
    errors call the package, if not by its path.
    """
    where = name or str(path)
    with _opened(path) as file:
        rpm = _parse(file, path, where)[0]
        file.seek(rpm.payload_offset)
        with rpmpayload.decompressed(file, rpm.compressor, where) as stream:
            listed = [Listed(f.path, f.mode, f.size, f.inode) for f in rpm.files]
            yield rpmpayload.members(stream, where, listed)


def extract(path: Path, destination: Path, *, first_stays: bool = False) -> None:
    """Unpack a package's files below ``destination`` (an existing directory), which acts as its ``/``.

    Nothing is written outside: names with ``..`` are refused, and symbolic links on the way are followed
    as if ``destination`` were the root. Ownership is not kept (root is not needed), modes are. No script
    of the package is run. ``first_stays``: a file that would take the place of a directory, or a directory
    that of a file, is left out; otherwise it is refused. Raises `MalformedInput`, `UsageError` if
    ``destination`` is no directory.
    """
    if not destination.is_dir():
        raise UsageError(f"{destination} is not a directory")
    with payload(path) as found:
        rpmpayload.unpack(found, destination, str(path), first_stays=first_stays)
