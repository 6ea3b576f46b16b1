"""What must hold of outcomes, listings, deltas, completeness and waivers, whatever they are of."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.abi.delta import Delta, SymbolChange, delta
from pipeline.abi.listing import Line, Listing, parse_line, render
from pipeline.core.declaration import Declaration, by_name
from pipeline.core.errors import ExitCode
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question, Target, worst
from pipeline.signoff.completeness import OWN_NAMES, complete, stale
from pipeline.signoff.records import PlaceRecord
from pipeline.signoff.verdict import verdict
from pipeline.signoff.waiver import Waiver, apply_waivers, cause_of

TODAY = date(2026, 6, 1)
OUTCOMES = st.sampled_from(list(Outcome))
ANSWERS = st.sampled_from([o for o in Outcome if o is not Outcome.WAIVED])

# outcomes


@given(st.lists(OUTCOMES), st.lists(OUTCOMES))
def test_the_worst_of_two_runs_is_the_worse_of_theirs(one: list[Outcome], other: list[Outcome]) -> None:
    if one and other:
        assert worst(one + other) == worst(other + one) == worst([worst(one), worst(other)])
    assert worst(one + one) == worst(one)


@given(st.lists(OUTCOMES))
def test_a_verdict_is_green_only_if_there_is_something_and_all_of_it_is(outcomes: list[Outcome]) -> None:
    assert worst(outcomes).green == (bool(outcomes) and all(o.green for o in outcomes))
    assert (worst(outcomes).exit_code is ExitCode.PASS) == worst(outcomes).green


@given(st.lists(OUTCOMES, min_size=1), OUTCOMES)
def test_nothing_that_is_added_makes_a_verdict_better(outcomes: list[Outcome], more: Outcome) -> None:
    assert worst([*outcomes, more]) >= worst(outcomes)


# listings and deltas

WORDS = st.text(alphabet="ABab_.019", min_size=1, max_size=4)
PLAIN = st.builds(Line, WORDS, WORDS, st.sampled_from("FA"), st.none())
SIZED = st.builds(Line, WORDS, WORDS, st.sampled_from("DT"), st.integers(0, 1 << 40))
ENTRIES = st.frozensets(PLAIN | SIZED, max_size=6)
LIBRARIES = ("libc.so.6", "libm.so.6", "ld.so")


@st.composite
def releases(draw: st.DrawFn) -> dict[str, Listing]:
    """Listings by name, as `pipeline.abi.listing.listings` gives them."""
    names = draw(st.sets(st.sampled_from(LIBRARIES)))
    sonames = st.sampled_from(["a", "b", ""])
    return {name: Listing(name, draw(sonames), "x86_64", draw(ENTRIES)) for name in sorted(names)}


@given(ENTRIES)
def test_a_listing_says_all_and_reads_back(entries: frozenset[Line]) -> None:
    text = render(entries)
    assert {parse_line(line) for line in text.splitlines()} == entries
    lines = text.encode().splitlines()
    assert lines == sorted(set(lines))


@given(releases(), releases())
def test_a_delta_leads_from_one_release_to_the_other(
    before: dict[str, Listing], after: dict[str, Listing]
) -> None:
    def symbols(release: dict[str, Listing]) -> frozenset[SymbolChange]:
        return frozenset(SymbolChange(name, *e) for name, one in release.items() for e in one.symbols)

    there, back = delta(before, after), delta(after, before)
    assert (symbols(before) - there.removed) | there.added == symbols(after)
    assert there.added.isdisjoint(symbols(before))
    assert there.removed <= symbols(before)
    assert (there.added, there.removed) == (back.removed, back.added)
    assert (there.appeared, there.vanished) == (back.vanished, back.appeared)
    same = symbols(before) == symbols(after) and {n: x.soname for n, x in before.items()} == {
        n: x.soname for n, x in after.items()
    }
    assert there.empty == same == (there.text == "")
    assert delta(before, before) == Delta()


@given(releases(), releases(), releases())
def test_two_steps_gain_what_the_whole_way_gains(
    a: dict[str, Listing], b: dict[str, Listing], c: dict[str, Listing]
) -> None:
    first, second, whole = delta(a, b), delta(b, c), delta(a, c)
    assert whole.added == (first.added - second.removed) | (second.added - first.removed)


# completeness

CHECKS = by_name([Declaration(name=f"a.{n}", question="Is it?") for n in "bcd"])
TARGETS = [Target(profile="p", release=r, arch="x86_64") for r in ("1", "2")]
PLACES = (
    PlaceRecord(place="host", arch="x86_64", came_up=True),
    PlaceRecord(place="vm", arch="x86_64", came_up=True, emulation="system"),
)
SLOT = st.fixed_dictionaries(
    {
        "check": st.sampled_from(["a.b", "a.c", "a.d"]),
        "target": st.sampled_from(TARGETS),
        "case": st.sampled_from(["", "x"]),
        "place": st.sampled_from(["", "host", "vm"]),
    }
)
QUESTIONS = st.lists(SLOT.map(Question.model_validate), max_size=6, unique_by=hash)
ANSWER = st.fixed_dictionaries({"outcome": ANSWERS, "expected": st.just("e"), "seen": st.sampled_from("st")})
FINDINGS = st.lists(st.builds(lambda slot, said: Finding(**slot, **said), SLOT, ANSWER), max_size=6)
DECLINED = st.lists(SLOT.map(lambda slot: NotJudged(**slot, reason="r")), max_size=3)


@given(QUESTIONS, FINDINGS, DECLINED)
def test_every_question_is_answered_and_no_red_is_lost(
    questions: list[Question], findings: list[Finding], declined: list[NotJudged]
) -> None:
    kept, still = complete(questions, findings, declined, PLACES, checks=CHECKS)
    every: list[Finding | NotJudged] = [*kept, *still]
    slots = {(a.check, a.target, a.case, a.place) for a in every}
    assert {(q.check, q.target, q.case, q.place) for q in questions} <= slots
    before = Counter((f.key, f.outcome) for f in findings)
    assert not before - Counter((f.key, f.outcome) for f in kept)
    asked = {(q.check, q.target, q.case, q.place) for q in questions}
    answered = {(f.check, f.target, f.case, f.place) for f in findings}
    if asked - answered or answered - asked:
        assert not verdict(kept).green or still


@given(QUESTIONS, FINDINGS, DECLINED)
def test_completing_what_is_complete_changes_nothing(
    questions: list[Question], findings: list[Finding], declined: list[NotJudged]
) -> None:
    once = complete(questions, findings, declined, PLACES, checks=CHECKS)
    again = complete(questions, *once, PLACES, checks=CHECKS)
    assert sorted(again[0], key=repr) == sorted(once[0], key=repr)
    assert again[1] == once[1]


# waivers


def _waiver(finding: Finding, expires: date) -> Waiver:
    return Waiver(
        check=finding.check, target=str(finding.target), case=finding.case, cause=cause_of(finding)[:12],
        reason="known", who="A. Person", expires=expires,
    )  # fmt: skip


@given(FINDINGS, FINDINGS.filter(bool), st.integers(-2, 2))
def test_a_waiver_covers_its_cause_until_its_day_and_nothing_else(
    findings: list[Finding], waived: list[Finding], days: int
) -> None:
    waiver = _waiver(waived[0], TODAY + timedelta(days=days))
    after, (record,) = apply_waivers([waiver], findings, TODAY, never=OWN_NAMES)
    assert len(after) == len(findings)
    for before, now in zip(findings, after, strict=True):
        if now == before:
            continue
        assert now.outcome is Outcome.WAIVED
        assert before.outcome in (Outcome.FAIL, Outcome.MISSING)
        assert cause_of(before) == cause_of(waived[0])
        assert days >= 0
    reds = [f for f in findings if cause_of(f) == cause_of(waived[0]) and f.outcome is not Outcome.PASS]
    assert (record.status == "unused") == (not reds)
    questions = [Question(check=f.check, target=f.target, case=f.case) for f in waived]
    assert bool(stale([record], questions)) == (record.status != "applied")


@given(FINDINGS)
def test_an_error_is_never_waived(findings: list[Finding]) -> None:
    waivers = [_waiver(f, TODAY) for f in findings]
    after, _ = apply_waivers(waivers, findings, TODAY, never=OWN_NAMES)
    errors = [f for f in findings if f.outcome is Outcome.ERROR]
    assert [f for f in after if f.outcome is Outcome.ERROR] == errors
    if errors:
        assert not verdict(after).green
