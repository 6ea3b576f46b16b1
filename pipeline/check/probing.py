"""What all checks that run a probe share: one job and one question for each release and tunable state.

A probe's answer goes through one door (`Answers.lines`), so that an absent, cut, crashed or garbled one can
never be taken for a good one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pipeline.check import TUNABLE_STATES, Material, PlaceCheck, tunable_case, tunable_env, tunable_facet
from pipeline.core.declaration import Need
from pipeline.core.errors import EvidenceError
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question
from pipeline.core.words import several
from pipeline.place import BatchResult, Job, JobResult, PlaceFacts
from pipeline.profile import BuiltRelease

PROBES = "/probes"
#: Exit status of a probe that the place does not let work (probe.h: CANNOT).
CANNOT = 77
#: Exit status of a tracer that cannot start its program.
NOT_STARTED = 127
#: What a kernel with rseq says to a call that is wrong in every way.
HAS_RSEQ = "EINVAL"
#: cpu_id of an area that was never registered, and of one that glibc did not register (linux/rseq.h).
UNINITIALIZED = 0xFFFFFFFF
REGISTRATION_FAILED = 0xFFFFFFFE
#: A cpu_id above this is one of the negative marks (a uint32 on the wire).
MAX_CPU = 0x7FFFFFFF
#: Errors by which ptrace says that it cannot tell (a kernel before 5.13, a filter).
CANNOT_TELL = ("EIO", "EINVAL", "ENOSYS", "EPERM", "EACCES")


class Unanswered(Exception):
    """There is no answer to judge; ``outcome`` is MISSING or ERROR, or FAIL where
    the packages are why."""

    def __init__(self, outcome: Outcome, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome
        self.why = why


def need_static(material: Material, release: str, program: str) -> None:
    """Raise `Unanswered` if a static program was not made, for the release has no libc.a."""
    if material.lacks(program):
        raise Unanswered(Outcome.MISSING, f"{release} has no libc.a to link with (package glibc-static)")


def was_linked(material: Material, release: str, program: str, result: JobResult | None) -> None:
    """Raise `Unanswered` if a tracer could not start a static program, for the release has no libc.a."""
    if result is not None and result.status == NOT_STARTED:
        need_static(material, release, program)


@dataclass(frozen=True)
class Verdict:
    """What a check says of one case."""

    outcome: Outcome
    expected: str
    seen: str
    measures: Mapping[str, Any] = field(default_factory=dict)


def verdict(
    expected: str, seen: str, faults: list[str], measures: Mapping[str, Any] | None = None
) -> Verdict:
    """PASS if there are no faults; else FAIL, the faults being what was seen."""
    if not faults:
        return Verdict(Outcome.PASS, expected, seen, measures or {})
    return Verdict(Outcome.FAIL, expected, several(faults, 4, separator="; "), measures or {})


@dataclass(frozen=True)
class Case:
    """A release in one state of the tunable."""

    release: BuiltRelease
    state: int | None

    @property
    def on(self) -> bool:
        """Whether rseq is to be on."""
        return bool(self.release.rseq_default if self.state is None else self.state)

    @property
    def name(self) -> str:
        return tunable_case(self.state)

    @property
    def facets(self) -> dict[str, str]:
        """What tells the cases of a release apart, for programs."""
        return {"tunable": tunable_facet(self.state)}

    def job(self, check: str) -> str:
        return f"{check}/{self.release.name}/{self.name}"

    def but(self, state: int) -> Case:
        """The same release in another state."""
        return Case(self.release, state)


@dataclass(frozen=True)
class FacetedCase(Case):
    """A release in one state of the tunable, asked about in several ways; ``facet`` names what tells them
    apart: ``kind``, how the program was made that looks; ``error``, how the system call is refused."""

    facet: str
    value: str

    @property
    def name(self) -> str:
        return f"{self.value}, {super().name}"

    @property
    def facets(self) -> dict[str, str]:
        return {**super().facets, self.facet: self.value}

    def but(self, state: int) -> FacetedCase:
        return replace(self, state=state)


def faceted(cases: Iterable[Case], facet: str, values: Iterable[str]) -> list[FacetedCase]:
    """Each case with each value of the facet."""
    each = tuple(values)
    return [FacetedCase(c.release, c.state, facet, value) for c in cases for value in each]


def as_faceted(case: Case) -> FacetedCase:
    """The case of a check whose cases are `faceted`."""
    assert isinstance(case, FacetedCase)
    return case


@dataclass(frozen=True)
class Answers:
    """The batch, seen through the one door."""

    batch: BatchResult

    def output(self, job: str) -> bytes:
        """Standard output of a job that ended with status 0; raises `Unanswered` if there is none."""
        result = self.batch.results.get(job)
        if result is None:
            why = self.batch.trouble or "nothing said why"
            raise Unanswered(Outcome.MISSING, f"no result came back ({why})")
        words = result.stderr.decode(errors="replace").strip()[-300:]
        said = f": {words}" if words else ""
        if result.timed_out:
            raise Unanswered(Outcome.MISSING, f"timed out after {result.seconds:.0f} s{said}")
        if result.error:
            raise Unanswered(Outcome.MISSING if result.place_at_fault else Outcome.ERROR, result.error)
        if result.status == CANNOT:
            raise Unanswered(Outcome.MISSING, f"the place does not let the probe work{said}")
        if result.status != 0:
            raise Unanswered(Outcome.ERROR, f"the probe ended with {result.ending()}{said}")
        return result.stdout

    def lines(self, job: str) -> list[dict[str, Any]]:
        """The JSON objects of a job; raises `Unanswered`."""
        self.output(job)
        try:
            lines = self.batch.results[job].lines()
        except EvidenceError as e:
            raise Unanswered(Outcome.ERROR, e.message) from None
        if not lines:
            raise Unanswered(Outcome.ERROR, "the probe said nothing")
        return lines

    def of_both_threads(self, job: str) -> list[dict[str, Any]]:
        """As `lines`, of a probe whose main thread and one other both have to answer."""
        lines = self.lines(job)
        if {x["thread"] for x in lines} != {"main", "other"}:
            raise Unanswered(Outcome.ERROR, "not both threads answered")
        return lines


def told(error: str) -> None:
    """Raise `Unanswered` if the kernel's answer about registration was an error."""
    if error in CANNOT_TELL:
        raise Unanswered(
            Outcome.MISSING, f"the kernel does not say who is registered ({error}; it does from 5.13 on)"
        )
    if error != "0":
        raise Unanswered(Outcome.ERROR, f"asking the kernel failed: {error}")


class ProbeCheck(PlaceCheck):
    """One job and one question a release and tunable state.

    One that needs rseq is refused by name with user-mode QEMU, and is MISSING where the kernel or a filter
    refuses the call. ``program`` is the probe's command line.
    """

    timeout: ClassVar[float] = 60.0

    @abstractmethod
    def program(self, material: Material) -> tuple[str, ...]: ...

    @abstractmethod
    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        """Judge one case. Raises `Unanswered`; an answer without a needed field may raise KeyError."""

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:  # noqa: ARG002
        """The command line of one case, where it is not the same in all."""
        return self.program(material)

    def cases(self, material: Material) -> Sequence[Case]:
        return [Case(material.profile.get(r), state) for r in material.built for state in TUNABLE_STATES]

    def questions(self, material: Material, place: str) -> list[Question]:
        return [
            Question(
                check=self.name,
                target=material.target(c.release.name),
                case=c.name,
                place=place,
                facets=c.facets,
            )
            for c in self.cases(material)
        ]

    def jobs(self, material: Material) -> list[Job]:
        return [
            Job(
                id=c.job(self.name),
                root=c.release.name,
                argv=self.argv(material, c),
                env=tunable_env(material.profile.rseq.tunable, c.state),
                timeout=self.timeout,
            )
            for c in self.cases(material)
        ]

    def refused(self, facts: PlaceFacts) -> str:
        """Why this place cannot answer by its nature; "" if it can."""
        if Need.RSEQ in self.declared.needs and not facts.judges_rseq:
            return "user-mode QEMU has no rseq: what is seen there says nothing of it"
        return ""

    def judge(self, material: Material, place: str, batch: BatchResult) -> list[Finding | NotJudged]:
        return [self._judge(material, place, batch, case) for case in self.cases(material)]

    def _judge(self, material: Material, place: str, batch: BatchResult, case: Case) -> Finding | NotJudged:
        facts = batch.facts
        target = material.target(case.release.name)
        kernel = facts.kernel if facts else ""
        if facts and (reason := self.refused(facts)):
            return NotJudged(
                check=self.name, target=target, case=case.name, place=place, kernel=kernel, reason=reason,
                measures=self.shown(case, Answers(batch)),
            )  # fmt: skip
        try:
            if known := material.not_compiled(*self.argv(material, case)):
                raise Unanswered(*known)
            self._require(material, facts, batch)
            said = self.verdict(material, case, Answers(batch))
        except Unanswered as e:
            said = Verdict(e.outcome, self.asks(case), e.why)
        except (KeyError, TypeError, ValueError) as e:
            said = Verdict(Outcome.ERROR, self.asks(case), f"the probe's answer is not complete: {e!r}")
        return Finding(
            check=self.name, target=target, case=case.name, place=place, kernel=kernel, outcome=said.outcome,
            expected=said.expected, seen=said.seen, evidence=(self.evidence(case),),
            measures=dict(said.measures),
        )  # fmt: skip

    def evidence(self, case: Case) -> str:
        """The job that the answer to this case comes from."""
        return case.job(self.name)

    def shown(self, case: Case, answers: Answers) -> dict[str, Any]:  # noqa: ARG002
        """Figures to show, unjudged, where the place cannot answer."""
        return {}

    def asks(self, case: Case) -> str:
        """What is expected, for a case without an answer."""
        return f"an answer of {self.name} with rseq {'on' if case.on else 'off'}"

    def _require(self, material: Material, facts: PlaceFacts | None, batch: BatchResult) -> None:
        """Raise `Unanswered` unless the place is one where the question can be asked."""
        if facts is None:
            raise Unanswered(Outcome.MISSING, f"the place never came up ({batch.trouble or 'no facts'})")
        if facts.emulation != "user" and facts.machine != material.arch.name:
            raise Unanswered(Outcome.ERROR, f"the place is {facts.machine}, not {material.arch.name}")
        if Need.RSEQ in self.declared.needs and facts.rseq != HAS_RSEQ:
            raise Unanswered(
                Outcome.MISSING,
                f"the place refuses rseq ({facts.rseq}): its kernel lacks it or a filter forbids it",
            )
