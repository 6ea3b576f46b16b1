"""What the user sees: a step's begin and end, its time, never markup that came from outside."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline.core import progress
from pipeline.core.progress import clock, say, step, warn


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


def test_on_a_terminal_one_line_is_kept_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        progress,
        "console",
        Console(file=screen, force_terminal=True, width=60, soft_wrap=True, color_system=None),
    )
    monkeypatch.setattr("pipeline.core.progress.time.monotonic", iter(range(1000)).__next__)
    with step("outer") as outer, step("inner") as inner:
        outer.at("elf/[rtld].os " + "x" * 100)
        inner.at("not shown: only one line is live")
    shown = screen.getvalue()
    assert "elf/[rtld].os" in shown
    assert "not shown" not in shown
    assert shown.index("✓ inner") < shown.index("✓ outer")
    with step("next") as following:
        following.at("live again")
    assert "live again" in screen.getvalue()


def test_words_and_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say("a [bold]word[/bold]")
    warn("mind [this]")
    assert capsys.readouterr() == ("", "a [bold]word[/bold]\n! mind [this]\n")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (75, "1:15"), (3600, "60:00")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
