"""Whether a release comes out the same when it is made once more, and whether it names where it was made."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pipeline.build.conditions import unlike
from pipeline.check import Material, StaticCheck
from pipeline.core import store
from pipeline.core.declaration import Declaration
from pipeline.core.outcome import Finding, Outcome, Question
from pipeline.core.records import BuildManifest, Built, RebuildRecord
from pipeline.core.words import several
from pipeline.rpm import package

CHECK = "build.rebuild"
#: What a rebuild must have seen otherwise than the first build, or it has shown nothing of it.
CONDITIONS = (
    "time", "directory", "host", "kernel", "processors", "user", "group", "umask", "home", "path", "locale",
    "time zone", "jobs", "order of files",
)  # fmt: skip

#: The directory of a build, in a container and on the host, with what `pipeline.build.rpmbuild` makes there.
DIRECTORIES = re.compile(rb"/(?:rpm)?build/(?:BUILD|SOURCES|SPECS|tmp|hooks)")
#: What is looked for first, which is quick.
WORDS = (b"build/BUILD", b"build/SOURCES", b"build/SPECS", b"build/tmp", b"build/hooks")
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
            self._finding(material, release, built.manifest, record)
            for release, built in material.built.items()
            if (record := built.manifest.rebuild)
        ]

    def _finding(
        self, material: Material, release: str, first: BuildManifest, record: RebuildRecord
    ) -> Finding:
        outcome, seen = judged(first, record)
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
        return [self._finding(material.built[q.target.release], q) for q in self.questions(material)]

    def _finding(self, built: Built, question: Question) -> Finding:
        found = known_naming([built.rpms / record.file for record in built.manifest.rpms])
        return Finding(
            check=self.name,
            target=question.target,
            outcome=Outcome.FAIL if found else Outcome.PASS,
            expected="no file or link with /build/BUILD, /rpmbuild/BUILD or their like in it",
            seen=several(found, 3) or "none",
            evidence=tuple(found),
        )


def known_naming(rpms: Sequence[Path]) -> list[str]:
    """`naming` of packages, looked for once in the same ones."""

    def make(into: Path) -> None:
        (into / FILES).write_text(json.dumps(naming(rpms)) + "\n")

    inputs = {
        "packages": sorted(store.file_sha256(rpm) for rpm in rpms),
        "words": DIRECTORIES.pattern.decode(),
    }
    found: list[str] = json.loads((store.produce(KIND, inputs, make).path / FILES).read_text())
    return found


def naming(rpms: Sequence[Path]) -> list[str]:
    """The files and links in packages that name a build's directory in content, target or path, sorted.

    Raises `MalformedInput`.
    """
    found = set()
    for rpm in rpms:
        with package.payload(rpm) as members:
            for member in members:
                content = member.name.encode(errors="surrogateescape") + b"\0" + member.read()
                if any(word in content for word in WORDS) and DIRECTORIES.search(content):
                    found.add(f"/{member.name.removeprefix('.').lstrip('/')}")
    return sorted(found)


def judged(first: BuildManifest, record: RebuildRecord) -> tuple[Outcome, str]:
    """FAIL for any difference; MISSING if it is not the rebuild of ``first``, or varied too little.

    That is one of `CONDITIONS` unknown or the same in both builds, or another list of packages.
    """
    if record.differences:
        found = [f"{d.package}: {d.where}" for d in record.differences]
        count = f"{len(found)} of {len(record.compared)} packages differ"
        return Outcome.FAIL, f"{count}: {several(found, 1, separator='; ')}"
    if record.compared != {r.file: r.sha256 for r in first.files}:
        return Outcome.MISSING, "what was rebuilt are not the packages of this build"
    before, after = first.seen, record.conditions
    if not before:
        words = (
            "the first build did not say what it saw, as an older pipeline's: `nox -s clean`, build it anew"
        )
        return Outcome.MISSING, words
    for said, whose in ((after, "the rebuild"), (before, "the first build")):
        if lacking := [name for name in CONDITIONS if name not in said]:
            return Outcome.MISSING, f"{whose} did not say what it saw of: {', '.join(lacking)}"
    if same := [f"{n} ({before[n]})" for n in CONDITIONS if not _other(n, before[n], after[n])]:
        return Outcome.MISSING, f"the same packages, but both builds saw the same of: {', '.join(same)}"
    what = ", ".join(f"{name} {after[name]}" for name in CONDITIONS)
    return Outcome.PASS, f"{len(record.compared)} packages, bit by bit the same ({what})"


def _other(name: str, one: str, other: str) -> bool:
    """Whether a condition was another one."""
    if name != "time":
        return one != other
    try:
        return unlike(datetime.fromisoformat(one), datetime.fromisoformat(other))
    except ValueError:
        return False


CHECKS = (Rebuilt(), Paths())
