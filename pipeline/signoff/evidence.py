"""Evidence comes into being here and nowhere else.

`gather` compares the findings with the planned questions (`complete`), applies waivers and draws the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from pipeline import __version__
from pipeline.core.errors import EvidenceError
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question, Target
from pipeline.core.records import BuildManifest, timestamp
from pipeline.profile import Profile
from pipeline.signoff.completeness import OWN_CHECK, complete
from pipeline.signoff.records import Environment, Evidence, PlaceRecord, ProfileRecord
from pipeline.signoff.verdict import grade_reasons, verdict
from pipeline.signoff.waiver import Waiver, WaiverRecord, apply_waivers


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
    when = created or timestamp()
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
