"""Every check on built RPMs: what is asked, where it is observed, and the evidence that comes of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.abi import baseline
from pipeline.build import workshop
from pipeline.check import Material, PlaceCheck, StaticCheck
from pipeline.check.rule import outcome_of, words_of
from pipeline.core import paths
from pipeline.core.arch import Arch, arch
from pipeline.core.declaration import Declaration
from pipeline.core.errors import PipelineError
from pipeline.core.lanes import Piece, side_by_side
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question, Target
from pipeline.core.progress import say, step
from pipeline.core.records import Built, FileRecord, file_record
from pipeline.core.run import first_line
from pipeline.place import Job
from pipeline.profile import Profile
from pipeline.signoff import evidence
from pipeline.signoff.records import Environment, Evidence, PlaceRecord
from pipeline.signoff.waiver import Waiver
from pipeline.verify.observe import Observation, Site, keep, known, observe_all

#: Programs of the host that have a part in what is seen, and how they tell their version.
TOOLS = {
    "podman": ("podman", "--version"),
    "runc": ("runc", "--version"),
    "rpm": ("rpm", "--version"),
    "qemu-system-x86_64": ("qemu-system-x86_64", "--version"),
    "qemu-system-aarch64": ("qemu-system-aarch64", "--version"),
    "qemu-aarch64-static": ("qemu-aarch64-static", "--version"),
}


@dataclass
class Notes:
    """What is gathered while the checks go on. ``only``: releases and architectures that are asked about."""

    only: frozenset[tuple[str, str]] | None = None
    questions: list[Question] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    declined: list[NotJudged] = field(default_factory=list)
    places: list[PlaceRecord] = field(default_factory=list)

    def about(self, target: Target) -> bool:
        """Whether a question about ``target`` is to be asked."""
        return self.only is None or (target.judged, target.arch) in self.only

    def add(self, others: Notes) -> None:
        """Take over what was noted elsewhere."""
        self.questions += others.questions
        self.findings += others.findings
        self.declined += others.declined
        self.places += others.places


@dataclass(frozen=True)
class Looked:
    """What was noted of one architecture while nothing ran, and whether something has to run."""

    material: Material
    notes: Notes
    unseen: bool


def verify(
    profile: Profile,
    targets: Sequence[Target],
    built: Mapping[str, Mapping[str, Built]],
    *,
    programs: Callable[[Arch], Path],
    sites: Callable[[Arch, Path], Sequence[Site]],
    static: Sequence[StaticCheck],
    watched: Sequence[PlaceCheck],
    command: str,
    fresh: bool = False,
    narrow: bool = False,
    only: Collection[str] = (),
    waivers: Sequence[Waiver] = (),
) -> Evidence:
    """Run every check and return the evidence.

    What needs no program to run is done for all architectures side by side; places have the machine alone.

    ``built`` maps architecture -> release -> what was built; ``programs`` compiles the probes of an
    architecture and ``sites`` says where its programs are watched. ``fresh``: watch again what was watched.
    ``narrow``: ask only the questions about ``targets`` and of the steps that end in one of them, so that the
    runs of several targets share no question and together ask all of them (`pipeline.signoff.merge`).
    ``only``: names of the checks that are asked; all are declared in the evidence, so the grade says what was
    not.
    """
    about = frozenset((t.release, t.arch) for t in targets) if narrow else None
    notes = Notes(about)
    read = [c for c in static if not only or c.name in only]
    asked = [c for c in watched if not only or c.name in only]

    def first_look(name: str) -> Looked:
        machine, releases = arch(name), built[name]
        compiled = programs(machine)
        material = Material(
            profile=profile, arch=machine, built=dict(releases), programs=compiled,
            faults=workshop.faults(compiled),
            asked=frozenset(t.release for t in targets if t.arch == name) if narrow else None,
        )  # fmt: skip
        noted = read_all(read, material, about)
        again = not asked or (not fresh and watch_again(sites(machine, compiled), material, asked, noted))
        return Looked(material, noted, unseen=not again)

    pieces = [Piece(partial(first_look, name)) for name in built]
    lanes = min(len(pieces), len(os.sched_getaffinity(0)))
    for looked in side_by_side(pieces, lanes=lanes):
        notes.add(looked.notes)
        if looked.unseen:
            material = looked.material
            watch(sites(material.arch, material.programs), material, asked, notes, fresh=fresh)
    return evidence.gather(
        checks=[check.declared for check in (*static, *watched)],
        baselines=baselines_of(built),
        profile=profile,
        targets=targets,
        command=command,
        environment=environment(),
        builds=[b.manifest for releases in built.values() for b in releases.values()],
        places=notes.places,
        questions=notes.questions,
        findings=notes.findings,
        not_judged=notes.declined,
        waivers=waivers,
    )


def read_all(
    checks: Sequence[StaticCheck], material: Material, about: frozenset[tuple[str, str]] | None
) -> Notes:
    """What the static checks say of one architecture. Raises what is of no single question (`outcome_of`)."""
    notes = Notes(about)
    with step(f"read packages and libraries ({material.arch.name})") as at:
        for number, check in enumerate(checks):
            at.at(check.name, done=number, of=len(checks))
            ask_static(check, material, notes)
    return notes


def ask_static(check: StaticCheck, material: Material, notes: Notes) -> None:
    """One static check. Input that cannot be read is an ERROR of each of its questions, never a pass."""
    questions = [q for q in check.questions(material) if notes.about(q.target)]
    notes.questions += questions
    if not questions:
        return
    try:
        notes.findings += [typed(check.declared, f) for f in check.run(material) if notes.about(f.target)]
    except (PipelineError, OSError) as e:
        notes.findings += [unanswered(q, e) for q in questions]


def typed(declared: Declaration, finding: Finding) -> Finding:
    """The finding; an ERROR if its check does not declare one of its measures, or one is of another type."""
    wrong = declared.undeclared(finding.measures)
    if not wrong:
        return finding
    seen = f"{', '.join(wrong)}: not as {declared.name} declares its measures ({finding.seen})"
    return finding.model_copy(update={"outcome": Outcome.ERROR, "seen": seen})


def unanswered(question: Question, error: PipelineError | OSError) -> Finding:
    """The finding of a question that the check could not come to; raises what is of no single question."""
    return Finding(
        check=question.check,
        target=question.target,
        case=question.case,
        place=question.place,
        outcome=outcome_of(error),
        expected="an answer",
        seen=words_of(error),
    )


def jobs_of(checks: Sequence[PlaceCheck], material: Material, notes: Notes) -> list[Job]:
    """What has to run so that all checks can answer."""
    return [
        job
        for check in checks
        for job in check.jobs(material)
        if notes.about(material.target(job.root)) and material.not_compiled(*job.argv) is None
    ]


def watch(
    sites: Sequence[Site],
    material: Material,
    checks: Sequence[PlaceCheck],
    notes: Notes,
    *,
    fresh: bool = False,
) -> None:
    """All checks that watch programs, in one batch a place."""
    jobs = jobs_of(checks, material, notes)
    for site, seen in zip(sites, observe_all(sites, material, jobs, fresh=fresh), strict=True):
        judge(site, seen, material, checks, notes)


def watch_again(
    sites: Sequence[Site], material: Material, checks: Sequence[PlaceCheck], notes: Notes
) -> bool:
    """As `watch`, of what earlier runs kept; nothing runs. False, with nothing noted, unless all is there."""
    jobs = jobs_of(checks, material, notes)
    kept = [known(site, material, jobs) for site in sites]
    seen = [one for one in kept if one is not None]
    if len(seen) < len(kept):
        return False
    for site, observation in zip(sites, seen, strict=True):
        judge(site, observation, material, checks, notes)
    return True


def judge(
    site: Site, seen: Observation, material: Material, checks: Sequence[PlaceCheck], notes: Notes
) -> None:
    """What all checks say of what was seen at one place; an observation that is all green is kept."""
    place = site.place
    if seen.reused:
        say(f"{place.name}: nothing changed since it was observed at {seen.at}")
    batch = seen.batch
    notes.places.append(
        PlaceRecord.of(
            place.name,
            material.arch.name,
            batch,
            kernel_image=site.kernel_image,
            kernel_name=site.kernel_name,
            observed=seen.at,
        )
    )
    answers: list[Finding | NotJudged] = []
    for check in checks:
        questions = [q for q in check.questions(material, place.name) if notes.about(q.target)]
        notes.questions += questions
        try:
            answers += [a for a in check.judge(material, place.name, batch) if notes.about(a.target)]
        except (PipelineError, OSError) as e:
            answers += [unanswered(q, e) for q in questions]
    declared = {check.name: check.declared for check in checks}
    findings = [typed(declared[a.check], a) for a in answers if isinstance(a, Finding)]
    notes.findings += findings
    notes.declined += [a for a in answers if isinstance(a, NotJudged)]
    if findings and all(f.outcome.green for f in findings):
        keep(seen)


def baselines_of(built: Mapping[str, Mapping[str, Built]]) -> list[FileRecord]:
    """The committed baselines of what was built, and upstream's nodes, each as one record of its content."""
    found = []
    for name, releases in built.items():
        where = [baseline.directory_of(b.target) for b in releases.values()]
        where += sorted(paths.BASELINES.glob(f"{baseline.UPSTREAM}/*/{name}"))
        found += [baseline.record(directory) for directory in where if directory.is_dir()]
        beside = [d.parent.glob(f"{name}.*") for d in where if d.parent.is_dir()]
        for file in sorted({f for files in beside for f in files}):  # inventories, facts of headers
            named = file.relative_to(paths.BASELINES.parent).as_posix()
            found.append(file_record(file).model_copy(update={"file": named}))
    return found


def environment() -> Environment:
    """The machine that runs the pipeline."""
    with ThreadPoolExecutor() as pool:  # each takes as long as it takes to start it
        told = list(pool.map(first_line, TOOLS.values()))
    os_release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return Environment(
        os=os_release.get("PRETTY_NAME", platform.system()),
        kernel=platform.release(),
        machine=platform.machine(),
        python=platform.python_version(),
        tools={name: words for name, words in zip(TOOLS, told, strict=True) if words},
    )
