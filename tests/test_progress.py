"""What the user sees: a step's begin and end, its time, never markup that came from outside."""

from __future__ import annotations

import io
import re
import time
from functools import partial

import pytest
from rich.console import Console

from pipeline.core import progress
from pipeline.core.lanes import Piece, side_by_side
from pipeline.core.progress import Row, Running, clock, say, step, warn


def test_a_step_that_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    with step("build [x]") as at:
        at.at("detail")
        at.done("6 [RPMs]")
    seen = capsys.readouterr()
    assert seen.err == "✓ build [x] 0:00 6 [RPMs]\n"
    assert seen.out == ""


def test_a_step_that_fails_is_marked_and_its_error_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), step("build"):
        raise ZeroDivisionError
    assert capsys.readouterr().err == "✗ build 0:00\n"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 80 columns."""
    made = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")  # on a dumb one nothing is kept up to date
    terminal = Console(file=made, force_terminal=True, width=80, soft_wrap=True, color_system=None)
    monkeypatch.setattr(progress, "console", terminal)
    return made


def test_on_a_terminal_one_line_is_kept_up_to_date(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SOONEST", 0.0)
    with step("outer") as outer, step("inner") as inner:
        outer.at("elf/[rtld].os " + "x" * 100, left=200)
        inner.at("not shown: only one line is live")
    shown = screen.getvalue()
    assert "elf/[rtld].os xx" in shown
    assert "…  about 3 min left" in shown
    assert "not shown" not in shown
    assert shown.index("✓ inner") < shown.index("✓ outer")
    with step("next") as following:
        following.at("live again")
    assert "live again" in screen.getvalue()


def worked(number: int) -> int:
    with step(f"build {number}") as at, step("within"):
        for done in range(21):
            at.at(f"object {done}", done=done, of=40 if number else 0)
            time.sleep(0.05)
        say(f"[{number}] says")
        at.done("6 RPMs")
    return number


def test_each_lane_has_its_line(screen: io.StringIO) -> None:
    done = side_by_side([Piece(partial(worked, n)) for n in range(3)], lanes=2)
    assert done == [0, 1, 2]
    shown = screen.getvalue()
    first, second = r"build 0 0:0\d object \d+", r"build 1 0:0\d object \d+"
    assert re.search(rf"{first} *\r?\n{second} +less than a minute left", shown)
    for number in range(3):
        assert f"[{number}] says" in shown
        assert f"✓ build {number} 0:01 6 RPMs" in shown


def test_lanes_are_quiet_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert side_by_side([Piece(partial(worked, n)) for n in range(2)], lanes=2) == [0, 1]
    lines = sorted(capfd.readouterr().err.splitlines())
    words = ["[0] says", "[1] says", "✓ build 0 0:01 6 RPMs", "✓ build 1 0:01 6 RPMs"]
    assert lines == [*words, "✓ within 0:01", "✓ within 0:01"]


def test_the_rest_goes_on_as_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("jobs", start=0.0)
    running = Running(row, board=progress.Board(by_itself=False))
    now = [0.0]
    monkeypatch.setattr("pipeline.core.progress.time.monotonic", lambda: now[0])
    lefts = []
    for number in (0, 2, 10, 50):
        now[0] = 10.0 + number * 2
        running.at("x", done=number, of=100)
        lefts.append(row.left)
    monkeypatch.undo()
    assert lefts == [None, None, 180, 100]


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (-1, "longer than estimated"), (0, "less than a minute left"), (49, "less than a minute left"),
        (50, "about 1 min left"), (200, "about 3 min left"), (3700, "about 62 min left"),
    ],
)  # fmt: skip
def test_an_estimate_in_words(left: float, words: str) -> None:
    assert progress.in_words(left) == words


def test_words_and_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say("a [bold]word[/bold]")
    warn("mind [this]")
    assert capsys.readouterr() == ("", "a [bold]word[/bold]\n! mind [this]\n")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (75, "1:15"), (3600, "60:00")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
