"""Lanes of work: what does not depend on each other runs side by side, each piece in a process of its own.

A build of glibc keeps two processors busy only while it compiles; it configures, links, installs and packs
on one. A lane brings back what its piece returned, or its error, and which files it read, so that nobody
reads them again; what is large goes through the store.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any, Generic, TypeVar

from pipeline.core import progress, store
from pipeline.core.errors import PipelineError, WorldError, of_system_call

POLL_SECONDS = 0.2
#: Time a lane has to end what it started when another failed or the user interrupted.
GRACE_SECONDS = 60.0

T = TypeVar("T")

#: Lanes begin as copies of this process, with everything that is in its memory.
_CONTEXT = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Piece(Generic[T]):
    """``work``, which may begin once ``ready`` says so (None: at once); what it returns must pickle."""

    work: Callable[[], T]
    ready: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Lane:
    """A process at work on piece ``number``, and the pipes its answer and its progress come through."""

    number: int
    process: BaseProcess
    answer: Connection
    words: Connection | None


def lane_event() -> Event:
    """An event that a piece sets in its lane and another's ``ready`` sees."""
    return _CONTEXT.Event()


def side_by_side(pieces: Sequence[Piece[T]], *, lanes: int) -> list[T]:
    """Run all pieces, ``lanes`` at a time, the earlier first; what they returned, in their order.

    The first error ends the others and is raised. One piece, or one lane, runs in this very process and in
    order: what makes a piece ready stands before it.
    """
    if lanes < 2 or len(pieces) < 2:
        return [piece.work() for piece in pieces]
    with progress.side_by_side() or nullcontext() as board:
        return _run(pieces, lanes, board)


def _run(pieces: Sequence[Piece[T]], lanes: int, board: progress.Board | None) -> list[T]:
    waiting = list(range(len(pieces)))
    busy: list[Lane] = []
    done: dict[int, T] = {}
    try:
        while waiting or busy:
            ready = [n for n in waiting if (may := pieces[n].ready) is None or may()]
            for number in ready[: lanes - len(busy)]:
                waiting.remove(number)
                busy.append(_start(number, pieces[number].work, board is not None))
            # a long answer fills its pipe, and until it is taken its lane cannot end
            spoken = wait([lane.answer for lane in busy], POLL_SECONDS)  # also of one that died
            _heard(board, busy)
            for lane in [lane for lane in busy if lane.answer in spoken]:
                busy.remove(lane)
                _heard(board, [lane])
                done[lane.number] = _finish(lane)
    finally:
        _end(busy, board)
    return [done[number] for number in range(len(pieces))]


def _heard(board: progress.Board | None, lanes: Sequence[Lane]) -> None:
    """Show what lanes said of themselves; their pipes must never fill up."""
    if board is None:
        return
    for lane in lanes:
        if lane.words is not None:
            board.hear(lane.number, lane.words)
    board.refresh()


def _start(number: int, work: Callable[[], object], shown: bool) -> Lane:
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    heard, words = _CONTEXT.Pipe(duplex=False) if shown else (None, None)
    process = _CONTEXT.Process(target=_work, args=(work, theirs, words))
    process.start()
    theirs.close()
    if words is not None:
        words.close()
    return Lane(number, process, ours, heard)


def _work(work: Callable[[], object], answer: Connection, words: Connection | None) -> None:
    """In the new process: do the work, send its error, or None and what it returned, and what it learned."""
    before = store.learned()
    progress.only_lines(words)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what the piece started ends with it
    error: PipelineError | None = None
    returned: object = None
    try:
        returned = work()
    except PipelineError as e:
        error = e
    except OSError as e:
        if os.environ.get("PIPELINE_TRACEBACK"):
            raise
        error = of_system_call(e)
    except KeyboardInterrupt:
        sys.stderr.flush()
        os._exit(130)
    answer.send((error, returned, store.learned(before)))


def _finish(lane: Lane) -> Any:
    """What the lane's piece returned; raises its error. One that ended without a word is an error."""
    try:
        error, returned, learned = lane.answer.recv()
        store.learn(learned)
        spoke = True
    except EOFError:
        error, returned, spoke = None, None, False
    finally:
        lane.answer.close()
    lane.process.join()
    if error is not None:
        raise error
    status = lane.process.exitcode
    if status == 130:
        raise KeyboardInterrupt
    if status or not spoke:
        raise WorldError(
            f"a process of ours ended with status {status}",
            hint="its words are above; run the same command again to go on from what is whole",
        )
    return returned


def _end(busy: Sequence[Lane], board: progress.Board | None) -> None:
    """End lanes that are still at work: each ends what it started, as on ^C."""
    for lane in busy:
        lane.process.terminate()
    for lane in busy:
        lane.process.join(GRACE_SECONDS)
        _heard(board, [lane])
        if lane.process.is_alive():
            lane.process.kill()
            lane.process.join()
        lane.answer.close()
