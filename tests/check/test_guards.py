"""launch.guards and launch.environment: secrets that are kept, and variables that are not heard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.check import PlaceCheck
from pipeline.check.guards import HEARD, LEFT, PLAIN, Environment, Guards
from pipeline.core.outcome import NotJudged, Outcome
from tests.check import probe_kit
from tests.check.probe_kit import judged_unset as judged

Line = dict[str, Any]
RANDOM = ["064349ee8adc7c77", "b9f7189f740b4ded"]
LOOK = {"stack": "064349ee8adc7c00", "pointer": RANDOM[1], "random": RANDOM}


def lines(**over: Line) -> list[Line]:
    found: dict[str, Line] = {who: {"context": who, **LOOK} for who in ("main", "thread", "child")}
    found["jump buffer"] = {"context": "jump buffer", "bare": 0}
    found["smashed"] = {"context": "smashed", "signal": 6}
    return [line | over.get(name.replace(" ", "_"), {}) for name, line in found.items()]


def test_guards_of_the_kernels_bytes_are_green() -> None:
    assert judged(Guards(), "dynamic", lines())[0] is Outcome.PASS
    none = {"stack": None, "pointer": None}
    assert judged(Guards(), "static", lines(main=none, thread=none, child=none))[0] is Outcome.PASS


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"thread": {"stack": "0" * 16}}, "thread: the stack guard is not made of the kernel's random bytes"),
        ({"main": {"stack": RANDOM[0]}}, "main: the stack guard is not made"),
        ({"child": {"pointer": LOOK["stack"]}}, "child: the pointer guard is not made"),
        ({"main": {"pointer": None}}, "main: the pointer guard is not there"),
        ({"jump_buffer": {"bare": 2}}, "2 addresses in a jump buffer are not mangled"),
        ({"smashed": {"signal": 0}}, "a program whose stack was smashed ended by signal 0"),
    ],
)
def test_a_guard_that_is_wrong_is_red(over: dict[str, Line], words: str) -> None:
    outcome, seen = judged(Guards(), "dynamic", lines(**over))
    assert outcome is Outcome.FAIL
    assert words in seen


PROGRAM: Line = {"from": "program", "secure": 0, "found": 1, "left": list(HEARD)}
ALL = [{"from": "auditor"}, {"from": "preload"}, {"from": "library"}]
SECURE = [{"from": "secure", "by": "kernel"}, PROGRAM | {"secure": 1, "found": 0, "left": []}]


def test_an_ordinary_program_hears_all_and_a_secure_one_none() -> None:
    assert judged(Environment(), PLAIN, [*ALL, PROGRAM])[0] is Outcome.PASS
    for kind in ("dynamic", "static"):
        assert judged(Environment(), kind, SECURE)[0] is Outcome.PASS


@pytest.mark.parametrize("who", ["auditor", "preload"])
def test_a_variable_that_a_secure_program_hears_is_red(who: str) -> None:
    assert judged(Environment(), "dynamic", [{"from": who}, *SECURE]) == (
        Outcome.FAIL, f"{who}: its variable was heard"
    )  # fmt: skip
    lacking = [line for line in ALL if line["from"] != who]
    assert f"{who}: its variable was not heard" in judged(Environment(), PLAIN, [*lacking, PROGRAM])[1]


def test_a_library_found_by_the_users_path_and_what_is_left_are_red() -> None:
    found = [SECURE[0], SECURE[1] | {"found": 1}]
    assert "library: its variable was heard" in judged(Environment(), "dynamic", found)[1]
    left = [SECURE[0], SECURE[1] | {"left": ["GCONV_PATH"]}]
    assert "GCONV_PATH is left in the environment" in judged(Environment(), "static", left)[1]


def test_a_program_that_was_not_made_secure_shows_nothing() -> None:
    assert judged(Environment(), "dynamic", [SECURE[0], PROGRAM])[0] is Outcome.MISSING
    facts = replace(probe_kit.REAL, emulation="user")
    batch = probe_kit.batch(facts=facts)
    answers = probe_kit.judge(Environment(), probe_kit.material(), batch)
    assert all(isinstance(a, NotJudged) for a in answers.values())


def test_the_variables_are_set_for_every_program() -> None:
    for job in Environment().jobs(probe_kit.material()):
        assert job.env == {**HEARD, **LEFT}
        assert set(job.argv) >= {*HEARD, *LEFT}


@pytest.mark.parametrize("check", [Guards(), Environment()], ids=lambda c: c.name)
def test_how_the_program_ends_counts(check: PlaceCheck) -> None:
    assert judged(check, "dynamic", [], status=None, signal=11)[0] is Outcome.FAIL
    assert judged(check, "dynamic", [], status=77)[0] is Outcome.MISSING
    assert judged(check, "dynamic", [], status=None, timed_out=True)[0] is Outcome.MISSING
    assert judged(check, "static", [], status=127)[0] is Outcome.MISSING
