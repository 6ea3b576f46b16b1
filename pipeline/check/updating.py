"""Is the later release an update, and does it change what it is for alone? And can it still be debugged?"""

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
#: What is not text: archives and start files, which `devel.baseline` reads.
_LINKED = (".a", ".o")
#: What documents a release may say something new.
_DOCUMENTS = ("/usr/share/info/", "/usr/share/doc/", "/usr/share/man/")


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


class Contents(EachStep):
    """Every file that is text (headers, scripts, configuration, tables, locales) is as it was, byte by byte.

    Programs, libraries and archives are compared by what they export and do; documents may say more.
    """

    declared = Declaration(
        name="rpm.contents",
        measures=measured(Unit.COUNT, "files", "new"),
        question=(
            "From release to release, does no header, script, table or configuration file change but "
            "`<sys/rseq.h>`?"
        ),
        scope=Scope.STEP,
        when=OURS,
    )
    expected = "the same texts, byte by byte; new ones are the headers of the rseq symbols"

    def ask(self, material: Material, step: Step) -> Fact:
        before, after = (_texts(material, r) for r in (step.before, step.after))
        brings = bool(step.added) and not material.profile.get(step.before).exports_rseq
        theirs = {f"/usr/include/{h}" for h in material.profile.rseq.headers} if brings else set()
        new = after.keys() - before.keys()
        faults = [f"- {path}" for path in sorted(before.keys() - after.keys())]
        faults += [f"+ {path}" for path in sorted(new - theirs)]
        same = sorted(before.keys() & after.keys())
        faults += [f"{path}: another content" for path in same if before[path] != after[path]]
        return judged(
            self.expected, f"{len(after)} files; new: {', '.join(sorted(new)) or 'none'}", faults,
            {"files": len(after), "new": len(new)},
        )  # fmt: skip


def _texts(material: Material, release: str) -> dict[str, str]:
    """Path -> digest of each text. rpm's color says what is an ELF file; `rpm.payload` compares that."""
    return {
        entry.path: entry.digest
        for rpm in _packages(material, release).values()
        for entry in rpm.files
        if entry.is_regular and not entry.ghost and not entry.color
        if not entry.path.endswith(_LINKED) and not entry.path.startswith(_DOCUMENTS)
    }


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


CHECKS: tuple[StaticCheck, ...] = (Update(), Contents(), DebugInfo())
