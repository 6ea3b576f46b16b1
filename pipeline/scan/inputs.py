"""From what the user named to ELF files: walks directories, looks into archives, and loses nothing.

Every path that could not be read becomes an item with its trouble, so that it can be answered "unknown".
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline import elf
from pipeline.core.errors import EvidenceError
from pipeline.elf import Elf
from pipeline.elf.image import MAGIC, ForeignElf
from pipeline.scan import archives, layers, readers
from pipeline.scan.archives import Member
from pipeline.scan.facts import Facts, facts_of
from pipeline.scan.limits import Limits

#: Archives in archives are looked into so deep: a wheel in a tar archive, but nothing in that wheel.
DEPTH = 2
#: Stands between an archive and what is in it, as in ``dist/x.whl!pkg/_x.so``.
INSIDE = "!"
#: What begins so may have a zip archive behind it (zipapp, pex).
SCRIPT = b"#!"
#: Names that ld.so searches for.
_LIBRARY = re.compile(r"\.so(\.[0-9]+)*$")


@dataclass(frozen=True)
class Item:
    """One ELF file, what could not be read, a link, or what has but a library's name: the first four fields
    behind ``member`` say which.

    ``file`` is the path on disk, ``member`` the name in the archive it is ("" if it is none). ``link`` is
    where a symbolic link of an archive points (a hard link's target begins with "/"). ``no_elf``: a file that
    is named like a library and is none; nothing is said of it but where ld.so finds it. ``foreign``: an ELF
    file of another class or byte order, which ld.so passes over when it searches.
    """

    file: str
    member: str = ""
    facts: Facts | None = None
    trouble: str = ""
    link: str = ""
    no_elf: bool = False
    foreign: bool = False

    @property
    def silent(self) -> bool:
        """Whether it is there only for what others find."""
        return bool(self.link) or self.no_elf

    @property
    def name(self) -> str:
        """The whole name, unprintable characters as escapes."""
        whole = f"{self.file}{INSIDE}{self.member}" if self.member else self.file
        if whole.isprintable():
            return whole
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in whole)


class Named(NamedTuple):
    """A regular file (or what was named as one) that is still to be read. ``named``: by the user himself."""

    path: str
    limits: Limits
    named: bool


def items(path: Path, limits: Limits | None = None) -> Iterator[Item]:
    """The ELF files at ``path``: the file itself, those below it, or those in it; and the links in archives.

    A file that was named and is neither ELF nor an archive is trouble; one that a directory merely holds is
    passed over.
    """
    for found in files(path, limits):
        yield from read(found)


def all_items(paths: Iterable[Path], limits: Limits | None = None) -> Iterator[tuple[int, Item]]:
    """`items` of all ``paths`` in order, each with the number of its path; on all processors if many."""
    whose: list[int] = []

    def walked() -> Iterator[Named | Item]:
        for number, path in enumerate(paths):
            for found in files(path, limits):
                whose.append(number)
                yield found

    for at, answers in enumerate(readers.spread(read, walked(), _size)):
        for item in answers:
            yield whose[at], item


def files(path: Path, limits: Limits | None = None) -> Iterator[Named | Item]:
    """The files to be read at ``path``, in order, and as items the places that cannot be looked into."""
    bounds = limits or Limits()
    if layers.is_image(str(path)):
        yield Named(str(path), bounds, named=True)
        return
    try:
        is_directory = path.is_dir()
    except OSError as e:
        yield Item(str(path), trouble=_why(e))
        return
    if is_directory:
        yield from _below(path, bounds)
    else:
        yield Named(str(path), bounds, named=True)


def _below(root: Path, limits: Limits) -> Iterator[Named | Item]:
    """Regular files below ``root`` in order; links are not followed, and of hard links each is read."""
    pending = [str(root)]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                found = sorted(entries, key=lambda e: e.name)
            directories = []
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield Named(entry.path, limits, named=False)
        except OSError as e:
            yield Item(directory, trouble=_why(e))
            continue
        pending.extend(reversed(directories))


def _size(found: Named | Item) -> int:
    try:
        return os.stat(found.path).st_size if isinstance(found, Named) else 0  # noqa: PTH116  # a string
    except OSError:
        return 0


def read(found: Named | Item) -> list[Item]:
    """What is in a file: itself, or the members of an archive; nothing if it is neither and was not named."""
    return list(_file(found)) if isinstance(found, Named) else [found]


def _file(found: Named) -> Iterator[Item]:
    path = found.path
    try:
        if found.named and layers.is_image(path):
            for member in layers.members(path, found.limits):
                yield from _of_archive(path, member, "", found.limits, 1)
            return
        if found.named and not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116  # a string all along
            yield Item(path, trouble="neither a file nor a directory")
            return
        binary, head = elf.read_or_head(path, archives.HEAD)
        if binary is not None:
            yield Item(path, facts=facts_of(binary))
            if archives.ends_as_zip(binary.data[-archives.ZIP_END_SIZE :]):
                yield from _opened(found, named=False)
        elif found.named or archives.kind_of(head) or head.startswith(SCRIPT):
            yield from _opened(found, named=found.named)
        elif _LIBRARY.search(path):
            yield Item(path, no_elf=True)
    except EvidenceError as e:
        yield Item(path, trouble=e.message, foreign=isinstance(e, ForeignElf))
    except OSError as e:
        yield Item(path, trouble=_why(e))


def _opened(found: Named, *, named: bool) -> Iterator[Item]:
    with open(found.path, "rb") as file:  # noqa: PTH123
        yield from _archive(found.path, "", file, found.limits, 1, named=named)


def _archive(
    path: str, inside: str, file: BinaryIO, limits: Limits, depth: int, *, named: bool
) -> Iterator[Item]:
    where = f"{path}{INSIDE}{inside}" if inside else path
    try:
        found = archives.members(file, where, limits)
        if found is None:
            if named:
                yield Item(path, trouble="neither an ELF file nor an archive of a kind that is read")
            return
        for member in found:
            yield from _of_archive(path, member, inside, limits, depth)
    except EvidenceError as e:
        yield Item(path, inside, trouble=e.message)
    except OSError as e:
        yield Item(path, inside, trouble=_why(e))


def _of_archive(path: str, member: Member, inside: str, limits: Limits, depth: int) -> Iterator[Item]:
    name = f"{inside}{INSIDE}{member.name}" if inside else member.name
    if member.link:
        yield Item(path, name, link=member.link)
    else:
        yield from _member(path, name, member.data, limits, depth)


def _member(path: str, name: str, data: bytes, limits: Limits, depth: int) -> Iterator[Item]:
    if data[:4] == MAGIC:
        try:
            yield Item(
                path, name, facts=facts_of(elf.parse(data, f"{path}{INSIDE}{name}"), with_exports=True)
            )
        except EvidenceError as e:
            yield Item(path, name, trouble=e.message, foreign=isinstance(e, ForeignElf))
    kind = "zip" if archives.ends_as_zip(data) else archives.kind_of(data[: archives.HEAD])
    if kind in ("", "ar"):
        if data[:4] != MAGIC and _LIBRARY.search(name):
            yield Item(path, name, no_elf=True)
    elif depth < DEPTH:
        yield from _archive(path, name, io.BytesIO(data), limits, depth + 1, named=False)
    elif kind != "compressed" or _holds_something(data, name):
        yield Item(path, name, trouble=f"an archive ({kind}) in an archive in an archive is not looked into")


def _holds_something(data: bytes, name: str) -> bool:
    """Whether compressed data hold an archive or an ELF file; what cannot be read holds it, too."""
    try:
        return bool(archives.compressed_kind(io.BytesIO(data), name))
    except EvidenceError:
        return True


def contents(path: str, wanted: Set[str], limits: Limits | None = None) -> Iterator[tuple[str, Elf]]:
    """ELF files that `items` found at ``path`` ("" is the file itself), read once more. Raises as `read`."""
    bounds = limits or Limits()
    if "" in wanted:
        yield "", elf.read(path)
        return
    if layers.is_image(path):
        found = ((m.name, m.data) for m in layers.members(path, bounds))
        yield from ((name, elf.parse(data, name)) for name, data in found if name in wanted)
        return
    with open(path, "rb") as file:  # noqa: PTH123
        yield from _wanted_of(file, path, "", wanted, bounds)


def _wanted_of(
    file: BinaryIO, path: str, inside: str, wanted: Set[str], limits: Limits
) -> Iterator[tuple[str, Elf]]:
    for member in archives.members(file, path, limits) or ():
        name = f"{inside}{INSIDE}{member.name}" if inside else member.name
        if name in wanted:
            yield name, elf.parse(member.data, name)
        elif any(other.startswith(f"{name}{INSIDE}") for other in wanted):
            yield from _wanted_of(io.BytesIO(member.data), path, name, wanted, limits)


def _why(error: OSError) -> str:
    return error.strerror or str(error)
