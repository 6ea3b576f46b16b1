"""The one door: an absent, cut, crashed or garbled answer is never a good one, whatever the check."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from pipeline.check import (
    announced,
    critical,
    fallback,
    getcpu,
    ownership,
    refusal,
    registration,
    secure,
    speed,
    static,
)
from pipeline.check.probing import ProbeCheck
from pipeline.core.outcome import NotJudged, Outcome
from pipeline.place import JobResult, PlaceFacts
from tests.check.probe_kit import REAL, batch, judge, material, outcome, outcomes, said

CHECKS: list[ProbeCheck] = [
    *registration.CHECKS, *static.CHECKS, *secure.CHECKS, *announced.CHECKS, *refusal.CHECKS,
    *ownership.CHECKS, *critical.CHECKS, *getcpu.CHECKS, *fallback.CHECKS,
    *speed.CHECKS,
]  # fmt: skip
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.name)
NEEDS_RSEQ = {
    "rseq.registered", "rseq.static", "rseq.secure", "rseq.own", "rseq.critical", "getcpu.path",
    "getcpu.steps", "getcpu.speed", "rseq.refused-later", "rseq.announced", "getcpu.fallback",
}  # fmt: skip


def spoiled(check: ProbeCheck, **over: Any) -> list[JobResult]:
    return [said(job.id, **over) for job in check.jobs(material())]


@each_check
def test_three_states_of_three_releases_are_asked(check: ProbeCheck) -> None:
    ways = {
        "rseq.static": 2, "rseq.secure": 2, "rseq.announced": 2, "getcpu.steps": 2, "getcpu.fallback": 2,
        "rseq.refused": 3, "rseq.refused-later": 3,
    }.get(check.name, 1)  # fmt: skip
    killed = 5 if check.name == "rseq.refused" else 0  # only where rseq is off
    assert len(check.questions(material(), "host")) == 9 * ways + killed
    ids = [job.id for job in check.jobs(material())]
    assert len(set(ids)) == len(ids)
    assert all(i.startswith(f"{check.name}/") for i in ids)


@each_check
def test_the_environment_is_the_tunable_alone(check: ProbeCheck) -> None:
    for job in check.jobs(material()):
        allowed: list[dict[str, str]] = [{}]
        if state := re.search("tunable=([01])", job.id):
            allowed.append({"GLIBC_TUNABLES": f"glibc.pthread.rseq={state[1]}"})
        assert job.env in allowed


@each_check
def test_no_result_is_missing(check: ProbeCheck) -> None:
    answers = judge(check, material(), batch(trouble="results are cut short after 0 jobs"))
    assert set(outcomes(answers).values()) == {Outcome.MISSING}
    assert all("cut short" in a.seen for a in answers.values() if not isinstance(a, NotJudged))


@each_check
def test_a_place_that_never_came_up_is_missing(check: ProbeCheck) -> None:
    answers = judge(check, material(), batch(facts=None, trouble="kernel panic"))
    assert set(outcomes(answers).values()) == {Outcome.MISSING}


@each_check
@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({"timed_out": True, "status": None, "signal": 9}, Outcome.MISSING),
        ({"status": 77, "stderr": b"this place does not permit tracing"}, Outcome.MISSING),
        ({"status": None, "code": "chroot", "error": "chroot /r: Operation not permitted"}, Outcome.MISSING),
        ({"status": None, "code": "exec", "error": "exec /x: No such file or directory"}, Outcome.ERROR),
        # the words decide nothing
        ({"status": None, "code": "exec", "error": "chroot /x: No such file or directory"}, Outcome.ERROR),
        ({"status": None, "code": "root", "error": "no such root"}, Outcome.MISSING),
        ({"status": None, "signal": 11}, Outcome.ERROR),
        ({"status": 1, "stderr": b"oops"}, Outcome.ERROR),
        ({"stdout": b""}, Outcome.ERROR),
    ],
)
def test_a_spoiled_answer(check: ProbeCheck, over: dict[str, Any], expected: Outcome) -> None:
    answers = judge(check, material(), batch(*spoiled(check, **over)))
    assert set(outcomes(answers).values()) == {expected}


@each_check
@pytest.mark.parametrize("stdout", [b"Segmentation fault\n", b'{"cut":', b"{}\n"])
def test_garbage_is_never_green(check: ProbeCheck, stdout: bytes) -> None:
    answers = judge(check, material(), batch(*spoiled(check, stdout=stdout)))
    if check.name == "rseq.tunable":  # it reads text, not JSON: garbage is a tunable that is not listed
        assert set(outcomes(answers).values()) == {Outcome.FAIL}
    else:
        assert set(outcomes(answers).values()) == {Outcome.ERROR}


@each_check
def test_a_place_of_another_architecture_is_an_error(check: ProbeCheck) -> None:
    answers = judge(check, material(), batch(facts=replace(REAL, machine="aarch64")))
    assert set(outcomes(answers).values()) == {Outcome.ERROR}


@each_check
@pytest.mark.parametrize("refusal", ["ENOSYS", "EPERM"])
def test_a_place_that_refuses_rseq_is_missing_and_never_green(check: ProbeCheck, refusal: str) -> None:
    answers = judge(check, material(), batch(facts=replace(REAL, rseq=refusal)))
    assert set(outcomes(answers).values()) == {Outcome.MISSING}
    if check.name in NEEDS_RSEQ:
        assert all(refusal in a.seen for a in answers.values() if not isinstance(a, NotJudged))


@each_check
def test_user_mode_qemu_is_refused_by_name(check: ProbeCheck) -> None:
    facts: PlaceFacts = replace(REAL, rseq="ENOSYS", emulation="user")
    answers = judge(check, material(), batch(facts=facts))
    for case, answer in answers.items():
        if check.name in NEEDS_RSEQ or (check.name == "rseq.refused" and "ENOSYS" not in case):
            assert isinstance(answer, NotJudged)
            assert "emulated" in answer.reason or "QEMU" in answer.reason
        else:
            assert outcome(answer) is Outcome.MISSING
