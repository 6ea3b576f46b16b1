"""Is the later release an update? And can it still be debugged?"""

from __future__ import annotations

from functools import partial

from pipeline.check import Material, StaticCheck
from pipeline.check.abi_facts import Fact, answered
from pipeline.check.packages import EachPackaging, all_rpms, judged
from pipeline.check.rpm import is_foreign
from pipeline.core.declaration import Declaration, Scope, Unit, measured
from pipeline.core.outcome import Finding, Question
from pipeline.profile import Step
from pipeline.rpm import debuginfo
from pipeline.rpm.evr import Evr
from pipeline.rpm.package import Rpm
from pipeline.rpm.sysroot import is_wanted

OURS = "they are ours"


class EachStep(StaticCheck):
    """One question for each step between releases that our own spec made: another maker's differ in more."""

    expected: str

    def questions(self, material: Material) -> list[Question]:
        return [question for _, question in self._steps(material)]

    def _steps(self, material: Material) -> list[tuple[Step, Question]]:
        return [
            (step, question)
            for step, question in material.steps(self.name)
            if not any(is_foreign(material.built[r]) for r in (step.before, step.after))
        ]

    def run(self, material: Material) -> list[Finding]:
        return [
            answered(question, self.expected, partial(self.ask, material, step))
            for step, question in self._steps(material)
        ]

    def ask(self, material: Material, step: Step) -> Fact:
        raise NotImplementedError


def _packages(material: Material, release: str) -> dict[str, Rpm]:
    return {rpm.name: rpm for rpm in all_rpms(material.built[release]) if is_wanted(rpm)}


class Update(EachStep):
    """Each package of the later release is newer than that of the earlier one, as rpm compares versions."""

    declared = Declaration(
        name="rpm.update",
        measures=measured(Unit.COUNT, "packages"),
        question="Does rpm take each package of the later release for an update of the earlier one?",
        scope=Scope.STEP,
        when=OURS,
    )
    expected = "epoch, version and release of each package are newer, as rpm compares them"

    def ask(self, material: Material, step: Step) -> Fact:
        before, after = (_packages(material, r) for r in (step.before, step.after))
        faults = [
            f"{after[name].nvr} is no update of {before[name].nvr}"
            for name in sorted(before.keys() & after.keys())
            if not _evr(after[name]) > _evr(before[name])
        ]
        return judged(self.expected, f"{len(after)} packages are newer", faults, {"packages": len(after)})


def _evr(rpm: Rpm) -> Evr:
    return Evr(rpm.epoch or 0, rpm.version, rpm.release)


class DebugInfo(EachPackaging):
    """Debug files match the files they are for, and symbol tables are left where debuggers want them.

    libthread_db finds a program's threads by symbols that no table for linking has, and valgrind wants those
    of ld.so.
    """

    declared = Declaration(
        name="rpm.debuginfo",
        measures=measured(Unit.COUNT, "files", "debug_files"),
        question=(
            "Has each program and library a build id of its own, its symbol table, and the debug file that "
            "belongs to it?"
        ),
        when=OURS,
    )
    expected = "each file has a build id of its own, a symbol table, and one debug file that matches"

    def questions(self, material: Material) -> list[Question]:
        return [q for q in super().questions(material) if not is_foreign(material.built[q.target.release])]

    def ask(self, material: Material, release: str) -> Fact:
        files, debug = debuginfo.split([rpm.path for rpm in all_rpms(material.built[release])])
        measures = {"files": len(files), "debug_files": len(debug)}
        seen = f"{len(files)} files, each with its debug file"
        return judged(self.expected, seen, debuginfo.faults(files, debug), measures)


CHECKS: tuple[StaticCheck, ...] = (Update(), DebugInfo())
