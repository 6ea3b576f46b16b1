"""launch.user, devel.link, devel.profiling: is the release or the place at fault for how a program ended?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.check.made_with import CALLS, AsUser, Linking, Profiled
from pipeline.check.probing import CANNOT
from pipeline.core.outcome import Finding, Outcome
from tests.check.probe_kit import batch, judge, material, outcome, said


@pytest.mark.parametrize(
    ("over", "wanted"),
    [
        ({"status": 1}, Outcome.FAIL),
        ({"status": None, "signal": 11}, Outcome.FAIL),
        # in a user namespace there is nobody else to be
        ({"status": CANNOT, "stderr": b"as-user: becoming an ordinary user: EPERM"}, Outcome.MISSING),
        ({"timed_out": True, "status": None}, Outcome.MISSING),
    ],
)
@pytest.mark.parametrize("check", [AsUser(), Linking(), Profiled()])
def test_how_it_ended(check: Linking | Profiled, over: dict[str, object], wanted: Outcome) -> None:
    answers = judge(check, material(), batch(said(f"{check.name}/12.1/pie", **over)))
    assert outcome(answers["12.1/pie"]) is wanted


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({}, ""),
        ({"calls": 0}, f"calls is 0, not {CALLS}"),
        ({"covered": False}, "covered is False"),
        ({"ends": False}, "ends is False"),
        ({"status": 256}, "status is 256"),
        ({"magic": "", "version": None}, "magic is ''"),
    ],
)
def test_what_a_profile_must_have(over: dict[str, object], words: str) -> None:
    line = {"status": 0, "magic": "gmon", "version": 1, "calls": CALLS, "covered": True, "ends": True}
    answers = judge(Profiled(), material(), batch(said("devel.profiling/12.1/pie", line | over)))
    answer = answers["12.1/pie"]
    assert outcome(answer) is (Outcome.FAIL if words else Outcome.PASS)
    assert isinstance(answer, Finding)
    assert words in answer.seen


def test_profiles_of_older_releases_are_not_asked_for() -> None:
    on = material()
    older = replace(on, profile=on.profile.model_copy(update={"glibc": "2.34"}))
    assert Profiled().questions(on, "host")
    assert not Profiled().questions(older, "host")
    assert not Profiled().jobs(older)
