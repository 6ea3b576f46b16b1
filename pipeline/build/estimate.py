"""What a run is about to build and how long that takes here, in one line, before it begins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum

from pipeline.core import paths
from pipeline.core.outcome import Target


class Work(Enum):
    """What a build begins with, and the processor-minutes it takes: packing and all, on an idle machine.

    Measured with glibc 2.36: two processors took 10.5 and 1.4. With objects from ccache alone a build was
    85 to 100 s alone on two processors, where nothing that all objects read was another.
    """

    NOTHING = 11.0
    CCACHE = 4.0
    KEPT_OBJECTS = 1.5


def seconds(processors: int, work: float) -> float:
    """What so many processor-minutes take; make finds no more than eight things to do side by side."""
    return work * 60 / min(max(processors, 1), 8)


def begins_with(target: Target, *, kept: bool, after: bool = False) -> Work:
    """What a build of ``target`` begins with: objects of another build (``kept``), or what one of the same
    architecture has left in the compiler cache, or will (``after``)."""
    if kept:
        return Work.KEPT_OBJECTS
    cached = after or paths.ccache(target.profile, target.arch).is_dir()
    return Work.CCACHE if cached else Work.NOTHING


def plan(wanted: Sequence[Target], missing: Mapping[Target, Work], processors: int) -> str:
    """What is built already, what is to be built, and an estimate with what it rests on."""
    if not missing:
        return f"all {len(wanted)} targets are built already"
    minutes = math.ceil(seconds(processors, sum(work.value for work in missing.values())) / 60)
    found = len(wanted) - len(missing)
    where = f"{processors} processor{'s' * (processors != 1)}"
    return (
        f"to build: {', '.join(str(t) for t in missing)}"
        + (f" ({found} more {'is' if found == 1 else 'are'} built already)" if found else "")
        + f"; about {minutes} minute{'s' * (minutes != 1)} on {where}, by what an idle machine takes: "
        f"{Work.NOTHING.value:g} processor-minutes from nothing, "
        f"{Work.KEPT_OBJECTS.value:g} with kept objects"
    )
