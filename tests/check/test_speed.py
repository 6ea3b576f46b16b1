"""getcpu.speed: ratios are judged, a busy machine never makes a red, emulation is refused by name."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from pipeline.check.speed import GetcpuSpeed, Rule, SpeedRatio, compare
from pipeline.core.outcome import Finding, NotJudged, Outcome
from pipeline.place import JobResult
from tests.check.probe_kit import REAL, batch, judge, material, outcomes, said

#: ns a call on a quiet machine
QUIET = {"unset": 1.25, "off": 2.8, "on": 1.25, "raw": 95.0, "direct": 0.6, "empty": 0.25}


def measured(ns: dict[str, float], noise: float = 0.05, rounds: int = 50, seed: int = 1) -> JobResult:
    """Samples that are each up to ``noise`` above what the kind costs; one in ten was preempted as well.

    In the middle of it all the machine becomes twice as slow for good.
    """
    chance = random.Random(seed)
    lines = []
    for kind, value in ns.items():
        samples = []
        for i in range(rounds):
            slow = (1 if i < rounds // 2 else 2) * (10 if chance.random() < 0.1 else 1)
            samples.append(value * slow * (1 + noise * chance.random()))
        lines.append({"kind": kind, "ns": samples if value >= 0 else [value] * rounds})
    return said("getcpu.speed/12.1", *lines)


def judged(result: JobResult) -> list[Outcome]:
    """Outcomes for the tunable unset, 0, 1."""
    return list(outcomes(judge(GetcpuSpeed(), material(["12.1"]), batch(result))).values())


G, R, M = Outcome.PASS, Outcome.FAIL, Outcome.MISSING


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [G, G, G]),
        ({"on": 95.0, "unset": 95.0, "off": 95.0}, [G, G, R]),  # a system call in every state: over direct
        ({"on": 2.8, "unset": 2.8}, [G, G, R]),  # the vDSO although on: 4.7 x a direct read
        ({"off": 1.0}, [G, G, M]),  # at 1.25 x exactly, within the noise
        ({"off": 0.9}, [G, G, R]),  # on costs more than off
        ({"unset": 2.8}, [R, G, G]),  # the default is not what it should be
        ({"off": 200.0}, [G, R, G]),  # off is dearer than the system call it may take
        ({"direct": -1.0}, [G, G, M]),  # the area could not be found
    ],
)
def test_ratios(change: dict[str, float], expected: list[Outcome]) -> None:
    assert judged(measured(QUIET | change)) == expected


def test_aarch64s_gain_is_seen_in_any_noise() -> None:
    arm = {"unset": 3.0, "off": 300.0, "on": 3.0, "raw": 290.0, "direct": 1.4, "empty": 0.4}
    assert judged(measured(arm, noise=0.2)) == [G, G, G]


def test_a_busy_machine_is_missing_not_red() -> None:
    near = QUIET | {"on": 1.7, "unset": 1.7}  # 2.8 x
    assert judged(measured(near, noise=0.8))[2] is M


@pytest.mark.parametrize("seed", range(20))
def test_another_speed_of_the_machine_in_the_middle_is_no_speed_of_a_kind(seed: int) -> None:
    """As seen in a cloud: two samples of one kind ran at the first speed, all others at the second."""
    result = measured(QUIET, rounds=300, seed=seed)
    assert judged(result) == [G, G, G]


def test_a_share_of_slow_calls_that_hides_in_the_fastest_tenth_is_seen() -> None:
    """Three calls in four cost too much: the fastest tenth of the samples would not know."""
    ns = {kind: [value] * 60 for kind, value in QUIET.items()}
    ns["unset"] = [2.8 if i % 4 else 1.25 for i in range(60)]
    result = said("getcpu.speed/12.1", *({"kind": kind, "ns": values} for kind, values in ns.items()))
    assert judged(result) == [R, G, G]


def test_only_agreement_of_both_ends_decides() -> None:
    rule = Rule("on", 2.0, "off")
    assert compare(rule, SpeedRatio(1.5, 1.7, 2.0)) is G
    assert compare(rule, SpeedRatio(2.1, 2.2, 2.3)) is R
    assert compare(rule, SpeedRatio(1.9, 2.05, 2.1)) is M


def test_the_interval_of_a_median() -> None:
    """Of 100 rounds three deviations are 15 ranks to either side of the middle; few rounds tell nothing."""
    ratio = SpeedRatio.of([float(n) for n in range(1, 101)], [1.0] * 100)
    assert (ratio.low, ratio.median, ratio.high) == (35.0, 50.5, 66.0)
    assert SpeedRatio.of([3.0, 1.0, 2.0], [1.0] * 3) == SpeedRatio(1.0, 2.0, 3.0)
    assert str(SpeedRatio(1, 1.234, 2)) == "1.23 (1.00-2.00)"


def test_what_is_no_round_is_an_error() -> None:
    result = measured(QUIET)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    lines[0]["ns"].pop()
    assert judged(said("getcpu.speed/12.1", *lines)) == [Outcome.ERROR] * 3


def test_emulated_times_are_shown_unjudged() -> None:
    facts = replace(REAL, emulation="tcg")
    answers = judge(GetcpuSpeed(), material(["12.1"]), batch(measured(QUIET), facts=facts))
    for answer in answers.values():
        assert isinstance(answer, NotJudged)
        assert "tcg" in answer.reason
    assert "on_ns" in answers["12.1/tunable=1"].measures


def test_all_samples_are_kept_for_the_plot() -> None:
    answer = judge(GetcpuSpeed(), material(["12.1"]), batch(measured(QUIET)))["12.1/tunable=1"]
    assert isinstance(answer, Finding)
    for kind in ("on", "off", "raw", "direct"):
        assert len(answer.measures[f"{kind}_ns"]) == 50


def test_a_kind_that_is_not_there_is_an_error() -> None:
    assert judged(measured({k: v for k, v in QUIET.items() if k != "raw"})) == [Outcome.ERROR] * 3
    assert judged(measured(QUIET, rounds=0)) == [Outcome.ERROR] * 3
