"""Listings: the public symbols of a DSO in the notation of glibc's own ``.abilist`` files.

A line is ``NODE SYMBOL KIND [SIZE]`` (``GLIBC_2.35 __rseq_size D 0x4``), and lines sort as bytes, as
upstream's files do (``LC_ALL=C sort -u``). The kinds: ``F`` functions, also indirect ones, without a size;
``D`` data with its size in bytes; ``T`` thread-local data with its size. GLIBC_PRIVATE is no public node, and
default and hidden versions of a symbol count alike. Upstream's notation, made for glibc's own libraries, is
extended in two points, so that nothing a program could come to depend on goes unlisted:

- symbols of a DSO without versions (gconv modules) are listed under the node ``-``;
- kind ``A`` lists absolute symbols, and version nodes without any symbol (``NODE NODE A``): RPM
  dependencies name nodes, so an empty node is part of the ABI. An absolute symbol that only repeats its
  node's name, as old linkers made them, is that same line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline import elf
from pipeline.core.arch import ARCHES
from pipeline.elf import Elf

PRIVATE = "GLIBC_PRIVATE"
#: Kinds whose size is part of the ABI: a program's copy of the datum has it.
SIZED = frozenset("DT")
_KINDS = {
    elf.STT_NOTYPE: "D", elf.STT_OBJECT: "D", elf.STT_COMMON: "D", elf.STT_TLS: "T",
    elf.STT_FUNC: "F", elf.STT_GNU_IFUNC: "F",
}  # fmt: skip
_MACHINES = {a.elf_machine: a.name for a in ARCHES.values()}
_LINE = re.compile(r"(\S+) (\S+) (?:([DT]) 0x(0|[1-9a-f][0-9a-f]*)|([FA]))")

#: Directories of a release whose libraries are called by their base name; ``*`` is one directory.
LIBRARY_DIRECTORIES = tuple(
    re.compile(pattern + "/")
    for pattern in (r"(usr/)?lib(64)?/[^/]+-linux-gnu[^/]*", r"usr/[^/]+-linux-gnu[^/]*/lib(64)?",
                    r"(usr/)?lib(64)?")
)  # fmt: skip
#: Below these nothing is a library of the release: separate debugging information looks like one.
SKIPPED_DIRECTORIES = frozenset({"usr/lib/debug", "proc", "sys", "dev", "tmp", "probes"})


class Line(NamedTuple):
    """One symbol at one node. ``size`` is in bytes for the kinds D and T, otherwise None."""

    node: str
    symbol: str
    kind: str
    size: int | None = None

    def __str__(self) -> str:
        size = "" if self.size is None else f" {self.size:#x}"
        return f"{self.node} {self.symbol} {self.kind}{size}"


def parse_line(line: str) -> Line:
    """The entry a line denotes; raises ValueError saying what is expected."""
    match = _LINE.fullmatch(line)
    if not match:
        raise ValueError(
            f"{line!r} is not 'NODE SYMBOL F', 'NODE SYMBOL D 0xSIZE', '... T 0xSIZE' or '... A'"
        )
    node, symbol, sized, size, plain = match.groups()
    return Line(node, symbol, sized, int(size, 16)) if sized else Line(node, symbol, plain)


@dataclass(frozen=True)
class Listing:
    """The public symbols of one DSO.

    ``name`` is its stable name (`listings`), ``soname`` its DT_SONAME ("" if none), ``path`` where it lies in
    the release ("" in a baseline), ``arch`` an architecture's name. ``private`` are its symbols at
    GLIBC_PRIVATE, which no comparison looks at.
    """

    name: str
    soname: str
    arch: str
    symbols: frozenset[Line]
    path: str = ""
    private: frozenset[Line] = frozenset()

    @property
    def nodes(self) -> frozenset[str]:
        """The public version nodes."""
        return frozenset(entry.node for entry in self.symbols)

    def node(self, name: str) -> frozenset[Line]:
        """The symbols at one node."""
        return frozenset(entry for entry in self.symbols if entry.node == name)

    @property
    def count(self) -> int:
        """How many symbols upstream's notation lists: those of kind A are this pipeline's extension."""
        return sum(entry.kind != "A" for entry in self.symbols)

    @property
    def text(self) -> str:
        """The listing as an ``.abilist`` file."""
        return render(self.symbols)


def render(entries: Iterable[Line]) -> str:
    """Entries as lines in the order of upstream's files."""
    lines = sorted({str(entry) for entry in entries}, key=lambda line: line.encode())
    return "".join(f"{line}\n" for line in lines)


def listing_of(binary: Elf, name: str, path: str = "") -> Listing:
    """The listing of an ELF file.

    Raises `MalformedInput`, also for a symbol of a type that the notation has no kind for.
    """
    public: set[Line] = set()
    private: set[Line] = set()
    for bare, node, _, binding, kind, visibility, section, _, size in binary.defined:
        if binding == elf.STB_LOCAL or visibility in (elf.STV_HIDDEN, elf.STV_INTERNAL):
            continue  # in the table, but no other file can bind to it
        if section == elf.SHN_ABS:
            entry = Line(node, bare, "A")
        elif kind not in _KINDS:
            raise binary.malformed(f"symbol {bare} at {node} is of unknown type {kind}")
        else:
            letter = _KINDS[kind]
            entry = Line(node, bare, letter, size if letter in SIZED else None)
        (private if node == PRIVATE else public).add(entry)
    private.discard(Line(PRIVATE, PRIVATE, "A"))
    lone = {Line(node, node, "A") for node in binary.nodes if node != PRIVATE}
    public -= lone  # a node that has symbols needs no line of its own
    used = {entry.node for entry in public}
    public |= {entry for entry in lone if entry.node not in used}
    _check_words(binary, public)
    return Listing(
        name=name,
        soname=binary.soname,
        arch=_MACHINES.get(binary.machine, f"machine-{binary.machine}"),
        symbols=frozenset(public),
        path=path,
        private=frozenset(private),
    )


def _check_words(binary: Elf, entries: set[Line]) -> None:
    """A name that would not come back from a line as itself is refused."""
    for entry in entries:
        if not (entry.symbol.isprintable() and entry.symbol and " " not in entry.symbol):
            raise binary.malformed(f"the symbol name {entry.symbol!r} cannot be written in a listing")
        if not (entry.node.isprintable() and entry.node and " " not in entry.node):
            raise binary.malformed(f"the node name {entry.node!r} cannot be written in a listing")


def stable_name(path: str) -> str:
    """What a DSO at ``path`` (inside a release) is called wherever the release keeps its libraries.

    Its base name in a library directory, otherwise with the directories below it: ``libc.so.6``,
    ``gconv/UTF-16.so``, ``audit/sotruss-lib.so``; outside of library directories the whole path.
    """
    for directory in LIBRARY_DIRECTORIES:
        match = directory.match(path)
        if match:
            return path[match.end() :]
    return path


def regular_files(root: Path) -> Iterator[tuple[str, str]]:
    """(path inside the release, real path) of every regular file below ``root``, in order."""
    pending = [("", os.fspath(root))]
    while pending:
        inside, real = pending.pop()
        with os.scandir(real) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                path = f"{inside}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if path not in SKIPPED_DIRECTORIES:
                        pending.append((f"{path}/", entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield path, entry.path
