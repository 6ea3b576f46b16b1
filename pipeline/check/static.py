"""Static programs carry the release's libc.a in them: it must register as the release's shared libc does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pipeline.check import Material
from pipeline.check.probing import (
    PROBES,
    Answers,
    Case,
    FacetedCase,
    Verdict,
    as_faceted,
    faceted,
    was_linked,
)
from pipeline.check.registration import THREADS, Lines, RseqRegistered
from pipeline.core.declaration import Declaration, Need, Unit, measured

#: Ways of linking, as the gcc option without its dash, and as most programs are.
KINDS = ("static", "static-pie")
DYNAMIC = "dynamic"


def linked(case: FacetedCase) -> str:
    """The program of a case; of static ones the workshop makes one of each kind for each release."""
    if case.value == DYNAMIC:
        return f"{PROBES}/rseq-threads"
    return f"{PROBES}/rseq-{case.value}-{case.release.name}"


class EachLinked(RseqRegistered):
    """As `RseqRegistered`, of programs linked in each of the ``kinds``; ``options`` are the tracer's.

    Where the release exports the rseq symbols, libc.a must have them, too. Where it does not, libc.a is not
    held to have none (a version script hides symbols of a shared object, not of an archive); but those it
    has must tell the truth.
    """

    kinds: ClassVar[tuple[str, ...]]
    options: ClassVar[tuple[str, ...]] = ()

    def cases(self, material: Material) -> Sequence[FacetedCase]:
        return faceted(super().cases(material), "kind", self.kinds)

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/rseq-tracer", *self.options, linked(as_faceted(case)), str(THREADS))

    def exports(self, case: Case, libc: dict[str, Any]) -> bool:
        has = as_faceted(case).value != DYNAMIC and any(
            libc[k] is not None for k in ("size", "flags", "offset")
        )
        return has or case.release.exports_rseq

    def descriptors(self, case: Case, lines: Lines) -> Lines:
        """None of a static program: it has no table of symbols to look it up in."""
        return super().descriptors(case, lines) if as_faceted(case).value == DYNAMIC else []

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        self.need_program(material, as_faceted(case), answers)
        return super().verdict(material, case, answers)

    def need_program(self, material: Material, case: FacetedCase, answers: Answers) -> None:
        """Raise `Unanswered` if the program is not there because the release has no libc.a."""
        if case.value != DYNAMIC:
            result = answers.batch.results.get(case.job(self.name))
            was_linked(material, case.release.name, linked(case), result)


class RseqStatic(EachLinked):
    """Programs linked with ``-static`` and with ``-static-pie``."""

    declared = Declaration(
        name="rseq.static",
        measures=(
            *measured(Unit.COUNT, "threads", "registered"),
            *measured(Unit.BYTES, "rseq_size"),
        ),
        question=(
            "Does a program linked with `-static` or `-static-pie` against the release's libc.a "
            "register, or not, in the same way?"
        ),
        needs=(Need.RSEQ,),
    )
    kinds = KINDS


CHECKS = (RseqStatic(),)
