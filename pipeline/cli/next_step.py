"""What a person wants to know when a sign-off is written: what to do next."""

from __future__ import annotations

from pipeline.core.outcome import Outcome
from pipeline.signoff.records import Evidence


def next_step(evidence: Evidence) -> str:
    """One line, by the verdict."""
    verdict = evidence.verdict
    if verdict.green and evidence.release_grade:
        return "next: put a name under it: nox -s report -- --attest --sign-key KEY.pem"
    if verdict.green:
        return "next: the page says first what a release-grade sign-off still needs"
    if verdict is Outcome.MISSING:
        return "next: the page lists first what was not answered, and the command that asks only that"
    return "next: the page lists what is red first, each with the command that asks only that again"
