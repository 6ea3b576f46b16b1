"""getcpu.fallback: without a vDSO the answer is right, and an error is an error; all else is red."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.check.fallback import REFUSED, GetcpuFallback
from pipeline.core.outcome import Finding, Outcome
from tests.check.probe_kit import batch, judge, material, said

Line = dict[str, Any]
ON, OFF = "12.1/static, tunable=1", "12.1/dynamic, tunable=0"


def lines(*, on: bool) -> list[Line]:
    """What a good libc says."""
    return [
        {
            "refused": error, "vdso": False, "cpus": 2, "wrong": 0,
            "failed": 2 if error and not on else 0, "errno": error if error and not on else "0",
            "getcpu": 0 if error else 2, "getcpu_wrong": 0, "getcpu_errno": error or "0",
        }
        for error in REFUSED
    ]  # fmt: skip


def one(case: str, said_lines: list[Line]) -> Finding:
    answer = judge(GetcpuFallback(), material(), batch(said(f"getcpu.fallback/{case}", *said_lines)))[case]
    assert isinstance(answer, Finding)
    return answer


def test_a_good_libc_is_green() -> None:
    assert one(ON, lines(on=True)).outcome is Outcome.PASS
    assert one(OFF, lines(on=False)).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("at", "change", "words"),
    [
        (0, {"wrong": 1}, "without a vDSO: sched_getcpu was wrong on 1 of 2 CPUs"),
        (0, {"failed": 2, "errno": "ENOSYS"}, "failed on 2 of 2 CPUs with errno ENOSYS, not on 0 with 0"),
        (
            1,
            {"failed": 0, "errno": "0", "wrong": 2},
            "getcpu refused with ENOSYS: sched_getcpu was wrong on 2",
        ),
        (1, {"errno": "0"}, "with errno 0, not on 2 with ENOSYS"),
        (2, {"errno": "ENOSYS"}, "with errno ENOSYS, not on 2 with EPERM"),
        (1, {"getcpu": 2}, "getcpu succeeded on 2 of 2 CPUs"),
        (1, {"getcpu_wrong": 2}, "2 answers were wrong"),
        (2, {"getcpu_errno": "0"}, "getcpu set errno to 0, not EPERM"),
    ],
)
def test_each_fault_is_red(at: int, change: Line, words: str) -> None:
    changed = lines(on=False)
    changed[at] |= change
    finding = one(OFF, changed)
    assert finding.outcome is Outcome.FAIL
    assert words in finding.seen


def test_a_registered_thread_needs_no_system_call() -> None:
    assert one(ON, lines(on=False)).outcome is Outcome.FAIL
    assert one(OFF, lines(on=True)).outcome is Outcome.FAIL


def test_what_was_not_shown_is_no_answer() -> None:
    assert one(ON, [x | {"vdso": True} for x in lines(on=True)]).outcome is Outcome.MISSING
    assert one(ON, [x | {"cpus": 1} for x in lines(on=True)]).outcome is Outcome.MISSING
    assert one(ON, lines(on=True)[:2]).outcome is Outcome.ERROR
