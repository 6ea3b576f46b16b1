"""The sign-off on a terminal: a compact table, then every problem in full, then the verdict."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Callable

import click
from tabulate import tabulate

from pipeline.core.outcome import Finding, Outcome
from pipeline.report import kernels, view
from pipeline.signoff.records import Evidence
from pipeline.signoff.waiver import cause_of

COLOURS = {"PASS": "green", "WAIVED": "cyan", "MISSING": "yellow", "FAIL": "red", "ERROR": "magenta"}
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
Paint = Callable[[str, str], str]


def _plain(text: str, word: str) -> str:  # noqa: ARG001
    return text


def _colour(text: str, word: str) -> str:
    return click.style(text, fg=COLOURS.get(word), bold=word in ("FAIL", "ERROR", "MISSING"))


def render(evidence: Evidence, *, colour: bool = False) -> str:
    """The whole summary, ending in a newline."""
    paint: Paint = _colour if colour else _plain
    blocks = [_table(m, paint) for m in view.by_arch(evidence)]
    alone = kernels.notes(evidence)
    blocks += [_problem(f, paint, alone.get(f.key, "")) for f in evidence.problems]
    blocks += [_notes(evidence), _verdict(evidence, paint)]
    return "\n\n".join(b for b in blocks if b) + "\n"


def _table(matrix: view.Matrix, paint: Paint) -> str:
    rows = [[printable(row.check), *(_cell(c, paint) for c in row.cells)] for row in matrix.rows]
    return tabulate(
        rows,
        headers=[printable(h) for h in (matrix.title, *matrix.releases)],
        tablefmt="simple",
        disable_numparse=True,
    )


def _cell(cell: view.Cell, paint: Paint) -> str:
    if not cell.word:
        return ""
    count = f" {cell.count}" if cell.total > 1 or cell.good != cell.total else ""
    more = f" +{cell.declined} not judged" if cell.declined and cell.total else ""
    return paint(f"{cell.glyph} {cell.word.lower()}", cell.word) + count + more


def _problem(finding: Finding, paint: Paint, kernel: str) -> str:
    where = [finding.case, finding.place, finding.kernel]
    head = " · ".join([finding.check, str(finding.target), *(w for w in where if w)])
    lines = [f"{paint(finding.outcome.name, finding.outcome.name)}  {printable(head)}"]
    lines += _field("expected", finding.expected) + _field("seen", finding.seen)
    if kernel:
        lines += _field("kernel", kernel)
    lines += _field("cause", f"{cause_of(finding)[:16]} (a waiver may name it)")
    if finding.evidence:
        lines += _field("evidence", "\n".join(finding.evidence))
    return "\n".join(lines)


def _field(name: str, text: str) -> list[str]:
    first, *rest = printable(text).splitlines() or [""]
    return [f"  {name + ':':<10}{first}", *(f"  {'':<10}{line}" for line in rest)]


def printable(text: str) -> str:
    """Without control and direction characters: what a probe printed must not drive its reader's screen."""
    return _SUSPECT.sub(lambda found: found[0] if _is_harmless(found[0]) else REPLACEMENT, text)


#: What is looked at one by one: a page is half a million characters, and nearly all of them are ASCII.
_SUSPECT = re.compile(r"[^ -~\n\t]")


def _is_harmless(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _notes(evidence: Evidence) -> str:
    lines = [
        f"not judged: {d.check} on {d.arch} at {d.place} ({d.count}): {d.reason}"
        for d in view.declined(evidence)
    ]
    for w in evidence.waivers:
        lines.append(f"waiver {w.status}: {w.check} {w.target} {w.case}".rstrip() + f": {w.note}")
    return printable("\n".join(lines))


def _verdict(evidence: Evidence, paint: Paint) -> str:
    name = evidence.verdict.name
    lines = [f"{paint(name, name)}  {printable(evidence.profile.title)}. {view.summary(evidence)}"]
    if evidence.release_grade:
        lines.append("release grade")
    else:
        lines.append("not release grade:")
        for reason in evidence.grade_reasons:
            lines += textwrap.wrap(printable(reason), 96, initial_indent="  - ", subsequent_indent="    ")
    if evidence.verdict is Outcome.MISSING:
        lines.append("what was not answered is not green; the answers above that are missing say why")
    return "\n".join(lines)
