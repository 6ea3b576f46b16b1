"""All targets that were asked for: built side by side where there are two processors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial

from pipeline.build import estimate
from pipeline.build.builder import Builder
from pipeline.build.estimate import Work
from pipeline.core import store
from pipeline.core.lanes import Piece, lane_event, side_by_side
from pipeline.core.outcome import Target
from pipeline.core.progress import say
from pipeline.core.records import Built


def work(builder: Builder, missing: Sequence[Target]) -> dict[Target, Work]:
    """What builds of ``missing`` begin with, in this order: later ones with the objects of the first."""
    found: dict[Target, Work] = {}
    begun: set[str] = set()
    for target in missing:
        kept, after = builder.kept(target), target.arch in begun
        objects = bool(kept) or (kept is not None and after)
        found[target] = estimate.begins_with(target, kept=objects, after=after)
        begun.add(target.arch)
    return found


def make_all(builder: Builder, wanted: Sequence[Target], *, lanes: int | None = None) -> None:
    """Build what is not built yet, side by side in ``lanes`` (default: two where there are two processors).

    The others of an architecture begin when its first has compiled everything (it installs and packs on one
    processor), and begin with its objects. Raises as `Builder.make`.
    """
    if lanes is None:
        lanes = min(2, len(os.sched_getaffinity(0)))
    missing = [t for t in wanted if store.peek("build", builder.inputs(t)) is None]  # makes the images, too
    say(estimate.plan(wanted, work(builder, missing), len(os.sched_getaffinity(0))))
    first = {t.arch: t for t in reversed(missing)}
    compiled = {name: lane_event() for name in first}

    def make(target: Target) -> None:
        event = compiled[target.arch]
        if target != first[target.arch]:
            builder.make(target)
            return
        try:
            builder.make(target, event.set)
        finally:
            event.set()  # built meanwhile by another, or failed: stop waiting

    order = sorted(missing, key=lambda t: t != first[t.arch])
    pieces = [Piece(partial(make, t), None if t == first[t.arch] else compiled[t.arch].is_set) for t in order]
    side_by_side(pieces, lanes=lanes)


def build_all(builder: Builder, wanted: Sequence[Target]) -> Mapping[str, dict[str, Built]]:
    """Build all targets: architecture -> release -> built, in the order asked for."""
    make_all(builder, wanted)
    pieces = [Piece(partial(builder.build, target)) for target in wanted]
    made = side_by_side(pieces, lanes=min(2, len(os.sched_getaffinity(0))))
    result: dict[str, dict[str, Built]] = {}
    for target, built in zip(wanted, made, strict=True):
        result.setdefault(target.arch, {})[target.release] = built
    return result
