"""A probe that is one program of each kind (dynamic, static), whose bad end is its release's fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipeline.check import Material
from pipeline.check.probing import (
    CANNOT,
    PROBES,
    Answers,
    Case,
    FacetedCase,
    ProbeCheck,
    Unanswered,
    as_faceted,
    faceted,
    was_linked,
)
from pipeline.core.outcome import Outcome


class KindsCheck(ProbeCheck):
    """``programs``: kind -> file below /probes; ``{release}`` stands for the release's name."""

    programs: ClassVar[Mapping[str, str]]

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def cases(self, material: Material) -> Sequence[FacetedCase]:
        return faceted(super().cases(material), "kind", self.programs)

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:  # noqa: ARG002
        kind = as_faceted(case).value
        return (f"{PROBES}/{self.programs[kind].format(release=case.release.name)}",)

    def lines(self, material: Material, case: Case, answers: Answers) -> list[dict[str, Any]]:
        """What was said; raises `Unanswered`: FAIL, if the program did not end well."""
        result = answers.batch.results.get(case.job(self.name))
        ended = result is not None and not result.timed_out and not result.error
        if result is not None and ended and result.status not in (0, CANNOT):
            if "static" in as_faceted(case).value:
                was_linked(material, case.release.name, self.argv(material, case)[-1], result)
            words = result.stderr.decode(errors="replace").strip()[-200:]
            raise Unanswered(Outcome.FAIL, f"it ended with {result.ending()}: {words}")
        return answers.lines(case.job(self.name))


class UnsetKinds(KindsCheck):
    """With the tunable unset alone: it has no part in this."""

    def cases(self, material: Material) -> Sequence[FacetedCase]:
        return [case for case in super().cases(material) if case.state is None]
