"""Scan: on which releases will programs and libraries start, and if not, which symbol is missing where.

Nothing is run: the committed baselines say what each release offers, the files say what they want. What
cannot be read or has no baseline is "unknown", never "starts".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.abi import derived
from pipeline.core.arch import ARCHES
from pipeline.core.errors import ExitCode
from pipeline.profile import Outline
from pipeline.scan.archives import Limits
from pipeline.scan.facts import Facts
from pipeline.scan.inputs import Item, items
from pipeline.scan.judge import Answer, Judgement, Release, judge, offered, ours
from pipeline.scan.vendored import with_companions


@dataclass(frozen=True)
class Scanned:
    """One file and its judgement for each release, in the releases' order."""

    item: Item
    judgements: dict[str, Judgement]

    @property
    def answers(self) -> frozenset[Answer]:
        return frozenset(j.answer for j in self.judgements.values())


@dataclass(frozen=True)
class Scan:
    """All files. ``releases`` are the chosen ones; ``derived`` are those of which no package was read, with
    what their listing is derived from."""

    profile: str
    releases: tuple[str, ...]
    arches: tuple[str, ...]
    files: tuple[Scanned, ...]
    derived: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> ExitCode:
        """1 if anything fails; else 3 if anything is unknown or nothing was judged at all; else 0."""
        answers = {a for f in self.files for a in f.answers}
        if Answer.FAILS in answers:
            return ExitCode.FAILED
        if Answer.UNKNOWN in answers or Answer.STARTS not in answers:
            return ExitCode.MISSING
        return ExitCode.PASS


class Offers:
    """What the releases of a profile offer, loaded once. Raises `MalformedInput` for a broken baseline."""

    def __init__(self, profile: Outline, releases: Sequence[str], arches: Sequence[str]) -> None:
        self.names = tuple(releases)
        self.arches = tuple(arches)
        #: releases whose packages were not read, and what their listing is derived from
        self.derived: dict[str, str] = {}
        self._by_arch: dict[str, dict[str, Release]] = {}
        for arch in arches:
            made = derived.all_known(profile, arch)  # all: a DSO that one release lost is still glibc's
            found = {release: offered(x.listings) for release, x in made.items()}
            self.derived |= {
                r: x.provenance.origin
                for r, x in made.items()
                if x.provenance.kind == "derived" and r in releases
            }
            own = ours(found)
            self._by_arch[arch] = {n: Release(n, arch, found.get(n), own) for n in releases}

    def judge(self, facts: Facts) -> dict[str, Judgement]:
        """The judgement of one file for each release."""
        if facts.arch in ARCHES and facts.arch not in self._by_arch and not facts.alien:
            reason = f"for {facts.arch}, which was not chosen"
            return {n: Judgement(Answer.NOT_APPLICABLE, reason=reason) for n in self.names}
        releases = self._by_arch.get(facts.arch)
        return {
            n: judge(facts, releases[n] if releases else Release(n, facts.arch, None, frozenset()))
            for n in self.names
        }


def scan(
    profile: Outline,
    releases: Sequence[str],
    arches: Sequence[str],
    paths: Iterable[Path],
    limits: Limits | None = None,
) -> Scan:
    """Judge every ELF file at ``paths`` for the chosen releases and architectures."""
    offers = Offers(profile, releases, arches)
    scanned: list[Scanned] = []
    for path in paths:
        found = [
            Scanned(item, offers.judge(item.facts) if item.facts else _unknown(item, offers.names))
            for item in items(path, limits)
        ]
        together = with_companions([(s.item, s.judgements) for s in found])
        scanned += [Scanned(s.item, judgements) for s, judgements in zip(found, together, strict=True)]
    return Scan(profile.name, tuple(releases), tuple(arches), tuple(scanned), offers.derived)


def _unknown(item: Item, releases: Iterable[str]) -> dict[str, Judgement]:
    return {n: Judgement(Answer.UNKNOWN, reason=item.trouble) for n in releases}
