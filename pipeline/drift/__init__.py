"""Drift: what is published now, compared with the committed baselines.

A look ends in one of four ways that are never mixed up: no drift, drift, could not look, nothing there. Each
is recorded in the history.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import profile as profiles
from pipeline.abi import baseline, derived
from pipeline.abi.baseline import Baseline
from pipeline.abi.delta import Delta, SymbolChange, delta
from pipeline.abi.listing import Listing
from pipeline.core.errors import PipelineError
from pipeline.core.outcome import Target
from pipeline.core.records import timestamp
from pipeline.drift.errors import CouldNotLook, NothingThere
from pipeline.drift.history import History
from pipeline.drift.published import AnySource, Package, PublishedPackages, published
from pipeline.drift.record import ChangeRecord, DsoChange, LookRecord, PackageRecord, Sight
from pipeline.drift.sources import PREVIOUS, Sources

FIRST = "first look: recorded, and there is nothing to compare it with until the next one"


@dataclass(frozen=True)
class Yardstick:
    """What a look is compared with: listings, and what they are in words."""

    listings: Mapping[str, Listing]
    words: str


class Looker:
    """Takes looks. What a source publishes is fetched once, however many are compared with it."""

    def __init__(self, sources: Sources, history: History, clock: Callable[[], str] | None = None) -> None:
        self.sources, self.history = sources, history
        self.now = clock or timestamp
        self._published: dict[tuple[str, str], PublishedPackages | PipelineError] = {}

    def look(self, source: AnySource, arch: str, against: str = "") -> LookRecord:
        """Look at a source, compare it with its yardstick (``against``: another one), and record it."""
        against = against or source.against
        found: PublishedPackages | None = None
        at = self.now()
        try:
            found = self._now(source, arch)
            yardstick = self._yardstick(source, arch, against)
            record = compared(source, arch, at, found, yardstick)
        except (CouldNotLook, NothingThere) as e:
            sight = Sight.COULD_NOT_LOOK if isinstance(e, CouldNotLook) else Sight.NOTHING
            record = _header(source, arch, at, found).model_copy(
                update={"sight": sight.value, "against": against, "message": e.message, "hint": e.hint}
            )
        owners = {name: p.nvr for name, p in found.owners.items()} if found else {}
        self.history.add(record, found.listings if found else None, owners)
        return record

    def published(self, source: AnySource, arch: str) -> PublishedPackages:
        """What a source publishes now. Raises `CouldNotLook` or `NothingThere`."""
        return self._now(source, arch)

    def _now(self, source: AnySource, arch: str) -> PublishedPackages:
        key = (source.name, arch)
        if key not in self._published:
            with tempfile.TemporaryDirectory(prefix="drift-") as scratch:
                try:
                    self._published[key] = published(source, arch, Path(scratch))
                except (CouldNotLook, NothingThere) as e:
                    self._published[key] = e
        found = self._published[key]
        if isinstance(found, PipelineError):
            raise found
        return found

    def _yardstick(self, source: AnySource, arch: str, against: str) -> Yardstick:
        kind, _, name = against.partition(":")
        if against == PREVIOUS:
            seen = self.history.previous(source.name, arch)
            if seen is None:
                raise NothingThere(FIRST, hint="run it again another day, and keep the database between runs")
            return Yardstick(seen.listings, f"the look of {seen.at} ({seen.nvr})")
        if kind == "source":
            other = self._now(self.sources.get(name), arch)
            return Yardstick(other.listings, f"{name} ({other.packages[0].nvr})")
        target = target_of(name, arch)
        try:
            made = _known(target)
        except PipelineError as e:
            raise NothingThere(f"the baseline {target} cannot be used: {e.message}", hint=e.hint) from e
        if made is None:
            raise NothingThere(
                f"there is no baseline {target} to compare it with",
                hint="make it (`nox -s baseline`, or `drift --accept`), or choose --against previous",
            )
        return Yardstick(made.listings, f"baseline {target} ({made.provenance.origin})")


def target_of(name: str, arch: str) -> Target:
    """The target that ``PROFILE/RELEASE`` names; ``latest`` is the profile's last release. `UsageError`."""
    profile, _, release = name.partition("/")
    if release == derived.LATEST:
        release = profiles.load_outline(profile).names[-1]
    return Target(profile=profile, release=release, arch=arch)


def _known(target: Target) -> Baseline | None:
    """The baseline of a release, derived if need be; of what is no profile, as it is committed."""
    if target.profile in profiles.outlines():
        return derived.known(profiles.load_outline(target.profile), target.release, target.arch)
    return baseline.load_target(target)


def accepted(
    source: AnySource, found: Mapping[str, Listing], target: Target
) -> tuple[dict[str, Listing], str]:
    """What becomes the baseline when a source's packages are accepted, and which DSOs are as they were.

    A DSO that the source does not compare is not in its packages, as a rule: a published release keeps it.
    """
    before = _known(target) if target.profile in profiles.outlines() else None
    kept = {n: x for n, x in before.listings.items() if not source.compares(n)} if before else {}
    kept = {n: x for n, x in kept.items() if n not in found}
    names = sorted({n.partition("/")[0] + "/*" * ("/" in n) for n in kept})
    return {**kept, **found}, ", ".join(names)


def _package(package: Package) -> PackageRecord:
    return PackageRecord(
        nvr=package.nvr, arch=package.arch, file=package.file, sha256=package.sha256, size=package.size
    )


def _header(source: AnySource, arch: str, at: str, found: PublishedPackages | None) -> LookRecord:
    """What is known of a look before it is judged."""
    listings: Sequence[Listing] = list(found.listings.values()) if found else []
    return LookRecord(
        source=source.name,
        title=source.title,
        kind=source.kind,
        arch=arch,
        at=at,
        sight=Sight.NOTHING.value,
        against=source.against,
        packages=tuple(_package(p) for p in found.packages) if found else (),
        dsos=len(listings),
        symbols=sum(x.count for x in listings),
    )


def compared(
    source: AnySource, arch: str, at: str, found: PublishedPackages, yardstick: Yardstick
) -> LookRecord:
    """The look at what was found, compared with ``yardstick`` as far as the source says."""
    wanted = {n: x for n, x in yardstick.listings.items() if source.compares(n)}
    if not wanted:
        raise NothingThere(
            f"{yardstick.words} has none of the DSOs that {source.name} compares",
            hint="check `dsos` and `ignore` of the source",
        )
    difference = delta(wanted, found.listings)
    sight = Sight.NO_DRIFT if difference.empty else Sight.DRIFT
    return _header(source, arch, at, found).model_copy(
        update={
            "sight": sight.value,
            "against": yardstick.words,
            "changes": _changes(difference, found),
            "whole_dsos": _dsos(difference, found),
        }
    )


def _changes(difference: Delta, found: PublishedPackages) -> tuple[ChangeRecord, ...]:
    changed = difference.changed

    def made(sign: str, change: SymbolChange) -> ChangeRecord:
        owner = found.owners.get(change.dso)
        return ChangeRecord(
            sign="+" if sign == "+" else "-",
            dso=change.dso,
            node=change.node,
            symbol=change.symbol,
            kind=change.kind,
            size=change.size,
            changed=change[:3] in changed,
            package=owner.nvr if owner else "",
        )

    both = [("-", c) for c in difference.removed] + [("+", c) for c in difference.added]
    return tuple(made(s, c) for s, c in sorted(both, key=lambda x: (x[1][:3], x[0] == "+", x[1].order)))


def _dsos(difference: Delta, found: PublishedPackages) -> tuple[DsoChange, ...]:
    def nvr(dso: str) -> str:
        return found.owners[dso].nvr if dso in found.owners else ""

    appeared = [DsoChange(what="appeared", dso=d, package=nvr(d)) for d in sorted(difference.appeared)]
    vanished = [DsoChange(what="vanished", dso=d) for d in sorted(difference.vanished)]
    sonames = [
        DsoChange(what="soname", dso=d, before=before, after=after, package=nvr(d))
        for d, before, after in sorted(difference.sonames)
    ]
    return (*vanished, *appeared, *sonames)
