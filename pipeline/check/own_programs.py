"""Do the programs that a release brings run, and do what they are for?

That a program's file is as it was built says nothing of its code. Each says its version; what can be asked
without writing is asked for more, and what comes is known from elsewhere: from the profile, from Python's own
codecs. Which programs there are is `rpm.files`' and `elf.hardening`'s to say: what is not there is not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.check import Material, PlaceCheck
from pipeline.check.probing import Answers, Unanswered, verdict
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question
from pipeline.place import BatchResult, Job, JobResult
from pipeline.rpm.payload import inside

#: Programs that say their version, wherever they are installed.
PROGRAMS = (
    "gencat", "getconf", "getent", "iconv", "iconvconfig", "ldconfig", "locale", "localedef", "makedb",
    "nscd", "pcprofiledump", "pldd", "sln", "sprof", "zdump", "zic",
)  # fmt: skip
DIRECTORIES = ("/usr/bin", "/usr/sbin", "/sbin")
LIBC = "libc.so.6"
#: Any file that is text: it is read as EBCDIC, in which every byte is a character.
READ = "/etc/ld.so.conf"


@dataclass(frozen=True)
class Run:
    """A command line in a release's root, and what it must print: how it begins (a pattern), or all of it."""

    argv: tuple[str, ...]
    begins: str = ""
    whole: bytes = b""

    def job(self, check: str, release: str) -> str:
        return f"{check}/{release}/{' '.join(self.argv)}"

    def fault(self, result: JobResult) -> str:
        """What is wrong with its end or its output, or ""."""
        name = " ".join(self.argv)
        if result.status != 0:
            words = result.stderr.decode(errors="replace").strip()[-120:]
            return f"{name} ended with {result.ending()}" + (f": {words}" if words else "")
        said = result.stdout.decode(errors="replace")
        if (result.stdout != self.whole) if self.whole else not re.match(self.begins, said, re.DOTALL):
            return f"{name} printed {said[:100]!r}"
        return ""


def runs(material: Material, release: str) -> Iterator[Run]:
    """All that is run of a release: of what is in its root."""
    root, glibc = material.built[release].root, re.escape(material.profile.glibc)
    there = {
        name: f"{directory}/{name}"
        for directory in DIRECTORIES
        for name in PROGRAMS
        if _is_file(root, f"{directory}/{name}")
    }
    for name, path in there.items():
        yield Run((path, "--version"), rf"{name} \([^\n]+\) {glibc}\n")
    tasks = {
        "getconf": (("GNU_LIBC_VERSION",), rf"glibc {glibc}\n$"),
        "getent": (("rpc", "nfs"), r"nfs +100003  nfsprog\n$"),
        "locale": (("charmap",), r"ANSI_X3\.4-1968\n$"),
        "zdump": (("UTC",), r"UTC +[^\n]+ UTC\n$"),
    }
    directory = next((d for d in _libraries(material) if _is_file(root, f"{d}/{LIBC}")), "")
    if directory:
        listed = rf"{re.escape(directory)}:.*\tlibc\.so\.6 -> libc\.so\.6"
        tasks["ldconfig"] = (("-N", "-X", "-n", "-v", directory), listed)
    for name, (options, begins) in tasks.items():
        if name in there and (name != "getent" or _has_nfs(root)):
            yield Run((there[name], *options), begins)
    if "iconv" in there and _is_file(root, READ):
        text = inside(root, READ.lstrip("/")).read_bytes().decode("cp500").encode("utf-16-be")
        yield Run((there["iconv"], "-f", "IBM500", "-t", "UTF-16BE", READ), whole=text)
    for path in (material.arch.interp, f"{directory}/{LIBC}"):
        if _is_file(root, path):
            options = ("--version",) if path == material.arch.interp else ()
            yield Run((path, *options), rf"[^\n]*version {glibc}\b")


def _libraries(material: Material) -> tuple[str, str]:
    """Where RPMs have the libraries, and where Debian's packages, which `demo` judges, have them."""
    return "/lib64", f"/lib/{material.arch.triplet}"


def _has_nfs(root: Path) -> bool:
    """Whether /etc/rpc is the one that getent is asked about: another is `rpm.texts`' to say."""
    return (
        _is_file(root, "/etc/rpc") and b"\nnfs\t\t100003\tnfsprog\n" in inside(root, "etc/rpc").read_bytes()
    )


def _is_file(root: Path, path: str) -> bool:
    return inside(root, path.lstrip("/")).is_file()


class OwnPrograms(PlaceCheck):
    """Every program of the release says its version, and those that can be asked more do as they should."""

    declared = Declaration(
        name="launch.programs",
        measures=measured(Unit.COUNT, "runs"),
        question="Do the release's own programs (iconv, ldconfig, getent …), its loader and libc.so.6 run?",
    )
    expected = "each says the version of glibc; conversions, look-ups and lists are right"

    def questions(self, material: Material, place: str) -> list[Question]:
        return [
            Question(check=self.name, target=material.target(release), place=place)
            for release in material.built
        ]

    def jobs(self, material: Material) -> list[Job]:
        return [
            Job(run.job(self.name, release), release, run.argv)
            for release in material.built
            for run in runs(material, release)
        ]

    def judge(self, material: Material, place: str, batch: BatchResult) -> list[Finding | NotJudged]:
        return [self._judge(material, question, batch) for question in self.questions(material, place)]

    def _judge(self, material: Material, question: Question, batch: BatchResult) -> Finding:
        release = question.target.release
        kernel = batch.facts.kernel if batch.facts else ""
        try:
            faults, count = [], 0
            for run in runs(material, release):
                count += 1
                if fault := run.fault(_ended(batch, run.job(self.name, release))):
                    faults.append(fault)
            if not count:
                raise Unanswered(Outcome.MISSING, f"none of the programs of {release} is here")
            said = verdict(self.expected, f"{count} runs, each as it should be", faults, {"runs": count})
        except Unanswered as e:
            return Finding(
                **question.model_dump(), kernel=kernel, outcome=e.outcome, expected=self.expected, seen=e.why
            )
        return Finding(
            **question.model_dump(), kernel=kernel, outcome=said.outcome, expected=said.expected,
            seen=said.seen, measures=dict(said.measures),
        )  # fmt: skip


def _ended(batch: BatchResult, job: str) -> JobResult:
    """The result of a job that ended by itself, well or not; raises `Unanswered`."""
    result = batch.results.get(job)
    if result is None or result.timed_out or (result.error and result.place_at_fault):
        Answers(batch).output(job)  # says why
    assert result is not None
    return result


CHECKS = (OwnPrograms(),)
