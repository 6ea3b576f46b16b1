"""The records a sign-off is made of: profile, places, environment, and the evidence that holds them all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr

from pipeline.core import store
from pipeline.core.arch import arch as arch_named
from pipeline.core.declaration import Declaration, Declarations, Scope, by_name
from pipeline.core.identity import Identity
from pipeline.core.outcome import Finding, Frozen, NotJudged, OutcomeName, Question, Target
from pipeline.core.records import BuildManifest, FileRecord, file_record
from pipeline.place import BatchResult, PlaceFacts
from pipeline.profile import Profile, available, for_arch, load
from pipeline.signoff.waiver import WaiverRecord
from pipeline.source import series


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
    of the patches it has when none is left out. ``build_against``: the release that programs are built
    against. ``kernels``: for each architecture the kernels that virtual machines boot if none is
    chosen. ``differences``: what the vendor's build has and one of this profile has not.
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
    build_against: str
    kernels: dict[str, tuple[str, ...]]
    differences: tuple[str, ...] = ()

    @classmethod
    def of(cls, profile: Profile) -> Self:
        return cls(
            name=profile.name,
            title=profile.title,
            glibc=profile.glibc,
            stand_in=profile.stand_in,
            differences=tuple(profile.differences),
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
            build_against=profile.build_against,
            kernels={
                a: tuple(k.name for k in profile.kernel if k.usual and a in k.packages)
                for a in profile.arches
            },
        )

    def asked(self, scope: Scope) -> tuple[str, ...]:
        """What a check of that scope is asked about, as findings name it in ``target.release``."""
        if scope is Scope.STEP:
            return tuple(f"{s.before} -> {s.after}" for s in self.steps)
        if scope is Scope.NEWEST:
            return (self.build_against,)
        return self.releases[1:] if scope is Scope.LATER else self.releases


class PlaceRecord(Frozen):
    """A place as it was found (`PlaceFacts`), for one architecture, and the log that shows it.

    ``came_up`` is false if it never answered: then it can decline nothing. ``kernel_image`` is the file
    that was booted, where there was one, ``kernel_name`` what the profile calls it ("": a kernel of the
    user's own).
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
    page_size: int = 0
    rseq_feature_size: int = 0
    rseq_align: int = 0
    trouble: str = ""
    log: FileRecord | None = None
    kernel_image: FileRecord | None = None
    kernel_name: str = ""
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
        kernel_name: str = "",
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
            page_size=facts.page_size if facts else 0,
            rseq_feature_size=facts.rseq_feature_size if facts else 0,
            rseq_align=facts.rseq_align if facts else 0,
            trouble=batch.trouble,
            log=file_record(batch.log) if batch.log and batch.log.is_file() else None,
            kernel_image=file_record(kernel_image) if kernel_image else None,
            kernel_name=kernel_name,
            observed=observed,
        )


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
    ``pipeline`` is who judged, ``checks`` what could be asked, in the report's order, and ``baselines`` what
    was compared with: directories, each with the sha256 and the size of all in it.
    """

    schema_version: Literal[2] = 2
    pipeline: Identity
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    command: str
    checks: tuple[Declaration, ...]
    profile: ProfileRecord
    baselines: tuple[FileRecord, ...] = ()
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
    _written: str = PrivateAttr(default="")

    @cached_property
    def text(self) -> str:
        """As JSON in its canonical form: equal evidence gives equal bytes."""
        data = self.model_dump(mode="json", by_alias=True)
        return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    @property
    def tool(self) -> str:
        """The pipeline's version, commit included."""
        return self.pipeline.text

    @cached_property
    def declared(self) -> Declarations:
        """The checks by name."""
        return by_name(self.checks)

    @cached_property
    def sha256(self) -> str:
        """sha256 of ``evidence.json`` as `pipeline.signoff.document.write` writes it."""
        return self._written or hashlib.sha256(self.text.encode()).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, of which all that is worked out is worked out anew."""
        copied = super().model_copy(update=update, deep=deep)
        for worked_out in ("sha256", "text", "declared"):
            copied.__dict__.pop(worked_out, None)
        return copied

    def keep_sha256(self, written: str) -> None:
        """Say ``written``: the sha256 of the file it was read from, whose schema version is an older one."""
        self._written = written

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Findings that are not green, the worst first."""
        red = [f for f in self.findings if not f.outcome.green]
        return tuple(sorted(red, key=lambda f: -f.outcome))
