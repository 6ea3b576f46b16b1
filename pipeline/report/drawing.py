"""Drawings, kept: matplotlib takes a second to load and draw, and most sign-offs draw what one did before."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from pipeline.core import store
from pipeline.core.errors import NoSpace
from pipeline.report import figures

KIND, FILE = "drawing", "drawing.svg"
#: The module that draws, loaded only if something is to be drawn.
ARTIST = "pipeline.report.plot"


def speed_svg(group: figures.SpeedGroup, ident: str) -> str:
    """As `pipeline.report.plot.speed_svg`, which draws it."""

    def draw() -> str:
        drawn: str = import_module(ARTIST).speed_svg(group, ident)
        return drawn

    def make(into: Path) -> None:
        (into / FILE).write_text(draw())

    by = [Path(__file__).with_name(f"{module}.py") for module in ("plot", "figures")]
    inputs = {
        "group": store.digest(repr(group)),
        "ident": ident,
        "by": [store.file_sha256(file) for file in by],
        "matplotlib": version("matplotlib"),
    }
    try:
        return (store.produce(KIND, inputs, make).path / FILE).read_text()
    except (OSError, NoSpace):  # a report needs no place to keep things in
        return draw()
