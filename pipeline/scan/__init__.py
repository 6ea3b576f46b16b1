"""Scan: on which releases will programs and libraries start, and if not, which symbol is missing where.

Nothing is run: the committed baselines say what each release offers, the files say what they want. What
cannot be read or has no baseline is "unknown", never "starts".
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.abi import derived
from pipeline.abi.baseline import Baseline
from pipeline.abi.traits import DETAILS, PRIVATE_LINE
from pipeline.core.arch import ARCHES
from pipeline.core.errors import EvidenceError, ExitCode
from pipeline.profile import Outline
from pipeline.scan.calls import Wanted, safely
from pipeline.scan.facts import Facts, Kind
from pipeline.scan.inputs import Item, all_items, contents
from pipeline.scan.judge import Answer, Judgement
from pipeline.scan.limits import Limits
from pipeline.scan.loading import Scene
from pipeline.scan.release import Release, offered, ours
from pipeline.scan.requires import Required, required
from pipeline.scan.vendored import Together

#: Files on disk that are read once more to explain why they fail; each costs a pass over its code.
MOST_EXPLAINED = 200


@dataclass(frozen=True)
class Scanned:
    """One file and its judgement for each release, in the releases' order."""

    item: Item
    judgements: dict[str, Judgement]
    #: (name, version) of what is missing -> the functions that use it; without an entry that is unknown
    users: Mapping[Wanted, tuple[str, ...]] = field(default_factory=dict)

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
    requires: tuple[Required, ...] = ()

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
    """What the releases of a profile offer, loaded once. Raises `MalformedInput` for a broken baseline.

    ``present`` are the architectures of which there are files: baselines of others need not be read.
    """

    def __init__(
        self, profile: Outline, releases: Sequence[str], arches: Sequence[str], present: Container[str]
    ) -> None:
        self.names = tuple(releases)
        self.arches = tuple(arches)
        #: releases whose packages were not read, and what their listing is derived from
        self.derived: dict[str, str] = {}
        self._by_arch: dict[str, dict[str, Release]] = {}
        #: architecture -> glibc's own files below a default directory
        self._files: dict[str, frozenset[str]] = {}
        for arch in (a for a in arches if a in present):
            made = derived.all_known(profile, arch)  # all: a DSO that one release lost is still glibc's
            found = {release: offered(x.listings) for release, x in made.items()}
            self.derived |= {
                r: x.provenance.note or x.provenance.origin
                for r, x in made.items()
                if x.provenance.kind == "derived" and r in releases
            }
            own = ours(found)
            self._files[arch] = own | {name for x in made.values() for name in x.listings}
            major, minor = (int(n) for n in profile.glibc.split(".")[:2])
            self._by_arch[arch] = {
                n: Release(n, arch, found.get(n), own, _private(made[n]) if n in made else {}, (major, minor))
                for n in releases
            }

    @property
    def ours(self) -> dict[str, frozenset[str]]:
        """Architecture -> names of glibc's own DSOs."""
        return {arch: next(iter(r.values())).ours for arch, r in self._by_arch.items() if r}

    def releases(self, arch: str) -> list[Release]:
        """The releases that files of an architecture are asked for; without offers if it is unknown."""
        found = self._by_arch.get(arch)
        return list(found.values()) if found else [Release(n, arch, None, frozenset()) for n in self.names]

    def is_glibcs(self, facts: Facts, names: Iterable[str]) -> bool:
        """Whether a library that has these names below default directories is of glibc itself."""
        return facts.kind is Kind.LIBRARY and not self._files.get(facts.arch, frozenset()).isdisjoint(names)

    def not_chosen(self, facts: Facts) -> bool:
        """Whether a file is for an architecture that is known and not asked for."""
        other = facts.arch in ARCHES and facts.arch not in self.arches
        return other and (not facts.alien or bool(facts.own_loader))


def scan(
    profile: Outline,
    releases: Sequence[str],
    arches: Sequence[str],
    paths: Iterable[Path],
    limits: Limits | None = None,
    *,
    with_requires: bool = False,
) -> Scan:
    """Judge every ELF file at ``paths`` for the chosen releases and architectures.

    ``with_requires``: say also what causes each versioned Requires of the RPMs.
    """
    found: list[Item] = []
    roots: list[str] = []
    named = list(paths)
    tops = [_root(path) for path in named]
    for number, item in all_items(named, limits):
        found.append(item)
        roots.append(tops[number])
    asked = {i.facts.arch for i in found if i.facts}
    offers = Offers(profile, releases, arches, asked)
    scene = Scene(found, roots, offers.ours)
    scene.read_exports()
    together = Together(scene, {arch: offers.releases(arch) for arch in asked})
    scanned: list[Scanned] = []
    for number, item in enumerate(found):
        if item.facts is None:
            if not item.silent:
                scanned.append(Scanned(item, _unknown(item, offers.names)))
        elif offers.not_chosen(item.facts):
            reason = f"for {item.facts.arch}, which was not chosen"
            other = Judgement(Answer.NOT_APPLICABLE, reason=reason)
            scanned.append(Scanned(item, dict.fromkeys(offers.names, other)))
        elif offers.is_glibcs(item.facts, scene.trees.below_default(number, item.facts.arch)):
            other = Judgement(Answer.NOT_APPLICABLE, reason="glibc's own: each release has one in its place")
            scanned.append(Scanned(item, dict.fromkeys(offers.names, other)))
        else:
            scanned.append(Scanned(item, together.judgements(number)))
    explained = _with_users(scanned, limits)
    causes = tuple(required(found)) if with_requires else ()
    return Scan(profile.name, tuple(releases), tuple(arches), explained, offers.derived, causes)


def _with_users(scanned: Sequence[Scanned], limits: Limits | None) -> tuple[Scanned, ...]:
    """The same, and for files that fail the functions that use what they miss."""
    asked: dict[str, dict[str, tuple[int, set[Wanted]]]] = {}
    for number, one in enumerate(scanned):
        missing = {
            (m.symbol, m.node) for j in one.judgements.values() if j.answer is Answer.FAILS for m in j.missing
        }
        own = {(i.name, i.version) for i in one.item.facts.imports} if one.item.facts and missing else set()
        if missing & own:
            asked.setdefault(one.item.file, {})[one.item.member] = (number, missing & own)
    answer = list(scanned)
    for file, members in list(asked.items())[:MOST_EXPLAINED]:
        with suppress(EvidenceError, OSError):  # it is only an explanation; what was read has been judged
            for member, binary in contents(file, members.keys(), limits):
                number, wanted = members[member]
                answer[number] = replace(answer[number], users=safely(binary, wanted))
    return tuple(answer)


def _root(path: Path) -> str:
    """``path`` if it is the root of a system, with a usr: absolute search paths lie in it. Else ""."""
    root = os.path.abspath(path) if (path / "usr").is_dir() else ""  # noqa: PTH100  # a link stays one
    return "" if root == "/" else root


def _private(made: Baseline) -> dict[str, frozenset[str]]:
    """DSO -> its private symbols, of a baseline that lists them."""
    return {
        dso: frozenset(x.split()[1] for x in lines if x.startswith(PRIVATE_LINE))
        for dso, lines in made.traits.get(DETAILS, {}).items()
    }


def _unknown(item: Item, releases: Iterable[str]) -> dict[str, Judgement]:
    return {n: Judgement(Answer.UNKNOWN, reason=item.trouble) for n in releases}
