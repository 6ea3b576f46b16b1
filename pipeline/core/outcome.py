"""Outcomes and findings: the only vocabulary in which a check may speak.

A check that was skipped, unsupported or timed out is MISSING, and MISSING is never green. What a place
cannot judge by its nature (speed under emulation) is not a finding but a `NotJudged` record, by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from pipeline.core.errors import ExitCode


class Outcome(IntEnum):
    """Ordered: the worst wins (`worst`)."""

    PASS = 0
    WAIVED = 1
    MISSING = 2
    FAIL = 3
    ERROR = 4

    @property
    def green(self) -> bool:
        return self in (Outcome.PASS, Outcome.WAIVED)

    @property
    def exit_code(self) -> ExitCode:
        """FAIL is a judgement (1); ERROR and MISSING mean that there is none (3)."""
        if self.green:
            return ExitCode.PASS
        return ExitCode.FAILED if self is Outcome.FAIL else ExitCode.MISSING


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of the outcomes; of none at all it is MISSING, for nothing was shown."""
    return max(outcomes, default=Outcome.MISSING)


def _outcome(value: object) -> object:
    if isinstance(value, str):
        try:
            return Outcome[value]
        except KeyError:
            raise ValueError(f"unknown outcome {value!r}") from None
    return value


#: An outcome in JSON is its name.
OutcomeName = Annotated[
    Outcome,
    BeforeValidator(_outcome),
    PlainSerializer(lambda o: o.name, return_type=str),
    WithJsonSchema({"type": "string", "enum": [o.name for o in Outcome]}),
]


class Frozen(BaseModel):
    """Base of all records: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(Frozen):
    """profile/release/arch. In a finding ``release`` may be ``A -> B`` for a comparison."""

    profile: str
    release: str
    arch: str

    @property
    def judged(self) -> str:
        """The release that is judged: of a comparison the later one."""
        return self.release.rpartition(" -> ")[2]

    def __str__(self) -> str:
        return f"{self.profile}/{self.release}/{self.arch}"


class Question(Frozen):
    """One planned question; a finding answers it if check, target, case, place and kernel agree.

    ``kernel`` is not part of a plan: it is known only when the place has come up. ``case`` is what people
    read; ``facets`` says the same to programs: ``program``, ``tunable``, ``kind`` and so on. ``control``: it
    is a negative control, which is right if something does not work.
    """

    check: str
    target: Target
    case: str = ""
    place: str = ""
    facets: dict[str, str] = Field(default_factory=dict)
    control: bool = False

    def __hash__(self) -> int:
        return hash((self.check, self.target, self.case, self.place))


class Finding(Frozen):
    """One answer of one check.

    ``check`` is the check's dotted name; ``case`` tells the answers of one check about one target apart
    (``tunable=0``, ``cxx on 12.0``); ``place`` is the name of the place it was observed at ("" if the
    question needs none) and ``kernel`` the release of the kernel it ran on. ``measures`` holds figures by
    name: a number, a string or a list of numbers, in the unit that the check declares. ``facets`` and
    ``control`` are the question's (`Question`).
    """

    check: str
    target: Target
    case: str = ""
    place: str = ""
    kernel: str = ""
    facets: dict[str, str] = Field(default_factory=dict)
    control: bool = False
    outcome: OutcomeName
    expected: str
    seen: str
    evidence: tuple[str, ...] = ()
    measures: dict[str, Any] = Field(default_factory=dict)
    waiver: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What makes a finding the answer to one planned question."""
        return (self.check, str(self.target), self.case, self.place, self.kernel)


class NotJudged(Frozen):
    """A question a place cannot answer by its nature; shown by name, never as a number."""

    check: str
    target: Target
    case: str = ""
    place: str = ""
    kernel: str = ""
    facets: dict[str, str] = Field(default_factory=dict)
    control: bool = False
    reason: str
    measures: dict[str, Any] = Field(default_factory=dict)
