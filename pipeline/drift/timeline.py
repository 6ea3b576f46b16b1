"""When each symbol came and went in what a source published, as rows and as a drawing."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.dates
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from pipeline.abi.delta import SymbolChange, changes_of, delta
from pipeline.abi.listing import Listing
from pipeline.core import store
from pipeline.core.errors import EvidenceError, UsageError
from pipeline.drift.history import History, Recorded

#: Rows a drawing has at most: beyond, the symbols of one node of one DSO share a row.
MOST_ROWS = 60
FORMATS = (".svg", ".png")
_DATES: Any = matplotlib.dates  # which has no types
INK, CAME, GONE = "#1b1b1b", "#0b6e4f", "#b3261e"


@dataclass(frozen=True)
class Event:
    """A symbol that came (``+``) or went (``-``) between two looks; ``package`` is the NVR seen then."""

    at: str
    source: str
    arch: str
    sign: str
    change: SymbolChange
    package: str


@dataclass(frozen=True)
class Track:
    """The history of one source and architecture: when it was first and last seen, and what happened.

    ``looks`` and ``seen`` count looks, and those that saw listings; ``symbols`` is the number at the last.
    """

    source: str
    arch: str
    first: str
    last: str
    nvr: str
    looks: int
    seen: int
    symbols: int
    events: tuple[Event, ...]


def tracks(history: History, source: str = "", arch: str = "") -> list[Track]:
    """The history by source and architecture."""
    groups: dict[tuple[str, str], list[Recorded]] = {}
    for entry in history.looks(source, arch):
        groups.setdefault((entry.record.source, entry.record.arch), []).append(entry)
    return [_track(history, entries) for _, entries in sorted(groups.items())]


def _track(history: History, entries: Sequence[Recorded]) -> Track:
    events: list[Event] = []
    before: Mapping[str, Listing] | None = None
    known: int | None = None
    for entry in entries:
        if entry.snapshot is None or entry.snapshot == known:
            continue
        after = history.listings(entry.snapshot)
        if before is not None:
            events += _events(entry, before, after, history.packages(entry.snapshot))
        before, known = after, entry.snapshot
    seen = [e for e in entries if e.snapshot is not None]
    last = seen[-1] if seen else entries[-1]
    return Track(
        source=last.record.source,
        arch=last.record.arch,
        first=(seen or entries)[0].record.at,
        last=last.record.at,
        nvr=last.record.nvr,
        looks=len(entries),
        seen=len(seen),
        symbols=sum(len(changes_of(x)) for x in (before or {}).values()),
        events=tuple(events),
    )


def _events(
    entry: Recorded, before: Mapping[str, Listing], after: Mapping[str, Listing], owners: Mapping[str, str]
) -> list[Event]:
    difference = delta(before, after)
    look = entry.record
    both = [("-", c) for c in difference.removed] + [("+", c) for c in difference.added]
    return [
        Event(look.at, look.source, look.arch, sign, change, owners.get(change.dso, look.nvr))
        for sign, change in sorted(both, key=lambda x: (x[1].order, x[0] == "+"))
    ]


# -- drawing --------------------------------------------------------------------------------------------


@dataclass
class _Bar:
    """One row: from when to when something was there; None is beyond what was looked at."""

    label: str
    spans: list[tuple[str | None, str | None]]


def _bars(track: Track) -> list[_Bar]:
    """A row for each symbol that ever came or went, or, if they are too many, for each node of a DSO."""
    names = {(e.change.dso, e.change.node, e.change.symbol) for e in track.events}
    grouped = len(names) > MOST_ROWS
    rows: dict[str, list[Event]] = {}
    for event in track.events:
        c = event.change
        label = f"{c.dso}: {c.node}" if grouped else f"{c.dso}: {c.symbol}@{c.node}"
        if not grouped and c.size is not None:
            label += f" ({c.size} bytes)"
        rows.setdefault(label, []).append(event)
    bars = []
    for label, events in sorted(rows.items()):
        count = len({e.change for e in events})
        bar = _Bar(f"{label} ({count} symbols)" if grouped else label, [])
        since: str | None = None
        there = events[0].sign == "-"
        for at in dict.fromkeys(e.at for e in events):
            signs = {e.sign for e in events if e.at == at}
            if "-" in signs and there:
                bar.spans.append((since, at))
                there = False
            if "+" in signs:
                since, there = at, True
        if there:
            bar.spans.append((since, None))
        bars.append(bar)
    return bars[:MOST_ROWS]


def draw(found: Sequence[Track], file: Path) -> None:
    """Draw the tracks to ``file`` (.svg or .png): a bar from when a symbol came to when it went.

    Raises `UsageError` for another kind of file, `EvidenceError` if there is no history.
    """
    if file.suffix not in FORMATS:
        raise UsageError(f"{file}: a plot is {' or '.join(FORMATS)}", hint="name a file that ends so")
    shown = [(t, _bars(t)) for t in found if t.seen]
    if not shown:
        raise EvidenceError("the history has no look that saw anything", hint="run `nox -s drift` first")
    heights = [max(len(bars), 1) + 1.2 for _, bars in shown]
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "drift", "font.size": 9, "text.parse_math": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(10, 0.6 + 0.28 * sum(heights)), layout="constrained")
        canvas = FigureCanvasSVG(figure) if file.suffix == ".svg" else FigureCanvasAgg(figure)
        axes = figure.subplots(len(shown), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        left = min(_day(t.first) for t, _ in shown)
        right = max(_day(t.last) for t, _ in shown)
        room = max((right - left) * 0.04, 0.02)
        for axis, (track, bars) in zip(axes, shown, strict=True):
            _axis(axis, track, bars, (left - room, right + room))
        out = io.BytesIO()
        metadata = {"Date": None} if file.suffix == ".svg" else {}
        canvas.print_figure(out, format=file.suffix[1:], metadata=metadata, dpi=150)
    store.write_atomically(file, out.getvalue())


def _axis(
    axis: matplotlib.axes.Axes, track: Track, bars: Sequence[_Bar], limits: tuple[float, float]
) -> None:
    title = f"{track.source} {track.arch}: {track.seen} looks, now {track.nvr}"
    if bars:
        title += "   (green: there at the last look; red: gone again)"
    axis.set_title(_drawable(title), loc="left", color=INK)
    for row, bar in enumerate(bars):
        for since, until in bar.spans:
            start = limits[0] if since is None else _day(since)
            end = limits[1] if until is None else _day(until)
            axis.barh(row, end - start, left=start, height=0.5, color=CAME if until is None else GONE)
            for at, mark, color in ((since, "|", CAME), (until, "x", GONE)):
                if at is not None:
                    axis.plot([_day(at)], [row], marker=mark, color=color, markersize=8)
    if not bars:
        axis.text(0.5, 0.5, f"no symbol came or went ({track.symbols} are there)", ha="center", va="center",
                  transform=axis.transAxes, color=INK)  # fmt: skip
    axis.set_yticks(range(len(bars)), [_drawable(b.label) for b in bars])
    axis.set_ylim(max(len(bars), 1) - 0.4, -0.6)
    axis.set_xlim(*limits)
    locator = _DATES.AutoDateLocator()
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(_DATES.ConciseDateFormatter(locator))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _day(at: str) -> float:
    return float(_DATES.date2num(datetime.fromisoformat(at)))


def _drawable(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
