"""Does a release hold together? Each versioned import of each of its files is resolved inside the release.

GLIBC_PRIVATE is a promise between the files of one release and to nobody else: a library from one build and
a loader from another may lack each other's private symbols, and no listing of public ones shows it. What
PRIVATE gained and lost between releases is shown: while an update runs, files of both are in use. Within
one release it does not change: what differs from the release's own baseline is red, but for another maker's.
"""

from __future__ import annotations

from pipeline.abi import traits
from pipeline.abi.listing import PRIVATE
from pipeline.check import Material
from pipeline.check.abi_facts import EachRelease, Fact, built_listings, built_reading, shown
from pipeline.check.rpm import another_series
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome
from pipeline.core.words import several

#: Names of PRIVATE that a finding shows, each way.
_NAMED = 12


class Private(EachRelease):
    """No file of a release needs a version or a versioned symbol that the release does not have."""

    declared = Declaration(
        name="abi.private",
        measures=(
            *measured(Unit.COUNT, "imports", "private_imports"),
            *measured(Unit.SYMBOLS, "private_symbols"),
            *measured(Unit.TEXT, "private_gained_over_*", "private_lost_since_*"),
        ),
        question=(
            "Is every versioned symbol that a file of the release needs, private ones too, in that release?"
        ),
    )
    about = "files that can be read"

    def ask(self, material: Material, release: str) -> Fact:
        ours = _ours(material, release)
        files = built_reading(material, release).needs
        wrong: list[str] = []
        elsewhere: set[str] = set()
        for file in files:
            gone = [name for name in file.outside if name in ours]
            elsewhere.update(name for name in file.outside if name not in ours)
            wrong += [f"{file.name}: needs {name}, which the release does not have" for name in gone]
            wrong += file.faults
        imports, private = sum(f.imports for f in files), sum(f.private for f in files)
        wrong += _private_drift(material, release)
        lines, measures = _private_deltas(material, release)
        good = f"{imports} versioned imports of {len(files)} files, {private} of them private"
        if elsewhere:
            good += f"; not judged: what comes from {', '.join(sorted(elsewhere))}"
        return Fact(
            Outcome.FAIL if wrong else Outcome.PASS,
            "each version that a file needs is defined, and each symbol at a version is found, by what is "
            f"loaded with the file; {PRIVATE} is that of the release's own baseline",
            "\n".join([shown(wrong) or good, *lines]),
            measures={"imports": imports, "private_imports": private, **measures},
        )


def _ours(material: Material, release: str) -> frozenset[str]:
    """Sonames that are glibc's in any release that is built or committed: they come from nowhere else."""
    names = {
        listing.soname
        for built in material.built
        if built != release
        for name, listing in material.listings(built).items()
        if "/" not in name
    }
    for name in material.profile.releases:
        base = material.committed(name)
        if base is not None:
            names |= {listing.soname for dso, listing in base.listings.items() if "/" not in dso}
    return frozenset(names - {""})


def _private_drift(material: Material, release: str) -> list[str]:
    """How PRIVATE differs from the release's own baseline, if there is one with details.

    Where there is none, `abi.details` says so. What another maker's series changes among its own files is
    shown by `_private_deltas`, and is its own business.
    """
    if another_series(material.built[release]):
        return []
    base = material.committed(release)
    if base is None or traits.DETAILS not in base.traits:
        return []
    found = traits.private(built_reading(material, release).details)
    return [
        f"compared with its baseline: {line}"
        for line in traits.difference(traits.private(base.traits[traits.DETAILS]), found)
    ]


def _private_deltas(material: Material, release: str) -> tuple[list[str], dict[str, int | str]]:
    """What PRIVATE gained and lost over the releases that this one follows: lines, and measures."""
    here = _private(material, release)
    lines: list[str] = []
    measures: dict[str, int | str] = {"private_symbols": len(here)}
    for step in material.profile.step:
        if step.after != release or step.before not in material.built:
            continue
        before = _private(material, step.before)
        gained, lost = sorted(here - before), sorted(before - here)
        measures[f"private_gained_over_{step.before}"] = ", ".join(gained)
        measures[f"private_lost_since_{step.before}"] = ", ".join(lost)
        lines.append(
            f"{PRIVATE} compared with {step.before}: gained {_few(gained)}; lost {_few(lost)}"
            if gained or lost
            else f"{PRIVATE} is that of {step.before}"
        )
    return lines, measures


def _private(material: Material, release: str) -> set[str]:
    found = built_listings(material, release)
    return {f"{e.symbol} of {name}" for name, listing in found.items() for e in listing.private}


def _few(names: list[str]) -> str:
    return several(names, _NAMED) or "nothing"


CHECKS = (Private(),)
