"""Programs made with each release's own headers, start files and archives, and then started on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.check import TUNABLE_STATES, Material, PlaceCheck
from pipeline.check.probing import (
    CANNOT,
    PROBES,
    Answers,
    Case,
    ProbeCheck,
    Unanswered,
    Verdict,
    need_static,
    verdict,
)
from pipeline.core.declaration import Declaration, Need, Scope
from pipeline.core.outcome import Outcome
from pipeline.place import PlaceFacts

#: Ways of linking; the workshop makes a program of each for each release.
KINDS = ("pie", "no-pie", "static", "static-pie")
#: What `probes/devel/link.c` prints: .preinit_array, a constructor, main, the fork handler, the end.
PRINTS: Sequence[dict[str, Any]] = (
    {"quick": True},
    {"joined": True, "child": 7, "root": 1.414214, "clock": 0, "error": "Resolver Error 0 (no error)",
     "aio": 0},
    {"order": "pcmfe"},
)  # fmt: skip
#: How often `probes/devel/profiled.c` calls its function.
CALLS = 1234


@dataclass(frozen=True)
class MadeWith(Case):
    """A program made with a release in one of the `KINDS`."""

    kind: str
    #: whether its answer depends on the tunable
    tuned: bool = True

    @property
    def name(self) -> str:
        return f"{self.kind}, {super().name}" if self.tuned else self.kind


class _EachKind(ProbeCheck):
    """One program a release and kind; ``source`` begins its name."""

    source: ClassVar[str]

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:  # noqa: ARG002
        assert isinstance(case, MadeWith)
        return (f"{PROBES}/{self.source}-{case.kind}-{case.release.name}",)

    def said(self, material: Material, case: Case, answers: Answers) -> list[dict[str, Any]]:
        """What the program printed; raises `Unanswered`, also if there was nothing to link it with."""
        name = self.argv(material, case)[-1].rpartition("/")[2]
        assert isinstance(case, MadeWith)
        if case.kind.startswith("static"):
            need_static(material, case.release.name, name)
        result = answers.batch.results.get(case.job(self.name))
        if result is None or result.error or result.timed_out or result.status in (0, CANNOT):
            return answers.lines(case.job(self.name))
        words = result.stderr.decode(errors="replace").strip()[-300:]
        raise Unanswered(Outcome.FAIL, f"the program ended with {result.ending()}: {words}")


class CriticalSection(_EachKind):
    """A critical section written with nothing but <sys/rseq.h>, which the kernel must abort."""

    declared = Declaration(
        name="devel.rseq",
        question=(
            "Does a program made with a release's own `<sys/rseq.h>` find its area, and does the kernel "
            "abort its critical section?"
        ),
        needs=(Need.RSEQ,),
        scope=Scope.LATER,
    )
    source = "section"

    def cases(self, material: Material) -> Sequence[Case]:
        exporting = [material.profile.get(r) for r in material.built if material.profile.get(r).exports_rseq]
        return [MadeWith(r, state, kind) for r in exporting for kind in KINDS for state in TUNABLE_STATES]

    def asks(self, case: Case) -> str:
        whose = "glibc's area" if case.on else "an area of its own"
        return f"a section through {whose}, as <sys/rseq.h> declares it, is aborted"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        lines = self.said(material, case, answers)
        if len(lines) != 1:
            raise Unanswered(Outcome.ERROR, f"{len(lines)} answers to one question")
        said = lines[0]
        size = material.profile.rseq.size_on if case.on else 0
        wanted = {"area": "libc" if case.on else "own", "size": size, "flags": 0}
        faults = [f"{k} is {said[k]!r}, not {v!r}" for k, v in wanted.items() if said[k] != v]
        if said["cpu"] < 0:
            faults.append(f"cpu_id of the area is {said['cpu']}")
        if said["aborted"] != 1:
            faults.append("the section ended by itself: the kernel did not see it")
        return verdict(self.asks(case), f"aborted, size {said['size']}", faults)


class Linking(_EachKind):
    """A program that uses what start files, linker scripts and libc_nonshared.a are for."""

    declared = Declaration(
        name="devel.link",
        question="Do programs linked in every way with a release's own start files and archives work on it?",
    )
    source = "link"
    kinds: ClassVar[tuple[str, ...]] = KINDS

    def cases(self, material: Material) -> Sequence[Case]:
        releases = [material.profile.get(r) for r in material.built]
        return [MadeWith(r, None, kind, tuned=False) for r in releases for kind in self.kinds]

    def asks(self, case: Case) -> str:  # noqa: ARG002
        what = "constructors, threads, handlers and one symbol of each library"
        return f"{what} work, in order; headers and library are of the right version"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        lines = self.said(material, case, answers)
        # a backport brings symbols, and no other version: programs ask for it (__GLIBC_PREREQ)
        version = material.profile.glibc
        wanted = [*PRINTS, {"made_for": version, "version": version}]
        faults = [f"it printed {line}" for line in lines if line not in wanted]
        faults += [f"it did not print {line}" for line in wanted if line not in lines]
        return verdict(self.asks(case), "all in order", faults)


class Profiled(_EachKind):
    """A program compiled with ``-pg``: its start files are linked into nothing else."""

    declared = Declaration(
        name="devel.profiling",
        question="Do programs made for profiling (`-pg`) with a release's own files leave a whole profile?",
        when="glibc is 2.36 or later",
    )
    source = "profiled"
    #: glibc's first release that is asked: of 2.34's profiles none counted a call (seen in all ways of
    #: linking; why is not known).
    since: ClassVar[tuple[int, int]] = (2, 36)

    def refused(self, facts: PlaceFacts) -> str:
        if facts.emulation == "user":
            return "under user-mode QEMU there is no directory that a program may write to"
        return super().refused(facts)

    def cases(self, material: Material) -> Sequence[Case]:
        if material.profile.version < self.since:
            return []
        releases = [material.profile.get(r) for r in material.built]
        return [MadeWith(r, None, kind, tuned=False) for r in releases for kind in KINDS]

    def asks(self, case: Case) -> str:  # noqa: ARG002
        return f"gmon.out counts {CALLS} calls of a function, and covers the text to its end"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        lines = self.said(material, case, answers)
        if len(lines) != 1:
            raise Unanswered(Outcome.ERROR, f"{len(lines)} answers to one question")
        wanted = {
            "status": 0, "magic": "gmon", "version": 1, "calls": CALLS, "covered": True, "ends": True
        }  # fmt: skip
        faults = [f"{k} is {lines[0].get(k)!r}, not {v!r}" for k, v in wanted.items() if lines[0].get(k) != v]
        return verdict(self.asks(case), f"{CALLS} calls, the text covered", faults)


class AsUser(Linking):
    """The same programs started by a user who owns nothing: what only root may read or search shows here."""

    declared = Declaration(
        name="launch.user",
        question="Do programs start and work as an ordinary user, too, not only as root?",
    )
    kinds = ("pie", "no-pie")

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        return (f"{PROBES}/as-user", *super().argv(material, case))

    def refused(self, facts: PlaceFacts) -> str:
        if facts.emulation == "user":
            return "under user-mode QEMU a program cannot start another one as somebody else"
        return super().refused(facts)


CHECKS: tuple[PlaceCheck, ...] = (CriticalSection(), Linking(), Profiled(), AsUser())
