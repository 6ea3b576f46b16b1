"""Deltas: how the public symbols of two releases differ, every DSO, both ways.

Sets are compared for equality: an added symbol is as much a difference as a lost one, and so is another
kind or size (which shows as removed and added, and is named in `Delta.changed`), another soname, or a DSO
that appears or vanishes, be it without symbols.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.abi.listing import Line, Listing, parse_line


class SymbolChange(NamedTuple):
    """One symbol of one DSO, as it is on one side of a delta."""

    dso: str
    node: str
    symbol: str
    kind: str
    size: int | None = None

    def __str__(self) -> str:
        """``ld-linux-x86-64.so.2: GLIBC_2.35 __rseq_size D 0x4``, as engineers write it."""
        return f"{self.dso}: {Line(*self[1:])}"

    @property
    def order(self) -> tuple[str, str, str, str, int]:
        """A key to sort by (sizes may be absent)."""
        return (*self[:4], -1 if self.size is None else self.size)


def changes_of(listing: Listing) -> frozenset[SymbolChange]:
    """All symbols of a DSO as changes."""
    return frozenset(SymbolChange(listing.name, *entry) for entry in listing.symbols)


def parse_change(line: str) -> SymbolChange:
    """``DSO NODE SYMBOL KIND [SIZE]`` (a line of a profile); raises ValueError saying what is expected."""
    dso, space, rest = line.partition(" ")
    if not space or not dso:
        raise ValueError(f"{line!r} is not 'DSO NODE SYMBOL KIND [SIZE]'")
    return SymbolChange(dso, *parse_line(rest))


def parse_changes(lines: Iterable[str]) -> frozenset[SymbolChange]:
    """The set that such lines denote; raises ValueError."""
    return frozenset(parse_change(line) for line in lines)


@dataclass(frozen=True)
class Delta:
    """What has to be added to and removed from one release's listings to get the other's.

    ``appeared`` and ``vanished`` are DSOs (all their symbols are in ``added`` and ``removed``); ``sonames``
    holds (DSO, before, after) where DT_SONAME differs.
    """

    added: frozenset[SymbolChange] = frozenset()
    removed: frozenset[SymbolChange] = frozenset()
    appeared: frozenset[str] = frozenset()
    vanished: frozenset[str] = frozenset()
    sonames: frozenset[tuple[str, str, str]] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether both releases export the same."""
        return not (self.added or self.removed or self.appeared or self.vanished or self.sonames)

    @property
    def changed(self) -> frozenset[tuple[str, str, str]]:
        """(DSO, node, symbol) of those whose kind or size is another."""
        return frozenset(c[:3] for c in self.added) & frozenset(c[:3] for c in self.removed)

    @property
    def dsos(self) -> tuple[str, ...]:
        """The DSOs that differ, sorted."""
        names = {c.dso for c in self.added | self.removed} | self.appeared | self.vanished
        return tuple(sorted(names | {dso for dso, _, _ in self.sonames}))

    @property
    def text(self) -> str:
        """All of it in `lines`, "" if there is no difference."""
        return "".join(f"{line}\n" for line in self.lines())

    def lines(self) -> list[str]:
        """``+ DSO: NODE SYMBOL KIND SIZE`` and ``- …``, by DSO and symbol, the old before the new.

        A symbol whose kind or size is another ends in ``(changed)``; DSOs that appear, vanish or have
        another soname have a line of their own before their symbols.
        """
        whole: list[tuple[tuple[object, ...], str]] = []
        for dso in self.vanished:
            whole.append(((dso, "", "", 0), f"- {dso}: the whole DSO"))
        for dso in self.appeared:
            whole.append(((dso, "", "", 1), f"+ {dso}: the whole DSO"))
        for dso, before, after in self.sonames:
            whole.append(((dso, "", "", 2), f"- {dso}: soname {before or '(none)'}"))
            whole.append(((dso, "", "", 3), f"+ {dso}: soname {after or '(none)'}"))
        changed = self.changed
        for rank, sign, side in ((0, "-", self.removed), (1, "+", self.added)):
            for change in side:
                mark = " (changed)" if change[:3] in changed else ""
                whole.append(((*change[:3], rank, change.order), f"{sign} {change}{mark}"))
        return [line for _, line in sorted(whole)]


def delta(before: Mapping[str, Listing], after: Mapping[str, Listing]) -> Delta:
    """The delta from one release's listings to another's (by stable name, as `listings` gives them)."""
    added: set[SymbolChange] = set()
    removed: set[SymbolChange] = set()
    sonames: set[tuple[str, str, str]] = set()
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if old.symbols != new.symbols:
            added.update(SymbolChange(name, *entry) for entry in new.symbols - old.symbols)
            removed.update(SymbolChange(name, *entry) for entry in old.symbols - new.symbols)
        if old.soname != new.soname:
            sonames.add((name, old.soname, new.soname))
    appeared, vanished = after.keys() - before.keys(), before.keys() - after.keys()
    for name in appeared:
        added.update(SymbolChange(name, *entry) for entry in after[name].symbols)
    for name in vanished:
        removed.update(SymbolChange(name, *entry) for entry in before[name].symbols)
    return Delta(
        frozenset(added), frozenset(removed), frozenset(appeared), frozenset(vanished), frozenset(sonames)
    )
