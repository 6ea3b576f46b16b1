"""launch.strings: functions of memory and strings in each variant."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.check.strings import BEST, FUNCTIONS, LEAST, LESS, TUNABLES, Strings
from pipeline.core.outcome import Outcome
from tests.check import probe_kit

Line = dict[str, Any]


def judged(kind: str, said: list[Line], **over: Any) -> tuple[Outcome, str]:
    return probe_kit.judged_unset(Strings(), kind, said, **over)


def lines(**over: Line) -> list[Line]:
    return [{"function": f, "length": -1, "pad": -1} | over.get(f, {}) for f in FUNCTIONS]


@pytest.mark.parametrize("kind", [BEST, LESS, LEAST, "static"])
def test_functions_that_are_right_are_green(kind: str) -> None:
    assert judged(kind, lines()) == (Outcome.PASS, f"{len(FUNCTIONS)} functions, none wrong")


def test_one_that_is_wrong_is_red() -> None:
    assert judged(LEAST, lines(memmove={"length": 97, "pad": 0})) == (
        Outcome.FAIL, "memmove is wrong of 97 bytes, 0 before the end of memory"
    )  # fmt: skip


def test_how_the_program_ends_counts() -> None:
    assert judged(BEST, [], status=None, signal=11)[0] is Outcome.FAIL
    assert judged(BEST, [], status=None, timed_out=True)[0] is Outcome.MISSING
    assert judged(BEST, lines()[:-1])[0] is Outcome.ERROR


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_each_variant_is_made_to_be_chosen(machine: str) -> None:
    on = probe_kit.material(machine=machine)
    told = {job.env.get("GLIBC_TUNABLES", "") for job in Strings().jobs(on)}
    assert told == {"", *(each[machine] for each in TUNABLES.values())}
