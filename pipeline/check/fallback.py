"""sched_getcpu and getcpu where neither rseq area nor vDSO has the answer, and where the kernel has none.

AArch64 has no vDSO getcpu, old kernels and emulators have no vDSO at all, and filters refuse system calls
they do not know. What is seldom taken is seldom tested: an error that is handed on as a CPU, for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.check import Material
from pipeline.check.probing import (
    PROBES,
    Answers,
    Case,
    FacetedCase,
    ProbeCheck,
    Unanswered,
    Verdict,
    as_faceted,
    faceted,
    verdict,
    was_linked,
)
from pipeline.core.declaration import Declaration, Need, Unit, measured
from pipeline.core.outcome import Outcome

#: What the system call is answered with, one after the other; "" is not at all.
REFUSED = ("", "ENOSYS", "EPERM")


class GetcpuFallback(ProbeCheck):
    """The way round rseq and the vDSO: right, and an honest error once the system call fails.

    A second filter answers what the first one lets through, and of two errors the kernel takes that of the
    later one (seccomp(2)).
    """

    declared = Declaration(
        name="getcpu.fallback",
        measures=measured(Unit.COUNT, "cpus"),
        question=(
            "Without a vDSO, is `sched_getcpu` right, and where the system call is refused, does it say so "
            "by -1 and errno?"
        ),
        needs=(Need.RSEQ, Need.TWO_CPUS),
    )

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/rseq-tracer", "--no-vdso")

    def cases(self, material: Material) -> Sequence[FacetedCase]:
        return faceted(super().cases(material), "kind", ("dynamic", "static"))

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        static = f"-static-{case.release.name}" if as_faceted(case).value == "static" else ""
        return (*self.program(material), f"{PROBES}/getcpu-fallback{static}")

    def asks(self, case: Case) -> str:
        later = "still right, from the area" if case.on else "-1 and that error"
        return (
            "without a vDSO right on each CPU; with getcpu refused (ENOSYS, EPERM) sched_getcpu "
            f"{later}, getcpu -1 and that error"
        )

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        if as_faceted(case).value == "static":
            result = answers.batch.results.get(case.job(self.name))
            was_linked(material, case.release.name, self.argv(material, case)[-1], result)
        lines = answers.lines(case.job(self.name))
        if [x["refused"] for x in lines] != list(REFUSED):
            raise Unanswered(Outcome.ERROR, f"{len(lines)} of {len(REFUSED)} answers")
        if any(x["vdso"] for x in lines):
            raise Unanswered(Outcome.MISSING, "the program has a vDSO all the same")
        if lines[0]["cpus"] < 2:
            raise Unanswered(Outcome.MISSING, "one CPU is to be had: a wrong number would not show")
        faults = [fault for line in lines for fault in _faults(line, on=case.on)]
        seen = f"{lines[0]['cpus']} CPUs, each right; refused: as it should be"
        return verdict(self.asks(case), seen, faults, {"cpus": lines[0]["cpus"]})


def _faults(line: Mapping[str, Any], *, on: bool) -> list[str]:
    cpus, refused = line["cpus"], line["refused"]
    where = f"getcpu refused with {refused}: " if refused else "without a vDSO: "
    fails = cpus if refused and not on else 0
    error = refused if fails else "0"
    faults = []
    if line["wrong"]:
        faults.append(f"sched_getcpu was wrong on {line['wrong']} of {cpus} CPUs")
    if (line["failed"], line["errno"]) != (fails, error):
        faults.append(
            f"sched_getcpu failed on {line['failed']} of {cpus} CPUs with errno {line['errno']}, "
            f"not on {fails} with {error}"
        )
    if line["getcpu_wrong"] or line["getcpu"] != (0 if refused else cpus):
        faults.append(
            f"getcpu succeeded on {line['getcpu']} of {cpus} CPUs, {line['getcpu_wrong']} answers were wrong"
        )
    if line["getcpu_errno"] != (refused or "0"):
        faults.append(f"getcpu set errno to {line['getcpu_errno']}, not {refused or '0'}")
    return [where + fault for fault in faults]


CHECKS = (GetcpuFallback(),)
