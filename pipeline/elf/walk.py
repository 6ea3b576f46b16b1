"""The version tables of an ELF file as ld.so walks them (elf/dl-version.c): by their links, by no count."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import NamedTuple

from pipeline.elf import Elf
from pipeline.elf.image import DT_VERDEF, DT_VERNEED, DT_VERSYM
from pipeline.elf.versions import MAX_VERSIONS, VER_FLG_BASE

HIDDEN_BIT = 0x8000

_HALF = struct.Struct("<H")
_VERDEF = struct.Struct("<HHHHIII")
_VERDAUX = struct.Struct("<II")
_VERNEED = struct.Struct("<HHIII")
_VERNAUX = struct.Struct("<IHHII")


class Definition(NamedTuple):
    """A version node the file defines: ``revision`` is vd_version, ``parents`` the names after its own."""

    name: str
    parents: tuple[str, ...]
    flags: int
    number: int
    hash: int
    revision: int

    @property
    def base(self) -> bool:
        """Whether it is the file's own name and not a node."""
        return bool(self.flags & VER_FLG_BASE)


class Requirement(NamedTuple):
    """A version node the file wants of the DSO ``file``: ``revision`` is vn_version (1)."""

    file: str
    name: str
    flags: int
    number: int
    hash: int
    revision: int


class Walked:
    """One file's versions, as ld.so sees them. Tables raise `MalformedInput` when they are first used."""

    def __init__(self, binary: Elf) -> None:
        self.binary = binary
        self.versym = (
            binary.window(binary.tags[DT_VERSYM], "the symbol versions") if DT_VERSYM in binary.tags else None
        )

    @cached_property
    def definitions(self) -> tuple[Definition, ...]:
        """DT_VERDEF along vd_next; its DT_VERDEFNUM is not asked."""
        binary = self.binary
        found: list[Definition] = []
        if DT_VERDEF not in binary.tags:
            return ()
        at, end = binary.window(binary.tags[DT_VERDEF], "the version definitions")
        while len(found) <= MAX_VERSIONS:
            revision, flags, index, count, value, aux, step = binary.record(
                _VERDEF, at, end, "a version definition"
            )
            names = []
            aux += at
            for _ in range(count):
                name, link = binary.record(_VERDAUX, aux, end, "a version's name")
                names.append(binary.string(name))
                if not link:
                    break
                aux += link
            if not names:
                raise binary.malformed("a version definition without a name")
            found.append(Definition(names[0], tuple(names[1:]), flags, index & MAX_VERSIONS, value, revision))
            if not step:
                return tuple(found)
            at += step
        raise binary.malformed(f"more than {MAX_VERSIONS} version definitions")

    @cached_property
    def requirements(self) -> tuple[Requirement, ...]:
        """DT_VERNEED along vn_next and vna_next."""
        binary = self.binary
        found: list[Requirement] = []
        if DT_VERNEED not in binary.tags:
            return ()
        at, end = binary.window(binary.tags[DT_VERNEED], "the version requirements")
        while len(found) <= MAX_VERSIONS:
            revision, _, file, aux, step = binary.record(_VERNEED, at, end, "a version requirement")
            aux += at
            while len(found) <= MAX_VERSIONS:
                value, flags, other, name, link = binary.record(_VERNAUX, aux, end, "a required version")
                found.append(
                    Requirement(binary.string(file), binary.string(name), flags, other, value, revision)
                )
                if not link:
                    break
                aux += link
            if not step:
                return tuple(found)
            at += step
        raise binary.malformed(f"more than {MAX_VERSIONS} required versions")

    @cached_property
    def versions(self) -> dict[int, tuple[int, str]]:
        """ld.so's l_versions: index -> hash and name. A base definition has neither."""
        found = {r.number & MAX_VERSIONS: (r.hash, r.name) for r in self.requirements}
        found.update({d.number: (d.hash, d.name) for d in self.definitions if not d.base})
        return found

    def version_of(self, index: int) -> tuple[str, bool]:
        """Node of the symbol at ``index`` ("" for the base or without versions), and its hidden bit."""
        bits = self.bits(index)
        return self.versions.get(bits & MAX_VERSIONS, (0, ""))[1], bits >= HIDDEN_BIT

    def bits(self, index: int) -> int:
        if self.versym is None:
            return 0
        at, end = self.versym
        return self.binary.record(_HALF, at + 2 * index, end, "the symbol versions")[0]

    def defines(self, requirement: Requirement) -> bool:
        """Whether this file satisfies the node; one without version definitions satisfies all."""
        if DT_VERDEF not in self.binary.tags:
            return True
        wanted = (requirement.hash, requirement.name)
        return any((d.hash, d.name) == wanted for d in self.definitions)
