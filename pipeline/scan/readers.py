"""Reads many files on all processors: what each is worth knowing for comes back in the order they were named.

A process costs some time to start and each answer has to be sent back, so few small files are read here. Who
reads does not matter to what is read: the same function is called with the same arguments.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from typing import TypeVar

from pipeline.core.errors import WorldError

T = TypeVar("T")
R = TypeVar("R")

#: Work for fewer files or bytes than these is not spread.
LEAST_FILES, LEAST_BYTES = 300, 32 << 20
#: One piece of work for a process: whatever is reached first.
PIECE_FILES, PIECE_BYTES = 24, 8 << 20
#: linux/prctl.h: a signal for us when our parent ends.
_PR_SET_PDEATHSIG = 1


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def spread(work: Callable[[T], R], things: Iterable[T], size: Callable[[T], int]) -> Iterator[R]:
    """``work`` of each thing, in order; by several processes if there are many. ``size``: bytes of a thing.

    ``work`` and what it takes and gives are sent between processes (pickle). Raises `WorldError` if one of
    them was ended from outside, for example for want of memory.
    """
    things = iter(things)
    first: list[T] = []
    total = 0
    for thing in things:
        first.append(thing)
        total += size(thing)
        if len(first) >= LEAST_FILES or (total >= LEAST_BYTES and len(first) > 1):
            break
    if processors() < 2 or (len(first) < LEAST_FILES and total < LEAST_BYTES) or len(first) < 2:
        yield from map(work, chain(first, things))
        return
    # as pipeline.core.lanes has it: copies of this process, with what is read already
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processors(), mp_context=context, initializer=_begin, initargs=(os.getpid(),))
    try:
        for answers in pool.map(_do, ((work, piece) for piece in _pieces(chain(first, things), size))):
            yield from answers
    except BrokenProcessPool:
        raise WorldError(
            "a process that reads files was ended from outside (often for want of memory)",
            hint="free memory, or scan fewer files at once; nothing was answered",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _pieces(things: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    piece: list[T] = []
    total = 0
    for thing in things:
        piece.append(thing)
        total += size(thing)
        if len(piece) >= PIECE_FILES or total >= PIECE_BYTES:
            yield piece
            piece, total = [], 0
    if piece:
        yield piece


def _begin(parent: int) -> None:
    """In a new process: an interrupt is for the parent, who ends us; and we end if it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _do(given: tuple[Callable[[T], R], Sequence[T]]) -> list[R]:
    work, things = given
    return [work(thing) for thing in things]
