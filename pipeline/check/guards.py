"""Does a program keep its secrets, and does one with more rights than its user hear nothing of the user's?

A backport that moves the thread descriptor moves the guards that lie in its header, too, and one that changes
how a program starts can change what is heard before it is known who started it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pipeline.check import Material
from pipeline.check.kinds import UnsetKinds
from pipeline.check.probing import (
    PROBES,
    Answers,
    Case,
    Unanswered,
    Verdict,
    as_faceted,
    verdict,
)
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome
from pipeline.place import Job, PlaceFacts

ABORTED = 6
#: Who looks at the guards.
LOOKERS = ("main", "thread", "child")
#: Variables of the loader that are set, and more that an AT_SECURE program must not leave to its children
#: (glibc's UNSECURE_ENVVARS).
HEARD = {
    "LD_PRELOAD": f"{PROBES}/environment-preload",
    "LD_AUDIT": f"{PROBES}/environment-auditor",
    "LD_LIBRARY_PATH": PROBES,
}
LEFT = {"GCONV_PATH": PROBES, "LOCPATH": PROBES, "TMPDIR": PROBES, "LD_DEBUG_OUTPUT": "/none/x"}
PLAIN = "by an ordinary program"


class Guards(UnsetKinds):
    """Both guards are the kernel's random bytes, in every thread and child, and are used."""

    declared = Declaration(
        name="launch.guards",
        measures=measured(Unit.COUNT, "looks"),
        question=(
            "Are the guards of stack and pointers the kernel's random bytes, in each thread and child, and "
            "does a program end whose stack was written over?"
        ),
    )
    programs: ClassVar[Mapping[str, str]] = {"dynamic": "guards", "static": "guards-static-{release}"}

    def asks(self, case: Case) -> str:  # noqa: ARG002
        return "both guards are made of AT_RANDOM; jump buffers are mangled; a smashed stack ends by SIGABRT"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        lines = {line["context"]: line for line in self.lines(material, case, answers)}
        faults = [
            f"{who}: {fault}" for who in LOOKERS for fault in guard_faults(lines[who], as_faceted(case).value)
        ]
        if lines["jump buffer"]["bare"]:
            faults.append(f"{lines['jump buffer']['bare']} addresses in a jump buffer are not mangled")
        if lines["smashed"]["signal"] != ABORTED:
            faults.append(f"a program whose stack was smashed ended by signal {lines['smashed']['signal']}")
        seen = "guards as they should be; a smashed stack is noticed"
        return verdict(self.asks(case), seen, faults, {"looks": len(LOOKERS)})


def guard_faults(line: Mapping[str, Any], kind: str) -> list[str]:
    """What is wrong with one look: the stack's guard is the first word but for its lowest byte, which is 0
    (that of a string's end), the pointers' guard the second (sysdeps/unix/sysv/linux/dl-osinfo.h)."""
    first, second = (int(word, 16) for word in line["random"])
    faults = []
    for name, wanted in (("stack", first & ~0xFF), ("pointer", second)):
        if line[name] is None:
            if kind == "dynamic":
                faults.append(f"the {name} guard is not there")
        elif int(line[name], 16) != wanted:
            faults.append(f"the {name} guard is not made of the kernel's random bytes")
    return faults


class Environment(UnsetKinds):
    """An AT_SECURE program hears none of the loader's variables, and leaves none; another hears all."""

    declared = Declaration(
        name="launch.environment",
        measures=measured(Unit.COUNT, "heard"),
        question=(
            "Does a program that runs with more rights than its user (AT_SECURE) hear neither LD_PRELOAD, "
            "LD_AUDIT nor LD_LIBRARY_PATH, and leave them to no other, and does an ordinary one hear them?"
        ),
    )
    programs: ClassVar[Mapping[str, str]] = {
        "dynamic": "environment", "static": "environment-static-{release}", PLAIN: "environment",
    }  # fmt: skip

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        secure = () if as_faceted(case).value == PLAIN else (f"{PROBES}/rseq-tracer", "--secure")
        return (*secure, *super().argv(material, case), *HEARD, *LEFT)

    def refused(self, facts: PlaceFacts) -> str:
        if facts.emulation == "user":
            return "user-mode QEMU cannot trace a program, so none is made AT_SECURE there"
        return super().refused(facts)

    def jobs(self, material: Material) -> list[Job]:
        return [replace(job, env={**job.env, **HEARD, **LEFT}) for job in super().jobs(material)]

    def asks(self, case: Case) -> str:
        return f"{len(HEARD)} variables heard" if as_faceted(case).value == PLAIN else "none heard, none left"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        lines = self.lines(material, case, answers)
        (said,) = (line for line in lines if line["from"] == "program")
        loaded = {line["from"] for line in lines} & {"preload", "auditor", "library"}
        heard = sorted(loaded | ({"library"} if said["found"] else set()))
        plain = as_faceted(case).value == PLAIN
        if said["secure"] != (0 if plain else 1):
            raise Unanswered(Outcome.MISSING, f"the program's AT_SECURE is {said['secure']}")
        if plain:
            lacking = sorted({"preload", "auditor", "library"} - set(heard))
            faults = [f"{name}: its variable was not heard" for name in lacking]
        else:
            faults = [f"{name}: its variable was heard" for name in heard]
            faults += [f"{name} is left in the environment" for name in said["left"]]
        return verdict(self.asks(case), f"heard: {', '.join(heard) or 'none'}", faults, {"heard": len(heard)})


CHECKS = (Guards(), Environment())
