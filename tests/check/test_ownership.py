"""rseq.own: refused with the kernel's own error where glibc holds the area, accepted where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.check.ownership import RseqOwn
from pipeline.core.outcome import Outcome
from tests.check.probe_kit import batch, judge, material, outcome, said

ON = {"asked": "0", "held": True, "same": "EBUSY", "same_wrong_signature": "EPERM", "own": "EINVAL"}
OFF = {
    "asked": "0", "held": False, "own": "0", "cpu_id": 1, "asked_again": "0", "kernel_agrees": True,
    "given_back": "0", "cpu_id_after": 0xFFFFFFFF,
}  # fmt: skip


def one(case: str, main: dict[str, Any], other: dict[str, Any]) -> Outcome:
    lines = [main | {"thread": "main"}, other | {"thread": "other"}]
    return outcome(judge(RseqOwn(), material(), batch(said(f"rseq.own/{case}", *lines)))[case])


def test_green() -> None:
    assert one("12.1/tunable unset", ON, ON) is Outcome.PASS
    assert one("12.0/tunable=1", ON, ON) is Outcome.PASS
    assert one("12.0.z/tunable unset", OFF, OFF) is Outcome.PASS
    assert one("12.1/tunable=0", OFF, OFF) is Outcome.PASS


def test_a_flipped_default_is_red_both_ways() -> None:
    assert one("12.1/tunable unset", OFF, OFF) is Outcome.FAIL
    assert one("12.0.z/tunable unset", ON, ON) is Outcome.FAIL


def test_one_thread_that_differs_is_red() -> None:
    assert one("12.1/tunable=1", ON, OFF) is Outcome.FAIL
    assert one("12.1/tunable=0", OFF, ON) is Outcome.FAIL


@pytest.mark.parametrize("wrong", [{"own": "EBUSY"}, {"same": "0"}, {"same_wrong_signature": "EINVAL"}])
def test_another_refusal_is_red(wrong: dict[str, Any]) -> None:
    assert one("12.1/tunable=1", ON | wrong, ON) is Outcome.FAIL


@pytest.mark.parametrize(
    "wrong",
    [
        {"own": "EINVAL"}, {"kernel_agrees": False}, {"given_back": "EPERM"}, {"cpu_id_after": 1},
        {"cpu_id": 0xFFFFFFFF},
    ],
)  # fmt: skip
def test_an_area_that_is_not_really_ours_is_red(wrong: dict[str, Any]) -> None:
    assert one("12.1/tunable=0", OFF, OFF | wrong) is Outcome.FAIL


def test_a_kernel_that_does_not_tell_is_missing() -> None:
    assert one("12.1/tunable=0", OFF | {"asked": "EIO"}, OFF) is Outcome.MISSING


def test_one_thread_alone_is_no_answer() -> None:
    case = "12.1/tunable=1"
    answers = judge(RseqOwn(), material(), batch(said(f"rseq.own/{case}", ON | {"thread": "main"})))
    assert outcome(answers[case]) is Outcome.ERROR
