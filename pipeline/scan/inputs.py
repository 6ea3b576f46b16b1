"""From what the user named to ELF files: walks directories, looks into archives, and loses nothing.

Every path that could not be read becomes an item with its trouble, so that it can be answered "unknown".
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline import elf
from pipeline.core.errors import EvidenceError
from pipeline.elf.image import MAGIC
from pipeline.scan import archives
from pipeline.scan.archives import Limits
from pipeline.scan.facts import Facts, facts_of

#: Archives in archives are looked into so deep: a wheel in a tar archive, but nothing in that wheel.
DEPTH = 2
#: Stands between an archive and what is in it, as in ``dist/x.whl!pkg/_x.so``.
INSIDE = "!"


@dataclass(frozen=True)
class Item:
    """One ELF file, or something that could not be read: exactly one of ``facts`` and ``trouble`` is set.

    ``file`` is the path on disk, ``member`` the name in the archive it is ("" if it is none).
    """

    file: str
    member: str = ""
    facts: Facts | None = None
    trouble: str = ""

    @property
    def name(self) -> str:
        """The whole name, unprintable characters as escapes."""
        whole = f"{self.file}{INSIDE}{self.member}" if self.member else self.file
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in whole)


def items(path: Path, limits: Limits | None = None) -> Iterator[Item]:
    """The ELF files at ``path``: the file itself, those below it, or those in it.

    A file that was named and is neither ELF nor an archive is trouble; one that a directory merely holds is
    passed over.
    """
    bounds = limits or Limits()
    try:
        is_directory = path.is_dir()
    except OSError as e:
        yield Item(str(path), trouble=_why(e))
        return
    if is_directory:
        yield from _below(path, bounds)
    else:
        yield from _file(str(path), bounds, named=True)


def _below(root: Path, limits: Limits) -> Iterator[Item]:
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
                    yield from _file(entry.path, limits, named=False)
        except OSError as e:
            yield Item(directory, trouble=_why(e))
            continue
        pending.extend(reversed(directories))


def _file(path: str, limits: Limits, *, named: bool) -> Iterator[Item]:
    try:
        if named and not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116  # a string all along
            yield Item(path, trouble="neither a file nor a directory")
            return
        binary = elf.read_if_elf(path, name=path)
        if binary is not None:
            yield Item(path, facts=facts_of(binary))
            return
        with open(path, "rb") as file:  # noqa: PTH123
            yield from _archive(path, "", file, limits, 1, named=named)
    except EvidenceError as e:
        yield Item(path, trouble=e.message)
    except OSError as e:
        yield Item(path, trouble=_why(e))


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
            name = f"{inside}{INSIDE}{member.name}" if inside else member.name
            yield from _member(path, name, member.data, limits, depth)
    except EvidenceError as e:
        yield Item(path, inside, trouble=e.message)
    except OSError as e:
        yield Item(path, inside, trouble=_why(e))


def _member(path: str, name: str, data: bytes, limits: Limits, depth: int) -> Iterator[Item]:
    if data[:4] == MAGIC:
        try:
            yield Item(path, name, facts=facts_of(elf.parse(data, f"{path}{INSIDE}{name}")))
        except EvidenceError as e:
            yield Item(path, name, trouble=e.message)
        return
    kind = archives.kind_of(data[:1024])
    if kind in ("", "ar"):
        return
    if depth < DEPTH:
        yield from _archive(path, name, io.BytesIO(data), limits, depth + 1, named=False)
    elif kind != "compressed":
        yield Item(path, name, trouble=f"an archive ({kind}) in an archive in an archive is not looked into")


def _why(error: OSError) -> str:
    return error.strerror or str(error)
