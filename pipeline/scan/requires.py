"""Why an RPM requires what it does: for each versioned Requires the files and symbols that cause it.

rpm's generator writes ``libc.so.6(GLIBC_2.34)(64bit)`` for a file whose version requirements (DT_VERNEED)
name that node of that library. So the cause is looked for where the generator looked, and the symbols at that
node say why the linker wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import EvidenceError
from pipeline.rpm import package
from pipeline.scan.archives import RPM_MAGIC
from pipeline.scan.facts import Facts
from pipeline.scan.inputs import INSIDE, Item

#: ``SONAME(VERSION)(64bit)``; 32-bit libraries, which are not read, lack the last part
_VERSIONED = re.compile(r"(?P<dso>[^()\s]+)\((?P<node>[^()\s]+)\)\(64bit\)$")


@dataclass(frozen=True)
class Because:
    """A file that asks for the version, and its symbols at it: with none, it is a node without symbols."""

    file: str
    symbols: tuple[str, ...]
    weak: bool


@dataclass(frozen=True)
class Required:
    """A versioned Requires of a package, and the files of the package that cause it."""

    package: str
    requirement: str
    dso: str
    node: str
    causes: tuple[Because, ...]


def required(items: Iterable[Item]) -> list[Required]:
    """The versioned Requires of every RPM among what was scanned, in the packages' order."""
    packages: dict[str, list[tuple[str, Facts]]] = {}
    for item in items:
        known = packages.get(item.file)
        if known is None:
            known = packages[item.file] = []
        if item.facts and item.member and INSIDE not in item.member:
            known.append((item.member, item.facts))
    found: list[Required] = []
    for name, files in packages.items():
        found += _of_package(Path(name), files)
    return found


def _of_package(path: Path, files: list[tuple[str, Facts]]) -> list[Required]:
    try:
        with path.open("rb") as file:
            if file.read(4) != RPM_MAGIC:
                return []
        names = dict.fromkeys(d.name for d in package.read(path).requires)
    except (EvidenceError, OSError):  # the scan has said so already
        return []
    found = []
    for name in names:
        match = _VERSIONED.match(name)
        if match:
            dso, node = match["dso"], match["node"]
            causes = tuple(b for member, facts in files if (b := _because(member, facts, dso, node)))
            found.append(Required(str(path), name, dso, node, causes))
    return found


def _because(member: str, facts: Facts, dso: str, node: str) -> Because | None:
    if not any(n.file == dso and node in n.versions for n in facts.needs):
        return None
    symbols = [i for i in facts.imports if (i.file, i.version) == (dso, node)]
    return Because(
        member, tuple(sorted({i.name for i in symbols})), bool(symbols) and all(i.weak for i in symbols)
    )
