"""Is the tunable heard in every form in which it may be set, and is nothing else taken for it?

Users set it among other tunables, or twice, and write what is not allowed. ld.so itself is asked what holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.check import Material, PlaceCheck
from pipeline.check.probing import Answers, Unanswered, verdict
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Finding, NotJudged, Question
from pipeline.place import BatchResult, Job

#: What GLIBC_TUNABLES is, where NAME is the tunable, NEW the value that is not the default, OLD the default.
HEARD = (
    "glibc.malloc.check=0:NAME=NEW", "NAME=NEW:glibc.malloc.mxfast=64", "glibc.none.such=1:NAME=NEW",
    "NAME=OLD:NAME=NEW", "NAME=0xNEW", "NAME=0NEW", "glibc.malloc.check:NAME=NEW", ":NAME=NEW",
)  # fmt: skip
NOT_HEARD = (
    "", "NAME", "NAME=2", "NAME=-1", "NAMEx=NEW", "xNAME=NEW", "glibc.rseq=NEW", "NAME=NEW:NAME=OLD",
    "NAME=7:glibc.malloc.check=0",
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """One text of GLIBC_TUNABLES, and the value that must hold then."""

    text: str
    value: int


def forms(tunable: str, default: int) -> Iterator[Form]:
    """Every form, for a release with that default."""
    new = 1 - default
    for texts, value in ((HEARD, new), (NOT_HEARD, default)):
        for text in texts:
            filled = text.replace("NAME", tunable).replace("NEW", str(new)).replace("OLD", str(default))
            yield Form(filled, value)


class Settings(PlaceCheck):
    """One job a form, one answer a release."""

    declared = Declaration(
        name="rseq.settings",
        measures=measured(Unit.COUNT, "forms"),
        question=(
            "Is `glibc.pthread.rseq` heard among other tunables, twice and in every notation, and is a value "
            "that is not allowed, or another name, not heard?"
        ),
    )

    def questions(self, material: Material, place: str) -> list[Question]:
        return [
            Question(check=self.name, target=material.target(release), place=place)
            for release in material.built
        ]

    def _forms(self, material: Material, release: str) -> list[tuple[str, Form]]:
        """Each form with its job."""
        default = int(material.profile.get(release).rseq_default)
        return [
            (f"{self.name}/{release}/{n}", form)
            for n, form in enumerate(forms(material.profile.rseq.tunable, default))
        ]

    def jobs(self, material: Material) -> list[Job]:
        return [
            Job(job, release, (material.arch.interp, "--list-tunables"), {"GLIBC_TUNABLES": form.text})
            for release in material.built
            for job, form in self._forms(material, release)
        ]

    def judge(self, material: Material, place: str, batch: BatchResult) -> list[Finding | NotJudged]:
        return [self._judge(material, question, batch) for question in self.questions(material, place)]

    def _judge(self, material: Material, question: Question, batch: BatchResult) -> Finding:
        tunable = material.profile.rseq.tunable
        asked = self._forms(material, question.target.release)
        kernel = batch.facts.kernel if batch.facts else ""
        expected = f"{len(asked)} forms of GLIBC_TUNABLES, each as documented"
        faults: list[str] = []
        try:
            for job, form in asked:
                text = Answers(batch).output(job).decode(errors="replace")
                found = [line for line in text.splitlines() if line.startswith(f"{tunable}:")]
                if found != [f"{tunable}: {form.value} (min: 0, max: 1)"]:
                    faults.append(f"with {form.text!r} not {form.value}, but {'; '.join(found) or 'nothing'}")
        except Unanswered as e:
            return Finding(
                **question.model_dump(), kernel=kernel, outcome=e.outcome, expected=expected, seen=e.why
            )
        said = verdict(expected, f"{len(asked)} forms, each right", faults, {"forms": len(asked)})
        return Finding(
            **question.model_dump(), kernel=kernel, outcome=said.outcome, expected=said.expected,
            seen=said.seen, measures=dict(said.measures),
        )  # fmt: skip


CHECKS = (Settings(),)
