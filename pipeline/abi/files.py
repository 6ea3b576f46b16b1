"""Every ELF file of a release: its libraries and modules, and its programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline import elf
from pipeline.abi.listing import Listing, listing_of, regular_files, stable_name
from pipeline.core.errors import MalformedInput
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


def listings(root: Path) -> dict[str, Listing]:
    """`listings_of` all files below ``root``. Raises as `elf_files` does, too."""
    return listings_of(elf_files(root))


def listings_of(files: Mapping[str, ElfFile]) -> dict[str, Listing]:
    """The listings of all DSOs of a release by stable name, sorted.

    A DSO is of type ET_DYN, with dynamic symbols, and no program. Raises `MalformedInput`, also for two
    different DSOs of one name.
    """
    found: dict[str, Listing] = {}
    for path, file in files.items():
        if not file.binary.is_shared_object:
            continue
        listing = listing_of(file.binary, file.name, path)
        other = found.setdefault(listing.name, listing)
        if (other.symbols, other.soname, other.arch) != (listing.symbols, listing.soname, listing.arch):
            raise MalformedInput(
                f"{other.path} and {path} are both called {listing.name} and are not the same",
                hint="a release has one DSO of a name; extract it into an empty directory",
            )
    return dict(sorted(found.items()))
