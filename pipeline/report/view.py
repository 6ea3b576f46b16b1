"""What all renderings of a sign-off show, worked out once: matrices, deltas, launches, steps, speeds.

Nothing here decides anything: outcomes are read from evidence, and a cell shows the worst of its answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.core.outcome import Finding, NotJudged, Outcome, worst
from pipeline.signoff.records import Evidence, PlaceRecord

#: The check whose answers make the launch matrix.
LAUNCHES = "launch.matrix"
GLYPHS = {"PASS": "✓", "WAIVED": "◇", "MISSING": "?", "FAIL": "✗", "ERROR": "!", "NOT JUDGED": "~", "": ""}


def answers_of(evidence: Evidence) -> list[Finding | NotJudged]:
    """Findings, then what was not judged."""
    return [*evidence.findings, *evidence.not_judged]


def release_of(release: str) -> str:
    """The release a target is shown under: a comparison ``A -> B`` under B."""
    return release.rpartition(" -> ")[2]


def order(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """Names once each, the known ones first in their order, others sorted behind them."""
    found = set(names)
    return [n for n in known if n in found] + sorted(found - set(known))


def checks_of(evidence: Evidence) -> list[str]:
    """Every check that has an answer, in the report's order."""
    return order(
        [f.check for f in evidence.findings] + [n.check for n in evidence.not_judged], list(evidence.declared)
    )


def question_of(evidence: Evidence, check: str) -> str:
    """What a check asks; "" for one that the evidence does not declare."""
    declared = evidence.declared.get(check)
    return declared.question if declared else ""


def arches_of(evidence: Evidence) -> list[str]:
    """Architectures that have an answer, in the profile's order."""
    return order((a.target.arch for a in answers_of(evidence)), evidence.profile.arches)


def releases_of(evidence: Evidence) -> list[str]:
    """Releases that have an answer, in the profile's order."""
    return order((release_of(a.target.release) for a in answers_of(evidence)), evidence.profile.releases)


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
    """Rows are checks; columns are groups (label, note), each with every release."""

    title: str
    groups: tuple[tuple[str, str], ...]
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
    used = {(a.place, a.kernel) for a in answers_of(evidence) if a.target.arch == arch}
    recorded = [(p.place, p.kernel) for p in evidence.places if p.arch == arch]
    keys = [("", "")] + [k for k in recorded if k in used] + sorted(used - set(recorded) - {("", "")})
    made = []
    for place, kernel in keys:
        record = place_record(evidence, place, arch, kernel) if place else None
        made.append(Where(place, kernel, record.emulation if record else ""))
    return made


def by_place(evidence: Evidence) -> list[Matrix]:
    """What needs no running program with a group per architecture; then, for each, a group per place."""
    arches = arches_of(evidence)
    packages = [(arches.index(a.target.arch), a) for a in answers_of(evidence) if not a.place]
    made = [_matrix(evidence, "Packages", [(a, "") for a in arches], packages)]
    for arch in arches:
        wheres = [w for w in wheres_of(evidence, arch) if w.place]
        keys = [(w.place, w.kernel) for w in wheres]
        observed = [
            (keys.index((a.place, a.kernel)), a)
            for a in answers_of(evidence)
            if a.place and a.target.arch == arch
        ]
        groups = [(w.label, w.note) for w in wheres]
        made.append(_matrix(evidence, f"Running programs on {arch}", groups, observed))
    return [m for m in made if m.rows]


def by_arch(evidence: Evidence) -> list[Matrix]:
    """One matrix per architecture; all places meet in one column per release."""
    return [
        _matrix(evidence, arch, [("", "")], [(0, a) for a in answers_of(evidence) if a.target.arch == arch])
        for arch in arches_of(evidence)
    ]


def _matrix(
    evidence: Evidence,
    title: str,
    groups: Sequence[tuple[str, str]],
    answers: Sequence[tuple[int, Finding | NotJudged]],
) -> Matrix:
    """A matrix of answers, each with the index of its group."""
    releases = releases_of(evidence)
    found: dict[tuple[str, int, str], list[Finding]] = {}
    declined: Counter[tuple[str, int, str]] = Counter()
    for group, answer in answers:
        key = (answer.check, group, release_of(answer.target.release))
        if isinstance(answer, Finding):
            found.setdefault(key, []).append(answer)
        else:
            declined[key] += 1
    rows = []
    for check in checks_of(evidence):
        keys = [(check, g, r) for g in range(len(groups)) for r in releases]
        cells = tuple(cell(found.get(k, []), declined[k]) for k in keys)
        if any(c.word for c in cells):
            rows.append(Row(check, question_of(evidence, check), cells))
    return Matrix(title, tuple(groups), tuple(releases), tuple(rows))


# --- launches --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Launch:
    """One program on one release: the answer, if it was asked."""

    finding: Finding | None

    @property
    def control(self) -> bool:
        """Whether it had to be refused."""
        return self.finding is not None and self.finding.control

    @property
    def word(self) -> str:
        """``starts`` or ``refused``; the outcome if it is not as expected; "" if it was not asked."""
        if self.finding is None:
            return ""
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
    """Programs times releases: the answers of `LAUNCHES` about one program each."""
    made = []
    for arch in arches_of(evidence):
        for where in wheres_of(evidence, arch):
            table: dict[str, dict[str, Finding]] = {}
            for f in evidence.findings:
                here = (f.target.arch, f.place, f.kernel) == (arch, where.place, where.kernel)
                if here and f.check == LAUNCHES and "program" in f.facets:
                    state = f.facets.get("tunable")
                    program = f.facets["program"] + (f", tunable {state}" if state else "")
                    table.setdefault(program, {})[f.target.release] = f
            if not table:
                continue
            releases = order((r for row in table.values() for r in row), evidence.profile.releases)
            rows = tuple(
                (program, tuple(Launch(row.get(r)) for r in releases)) for program, row in table.items()
            )
            made.append(Launches(arch, where, tuple(releases), rows))
    return made


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


def differences(evidence: Evidence) -> tuple[str, ...]:
    """What the vendor's build has and one of the profile has not; none if no build here was made by us."""
    made = any(b.mode != "supplied" for b in evidence.builds)
    return evidence.profile.differences if made else ()


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
