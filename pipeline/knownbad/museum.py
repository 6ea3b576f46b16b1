"""The whole run: the good releases first, then every entry, side by side in lanes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.build import workshop
from pipeline.build.builder import Builder
from pipeline.core import paths
from pipeline.core.arch import Arch
from pipeline.core.lanes import Piece, side_by_side
from pipeline.core.progress import step
from pipeline.core.records import Built
from pipeline.knownbad import make
from pipeline.knownbad.entry import Entry
from pipeline.knownbad.judge import Ground, Judgement, Key, answers, judge, unanswered
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

    def built(self, entry: Entry) -> Built:
        """The release that an entry describes."""
        release = entry.release_of(self.profile)
        if entry.change:
            return make.sourced(entry, self.builder, release, self.machine)
        return make.edited(entry, self.profile, self.good[release], self.machine)


def judge_all(hall: Hall, entries: Sequence[Entry], *, lanes: int, fresh: bool = False) -> list[Judgement]:
    """What is seen of each entry, in their order.

    Raises `EvidenceError` if a good release is red: then the bad ones would teach nothing.
    """
    ground = hall.ground
    known: dict[str, frozenset[Key]] = {}
    for release in dict.fromkeys(e.release_of(hall.profile) for e in entries):
        with (
            step(f"the good {release} ({hall.machine.name})"),
            paths.logs_at(make.logs_of(f"good-{release}")),
        ):
            known[release] = unanswered(answers(ground, release, hall.good[release], fresh=fresh))
    with tempfile.TemporaryDirectory(prefix="known-bad-") as work:
        pieces = [
            Piece(partial(_one, hall, e, known[e.release_of(hall.profile)], Path(work), fresh))
            for e in entries
        ]
        side_by_side(pieces, lanes=lanes)
        return [_read(Path(work) / f"{e.name}.json") for e in entries]


def _one(hall: Hall, entry: Entry, known: frozenset[Key], work: Path, fresh: bool) -> None:
    with step(f"{entry.name} ({hall.machine.name})") as at, paths.logs_at(make.logs_of(entry.name)):
        said = judge(entry, hall.ground, partial(hall.built, entry), known, fresh=fresh)
        at.done("as it should be" if said.holds else "NOT as it should be")
    (work / f"{entry.name}.json").write_text(json.dumps(asdict(said)))


def _read(path: Path) -> Judgement:
    data: dict[str, Any] = json.loads(path.read_text())
    return Judgement(**{**data, "expected": tuple(data["expected"])})
