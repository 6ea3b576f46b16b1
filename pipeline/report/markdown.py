"""The sign-off as Markdown: for a release ticket or a step summary of a CI run."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from pipeline.core.outcome import Finding, Outcome
from pipeline.report import abi, figures, kernels, view
from pipeline.report.terminal import printable
from pipeline.signoff.records import Evidence
from pipeline.signoff.waiver import cause_of


def render(evidence: Evidence) -> str:
    """The whole report, ending in a newline."""
    grade = "release grade" if evidence.release_grade else "not release grade"
    blocks = [
        f"# Sign-off: {text(evidence.profile.title)}",
        f"**{evidence.verdict.name}** · {grade}\n\n{text(view.summary(evidence))}",
    ]
    if evidence.grade_reasons:
        blocks.append("Not release grade because:\n\n" + _list(evidence.grade_reasons))
    blocks += _problems(evidence)
    blocks += _matrices(evidence)
    blocks += _deltas(evidence)
    blocks += _launches(evidence)
    blocks += _speed(evidence)
    blocks += _made_from(evidence)
    blocks += _waivers(evidence)
    if evidence.not_judged:
        rows = [
            [d.check, d.arch, f"{d.place} {d.kernel}", ", ".join(d.releases), str(d.count), d.reason]
            for d in view.declined(evidence)
        ]
        blocks += [
            "## Not judged",
            table(["check", "architecture", "place", "releases", "questions", "why"], rows),
        ]
    made = (
        f"Made {evidence.created} by glibc-backport-pipeline {text(evidence.tool)} "
        f"on {text(evidence.environment.os)}. `evidence.json` has sha256 `{evidence.sha256}`."
    )
    blocks += [
        "## How to reproduce",
        fence(evidence.command),
        made,
    ]
    return "\n\n".join(blocks) + "\n"


def text(value: str) -> str:
    """``value`` as one line of Markdown that means only itself."""
    escaped = re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", html.escape(printable(value), quote=False))
    return " ".join(escaped.split())


def code(value: str) -> str:
    """``value`` as a code span in a table's cell."""
    one = " ".join(printable(value).split()).replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", one)), default=0))
    pad = " " if "`" in one else ""
    return f"{ticks}{pad}{one}{pad}{ticks}" if one else ""


def fence(value: str, language: str = "") -> str:
    """``value`` as a fenced block, whatever it holds."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", value)), default=0))
    return f"{ticks}{language}\n{printable(value).rstrip()}\n{ticks}"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, raw: bool = False) -> str:
    """A table; headers and cells are escaped unless ``raw``."""
    head, *cells = [[c if raw else text(c) for c in row] for row in (headers, *rows)]
    lines = [head, ["---"] * len(headers), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {text(i)}" for i in items)


def _heading(finding: Finding) -> str:
    where = (finding.case, finding.place, finding.kernel)
    return " · ".join([finding.check, str(finding.target), *(w for w in where if w)])


def _problems(evidence: Evidence) -> list[str]:
    if not evidence.problems:
        return []
    blocks = ["## What is wrong"]
    alone = kernels.notes(evidence)
    for f in evidence.problems:
        body = f"expected:\n{f.expected}\n\nseen:\n{f.seen}"
        body += f"\n\nkernel:\n{alone[f.key]}" if f.key in alone else ""
        body += "".join(f"\nevidence: {e}" for e in f.evidence)
        blocks += [f"### {f.outcome.name}: {text(_heading(f))}", fence(body), f"cause `{cause_of(f)}`"]
    return blocks


def _matrices(evidence: Evidence) -> list[str]:
    blocks = ["## Releases"]
    for matrix in view.by_place(evidence):
        columns = [f"{text(label)}<br>{text(r)}" for label, _ in matrix.groups for r in matrix.releases]
        rows = [[text(row.check), *(_cell(c) for c in row.cells)] for row in matrix.rows]
        blocks += [f"### {text(matrix.title)}", table(["check", *columns], rows, raw=True)]
    return blocks


def _cell(cell: view.Cell) -> str:
    if not cell.word:
        return ""
    word = cell.word.lower() if cell.word in ("PASS", "NOT JUDGED") else f"**{cell.word}**"
    return word + (f" {cell.count}" if cell.total > 1 else "")


def _deltas(evidence: Evidence) -> list[str]:
    found = abi.deltas(evidence)
    blocks = ["## ABI delta"] if found else []
    for d in found:
        word = d.finding.outcome.name
        blocks += [f"### {text(d.arch)}: {text(d.step)} ({word})", fence(d.text, "diff")]
        if d.finding.outcome is not Outcome.PASS:
            blocks += ["expected:", fence(d.finding.expected, "diff")]
    return blocks


def _launches(evidence: Evidence) -> list[str]:
    found = view.launches(evidence)
    blocks = ["## Launch matrix", "Marked ◆: a negative control, which must be refused."] if found else []
    for m in found:
        rows = [[p, *(f"{'◆ ' if c.control else ''}{c.word}" for c in cells)] for p, cells in m.rows]
        blocks += [f"### {text(m.arch)} at {text(m.where.place)} {text(m.where.kernel)}"]
        blocks += [table(["program", *m.releases], rows)]
    return blocks


def _speed(evidence: Evidence) -> list[str]:
    counted, timed = figures.steps(evidence), figures.speeds(evidence)
    blocks = ["## Speed of sched_getcpu"] if counted or timed else []
    for counts in counted:
        rows = [[r, *(f"{i} · {c}" if i or c else "" for i, c in cells)] for r, cells in counts.rows]
        blocks.append(f"{text(counts.arch)}: instructions · system calls per call")
        blocks.append(table(["release", *counts.cases], rows))
    for g in timed:
        if g.declined:
            blocks.append(f"{text(g.arch)} at {text(g.where.place)}: times not judged ({text(g.declined)})")
            continue
        rows = [[s.release, *(_spread(s.series.get(n)) for n in g.names)] for s in g.speeds]
        blocks.append(
            f"{text(g.arch)} at {text(g.where.place)} {text(g.where.kernel)}: ns, median (quartiles)"
        )
        blocks.append(table(["release", *(figures.SERIES.get(n, n) for n in g.names)], rows))
    return blocks


def _spread(spread: figures.Spread | None) -> str:
    if spread is None:
        return ""
    return f"{figures.number(spread.median)} ({figures.number(spread.q1)}-{figures.number(spread.q3)})"


def _made_from(evidence: Evidence) -> list[str]:
    blocks = ["## What it was made from"]
    files = [(str(b.target), r.file, r.sha256) for b in evidence.builds for r in b.files]
    blocks.append(
        table(
            ["target", "package", "sha256"],
            [[text(t), code(f), code(s)] for t, f, s in files],
            raw=True,
        )
    )
    if differences := view.differences(evidence):
        blocks.append("What the vendor's build has and these builds have not:")
        blocks.append("\n".join(f"- {text(line)}" for line in differences))
    inputs = {
        (kind, name, sha)
        for b in evidence.builds
        for kind, name, sha in ([("source", b.source.origin, b.source.sha256)] if b.source else [])
        + [("patch (the source has it)" if p.present else "patch", p.file, p.sha256) for p in b.patches]
        + ([("image", b.image.base, b.image.id)] if b.image else [])
    }
    inputs |= {("kernel", p.kernel, p.kernel_image.sha256) for p in evidence.places if p.kernel_image}
    inputs |= {("log", p.log.file, p.log.sha256) for p in evidence.places if p.log}
    inputs.add(("profile", evidence.profile.name, evidence.profile.sha256))
    rows = [[k, code(n), code(s)] for k, n, s in sorted(inputs)]
    blocks.append(table(["kind", "what", "sha256"], rows, raw=True))
    tools = {**{f"{k} (host)": v for k, v in evidence.environment.tools.items()}}
    for b in evidence.builds:
        if b.image:
            tools |= {f"{k} (image)": v for k, v in b.image.tools.items()}
    blocks.append(table(["tool", "version"], [[k, v] for k, v in sorted(tools.items())]))
    return blocks


def _waivers(evidence: Evidence) -> list[str]:
    if not evidence.waivers:
        return []
    rows = [
        [w.status, w.check, w.target, w.case, w.who, w.expires, w.reason, w.note] for w in evidence.waivers
    ]
    headers = ["status", "check", "target", "case", "who", "until", "reason", "note"]
    return ["## Waivers", table(headers, rows)]
