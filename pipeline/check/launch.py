"""The launch matrix: programs built against the newest release, started on every release.

Its negative control is the program that needs the rseq symbols' node: where the release does not export it,
ld.so must refuse that program, in exactly those words, whatever the tunable says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.check import (
    TUNABLE_STATES,
    Material,
    PlaceCheck,
    tunable_case,
    tunable_env,
    tunable_facet,
)
from pipeline.check.launch_needs import PRINTS, RSEQ, Pairs, needed_pairs, rseq_pairs
from pipeline.check.probing import HAS_RSEQ, PROBES
from pipeline.core.declaration import Declaration
from pipeline.core.errors import EvidenceError, MalformedInput
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question
from pipeline.place import BatchResult, Job, JobResult, PlaceFacts

CONTROL = "negative control"
#: ld.so's exit status when a version is missing (1) or a library cannot be loaded (127).
REFUSED = (1, 127)


@dataclass(frozen=True)
class Start:
    """One program on one release in one state of the tunable."""

    program: str
    release: str
    state: int | None

    @property
    def job(self) -> str:
        return f"launch.matrix/{self.program}/{self.release}/{tunable_case(self.state)}"

    @property
    def case(self) -> str:
        """``rseq on 12.0, tunable=0``; the tunable only for the program that it matters to."""
        name = f"{self.program.removeprefix('launch-')} on {self.release}"
        return f"{name}, {tunable_case(self.state)}" if self.program == RSEQ else name

    @property
    def facets(self) -> dict[str, str]:
        """``program`` without its prefix, and ``tunable`` for the program that it matters to."""
        facets = {"program": self.program.removeprefix("launch-")}
        return {**facets, "tunable": tunable_facet(self.state)} if self.program == RSEQ else facets


def starts(material: Material) -> Iterator[Start]:
    """The whole matrix."""
    for release in material.built:
        for program in PRINTS:
            for state in TUNABLE_STATES if program == RSEQ else (None,):
                yield Start(program, release, state)


class LaunchMatrix(PlaceCheck):
    """Each program on each release: started with the right result, or refused for the right reason."""

    declared = Declaration(
        name="launch.matrix",
        question=(
            "Do programs built on the newest release start on each, and is the one that must not "
            "start refused by the loader?"
        ),
    )

    def _question(self, material: Material, place: str, start: Start) -> Question:
        return Question(
            check=self.name,
            target=material.target(start.release),
            case=start.case,
            place=place,
            facets=start.facets,
            control=start.program == RSEQ and not material.profile.get(start.release).exports_rseq,
        )

    def _controls(self, material: Material, place: str) -> list[Question]:
        """One a release that must refuse a program: was any seen refused?"""
        return [
            Question(check=self.name, target=material.target(release), case=CONTROL, place=place)
            for release in material.built
            if not material.profile.get(release).exports_rseq
        ]

    def questions(self, material: Material, place: str) -> list[Question]:
        return [self._question(material, place, s) for s in starts(material)] + self._controls(
            material, place
        )

    def jobs(self, material: Material) -> list[Job]:
        return [
            Job(
                s.job,
                s.release,
                (f"{PROBES}/{s.program}",),
                tunable_env(material.profile.rseq.tunable, s.state),
            )
            for s in starts(material)
        ]

    def judge(self, material: Material, place: str, batch: BatchResult) -> list[Finding | NotJudged]:
        kernel = batch.facts.kernel if batch.facts else ""
        findings: list[Finding | NotJudged] = []
        #: release -> the programs that were seen refused there, as they must be
        controls: dict[str, list[str]] = {}
        for start in starts(material):
            refusal = False
            try:
                needs = needed_pairs(material, start.program)
            except MalformedInput as e:
                expected, outcome, seen = "a program", Outcome.ERROR, e.message
            else:
                exported = material.profile.get(start.release).exports_rseq
                wanting = frozenset() if exported or needs is None else needs & rseq_pairs(material)
                refusal = bool(wanting)
                expected = _expected(material, start, wanting)
                if needs is None:
                    known = material.not_compiled(start.program)
                    outcome, seen = known or (Outcome.MISSING, f"{start.program} was not compiled")
                else:
                    outcome, seen = _seen(material, start, wanting, batch)
            question = self._question(material, place, start)
            findings.append(
                Finding(**question.model_dump(), kernel=kernel, outcome=outcome, expected=expected, seen=seen)
            )
            if refusal and outcome is Outcome.PASS:
                controls.setdefault(start.release, []).append(start.case)
        for question in self._controls(material, place):
            refused = controls.get(question.target.release, [])
            findings.append(
                Finding(
                    **question.model_dump(),
                    kernel=kernel,
                    outcome=Outcome.PASS if refused else Outcome.MISSING,
                    expected="at least one program that must not start is seen not to start",
                    seen=f"refused: {'; '.join(refused)}" if refused else "none was seen refused",
                )
            )
        return findings


def message(dso: str, node: str) -> str:
    """What ld.so says of a version that is not there (elf/dl-version.c), without the names of files."""
    return f"{dso}: version `{node}' not found (required by …)"


def _expected(material: Material, start: Start, wanting: Pairs) -> str:
    if wanting:
        return "refused by the loader: " + "; ".join(message(*p) for p in sorted(wanting))
    if start.program == RSEQ:
        return f"starts and prints size {_size(material, start, None)}, flags 0 and an aligned offset"
    return "starts and prints what it should"


def _size(material: Material, start: Start, facts: PlaceFacts | None) -> int:
    """``__rseq_size``: 0 where rseq is off, and where the place has none or refuses it."""
    default = material.profile.get(start.release).rseq_default
    on = default if start.state is None else start.state
    return material.profile.rseq.size_on if on and (facts is None or facts.rseq == HAS_RSEQ) else 0


def _seen(material: Material, start: Start, wanting: Pairs, batch: BatchResult) -> tuple[Outcome, str]:
    """The outcome of one start and what was seen."""
    result = batch.results.get(start.job)
    if result is None or batch.facts is None:
        return Outcome.MISSING, f"no result came back ({batch.trouble or 'nothing said why'})"
    if result.timed_out:
        return Outcome.MISSING, f"timed out after {result.seconds:.0f} s"
    if result.error and not result.error.startswith("exec "):
        return Outcome.MISSING if result.place_at_fault else Outcome.ERROR, result.error
    if wanting:
        return _refused(result, f"{PROBES}/{start.program}", wanting)
    return started(result, start.program, _size(material, start, batch.facts))


def _words(result: JobResult) -> str:
    words = result.stderr.decode(errors="replace").strip()[-400:]
    return f"{result.ending()}: {words}" if words else result.ending()


def _refused(result: JobResult, program: str, wanting: Pairs) -> tuple[Outcome, str]:
    """Refused by ld.so, before the program said anything, for every missing version and nothing else."""
    if result.status == 0 or result.stdout:
        return Outcome.FAIL, f"it started ({_words(result)})"
    form = re.compile(
        rf"{re.escape(program)}: (?:\S*/)?([^/\s]+): version `([^']+)' not found "
        rf"\(required by {re.escape(program)}\)"
    )
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    found = [form.fullmatch(line) for line in lines]
    named = frozenset((m[1], m[2]) for m in found if m)
    right = result.status in REFUSED and all(found) and named == wanting
    return (Outcome.PASS if right else Outcome.FAIL), _words(result)


def started(result: JobResult, program: str, size: int) -> tuple[Outcome, str]:
    """Started, ended with 0 and printed one object with the right results."""
    if result.status != 0:
        return Outcome.FAIL, f"{_words(result)}"
    try:
        lines = result.lines()
    except EvidenceError as e:
        return Outcome.FAIL, e.message
    if len(lines) != 1:
        return Outcome.FAIL, f"it printed {len(lines)} objects"
    wanted = {"name": program, **PRINTS[program]}
    printed = dict(lines[0])
    if program == RSEQ:
        wanted["size"] = size
        offset = printed.pop("offset", None)
        if not isinstance(offset, int) or not offset:
            return Outcome.FAIL, f"__rseq_offset is {offset!r}"
    different = sorted(
        key
        for key in wanted.keys() | printed.keys()
        if key not in wanted or key not in printed or _json(wanted[key]) != _json(printed[key])
    )
    if different:
        said = ", ".join(f"{k}: {printed.get(k)!r} instead of {wanted.get(k)!r}" for k in different)
        return Outcome.FAIL, f"it printed {said}"
    return Outcome.PASS, "started" if program != RSEQ else f"started, size {printed['size']}"


def _json(value: object) -> str:
    """JSON tells true from 1, which Python's comparison does not."""
    return json.dumps(value, sort_keys=True)


CHECKS = (LaunchMatrix(),)
