"""Figures in evidence: times with their spread, instructions and system calls per call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from pipeline.evidence import Evidence
from pipeline.outcome import Finding, NotJudged
from pipeline.report import view

SERIES = {
    "direct_ns": "direct read of the area",
    "on_ns": "sched_getcpu, rseq on",
    "off_ns": "sched_getcpu, rseq off",
    "raw_ns": "raw system call",
}


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
class Speed:
    """Times of one release at one place; ``declined`` is why they are not judged, "" if they are."""

    label: str
    series: tuple[tuple[str, Spread], ...]
    declined: str
    finding: Finding | NotJudged


@dataclass(frozen=True)
class SpeedGroup:
    """All times of one architecture at one place."""

    arch: str
    where: view.Where
    speeds: tuple[Speed, ...]

    @property
    def declined(self) -> str:
        """Why the group is not judged, "" if any of it is."""
        return "" if any(not s.declined for s in self.speeds) else self.speeds[0].declined


def speeds(evidence: Evidence) -> list[SpeedGroup]:
    """Answers that carry times (measures whose name ends in ``_ns``), grouped by architecture and place."""
    made = []
    answers: list[Finding | NotJudged] = [*evidence.findings, *evidence.not_judged]
    for arch in view.arches_of(evidence):
        for where in view.wheres_of(evidence, arch):
            here = []
            for a in answers:
                if (a.target.arch, a.place, a.kernel) != (arch, where.place, where.kernel):
                    continue
                names = view.order((n for n in a.measures if n.endswith("_ns")), list(SERIES))
                spreads = [(n, s) for n in names if (s := Spread.of(a.measures[n])) is not None]
                if spreads:
                    label = a.target.release + (f", {a.case}" if a.case else "")
                    why = a.reason if isinstance(a, NotJudged) else ""
                    here.append(Speed(label, tuple(spreads), why, a))
            if here:
                ranks = {r: i for i, r in enumerate(evidence.profile.releases)}
                here.sort(key=lambda s: (ranks.get(s.finding.target.release, 99), s.label))
                made.append(SpeedGroup(arch, where, tuple(here)))
    return made


@dataclass(frozen=True)
class Steps:
    """Instructions and system calls per call: of one architecture, releases down, cases across.

    ``places`` says where they were counted. A figure that differs between places is given as a range.
    """

    arch: str
    cases: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    places: tuple[str, ...]


def steps(evidence: Evidence) -> list[Steps]:
    """From measures named ``instructions`` and ``syscalls`` (or ending so)."""
    made = []
    for arch in view.arches_of(evidence):
        figures: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
        places: dict[str, None] = {}
        for f in evidence.findings:
            if f.target.arch != arch:
                continue
            for kind, name in enumerate(("instructions", "syscalls")):
                for key, value in f.measures.items():
                    numbers = _numbers(value)
                    if (key == name or key.endswith(f"_{name}")) and numbers:
                        case = f.case + (f" {key.removesuffix(name).strip('_')}".rstrip())
                        figures.setdefault((f.target.release, case.strip()), ([], []))[kind].extend(numbers)
                        if f.place:
                            places.setdefault(f.place)
        if not figures:
            continue
        cases = view.order((c for _, c in figures), ("tunable unset", "tunable=0", "tunable=1"))
        releases = view.order((r for r, _ in figures), evidence.profile.releases)
        rows = tuple(
            (
                r,
                tuple(
                    (span(figures[r, c][0]), span(figures[r, c][1])) if (r, c) in figures else ("", "")
                    for c in cases
                ),
            )
            for r in releases
        )
        made.append(Steps(arch, tuple(cases), rows, tuple(places)))
    return made


def _numbers(value: Any) -> list[float]:
    raw = value if isinstance(value, (list, tuple)) else [value]
    return [float(v) for v in raw if isinstance(v, (int, float)) and not isinstance(v, bool)]


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
    digits = 0 if value == int(value) or abs(value) >= 100 else (1 if abs(value) >= 10 else 2)
    return f"{value:,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
