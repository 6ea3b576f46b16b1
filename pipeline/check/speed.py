"""Nanoseconds a call of sched_getcpu, judged as ratios and only on real hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.check import Bench
from pipeline.check.probing import PROBES, Answers, Case, ProbeCheck, Unanswered, Verdict
from pipeline.outcome import Outcome
from pipeline.place import Job, PlaceFacts
from pipeline.profile import Speed

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
class Span:
    """What a call costs undisturbed, ns: between the fastest sample and the fastest tenth."""

    low: float
    tenth: float
    median: float

    @classmethod
    def of(cls, samples: list[float]) -> Span:
        ordered = sorted(samples)
        return cls(ordered[0], ordered[len(ordered) // 10], ordered[len(ordered) // 2])


def rules(case: Case, speed: Speed) -> list[Rule]:
    """What is asked of each state of the tunable."""
    if case.state == 1:
        return [
            Rule("on", speed.max_over_direct_read, "direct"),
            Rule("on", speed.max_on_over_off, "off"),
        ]
    if case.state == 0:
        return [Rule("off", speed.max_on_over_off, "raw")]
    return [Rule("unset", speed.max_on_over_off, "on" if case.on else "off")]


def compare(rule: Rule, spans: dict[str, Span]) -> Outcome:
    """PASS or FAIL only if both ends of the spans agree on it; else the machine was too busy: MISSING."""
    kind, than = spans[rule.kind], spans[rule.than]
    if kind.tenth <= rule.times * than.low:
        return Outcome.PASS
    if kind.low > rule.times * than.tenth:
        return Outcome.FAIL
    return Outcome.MISSING


class GetcpuSpeed(ProbeCheck):
    """One job a release measures all kinds in turns; each state of the tunable has its own rules."""

    name: str = "getcpu.speed"

    def program(self, bench: Bench) -> tuple[str, ...]:
        return (f"{PROBES}/getcpu-speed", bench.profile.rseq.tunable)

    def jobs(self, bench: Bench) -> list[Job]:
        return [
            Job(id=f"{self.name}/{r}", root=r, argv=self.program(bench), timeout=self.timeout)
            for r in bench.built
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

    def verdict(self, bench: Bench, case: Case, answers: Answers) -> Verdict:
        asked = rules(case, bench.profile.speed)
        samples = self._samples(case, answers)
        spans = {kind: Span.of(values) for kind, values in samples.items() if values[0] >= 0}
        expected = " and ".join(str(r) for r in asked)
        for rule in asked:
            if missing := [k for k in (rule.kind, rule.than) if k not in spans]:
                raise Unanswered(Outcome.MISSING, f"{missing[0]} could not be measured")
        outcomes = {rule: compare(rule, spans) for rule in asked}
        outcome = max(outcomes.values())
        kinds = dict.fromkeys(k for r in asked for k in (r.kind, r.than))
        seen = ", ".join(f"{k} {spans[k].low:.2f}-{spans[k].tenth:.2f} ns" for k in kinds)
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
        return samples


def _measures(case: Case, samples: dict[str, list[float]]) -> dict[str, Any]:
    """All samples by name, once a release (with the tunable on), else those of the case."""
    if case.state == 1:
        return {f"{kind}_ns": values for kind, values in samples.items() if values[0] >= 0}
    kind = "off" if case.state == 0 else "unset"
    return {f"{kind}_ns": samples[kind]}


CHECKS = (GetcpuSpeed(),)
