"""The whole run: the good releases first, then every entry, side by side in lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.build import workshop
from pipeline.build.builder import Builder
from pipeline.core import paths
from pipeline.core.arch import Arch
from pipeline.core.lanes import Piece, side_by_side
from pipeline.core.progress import step
from pipeline.core.records import Built
from pipeline.knownbad import make
from pipeline.knownbad.entry import Entry
from pipeline.knownbad.judge import Ground, Key, Seen, answered, answers, judge, judge_record, unanswered
from pipeline.profile import Profile
from pipeline.verify.observe import Site


@dataclass(frozen=True)
class Hall:
    """One architecture's part of the museum: the good releases and what builds others."""

    profile: Profile
    machine: Arch
    good: Mapping[str, Built]
    builder: Builder
    sites: Callable[[Arch, Path], Sequence[Site]]

    @property
    def ground(self) -> Ground:
        workplace = self.builder.workplace(self.machine)

        def programs(releases: Mapping[str, Built]) -> Path:
            return workshop.compile_programs(self.profile, self.machine, workplace, releases)

        return Ground(self.profile, self.machine, self.good, programs, self.sites)

    def built(self, entry: Entry) -> dict[str, Built]:
        """The releases that an entry describes, by name."""
        return {release: self._one(entry, self.good[release]) for release in entry.releases_of(self.profile)}

    def _one(self, entry: Entry, good: Built) -> Built:
        if entry.change:
            return make.sourced(entry, self.builder, good, self.machine)
        return make.edited(entry, self.profile, good, self.machine)


@dataclass(frozen=True)
class Base:
    """Good releases: what they have no answer to, the checks that answer, and its evidence as JSON."""

    known: frozenset[Key]
    able: frozenset[str]
    evidence: str


def judge_all(hall: Hall, entries: Sequence[Entry], *, lanes: int, fresh: bool = False) -> list[Seen]:
    """What is seen of each entry, in their order.

    Raises `EvidenceError` if a good release is red: then the bad ones would teach nothing.
    """
    ground = hall.ground
    bases: dict[tuple[str, ...], Base] = {}
    for releases in dict.fromkeys(e.releases_of(hall.profile) for e in entries):
        names = ", ".join(releases)
        with (
            step(f"the good {names} ({hall.machine.name})"),
            paths.logs_at(make.logs_of(f"good-{'-'.join(releases)}")),
        ):
            good = answers(ground, {name: hall.good[name] for name in releases}, fresh=fresh)
            findings = good.findings
            bases[releases] = Base(unanswered(findings), answered(findings), good.text)
    pieces = [Piece(partial(_one, hall, one, bases[one.releases_of(hall.profile)], fresh)) for one in entries]
    return side_by_side(pieces, lanes=lanes)


def _one(hall: Hall, entry: Entry, base: Base, fresh: bool) -> Seen:
    with step(f"{entry.name} ({hall.machine.name})") as at, paths.logs_at(make.logs_of(entry.name)):
        if entry.record:
            said = judge_record(entry, base.evidence)
        else:
            said = judge(entry, hall.ground, partial(hall.built, entry), base.known, base.able, fresh=fresh)
        at.done("as it should be" if said.holds else f"NOT as it should be: {'; '.join(said.remarks)}")
    return said
