"""Whose symbols a file of a release can bind to: the files that ld.so loads with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.abi.files import ElfFile
from pipeline.abi.listing import PRIVATE
from pipeline.core.arch import ARCHES
from pipeline.core.errors import MalformedInput
from pipeline.elf.versions import UNVERSIONED, VER_FLG_WEAK


@dataclass
class Scopes:
    """Who is loaded with whom: the files of a release by path, and its libraries by soname."""

    files: Mapping[str, ElfFile]
    libraries: Mapping[str, ElfFile]
    loader: str
    _found: dict[tuple[tuple[str, ...], str, str], bool] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Mapping[str, ElfFile]) -> Scopes:
        """Libraries are those in library directories; modules below them are found near each other alone."""
        libraries = {f.soname: f for f in files.values() if "/" not in f.name and f.binary.is_shared_object}
        loader = next((a.loader for a in ARCHES.values() if a.loader in libraries), "")
        return cls(files, libraries, loader)

    def provider(self, file: ElfFile, soname: str) -> ElfFile | None:
        """What ld.so loads for ``file`` as ``soname``; None if it is not of this release."""
        if "$ORIGIN" in file.binary.runpath.split(":"):
            beside = self.files.get(f"{file.path.rpartition('/')[0]}/{soname}")
            if beside is not None:
                return beside
        return self.libraries.get(soname)

    def closure(self, file: ElfFile) -> tuple[dict[str, ElfFile], tuple[str, ...]]:
        """What is loaded with a file by soname, breadth first as ld.so searches; what is not of the release.

        The loader itself is always there.
        """
        inside: dict[str, ElfFile] = {}
        outside: list[str] = []
        pending = [(file, name) for name in file.binary.needed]
        while pending:
            user, name = pending.pop(0)
            if name in inside or name in outside:
                continue
            found = self.provider(user, name)
            if found is None:
                outside.append(name)
            else:
                inside[name] = found
                pending += [(found, needed) for needed in found.binary.needed]
        if self.loader in self.libraries:
            inside.setdefault(self.loader, self.libraries[self.loader])
        return inside, tuple(outside)

    def resolves(self, loaded: Mapping[str, ElfFile], file: ElfFile, symbol: str, node: str) -> bool:
        """Whether ld.so finds ``symbol`` at ``node`` ("-": at none) in the file or those loaded with it."""
        raw, version = symbol.encode(), None if node == UNVERSIONED else node
        key = (tuple(one.path for one in loaded.values()), symbol, node)
        if key not in self._found:
            self._found[key] = any(one.lookup.find(raw, version) is not None for one in loaded.values())
        return self._found[key] or file.lookup.find(raw, version) is not None


def unresolved(file: ElfFile, scopes: Scopes) -> list[str]:
    """Symbols without a version that must be there and that nothing loaded with the file has, sorted.

    libthread_db has some: the debugger that loads it brings them.
    """
    loaded, _ = scopes.closure(file)
    return sorted(
        {
            symbol.name
            for symbol in file.binary.imports
            if symbol.version == UNVERSIONED
            and not symbol.weak
            and not scopes.resolves(loaded, file, symbol.name, UNVERSIONED)
        }
    )


class Needs(NamedTuple):
    """What a file needs: ``outside``, what is loaded with it and is not of the release; what it does not get;
    how many versioned symbols it imports, and how many of them are private."""

    name: str
    outside: Sequence[str]
    faults: Sequence[str] = ()
    imports: int = 0
    private: int = 0


def needs(file: ElfFile, scopes: Scopes) -> Needs:
    """What ``file`` needs. A table that cannot be followed is a fault: it is the file that is judged."""
    try:
        loaded, outside = scopes.closure(file)
        faults = [f"{file.name}: {fault}" for fault in _unmet(file, scopes, loaded, outside)]
        nodes = [symbol.version for symbol in file.binary.imports]
    except MalformedInput as e:
        return Needs(file.name, (), (e.message,))
    return Needs(file.name, outside, faults, len(nodes) - nodes.count(UNVERSIONED), nodes.count(PRIVATE))


def _unmet(
    file: ElfFile, scopes: Scopes, loaded: Mapping[str, ElfFile], outside: tuple[str, ...]
) -> Iterator[str]:
    """Versions, and symbols at versions, that what is loaded with a file does not have."""
    lone = set()
    for need in file.lookup.requirements:
        if need.file in outside or need.flags & VER_FLG_WEAK:
            continue
        if need.file not in loaded:
            yield f"needs {need.name} of {need.file}, which is not loaded with it"
        elif not loaded[need.file].lookup.defines(need):
            lone.add((need.file, need.name))
            yield f"needs {need.name} of {need.file}, which does not define it"
    for symbol in file.binary.imports:
        if symbol.version == UNVERSIONED or symbol.weak or symbol.file in outside:
            continue
        if (symbol.file, symbol.version) in lone or symbol.file not in loaded:
            continue
        if not scopes.resolves(loaded, file, symbol.name, symbol.version):
            yield f"needs {symbol.name}@{symbol.version} of {symbol.file}, which is not there"
