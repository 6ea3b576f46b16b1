"""Do the functions of memory and strings work, in each variant that ld.so may choose for a processor?

They are the most used of the library, and each has several variants in assembler, of which a machine runs
one. Tunables make the others be chosen, too, as far as the processor can run them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from pipeline.check import Material
from pipeline.check.kinds import UnsetKinds
from pipeline.check.probing import Answers, Case, Unanswered, Verdict, as_faceted, verdict
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome
from pipeline.place import Job

#: What strings.c asks about; some with their relatives.
FUNCTIONS = (
    "memcpy", "mempcpy", "memmove", "memset", "memchr", "memcmp", "memccpy", "memmem", "strlen", "strcpy",
    "stpcpy", "strncpy", "strcat", "strchr", "strcmp", "strspn", "strstr",
)  # fmt: skip
BEST, LESS, LEAST = "dynamic", "without the newest instructions", "with the oldest instructions"
_NEWEST = "-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-FSRM"
#: Kind -> architecture -> GLIBC_TUNABLES. A name that a release does not know changes nothing.
TUNABLES: Mapping[str, Mapping[str, str]] = {
    LESS: {"x86_64": f"glibc.cpu.hwcaps={_NEWEST}", "aarch64": "glibc.cpu.name=thunderxt88"},
    LEAST: {
        "x86_64": f"glibc.cpu.hwcaps={_NEWEST},-AVX,-AVX2,-BMI1,-BMI2,-ERMS,-SSE4_1,-SSE4_2,-SSSE3,-RTM",
        "aarch64": "glibc.cpu.name=generic",
    },
}


class Strings(UnsetKinds):
    """Each function, of many lengths and places, says and does what the plainest loop does."""

    declared = Declaration(
        name="launch.strings",
        measures=measured(Unit.COUNT, "functions"),
        question=(
            "Do memcpy, strlen and their like do what they are for, of many lengths, up to the end of "
            "memory, in each variant for processors that this one can run?"
        ),
    )
    programs: ClassVar[Mapping[str, str]] = {
        BEST: "strings", LESS: "strings", LEAST: "strings", "static": "strings-static-{release}",
    }  # fmt: skip

    def jobs(self, material: Material) -> list[Job]:
        return [
            replace(job, env={"GLIBC_TUNABLES": text} if text else {})
            for job, case in zip(super().jobs(material), self.cases(material), strict=True)
            for text in [TUNABLES.get(case.value, {}).get(material.arch.name, "")]
        ]

    def asks(self, case: Case) -> str:
        return f"{len(FUNCTIONS)} functions, {as_faceted(case).value}, none wrong"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        lines = self.lines(material, case, answers)
        if [line["function"] for line in lines] != list(FUNCTIONS):
            raise Unanswered(Outcome.ERROR, f"{len(lines)} of {len(FUNCTIONS)} functions were asked about")
        faults = [
            f"{line['function']} is wrong of {line['length']} bytes, {line['pad']} before the end of memory"
            for line in lines
            if line["length"] != -1
        ]
        seen = f"{len(lines)} functions, none wrong"
        return verdict(self.asks(case), seen, faults, {"functions": len(lines)})


CHECKS = (Strings(),)
