"""A program that runs with more rights than its user (AT_SECURE) must not listen to the user's tunable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.check import Material
from pipeline.check.probing import Answers, Case, FacetedCase, Unanswered, Verdict, as_faceted
from pipeline.check.static import DYNAMIC, EachLinked
from pipeline.core.declaration import Declaration, Need, Unit, measured
from pipeline.core.outcome import Outcome

#: Who made the program AT_SECURE, as the tracer says it.
MADE_BY = {
    "kernel": "the kernel (real and effective user differ)",
    "tracer": "the tracer (here a program has but one user to be)",
}


@dataclass(frozen=True)
class Secure(FacetedCase):
    """A release in one state of a tunable that is not to be heard."""

    @property
    def on(self) -> bool:
        return bool(self.release.rseq_default)


class RseqSecure(EachLinked):
    """As `RseqRegistered`, of AT_SECURE programs: whatever the tunable says, the release's default holds.

    Nor may the setting be left in the environment for the programs that such a program starts.

    That the same words in the same environment are heard elsewhere is what `RseqRegistered` itself shows.
    """

    declared = Declaration(
        name="rseq.secure",
        measures=(
            *measured(Unit.COUNT, "threads", "registered"),
            *measured(Unit.BYTES, "rseq_size"),
            *measured(Unit.TEXT, "secure_by"),
        ),
        question=(
            "In a program that runs with more rights than its user (AT_SECURE), does the "
            "release's default hold whatever the tunable says?"
        ),
        needs=(Need.RSEQ,),
    )

    kinds = (DYNAMIC, "static")
    options = ("--secure",)

    def cases(self, material: Material) -> Sequence[Secure]:
        return [Secure(c.release, c.state, c.facet, c.value) for c in super().cases(material)]

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        self.need_program(material, as_faceted(case), answers)
        lines = answers.lines(case.job(self.name))
        makers = [x["by"] for x in lines if x["from"] == "secure"]
        told = [x["secure"] for x in lines if x["from"] == "auxv"]
        left = [x["tunables"] for x in lines if x["from"] == "auxv" and x["tunables"] is not None]
        if len(makers) != 1 or makers[0] not in MADE_BY:
            raise Unanswered(Outcome.ERROR, "the tracer does not say who made the program AT_SECURE")
        if told != [1]:
            raise Unanswered(Outcome.MISSING, f"the program was not AT_SECURE, though {makers[0]} made it so")
        said = super().verdict(material, case, answers)
        if any(material.profile.rseq.tunable in text for text in left):
            words = f"its environment still has GLIBC_TUNABLES={left[0]}, which programs that it starts hear"
            seen = words if said.outcome is Outcome.PASS else f"{said.seen}; {words}"
            said = replace(said, outcome=Outcome.FAIL, seen=seen)
        return replace(
            said,
            expected=f"in an AT_SECURE program the default holds, and the tunable is gone: {said.expected}",
            seen=f"{said.seen}; AT_SECURE by {MADE_BY[makers[0]]}",
            measures={**said.measures, "secure_by": makers[0]},
        )


CHECKS = (RseqSecure(),)
