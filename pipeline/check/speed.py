"""Nanoseconds a call of sched_getcpu, judged as ratios and only on real hardware."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.check import Material
from pipeline.check.probing import PROBES, Answers, Case, ProbeCheck, Unanswered, Verdict
from pipeline.core.declaration import Declaration, Need, Unit, measured
from pipeline.core.outcome import Outcome
from pipeline.place import Job, PlaceFacts
from pipeline.profile import SpeedLimits

#: What is timed: sched_getcpu with the tunable unset, 0, 1; the system call; a read of the area; a loop.
KINDS = ("unset", "off", "on", "raw", "direct", "empty")


@dataclass(frozen=True)
class Rule:
    """``kind`` may cost at most ``times`` as much as ``than``."""

    kind: str
    times: float
    than: str

    def __str__(self) -> str:
        return f"{self.kind} at most {self.times:g} x {self.than}"


@dataclass(frozen=True)
class SpeedRatio:
    """How many times ``than`` a kind costs, round by round: the median, and between what it surely lies.

    A round has one sample of each kind, milliseconds apart, so what slows the machine for longer than that
    (a neighbour, a processor's clock) slows both and leaves their ratio alone; what hits a single sample
    leaves the median alone.
    """

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, kind: Sequence[float], than: Sequence[float]) -> SpeedRatio:
        """The median's interval by order statistics (sign test), three standard deviations wide: 99.7 %."""
        ordered = sorted(k / t for k, t in zip(kind, than, strict=True))
        half = 1.5 * math.sqrt(len(ordered))  # 3 deviations of a binomial with p = 1/2
        middle = (len(ordered) - 1) / 2
        low, high = max(0, math.floor(middle - half)), min(len(ordered) - 1, math.ceil(middle + half))
        return cls(ordered[low], statistics.median(ordered), ordered[high])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def rules(case: Case, speed: SpeedLimits) -> list[Rule]:
    """What each state of the tunable must show."""
    if case.state == 1:
        return [
            Rule("on", speed.max_over_direct_read, "direct"),
            Rule("on", speed.max_on_over_off, "off"),
        ]
    if case.state == 0:
        return [Rule("off", speed.max_on_over_off, "raw")]
    return [Rule("unset", speed.max_on_over_off, "on" if case.on else "off")]


def compare(rule: Rule, ratio: SpeedRatio) -> Outcome:
    """PASS or FAIL only if both ends of the interval agree on it; else the machine was too busy: MISSING."""
    if ratio.high <= rule.times:
        return Outcome.PASS
    if ratio.low > rule.times:
        return Outcome.FAIL
    return Outcome.MISSING


class GetcpuSpeed(ProbeCheck):
    """One job a release measures all kinds in turns; each state of the tunable has its own rules."""

    declared = Declaration(
        name="getcpu.speed",
        measures=measured(Unit.NANOSECONDS, "*_ns"),
        question=(
            "How many nanoseconds is a call, against the alternatives in the same run (on real "
            "hardware alone)?"
        ),
        needs=(Need.RSEQ, Need.TIME),
    )

    def program(self, material: Material) -> tuple[str, ...]:
        return (f"{PROBES}/getcpu-speed", material.profile.rseq.tunable)

    def jobs(self, material: Material) -> list[Job]:
        return [
            Job(id=f"{self.name}/{r}", root=r, argv=self.program(material), timeout=self.timeout)
            for r in material.built
        ]

    def evidence(self, case: Case) -> str:
        return f"{self.name}/{case.release.name}"

    def refused(self, facts: PlaceFacts) -> str:
        if not facts.judges_time:
            return f"emulated ({facts.emulation}): times there say nothing of a speed"
        return super().refused(facts)

    def shown(self, case: Case, answers: Answers) -> dict[str, Any]:
        try:
            return _measures(case, self._samples(case, answers))
        except (Unanswered, KeyError, TypeError, ValueError):
            return {}

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        asked = rules(case, material.profile.speed)
        samples = self._samples(case, answers)
        expected = " and ".join(str(r) for r in asked)
        for rule in asked:
            if missing := [k for k in (rule.kind, rule.than) if samples[k][0] < 0]:
                raise Unanswered(Outcome.MISSING, f"{missing[0]} could not be measured")
        ratios = {rule: SpeedRatio.of(samples[rule.kind], samples[rule.than]) for rule in asked}
        outcomes = {rule: compare(rule, ratio) for rule, ratio in ratios.items()}
        outcome = max(outcomes.values())
        kinds = dict.fromkeys(k for r in asked for k in (r.kind, r.than))
        seen = ", ".join(f"{r.kind} is {ratio} x {r.than}" for r, ratio in ratios.items())
        seen += "; medians: " + ", ".join(f"{k} {statistics.median(samples[k]):.2f} ns" for k in kinds)
        if outcome is Outcome.FAIL:
            seen = (
                "not " + " nor ".join(str(r) for r, o in outcomes.items() if o is Outcome.FAIL) + f": {seen}"
            )
        elif outcome is Outcome.MISSING:
            seen = f"the machine was too busy to tell: {seen}"
        return Verdict(outcome, expected, seen, _measures(case, samples))

    def _samples(self, case: Case, answers: Answers) -> dict[str, list[float]]:
        lines = answers.lines(self.evidence(case))
        samples = {line["kind"]: [float(x) for x in line["ns"]] for line in lines}
        if sorted(samples) != sorted(KINDS) or not all(samples.values()):
            raise Unanswered(Outcome.ERROR, f"{len(samples)} of {len(KINDS)} kinds were measured")
        if len({len(values) for values in samples.values()}) != 1:
            raise Unanswered(Outcome.ERROR, "the kinds have not as many samples each, so they are no rounds")
        return samples


def _measures(case: Case, samples: dict[str, list[float]]) -> dict[str, Any]:
    """All samples by name, once a release (with the tunable on), else those of the case."""
    if case.state == 1:
        return {f"{kind}_ns": values for kind, values in samples.items() if values[0] >= 0}
    kind = "off" if case.state == 0 else "unset"
    return {f"{kind}_ns": samples[kind]}


CHECKS = (GetcpuSpeed(),)
