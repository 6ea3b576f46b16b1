"""Evidence: everything a sign-off rests on, as one record that can be read, merged and verified again.

`gather` is the only way evidence comes into being: it holds the findings against the planned questions
(`complete`), applies waivers and draws the verdict. `read` does the same sums again, so that evidence
which lost a finding or gained a verdict on its way is refused rather than rendered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import jsonschema
from pydantic import Field, ValidationError

from pipeline import __version__, paths, series, store
from pipeline.arch import arch as arch_named
from pipeline.check import Question
from pipeline.completeness import OWN_CHECK, RSEQ_PREFIXES, TIME_CHECKS, complete
from pipeline.errors import EvidenceError, MalformedInput, UsageError
from pipeline.outcome import Finding, Frozen, NotJudged, Outcome, OutcomeName, Target
from pipeline.place import BatchResult, PlaceFacts
from pipeline.profile import Profile, available, for_arch, load
from pipeline.records import BuildManifest, FileRecord
from pipeline.verdict import grade_reasons, verdict
from pipeline.waiver import Waiver, WaiverRecord, apply_waivers, cause_of

SCHEMA_VERSION = 1
SCHEMA_FILE = paths.PACKAGE / "report" / "evidence.schema.json"
FILE = "evidence.json"


class StepRecord(Frozen):
    """What the profile says the public ABI gains from one release to the next, per architecture."""

    before: str
    after: str
    added: dict[str, tuple[str, ...]]


def profile_sha256(profile: Profile) -> str:
    """sha256 of all a profile says."""
    return store.digest(profile.model_dump(mode="json", by_alias=True))


class ProfileRecord(Frozen):
    """What a reader must know of the profile; the profile file itself is bound by ``sha256``.

    ``shipped``: it is one that comes with the pipeline, as it comes. ``series``: for each release the sha256
    of the patches it has when none is left out.
    """

    name: str
    title: str
    glibc: str
    stand_in: str
    releases: tuple[str, ...]
    titles: dict[str, str]
    arches: tuple[str, ...]
    steps: tuple[StepRecord, ...]
    sha256: str
    shipped: bool
    series: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @classmethod
    def of(cls, profile: Profile) -> Self:
        return cls(
            name=profile.name,
            title=profile.title,
            glibc=profile.glibc,
            stand_in=profile.stand_in,
            releases=tuple(r.name for r in profile.release),
            titles={r.name: r.title for r in profile.release},
            arches=tuple(profile.arches),
            steps=tuple(
                StepRecord(
                    before=s.before,
                    after=s.after,
                    added={a: tuple(for_arch(s.added, arch_named(a))) for a in profile.arches},
                )
                for s in profile.step
            ),
            sha256=profile_sha256(profile),
            shipped=profile.name in available()
            and profile_sha256(load(profile.name)) == profile_sha256(profile),
            series={
                r.name: tuple(p.sha256 for p in series.load(profile.name, r.name).patches)
                for r in profile.release
                if (series.directory(profile.name) / f"{r.name}.series").is_file()
            },
        )


class PlaceRecord(Frozen):
    """A place as it was found (`PlaceFacts`), for one architecture, and the log that shows it.

    ``came_up`` is false if it never answered: then it can decline nothing. ``kernel_image`` is the file
    that was booted, where there was one.
    """

    place: str
    arch: str
    came_up: bool
    kernel: str = ""
    kernel_version: str = ""
    machine: str = ""
    cpus: int = 0
    cpu_model: str = ""
    rseq: str = ""
    emulation: str = ""
    trouble: str = ""
    log: FileRecord | None = None
    kernel_image: FileRecord | None = None
    #: when it was observed (UTC); before this run's time if nothing has changed since
    observed: str = ""

    @classmethod
    def of(
        cls,
        place: str,
        arch: str,
        batch: BatchResult,
        *,
        kernel_image: Path | None = None,
        observed: str = "",
    ) -> Self:
        """The record of what came back from a place."""
        facts: PlaceFacts | None = batch.facts
        return cls(
            place=place,
            arch=arch,
            came_up=facts is not None,
            kernel=facts.kernel if facts else "",
            kernel_version=facts.kernel_version if facts else "",
            machine=facts.machine if facts else "",
            cpus=facts.cpus if facts else 0,
            cpu_model=facts.cpu_model if facts else "",
            rseq=facts.rseq if facts else "",
            emulation=facts.emulation if facts else "",
            trouble=batch.trouble,
            log=file_record(batch.log) if batch.log and batch.log.is_file() else None,
            kernel_image=file_record(kernel_image) if kernel_image else None,
            observed=observed,
        )

    def may_decline(self, check: str) -> bool:
        """Whether this place cannot answer ``check`` by its nature."""
        if not self.came_up:
            return False
        if self.emulation == "user":
            return check.startswith(RSEQ_PREFIXES)
        return bool(self.emulation) and check in TIME_CHECKS


class Environment(Frozen):
    """The machine that ran the pipeline: operating system, its own kernel, tool versions by name."""

    os: str
    kernel: str = ""
    machine: str = ""
    python: str = ""
    tools: dict[str, str] = Field(default_factory=dict)


class Evidence(Frozen):
    """All that was asked, seen and made, and what follows from it. Stored as ``evidence.json``.

    ``created`` is UTC, ISO 8601 to the second. ``command`` is the command line that makes it again.
    """

    schema_version: Literal[1] = 1
    tool: str
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    command: str
    profile: ProfileRecord
    targets: tuple[Target, ...]
    environment: Environment
    builds: tuple[BuildManifest, ...]
    places: tuple[PlaceRecord, ...]
    questions: tuple[Question, ...]
    findings: tuple[Finding, ...]
    not_judged: tuple[NotJudged, ...]
    waivers: tuple[WaiverRecord, ...] = ()
    verdict: OutcomeName
    release_grade: bool
    grade_reasons: tuple[str, ...]

    def to_json(self) -> str:
        """Canonical text: equal evidence gives equal bytes."""
        data = self.model_dump(mode="json", by_alias=True)
        return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    @property
    def sha256(self) -> str:
        """sha256 of ``evidence.json`` as `write` writes it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Findings that are not green, the worst first."""
        red = [f for f in self.findings if not f.outcome.green]
        return tuple(sorted(red, key=lambda f: -f.outcome))


def file_record(path: Path) -> FileRecord:
    """A file's name, sha256 and size."""
    return FileRecord(file=path.name, sha256=store.file_sha256(path), size=path.stat().st_size)


def now() -> str:
    """This moment as evidence writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def gather(
    *,
    profile: Profile | ProfileRecord,
    targets: Sequence[Target],
    command: str,
    environment: Environment,
    builds: Sequence[BuildManifest],
    places: Sequence[PlaceRecord],
    questions: Sequence[Question],
    findings: Sequence[Finding],
    not_judged: Sequence[NotJudged] = (),
    waivers: Sequence[Waiver] = (),
    created: str | None = None,
) -> Evidence:
    """Complete the findings, apply the waivers, draw the verdict.

    ``created`` (default: now) is also the day against which waivers expire.
    """
    when = created or now()
    kept, declined = complete(questions, findings, not_judged, places)
    forged = [f for f in kept if f.outcome is Outcome.WAIVED]
    if forged:
        raise EvidenceError(
            f"check {forged[0].check} answered WAIVED by itself",
            hint="only a waiver (`--waivers FILE`) waives; the check must say what it saw",
        )
    kept, records = apply_waivers(waivers, kept, datetime.fromisoformat(when).date(), never=OWN_CHECK)
    return sealed(
        created=when,
        command=command,
        profile=profile if isinstance(profile, ProfileRecord) else ProfileRecord.of(profile),
        targets=targets,
        environment=environment,
        builds=builds,
        places=places,
        questions=questions,
        findings=kept,
        not_judged=declined,
        waivers=records,
    )


def sealed(
    *,
    created: str,
    command: str,
    profile: ProfileRecord,
    targets: Iterable[Target],
    environment: Environment,
    builds: Sequence[BuildManifest],
    places: Sequence[PlaceRecord],
    questions: Sequence[Question],
    findings: Sequence[Finding],
    not_judged: Sequence[NotJudged],
    waivers: Sequence[WaiverRecord],
    tool: str = __version__,
) -> Evidence:
    """Evidence with the verdict and the grade that follow from it."""
    reasons = grade_reasons(profile, builds, places, findings, not_judged)
    return Evidence(
        tool=tool,
        created=created,
        command=command,
        profile=profile,
        targets=tuple(targets),
        environment=environment,
        builds=tuple(builds),
        places=tuple(places),
        questions=tuple(questions),
        findings=tuple(findings),
        not_judged=tuple(not_judged),
        waivers=tuple(waivers),
        verdict=verdict(findings),
        release_grade=not reasons,
        grade_reasons=reasons,
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of evidence, generated from the model."""
    made = Evidence.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_bare(made)}


def _bare(value: Any) -> Any:
    """Without titles and descriptions: they are the docstrings' and would only follow them about."""
    if isinstance(value, dict):
        prose = ("title", "description")
        return {k: _bare(v) for k, v in value.items() if k not in prose or not isinstance(v, str)}
    return [_bare(v) for v in value] if isinstance(value, list) else value


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))


def write(evidence: Evidence, directory: Path) -> Path:
    """Write ``evidence.json`` atomically; returns its path."""
    path = directory / FILE
    store.write_atomically(path, evidence.to_json())
    return path


def read(path: Path) -> Evidence:
    """Evidence from a file.

    Raises `UsageError` if there is no such file and `MalformedInput` if it is not evidence, of another
    schema version, or if its verdict does not follow from its findings.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"there is no evidence at {path}",
            hint="`nox -s verify` makes it; `--evidence FILE` names another",
        ) from None
    return parse(raw, str(path))


def parse(raw: bytes, name: str) -> Evidence:
    """As `read`, from bytes; ``name`` is what error messages call them."""
    again = "make it anew with `nox -s verify`"
    try:
        data = json.loads(raw)
    except ValueError as e:
        raise MalformedInput(f"{name} is not JSON: {e}", hint=again) from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise MalformedInput(
            f"{name} is evidence of schema version {version!r}; this pipeline reads {SCHEMA_VERSION}",
            hint="read it with the version of the pipeline that wrote it, or make it anew",
        )
    wrong = next(iter(sorted(_validator().iter_errors(data), key=lambda e: e.json_path)), None)
    if wrong is not None:
        raise MalformedInput(f"{name}: {wrong.json_path}: {wrong.message[:300]}", hint=again)
    try:
        evidence = Evidence.model_validate(data)
    except ValidationError as e:
        raise MalformedInput(f"{name}: {e.errors()[0]['loc']}: {e.errors()[0]['msg']}", hint=again) from None
    _consistent(evidence, name)
    return evidence


def _consistent(evidence: Evidence, name: str) -> None:
    """Do the sums again; raises `MalformedInput` where they come out differently."""
    kept, declined = complete(evidence.questions, evidence.findings, evidence.not_judged, evidence.places)
    applied = {c for w in evidence.waivers if w.status == "applied" for c in w.causes}
    wrong = ""
    if not _as_shipped(evidence.profile):
        wrong = f"its record of profile {evidence.profile.name} is not what that profile says"
    elif _sorted(kept) != _sorted(evidence.findings) or _sorted(declined) != _sorted(evidence.not_judged):
        wrong = "its findings do not answer the questions it says were planned"
    elif any(f.outcome is Outcome.WAIVED and cause_of(f) not in applied for f in evidence.findings):
        wrong = "a finding is WAIVED, but no waiver it records covers it"
    elif verdict(evidence.findings) is not evidence.verdict:
        wrong = f"its verdict is {evidence.verdict.name}, its findings say {verdict(evidence.findings).name}"
    else:
        reasons = grade_reasons(
            evidence.profile, evidence.builds, evidence.places, evidence.findings, evidence.not_judged
        )
        if reasons != evidence.grade_reasons or evidence.release_grade is not (not reasons):
            wrong = "its release grade does not follow from what it records"
    if wrong:
        raise MalformedInput(f"{name} was changed or cut: {wrong}", hint="make it anew with `nox -s verify`")


def _as_shipped(record: ProfileRecord) -> bool:
    """False if the record claims to be of a profile that is here and says something else than that does.

    Which patches a series has is not the profile's word, and may be another in another checkout.
    """
    if record.name not in available():
        return True
    profile = load(record.name)
    if profile_sha256(profile) != record.sha256:
        return True  # another version of it, of which nothing is known here
    return ProfileRecord.of(profile).model_copy(update={"series": record.series}) == record


def _sorted(records: Iterable[Frozen]) -> list[str]:
    return sorted(r.model_dump_json() for r in records)
