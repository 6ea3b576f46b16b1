"""Pieces side by side: all are done, the first error ends the others, a signal ends everything."""

from __future__ import annotations

import errno
import os
import time
from functools import partial
from pathlib import Path

import pytest

from pipeline.core.errors import CommandFailed, NoSpace, WorldError
from pipeline.core.lanes import Piece, lane_event, side_by_side
from pipeline.core.run import run


def mark(file: Path) -> None:
    file.write_text(str(os.getpid()))


def fail(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)
    raise CommandFailed("the piece broke", hint="mend it", returncode=7, log="/a/log", tail="last words")


def sleep(file: Path) -> None:
    file.touch()
    run(["sh", "-c", f"echo $$ > {file}; exec sleep 60"])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_all_pieces_are_done(tmp_path: Path, lanes: int) -> None:
    files = [tmp_path / str(n) for n in range(5)]
    side_by_side([Piece(partial(mark, f)) for f in files], lanes=lanes)
    pids = {f.read_text() for f in files}
    assert (pids == {str(os.getpid())}) is (lanes == 1)


def test_an_error_comes_over_whole_and_ends_the_other_lane(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    begin = time.monotonic()
    with pytest.raises(CommandFailed, match="the piece broke") as e:
        side_by_side([Piece(partial(sleep, file)), Piece(partial(fail, file))], lanes=2)
    assert (e.value.hint, e.value.returncode, e.value.log, e.value.tail) == (
        "mend it",
        7,
        "/a/log",
        "last words",
    )
    assert time.monotonic() - begin < 30
    text = file.read_text().strip()
    assert not text or not alive(int(text))


def test_a_system_call_that_fails_in_a_lane_is_told_as_anywhere(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")

    with pytest.raises(NoSpace, match="no space left: /some/file"):
        side_by_side([Piece(full), Piece(partial(mark, tmp_path / "other"))], lanes=2)


def test_an_error_longer_than_a_pipe_comes_over_whole() -> None:
    words = "x" * (1 << 20)  # a pipe holds 64 KiB; an error keeps the last 25 lines, of any length

    def long() -> None:
        raise CommandFailed("the piece broke", tail=words)

    with pytest.raises(CommandFailed) as e:
        side_by_side([Piece(long), Piece(partial(time.sleep, 0.01))], lanes=2)
    assert e.value.tail == words


@pytest.mark.parametrize("status", [0, 3])
def test_a_lane_that_dies_without_a_word_is_an_error(status: int) -> None:
    def die() -> None:
        os._exit(status)

    with pytest.raises(WorldError, match=f"status {status}"):
        side_by_side([Piece(die), Piece(partial(time.sleep, 0.01))], lanes=2)


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_what_pieces_return_comes_back_in_their_order(lanes: int) -> None:
    def work(number: int) -> bytes:
        time.sleep(0.2 / (number + 1))  # the later end first
        return bytes([number]) * (1 << 20)  # more than a pipe holds

    found = side_by_side([Piece(partial(work, n)) for n in range(4)], lanes=lanes)
    assert [(len(f), f[0]) for f in found] == [(1 << 20, n) for n in range(4)]


def test_an_interrupted_lane_interrupts_the_whole() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side([Piece(interrupted), Piece(partial(time.sleep, 0.01))], lanes=2)


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_waits_for_another_begins_when_that_says_so_and_not_before(tmp_path: Path, lanes: int) -> None:
    event = lane_event()
    order = tmp_path / "order"

    def say(word: str) -> None:
        with order.open("a") as f:
            f.write(f"{word}\n")

    def first() -> None:
        time.sleep(0.5)
        say("compiled")
        event.set()

    pieces = [Piece(first), Piece(partial(say, "second"), event.is_set), Piece(partial(say, "free"))]
    side_by_side(pieces, lanes=lanes)
    words = order.read_text().split()
    assert sorted(words) == ["compiled", "free", "second"]
    assert words.index("compiled") < words.index("second")
    assert (words[0] == "free") is (lanes == 2)  # it need not wait, and a lane was idle
