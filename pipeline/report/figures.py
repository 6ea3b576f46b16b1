"""Figures in evidence: times with their spread, instructions and system calls per call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from pipeline.core.declaration import Unit
from pipeline.core.outcome import Finding, NotJudged
from pipeline.report import view
from pipeline.signoff.records import Evidence

SERIES = {
    "empty_ns": "empty loop",
    "direct_ns": "a function that reads the area",
    "on_ns": "sched_getcpu, rseq on",
    "unset_ns": "sched_getcpu, tunable unset",
    "off_ns": "sched_getcpu, rseq off",
    "raw_ns": "raw system call",
}


def of_unit(evidence: Evidence, answer: Finding | NotJudged, unit: Unit) -> dict[str, Any]:
    """The measures of an answer that its check declares to be of the unit."""
    declared = evidence.declared.get(answer.check)
    return declared.of_unit(unit, answer.measures) if declared else {}


@dataclass(frozen=True)
class Spread:
    """Times per call in ns: ``values`` sorted, with their quartiles."""

    values: tuple[float, ...]
    q1: float
    median: float
    q3: float

    @classmethod
    def of(cls, value: Any) -> Spread | None:
        """From a measure (a number or a list of numbers); None if it holds no positive number."""
        raw = value if isinstance(value, (list, tuple)) else [value]
        numbers = sorted(
            float(v) for v in raw if isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0
        )
        if not numbers:
            return None
        if len(numbers) == 1:
            return cls((numbers[0],), numbers[0], numbers[0], numbers[0])
        q1, _, q3 = quantiles(numbers, n=4, method="inclusive")
        return cls(tuple(numbers), q1, median(numbers), q3)

    def scaled(self, by: float) -> Spread:
        """Every figure times ``by``."""
        return Spread(tuple(v * by for v in self.values), self.q1 * by, self.median * by, self.q3 * by)


@dataclass(frozen=True)
class SpeedTable:
    """Times of one release at one place, and every answer they come from.

    ``declined`` is why none of them is judged, "" if any is.
    """

    release: str
    series: Mapping[str, Spread]
    answers: tuple[Finding | NotJudged, ...]

    @property
    def declined(self) -> str:
        reasons = [a.reason for a in self.answers if isinstance(a, NotJudged)]
        return reasons[0] if len(reasons) == len(self.answers) else ""

    @property
    def findings(self) -> list[Finding]:
        return [a for a in self.answers if isinstance(a, Finding)]


@dataclass(frozen=True)
class SpeedGroup:
    """All times of one architecture at one place."""

    arch: str
    where: view.Where
    speeds: tuple[SpeedTable, ...]

    @property
    def names(self) -> list[str]:
        """The series that any release has, in the order of `SERIES`."""
        return view.order((n for s in self.speeds for n in s.series), list(SERIES))

    @property
    def declined(self) -> str:
        """Why nothing of the group is judged, "" if any of it is."""
        reasons = [s.declined for s in self.speeds]
        return reasons[0] if all(reasons) else ""


def speeds(evidence: Evidence) -> list[SpeedGroup]:
    """Answers that carry times, by architecture, place and release.

    Where several answers about a release carry the same series, the one with most samples is shown.
    """
    made = []
    for arch in view.arches_of(evidence):
        for where in view.wheres_of(evidence, arch):
            here: dict[str, list[Finding | NotJudged]] = {}
            for a in view.answers_of(evidence):
                at = (a.target.arch, a.place, a.kernel)
                if at == (arch, where.place, where.kernel) and of_unit(evidence, a, Unit.NANOSECONDS):
                    here.setdefault(a.target.release, []).append(a)
            releases = view.order(here, evidence.profile.releases)
            timed = [SpeedTable(r, _series(evidence, here[r]), tuple(here[r])) for r in releases]
            timed = [s for s in timed if s.series]
            if timed:
                made.append(SpeedGroup(arch, where, tuple(timed)))
    return made


def _series(evidence: Evidence, answers: Sequence[Finding | NotJudged]) -> dict[str, Spread]:
    series: dict[str, Spread] = {}
    for answer in answers:
        for name, value in of_unit(evidence, answer, Unit.NANOSECONDS).items():
            spread = Spread.of(value)
            if spread and (name not in series or len(spread.values) > len(series[name].values)):
                series[name] = spread
    return series


@dataclass(frozen=True)
class StepsTable:
    """Instructions and system calls per call: of one architecture, releases down, cases across.

    ``places`` says where they were counted. A figure that differs between places is given as a range.
    """

    arch: str
    cases: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    places: tuple[str, ...]


def steps(evidence: Evidence) -> list[StepsTable]:
    """From the measures that are instructions and system calls."""
    made = []
    for arch in view.arches_of(evidence):
        figures: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
        places: dict[str, None] = {}
        for f in evidence.findings:
            instructions = _numbers(of_unit(evidence, f, Unit.INSTRUCTIONS))
            calls = _numbers(of_unit(evidence, f, Unit.SYSTEM_CALLS))
            if f.target.arch != arch or not (instructions or calls):
                continue
            both = figures.setdefault((f.target.release, f.case), ([], []))
            both[0].extend(instructions)
            both[1].extend(calls)
            if f.place:
                places.setdefault(f.place)
        if not figures:
            continue
        cases = view.order((c for _, c in figures), ("tunable unset", "tunable=0", "tunable=1"))
        releases = view.order((r for r, _ in figures), evidence.profile.releases)
        none: tuple[list[float], list[float]] = ([], [])
        rows = []
        for r in releases:
            here = [figures.get((r, c), none) for c in cases]
            rows.append((r, tuple((span(i), span(c)) for i, c in here)))
        made.append(StepsTable(arch, tuple(cases), tuple(rows), tuple(places)))
    return made


def _numbers(measures: Mapping[str, Any]) -> list[float]:
    found = [
        v for value in measures.values() for v in (value if isinstance(value, list | tuple) else [value])
    ]
    return [float(v) for v in found if isinstance(v, (int, float)) and not isinstance(v, bool)]


def span(numbers: Sequence[float]) -> str:
    """``11``, or ``11-13`` where they differ, "" where there are none."""
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return number(low) if low == high else f"{number(low)}-{number(high)}"


def number(value: float) -> str:
    """Three significant digits, thousands apart: ``7.05``, ``33 100``."""
    if value and abs(value) < 0.01:
        return f"{value:.2e}"
    if abs(value) >= 1e9:
        return f"{value:.3g}"
    digits = 0 if value == int(value) or abs(value) >= 100 else (1 if abs(value) >= 10 else 2)
    return f"{value:,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
