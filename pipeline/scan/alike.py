"""Releases that answer alike: a file that meets nothing they differ in is judged once for all of them.

What a file may meet is all that `pipeline.scan.judge` asks of a release; a file that touches the difference
is judged again.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.abi.listing import PRIVATE, Line
from pipeline.elf.versions import UNVERSIONED
from pipeline.scan.facts import Facts
from pipeline.scan.judge import Setting
from pipeline.scan.release import RELR, Release

Key = tuple[str, str]


@dataclass(frozen=True)
class Difference:
    """What two releases offer differently: (node, symbol), (DSO, node), whether private symbols do.

    ``entries``: (DSO, line of a listing) that one of them alone has. Of releases that are compared with one
    and the same, those with the same entries offer the same public symbols.
    """

    entries: frozenset[tuple[str, Line]]
    symbols: frozenset[Key]
    nodes: frozenset[Key]
    private: bool

    @property
    def empty(self) -> bool:
        return not (self.symbols or self.nodes or self.private)

    def touches(self, facts: Facts, setting: Setting) -> bool:
        """Whether the answer for a file may depend on it."""
        if self.empty:
            return False
        if not setting.wanted(facts)[1].isdisjoint(self.symbols):
            return True
        if facts.relr and any(node == RELR for _, node in self.nodes):
            return True
        if facts.copied and any((c.version, c.name) in self.symbols for c in facts.copied):
            return True
        if not facts.required.isdisjoint(self.nodes):
            return True
        return self.private and any(version == PRIVATE for _, version in facts.required)


def difference(one: Release, two: Release) -> Difference | None:
    """What two releases of one architecture differ in.

    None if more differs than a file's own wants tell: whole DSOs, or whether a DSO has versions at all.
    """
    if one.listings is None or two.listings is None or one.listings.keys() != two.listings.keys():
        return None
    if (one.arch, one.ours, one.glibc) != (two.arch, two.ours, two.glibc):
        return None
    entries: set[tuple[str, Line]] = set()
    symbols: set[Key] = set()
    nodes: set[Key] = set()
    for dso, listing in one.listings.items():
        if bool(one.nodes[dso]) != bool(two.nodes[dso]):
            return None
        for entry in listing.symbols ^ two.listings[dso].symbols:
            entries.add((dso, entry))
            symbols |= {(entry.node, entry.symbol), (UNVERSIONED, entry.symbol)}
        nodes |= {(dso, node) for node in one.nodes[dso] ^ two.nodes[dso]}
    return Difference(frozenset(entries), frozenset(symbols), frozenset(nodes), one.private != two.private)
