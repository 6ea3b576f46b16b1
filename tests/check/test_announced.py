"""rseq.announced: a larger area that is announced changes nothing; one that is taken is red."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.check.announced import ANNOUNCED, RseqAnnounced
from pipeline.core.outcome import Finding, Outcome
from tests.check.probe_kit import batch, judge, material, outcomes, said
from tests.check.test_registration import GOOD, Lines, lines, linked


def heard(size: int = ANNOUNCED, align: int = ANNOUNCED) -> dict[str, Any]:
    return {"from": "announced", "size": size, "align": align}


def one(case: str, said_lines: Lines) -> Finding:
    answer = judge(RseqAnnounced(), material(), batch(said(f"rseq.announced/{case}", *said_lines)))[case]
    assert isinstance(answer, Finding)
    return answer


def test_an_area_that_stays_the_same_is_green() -> None:
    cases = {linked(case, kind): facts for case, facts in GOOD.items() for kind in ("dynamic", "static")}
    results = [
        said(f"rseq.announced/{case}", heard(), *lines(on=on, exports=exports))
        for case, (on, exports) in cases.items()
    ]
    assert outcomes(judge(RseqAnnounced(), material(), batch(*results))) == dict.fromkeys(cases, Outcome.PASS)


@pytest.mark.parametrize("size", [33, 64, ANNOUNCED])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_larger_area_is_red(size: int, kind: str) -> None:
    changed = lines(on=True, exports=True)
    for word in (x for x in changed if x["from"] == "kernel"):
        word["size"] = size
    found = one(f"12.1/{kind}, tunable=1", [heard(), *changed])
    assert found.outcome is Outcome.FAIL
    assert f"the kernel's size is {size:#x}, not 0x20" in found.seen


def test_a_larger_size_in_libc_is_red() -> None:
    changed = lines(on=True, exports=True)
    changed[0]["size"] = ANNOUNCED
    assert one("12.1/static, tunable=1", [heard(), *changed]).outcome is Outcome.FAIL


@pytest.mark.parametrize("words", [[], [heard(28, 32)], [heard(ANNOUNCED, 32)]])
def test_what_was_not_heard_is_no_answer(words: Lines) -> None:
    assert one("12.1/static, tunable=1", [*words, *lines(on=True, exports=True)]).outcome is Outcome.ERROR
