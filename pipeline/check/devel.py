"""What programs are made with: headers, start files, linker scripts, archives."""

from __future__ import annotations

from pipeline.check import Bench, StaticCheck
from pipeline.check.abi_facts import Answer
from pipeline.check.packages import EachRelease, judged
from pipeline.core.declaration import Declaration
from pipeline.core.outcome import Outcome


class Compile(EachRelease):
    """Every test program compiles and links against the release it is made for.

    What does not, but does against the build image's own C library with the same compiler and options, is the
    packages' fault (`pipeline.build.workshop`).
    """

    declared = Declaration(
        name="devel.compile",
        question="Does everything compile and link against a release that does against another C library?",
    )
    expected = "what compiles against the build image's own C library compiles against the release"

    def ask(self, bench: Bench, release: str) -> Answer:
        mine = [fault for fault in bench.faults.values() if fault.release == release]
        known = [answer for fault in mine if (answer := bench.not_compiled(fault.program))]
        if known and all(outcome is Outcome.MISSING for outcome, _ in known):
            return Answer(Outcome.MISSING, self.expected, known[0][1])
        faults = [words for _, words in known]
        return judged(self.expected, "no program is refused", faults, {"refused": len(faults)})


CHECKS: tuple[StaticCheck, ...] = (Compile(),)
