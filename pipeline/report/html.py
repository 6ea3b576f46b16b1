"""The sign-off as one HTML page: nothing is loaded, one script filters, and a policy in its head says so."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.core.outcome import Finding
from pipeline.report import abi, drawing, figures, kernels, view
from pipeline.report.policy import Drawings, policy
from pipeline.report.terminal import printable
from pipeline.signoff.records import Evidence
from pipeline.signoff.waiver import cause_of


@dataclass(frozen=True)
class Plot:
    """A group's times: its drawing, and the figures for those who cannot see it."""

    ident: str
    group: figures.SpeedGroup
    svg: Markup


@dataclass(frozen=True)
class PageProblem:
    """A finding that is not green: its cause, what is known of its kernel, its link, how to ask it again."""

    f: Finding
    cause: str
    kernel: str
    link: str
    again: str


@dataclass(frozen=True)
class Input:
    """Something that was used: what it is, its name, its digest, and a note."""

    kind: str
    name: str
    sha256: str
    note: str = ""


def render(evidence: Evidence) -> str:
    """The page. The same evidence gives the same bytes."""
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": figures.number, "size": size}
    alone = kernels.notes(evidence)
    links = _links(evidence)
    drawings = Drawings()
    plots = _plots(evidence, drawings)
    style = printable(_template("report.css") + drawings.css)
    script = printable(_template("report.js"))
    page = environment.get_template("report.html.j2").render(
        e=evidence,
        summary=view.summary(evidence),
        policy=Markup(policy(style, script)),
        style=Markup(style),
        script=Markup(script),
        problems=[
            PageProblem(f, cause_of(f), alone.get(f.key, ""), links[id(f)], again(evidence.command, f))
            for f in evidence.problems
        ],
        matrices=view.by_place(evidence),
        deltas=[(arch, list(group)) for arch, group in groupby(abi.deltas(evidence), lambda d: d.arch)],
        symbols=abi.symbol_counts(evidence),
        launches=(launches := view.launches(evidence)),
        launches_red=any(c.css not in ("pass", "none") for m in launches for _, row in m.rows for c in row),
        steps=figures.steps(evidence),
        plots=plots,
        inputs=_inputs(evidence),
        differences=view.differences(evidence),
        tools=_tools(evidence),
        declined=view.declined(evidence),
        by_check=_by_check(evidence),
        titles={c: view.question_of(evidence, c) for c in view.checks_of(evidence)},
        series=figures.SERIES,
        permalink=lambda f: links[id(f)],
        release_of=view.release_of,
        outcomes=[o.name for o in sorted({f.outcome for f in evidence.findings}, reverse=True)],
        releases=view.releases_of(evidence),
        arches=view.arches_of(evidence),
    )
    return printable(page)


def permalink(finding: Finding) -> str:
    """The name of a finding on every page that has it: of the question, not of the answer."""
    return f"f-{hashlib.sha256(chr(0).join(finding.key).encode()).hexdigest()[:12]}"


def _links(evidence: Evidence) -> dict[int, str]:
    """The name of each finding by its identity: two answers to one question (an ERROR) have two names."""
    names: dict[int, str] = {}
    seen: Counter[str] = Counter()
    for finding in evidence.findings:
        name = permalink(finding)
        seen[name] += 1
        names[id(finding)] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return names


def again(command: str, finding: Finding) -> str:
    """The command that asks only this check again, into a directory of its own."""
    options = ["--only", finding.check]
    if "--arch" not in command:
        options += ["--arch", finding.target.arch]
    command = re.sub(r"^nox -s [a-z -]*\bverify\b", "nox -s verify", command)  # others have no --only
    joint = "" if " -- " in command else " --"
    return f"{command}{joint} {shlex.join(options)} --fresh --out out/again"


def _template(name: str) -> str:
    return files("pipeline.report").joinpath("templates", name).read_text()


def size(count: int) -> str:
    """Bytes for people: ``1.9 MiB``."""
    if count < 1024:
        return f"{count} B"
    value, unit = count / 1024, "KiB"
    for bigger in ("MiB", "GiB"):
        if value >= 1024:
            value, unit = value / 1024, bigger
    return f"{value:.1f} {unit}"


def _plots(evidence: Evidence, drawings: Drawings) -> list[Plot]:
    made = []
    for i, group in enumerate(figures.speeds(evidence), 1):
        # drawn by matplotlib, which escapes the texts it is given
        svg = Markup(drawings.without_styles(drawing.speed_svg(group, f"plot{i}")))
        made.append(Plot(f"plot{i}", group, svg))
    return made


def _inputs(evidence: Evidence) -> list[Input]:
    """Sources, patches, images, kernels, logs and the profile, each once."""
    made: dict[tuple[str, str, str], list[str]] = {}
    order = ("source", "patch", "image", "kernel", "log", "profile")
    for b in evidence.builds:
        name = f"{b.target.release}/{b.target.arch}"
        if b.source:
            pinned = "pinned" if b.source.pinned else "not pinned"
            made.setdefault(("source", f"{b.source.origin} ({b.source.kind})", b.source.sha256), [pinned])
        for p in b.patches:
            upstream = f"; upstream {', '.join(p.upstream)}" if p.upstream else ""
            how = f"; not applied, the source has it: {p.present}" if p.present else ""
            made.setdefault(("patch", p.file, p.sha256), [f"{p.subject}{upstream}{how}"]).append(name)
        if b.image:
            pinned = "pinned" if b.image.pinned else "not pinned"
            made.setdefault(("image", b.image.base, b.image.id), [pinned])
    for place in evidence.places:
        where = f"{place.place}, {place.arch}"
        if place.kernel_image:
            key = ("kernel", f"{place.kernel} {place.kernel_version}".strip(), place.kernel_image.sha256)
            made.setdefault(key, [where])
        if place.log:
            made.setdefault(("log", place.log.file, place.log.sha256), [where])
    made["profile", evidence.profile.name, evidence.profile.sha256] = [evidence.profile.title]
    return [
        Input(kind, name, digest, notes[0] + (f" ({_targets(notes[1:], evidence)})" if notes[1:] else ""))
        for (kind, name, digest), notes in sorted(made.items(), key=lambda item: order.index(item[0][0]))
    ]


def _targets(names: list[str], evidence: Evidence) -> str:
    """Releases by name; architectures are said only where not all of them are meant."""
    releases = view.order((n.partition("/")[0] for n in names), evidence.profile.releases)
    arches = {b.target.arch for b in evidence.builds}
    whole = all(f"{r}/{a}" in names for r in releases for a in arches)
    return ", ".join(releases) if whole else ", ".join(names)


def _tools(evidence: Evidence) -> list[tuple[str, str, str]]:
    """(where, tool, version): of the build images and of the machine."""
    made = {("image", tool, v) for b in evidence.builds if b.image for tool, v in b.image.tools.items()}
    made |= {("machine", tool, v) for tool, v in evidence.environment.tools.items()}
    return sorted(made)


def _by_check(evidence: Evidence) -> list[tuple[str, view.Cell, list[Finding]]]:
    """Every finding, by check."""
    made = []
    for check in view.checks_of(evidence):
        found = [f for f in evidence.findings if f.check == check]
        declined = sum(n.check == check for n in evidence.not_judged)
        made.append((check, view.cell(found, declined), found))
    return made
