"""rseq.critical: lost increments are red, and without an abort nothing was shown."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.check.critical import RseqCritical
from pipeline.core.outcome import Outcome
from tests.check.probe_kit import batch, judge, material, outcome, said

GOOD = {
    "area": "libc", "failed": "0", "threads": 8, "cpus": 2, "done": 1000, "counted": 1000, "aborted": 5,
    "moved": 0,
}  # fmt: skip


def one(case: str, *lines: dict[str, Any]) -> Outcome:
    return outcome(judge(RseqCritical(), material(), batch(said(f"rseq.critical/{case}", *lines)))[case])


def test_green_through_glibcs_area_when_on_and_its_own_when_off() -> None:
    assert one("12.1/tunable unset", GOOD) is Outcome.PASS
    assert one("12.1/tunable=0", GOOD | {"area": "own"}) is Outcome.PASS
    assert one("12.1/tunable unset", GOOD | {"area": "own"}) is Outcome.FAIL
    assert one("12.1/tunable=0", GOOD) is Outcome.FAIL


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"counted": 999}, Outcome.FAIL),
        ({"counted": 1001}, Outcome.FAIL),
        ({"failed": "EINVAL"}, Outcome.FAIL),
        ({"aborted": 0}, Outcome.MISSING),
        ({"aborted": 0, "counted": 999}, Outcome.FAIL),
        ({"done": 0, "counted": 0}, Outcome.ERROR),
        ({"threads": 2}, Outcome.ERROR),
    ],
)
def test_faults(change: dict[str, Any], expected: Outcome) -> None:
    assert one("12.1/tunable=1", GOOD | change) is expected


def test_two_answers_are_none() -> None:
    assert one("12.1/tunable=1", GOOD, GOOD) is Outcome.ERROR
