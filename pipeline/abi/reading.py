"""What is read of a release's ELF files: once for all checks, and of a stored release once for all runs.

Kept are facts of the files and never a verdict, under all that decides them: the content of the release and
the code of this pipeline. The checks compare and judge anew each time.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pipeline.abi import traits
from pipeline.abi.files import ElfFile, elf_files, listings_of
from pipeline.abi.findable import file_faults
from pipeline.abi.listing import Line, Listing
from pipeline.abi.scopes import Needs, Scopes, needs
from pipeline.core import paths, store
from pipeline.rpm.sysroot import root_sha256

KIND, FACTS = "elf-facts", "facts.json"


@cache
def code() -> str:
    """sha256 of this pipeline's files, and which Python reads them."""
    return store.digest([sys.version, store.tree_sha256(paths.PACKAGE, ignore=("__pycache__",))])


class Reading:
    """The ELF files of the release extracted below ``root``.

    Each property raises what reading the files raises: `MalformedInput` for a file that begins like ELF and
    cannot be read (what else is said at its maker), OSError.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def files(self) -> dict[str, ElfFile]:
        """Every ELF file by path (`elf_files`)."""
        return elf_files(self.root)

    @cached_property
    def paths(self) -> list[str]:
        """Where every ELF file is."""
        found: list[str] = self._kept("paths", lambda: list(self.files))
        return found

    @cached_property
    def listings(self) -> dict[str, Listing]:
        """The listing of every DSO by stable name (`listings_of`)."""
        rows = self._kept("listings", lambda: [_row(found) for found in listings_of(self.files).values()])
        return {row[0]: _listing(row) for row in rows}

    @cached_property
    def details(self) -> dict[str, tuple[str, ...]]:
        """`traits.details`."""
        return self._blocks("details", traits.details)

    @cached_property
    def hardening(self) -> dict[str, tuple[str, ...]]:
        """`traits.hardening`."""
        return self._blocks("hardening", traits.hardening)

    @cached_property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """`traits.aliases`."""
        return self._blocks("aliases", traits.aliases)

    @cached_property
    def versions_of_code(self) -> dict[tuple[str, str], frozenset[frozenset[str]]]:
        """`traits.versions_of_code`."""

        def make() -> Any:
            found = traits.versions_of_code(self.files)
            return [[dso, name, sorted(map(sorted, same))] for (dso, name), same in found.items()]

        rows = self._kept("versions-of-code", make)
        return {(dso, name): frozenset(map(frozenset, same)) for dso, name, same in rows}

    @cached_property
    def not_found(self) -> tuple[list[str], dict[str, int]]:
        """The faults of every file (`file_faults`) and how many ``symbols`` and ``lookups`` were tried."""

        def make() -> Any:
            counts = Counter(symbols=0, lookups=0)
            files = self.files.values()
            return [f"{file.name}: {fault}" for file in files for fault in file_faults(file, counts)], counts

        wrong, counts = self._kept("not-found", make)
        return wrong, dict(counts)

    @cached_property
    def needs(self) -> list[Needs]:
        """What every file needs (`scopes.needs`)."""

        def make() -> Any:
            scopes = Scopes.of(self.files)
            return [needs(file, scopes) for file in self.files.values()]

        return [Needs(*row) for row in self._kept("needs", make)]

    def _blocks(
        self, what: str, read: Callable[[Mapping[str, ElfFile]], dict[str, tuple[str, ...]]]
    ) -> dict[str, tuple[str, ...]]:
        return {name: tuple(lines) for name, lines in self._kept(what, lambda: read(self.files)).items()}

    def _kept(self, what: str, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, as JSON has it. Of a root that is no stored one nothing is kept."""
        if not store.looked_at(self.root.parent):
            return make()

        def write(into: Path) -> None:
            (into / FACTS).write_text(json.dumps(make()) + "\n")

        inputs = {"root": root_sha256(self.root), "what": what, "code": code()}
        return json.loads((store.produce(KIND, inputs, write).path / FACTS).read_text())


def _row(found: Listing) -> Any:
    symbols = (sorted(found.symbols, key=str), sorted(found.private, key=str))
    return (found.name, found.soname, found.arch, found.path, *symbols)


def _listing(row: Any) -> Listing:
    name, soname, arch, path, *symbols = row
    public, private = (frozenset(Line(*line) for line in lines) for lines in symbols)
    return Listing(name, soname, arch, public, path, private)
