"""Speed as SVG: every sample a dot, the quartiles a bar, the median a line.

The drawings take their colours from the page's style sheet, so they follow light, dark and print. Times of
an emulated machine carry no unit: they are drawn relative to a function that reads the area, which
shows the path taken, never a speed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import blended_transform_factory

from pipeline.report import figures

#: Colours matplotlib is given, and the style sheet's names that take their place.
PAINT = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--rule)",
    "#040404": "var(--series-direct)",
    "#050505": "var(--series-on)",
    "#060606": "var(--series-off)",
    "#070707": "var(--series-raw)",
    "#080808": "var(--series-unset)",
}
INK, MUTED, RULE = "#010101", "#020202", "#030303"
SERIES_INK = {
    "direct_ns": "#040404",
    "on_ns": "#050505",
    "off_ns": "#060606",
    "raw_ns": "#070707",
    "unset_ns": "#080808",
}
MOST_DOTS = 48
#: A series further than this times from the rest has a panel of its own on a linear axis.
FAR = 6.0


def speed_svg(group: figures.SpeedGroup, ident: str) -> str:
    """An inline SVG of a group's times; ``ident`` makes its ids unique on the page."""
    log = group.arch == "aarch64" or bool(group.declined)
    rows = _rows(group)
    panels = [rows] if log else _panels(rows)
    style: Any = {
        "svg.hashsalt": ident,
        "svg.fonttype": "none",
        "font.size": 9,
        "font.family": ["DejaVu Sans"],
        "axes.linewidth": 0.8,
        "path.simplify": False,
        "text.parse_math": False,  # a name is a name, whatever signs it holds
    }
    with matplotlib.rc_context(style):
        each = 0.19 if group.declined else 0.23
        height = 0.6 + each * (len(rows) + 0.5 * len({r[0] for r in rows}))
        figure = Figure(figsize=(7.6, height))
        FigureCanvasSVG(figure)
        shares = [3, 1] if len(panels) > 1 else [1]
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=shares)[0]
        figure.subplots_adjust(left=0.31, right=0.985, top=0.985, bottom=0.46 / height, wspace=0.06)
        positions = _positions(rows)
        for i, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
            _draw(axis, panel, positions, log=log, unit=_unit(group), first=i == 0)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), ident)


_Row = tuple[str, str, figures.Spread]


def _rows(group: figures.SpeedGroup) -> list[_Row]:
    """(series, release, times), series outermost; emulated times are divided by `_reference`."""
    rows = []
    for name in (n for n in group.names if n != "empty_ns"):
        for speed in group.speeds:
            if name in speed.series:
                scale = _reference(speed) if group.declined else 1.0
                rows.append((name, speed.release, speed.series[name].scaled(1 / scale)))
    return rows


def _reference(speed: figures.SpeedTable) -> float:
    """The median of the fastest series."""
    return min(s.median for n, s in speed.series.items() if n != "empty_ns")


def _unit(group: figures.SpeedGroup) -> str:
    if group.declined:
        return "not judged: multiples of the fastest series, emulated (log scale)"
    return "ns per call (log scale)" if group.arch == "aarch64" else "ns per call"


def _panels(rows: list[_Row]) -> list[list[_Row]]:
    """Linear axes: a series that would squeeze the others flat has a second panel."""
    raw = [r for r in rows if r[0] == "raw_ns"]
    rest = [r for r in rows if r[0] != "raw_ns"]
    if raw and rest and min(r[2].median for r in raw) > FAR * max(r[2].median for r in rest):
        return [rest, raw]
    return [rows]


def _positions(rows: Sequence[_Row]) -> dict[tuple[str, str], float]:
    positions, y, last = {}, 0.0, ""
    for name, label, _ in rows:
        y += 1.0 if name == last else 1.5
        positions[name, label] = y
        last = name
    return positions


def _draw(
    axis: Axes,
    panel: Sequence[_Row],
    positions: Mapping[tuple[str, str], float],
    *,
    log: bool,
    unit: str,
    first: bool,
) -> None:
    for name, label, spread in panel:
        y = positions[name, label]
        colour = SERIES_INK.get(name, MUTED)
        dots = _thin(spread.values)
        offsets = [y + 0.22 * (((i * 7) % 5) - 2) / 2 for i in range(len(dots))]
        axis.scatter(dots, offsets, s=7, color=colour, alpha=0.35, linewidths=0, zorder=2)
        axis.plot([spread.q1, spread.q3], [y, y], color=colour, linewidth=5, alpha=0.55, zorder=3,
                  solid_capstyle="butt")  # fmt: skip
        axis.plot([spread.median] * 2, [y - 0.36, y + 0.36], color=INK, linewidth=1.6, zorder=4)
    values = [v for r in panel for v in r[2].values]
    if log:
        axis.set_xscale("log")
        axis.set_xlim(min(values) / 1.6, max(values) * 1.6)
        axis.xaxis.set_major_locator(LogLocator(base=10))
        axis.xaxis.set_minor_locator(NullLocator())
    else:
        axis.set_xlim(0, max(values) * 1.08)
        axis.xaxis.set_major_locator(MaxNLocator(6 if first else 3))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: figures.number(v)))
    bottom = max(positions.values()) + 0.9
    axis.set_ylim(bottom, 0.6)
    axis.grid(axis="x", color=RULE, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(MUTED)
    axis.tick_params(axis="x", colors=INK, length=3, color=MUTED)
    axis.tick_params(axis="y", length=0)
    if first:
        _names(axis, positions)
        axis.set_xlabel(unit, color=MUTED, loc="left")
    else:
        axis.tick_params(axis="y", labelleft=False)


def _names(axis: Axes, positions: Mapping[tuple[str, str], float]) -> None:
    """Releases at the axis; each series is named once, left of its first release."""
    axis.set_yticks(list(positions.values()), [_drawable(release) for _, release in positions])
    for tick in axis.get_yticklabels():
        tick.set_color(MUTED)
    named: set[str] = set()
    across = blended_transform_factory(axis.figure.transFigure, axis.transData)
    for (name, _), y in positions.items():
        if name not in named:
            named.add(name)
            axis.text(
                0.0, y, _drawable(figures.SERIES.get(name, name)), transform=across, color=INK, va="center"
            )


def _drawable(text: str) -> str:
    """Names hold ASCII; what does not is shown as such rather than left to the installed font."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def _thin(values: Sequence[float]) -> list[float]:
    """At most `MOST_DOTS` of the sorted values, both ends among them."""
    n = len(values)
    if n <= MOST_DOTS:
        return list(values)
    return [values[round(i * (n - 1) / (MOST_DOTS - 1))] for i in range(MOST_DOTS)]


def _inline(svg: str, ident: str) -> str:
    """From a file to a part of a page: no prologue, unique ids, the page's colours and fonts."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{ident}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{ident}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{ident}-\1"', svg)
    svg = re.sub(r' xmlns:xlink="[^"]+"| xmlns="[^"]+"| version="[^"]+"', "", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", svg)
    for given, name in PAINT.items():
        svg = svg.replace(given, name)
    return re.sub(
        r'<svg [^>]*viewBox="([^"]+)"[^>]*>',
        r'<svg viewBox="\1" class="plot" aria-hidden="true" focusable="false">',
        svg,
        count=1,
    )
