"""What the ABI checks share: a release's listings, as built or as committed, and how an answer is put."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from pipeline.abi import baseline
from pipeline.abi.delta import SymbolChange, parse_changes
from pipeline.abi.files import ElfFile
from pipeline.abi.listing import Listing
from pipeline.abi.reading import Reading
from pipeline.check import Material, StaticCheck
from pipeline.check.rule import outcome_of, words_of
from pipeline.core import paths
from pipeline.core.errors import EvidenceError, PipelineError, UsageError
from pipeline.core.outcome import Finding, Outcome, Question, Target
from pipeline.core.words import several
from pipeline.profile import for_arch

#: Lines of a difference that a finding shows; a digest of all of them stands for the rest.
SHOWN = 60


@dataclass(frozen=True)
class Fact:
    """The answer to one question, without the question."""

    outcome: Outcome
    expected: str
    seen: str
    evidence: tuple[str, ...] = ()
    measures: dict[str, Any] = field(default_factory=dict)


def answered(question: Question, expected: str, ask: Callable[[], Fact]) -> Finding:
    """The finding of one question. What cannot be read is an ERROR of this question and spoils no other."""
    try:
        answer = ask()
    except (PipelineError, OSError) as e:
        answer = Fact(outcome_of(e), expected, words_of(e))
    return Finding(
        **question.model_dump(),
        outcome=answer.outcome,
        expected=answer.expected,
        seen=answer.seen,
        evidence=answer.evidence,
        measures=answer.measures,
    )


class EachRelease(StaticCheck, ABC):
    """One question about each release; ``about`` is what is expected where it cannot be answered."""

    about: ClassVar[str]

    @abstractmethod
    def ask(self, material: Material, release: str) -> Fact:
        """The answer; raises as `answered` says."""

    def questions(self, material: Material) -> list[Question]:
        return material.each(self.name)

    def run(self, material: Material) -> list[Finding]:
        return [
            answered(question, self.about, partial(self.ask, material, question.target.release))
            for question in self.questions(material)
        ]


def changes(material: Material, lines: Sequence[str]) -> frozenset[SymbolChange]:
    """Symbol lines of the profile for one architecture; raises `UsageError` naming a wrong one."""
    try:
        return parse_changes(for_arch(list(lines), material.arch))
    except ValueError as e:
        raise UsageError(
            f"profile {material.profile.name}: {e}", hint="fix the line; sizes belong to data alone"
        ) from None


def shown(lines: Collection[str]) -> str:
    """The lines, cut to `SHOWN`; what is cut still tells one cause from another by its digest."""
    return several(lines, SHOWN, separator="\n")


def built_listings(material: Material, release: str) -> dict[str, Listing]:
    """The listings of a built release. Raises `EvidenceError` if it has no DSO, `MalformedInput`."""
    found = material.listings(release)
    if not found:
        raise EvidenceError(
            f"{material.target(release)} has no DSO", hint="the packages are empty; build the release again"
        )
    return found


def built_reading(material: Material, release: str) -> Reading:
    """What is read of a built release. Raises `EvidenceError` if it has no ELF file, `MalformedInput`."""
    found = material.reading(release)
    if not found.paths:
        raise EvidenceError(
            f"{material.target(release)} has no ELF file",
            hint="the packages are empty; build the release again",
        )
    return found


def built_files(material: Material, release: str) -> dict[str, ElfFile]:
    """Every ELF file of a built release by path. Raises `EvidenceError` (none), `MalformedInput`."""
    return built_reading(material, release).files


@dataclass(frozen=True)
class Reference:
    """What a later release is compared with: its listings, what they are in words, where they are committed.

    ``evidence`` is empty if they are those of a build.
    """

    listings: Mapping[str, Listing]
    words: str
    evidence: tuple[str, ...] = ()


def reference(material: Material, release: str) -> Reference | None:
    """The baseline of a release, else its build, else None. Raises `MalformedInput`, `EvidenceError`."""
    found = material.committed(release)
    if found is not None:
        path = baseline_path(material.target(release))
        return Reference(found.listings, f"the baseline of {release}", (path,))
    if release in material.built:
        words = f"the built {release}, for which no baseline is committed"
        return Reference(built_listings(material, release), words)
    return None


def baseline_path(target: Target) -> str:
    """The baseline's directory as evidence: relative to the repository."""
    return str(baseline.directory_of(target).relative_to(paths.BASELINES.parent))


def remedy(target: Target) -> str:
    """The command that makes the baseline of a target."""
    return (
        f"`nox -s baseline -- --profile {target.profile} --release {target.release} --arch {target.arch}` "
        "makes it"
    )


def counts(found: Mapping[str, Listing]) -> dict[str, Any]:
    """Symbols per DSO as measures; the modules of a directory are counted together."""
    symbols: Counter[str] = Counter()
    for name, listing in found.items():
        directory, slash, _ = name.partition("/")
        symbols[f"{directory}/*_symbols" if slash else f"{name}_symbols"] += listing.count
    return {"dsos": len(found), **dict(sorted(symbols.items()))}
