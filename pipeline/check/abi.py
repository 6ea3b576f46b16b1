"""Is the public ABI exactly what it must be? Sets are compared both ways, for every DSO of a release.

`Baselines` holds each release against its committed listings, `AbiDelta` one release against another; the
rules about version nodes and the place of the rseq symbols are in `pipeline.check.abi_nodes`.
"""

from __future__ import annotations

from functools import partial

from pipeline.abi.delta import Delta, delta
from pipeline.check import Material, StaticCheck
from pipeline.check.abi_facts import (
    Fact,
    answered,
    baseline_path,
    built_listings,
    built_reading,
    changes,
    counts,
    reference,
    remedy,
    shown,
)
from pipeline.check.abi_nodes import RseqLayout, WholeNodes
from pipeline.check.rpm import is_foreign
from pipeline.core.declaration import Declaration, Scope, Unit, measured
from pipeline.core.outcome import Finding, Outcome, Question
from pipeline.profile import Step


class Baselines(StaticCheck):
    """Each built release exports exactly what its committed baseline lists, in every DSO."""

    declared = Declaration(
        name="abi.baseline",
        measures=(
            *measured(Unit.COUNT, "added", "removed", "changed", "dsos", "dsos_that_differ"),
            *measured(Unit.SYMBOLS, "*_symbols"),
            *measured(Unit.TEXT, "delta"),
        ),
        question=(
            "Does every DSO export exactly its committed baseline, symbol by symbol, kinds and "
            "sizes included?"
        ),
    )

    def questions(self, material: Material) -> list[Question]:
        return material.each(self.name)

    def run(self, material: Material) -> list[Finding]:
        return [
            answered(question, "a baseline that can be read", partial(self._ask, material, question))
            for question in self.questions(material)
        ]

    def _ask(self, material: Material, question: Question) -> Fact:
        target = question.target
        found = built_listings(material, target.release)
        base = material.committed(target.release)
        if base is None:
            return Fact(
                Outcome.MISSING,
                "a committed baseline",
                f"there is no {baseline_path(target)}; {remedy(target)}",
                measures=counts(found),
            )
        symbols = sum(listing.count for listing in base.listings.values())
        difference = delta(base.listings, found)
        return Fact(
            Outcome.PASS if difference.empty else Outcome.FAIL,
            f"{len(base.listings)} DSOs with {symbols} public symbols, as in the baseline "
            f"(made from {base.provenance.origin})",
            "no difference" if difference.empty else shown(difference.lines()),
            (baseline_path(target),),
            {**counts(found), **_measures(difference)},
        )


class AbiDelta(StaticCheck):
    """From one release to another, exactly the profile's symbols are added, in no other DSO, none is lost.

    Of functions with several versions the same versions are one code.
    """

    declared = Declaration(
        name="abi.delta",
        measures=(
            *measured(Unit.COUNT, "added", "removed", "changed", "dsos", "dsos_that_differ"),
            *measured(Unit.SYMBOLS, "*_symbols"),
            *measured(Unit.TEXT, "delta"),
        ),
        question=(
            "From release to release, is exactly the expected set added, and nothing removed or "
            "changed in any DSO, and do old versions of functions mean the code they did?"
        ),
        scope=Scope.STEP,
    )

    def questions(self, material: Material) -> list[Question]:
        return [question for _, question in material.steps(self.name, both=False)]

    def run(self, material: Material) -> list[Finding]:
        return [
            answered(question, "two releases that can be compared", partial(self._ask, material, step))
            for step, question in material.steps(self.name, both=False)
        ]

    def _ask(self, material: Material, step: Step) -> Fact:
        expected = Delta(added=changes(material, step.added))
        words = shown(expected.lines()) or "no difference"
        before = reference(material, step.before)
        if before is None:
            target = material.target(step.before)
            return Fact(
                Outcome.MISSING,
                words,
                f"{target} has neither a baseline nor a build; {remedy(target)}",
            )
        after = built_listings(material, step.after)
        seen = delta(before.listings, after)
        other = _other_code(material, step)
        return Fact(
            Outcome.PASS if seen == expected and not other else Outcome.FAIL,
            f"against {before.words}:\n{words}",
            "\n".join([_unexpected(seen, expected), *([shown(other)] if other else [])]),
            before.evidence,
            {**counts(after), **_measures(seen)},
        )


def _other_code(material: Material, step: Step) -> list[str]:
    """Functions of which other versions are one code than were in the built release before.

    Another maker's series may split one (RHEL 9.2's pthread_kill), and is not asked.
    """
    if step.before not in material.built or any(
        is_foreign(material.built[release]) for release in (step.before, step.after)
    ):
        return []
    before, after = (
        built_reading(material, release).versions_of_code for release in (step.before, step.after)
    )
    return [
        f"{dso}: the versions of {name} are the code {_codes(after[dso, name])}, not {_codes(was)}"
        for (dso, name), was in sorted(before.items())
        if (dso, name) in after and was != after[dso, name]
        if frozenset().union(*was) == frozenset().union(*after[dso, name])  # else the delta says it
    ]


def _codes(versions: frozenset[frozenset[str]]) -> str:
    return " and ".join(sorted("=".join(sorted(same)) for same in versions))


def _unexpected(seen: Delta, expected: Delta) -> str:
    """The delta; where it is not the expected one, what is wrong with it comes first."""
    text = shown(seen.lines()) or "no difference"
    if seen == expected:
        return text
    missing = Delta(added=expected.added - seen.added)
    extra = Delta(seen.added - expected.added, seen.removed, seen.appeared, seen.vanished, seen.sonames)
    parts = [
        f"{title}:\n{shown(lines)}"
        for title, lines in (("expected and absent", missing.lines()), ("not expected", extra.lines()))
        if lines
    ]
    return "\n".join(parts)


def _measures(difference: Delta) -> dict[str, int | str]:
    return {
        "added": len(difference.added),
        "removed": len(difference.removed),
        "changed": len(difference.changed),
        "dsos_that_differ": len(difference.dsos),
        "delta": difference.text,
    }


CHECKS: tuple[StaticCheck, ...] = (Baselines(), AbiDelta(), WholeNodes(), RseqLayout())
