"""Does a restartable sequence really work on the result? Per-CPU counters must lose no increment."""

from __future__ import annotations

from pipeline.check import Material
from pipeline.check.probing import PROBES, Answers, Case, ProbeCheck, Unanswered, Verdict, verdict
from pipeline.core.declaration import Declaration, Need, Unit, measured
from pipeline.core.outcome import Outcome

#: How long the counters are incremented, ms.
DURATION = 400


class RseqCritical(ProbeCheck):
    """More threads than CPUs increment per-CPU counters in rseq critical sections, through glibc's area
    where it is registered and through areas of their own where it is not; aborts must have been seen."""

    declared = Declaration(
        name="rseq.critical",
        measures=measured(Unit.COUNT, "threads", "cpus", "done", "counted", "aborted"),
        question="Do real critical sections on glibc's area lose no increment under preemption?",
        needs=(Need.RSEQ,),
    )

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/rseq-critical", str(DURATION))

    def asks(self, case: Case) -> str:
        whose = "glibc's areas" if case.on else "areas of their own"
        return f"threads lose no increment through {whose}, and sections were aborted"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:  # noqa: ARG002
        lines = answers.lines(case.job(self.name))
        if len(lines) != 1:
            raise Unanswered(Outcome.ERROR, f"{len(lines)} answers to one question")
        said = lines[0]
        area = "libc" if case.on else "own"
        lost = said["done"] - said["counted"]
        faults = []
        if said["area"] != area:
            faults.append(f"the threads had to use {said['area']} areas, not {area}")
        if said["failed"] != "0":
            faults.append(f"a thread could not begin: {said['failed']}")
        if lost:
            faults.append(f"{lost} of {said['done']} increments were lost")
        if not faults and (said["done"] <= 0 or said["threads"] <= said["cpus"]):
            raise Unanswered(Outcome.ERROR, f"nothing was tried: {said}")
        if not faults and said["aborted"] <= 0:
            raise Unanswered(Outcome.MISSING, "no section was aborted, so nothing was shown")
        seen = f"{said['threads']} threads on {said['cpus']} CPUs lost none, and sections were aborted"
        measures = {k: said[k] for k in ("threads", "cpus", "done", "counted", "aborted")}
        return verdict(self.asks(case), seen, faults, measures)


CHECKS = (RseqCritical(),)
