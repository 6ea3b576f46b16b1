"""What programs are made with: headers, start files, linker scripts, archives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from pipeline.abi import baseline
from pipeline.build import described, workshop
from pipeline.build.headers import DEFINED
from pipeline.check import Material, StaticCheck
from pipeline.check.abi_facts import Fact, answered, remedy
from pipeline.check.packages import COMMITTED, EachPackaging, foreign_without, judged
from pipeline.check.rpm import another_series, is_foreign
from pipeline.core import paths
from pipeline.core.declaration import Declaration, Scope, Unit, measured
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Finding, Outcome, Question, Target
from pipeline.profile import Step


class Compile(EachPackaging):
    """Every test program compiles and links against the release it is made for.

    What does not, but does against the build image's own C library with the same compiler and options, is the
    packages' fault (`pipeline.build.workshop`).
    """

    declared = Declaration(
        name="devel.compile",
        measures=measured(Unit.COUNT, "refused"),
        question="Does everything compile and link against a release that does against another C library?",
    )
    expected = "what compiles against the build image's own C library compiles against the release"

    def ask(self, material: Material, release: str) -> Fact:
        mine = [fault for fault in material.faults.values() if fault.release == release]
        known = [answer for fault in mine if (answer := material.not_compiled(fault.program))]
        if known and all(outcome is Outcome.MISSING for outcome, _ in known):
            return Fact(Outcome.MISSING, self.expected, known[0][1])
        faults = [words for _, words in known]
        return judged(self.expected, "no program is refused", faults, {"refused": len(faults)})


def devel_path(target: Target, *, foreign: bool = False) -> Path:
    """Where the facts of a target's headers and link-time files are committed."""
    name = f"{target.arch}.supplied.devel" if foreign else f"{target.arch}.devel"
    return baseline.directory_of(target).with_name(name)


def rendered(lines: Sequence[str], origin: str) -> str:
    """The facts as they are committed."""
    return "\n".join([f"# headers and link-time files of {origin}", *sorted(lines)]) + "\n"


class Committed(EachPackaging):
    """Headers and link-time files compared with the committed facts, both ways.

    Packages of another maker's spec are compared with facts of theirs, and where none are committed there is
    no question, and no release grade. Of packages that are ours to judge the facts must be there.
    """

    declared = Declaration(
        name="devel.baseline",
        measures=measured(Unit.COUNT, "facts"),
        question=(
            "Have the types, initialisers, linker scripts, start files and archives the layouts, values and "
            "symbols that are committed?"
        ),
        when=COMMITTED,
    )
    expected = "headers that compile, and committed facts to compare them with"

    def questions(self, material: Material) -> list[Question]:
        asked = super().questions(material)
        return [q for q in asked if not foreign_without(self._path, material, q.target.release)]

    def _path(self, material: Material, release: str) -> Path:
        return devel_path(material.target(release), foreign=is_foreign(material.built[release]))

    def ask(self, material: Material, release: str) -> Fact:
        file = self._path(material, release)
        shown_path = str(file.relative_to(paths.BASELINES.parent))
        if not file.is_file():
            words = f"there is no {shown_path}; {remedy(material.target(release))}"
            return Fact(Outcome.MISSING, "committed facts", words)
        lines = file.read_text().splitlines()
        if sorted(lines[1:]) != lines[1:] or len(set(lines)) != len(lines):
            raise MalformedInput(f"{file} is not as it was written", hint="restore it from git")
        found = _described(material, release, described.committed)
        if isinstance(found, Fact):
            return found
        gone, new = set(lines[1:]) - set(found), set(found) - set(lines[1:])
        faults = [f"- {line}" for line in sorted(gone)] + [f"+ {line}" for line in sorted(new)]
        answer = judged(
            f"{len(lines) - 1} facts as committed", "no difference", faults, {"facts": len(found)}
        )
        return Fact(answer.outcome, answer.expected, answer.seen, (shown_path,), answer.measures)


class Dialects(EachPackaging):
    """Headers compile in every dialect that programs are written in, not only in the compiler's own."""

    declared = Declaration(
        name="devel.dialects",
        measures=measured(Unit.COUNT, "dialects"),
        question="Do all headers compile as C90 to C2x, C++98 to C++20, POSIX, fortified, for large files?",
    )
    expected = "what compiles as GNU C compiles in every dialect"

    def ask(self, material: Material, release: str) -> Fact:
        found = _described(material, release, described.dialects)
        if isinstance(found, Fact):
            return found
        faults = [f"{dialect}: {words}" for dialect, words in found.items()]
        count = {"dialects": len(described.DIALECTS)}
        return judged(self.expected, f"{len(described.DIALECTS)} dialects, no header refused", faults, count)


_Facts = TypeVar("_Facts")


def _described(material: Material, release: str, read: Callable[[Path], _Facts]) -> _Facts | Fact:
    """What ``read`` finds in a release's description, or the answer where there is nothing to compare."""
    directory = workshop.description(material.programs, release)
    wanted = "headers that compile"
    if not directory.is_dir():
        return Fact(Outcome.MISSING, wanted, f"the headers of {release} were not looked at")
    try:
        return read(directory)
    except described.NoHeaders as e:
        absent = not (material.built[release].root / "usr" / "include" / "stdio.h").is_file()
        supplied = material.built[release].manifest.mode == "supplied"
        return Fact(Outcome.MISSING if absent and supplied else Outcome.FAIL, wanted, e.message)


def _ends(material: Material, step: Step, read: Callable[[Path], _Facts]) -> tuple[_Facts, _Facts] | Fact:
    """What ``read`` finds in the descriptions of both releases of a step, or why one has none."""
    before = _described(material, step.before, read)
    after = _described(material, step.after, read)
    if isinstance(before, Fact):
        return before
    return after if isinstance(after, Fact) else (before, after)


class DevelDelta(StaticCheck):
    """From release to release nothing of headers and link-time files changes but what the symbols bring."""

    declared = Declaration(
        name="devel.delta",
        measures=measured(Unit.COUNT, "facts", "new"),
        question="From release to release, does nothing but `<sys/rseq.h>` change in headers and archives?",
        scope=Scope.STEP,
    )

    def questions(self, material: Material) -> list[Question]:
        return [question for _, question in material.steps(self.name)]

    def run(self, material: Material) -> list[Finding]:
        return [
            answered(question, "headers that compile", partial(self._ask, material, step))
            for step, question in material.steps(self.name)
        ]

    def _ask(self, material: Material, step: Step) -> Fact:
        if any(another_series(material.built[r]) for r in (step.before, step.after)):
            return _kept(material, step)
        ends = _ends(material, step, described.facts)
        if isinstance(ends, Fact):
            return ends
        before, after = ends
        brings = bool(step.added) and not material.profile.get(step.before).exports_rseq
        theirs = tuple(f"{header}: " for header in material.profile.rseq.headers) if brings else ()
        symbols = brought(material, step, after) if brings else frozenset[str]()
        faults = []
        for key in sorted(before.keys() | after.keys()):
            old, new = before.get(key), after.get(key)
            if old == new or (old is None and (key.startswith(theirs) or key in symbols)):
                continue
            archive, _, symbol = key.partition(": ")
            listed = any(text is not None and text.startswith(DEFINED) for text in (old, new))
            if symbol and listed and not (archive in before and archive in after):
                continue  # the whole archive came or went, which is said once
            faults += [f"- {key}: {old}"] if old is not None else []
            faults += [f"+ {key}: {new}"] if new is not None else []
        added = sorted(k for k in after.keys() - before.keys() if theirs and k.startswith(theirs))
        if brings and not added:
            faults.append(f"{', '.join(material.profile.rseq.headers)} did not come with the symbols")
        expected = (
            f"only new macros and types of {', '.join(material.profile.rseq.headers)}" if brings else ""
        )
        return judged(
            expected or "no difference", f"{len(after)} facts; new: {', '.join(added) or 'nothing'}", faults,
            {"facts": len(after), "new": len(added)},
        )  # fmt: skip


#: A committed line on what a large archive defines: their number, and a digest.
_COUNTED = re.compile(r": \d+ symbols ")


def _kept(material: Material, step: Step) -> Fact:
    """A step from or to a dist-git's series: what programs were compiled with is still there, unchanged.

    Such a series brings macros, types and glibc's own names in archives as its maker decides; they are
    counted.
    """
    ends = _ends(material, step, described.committed)
    if isinstance(ends, Fact):
        return ends
    before, after = ends
    gone = sorted(line for line in set(before) - set(after) if not _COUNTED.search(line))
    now = {line.rpartition(": ")[0]: line for line in after}
    faults = []
    for line in gone:
        changed = now.get(line.rpartition(": ")[0])
        faults += [f"- {line}"] + ([f"+ {changed}"] if changed else [])
    new = len(set(after) - set(before))
    return judged(
        "each layout, initialiser, linker script and start file unchanged (one side is a dist-git's series)",
        f"{len(before)} facts kept; {new} new", faults, {"facts": len(after), "new": new},
    )  # fmt: skip


def brought(material: Material, step: Step, after: Mapping[str, str]) -> frozenset[str]:
    """Facts of symbols that a step may bring into archives: those it adds, and glibc's own names around them.

    No version script hides what is glibc's own in an archive. Its names are reserved and name the mechanism,
    as the tunable's last word does (``_dl_rseq_size``).
    """
    public = {line.split()[2] for line in step.added}
    word = material.profile.rseq.tunable.rpartition(".")[2]
    found = []
    for key, text in after.items():
        symbol = key.partition(": ")[2]
        if text.startswith(DEFINED) and (symbol in public or (symbol.startswith("_") and word in symbol)):
            found.append(key)
    return frozenset(found)


CHECKS: tuple[StaticCheck, ...] = (Compile(), Committed(), Dialects(), DevelDelta())
