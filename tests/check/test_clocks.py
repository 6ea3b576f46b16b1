"""launch.clocks: functions whose answer the vDSO has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.check.clocks import CONTROL, FUNCTIONS, Clocks
from pipeline.core.outcome import NotJudged, Outcome
from tests.check import probe_kit

Line = dict[str, Any]
NAMES = (*FUNCTIONS, "getcpu")


def lines(over: dict[str, Line] | None = None, *, vdso: bool = True) -> list[Line]:
    found: list[Line] = []
    for name in (*NAMES, CONTROL):
        counted = {"in_vdso": 0, "system_calls": 1} if name == CONTROL else {"in_vdso": 23, "system_calls": 0}
        found.append({"from": "call", "name": name, "vdso": vdso})
        found.append(
            {"from": "steps", "instructions": 40, "numbers": [], **counted} | (over or {}).get(name, {})
        )
    return found


def judged(said: list[Line], kind: str = "dynamic", **over: Any) -> tuple[Outcome, str]:
    return probe_kit.judged_unset(Clocks(), kind, said, **over)


def test_functions_that_ask_the_vdso_are_green() -> None:
    assert judged(lines()) == (Outcome.PASS, f"{len(NAMES)} functions, each in the vDSO")
    made = lines({"clock_gettime": {"system_calls": 1}})  # the vDSO itself cannot read this clock
    assert judged(made, "static")[0] is Outcome.PASS


@pytest.mark.parametrize("name", NAMES)
def test_one_that_does_not_is_red(name: str) -> None:
    said = lines({name: {"in_vdso": 0, "system_calls": 1}})
    assert judged(said) == (Outcome.FAIL, f"{name} does not ask the vDSO (1 system calls)")


def test_a_place_without_a_vdso_shows_nothing() -> None:
    assert judged(lines(vdso=False))[0] is Outcome.MISSING
    batch = probe_kit.batch(facts=replace(probe_kit.REAL, emulation="user"))
    answers = probe_kit.judge(Clocks(), probe_kit.material(), batch)
    assert all(isinstance(a, NotJudged) for a in answers.values())


def test_what_was_not_counted_or_counted_wrong_is_an_error() -> None:
    assert judged(lines()[:-2])[0] is Outcome.ERROR
    assert judged(lines()[:-1])[0] is Outcome.ERROR
    assert judged(lines({CONTROL: {"in_vdso": 4}}))[0] is Outcome.ERROR
    assert judged([], status=None, signal=11)[0] is Outcome.FAIL
