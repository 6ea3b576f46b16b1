"""Whether a release comes out the same when it is made once more, and whether it names where it was made."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.check import Material, StaticCheck
from pipeline.core import store
from pipeline.core.declaration import Declaration
from pipeline.core.outcome import Finding, Outcome, Question
from pipeline.core.records import RebuildRecord
from pipeline.core.words import several
from pipeline.rpm.sysroot import root_sha256

CHECK = "build.rebuild"
#: What a rebuild must have seen otherwise than the first build, or it has shown nothing of it.
CONDITIONS = (
    "time", "directory", "host", "kernel", "processors", "user", "group", "umask", "home", "path", "locale",
    "time zone", "jobs", "order of files",
)  # fmt: skip

#: What the directories of builds end in, in a container and on the host (`pipeline.build.rpmbuild`).
DIRECTORIES = (b"/build/BUILD", b"/rpmbuild/BUILD")
#: Where it is kept which files name them.
KIND, FILES = "naming", "files.json"


class Rebuilt(StaticCheck):
    """One question for each release that was made once more."""

    declared = Declaration(
        name=CHECK,
        question="Does a build from nothing, at another time and place, on another host, by another user, "
        "make the same packages bit by bit?",
        when="it is asked for (`--rebuild`)",
    )

    def questions(self, material: Material) -> list[Question]:
        return [
            Question(check=self.name, target=material.target(release))
            for release, built in material.built.items()
            if built.manifest.rebuild
        ]

    def run(self, material: Material) -> list[Finding]:
        return [
            self._finding(material, release, record, built.manifest.seen)
            for release, built in material.built.items()
            if (record := built.manifest.rebuild)
        ]

    def _finding(
        self, material: Material, release: str, record: RebuildRecord, before: Mapping[str, str]
    ) -> Finding:
        outcome, seen = judged(record, before)
        return Finding(
            check=self.name,
            target=material.target(release),
            outcome=outcome,
            expected="the same bytes in every package and in the source package",
            seen=seen,
            evidence=(f"rebuilt at {record.at} by {record.machine} ({record.processor})",),
        )


class Paths(StaticCheck):
    """One question for each release that the pipeline built; where others build is not known."""

    declared = Declaration(
        name="build.paths",
        question="Does no file of a package contain the directory in which it was built?",
        when="the packages were built here",
    )

    def questions(self, material: Material) -> list[Question]:
        return [
            Question(check=self.name, target=material.target(release))
            for release, built in material.built.items()
            if built.manifest.mode != "supplied"
        ]

    def run(self, material: Material) -> list[Finding]:
        return [self._finding(material.built[q.target.release].root, q) for q in self.questions(material)]

    def _finding(self, root: Path, question: Question) -> Finding:
        found = known_naming(root)
        return Finding(
            check=self.name,
            target=question.target,
            outcome=Outcome.FAIL if found else Outcome.PASS,
            expected=f"no file with {' or '.join(d.decode() for d in DIRECTORIES)} in it",
            seen=several(found, 3) or "none",
            evidence=tuple(found),
        )


def known_naming(root: Path) -> list[str]:
    """`naming` of `DIRECTORIES`, looked for once in the same files."""

    def make(into: Path) -> None:
        (into / FILES).write_text(json.dumps(naming(root, DIRECTORIES)) + "\n")

    inputs = {"root": root_sha256(root), "words": [word.decode() for word in DIRECTORIES]}
    found: list[str] = json.loads((store.produce(KIND, inputs, make).path / FILES).read_text())
    return found


def naming(root: Path, words: Sequence[bytes]) -> list[str]:
    """The regular files below ``root`` that contain one of ``words``, sorted. Raises OSError."""
    found = []
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if path.is_symlink() or not path.is_file() or not path.stat().st_size:
                continue
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if any(content.find(word) >= 0 for word in words):
                    found.append(f"/{path.relative_to(root)}")
    return sorted(found)


def judged(record: RebuildRecord, before: Mapping[str, str]) -> tuple[Outcome, str]:
    """FAIL for any difference, MISSING if one of `CONDITIONS` is unknown or was the same in both builds.

    ``before``: what the first build saw, by name.
    """
    if record.differences:
        found = [f"{d.package}: {d.where}" for d in record.differences]
        count = f"{len(found)} of {len(record.compared)} packages differ"
        return Outcome.FAIL, f"{count}: {several(found, 1, separator='; ')}"
    if not before:
        return (
            Outcome.MISSING,
            "the first build did not say what it saw, as an older pipeline's: `nox -s clean`, build it anew",
        )
    for said, whose in ((record.conditions, "the rebuild"), (before, "the first build")):
        if lacking := [name for name in CONDITIONS if name not in said]:
            return Outcome.MISSING, f"{whose} did not say what it saw of: {', '.join(lacking)}"
    if same := [f"{n} ({before[n]})" for n in CONDITIONS if before[n] == record.conditions[n]]:
        return Outcome.MISSING, f"the same packages, but both builds saw the same of: {', '.join(same)}"
    if not record.compared:
        return Outcome.MISSING, "no package was compared"
    what = ", ".join(f"{name} {value}" for name, value in record.conditions.items() if value)
    return Outcome.PASS, f"{len(record.compared)} packages, bit by bit the same ({what})"


CHECKS = (Rebuilt(), Paths())
