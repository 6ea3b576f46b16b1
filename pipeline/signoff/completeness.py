"""Every planned question has exactly one answer: the sum that keeps a green verdict honest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pipeline.core.declaration import Declaration, Declarations, Need
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question, Target
from pipeline.signoff.records import PlaceRecord
from pipeline.signoff.waiver import WaiverRecord

#: Questions about the evidence itself. Their findings are drawn anew whenever evidence is made or read, and
#: no check may use their names.
COMPLETE = Declaration(
    name="evidence.complete",
    question="Does every planned question have exactly one answer?",
    release_grade=False,
)
PLACES = Declaration(
    name="evidence.places",
    question="Did every place work to the end?",
    release_grade=False,
)
WAIVERS = Declaration(
    name="evidence.waivers",
    question="Does every waiver still cover a red finding, and has none expired?",
    release_grade=False,
)
OWN_CHECK = COMPLETE.name
OWN = (COMPLETE, PLACES, WAIVERS)
OWN_NAMES = frozenset(d.name for d in OWN)
#: Figures beyond this are no measurements of ours (a second is 1e9 ns), but a probe's slip.
LARGEST_MEASURE = 1e15


def may_decline(place: PlaceRecord, check: Declaration | None) -> bool:
    """Whether a place cannot answer ``check`` by its nature. An unknown check nothing may decline."""
    if not place.came_up or check is None:
        return False
    if (
        place.emulation == "user"
    ):  # user-mode QEMU has neither rseq nor time; that programs start it must judge
        return Need.RSEQ in check.needs or Need.TIME in check.needs
    return bool(place.emulation) and Need.TIME in check.needs


def complete(
    questions: Sequence[Question],
    findings: Sequence[Finding],
    not_judged: Sequence[NotJudged],
    places: Sequence[PlaceRecord] = (),
    *,
    checks: Declarations,
) -> tuple[list[Finding], list[NotJudged]]:
    """Every planned question has exactly one answer; what is wrong with that becomes a finding.

    Unanswered: a MISSING finding in the question's name. Declined (`NotJudged`) by a place that can judge
    it: MISSING likewise. Answered twice or without having been asked: an ERROR of `OWN_CHECK`. A check
    that every place declined (but for time) is MISSING once more for its target: it was not judged.
    A figure that is none (NaN, infinite, absurd) makes its finding an ERROR, and so does an answer of a check
    that is not among ``checks``. A place that had trouble is MISSING (`PLACES`) for every release that was
    asked there, whatever came back from it. Applied to its own result it changes nothing.
    """
    planned = {_slot(q): q for q in questions}
    by_place = {(p.place, p.arch): p for p in places}
    kept = [_asked(_sane(f), planned) for f in findings if f.check not in OWN_NAMES]
    declined: list[NotJudged] = []
    own: list[Finding] = []
    for n in not_judged:
        place = by_place.get((n.place, n.target.arch))
        if place is not None and may_decline(place, checks.get(n.check)):
            declined.append(_asked(n.model_copy(update={"measures": _shown(n.measures)}), planned))
        else:
            why = "is not known here" if place is None else "can judge it"
            kept.append(
                _missing(
                    _asked(n, planned), f"not judged although place {n.place or '(none)'} {why}: {n.reason}"
                )
            )
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
    own += [
        _own(a, Outcome.ERROR, "an answer of a declared check", f"no check is called {a.check}")
        for a in _first(all_answers)
        if a.check not in checks
    ]
    kept += [
        _missing(q, "no answer came back", "" if not q.place else _kernel(by_place, q))
        for slot, q in planned.items()
        if slot not in answered
    ]
    own += _judged_nowhere(kept, declined, checks)
    own += _troubled(questions, places)
    return kept + own, declined


_Slot = tuple[str, str, str, str]
Answer = TypeVar("Answer", Finding, NotJudged)


def _slot(item: Question | Finding | NotJudged) -> _Slot:
    return (item.check, str(item.target), item.case, item.place)


def _asked(answer: Answer, planned: Mapping[_Slot, Question]) -> Answer:
    """The answer with its question's facets and control flag: the plan says what is asked, not the answer."""
    question = planned.get(_slot(answer))
    if question is None or (answer.facets, answer.control) == (question.facets, question.control):
        return answer
    return answer.model_copy(update={"facets": question.facets, "control": question.control})


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
        facets=item.facets,
        control=item.control,
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


def _troubled(questions: Sequence[Question], places: Sequence[PlaceRecord]) -> list[Finding]:
    """What came back from a place that then went wrong may be right, but it is not all there was to see."""
    asked: dict[tuple[str, str], dict[str, Target]] = {
        (q.place, q.target.arch): {} for q in questions if q.place
    }
    for q in questions:
        if q.place:
            asked[q.place, q.target.arch].setdefault(str(q.target), q.target)
    return [
        Finding(
            check=PLACES.name,
            target=target,
            place=place.place,
            kernel=place.kernel,
            outcome=Outcome.MISSING,
            expected="a place that works to the end",
            seen=place.trouble,
        )
        for place in places
        if place.trouble
        for target in asked.get((place.place, place.arch), {}).values()
    ]


def stale(waivers: Sequence[WaiverRecord], questions: Sequence[Question]) -> list[Finding]:
    """A FAIL (`WAIVERS`) for each waiver that no longer does what it was written for.

    A waiver about what was not asked here says nothing: another runner may have asked it.
    """
    asked = {str(q.target) for q in questions}
    made = {}
    for waiver in waivers:
        if waiver.status == "applied" or (waiver.status == "unused" and waiver.target not in asked):
            continue
        profile, _, rest = waiver.target.partition("/")
        release, _, arch = rest.rpartition("/")
        finding = Finding(
            check=WAIVERS.name,
            target=Target(profile=profile, release=release, arch=arch),
            case=" · ".join(part for part in (waiver.check, waiver.case) if part),
            place=waiver.place or "",
            outcome=Outcome.FAIL,
            expected="a waiver that covers a red finding, until the day it names",
            seen=f"{waiver.status}: {waiver.note} (cause {waiver.cause or waiver.seen}, by {waiver.who})",
        )
        made[finding.model_dump_json()] = finding
    return list(made.values())


def _judged_nowhere(
    findings: Sequence[Finding], declined: Sequence[NotJudged], checks: Declarations
) -> list[Finding]:
    judged = {(f.check, str(f.target)) for f in findings}
    nowhere: dict[tuple[str, str], NotJudged] = {}
    for n in declined:
        key = (n.check, str(n.target))
        for_time = n.check in checks and Need.TIME in checks[n.check].needs
        if not for_time and key not in judged:
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
