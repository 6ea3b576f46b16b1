"""What the user sees while long work goes on: the step, its elapsed time and what it is at.

On a terminal one line is kept up to date; elsewhere only begin and end of a step are printed. Reports and
tables go to standard output, all of this to standard error.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status

console = Console(stderr=True, highlight=False, soft_wrap=True)
_live = False


class Running:
    """One step under way; ``at()`` says what it is doing now."""

    def __init__(self, title: str, status: Status | None) -> None:
        self.title = title
        self.start = time.monotonic()
        self.note = ""
        self._status = status
        self._shown = 0.0

    def at(self, detail: str) -> None:
        """Show ``detail`` (cut to the line) beside the elapsed time, at most ten times a second."""
        now = time.monotonic()
        if self._status is None or now - self._shown < 0.1:
            return
        self._shown = now
        room = max(20, console.width - len(self.title) - 16)
        self._status.update(f"{escape(self.title)} [dim]{clock(now - self.start)} {escape(detail[:room])}[/]")

    def done(self, note: str) -> None:
        """What is said at the end of the step instead of nothing."""
        self.note = note


def only_lines() -> None:
    """Print the end of steps and animate nothing: another process of ours owns the terminal's last line."""
    global _live  # noqa: PLW0603
    _live = True


def clock(seconds: float) -> str:
    """``75`` -> ``1:15``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@contextmanager
def step(title: str) -> Iterator[Running]:
    """Show a step while the block runs, and how long it took when it ends."""
    global _live  # noqa: PLW0603  # rich shows one live line at a time: inner steps are printed only
    status = console.status(escape(title)) if console.is_terminal and not _live else None
    _live = _live or status is not None
    current = Running(title, status)
    if status:
        status.start()
    try:
        try:
            yield current
        finally:
            if status:
                status.stop()
                _live = False
    except BaseException:
        console.print(f"[red]✗[/] {escape(title)} [dim]{clock(time.monotonic() - current.start)}[/]")
        raise
    note = f" [dim]{escape(current.note)}[/]" if current.note else ""
    console.print(f"[green]✓[/] {escape(title)} [dim]{clock(time.monotonic() - current.start)}[/]{note}")


def say(text: str) -> None:
    """One line to the user."""
    console.print(escape(text))


def warn(text: str) -> None:
    """One line the user should not miss."""
    console.print(f"[yellow]![/] {escape(text)}")
