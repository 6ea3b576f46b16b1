"""What a release offers a program: its DSOs, version nodes and symbols, as far as they are glibc's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.abi.listing import SIZED, Listing
from pipeline.elf.versions import BASE, UNVERSIONED
from pipeline.scan.loading import LIBC

#: glibc can build them, and distributions take them from elsewhere all the same (libxcrypt since 2018).
REPLACED = frozenset({"libcrypt.so.1"})
#: The node by which a file asks for a loader that applies DT_RELR.
RELR = "GLIBC_ABI_DT_RELR"
#: A glibc that refuses nothing for being old.
NEWEST = (99, 0)


@dataclass
class Release:
    """What a release offers on one architecture; ``ours`` are glibc's DSOs in any release of the profile.

    ``private``: DSO -> its GLIBC_PRIVATE symbols, where the baseline has them. ``glibc``: upstream's version.
    """

    name: str
    arch: str
    listings: Mapping[str, Listing] | None
    ours: frozenset[str]
    private: Mapping[str, frozenset[str]] = field(default_factory=dict)
    glibc: tuple[int, int] = NEWEST
    _scopes: dict[frozenset[str], frozenset[tuple[str, str]]] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> dict[str, frozenset[str]]:
        """DSO -> its public version nodes."""
        found = self.listings or {}
        return {name: listing.nodes - {UNVERSIONED, BASE} for name, listing in found.items()}

    @property
    def applies_relr(self) -> bool:
        """Whether its loader applies packed relative relocations (glibc 2.36 and later say so by a node)."""
        return RELR in self.nodes.get(LIBC, ())

    @cached_property
    def sizes(self) -> dict[tuple[str, str], int]:
        """(node, symbol) -> size in bytes of each datum."""
        listings = (self.listings or {}).values()
        return {
            (e.node, e.symbol): e.size
            for listing in listings
            if "/" not in listing.name
            for e in listing.symbols
            if e.kind in SIZED and e.size is not None
        }

    def scope(self, names: frozenset[str]) -> frozenset[tuple[str, str]]:
        """(node, symbol) of all DSOs among ``names``, and (``-``, symbol) for what asks for no version."""
        found = self._scopes.get(names)
        if found is None:
            symbols: set[tuple[str, str]] = set()
            for name in names & (self.listings or {}).keys():
                for entry in (self.listings or {})[name].symbols:
                    symbols.add((entry.node, entry.symbol))
                    symbols.add((UNVERSIONED, entry.symbol))
            found = self._scopes[names] = frozenset(symbols)
        return found


def offered(listings: Mapping[str, Listing]) -> dict[str, Listing]:
    """The libraries of a release that programs get from glibc, by soname."""
    names = {x.soname or name: x for name, x in listings.items() if "/" not in name}
    return {name: x for name, x in names.items() if name not in REPLACED}


def ours(releases: Mapping[str, Mapping[str, Listing]]) -> frozenset[str]:
    """Names of the DSOs that are glibc's own in any of the releases (modules below directories are not)."""
    return frozenset(name for listings in releases.values() for name in offered(listings))
