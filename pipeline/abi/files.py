"""Every ELF file of a release: its libraries and modules, and its programs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline import elf
from pipeline.abi.listing import regular_files, stable_name
from pipeline.elf import Elf
from pipeline.elf.image import ET_DYN, ET_EXEC
from pipeline.elf.lookup import Lookup


@dataclass(frozen=True)
class ElfFile:
    """A program or DSO: ``name`` as `stable_name` calls it, ``path`` inside the release."""

    name: str
    path: str
    binary: Elf

    @cached_property
    def lookup(self) -> Lookup:
        """Its symbols as ld.so finds them."""
        return Lookup(self.binary)

    @property
    def soname(self) -> str:
        """What others need it by: DT_SONAME, else the file's own name."""
        return self.binary.soname or self.path.rpartition("/")[2]


def elf_files(root: Path) -> dict[str, ElfFile]:
    """All files of type ET_DYN and ET_EXEC below ``root`` by path, sorted.

    Raises `MalformedInput` for a file that begins like ELF and cannot be read; OSError.
    """
    found = {}
    for path, real in regular_files(root):
        binary = elf.read_if_elf(real, path)
        if binary is not None and binary.type in (ET_DYN, ET_EXEC):
            found[path] = ElfFile(stable_name(path), path, binary)
    return dict(sorted(found.items()))
