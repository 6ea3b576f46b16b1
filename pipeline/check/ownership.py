"""May a program register an area of its own? Only where glibc does not hold the registration."""

from __future__ import annotations

from typing import Any

from pipeline.check import Material
from pipeline.check.area import number
from pipeline.check.probing import (
    MAX_CPU,
    PROBES,
    UNINITIALIZED,
    Answers,
    Case,
    ProbeCheck,
    Verdict,
    told,
    verdict,
)
from pipeline.core.declaration import Declaration, Need

#: What the kernel says while glibc holds the registration: to another area EINVAL (not EBUSY, which is for
#: the same area again), to the same one with a wrong signature EPERM (kernel/rseq.c).
REFUSED = {"held": True, "own": "EINVAL", "same": "EBUSY", "same_wrong_signature": "EPERM"}
ACCEPTED = {
    "held": False, "own": "0", "asked_again": "0", "kernel_agrees": True, "given_back": "0",
    "cpu_id_after": UNINITIALIZED,
}  # fmt: skip


class RseqOwn(ProbeCheck):
    """Registers, and if that succeeds gives back, an area of the program's own, in two threads."""

    declared = Declaration(
        name="rseq.own",
        question=(
            "Is a program's own registration refused when glibc holds it, and accepted when it does not?"
        ),
        needs=(Need.RSEQ,),
    )

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/own-registration",)

    def asks(self, case: Case) -> str:
        if case.on:
            return "own area refused (EINVAL); glibc's again EBUSY, with a wrong signature EPERM"
        return "own area accepted, used by the kernel, and given back (cpu_id -1)"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:  # noqa: ARG002
        lines = answers.of_both_threads(case.job(self.name))
        faults: list[str] = []
        for line in lines:
            told(line["asked"])
            faults += _faults(line, case.on)
        seen = (
            f"refused: own area {lines[0]['own']}, glibc's again {lines[0].get('same')}"
            if case.on
            else "accepted, used and given back"
        )
        return verdict(self.asks(case), seen, faults)


def _faults(line: dict[str, Any], on: bool) -> list[str]:
    wanted = REFUSED if on else ACCEPTED
    faults = [
        f"{line['thread']} thread: {key} is {line.get(key)!r}, not {value!r}"
        for key, value in wanted.items()
        if line.get(key) != value
    ]
    if not on and not faults and line["cpu_id"] > MAX_CPU:
        faults.append(f"{line['thread']} thread: the kernel did not fill the area ({number(line['cpu_id'])})")
    return faults


CHECKS = (RseqOwn(),)
