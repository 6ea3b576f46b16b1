"""The sign-off report: evidence rendered for people and schedulers."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from pipeline import evidence as ev
from pipeline import store


@dataclass(frozen=True)
class Reports:
    """Where the renderings of one sign-off are."""

    evidence: Path
    junit: Path
    markdown: Path
    html: Path


#: What `write_all` leaves in a directory.
FILES = (ev.FILE, "junit.xml", "report.md", "report.html")


def withdraw(outdir: Path) -> None:
    """Take an earlier sign-off out of ``outdir``, so that none stands there if the new one fails."""
    for name in FILES:
        (outdir / name).unlink(missing_ok=True)


def write_all(evidence: ev.Evidence, outdir: Path, *, summary: bool = True) -> Reports:
    """Write every rendering below ``outdir`` (each whole or not at all), print the summary table.

    ``evidence.json``, ``junit.xml``, ``report.md``, ``report.html``. Equal evidence gives equal bytes. With
    ``summary=False`` nothing is printed.
    """
    # not at the top: matplotlib takes long to load and is needed only once there is a report to write
    from pipeline.report import html, junit, markdown, terminal  # noqa: PLC0415

    reports = Reports(
        evidence=ev.write(evidence, outdir),
        junit=outdir / "junit.xml",
        markdown=outdir / "report.md",
        html=outdir / "report.html",
    )
    store.write_atomically(reports.junit, junit.render(evidence))
    store.write_atomically(reports.markdown, markdown.render(evidence))
    store.write_atomically(reports.html, html.render(evidence))
    if summary:
        click.echo(terminal.render(evidence, colour=sys.stdout.isatty()), nl=False)
    return reports
