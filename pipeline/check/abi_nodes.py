"""Version nodes and the rseq symbols in them.

RPM dependencies name a node, never one symbol: a DSO that has a node promises all of it. So a backport
brings upstream's whole node of a DSO, and no other DSO may gain it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from pipeline import elf
from pipeline.abi import baseline
from pipeline.abi.delta import Delta, SymbolChange
from pipeline.abi.listing import Listing
from pipeline.check import Material, StaticCheck
from pipeline.check.abi_facts import Fact, answered, built_listings, changes, reference, remedy, shown
from pipeline.core.arch import Arch
from pipeline.core.declaration import Declaration, Scope, Unit, measured
from pipeline.core.outcome import Finding, Outcome, Question
from pipeline.elf import Elf, Symbol

_NODE = re.compile(r"GLIBC_(\d+(?:\.\d+)+)")


class WholeNodes(StaticCheck):
    """A node that a DSO gains over the profile's first release is upstream's whole node, where expected."""

    declared = Declaration(
        name="abi.node-whole",
        measures=measured(Unit.COUNT, "nodes_gained"),
        question=("Is each version node a DSO gained upstream's whole set, and has no other DSO gained it?"),
        scope=Scope.LATER,
    )

    def questions(self, material: Material) -> list[Question]:
        first = material.profile.release[0].name
        return [q for q in material.each(self.name) if q.target.release != first]

    def run(self, material: Material) -> list[Finding]:
        return [
            answered(question, "whole nodes", partial(self._ask, material, question.target.release))
            for question in self.questions(material)
        ]

    def _ask(self, material: Material, release: str) -> Fact:
        first = material.profile.release[0].name
        wanted = expected_nodes(material, release)
        words = "; ".join(
            f"{dso} gains {node}, equal to upstream's, and nothing else gains a node" for dso, node in wanted
        )
        words = words or "no DSO gains a node"
        before = reference(material, first)
        if before is None:
            target = material.target(first)
            return Fact(
                Outcome.MISSING, words, f"{target} has neither a baseline nor a build; {remedy(target)}"
            )
        base, what = before.listings, before.words
        found = built_listings(material, release)
        gained = gained_nodes(base, found)
        wrong: list[str] = []
        unknown: list[str] = []
        right: list[str] = []
        for dso, node in sorted(gained - set(wanted)):
            symbols = ", ".join(sorted(e.symbol for e in found[dso].node(node) if e.kind != "A"))
            wrong.append(f"{dso} gained {node}, which it must not have: {symbols or 'no symbol at it'}")
        for dso, node in wanted:
            if node in base.get(dso, _nothing(dso, material.arch)).nodes:
                continue
            if (dso, node) not in gained:
                wrong.append(f"{dso} has no {node}")
                continue
            whole = upstream_node(material.arch, dso, node)
            if isinstance(whole, str):
                unknown.append(whole)
                continue
            here = frozenset(SymbolChange(dso, *entry) for entry in found[dso].node(node))
            difference = Delta(added=here - whole, removed=whole - here)
            if difference.empty:
                right.append(f"{dso} has all {len(whole)} symbols of {node}")
            wrong += [f"{node} is not upstream's: {line}" for line in difference.lines()]
        outcome = Outcome.FAIL if wrong else Outcome.MISSING if unknown else Outcome.PASS
        return Fact(
            outcome,
            f"over {what}: {words}",
            shown([*wrong, *unknown]) or "; ".join(right) or "no DSO gained a node",
            measures={"nodes_gained": len(gained)},
        )


def _nothing(name: str, machine: Arch) -> Listing:
    return Listing(name, "", machine.name, frozenset())


def expected_nodes(material: Material, release: str) -> list[tuple[str, str]]:
    """(DSO, node) that the profile expects ``release`` to have beyond the first release, sorted."""
    lines = list(material.profile.rseq.symbols) if material.profile.get(release).exports_rseq else []
    first = material.profile.release[0].name
    for step in material.profile.step:
        if step.after == release and step.before == first:
            lines += step.added
    return sorted({(c.dso, c.node) for c in changes(material, lines)})


def gained_nodes(before: Mapping[str, Listing], after: Mapping[str, Listing]) -> set[tuple[str, str]]:
    """(DSO, node) that are in ``after`` alone."""
    return {
        (name, node)
        for name, listing in after.items()
        for node in listing.nodes - (before[name].nodes if name in before else frozenset())
    }


def upstream_node(machine: Arch, dso: str, node: str) -> frozenset[SymbolChange] | str:
    """Upstream's set of a node of a DSO; or what is missing to know it. Raises `MalformedInput`."""
    match = _NODE.fullmatch(node)
    version = match[1] if match else ""
    found = baseline.load(baseline.upstream_directory(version, machine.name)) if match else None
    if found is None or node not in found.provenance.nodes:
        return (
            f"no upstream list of {node} for {machine.name}: "
            f"`nox -s baseline -- --upstream {version or 'VERSION'} --node {node} --arch {machine.name} "
            "--from-deb FILE` makes it"
        )
    listing = found.listings.get(dso, _nothing(dso, machine))
    return frozenset(SymbolChange(dso, *entry) for entry in listing.node(node))


#: Where glibc keeps each symbol: written once by ld.so and protected after relocation, or constant.
PLACES = {
    "__rseq_flags": ("read-only data", Elf.in_read_only_data),
    "__rseq_offset": ("RELRO data", Elf.in_relro),
    "__rseq_size": ("RELRO data", Elf.in_relro),
}


def place_of(symbol: str) -> str:
    """Where a symbol belongs, in words; other symbols a profile may name have no place of their own."""
    return PLACES[symbol][0] if symbol in PLACES else "data"


class RseqLayout(StaticCheck):
    """The public rseq symbols are in ld.so alone, of the right size, in read-only memory.

    A release that does not export them has none of them at a public node of any DSO.
    """

    declared = Declaration(
        name="abi.rseq-layout",
        question=("Are the symbols where they belong: size and offset in RELRO, flags in read-only data?"),
    )

    def questions(self, material: Material) -> list[Question]:
        return material.each(self.name)

    def run(self, material: Material) -> list[Finding]:
        return [
            answered(question, "DSOs that can be read", partial(self._ask, material, question.target.release))
            for question in self.questions(material)
        ]

    def _ask(self, material: Material, release: str) -> Fact:
        symbols = changes(material, material.profile.rseq.symbols)
        wanted = sorted(symbols) if material.profile.get(release).exports_rseq else []
        found = built_listings(material, release)
        names = {change.symbol for change in symbols}
        stray = sorted(
            str(SymbolChange(dso, *entry))
            for dso, listing in found.items()
            for entry in listing.symbols
            if entry.symbol in names and not _is_at(wanted, dso, entry.node, entry.symbol)
        )
        wrong = [f"must not be public there: {line}" for line in stray]
        right: list[str] = []
        for change in wanted:
            if change.dso not in found:
                wrong.append(f"there is no {change.dso}")
                continue
            binary = elf.read(material.built[release].root / found[change.dso].path)
            trouble = misplaced(binary, change)
            wrong += [f"{change.symbol} in {change.dso}: {word}" for word in trouble]
            if not trouble:
                right.append(f"{change.symbol} {change.size} bytes in {place_of(change.symbol)}")
        expected = "; ".join(f"{c.symbol} {c.size} bytes in {place_of(c.symbol)}" for c in wanted)
        return Fact(
            Outcome.FAIL if wrong else Outcome.PASS,
            f"{expected}; in {wanted[0].dso} alone" if wanted else f"none of {', '.join(sorted(names))}",
            shown(wrong) or "; ".join(right) or "none of them",
        )


def _is_at(wanted: list[SymbolChange], dso: str, node: str, symbol: str) -> bool:
    return any((c.dso, c.node, c.symbol) == (dso, node, symbol) for c in wanted)


def misplaced(binary: Elf, change: SymbolChange) -> list[str]:
    """What is wrong with one public rseq symbol in the DSO that has to have it."""
    there = [s for s in binary.defined if (s.name, s.version) == (change.symbol, change.node)]
    if not there:
        return [f"it is not at {change.node}"]
    return [fault for symbol in there for fault in _faults(binary, symbol, change)]


def _faults(binary: Elf, symbol: Symbol, change: SymbolChange) -> list[str]:
    """Kind, version, size and place of one symbol against what they must be."""
    faults = []
    if symbol.type != elf.STT_OBJECT:
        faults.append(f"it is of type {symbol.type}, not an object")
    if symbol.hidden:
        faults.append(f"{symbol.version} is not its default version, so no program can be linked with it")
    if symbol.size != change.size:
        faults.append(f"it has {symbol.size} bytes, not {change.size}")
    if change.symbol in PLACES:
        place, lies_there = PLACES[change.symbol]
        if not lies_there(binary, symbol.value, symbol.size):
            faults.append(f"at address {symbol.value:#x} it is not in {place}")
    return faults
