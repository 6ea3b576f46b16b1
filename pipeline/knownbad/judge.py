"""What the checks say of an entry: verify's own path over a release that was made wrong.

A check is red if it gives any answer that is not green where the good release's is. What the good release
lacks too (glibc's own tests that were not run) says nothing of an entry.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.check import registry
from pipeline.core.arch import Arch
from pipeline.core.errors import EvidenceError, MalformedInput, PipelineError, UsageError, WorldError
from pipeline.core.outcome import Finding, Outcome, Target
from pipeline.core.records import Built
from pipeline.knownbad.entry import REFUSED, Entry, Record
from pipeline.profile import Profile
from pipeline.signoff import document
from pipeline.signoff.records import Evidence
from pipeline.verify.observe import Site
from pipeline.verify.run_checks import verify

#: check, target, case, place and kernel of a finding.
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Ground:
    """What entries are judged on: the good releases of one architecture, and the places.

    ``programs`` compiles the probes for a set of releases; ``sites`` says where they run.
    """

    profile: Profile
    machine: Arch
    good: Mapping[str, Built]
    programs: Callable[[Mapping[str, Built]], Path]
    sites: Callable[[Arch, Path], Sequence[Site]]


@dataclass(frozen=True)
class Seen:
    """What was seen: check -> what it said first. ``known``: questions the good release does not answer.

    ``trouble``: why nothing could be judged (the world's fault, not the entry's); "" if it was.
    """

    name: str
    expected: tuple[str, ...]
    seen: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    trouble: str = ""
    note: str = ""

    @property
    def missed(self) -> tuple[str, ...]:
        """Checks that should be red and are not."""
        return tuple(c for c in self.expected if c not in self.seen)

    @property
    def more(self) -> tuple[str, ...]:
        """Checks that are red and should not be."""
        return tuple(sorted(c for c in self.seen if c not in self.expected))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is not as it should be, a line each."""
        missed = [f"missed: {check}" for check in self.missed]
        more = [f"more: {check}: {self.seen[check]}"[:160] for check in self.more]
        return (*missed, *more, *([self.trouble] if self.trouble else []))

    @property
    def holds(self) -> bool:
        return not (self.missed or self.more or self.trouble)


def known_checks() -> frozenset[str]:
    """The names of all checks, and `REFUSED`."""
    return frozenset({*(c.name for c in registry.STATIC), *(c.name for c in registry.WATCHED), REFUSED})


def answers(ground: Ground, made: Mapping[str, Built], *, fresh: bool = False) -> Evidence:
    """Every finding about the releases ``made``, in the places of the good ones. Raises as `verify`."""
    releases = {**ground.good, **made}
    releases = {r.name: releases[r.name] for r in ground.profile.release}
    machine = ground.machine.name
    return verify(
        ground.profile,
        [Target(profile=ground.profile.name, release=release, arch=machine) for release in made],
        {ground.machine.name: releases},
        programs=lambda _: ground.programs(releases),
        sites=ground.sites,
        static=registry.STATIC,
        watched=registry.WATCHED,
        command="nox -s known-bad",
        narrow=True,
        fresh=fresh,
    )


def unanswered(findings: Sequence[Finding]) -> frozenset[Key]:
    """What a good release has no answer to. Raises `EvidenceError` if it is red."""
    red = [f for f in findings if f.outcome in (Outcome.FAIL, Outcome.ERROR)]
    if red:
        words = "; ".join(dict.fromkeys(f"{f.check} ({f.target.release}): {f.seen[:200]}" for f in red))
        raise EvidenceError(
            f"a good release is red, so nothing can be learned from bad ones: {words}",
            hint="`nox -s verify` shows it whole; fix that first",
        )
    return frozenset(f.key for f in findings if not f.outcome.green)


def answered(findings: Sequence[Finding]) -> frozenset[str]:
    """The checks that a good release has a green answer of: no other can tell it from a bad one."""
    return frozenset(f.check for f in findings if f.outcome.green)


def expected_here(expected: tuple[str, ...], able: frozenset[str]) -> tuple[tuple[str, ...], str]:
    """The checks that must be red, and a remark on those that answer nothing here (no baseline, no place).

    Of what is expected at least one must be able to see it: else all stay, and are missed.
    """
    here = tuple(c for c in expected if c in able or c == REFUSED)
    unable = [c for c in expected if c not in here]
    if not here:
        return expected, ""
    return here, f"not asked of the good release: {', '.join(unable)}" if unable else ""


def red(findings: Sequence[Finding], known: frozenset[Key]) -> dict[str, str]:
    """Check -> what it said, of each check with an answer that is not green and not in ``known``."""
    seen: dict[str, str] = {}
    for finding in findings:
        if not finding.outcome.green and finding.key not in known:
            where = f" [{finding.case}]" if finding.case else ""
            seen.setdefault(finding.check, f"{finding.outcome.name}{where}: {finding.seen}")
    return seen


def judge_record(entry: Entry, evidence: str) -> Seen:
    """Change a good run's evidence as the entry says; reading it must be refused."""
    start = time.monotonic()
    seen, trouble = {}, ""
    try:
        data = json.loads(evidence)
        for record in entry.record:
            _change(data, record.at.split("."), record)
        document.parse(json.dumps(data).encode(), entry.name)
    except MalformedInput as e:
        seen = {REFUSED: e.message}
    except (KeyError, IndexError, TypeError, ValueError) as e:
        trouble = f"the evidence has nothing there: {e!r}"
    return Seen(entry.name, entry.expect, seen, time.monotonic() - start, trouble)


def _change(data: Any, steps: Sequence[str], record: Record) -> None:
    step, rest = steps[0], steps[1:]
    if step == "*":
        for element in data:
            _change(element, rest, record)
        return
    key: Any = int(step) if isinstance(data, list) else step
    if rest:
        _change(data[key], rest, record)
    elif record.drop:
        del data[key]
    else:
        data[key]  # it must be there
        data[key] = record.value


def judge(
    entry: Entry,
    ground: Ground,
    make: Callable[[], Mapping[str, Built]],
    known: frozenset[Key],
    able: frozenset[str],
    *,
    fresh: bool = False,
) -> Seen:
    """Make the entry's releases and ask every check. Never raises what an entry can be at fault for."""
    start = time.monotonic()
    seen, trouble = {}, ""
    expected, note = expected_here(entry.expected_on(ground.machine), able)
    try:
        seen = red(answers(ground, make(), fresh=fresh).findings, known)
    except EvidenceError as e:  # what is judged cannot be read: verify ends with this
        seen = {REFUSED: e.message}
    except (UsageError, WorldError, PipelineError) as e:
        trouble = e.explained
    return Seen(entry.name, expected, seen, time.monotonic() - start, trouble, note)
