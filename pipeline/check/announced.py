"""A kernel that knows a larger rseq area must change nothing: glibc has room for 32 bytes and registers 32.

Kernels announce their area by AT_RSEQ_FEATURE_SIZE (27) and AT_RSEQ_ALIGN (28): 28 bytes in 6.3 and 6.12,
33 in 7.2 (measured), and more will come. A later glibc goes by that; one whose area lies in the thread
descriptor must not, or the kernel writes into what lies behind it. No kernel is needed that does: the tracer
changes what the kernel announces before the program's first instruction.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.check import Material
from pipeline.check.probing import Answers, Case, Unanswered, Verdict, as_faceted
from pipeline.check.static import DYNAMIC, EachLinked
from pipeline.core.declaration import Declaration, Need, Unit, measured
from pipeline.core.outcome import Outcome

#: Bytes that are announced, of the area and of its alignment: more than any kernel has today.
ANNOUNCED = 256


class RseqAnnounced(EachLinked):
    """As `RseqRegistered`, of programs to which a larger area is announced."""

    declared = Declaration(
        name="rseq.announced",
        measures=(
            *measured(Unit.COUNT, "threads", "registered"),
            *measured(Unit.BYTES, "rseq_size"),
        ),
        question="Where the kernel announces a larger area (AT_RSEQ_FEATURE_SIZE), does rseq stay the same?",
        needs=(Need.RSEQ,),
    )

    kinds = (DYNAMIC, "static")
    options = ("--announce", str(ANNOUNCED))

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        self.need_program(material, as_faceted(case), answers)
        heard = [x for x in answers.lines(case.job(self.name)) if x["from"] == "announced"]
        if [(x["size"], x["align"]) for x in heard] != [(ANNOUNCED, ANNOUNCED)]:
            raise Unanswered(Outcome.ERROR, f"{ANNOUNCED} bytes were announced, the program heard {heard}")
        said = super().verdict(material, case, answers)
        return replace(said, expected=f"with {ANNOUNCED} bytes announced: {said.expected}")


CHECKS = (RseqAnnounced(),)
