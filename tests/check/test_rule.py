"""One rule from error to outcome, wherever the error arises."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.check import Material, PlaceCheck, StaticCheck
from pipeline.check.abi_facts import answered
from pipeline.check.rpm import NotThere, _answered
from pipeline.check.rule import outcome_of
from pipeline.core.declaration import Declaration
from pipeline.core.errors import (
    CommandFailed,
    EvidenceError,
    MalformedInput,
    NoSpace,
    PipelineError,
    ToolMissing,
    UsageError,
    WorldError,
)
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question, Target
from pipeline.place import BatchResult, Job
from pipeline.signoff.records import Evidence
from pipeline.verify.observe import Site
from pipeline.verify.run_checks import verify
from tests.check import probe_kit
from tests.test_verify import SilentPlace

JUDGED = [
    (MalformedInput("cut"), Outcome.ERROR),
    (EvidenceError("no"), Outcome.ERROR),
    (OSError(errno.EIO, "I/O error"), Outcome.ERROR),
    (PermissionError(errno.EACCES, "denied"), Outcome.ERROR),
    (NotThere("none"), Outcome.MISSING),
    (WorldError("no machine"), Outcome.MISSING),
    (ToolMissing("no rpm"), Outcome.MISSING),
    (CommandFailed("ended with 1"), Outcome.MISSING),
]
RAISED = [
    (NoSpace("full"), NoSpace),
    (OSError(errno.ENOSPC, "No space left on device"), NoSpace),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), NoSpace),
    (UsageError("a wrong line in the profile"), UsageError),
]
QUESTION = Question(check="a.b", target=Target(profile="p", release="1", arch="x86_64"))


class Failing(StaticCheck):
    declared = Declaration(name="test.failing", question="Does it fail?")

    def __init__(self, error: Exception) -> None:
        self.error = error

    def questions(self, material: Material) -> list[Question]:
        return [Question(check=self.name, target=material.target(r)) for r in material.built]

    def run(self, material: Material) -> list[Finding]:  # noqa: ARG002
        raise self.error


class FailingWatch(PlaceCheck):
    declared = Declaration(name="test.watch", question="Does it fail?")

    def __init__(self, error: Exception) -> None:
        self.error = error

    def questions(self, material: Material, place: str) -> list[Question]:
        return [Question(check=self.name, target=material.target(r), place=place) for r in material.built]

    def jobs(self, material: Material) -> list[Job]:  # noqa: ARG002
        return []

    def judge(self, material: Material, place: str, batch: BatchResult) -> list[Finding | NotJudged]:  # noqa: ARG002
        raise self.error


def ways(error: Exception) -> list[Outcome]:
    """The outcome of the error at each place where one can arise."""

    def ask() -> tuple[Outcome, str]:
        raise error

    def answer() -> object:
        raise error

    made = judged(error)
    return [
        answered(QUESTION, "x", answer).outcome,  # type: ignore[arg-type]
        _answered(QUESTION, "x", ask).outcome,
        *{f.outcome for f in made.findings if f.check == "test.failing"},
        *{f.outcome for f in made.findings if f.check == "test.watch"},
    ]


def judged(error: Exception) -> Evidence:
    profile = profiles.load("bookworm")
    built = probe_kit.material(machine="x86_64").built
    return verify(
        profile, profiles.targets(profile, (), ("x86_64",)), {"x86_64": built},
        programs=lambda _: Path("/nonexistent"), sites=lambda *_: [Site(SilentPlace())],
        static=(Failing(error),), watched=(FailingWatch(error),), command="nox -s verify",
    )  # fmt: skip


@pytest.mark.parametrize(("error", "outcome"), JUDGED, ids=lambda x: type(x).__name__)
def test_an_error_has_one_outcome_wherever_it_arises(
    error: PipelineError | OSError, outcome: Outcome
) -> None:
    assert outcome_of(error) is outcome
    assert set(ways(error)) == {outcome}


@pytest.mark.parametrize(("error", "raised"), RAISED, ids=lambda x: getattr(x, "__name__", type(x).__name__))
def test_what_is_of_no_single_question_ends_the_run(
    error: PipelineError | OSError, raised: type[PipelineError]
) -> None:
    with pytest.raises(raised):
        outcome_of(error)
    with pytest.raises(raised):
        judged(error)
    with pytest.raises(raised):
        _answered(QUESTION, "x", lambda: (_ for _ in ()).throw(error))
