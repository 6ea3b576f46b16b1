"""What a run is about to build and how long that takes here, in one line, before it begins."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.core.outcome import Target

#: Processor-minutes of an architecture's first build, and of a further one that finds its objects in ccache.
#: Measured: 8 to 10 minutes by `make -j2`, configuring, installing and packing included.
FIRST, FURTHER = 18.0, 7.0


def seconds(processors: int, *, further: bool) -> float:
    """What one build takes; ``further``: its architecture's objects are in ccache."""
    return (FURTHER if further else FIRST) * 60 / min(max(processors, 1), 8)


def plan(wanted: Sequence[Target], missing: Sequence[Target], processors: int) -> str:
    """What is built already, what is to be built, and an estimate with what it rests on."""
    if not missing:
        return f"all {len(wanted)} targets are built already"
    arches = {t.arch for t in missing}
    work = FIRST * len(arches) + FURTHER * (len(missing) - len(arches))
    minutes = math.ceil(work / min(max(processors, 1), 8))  # make finds no more to do side by side
    found = len(wanted) - len(missing)
    return (
        f"to build: {', '.join(str(t) for t in missing)}"
        + (f" ({found} more {'is' if found == 1 else 'are'} built already)" if found else "")
        + f"; about {minutes} minutes on {processors} processor{'s' * (processors != 1)}, by what an idle "
        f"machine takes: {FIRST:g} processor-minutes for the first of an architecture, {FURTHER:g} for others"
    )
