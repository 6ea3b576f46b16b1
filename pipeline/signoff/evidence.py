"""Evidence comes into being here and nowhere else.

`gather` compares the findings with the planned questions (`complete`), applies waivers and draws the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from pipeline.core.declaration import Declaration, by_name
from pipeline.core.errors import EvidenceError
from pipeline.core.identity import Identity, identity_to_the_end
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question, Target
from pipeline.core.records import BuildManifest, FileRecord, timestamp
from pipeline.profile import Profile
from pipeline.signoff.completeness import OWN, OWN_NAMES, WAIVERS, complete, stale
from pipeline.signoff.records import Environment, Evidence, PlaceRecord, ProfileRecord
from pipeline.signoff.verdict import grade_reasons, verdict
from pipeline.signoff.waiver import Waiver, WaiverRecord, apply_waivers


def gather(
    *,
    checks: Iterable[Declaration],
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
    baselines: Sequence[FileRecord] = (),
    created: str | None = None,
    pipeline: Identity | None = None,
) -> Evidence:
    """Complete the findings, apply the waivers, draw the verdict.

    ``checks`` are the declarations of all checks there are, asked or not. ``created`` (default: now) is also
    the day against which waivers expire. ``pipeline`` (default: this one) is who judged.
    """
    when = created or timestamp()
    declared = (*checks, *OWN)
    kept, declined = complete(questions, findings, not_judged, places, checks=by_name(declared))
    forged = [f for f in kept if f.outcome is Outcome.WAIVED]
    if forged:
        raise EvidenceError(
            f"check {forged[0].check} answered WAIVED by itself",
            hint="only a waiver (`--waivers FILE`) waives; the check must say what it saw",
        )
    kept, records = apply_waivers(waivers, kept, datetime.fromisoformat(when).date(), never=OWN_NAMES)
    return sealed(
        created=when,
        command=command,
        pipeline=pipeline or identity_to_the_end(),
        checks=declared,
        baselines=baselines,
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
    pipeline: Identity,
    checks: Sequence[Declaration],
    baselines: Sequence[FileRecord],
    profile: ProfileRecord,
    targets: Iterable[Target],
    environment: Environment,
    builds: Sequence[BuildManifest],
    places: Sequence[PlaceRecord],
    questions: Sequence[Question],
    findings: Sequence[Finding],
    not_judged: Sequence[NotJudged],
    waivers: Sequence[WaiverRecord],
) -> Evidence:
    """Evidence with the verdict and the grade that follow from it."""
    findings = [*(f for f in findings if f.check != WAIVERS.name), *stale(waivers, questions)]
    ungraded = Evidence(
        pipeline=pipeline,
        checks=tuple(checks),
        baselines=tuple(baselines),
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
        release_grade=False,
        grade_reasons=(),
    )
    return regraded(ungraded)


def regraded(evidence: Evidence) -> Evidence:
    """The same with the grade that follows from it."""
    reasons = grade_reasons(evidence)
    return evidence.model_copy(update={"release_grade": not reasons, "grade_reasons": reasons})
