"""Traits of symbols, versions and files, compared with the committed baseline, both ways.

`abi.details` has what a listing leaves out of a symbol and its version; `elf.hardening` what a file is beside
its symbols. Both are lines (`pipeline.abi.traits`), so each fault is one line that names file and trait.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pipeline.abi import traits
from pipeline.abi.baseline import Baseline
from pipeline.abi.traits import Blocks
from pipeline.check import Material
from pipeline.check.abi_facts import (
    EachRelease,
    Fact,
    baseline_path,
    built_reading,
    remedy,
    shown,
)
from pipeline.check.rpm import another_series
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome, Target
from pipeline.elf.hardening import PROPERTY
from pipeline.elf.notes import ISA_LEVELS

#: Properties of which a file may have more where another compiler made it, and that of the lowest machine.
_FEATURES = (f"{PROPERTY}x86 features: ", f"{PROPERTY}AArch64 features: ")
_ISA = f"{PROPERTY}x86 ISA needed: "
#: Where flags of DT_FLAGS_1 stand, and the one that another maker's series may add: a DSO that stays mapped
#: has lost nothing.
_FLAGS_1, _STAYS = "flags-1 ", "NODELETE"


class Details(EachRelease):
    """Versions and symbols are as in the baseline in all that a listing does not say."""

    declared = Declaration(
        name="abi.details",
        measures=measured(Unit.COUNT, "differences", "dsos", "lines", "files"),
        question=(
            "Are default and hidden versions, types, bindings, visibility, thread-local segments and the "
            "flags and parents of version nodes those of the committed baseline?"
        ),
    )
    about = "a baseline that can be read"

    def ask(self, material: Material, release: str) -> Fact:
        found = traits.public(built_reading(material, release).details)
        base = material.committed(release)
        if base is None or traits.DETAILS not in base.traits:
            return absent(material, release, traits.DETAILS, {"files": len(found)})
        wrong = traits.difference(traits.public(base.traits[traits.DETAILS]), found)
        count = {"dsos": len(found), "lines": sum(map(len, found.values())), "differences": len(wrong)}
        what = f"symbols and versions of {len(base.traits[traits.DETAILS])} DSOs"
        return _as_committed(material.target(release), base, traits.DETAILS, what, wrong, measures=count)


class Aliases(EachRelease):
    """What programs know under several names is one object, as in the baseline, in both directions.

    A program has its own copy of a datum that it uses (`environ`), and the library then uses that one, too:
    of an alias that is another object it would never see what is written.
    """

    declared = Declaration(
        name="abi.aliases",
        measures=measured(Unit.COUNT, "objects"),
        question=(
            "Are the names of data that mean one object (environ and __environ, …) those of the committed "
            "baseline?"
        ),
    )
    about = "a baseline that can be read"

    def ask(self, material: Material, release: str) -> Fact:
        found = built_reading(material, release).aliases
        count = {"objects": sum(map(len, found.values()))}
        base = material.committed(release)
        if base is None or traits.ALIASES not in base.traits:
            return absent(material, release, traits.ALIASES, count)
        known = base.traits[traits.ALIASES]
        names = known.keys() | found.keys()
        wrong = traits.difference(*({name: of.get(name, ()) for name in names} for of in (known, found)))
        what = f"{sum(map(len, known.values()))} objects with several names"
        return _as_committed(material.target(release), base, traits.ALIASES, what, wrong, measures=count)


class Hardening(EachRelease):
    """Every ELF file has the stack, RELRO, binding, needs, marks and notes of the baseline."""

    declared = Declaration(
        name="elf.hardening",
        measures=measured(Unit.COUNT, "differences", "files"),
        question=(
            "Has every program and DSO the stack, RELRO, binding, needed libraries, flags and notes "
            "(oldest kernel, IBT, SHSTK, BTI, PAC, ISA level) of the committed baseline?"
        ),
    )
    about = "a baseline that can be read"

    def ask(self, material: Material, release: str) -> Fact:
        found = built_reading(material, release).hardening
        level = material.profile.isa_level.get(material.arch.name, ISA_LEVELS[0])
        high = _above(found, level)
        base = material.committed(release)
        if base is None or traits.HARDENING not in base.traits:
            answer = absent(material, release, traits.HARDENING, {"files": len(found)})
            return Fact(Outcome.FAIL, answer.expected, shown(high)) if high else answer
        # what another series makes of the same compiler's notes is its own
        theirs = another_series(material.built[release])
        same = _same_compiler(material, release, base) and not theirs
        words = (
            ")"
            if same
            else f" in {base.provenance.image or 'an unknown image'}, from our series), none with fewer "
            "marks of the compiler"
        )
        before = base.traits[traits.HARDENING]
        stay = _made_to_stay(before, found) if theirs else []
        wrong = high + (
            traits.difference(before, found)
            if same
            else _weaker(before, _without_mark(found, stay), material.arch.loader)
        )
        return Fact(
            Outcome.FAIL if wrong else Outcome.PASS,
            f"{len(before)} files as in the baseline (made from "
            f"{base.provenance.origin}{words}; none needs more than {level}",
            "\n".join(
                [shown(wrong) or "no difference", *(f"the series gives {name} {_STAYS}" for name in stay)]
            ),
            (f"{baseline_path(material.target(release))}/{traits.HARDENING}",),
            {"files": len(found), "differences": len(wrong)},
        )


def _as_committed(
    target: Target, base: Baseline, name: str, what: str, wrong: list[str], *, measures: dict[str, int]
) -> Fact:
    """The answer of a check that takes no difference from a file of the baseline."""
    return Fact(
        Outcome.FAIL if wrong else Outcome.PASS,
        f"{what} as in the baseline (made from {base.provenance.origin})",
        shown(wrong) or "no difference",
        (f"{baseline_path(target)}/{name}",),
        measures,
    )


def absent(material: Material, release: str, name: str, measures: dict[str, Any]) -> Fact:
    """The answer where a file of the baseline is not committed."""
    target = material.target(release)
    return Fact(
        Outcome.MISSING,
        f"a committed {name}",
        f"there is no {baseline_path(target)}/{name}; {remedy(target)}",
        measures=measures,
    )


def _same_compiler(material: Material, release: str, base: Baseline) -> bool:
    """Whether the release was built in an image of the base that the baseline's build had."""
    image = material.built[release].manifest.image
    return image is not None and bool(image.base) and image.base == base.provenance.image


def _weaker(before: Blocks, after: Blocks, loader: str) -> list[str]:
    """The difference, where another compiler or series made ``after``: only marks that are lost count."""
    lost = [
        f"- {name}: {line} (now {now or 'none'})"
        for name in sorted(before.keys() & after.keys())
        for line in before[name]
        for prefix in _FEATURES
        if line.startswith(prefix)
        for now in [next((x.removeprefix(prefix) for x in after[name] if x.startswith(prefix)), "")]
        if not set(line.removeprefix(prefix).split()) <= set(now.split())
    ]
    return traits.difference(_plain(before, loader), _plain(after, loader)) + lost


def _made_to_stay(before: Blocks, after: Blocks) -> list[str]:
    """Files to which a series gives NODELETE."""

    def marked(lines: tuple[str, ...]) -> bool:
        return any(line.startswith(_FLAGS_1) and _STAYS in line.split() for line in lines)

    return sorted(n for n in before.keys() & after.keys() if marked(after[n]) and not marked(before[n]))


def _without_mark(blocks: Blocks, names: Collection[str]) -> Blocks:
    """Blocks in which the files ``names`` are not NODELETE."""

    def without(line: str) -> str:
        words = [w for w in line.removeprefix(_FLAGS_1).split() if w != _STAYS]
        return f"{_FLAGS_1}{' '.join(words) or 'none'}" if line.startswith(_FLAGS_1) else line

    return {n: tuple(map(without, lines)) if n in names else lines for n, lines in blocks.items()}


def _plain(blocks: Blocks, loader: str) -> dict[str, tuple[str, ...]]:
    """Blocks without what depends on the compiler.

    So does a need of the loader: on AArch64 the stack protector's guard is there, and which functions are
    protected is the compiler's choice.
    """
    return {
        name: tuple(
            line.replace(f" {loader}", "").replace("needed nothing", "needed")
            if line.startswith("needed ")
            else line
            for line in lines
            if not line.startswith(PROPERTY)
        )
        for name, lines in blocks.items()
    }


def _above(found: Mapping[str, tuple[str, ...]], level: str) -> list[str]:
    """Files that need more of the machine than the platform promises."""
    allowed = set(ISA_LEVELS[: ISA_LEVELS.index(level) + 1])
    return [
        f"{name} needs {line.removeprefix(_ISA)}, above {level}"
        for name, lines in found.items()
        for line in lines
        if line.startswith(_ISA) and not set(line.removeprefix(_ISA).split()) <= allowed
    ]


CHECKS = (Details(), Aliases(), Hardening())
