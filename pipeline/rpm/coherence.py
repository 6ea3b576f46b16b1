"""Do packages agree with themselves and with each other? What is unpacked here must be what rpm installs.

rpm takes names, modes, owners and links from a package's header, and contents from its payload; it refuses a
transaction in which two packages have different things at one path (``rpmfilesCompare`` in rpm's
``lib/rpmfi.c``).
"""

from __future__ import annotations

import hashlib
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.rpm import package
from pipeline.rpm import payload as rpmpayload
from pipeline.rpm.package import FileEntry, Rpm
from pipeline.rpm.payload import CHUNK, Listed, PayloadMember, Readable

#: Directories that are links to the same below /usr on the systems these packages are for. rpm compares
#: paths after it has followed the links that are installed.
MERGED = ("/lib/", "/lib64/", "/bin/", "/sbin/")
#: rpm gives debug files no color.
DEBUG = "/usr/lib/debug/"


class _Digesting:
    """Passes on what it reads, and knows its digest."""

    def __init__(self, source: Readable, algorithm: str) -> None:
        self._source = source
        self.digest = hashlib.new(algorithm)

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data


def payload_faults(path: Path) -> list[str]:
    """What of a package's payload is not as its header says, a line each; [] if all is.

    Compared: the members with the file list both ways, type and mode, size, digest, link target, which
    files are hard links of each other, rpm's colors, and the digest of the archive before compression. Raises
    `MalformedInput` if the package cannot be read at all.
    """
    rpm = package.read(path)
    listed = [Listed(f.path, f.mode, f.size, f.inode) for f in rpm.files]
    with path.open("rb") as file:
        file.seek(rpm.payload_offset)
        with rpmpayload.decompressed(file, rpm.compressor, str(path)) as stream:
            digesting = _Digesting(stream, rpm.payload_hash)
            comparison = _Comparison(rpm)
            for member in rpmpayload.members(digesting, str(path), listed):
                comparison.member(member)
            faults = comparison.finish()
            trailing = b""
            while rest := digesting.read(CHUNK):  # padding after the last member is zeros
                trailing = trailing or rest.strip(b"\0")
    if trailing:
        faults.append("something follows the end of the archive")
    actual = digesting.digest.hexdigest()
    if rpm.payload_digest_alt and actual != rpm.payload_digest_alt:
        faults.append(
            f"uncompressed payload has {rpm.payload_hash} {actual}, the header says {rpm.payload_digest_alt}"
        )
    return faults


class _Comparison:
    """The archive compared with the file list, member by member; ``faults`` is what differs."""

    def __init__(self, rpm: Rpm) -> None:
        self.hash = rpm.file_hash
        #: a source package has names alone
        self.source = rpm.is_source
        #: rpmbuild gives colors to all files or, without its generators, to none
        self.colored = any(entry.color for entry in rpm.files)
        self.listed = {entry.path: entry for entry in rpm.files}
        self.faults: list[str] = []
        twice = [path for path, count in Counter(e.path for e in rpm.files).items() if count > 1]
        self.faults += [f"{path}: twice in the file list" for path in twice]
        self.seen: set[str] = set()
        #: hard links: the paths of an inode, and the size and digest of the one that has data
        self.groups: dict[tuple[int, int, int], list[str]] = {}
        self.contents: dict[tuple[int, int, int], tuple[int, str, int]] = {}

    def member(self, member: PayloadMember) -> None:
        name = member.path.removeprefix("/") if self.source else member.path
        entry = self.listed.get(name)
        if entry is None:
            self.faults.append(f"{name}: in the payload, not in the file list")
            return
        if name in self.seen:
            self.faults.append(f"{name}: twice in the payload")
        self.seen.add(name)
        if entry.ghost:
            self.faults.append(f"{name}: in the payload, although it is %ghost")
        if member.mode != entry.mode:
            self.faults.append(
                f"{name}: mode {member.mode:o} in the payload, {entry.mode:o} in the file list"
            )
        if stat.S_ISLNK(member.mode):
            target = member.read().decode(errors="surrogateescape")
            if target != entry.link:
                self.faults.append(
                    f"{name}: leads to {target!r} in the payload, to {entry.link!r} in the file list"
                )
        elif stat.S_ISREG(member.mode):
            key = member.inode if member.links > 1 else (-1, -1, len(self.seen))
            self.groups.setdefault(key, []).append(name)
            if member.size or member.links <= 1:
                self.contents[key] = _content(member, self.hash)

    def finish(self) -> list[str]:
        """All that differs, once every member was seen."""
        empty = (0, hashlib.new(self.hash).hexdigest(), 0)
        for key, names in self.groups.items():
            self._group(names, *self.contents.get(key, empty))
        self.faults += [
            f"{name}: in the file list, not in the payload"
            for name, entry in self.listed.items()
            if name not in self.seen and not entry.ghost
        ]
        return self.faults

    def _group(self, names: Sequence[str], size: int, digest: str, color: int) -> None:
        """One file of the payload with all its names."""
        for name in names:
            entry = self.listed[name]
            if size != entry.size:
                self.faults.append(f"{name}: {size} bytes in the payload, {entry.size} in the file list")
            elif digest != entry.digest:
                self.faults.append(
                    f"{name}: {self.hash} {digest} in the payload, {entry.digest} in the file list"
                )
            if color != entry.color and self.colored and not name.startswith(DEBUG):
                self.faults.append(f"{name}: color {color} by its content, {entry.color} in the file list")
        inodes = {self.listed[name].inode for name in names}
        if len(inodes) > 1:
            self.faults.append(f"{', '.join(names)}: one file in the payload, {len(inodes)} in the file list")


def _content(member: PayloadMember, algorithm: str) -> tuple[int, str, int]:
    """Size, digest and color of what is left of a member."""
    digest, size, color = hashlib.new(algorithm), 0, 0
    while chunk := member.read(CHUNK):
        if not size:
            color = _color(chunk)
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest(), color


def _color(head: bytes) -> int:
    """rpm's color: 1 for a 32-bit program or shared object, 2 for a 64-bit one, 0 for all else."""
    loaded = (
        head.startswith(b"\x7fELF") and len(head) >= 20 and int.from_bytes(head[16:18], "little") in (2, 3)
    )
    return head[4] if loaded and head[4] in (1, 2) else 0


@dataclass(frozen=True)
class _Owned:
    package: str
    entry: FileEntry
    hash: str


def installed_path(path: str) -> str:
    """Where a file lies on a system whose /lib, /lib64, /bin and /sbin are links to the same below /usr."""
    return f"/usr{path}" if path.startswith(MERGED) else path


def conflicts(rpms: Sequence[Rpm]) -> list[str]:
    """The paths at which packages have different things, a line each, sorted; [] if there are none.

    As rpm compares them: mode (of links only that both are links), owner, group, target of a link, size and
    digest of a file, numbers of a device; a %ghost conflicts with nothing, and a 32-bit ELF file not with a
    64-bit one. Also within one package, where two listed paths are one on a merged /usr; and a file where
    another path has a directory on its way, which rpm finds out only when it cannot unpack.
    """
    owners: dict[str, list[_Owned]] = {}
    below: dict[str, tuple[str, str]] = {}  # directory on the way -> the first path below it and its package
    several = len({rpm.arch for rpm in rpms} - {"noarch"}) > 1
    for rpm in rpms:
        name = f"{rpm.name}.{rpm.arch}" if several else rpm.name
        for entry in rpm.files:
            where = installed_path(entry.path)
            owners.setdefault(where, []).append(_Owned(name, entry, rpm.file_hash))
            up = "" if entry.ghost else where.rpartition("/")[0]
            while up and up not in below:
                below[up] = (where, name)
                up = up.rpartition("/")[0]
    found = []
    for path, all_of_it in owners.items():
        there = [o for o in all_of_it if not o.entry.ghost]
        for one in there:
            if path in below and stat.S_IFMT(one.entry.mode) not in (stat.S_IFDIR, stat.S_IFLNK):
                other_path, package_ = below[path]
                found.append(f"{path}: a file in {one.package}, a directory for {other_path} in {package_}")
        for other in there[1:]:
            first = next(o for o in there if not _apart(o, other))
            if what := _difference(first, other):
                found.append(f"{path}: {what} in {first.package} and {other.package}")
    return sorted(set(found))


def _apart(one: _Owned, two: _Owned) -> bool:
    """Whether one is a 32-bit ELF file and the other a 64-bit one: rpm installs the latter."""
    colors = one.entry.color, two.entry.color
    return all(colors) and colors[0] != colors[1]


def _difference(one: _Owned, two: _Owned) -> str:
    """In what two packages' entries for a path differ, "" if in nothing."""
    a, b = one.entry, two.entry
    links = stat.S_ISLNK(a.mode) and stat.S_ISLNK(b.mode)
    if a.mode != b.mode and not links:
        return f"modes {a.mode:o} and {b.mode:o}"
    if (a.owner, a.group) != (b.owner, b.group):
        return f"owners {a.owner}:{a.group} and {b.owner}:{b.group}"
    if links and a.link != b.link:
        return f"links to {a.link} and {b.link}"
    if stat.S_ISREG(a.mode) and (a.size, one.hash, a.digest) != (b.size, two.hash, b.digest):
        return f"different contents ({a.digest[:16]} and {b.digest[:16]})"
    if (stat.S_ISCHR(a.mode) or stat.S_ISBLK(a.mode)) and a.device != b.device:
        return "different devices"
    return ""
