"""Whose symbols a file of a release can bind to: the files that ld.so loads with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.abi.files import ElfFile
from pipeline.elf.versions import UNVERSIONED


@dataclass
class Scopes:
    """Who is loaded with whom: the files of a release by path, and its libraries by soname."""

    files: Mapping[str, ElfFile]
    libraries: Mapping[str, ElfFile]
    loader: str
    _found: dict[tuple[tuple[str, ...], str, str], bool] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Mapping[str, ElfFile], loader: str) -> Scopes:
        """Libraries are those in library directories; modules below them are found near each other alone."""
        return cls(
            files,
            {f.soname: f for f in files.values() if "/" not in f.name and f.binary.is_shared_object},
            loader,
        )

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
