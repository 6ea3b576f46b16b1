"""The version nodes of an ELF file: those it defines (DT_VERDEF), those it wants of others (DT_VERNEED)."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import NamedTuple

from pipeline.elf.image import DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM, LoadedImage

VER_FLG_BASE, VER_FLG_WEAK = 1, 2
#: A version index is 15 bits wide; the 16th is the hidden bit.
MAX_VERSIONS = 0x7FFF
#: Node names that a symbol outside any named version gets (``Base`` is what binutils' objdump prints).
UNVERSIONED, BASE, LOCAL = "-", "Base", "Local"

#: Records of the two tables: with the names of a definition, and with the versions of a requirement.
VERDEF = struct.Struct("<HHHHIII")
VERDAUX = struct.Struct("<II")
VERNEED = struct.Struct("<HHIII")
VERNAUX = struct.Struct("<IHHII")


class VersionNeed(NamedTuple):
    """The versions a file wants of one DSO; ``weak`` ones are not required to be there."""

    file: str
    versions: tuple[str, ...]
    weak: frozenset[str]


class Versioned(LoadedImage):
    """A loaded image with its version tables, unpacked on first use; they raise `MalformedInput` then."""

    @cached_property
    def _definitions(self) -> dict[int, tuple[str, int]]:
        """DT_VERDEF: index -> name and flags."""
        found: dict[int, tuple[str, int]] = {}
        if DT_VERDEF not in self.tags:
            return found
        count = self.tags.get(DT_VERDEFNUM, 0)
        if count > MAX_VERSIONS:
            raise self.malformed(f"{count} version definitions, more than {MAX_VERSIONS}")
        at, end = self.window(self.tags[DT_VERDEF], "the version definitions")
        for left in range(count, 0, -1):
            _, flags, index, aux_count, _, aux, step = self.record(VERDEF, at, end, "a version definition")
            if not aux_count:
                raise self.malformed("a version definition without a name")
            name, _ = self.record(VERDAUX, at + aux, end, "a version's name")
            if index & MAX_VERSIONS in found:
                raise self.malformed(f"two version definitions have the index {index & MAX_VERSIONS}")
            found[index & MAX_VERSIONS] = (self.string(name), flags)
            if not step and left > 1:
                raise self.malformed(f"{left - 1} of {count} version definitions are missing")
            at += step
        return found

    @cached_property
    def nodes(self) -> frozenset[str]:
        """The version nodes the file defines, with or without symbols (its base version is none)."""
        return frozenset(name for name, flags in self._definitions.values() if not flags & VER_FLG_BASE)

    @cached_property
    def _requirements(self) -> tuple[tuple[VersionNeed, ...], dict[int, str], dict[int, str]]:
        """DT_VERNEED, and index -> node and index -> DSO for the symbols that refer to it."""
        needs: list[VersionNeed] = []
        names: dict[int, str] = {}
        files: dict[int, str] = {}
        if DT_VERNEED not in self.tags:
            return (), names, files
        count = self.tags.get(DT_VERNEEDNUM, 0)
        if count > MAX_VERSIONS:
            raise self.malformed(f"{count} version requirements, more than {MAX_VERSIONS}")
        at, end = self.window(self.tags[DT_VERNEED], "the version requirements")
        total = 0
        for left in range(count, 0, -1):
            _, aux_count, file, aux, step = self.record(VERNEED, at, end, "a version requirement")
            total += aux_count
            if total > MAX_VERSIONS:
                raise self.malformed(f"more than {MAX_VERSIONS} required versions")
            versions: list[str] = []
            weak: set[str] = set()
            aux += at
            for aux_left in range(aux_count, 0, -1):
                _, flags, index, name, aux_step = self.record(VERNAUX, aux, end, "a required version")
                versions.append(self.string(name))
                names[index & MAX_VERSIONS] = versions[-1]
                files[index & MAX_VERSIONS] = self.string(file)
                if flags & VER_FLG_WEAK:
                    weak.add(versions[-1])
                if not aux_step and aux_left > 1:
                    raise self.malformed(f"{aux_left - 1} of {aux_count} required versions are missing")
                aux += aux_step
            needs.append(VersionNeed(self.string(file), tuple(versions), frozenset(weak)))
            if not step and left > 1:
                raise self.malformed(f"{left - 1} of {count} version requirements are missing")
            at += step
        return tuple(needs), names, files

    @property
    def needs(self) -> tuple[VersionNeed, ...]:
        """DT_VERNEED, in order."""
        return self._requirements[0]

    @cached_property
    def _version_names(self) -> dict[int, str]:
        """Version index -> the node's name, for definitions and requirements."""
        names = dict(self._requirements[1])
        for index, (name, flags) in self._definitions.items():
            names[index] = BASE if flags & VER_FLG_BASE else name
        names.setdefault(0, LOCAL)
        names.setdefault(1, BASE)
        return names
