"""What all renderings of a sign-off show, worked out once: matrices, deltas, launches, steps, speeds.

Nothing here decides anything: outcomes are read from evidence, and a cell shows the worst of its answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.evidence import Evidence, PlaceRecord
from pipeline.outcome import Finding, NotJudged, Outcome, worst

#: What each check asks, in words; the order is the report's. A check not named here is shown by its name.
TITLES = {
    "abi.baseline": "public symbols equal the committed baseline",
    "abi.delta": "public symbols gained and lost between releases are exactly those intended",
    "abi.node-whole": "a gained version node is whole, and no other DSO gains it",
    "abi.rseq-layout": "the rseq symbols have the right size, kind and section",
    "rpm.provides": "the packages provide exactly the version nodes they should",
    "rpm.requires": "a program's package gets its Requires by itself",
    "rpm.transaction": "a transaction accepts and refuses that package where it should",
    "rseq.registered": "the kernel says rseq is registered, or not, for every thread",
    "rseq.tunable": "size, flags and offset follow the tunable",
    "rseq.own": "a program's own registration is refused or accepted as it should be",
    "rseq.critical": "restartable sequences lose no increment",
    "getcpu.migration": "sched_getcpu is right under migration",
    "getcpu.path": "sched_getcpu reads the rseq area when on, and not when off",
    "getcpu.steps": "instructions and system calls per sched_getcpu",
    "getcpu.speed": "time per sched_getcpu, on against off",
    "launch.matrix": "programs start, or are refused, on each release as they should",
    "launch.needs": "refusals are those that the needed symbols foretell",
    "evidence.complete": "every planned question has exactly one answer",
}
GLYPHS = {"PASS": "✓", "WAIVED": "◇", "MISSING": "?", "FAIL": "✗", "ERROR": "!", "NOT JUDGED": "~", "": ""}
#: What a check that must be refused says it expects; such a launch is a negative control.
REFUSAL = re.compile(r"\b(refus\w*|rejected|not start\w*|must not|does not start|not found)\b", re.IGNORECASE)


def release_of(release: str) -> str:
    """The release a target is shown under: a comparison ``A -> B`` under B."""
    return release.rpartition(" -> ")[2]


def order(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """Names once each, the known ones first in their order, others sorted behind them."""
    found = set(names)
    return [n for n in known if n in found] + sorted(found - set(known))


def checks_of(evidence: Evidence) -> list[str]:
    """Every check that has an answer, in the report's order."""
    return order([f.check for f in evidence.findings] + [n.check for n in evidence.not_judged], list(TITLES))


def arches_of(evidence: Evidence) -> list[str]:
    """Architectures that have an answer, in the profile's order."""
    answers = [f.target.arch for f in evidence.findings] + [n.target.arch for n in evidence.not_judged]
    return order(answers, evidence.profile.arches)


def releases_of(evidence: Evidence) -> list[str]:
    """Releases that have an answer, in the profile's order."""
    answers = [f.target.release for f in evidence.findings] + [n.target.release for n in evidence.not_judged]
    return order((release_of(r) for r in answers), evidence.profile.releases)


# --- matrix ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """The answers that meet in one cell: ``word`` is the worst outcome, NOT JUDGED, or "" for none."""

    word: str = ""
    good: int = 0
    total: int = 0
    declined: int = 0

    @property
    def count(self) -> str:
        """``3`` if all are good, ``1/3`` if some are not."""
        return str(self.total) if self.good == self.total else f"{self.good}/{self.total}"

    @property
    def glyph(self) -> str:
        return GLYPHS[self.word]

    @property
    def css(self) -> str:
        return self.word.lower().replace(" ", "-") or "none"

    @property
    def spoken(self) -> str:
        """The cell for those who hear it."""
        if not self.word:
            return "not asked"
        text = f"{self.word}, {self.good} of {self.total} as expected" if self.total else "not judged"
        return text + (f", {self.declined} not judged" if self.declined and self.total else "")


def cell(findings: Sequence[Finding], declined: int) -> Cell:
    """The cell in which these answers meet."""
    if not findings:
        return Cell("NOT JUDGED" if declined else "", declined=declined)
    good = sum(f.outcome.green for f in findings)
    return Cell(worst(f.outcome for f in findings).name, good, len(findings), declined)


@dataclass(frozen=True)
class Where:
    """A column group: the packages themselves, or a place with its kernel."""

    place: str
    kernel: str
    emulation: str = ""

    @property
    def label(self) -> str:
        return self.place or "packages"

    @property
    def note(self) -> str:
        if not self.place:
            return "no program run"
        return self.kernel + (f" ({self.emulation})" if self.emulation else "")


@dataclass(frozen=True)
class Row:
    check: str
    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrix:
    """One architecture: rows are checks, columns are places times releases (places outermost)."""

    arch: str
    wheres: tuple[Where, ...]
    releases: tuple[str, ...]
    rows: tuple[Row, ...]


def place_record(evidence: Evidence, place: str, arch: str, kernel: str = "") -> PlaceRecord | None:
    """The record of a place (on that kernel, if given)."""
    for record in evidence.places:
        if (record.place, record.arch) == (place, arch) and kernel in ("", record.kernel):
            return record
    return None


def wheres_of(evidence: Evidence, arch: str) -> list[Where]:
    """The packages first, then places in the order in which they were recorded, then unrecorded ones."""
    used = {
        (a.place, a.kernel)
        for answers in (evidence.findings, evidence.not_judged)
        for a in answers
        if a.target.arch == arch
    }
    recorded = [(p.place, p.kernel) for p in evidence.places if p.arch == arch]
    keys = [("", "")] + [k for k in recorded if k in used] + sorted(used - set(recorded) - {("", "")})
    made = []
    for place, kernel in keys:
        record = place_record(evidence, place, arch, kernel) if place else None
        made.append(Where(place, kernel, record.emulation if record else ""))
    return made


def matrices(evidence: Evidence, *, by_place: bool = True) -> list[Matrix]:
    """One matrix per architecture; without ``by_place`` all places meet in one column per release."""
    made = []
    releases = releases_of(evidence)
    for arch in arches_of(evidence):
        wheres = wheres_of(evidence, arch) if by_place else [Where("", "")]
        found: dict[tuple[str, str, str, str], list[Finding]] = {}
        declined: dict[tuple[str, str, str, str], int] = {}
        for f in evidence.findings:
            if f.target.arch == arch:
                found.setdefault(_at(f, by_place), []).append(f)
        for n in evidence.not_judged:
            if n.target.arch == arch:
                declined[_at(n, by_place)] = declined.get(_at(n, by_place), 0) + 1
        rows = []
        for check in checks_of(evidence):
            keys = [(check, w.place, w.kernel, r) for w in wheres for r in releases]
            cells = tuple(cell(found.get(k, []), declined.get(k, 0)) for k in keys)
            if any(c.word for c in cells):
                rows.append(Row(check, TITLES.get(check, ""), cells))
        made.append(Matrix(arch, tuple(wheres), tuple(releases), tuple(rows)))
    return made


def _at(answer: Finding | NotJudged, by_place: bool) -> tuple[str, str, str, str]:
    where = (answer.place, answer.kernel) if by_place else ("", "")
    return (answer.check, *where, release_of(answer.target.release))


# --- delta and launches ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Delta:
    """One comparison of one architecture; ``lines`` are what was seen, each with its sign's class."""

    arch: str
    step: str
    finding: Finding
    lines: tuple[tuple[str, str], ...]


SIGNS = {"+": "added", "-": "removed", "~": "changed", "!": "changed"}


def signed_lines(text: str) -> tuple[tuple[str, str], ...]:
    """(class, line) for each line; the class follows the line's sign."""
    return tuple((SIGNS.get(line.strip()[:1], ""), line) for line in text.splitlines())


def deltas(evidence: Evidence) -> list[Delta]:
    """The findings of ``abi.delta``, per architecture in the profile's order of steps."""
    steps = [f"{s.before} -> {s.after}" for s in evidence.profile.steps]
    found = [f for f in evidence.findings if f.check == "abi.delta"]
    names = order((f.target.release for f in found), steps)
    arches = arches_of(evidence)
    found.sort(key=lambda f: (arches.index(f.target.arch), names.index(f.target.release), f.case))
    return [Delta(f.target.arch, f.target.release.replace("->", "→"), f, signed_lines(f.seen)) for f in found]


@dataclass(frozen=True)
class Launch:
    """One program on one release: the answer, and whether it had to be refused."""

    finding: Finding | None
    control: bool

    @property
    def word(self) -> str:
        """What a reader wants to know: ``starts``, ``refused``, or the outcome if it is not as expected."""
        if self.finding is None:
            return "not asked"
        if self.finding.outcome is not Outcome.PASS:
            return self.finding.outcome.name
        return "refused" if self.control else "starts"

    @property
    def css(self) -> str:
        return self.finding.outcome.name.lower() if self.finding else "none"


@dataclass(frozen=True)
class Launches:
    """The launch matrix of one architecture at one place."""

    arch: str
    where: Where
    releases: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Launch, ...]], ...]


def launches(evidence: Evidence) -> list[Launches]:
    """``launch.matrix`` as programs times releases (its case is ``PROGRAM on RELEASE``)."""
    made = []
    for arch in arches_of(evidence):
        for where in wheres_of(evidence, arch):
            table: dict[str, dict[str, Finding]] = {}
            for f in evidence.findings:
                if f.check == "launch.matrix" and (f.target.arch, f.place, f.kernel) == (
                    arch,
                    where.place,
                    where.kernel,
                ):
                    program, _, release = f.case.rpartition(" on ")
                    table.setdefault(program or f.case, {})[release or f.target.release] = f
            if not table:
                continue
            releases = order((r for row in table.values() for r in row), evidence.profile.releases)
            rows = tuple(
                (program, tuple(_launch(row.get(r)) for r in releases)) for program, row in table.items()
            )
            made.append(Launches(arch, where, tuple(releases), rows))
    return made


def _launch(finding: Finding | None) -> Launch:
    return Launch(finding, finding is not None and bool(REFUSAL.search(finding.expected)))


# --- lists -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declined:
    """Questions not judged for one reason, by check, architecture and place."""

    check: str
    arch: str
    place: str
    kernel: str
    reason: str
    releases: tuple[str, ...]
    count: int


def declined(evidence: Evidence) -> list[Declined]:
    """`NotJudged` records, those of one reason together."""
    groups: dict[tuple[str, str, str, str, str], list[NotJudged]] = {}
    for n in evidence.not_judged:
        groups.setdefault((n.check, n.target.arch, n.place, n.kernel, n.reason), []).append(n)
    return [
        Declined(*key, tuple(order((n.target.release for n in items), evidence.profile.releases)), len(items))
        for key, items in groups.items()
    ]


def summary(evidence: Evidence) -> str:
    """The verdict in one sentence."""
    counts = {o: sum(f.outcome is o for f in evidence.findings) for o in Outcome}
    total = len(evidence.findings)
    waived, judged = counts[Outcome.WAIVED], f"{total} answer{'s' if total != 1 else ''}"
    skipped = f"; {len(evidence.not_judged)} more could not be judged here" if evidence.not_judged else ""
    if evidence.verdict is Outcome.PASS:
        return f"All {judged} are as expected{skipped}."
    if evidence.verdict is Outcome.WAIVED:
        return f"All {judged} are as expected, but for {waived} that a person waived{skipped}."
    parts = [f"{counts[o]} {o.name}" for o in sorted(Outcome, reverse=True) if counts[o] and not o.green]
    if not parts:
        return "Nothing was judged, so nothing was shown."
    return f"Of {judged}, {', '.join(parts)}{skipped}."
