"""The good releases verified many times in a row while every processor is kept busy: none may be red."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.check import registry
from pipeline.core.outcome import Target
from pipeline.core.progress import step
from pipeline.knownbad.museum import Hall
from pipeline.verify.run_checks import verify


@dataclass(frozen=True)
class Round:
    """One verify: whether all was green, how long it took, and what was not green."""

    green: bool
    seconds: float
    words: str


def _work() -> None:
    """Keep one processor busy until ended."""
    number = 1
    while True:
        number = number * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1


@contextmanager
def all_busy() -> Iterator[None]:
    """A busy process for each processor while the block runs."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, daemon=True) for _ in os.sched_getaffinity(0)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def rounds(hall: Hall, count: int) -> Iterator[Round]:
    """Verify all releases of an architecture ``count`` times, everything asked anew each time."""
    ground = hall.ground
    programs = ground.programs(hall.good)
    wanted = [Target(profile=hall.profile.name, release=r, arch=hall.machine.name) for r in hall.good]
    for number in range(1, count + 1):
        start = time.monotonic()
        with step(f"the good releases, {number} of {count} ({hall.machine.name})") as at, all_busy():
            evidence = verify(
                hall.profile,
                wanted,
                {hall.machine.name: hall.good},
                programs=lambda _: programs,
                sites=hall.sites,
                static=registry.STATIC,
                watched=registry.WATCHED,
                command=f"nox -s known-bad -- --good {count}",
                fresh=True,
            )
            wrong = [f for f in evidence.findings if not f.outcome.green]
            at.done(evidence.verdict.name)
        words = "; ".join(
            f"{f.outcome.name} {f.check} {f.target.release} {f.case}: {f.seen[:120]}" for f in wrong
        )
        yield Round(not wrong, time.monotonic() - start, words)
