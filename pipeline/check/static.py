"""Static programs carry the release's libc.a in them: it must register as the release's shared libc does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.check import Material
from pipeline.check.probing import (
    PROBES,
    Answers,
    Case,
    FacetedCase,
    Verdict,
    as_faceted,
    faceted,
    need_static,
)
from pipeline.check.registration import THREADS, Lines, RseqRegistered
from pipeline.core.declaration import Declaration, Need, Unit, measured

#: Ways of linking, as the gcc option without its dash.
KINDS = ("static", "static-pie")
#: Exit status of the tracer when it cannot start the program.
NOT_STARTED = 127


def linked(case: FacetedCase) -> str:
    """The program of a case; the workshop makes one of each kind for each release."""
    return f"{PROBES}/rseq-{case.value}-{case.release.name}"


class RseqStatic(RseqRegistered):
    """As `RseqRegistered`, of a program linked with ``-static`` and one with ``-static-pie``.

    Where the release exports the rseq symbols, libc.a must have them, too. Where it does not, libc.a is not
    held to have none (a version script hides symbols of a shared object, not of an archive); but those it
    has must tell the truth.
    """

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

    def cases(self, material: Material) -> Sequence[FacetedCase]:
        return faceted(super().cases(material), "kind", KINDS)

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/rseq-tracer", linked(as_faceted(case)), str(THREADS))

    def exports(self, case: Case, libc: dict[str, Any]) -> bool:
        return case.release.exports_rseq or any(libc[k] is not None for k in ("size", "flags", "offset"))

    def descriptors(self, lines: Lines) -> Lines:  # noqa: ARG002
        """None: a static program has no table of symbols to look it up in."""
        return []

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        result = answers.batch.results.get(case.job(self.name))
        if result is not None and result.status == NOT_STARTED:
            need_static(material, case.release.name, linked(as_faceted(case)))
        return super().verdict(material, case, answers)


CHECKS = (RseqStatic(),)
