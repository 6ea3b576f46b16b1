"""Do the functions that the kernel's vDSO has an answer for ask it, and make no system call instead?

Their places in ld.so's data are written beside that of getcpu, which rseq's backport is about; one that stays
empty leaves every answer right and makes it many times slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pipeline.check import Material
from pipeline.check.kinds import UnsetKinds
from pipeline.check.probing import PROBES, Answers, Case, Unanswered, Verdict, verdict
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome
from pipeline.place import PlaceFacts

#: Functions of clock_once.c whose answer both architectures' vDSOs have, and one that neither has.
FUNCTIONS = ("clock_gettime", "clock_getres", "gettimeofday", "time", "timespec_get")
CONTROL = "getppid"
#: AArch64's vDSO has no getcpu.
MORE: Mapping[str, tuple[str, ...]] = {"x86_64": ("getcpu",)}


class Clocks(UnsetKinds):
    """Each call is single-stepped: some of its instructions are the vDSO's. (Where the clock of the place
    cannot be read there, the vDSO itself makes the system call, so none is asked for.)"""

    declared = Declaration(
        name="launch.clocks",
        measures=measured(Unit.COUNT, "functions"),
        question=(
            "Have `clock_gettime` and its like their answers from the vDSO, without a system call of glibc's?"
        ),
    )
    programs: ClassVar[Mapping[str, str]] = {"dynamic": "clock-once", "static": "clock-once-static-{release}"}

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        return (f"{PROBES}/step-count", *super().argv(material, case))

    def refused(self, facts: PlaceFacts) -> str:
        if facts.emulation == "user":
            return "user-mode QEMU cannot trace a program, and is no kernel with a vDSO"
        return super().refused(facts)

    def asks(self, case: Case) -> str:  # noqa: ARG002
        return f"{', '.join(FUNCTIONS)} run code of the vDSO"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        lines = self.lines(material, case, answers)
        calls = {a["name"]: b for a, b in zip(lines[::2], lines[1::2], strict=True) if b["from"] == "steps"}
        wanted = {*FUNCTIONS, *MORE.get(material.arch.name, ())}
        if calls.keys() != wanted | {CONTROL}:
            raise Unanswered(Outcome.ERROR, f"{len(calls)} of {len(wanted) + 1} calls were counted")
        if not all(line["vdso"] for line in lines[::2]):
            raise Unanswered(Outcome.MISSING, "the place has no vDSO")
        if calls[CONTROL]["in_vdso"] or calls[CONTROL]["system_calls"] != 1:
            raise Unanswered(Outcome.ERROR, f"{CONTROL} is not counted right: {calls[CONTROL]}")
        faults = [
            f"{name} does not ask the vDSO ({calls[name]['system_calls']} system calls)"
            for name in sorted(wanted)
            if not calls[name]["in_vdso"]
        ]
        seen = f"{len(wanted)} functions, each in the vDSO"
        return verdict(self.asks(case), seen, faults, {"functions": len(wanted)})


CHECKS = (Clocks(),)
