"""sched_getcpu: is it right, where has it its answer from, and what does a call take?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.check import Material
from pipeline.check.area import number
from pipeline.check.probing import (
    PROBES,
    REGISTRATION_FAILED,
    Answers,
    Case,
    FacetedCase,
    ProbeCheck,
    Unanswered,
    Verdict,
    as_faceted,
    faceted,
    told,
    verdict,
    was_linked,
)
from pipeline.core.declaration import Declaration, Need, Unit, measured
from pipeline.core.outcome import Outcome

#: The bits of a CPU number; the sign stands for "not registered".
EVERY_BIT = 0x7FFFFFFF
#: Times each thread visits every CPU, and threads beside the main one.
ROUNDS, THREADS = 10, 4
#: Instructions of a call that reads the area and does nothing else, the call through the linkage table
#: included. Measured, glibc 2.34 and 2.36: 15 and 16 on x86_64, 19 and 24 on AArch64, in static and dynamic
#: programs. One that calls the vDSO as well takes some 30 more.
MOST_WHEN_ON = 32
#: Architectures whose vDSO has no getcpu: with rseq off a call is one system call.
NO_VDSO_GETCPU = ("aarch64",)


class GetcpuMigration(ProbeCheck):
    """sched_getcpu gives the CPU a thread was just moved to, for every CPU; rseq or not."""

    declared = Declaration(
        name="getcpu.migration",
        measures=measured(Unit.COUNT, "cpus", "calls", "wrong"),
        question="Is `sched_getcpu` right on every CPU?",
        needs=(Need.TWO_CPUS,),
    )

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/getcpu-migrate", str(ROUNDS), str(THREADS))

    def asks(self, case: Case) -> str:  # noqa: ARG002
        return f"no wrong answer on any CPU from {THREADS + 1} threads"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:  # noqa: ARG002
        *each, total = answers.lines(case.job(self.name))
        if total["cpus"] != len(each) or total["threads"] != THREADS + 1:
            raise Unanswered(Outcome.ERROR, f"{len(each)} of {total['cpus']} CPUs answered")
        faults = [
            f"on CPU {x['cpu']} {x['wrong']} of {x['calls']} answers were wrong (such as {x['seen']})"
            for x in each
            if x["wrong"]
        ]
        if not faults:
            if len(each) < 2:
                raise Unanswered(Outcome.MISSING, "the place has one CPU: nothing can migrate")
            if total["unpinned"] or any(not x["calls"] for x in each):
                raise Unanswered(Outcome.MISSING, f"{total['unpinned']} moves to a CPU were refused")
        seen = f"{total['calls']} calls on {len(each)} CPUs, none wrong"
        measures = {"cpus": len(each), "calls": total["calls"], "wrong": total["wrong"]}
        return verdict(self.asks(case), seen, faults, measures)


class GetcpuPath(ProbeCheck):
    """With rseq on sched_getcpu reads the rseq area: a number no CPU has comes back from it. With rseq off
    the area says -2 and the answer is right, so it came from elsewhere."""

    declared = Declaration(
        name="getcpu.path",
        measures=(
            *measured(Unit.COUNT, "tries", "planted"),
            *measured(Unit.BYTES, "offset"),
        ),
        question="Does `sched_getcpu` read the rseq area when on, and not when off?",
        needs=(Need.RSEQ,),
    )

    def program(self, material: Material) -> tuple[str, ...]:
        return (f"{PROBES}/getcpu-path", material.profile.rseq.tunable)

    def asks(self, case: Case) -> str:
        if case.on:
            return "impossible CPU numbers written into the area come back, with every bit; a mark does not"
        return "the area says -2 (not registered), and the answer is right all the same"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:  # noqa: ARG002
        lines = answers.of_both_threads(case.job(self.name))
        faults: list[str] = []
        for line in lines:
            told(line["error"])
            if line["offset"] is None:
                raise Unanswered(Outcome.MISSING, "neither symbol nor kernel says where the area is")
            if line["cpu"] < 0:
                raise Unanswered(Outcome.MISSING, "the thread could not be pinned to a CPU")
            faults += [f"{line['thread']} thread: {f}" for f in _path_faults(line, case.on)]
        first = lines[0]
        planted = [x["planted"] for x in lines]
        seen = (
            f"{' and '.join(str(p) for p in planted)} of {first['tries']} came back (main, other thread)"
            if case.on
            else f"area -2, answer {first['answer']}, on CPU {first['cpu']}"
        )
        measures = {"tries": first["tries"], "planted": planted, "offset": first["offset"]}
        return verdict(self.asks(case), seen, faults, measures)


def _path_faults(line: dict[str, Any], on: bool) -> list[str]:
    faults = []
    if line["answer"] != line["cpu"]:
        faults.append(f"sched_getcpu said {line['answer']} on CPU {line['cpu']}")
    if line["fell_back"] != line["marks"]:
        faults.append(
            f"{line['marks'] - line['fell_back']} of {line['marks']} negative numbers in the area, as of a "
            "thread that is not registered, were taken for a CPU's"
        )
    if on:
        if not line["registered"]:
            return ["the kernel has no registration, so there is no area to read"]
        if not line["at_kernel_pointer"]:
            faults.append(f"{line['offset_from']} places the area elsewhere than the kernel does")
        # a number that a preemption took away was planted again, so that each one must come back
        if line["other"]:
            faults.append(
                f"{line['other']} of {line['tries']} impossible numbers came back as others, such as "
                f"{line['read']:#x} for {line['wrote']:#x}"
            )
        elif line["planted"] != line["tries"]:
            faults.append(
                f"only {line['planted']} of {line['tries']} impossible numbers came back: sched_getcpu "
                f"does not read the area ({line['passed']} times the number stayed there during the call, "
                f"such as {line['wrote']:#x})"
            )
        elif bits := EVERY_BIT & ~(line["ones"] & line["zeros"]):
            faults.append(f"the bits {bits:#x} were not seen to come back as 1 and as 0")
        return faults
    if line["registered"]:
        faults.append("the kernel has the thread registered")
    faults += [
        f"cpu_id is {number(line[when])} {when} the call, not -2"
        for when in ("before", "after")
        if line[when] != REGISTRATION_FAILED
    ]
    return faults


class GetcpuSteps(ProbeCheck):
    """Instructions and system calls of one call, PLT included, counted by single-stepping it.

    Of libc.so.6 and of libc.a: a static program has a sched_getcpu of its own.
    """

    declared = Declaration(
        name="getcpu.steps",
        measures=(
            *measured(Unit.INSTRUCTIONS, "instructions", "on_instructions", "off_instructions"),
            *measured(Unit.SYSTEM_CALLS, "system_calls", "on_system_calls", "off_system_calls"),
        ),
        question=(
            "How many instructions and system calls is one call (single-stepped, the same everywhere)?"
        ),
        needs=(Need.RSEQ,),
    )

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/step-count",)

    def cases(self, material: Material) -> Sequence[FacetedCase]:
        return faceted(super().cases(material), "kind", ("dynamic", "static"))

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        static = f"-static-{case.release.name}" if as_faceted(case).value == "static" else ""
        return (*self.program(material), f"{PROBES}/getcpu-once{static}")

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        name = material.arch.name
        if as_faceted(case).value == "static":
            result = answers.batch.results.get(case.job(self.name))
            was_linked(material, case.release.name, self.argv(material, case)[1], result)
        here = self._count(answers, case)
        opposite = self._count(answers, case.but(0 if case.on else 1))
        on, off = (here, opposite) if case.on else (opposite, here)
        calls, instructions = here["system_calls"], here["instructions"]
        faults = []
        if case.on:
            expected = f"no system call, at most {MOST_WHEN_ON} instructions, and fewer than with rseq off"
            wanted: int | None = 0
            less = on["system_calls"] < off["system_calls"] or on["instructions"] < off["instructions"]
            if not less:
                faults.append(f"{instructions} instructions, {off['instructions']} with rseq off")
            elif instructions > MOST_WHEN_ON:
                faults.append(f"{instructions} instructions: more is done than to read the area")
        elif name in NO_VDSO_GETCPU:
            expected, wanted = f"exactly one system call (no vDSO getcpu on {name})", 1
        else:
            expected, wanted = "the vDSO's getcpu: at most one system call, another path than with on", None
            if on["instructions"] == instructions:
                faults.append(f"{instructions} instructions, as many as with rseq on")
            if calls > 1:
                faults.append(f"{calls} system calls")
        if wanted is not None and calls != wanted:
            faults.append(f"{calls} system calls (numbers {here['numbers']}), not {wanted}")
        state = "on" if case.on else "off"
        measures = {
            "instructions": instructions, "system_calls": calls,
            f"{state}_instructions": instructions, f"{state}_system_calls": calls,
        }  # fmt: skip
        return verdict(expected, f"{instructions} instructions, {calls} system calls", faults, measures)

    def _count(self, answers: Answers, case: Case) -> dict[str, Any]:
        for line in answers.lines(case.job(self.name)):
            if line["from"] == "steps":
                if not line["instructions"] > 0:
                    raise Unanswered(Outcome.ERROR, "no instruction was counted")
                return line
        raise Unanswered(Outcome.ERROR, "the tracer gave no count")


CHECKS = (GetcpuMigration(), GetcpuPath(), GetcpuSteps())
