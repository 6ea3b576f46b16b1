"""Lanes of work: what does not depend on each other runs side by side, each piece in a process of its own.

A build of glibc keeps two processors busy only while it compiles; it configures, links, installs and packs
on one. Pieces hand their results over through the store, so a lane brings back its error, if it has one, and
nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event

from pipeline.core import progress
from pipeline.core.errors import PipelineError, WorldError, of_system_call

POLL_SECONDS = 0.2
#: Time a lane has to end what it started when another failed or the user interrupted.
GRACE_SECONDS = 60.0

Lane = tuple[BaseProcess, Connection]

#: Lanes begin as copies of this process, with everything that is in its memory.
_CONTEXT = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Piece:
    """``work``, which may begin once ``ready`` says so (None: at once)."""

    work: Callable[[], object]
    ready: Callable[[], bool] | None = None


def lane_event() -> Event:
    """An event that a piece sets in its lane and another's ``ready`` sees."""
    return _CONTEXT.Event()


def side_by_side(pieces: Sequence[Piece], *, lanes: int) -> None:
    """Run all pieces, ``lanes`` at a time, the earlier first; the first error ends the others and is raised.

    One piece, or one lane, runs in this very process and in order: what makes a piece ready stands before it.
    """
    if lanes < 2 or len(pieces) < 2:
        for piece in pieces:
            piece.work()
        return
    waiting = list(pieces)
    busy: list[Lane] = []
    try:
        while waiting or busy:
            for piece in [p for p in waiting if p.ready is None or p.ready()][: lanes - len(busy)]:
                waiting.remove(piece)
                busy.append(_start(piece.work))
            time.sleep(POLL_SECONDS)
            # a long answer fills its pipe, and until it is taken its lane cannot end
            for lane in [lane for lane in busy if lane[1].poll() or not lane[0].is_alive()]:
                busy.remove(lane)
                _finish(lane)
    finally:
        _end(busy)


def _start(piece: Callable[[], object]) -> Lane:
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_work, args=(piece, theirs))
    process.start()
    theirs.close()
    return process, ours


def _work(piece: Callable[[], object], answer: Connection) -> None:
    """In the new process: do the piece, send its error or None."""
    progress.only_lines()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what the piece started ends with it
    error: PipelineError | None = None
    try:
        piece()
    except PipelineError as e:
        error = e
    except OSError as e:
        if os.environ.get("PIPELINE_TRACEBACK"):
            raise
        error = of_system_call(e)
    except KeyboardInterrupt:
        sys.stderr.flush()
        os._exit(130)
    answer.send(error)


def _finish(lane: Lane) -> None:
    process, answer = lane
    try:
        error = answer.recv() if answer.poll() else None
    except EOFError:
        error = None
    finally:
        answer.close()
    process.join()
    if error is not None:
        raise error
    if process.exitcode == 130:
        raise KeyboardInterrupt
    if process.exitcode:
        raise WorldError(
            f"a process of ours ended with status {process.exitcode}",
            hint="its words are above; run the same command again to go on from what is whole",
        )


def _end(busy: Sequence[Lane]) -> None:
    """End lanes that are still at work: each ends what it started, as on ^C."""
    for process, _ in busy:
        process.terminate()
    for process, answer in busy:
        process.join(GRACE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        answer.close()
