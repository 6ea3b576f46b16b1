"""In which order do constructors and destructors run, and does each run once?

Who needs another is constructed after it and destructed before it (gABI, "Initialization and Termination
Functions"). For libraries that do not need each other the gABI names no order, but programs have come to rely
on what there is: 2.34-83.1.el9 ran destructors in the reverse order of constructors, and took it back in
2.34-83.5.el9 (RHEL-2491). So up to glibc 2.38 the whole order is compared, and from 2.39 on, where upstream
made that change, the needs alone. In a circle either of the two may be destructed first: that depends on how
ld.so sorts (glibc.rtld.dynamic_sort), which a series may bring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pipeline.check import Material
from pipeline.check.kinds import KindsCheck
from pipeline.check.probing import Answers, Case, Verdict, as_faceted, verdict
from pipeline.core.declaration import Declaration, Unit, measured

#: Who needs whom (`programs.toml`), but for the circle of ring-a and ring-b.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "left": ("base",), "right": ("base",), "top": ("left", "right"), "ring-a": ("base",),
    "early": ("base", "ring-a", "ring-b", "top"), "main": ("early",), "late": ("late-base", "top"),
    "inner": ("base",), "nested": ("late-base",), "closed": ("closed-base", "base"),
}  # fmt: skip
#: All that happens in the program with libraries, up to glibc 2.38 (measured: 2.34, 2.36, RHEL 9.2 and 9.3).
DYNAMIC = (
    "+preinit +base +right +left +ring-a +ring-b +top +early +main =main +late-base +late +one +two +nested "
    "+inner =nested +closed-base +closed =close -closed -closed-base =closed =exit -atexit_2 -atexit_1 -main "
    "-early -ring-a -ring-b -late -top -right -left -one -two -nested -late-base -inner -base"
)
STATIC = "+preinit +early +main =main =exit -atexit_2 -atexit_1 -main -early"
#: Where the circle's destructors stand in the other order.
RING, OTHER = "-ring-a -ring-b", "-ring-b -ring-a"
#: Upstream's first release that runs destructors in the reverse order of constructors.
REVERSED = (2, 39)


class LaunchOrder(KindsCheck):
    """Every constructor and destructor runs once, in the order that the needs of libraries ask for."""

    declared = Declaration(
        name="launch.order",
        measures=measured(Unit.COUNT, "steps"),
        question=(
            "Do constructors run after those of what a library needs, destructors before, and each once, in "
            "libraries loaded later and in circles, too?"
        ),
    )
    programs: ClassVar[Mapping[str, str]] = {"dynamic": "order-main", "static": "order-static-{release}"}

    def asks(self, case: Case) -> str:
        return " ".join(expected(as_faceted(case).value))

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        kind = as_faceted(case).value
        steps = [str(line["step"]).replace(" ", "_") for line in self.lines(material, case, answers)]
        faults = order_faults(kind, steps, whole=material.profile.version < REVERSED)
        return verdict(self.asks(case), " ".join(steps), faults, {"steps": len(steps)})


def expected(kind: str) -> list[str]:
    """All that must happen, in its order."""
    return (STATIC if kind == "static" else DYNAMIC).split()


def order_faults(kind: str, steps: Sequence[str], *, whole: bool) -> list[str]:
    """What is wrong with the order; ``whole``: libraries that do not need each other have theirs, too."""
    wanted = expected(kind)
    lacking, more = Counter(wanted) - Counter(steps), Counter(steps) - Counter(wanted)
    faults = [f"{step} did not happen" for step in sorted(lacking)]
    faults += [f"{step} happened {steps.count(step)} times" for step in sorted(more)]
    if faults:
        return faults
    at = {step: n for n, step in enumerate(steps)}
    pairs = [("+preinit", step) for step in wanted[1:]]
    for one, needed in NEEDS.items():
        for other in needed:
            if {f"+{one}", f"+{other}"} <= at.keys():
                pairs += [(f"+{other}", f"+{one}"), (f"-{one}", f"-{other}")]
    pairs += [("+main", "=main"), ("=exit", "-atexit_2"), ("-atexit_2", "-atexit_1")]
    pairs += [("-atexit_1", step) for step in wanted[wanted.index("-atexit_1") + 1 :]]
    if kind == "dynamic":
        pairs += [
            ("+nested", "+inner"),
            ("+inner", "=nested"),
            ("=close", "-closed"),
            ("-closed-base", "=closed"),
        ]
        pairs += [("+ring-b", "+early"), ("-early", "-ring-b")]
    faults = [f"{later} before {first}" for first, later in pairs if at[first] > at[later]]
    if faults or not whole:
        return faults
    text = " ".join(steps).replace(OTHER, RING)
    if text != " ".join(wanted):
        n = next(i for i, (a, b) in enumerate(zip(text.split(), wanted, strict=True)) if a != b)
        return [f"in another order from {text.split()[n]} on, where {wanted[n]} was before: {text}"]
    return []


CHECKS = (LaunchOrder(),)
