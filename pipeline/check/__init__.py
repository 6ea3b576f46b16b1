"""Checks: named questions about targets. Each says what it will ask before it asks.

A check plans its questions (`Question`), the jobs it needs on a place, and judges what came back. Every
planned question gets a finding: one that the check did not answer is MISSING (`evidence.complete`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pipeline.abi import baseline
from pipeline.abi.baseline import Baseline
from pipeline.abi.files import ElfFile
from pipeline.abi.listing import Listing
from pipeline.abi.reading import Reading
from pipeline.build.workshop import Fault
from pipeline.core.arch import Arch
from pipeline.core.declaration import Declaration
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question, Target
from pipeline.core.records import Built
from pipeline.place import BatchResult, Job
from pipeline.profile import Profile, Step

#: The tunable's three states, each a case of every check that runs a program. None: not set.
TUNABLE_STATES: tuple[int | None, ...] = (None, 0, 1)


def tunable_case(state: int | None) -> str:
    """``tunable unset``, ``tunable=0``, ``tunable=1``."""
    return "tunable unset" if state is None else f"tunable={state}"


def tunable_facet(state: int | None) -> str:
    """``unset``, ``0``, ``1``: the value of the facet ``tunable``."""
    return "unset" if state is None else str(state)


def tunable_env(tunable: str, state: int | None) -> dict[str, str]:
    """The whole environment of a job in that state of the tunable."""
    return {} if state is None else {"GLIBC_TUNABLES": f"{tunable}={state}"}


@dataclass(frozen=True)
class Material:
    """What the checks of one architecture are given; nothing else is looked up.

    ``built`` maps release names (in the profile's order) to what was built; ``programs`` is the directory
    of the compiled probe programs (`pipeline.build.workshop`), laid over every root at ``/probes``.
    """

    profile: Profile
    arch: Arch
    built: Mapping[str, Built]
    programs: Path
    #: the programs that the packages of a release do not let compile
    faults: Mapping[str, Fault] = field(default_factory=dict)
    #: the releases that are asked about, None for all; the others are there to be compared with
    asked: frozenset[str] | None = None
    _readings: dict[str, Reading] = field(default_factory=dict, init=False, repr=False, compare=False)
    _committed: dict[str, Baseline | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which reads files itself."""
        return {**self.__dict__, "_readings": {}, "_committed": {}}

    def reading(self, release: str) -> Reading:
        """What is read of the ELF files of a built release, once for all checks."""
        if release not in self._readings:
            self._readings[release] = Reading(self.built[release].root)
        return self._readings[release]

    def files(self, release: str) -> dict[str, ElfFile]:
        """Every ELF file of a built release by path; raises `MalformedInput`."""
        return self.reading(release).files

    def listings(self, release: str) -> dict[str, Listing]:
        """Every DSO of a built release; raises `MalformedInput`."""
        return self.reading(release).listings

    def committed(self, release: str) -> Baseline | None:
        """The committed baseline of a release, read once for all checks; raises `MalformedInput`."""
        if release not in self._committed:
            self._committed[release] = baseline.load_target(self.target(release))
        return self._committed[release]

    def not_compiled(self, *programs: str) -> tuple[Outcome, str] | None:
        """Outcome and words for what needs ``programs`` if one of them could not be compiled, else None.

        FAIL: the packages are at fault. MISSING: they came from elsewhere without the package that has
        headers, or libc.a. Names may be paths in a place.
        """
        for name in programs:
            fault = self.faults.get(name.rpartition("/")[2])
            if fault is None:
                continue
            if fault.absent and self.built[fault.release].manifest.mode == "supplied":
                words = f"was not compiled: {fault.absent} is not among the packages of {fault.release}"
                return Outcome.MISSING, f"{fault.program} {words}"
            words = f"does not compile or link against the packages of {fault.release}: {fault.words}"
            return Outcome.FAIL, f"{fault.program} {words}"
        return None

    def asks(self, release: str) -> bool:
        """Whether checks are to answer about a release."""
        return self.asked is None or release in self.asked

    def each(self, check: str) -> list[Question]:
        """A check's question about each release that is asked about."""
        return [Question(check=check, target=self.target(r)) for r in self.built if self.asks(r)]

    def steps(self, check: str, *, both: bool = True) -> list[tuple[Step, Question]]:
        """The profile's steps with built releases (not ``both``: the later one), with a check's question."""
        return [
            (step, Question(check=check, target=self.target(f"{step.before} -> {step.after}")))
            for step in self.profile.step
            if step.after in self.built and self.asks(step.after)
            if not both or step.before in self.built
        ]

    def lacks(self, program: str) -> bool:
        """Whether the workshop made no such program (a name, or a path at a place): there was no libc.a."""
        return not (self.programs / program.rpartition("/")[2]).exists()

    def target(self, release: str) -> Target:
        return Target(profile=self.profile.name, release=release, arch=self.arch.name)


class Check:
    """Base of all checks: one declaration, from which everything else about a check is made."""

    declared: ClassVar[Declaration]

    @property
    def name(self) -> str:
        return self.declared.name


class StaticCheck(Check, ABC):
    """A check that needs no running program: it reads RPMs, ELF files and baselines."""

    @abstractmethod
    def questions(self, material: Material) -> list[Question]: ...

    @abstractmethod
    def run(self, material: Material) -> list[Finding]: ...


class PlaceCheck(Check, ABC):
    """A check that watches programs run: it names its jobs and judges what came back.

    Job ids begin with the check's name and a slash. ``judge`` must cope with absent results (MISSING) and
    with a place that cannot answer by its nature (`NotJudged`). ``place`` is
    the place's name; questions are planned before it has come up.
    """

    @abstractmethod
    def questions(self, material: Material, place: str) -> list[Question]: ...

    @abstractmethod
    def jobs(self, material: Material) -> list[Job]: ...

    @abstractmethod
    def judge(self, material: Material, place: str, batch: BatchResult) -> list[Finding | NotJudged]: ...
