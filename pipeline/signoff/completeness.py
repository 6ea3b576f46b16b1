"""Every planned question has exactly one answer: the sum that keeps a green verdict honest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.outcome import Finding, NotJudged, Outcome, Question
from pipeline.signoff.records import PlaceRecord

#: The check whose findings are about the evidence itself; nobody else may use its name.
OWN_CHECK = "evidence.complete"
#: Checks that are about time alone: a machine emulated as a whole (TCG) may decline these and no others.
TIME_CHECKS = frozenset({"getcpu.speed"})
#: What user-mode QEMU may decline: it has no rseq and no time. That programs start it must judge.
RSEQ_PREFIXES = ("rseq.", "getcpu.")
#: Figures beyond this are no measurements of ours (a second is 1e9 ns), but a probe's slip.
LARGEST_MEASURE = 1e15


def may_decline(place: PlaceRecord, check: str) -> bool:
    """Whether a place cannot answer ``check`` by its nature."""
    if not place.came_up:
        return False
    if place.emulation == "user":
        return check.startswith(RSEQ_PREFIXES)
    return bool(place.emulation) and check in TIME_CHECKS


def complete(
    questions: Sequence[Question],
    findings: Sequence[Finding],
    not_judged: Sequence[NotJudged],
    places: Sequence[PlaceRecord] = (),
) -> tuple[list[Finding], list[NotJudged]]:
    """Every planned question has exactly one answer; what is wrong with that becomes a finding.

    Unanswered: a MISSING finding in the question's name. Declined (`NotJudged`) by a place that can judge
    it: MISSING likewise. Answered twice or without having been asked: an ERROR of `OWN_CHECK`. A check
    that every place declined (but for time) is MISSING once more for its target, for nobody has judged it.
    A figure that is none (NaN, infinite, absurd) makes its finding an ERROR. Applied to its own result it
    changes nothing.
    """
    planned = {_slot(q): q for q in questions}
    by_place = {(p.place, p.arch): p for p in places}
    kept = [_sane(f) for f in findings if f.check != OWN_CHECK]
    declined: list[NotJudged] = []
    own: list[Finding] = []
    for n in not_judged:
        place = by_place.get((n.place, n.target.arch))
        if place is not None and may_decline(place, n.check):
            declined.append(n.model_copy(update={"measures": _shown(n.measures)}))
        else:
            why = "is not known here" if place is None else "can judge it"
            kept.append(_missing(n, f"not judged although place {n.place or '(none)'} {why}: {n.reason}"))
    all_answers: list[Finding | NotJudged] = [*kept, *declined]
    answers = Counter((_slot(a), a.kernel) for a in all_answers)
    answered = {slot for slot, _ in answers}
    own += [
        _own(a, Outcome.ERROR, "one answer to a question", f"{answers[(_slot(a), a.kernel)]} answers")
        for a in _first(all_answers)
        if answers[(_slot(a), a.kernel)] > 1
    ]
    own += [
        _own(a, Outcome.ERROR, "an answer to a planned question", "nobody asked this")
        for a in _first(all_answers)
        if _slot(a) not in planned
    ]
    kept += [
        _missing(q, "no answer came back", "" if not q.place else _kernel(by_place, q))
        for slot, q in planned.items()
        if slot not in answered
    ]
    own += _judged_nowhere(kept, declined)
    return kept + own, declined


_Slot = tuple[str, str, str, str]


def _slot(item: Question | Finding | NotJudged) -> _Slot:
    return (item.check, str(item.target), item.case, item.place)


def _first(answers: Sequence[Finding | NotJudged]) -> list[Finding | NotJudged]:
    """One answer for each slot and kernel, in order."""
    return list({(_slot(a), a.kernel): a for a in reversed(answers)}.values())[::-1]


def _kernel(places: Mapping[tuple[str, str], PlaceRecord], question: Question) -> str:
    place = places.get((question.place, question.target.arch))
    return place.kernel if place else ""


def _missing(item: Question | NotJudged, seen: str, kernel: str = "") -> Finding:
    return Finding(
        check=item.check,
        target=item.target,
        case=item.case,
        place=item.place,
        kernel=item.kernel if isinstance(item, NotJudged) else kernel,
        outcome=Outcome.MISSING,
        expected="an answer",
        seen=seen,
    )


def _own(item: Finding | NotJudged, outcome: Outcome, expected: str, seen: str) -> Finding:
    return Finding(
        check=OWN_CHECK,
        target=item.target,
        case=" · ".join(part for part in (item.check, item.case) if part),
        place=item.place,
        kernel=item.kernel,
        outcome=outcome,
        expected=expected,
        seen=seen,
    )


def _judged_nowhere(findings: Sequence[Finding], declined: Sequence[NotJudged]) -> list[Finding]:
    judged = {(f.check, str(f.target)) for f in findings}
    nowhere: dict[tuple[str, str], NotJudged] = {}
    for n in declined:
        key = (n.check, str(n.target))
        if n.check not in TIME_CHECKS and key not in judged:
            nowhere.setdefault(key, n)
    return [
        _own(
            n.model_copy(update={"case": "", "place": "", "kernel": ""}),
            Outcome.MISSING,
            "a place that can judge it",
            "every place declined",
        )
        for n in nowhere.values()
    ]


def _odd(value: Any) -> bool:
    """Whether a figure is no measurement; looks into lists and tables."""
    if isinstance(value, (list, tuple)):
        return any(_odd(v) for v in value)
    if isinstance(value, dict):
        return any(_odd(v) for v in value.values())
    if isinstance(value, float) and not math.isfinite(value):
        return True
    return isinstance(value, (int, float)) and abs(value) > LARGEST_MEASURE


def _shown(value: Any) -> Any:
    """``value`` as JSON can say it: figures that are none become text, in lists and tables too."""
    if isinstance(value, (list, tuple)):
        return [_shown(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _shown(v) for k, v in value.items()}
    if isinstance(value, (int, float)) and _odd(value):
        return f"{value:.3g}" if isinstance(value, float) else f"about 1e{value.bit_length() * 301 // 1000}"
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return str(value)


def _sane(finding: Finding) -> Finding:
    odd = sorted(name for name, value in finding.measures.items() if _odd(value))
    update: dict[str, Any] = {"measures": _shown(finding.measures)}
    if odd:
        update["outcome"] = Outcome.ERROR
        update["seen"] = (
            f"{', '.join(odd)}: not a measurement (judged {finding.outcome.name}: {finding.seen})"
        )
    return finding.model_copy(update=update)
