"""The sign-off report: evidence rendered for people and schedulers."""

from __future__ import annotations

import sys
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Self

import click

from pipeline.core import store
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


def withdraw(outdir: Path) -> None:
    """Take an earlier sign-off out of ``outdir``, so that none stands there if the new one fails."""
    for file in astuple(Reports.below(outdir)):
        file.unlink(missing_ok=True)


def write_all(evidence: Evidence, outdir: Path, *, summary: bool = True) -> Reports:
    """Write every rendering below ``outdir`` (each whole or not at all), print the summary table.

    ``evidence.json``, ``junit.xml``, ``report.md``, ``report.html``. Equal evidence gives equal bytes. With
    ``summary=False`` nothing is printed.
    """
    # not at the top: matplotlib takes long to load and is needed only once there is a report to write
    from pipeline.report import html, junit, markdown, terminal  # noqa: PLC0415

    reports = Reports.below(outdir)
    write(evidence, outdir)
    store.write_atomically(reports.junit, junit.render(evidence))
    store.write_atomically(reports.markdown, markdown.render(evidence))
    store.write_atomically(reports.html, html.render(evidence))
    if summary:
        click.echo(terminal.render(evidence, colour=sys.stdout.isatty()), nl=False)
    return reports
