"""Reds that one kernel alone shows: the same packages are green on others, so look at that kernel first.

Nothing is softened by it: the outcome stays what it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.core.outcome import Finding, Outcome
from pipeline.signoff.records import Evidence

Key = tuple[str, str, str, str, str]
RED = (Outcome.FAIL, Outcome.ERROR)


def notes(evidence: Evidence) -> Mapping[Key, str]:
    """By `Finding.key`: ``only on 6.19.0; green on 6.1.0, 6.12.5``, for each red that one kernel alone shows.

    A kernel is green if all answers to that question there are PASS, so one that is red at one place and
    green at another is not to blame; one without an answer is neither.
    """
    asked: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in evidence.findings:
        if finding.kernel:
            asked.setdefault((finding.check, str(finding.target), finding.case), []).append(finding)
    found: dict[Key, str] = {}
    for answers in asked.values():
        outcomes: dict[str, set[Outcome]] = {}
        for answer in answers:
            outcomes.setdefault(answer.kernel, set()).add(answer.outcome)
        red = [kernel for kernel, words in outcomes.items() if words & set(RED)]
        green = [kernel for kernel, words in outcomes.items() if words == {Outcome.PASS}]
        if len(red) == 1 and green and Outcome.PASS not in outcomes[red[0]]:
            note = f"only on {red[0]}; green on {', '.join(sorted(green))}"
            found |= {a.key: note for a in answers if a.kernel == red[0] and a.outcome in RED}
    return found
