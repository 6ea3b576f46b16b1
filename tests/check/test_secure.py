"""rseq.secure: in an AT_SECURE program the default holds, whatever the tunable says; else it is red."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import profile as profiles
from pipeline.check.secure import RseqSecure
from pipeline.core.outcome import Finding, Outcome
from tests.check.probe_kit import batch, judge, material, outcomes, said
from tests.check.test_registration import GOOD, Lines, kernel, lines, linked

BY_KERNEL: dict[str, Any] = {"from": "secure", "by": "kernel"}
SAYS_SO: dict[str, Any] = {"from": "auxv", "secure": 1, "tunables": ""}


def secure(*, on: bool, exports: bool = True) -> Lines:
    """What tracer and program say of a good libc, the program being AT_SECURE."""
    return [BY_KERNEL, SAYS_SO, *lines(on=on, exports=exports)]


def one(case: str, said_lines: Lines, kind: str = "dynamic") -> Finding:
    case = linked(case, kind)
    answer = judge(RseqSecure(), material(), batch(said(f"rseq.secure/{case}", *said_lines)))[case]
    assert isinstance(answer, Finding)
    return answer


def test_the_default_holds_in_each_state_and_is_green() -> None:
    releases = profiles.load("bookworm").releases
    results = []
    for case in GOOD:
        release = releases[case.partition("/")[0]]
        good = secure(on=bool(release.rseq_default), exports=release.exports_rseq)
        results += [said(f"rseq.secure/{linked(case, kind)}", *good) for kind in ("dynamic", "static")]
    answers = judge(RseqSecure(), material(), batch(*results))
    assert set(outcomes(answers).values()) == {Outcome.PASS}
    assert len(answers) == 2 * len(GOOD)
    answer = answers["12.1/dynamic, tunable=0"]
    assert isinstance(answer, Finding)
    assert "17 of 17 threads registered" in answer.seen
    assert "real and effective user differ" in answer.seen
    assert answer.measures["secure_by"] == "kernel"


@pytest.mark.parametrize(
    ("case", "on"), [("12.0.z/tunable=1", True), ("12.1/tunable=0", False)], ids=["on", "off"]
)
def test_a_tunable_that_is_heard_is_red(case: str, on: bool) -> None:
    for kind in ("dynamic", "static"):  # libc.a hears it in code of its own
        assert one(case, secure(on=on), kind).outcome is Outcome.FAIL
    finding = one(case, secure(on=on))
    assert f"__rseq_size is {32 if on else 0}, not {0 if on else 32}" in finding.seen


def test_a_tunable_that_is_heard_is_red_without_symbols_too() -> None:
    assert one("12.0/tunable=1", secure(on=True, exports=False)).outcome is Outcome.FAIL


@pytest.mark.parametrize("case", ["12.0.z/tunable unset", "12.0.z/tunable=0"])
def test_a_flipped_default_is_red(case: str) -> None:
    assert one(case, secure(on=True)).outcome is Outcome.FAIL


def test_one_thread_that_is_not_as_the_others_is_red() -> None:
    changed = secure(on=True)
    kernel(changed).update(pointer=0, size=0, signature=0)
    assert one("12.1/tunable=0", changed).outcome is Outcome.FAIL


def test_a_program_that_was_not_secure_shows_nothing() -> None:
    """Its answers are those of the default, as they should be, and yet it was not asked the question."""
    for told in ([], [SAYS_SO | {"secure": 0}]):
        finding = one("12.1/tunable unset", [BY_KERNEL, *told, *lines(on=True, exports=True)])
        assert finding.outcome is Outcome.MISSING
        assert "not AT_SECURE" in finding.seen


@pytest.mark.parametrize("makers", [[], [{"from": "secure", "by": "nobody"}], [BY_KERNEL, BY_KERNEL]])
def test_a_tracer_that_does_not_say_who_made_it_secure(makers: Lines) -> None:
    assert one("12.1/tunable=0", [*makers, SAYS_SO, *lines(on=True, exports=True)]).outcome is Outcome.ERROR


def test_who_made_it_secure_is_said() -> None:
    by_tracer = [BY_KERNEL | {"by": "tracer"}, SAYS_SO, *lines(on=False, exports=True)]
    finding = one("12.0.z/tunable=1", by_tracer)
    assert finding.outcome is Outcome.PASS
    assert "AT_SECURE by the tracer" in finding.seen


@pytest.mark.parametrize("left", ["glibc.pthread.rseq=1", "glibc.malloc.check=0:glibc.pthread.rseq=0"])
def test_a_tunable_that_is_left_for_children_is_red(left: str) -> None:
    changed = [BY_KERNEL, SAYS_SO | {"tunables": left}, *lines(on=True, exports=True)]
    finding = one("12.1/tunable=0", changed)
    assert finding.outcome is Outcome.FAIL
    assert f"its environment still has GLIBC_TUNABLES={left}" in finding.seen
    others = [BY_KERNEL, SAYS_SO | {"tunables": None}, *lines(on=True, exports=True)]
    assert one("12.1/tunable=0", others).outcome is Outcome.PASS
