"""The sign-off report: evidence rendered for people and schedulers."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from dataclasses import astuple, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Self

import click

from pipeline.core import store
from pipeline.core.lanes import Piece, side_by_side
from pipeline.report import terminal
from pipeline.signoff.document import FILE, write
from pipeline.signoff.records import Evidence


@dataclass(frozen=True)
class Reports:
    """Where the renderings of one sign-off are."""

    evidence: Path
    junit: Path
    markdown: Path
    html: Path

    @classmethod
    def below(cls, outdir: Path) -> Self:
        """Where they are in ``outdir``, written or not."""
        return cls(outdir / FILE, outdir / "junit.xml", outdir / "report.md", outdir / "report.html")


def withdraw(outdir: Path, *, keep: Collection[Path] = ()) -> None:
    """Take an earlier sign-off out of ``outdir``, so that none stands there if the new one fails.

    ``keep``: files that the new one is made of.
    """
    kept = {path.resolve() for path in keep}
    for file in astuple(Reports.below(outdir)):
        if file.resolve() not in kept:
            file.unlink(missing_ok=True)


def write_all(evidence: Evidence, outdir: Path, *, summary: bool = True) -> Reports:
    """Write every rendering below ``outdir`` (each whole or not at all), print the summary table.

    ``evidence.json``, ``junit.xml``, ``report.md``, ``report.html``. Equal evidence gives equal bytes. With
    ``summary=False`` nothing is printed.
    """
    reports = Reports.below(outdir)
    write(evidence, outdir)
    drawn = {"html": reports.html, "junit": reports.junit, "markdown": reports.markdown}  # the longest first
    pieces = [Piece(partial(_write, evidence, name, path)) for name, path in drawn.items()]
    side_by_side(pieces, lanes=min(2, len(os.sched_getaffinity(0))))
    if summary:
        click.echo(terminal.render(evidence, colour=sys.stdout.isatty()), nl=False)
    return reports


def _write(evidence: Evidence, name: str, path: Path) -> None:
    """Write one rendering. Its module is loaded here, in a lane: what it needs takes long."""
    render = import_module(f"pipeline.report.{name}").render
    store.write_atomically(path, render(evidence))
