"""On which releases a file starts, by the loader's rules (glibc's elf/dl-version.c and elf/dl-lookup.c).

- A required version node that the DSO named with it does not define refuses the program, unless every
  reference to it is weak. A DSO without any versions refuses nobody.
- A symbol bound to a version is looked up in all DSOs that are loaded, at that version. (So programs of
  before glibc 2.34 find ``pthread_create@GLIBC_2.2.5`` in libc.so.6, though they name libpthread.so.0.)
- A missing symbol that is not weak is fatal, at the start or, if bound lazily, at the first call. Here both
  are "fails".
- A needed DSO that is not there is fatal. Only glibc's own are judged: where others come from is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from pipeline.abi.listing import PRIVATE, SIZED, Listing
from pipeline.core.arch import ARCHES
from pipeline.elf import BASE, UNVERSIONED
from pipeline.scan.facts import Facts, Kind

#: glibc can build them, and distributions take them from elsewhere all the same (libxcrypt since 2018).
REPLACED = frozenset({"libcrypt.so.1"})


class Answer(StrEnum):
    """One file on one release."""

    STARTS = "starts"
    FAILS = "fails"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, order=True)
class Missing:
    """What a release lacks: a symbol at a node, a node itself (``symbol`` ""), or a DSO (``node`` "" too).

    A symbol without a version has the node ``-``, and may be missing from any DSO (``dso`` "").
    """

    dso: str
    node: str = ""
    symbol: str = ""

    def __str__(self) -> str:
        where = f" in {self.dso}" if self.dso else ""
        if not self.node:
            return f"the library {self.dso} itself"
        if not self.symbol:
            return f"the version {self.node} itself{where}"
        version = "" if self.node == UNVERSIONED else f"@{self.node}"
        return f"{self.symbol}{version}{where}"


@dataclass(frozen=True)
class Judgement:
    """The answer for one file on one release; ``notes`` do not change it.

    ``elsewhere`` are the libraries it needs that are not glibc's and were not judged.
    """

    answer: Answer
    missing: tuple[Missing, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


@dataclass
class Release:
    """What a release offers on one architecture; ``ours`` are glibc's DSOs in any release of the profile."""

    name: str
    arch: str
    listings: Mapping[str, Listing] | None
    ours: frozenset[str]
    _scopes: dict[frozenset[str], frozenset[tuple[str, str]]] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> dict[str, frozenset[str]]:
        """DSO -> its public version nodes."""
        found = self.listings or {}
        return {name: listing.nodes - {UNVERSIONED, BASE} for name, listing in found.items()}

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


def judge(facts: Facts, release: Release) -> Judgement:
    """The answer for a file, as far as it and glibc's own DSOs decide."""
    if facts.kind is Kind.OTHER or facts.alien:
        return Judgement(Answer.NOT_APPLICABLE, reason=facts.alien)
    if facts.kind is Kind.STATIC:
        return Judgement(Answer.STARTS, notes=("static: no loader is asked",))
    if release.listings is None:
        return Judgement(
            Answer.UNKNOWN, reason=f"there is no baseline of release {release.name} for {facts.arch}"
        )
    missing = {Missing(n) for n in facts.needed if n in release.ours and n not in release.listings}
    private = _missing_nodes(facts, release, missing)
    _missing_symbols(facts, release, missing)
    notes = tuple(_smaller_copies(facts, release))
    elsewhere = tuple(n for n in facts.needed if n not in release.ours)
    if missing:
        return Judgement(Answer.FAILS, tuple(sorted(missing)), "", notes, elsewhere)
    if private:
        reason = f"uses {PRIVATE} of {', '.join(private)}, which is no promise of any release"
        return Judgement(Answer.UNKNOWN, (), reason, notes, elsewhere)
    return Judgement(Answer.STARTS, (), "", notes, elsewhere)


def _missing_nodes(facts: Facts, release: Release, missing: set[Missing]) -> list[str]:
    """Add the required nodes that are not there; returns the DSOs whose private symbols are wanted."""
    private = []
    for need in facts.needs:
        defined = release.nodes.get(need.file)
        if defined is None:
            if need.file in release.ours:
                missing.add(Missing(need.file))
            continue
        for version in need.versions:
            if version == PRIVATE:
                private.append(need.file)
            elif defined and version not in defined and version not in need.weak:
                missing.add(Missing(need.file, version))
    return private


def _scope_names(facts: Facts, release: Release) -> frozenset[str]:
    """glibc's DSOs that are surely loaded with the file: all its own need libc.so.6, and that needs ld.so."""
    names = {n for n in facts.needed if n in release.ours} | {
        n.file for n in facts.needs if n.file in release.ours
    }
    names |= {"libc.so.6", ARCHES[facts.arch].loader}
    if "libmvec.so.1" in names:
        names.add("libm.so.6")
    return frozenset(names)


def _missing_symbols(facts: Facts, release: Release, missing: set[Missing]) -> None:
    scope = release.scope(_scope_names(facts, release))
    # only a program all of whose DSOs are glibc's can be held to symbols that name no version: a library's
    # may come from whoever loads it
    closed = facts.kind is Kind.PROGRAM and all(n in release.ours for n in facts.needed)
    lone = set(missing)
    for symbol in facts.imports:
        if symbol.weak or symbol.version == PRIVATE or (symbol.version, symbol.name) in scope:
            continue
        if symbol.version != UNVERSIONED and symbol.file in release.ours:
            if Missing(symbol.file) in lone:  # the whole DSO is named already
                continue
            if release.nodes.get(symbol.file) or (UNVERSIONED, symbol.name) not in scope:
                missing.add(Missing(symbol.file, symbol.version, symbol.name))
                missing.discard(Missing(symbol.file, symbol.version))  # the symbol tells more than its node
        elif symbol.version == UNVERSIONED and closed and not symbol.file:
            missing.add(Missing("", UNVERSIONED, symbol.name))


def _smaller_copies(facts: Facts, release: Release) -> list[str]:
    """Data of which the program's copy has another size: the loader warns, and copies what fits."""
    found = []
    for symbol in facts.imports:
        size = release.sizes.get((symbol.version, symbol.name)) if symbol.copied else None
        if size is not None and size != symbol.copied:
            found.append(
                f"{symbol.name}@{symbol.version} has {size} bytes there and {symbol.copied} in the program"
            )
    return found
