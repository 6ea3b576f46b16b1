"""What the user sees while long work goes on: each step, its elapsed time, what it is at, and an estimate.

On a terminal there is one line a step under way (one a lane, where work goes on side by side), kept up to
date; elsewhere only begin and end of a step are printed. Reports and tables go to standard output, all of
this to standard error.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import IO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

console = Console(stderr=True, highlight=False, soft_wrap=True)
#: Something of this process, or of the one that we are a lane of, is live: inner steps are printed only.
_live = False
#: Where a lane's words go if its parent keeps lines up to date for it.
_parent: Connection | None = None

#: Seconds between two updates of a line, and of the terminal.
_SOONEST, _PER_SECOND = 0.1, 4
#: A rate says nothing of the rest before this share of it is done.
_ENOUGH = 0.05


@dataclass
class Row:
    """One live line. ``left``: seconds that the rest takes, as estimated at ``told``; None: not known."""

    title: str
    start: float = field(default_factory=time.monotonic)
    detail: str = ""
    left: float | None = None
    told: float = 0.0

    def line(self, width: int) -> Text:
        """As it is shown now; what is too long is cut, and never the estimate."""
        now = time.monotonic()
        end = "" if self.left is None else f"  {in_words(self.left - (now - self.told))}"
        begin = f"{self.title} {clock(now - self.start)} "
        room = max(0, width - 1 - len(begin) - len(end))
        detail = self.detail if len(self.detail) <= room else f"{self.detail[: max(0, room - 1)]}…"
        return Text.assemble(begin, (detail, "dim"), end, no_wrap=True, overflow="crop")


def in_words(left: float) -> str:
    """``200`` -> ``about 3 min left``: seconds are more than an estimate knows."""
    if left < 0:
        return "longer than estimated"
    return "less than a minute left" if left < 50 else f"about {round(left / 60)} min left"


class Board:
    """The live lines: of one step, or one a lane."""

    def __init__(self, *, by_itself: bool) -> None:
        self.rows: dict[int, Row] = {}
        # a thread of rich's would hold locks that a lane, a copy of this process, would wait for
        self._screen = Live(
            get_renderable=self._shown, console=console, transient=True, auto_refresh=by_itself,
            refresh_per_second=_PER_SECOND,
        )  # fmt: skip

    def _shown(self) -> Group:
        return Group(*(row.line(console.width) for _, row in sorted(self.rows.items())))

    def __enter__(self) -> Board:
        self._screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.rows.clear()
        self._screen.stop()

    def refresh(self) -> None:
        """Show the lines as they are now."""
        self._screen.refresh()

    def hear(self, lane: int, words: Connection) -> None:
        """Take what a lane has to say, as far as it is there."""
        try:
            while words.poll():
                said = words.recv()
                if isinstance(said, Row):
                    self.rows[lane] = said
                elif said is None:
                    self.rows.pop(lane, None)
                else:
                    console.print(Text.from_ansi(str(said).rstrip("\n")))
        except EOFError:
            self.rows.pop(lane, None)


class _ToParent:
    """A lane's terminal: its parent prints what is written."""

    def __init__(self, words: Connection) -> None:
        self._words = words

    def write(self, text: str) -> int:
        if text:
            self._words.send(text)
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


class Running:
    """One step under way; ``at()`` says what it is doing now."""

    def __init__(self, row: Row, *, board: Board | None = None, parent: Connection | None = None) -> None:
        self.note = ""
        self._row = row
        self._board = board
        self._parent = parent
        self._shown = 0.0
        self._counting: tuple[float, int] | None = None

    @property
    def title(self) -> str:
        return self._row.title

    @property
    def start(self) -> float:
        return self._row.start

    def at(self, detail: str, *, left: float | None = None, done: int = 0, of: int = 0) -> None:
        """Show ``detail`` beside the elapsed time, at most ten times a second.

        ``left`` is an estimate of the seconds that the rest takes; or ``done`` pieces ``of`` some are made,
        and the rest is expected to go on as they did.
        """
        now = time.monotonic()
        if of:
            left = self._by_rate(now, done, of)
        if (self._board is None and self._parent is None) or now - self._shown < _SOONEST:
            return
        self._shown = now
        self._row.detail, self._row.left, self._row.told = detail, left, now
        if self._parent is not None:
            self._parent.send(self._row)
        elif self._board is not None:
            self._board.refresh()

    def _by_rate(self, now: float, done: int, of: int) -> float | None:
        if self._counting is None or done < self._counting[1]:
            self._counting = now, done
        since, first = self._counting
        made = done - first
        return (now - since) / made * (of - done) if made >= max(1.0, of * _ENOUGH) else None

    def done(self, note: str) -> None:
        """What is said at the end of the step instead of nothing."""
        self.note = note


def side_by_side() -> Board | None:
    """The lines of several lanes, to be entered; None where nothing can be kept up to date."""
    return Board(by_itself=False) if console.is_terminal and not _live else None


def only_lines(words: Connection | None) -> None:
    """In a lane: animate nothing, the parent owns the terminal; with ``words``, it shows what we tell it."""
    global _live, _parent, console  # noqa: PLW0603
    _live = True
    if words is not None:
        _parent = words
        system = console.color_system
        console = Console(
            file=cast("IO[str]", _ToParent(words)), force_terminal=True, width=console.width, highlight=False,
            soft_wrap=True, color_system=system, no_color=console.no_color,  # type: ignore[arg-type]
        )  # fmt: skip


def clock(seconds: float) -> str:
    """``75`` -> ``1:15``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@contextmanager
def step(title: str) -> Iterator[Running]:
    """Show a step while the block runs, and how long it took when it ends."""
    global _live, _parent  # noqa: PLW0603
    row = Row(title)
    board = Board(by_itself=True) if console.is_terminal and not _live else None
    parent, _parent = _parent, None  # inner steps of a lane have no line of their own
    _live = _live or board is not None
    current = Running(row, board=board, parent=parent)
    if board:
        board.rows[0] = row
        board.__enter__()
    elif parent:
        parent.send(row)
    try:
        try:
            yield current
        finally:
            if board:
                board.__exit__()
                _live = False
            _parent = parent
            if parent:
                parent.send(None)
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
