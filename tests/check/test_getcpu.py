"""getcpu.migration, getcpu.path, getcpu.steps: wrong answers, other paths and other costs are seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.check import Material
from pipeline.check.getcpu import EVERY_BIT, THREADS, GetcpuMigration, GetcpuPath, GetcpuSteps
from pipeline.core.outcome import Finding, Outcome
from tests.check.probe_kit import REAL, batch, judge, material, outcome, outcomes, said

CASE = "12.1/tunable=1"
OFF_CASE = "12.1/tunable=0"


def migrated(cpus: int = 2, wrong: int = 0, unpinned: int = 0, threads: int = THREADS + 1) -> Outcome:
    each = [{"cpu": i, "calls": 100, "wrong": wrong if i == 0 else 0, "seen": 7} for i in range(cpus)]
    total = {
        "cpus": cpus, "threads": threads, "calls": 100 * cpus, "wrong": wrong, "unpinned": unpinned,
    }  # fmt: skip
    answers = judge(GetcpuMigration(), material(), batch(said(f"getcpu.migration/{CASE}", *each, total)))
    return outcome(answers[CASE])


def test_migration() -> None:
    assert migrated() is Outcome.PASS
    assert migrated(wrong=1) is Outcome.FAIL
    assert migrated(wrong=1, cpus=1) is Outcome.FAIL
    assert migrated(cpus=1) is Outcome.MISSING
    assert migrated(unpinned=3) is Outcome.MISSING
    assert migrated(threads=1) is Outcome.ERROR


def test_migration_is_judged_under_user_mode_qemu_too() -> None:
    facts = replace(REAL, emulation="user", rseq="ENOSYS")
    lines = [{"cpu": i, "calls": 9, "wrong": 0, "seen": i} for i in range(2)]
    total = {"cpus": 2, "threads": THREADS + 1, "calls": 18, "wrong": 0, "unpinned": 0}
    result = said(f"getcpu.migration/{CASE}", *lines, total)
    assert outcome(judge(GetcpuMigration(), material(), batch(result, facts=facts))[CASE]) is Outcome.PASS


ON: dict[str, Any] = {
    "error": "0", "registered": True, "offset": 2336, "offset_from": "symbol", "at_kernel_pointer": True,
    "before": 0, "after": 0, "cpu": 0, "answer": 0, "tries": 2000, "planted": 2000, "other": 0,
    "passed": 0, "ones": EVERY_BIT, "zeros": EVERY_BIT, "wrote": 0, "read": 0,
    "marks": 4, "fell_back": 4,
}  # fmt: skip
OFF = ON | {
    "registered": False, "at_kernel_pointer": False, "before": 0xFFFFFFFE, "after": 0xFFFFFFFE,
    "planted": 2000,
}  # fmt: skip


def path(case: str, main: dict[str, Any], other: dict[str, Any]) -> Outcome:
    result = said(f"getcpu.path/{case}", main | {"thread": "main"}, other | {"thread": "other"})
    return outcome(judge(GetcpuPath(), material(), batch(result))[case])


def test_path_is_green_where_it_should_be() -> None:
    assert path(CASE, ON, ON) is Outcome.PASS
    assert path(OFF_CASE, OFF, OFF) is Outcome.PASS
    assert path("12.0/tunable=1", ON | {"offset_from": "kernel"}, ON) is Outcome.PASS


@pytest.mark.parametrize(
    "wrong",
    [
        {"planted": 0},
        {"planted": 1999, "passed": 1},
        {"planted": 1999},
        {"other": 1},
        {"ones": EVERY_BIT & ~1024},
        {"zeros": EVERY_BIT & ~1024},
        {"registered": False},
        {"at_kernel_pointer": False},
        {"answer": 1},
        {"fell_back": 3},
    ],
)
def test_a_getcpu_that_does_not_read_the_area_is_red(wrong: dict[str, Any]) -> None:
    assert path(CASE, ON | wrong, ON) is Outcome.FAIL
    assert path(CASE, ON, ON | wrong) is Outcome.FAIL


@pytest.mark.parametrize(
    "wrong", [{"registered": True}, {"before": 0}, {"after": 1}, {"before": 0xFFFFFFFF}, {"answer": 1}]
)
def test_an_area_in_use_though_off_is_red(wrong: dict[str, Any]) -> None:
    assert path(OFF_CASE, OFF | wrong, OFF) is Outcome.FAIL


@pytest.mark.parametrize("unknown", [{"offset": None}, {"cpu": -1}, {"error": "EIO"}])
def test_a_path_that_cannot_be_shown_is_missing(unknown: dict[str, Any]) -> None:
    assert path(CASE, ON | unknown, ON) is Outcome.MISSING


def steps(on: Material, counts: dict[str, tuple[int, int]]) -> dict[str, Outcome]:
    results = [
        said(
            f"getcpu.steps/12.1/{kind}, {case}",
            {"from": "steps", "instructions": n, "system_calls": calls, "numbers": [309] * calls},
            {"from": "program", "cpu": 0},
        )
        for case, (n, calls) in counts.items()
        for kind in ("dynamic", "static")
    ]
    facts = replace(REAL, machine=on.arch.name)
    found = outcomes(judge(GetcpuSteps(), on, batch(*results, facts=facts)))
    of = [
        {c.replace(f"{k}, ", ""): o for c, o in found.items() if f"/{k}, " in c}
        for k in ("dynamic", "static")
    ]
    assert of[0] == of[1]
    return of[0]


def counted(unset: tuple[int, int], off: tuple[int, int], on: tuple[int, int], arch: str) -> list[Outcome]:
    counts = {"tunable unset": unset, "tunable=0": off, "tunable=1": on}
    return list(steps(material(["12.1"], machine=arch), counts).values())


G, R = Outcome.PASS, Outcome.FAIL


@pytest.mark.parametrize(
    ("arch", "unset", "off", "on", "expected"),
    [
        ("x86_64", (16, 0), (44, 0), (16, 0), [G, G, G]),
        ("aarch64", (13, 0), (24, 1), (13, 0), [G, G, G]),
        ("x86_64", (44, 0), (44, 0), (44, 0), [R, R, R]),  # rseq silently not used: the vDSO in every state
        ("x86_64", (25, 1), (25, 1), (25, 1), [R, R, R]),  # a system call in every state
        ("x86_64", (44, 0), (44, 0), (16, 0), [R, G, G]),  # the default is off
        ("x86_64", (16, 0), (16, 0), (16, 0), [R, R, R]),  # rseq although it is off
        ("x86_64", (46, 0), (74, 0), (46, 0), [R, G, R]),  # the vDSO as well as the area, in every state
        ("aarch64", (24, 1), (24, 1), (24, 1), [R, G, R]),  # rseq silently not used
        ("aarch64", (13, 0), (13, 0), (13, 0), [R, R, R]),  # rseq although it is off
        ("aarch64", (13, 0), (40, 2), (13, 0), [G, R, G]),  # one system call too many
    ],
)
def test_steps(
    arch: str, unset: tuple[int, int], off: tuple[int, int], on: tuple[int, int], expected: list[Outcome]
) -> None:
    assert counted(unset, off, on, arch) == expected


def test_a_count_of_nothing_or_without_its_opposite_is_no_answer() -> None:
    on = material(["12.1"])
    assert steps(on, {"tunable=1": (0, 0), "tunable=0": (44, 0)})["12.1/tunable=1"] is Outcome.ERROR
    assert steps(on, {"tunable=1": (16, 0)})["12.1/tunable=1"] is Outcome.MISSING


def test_the_figures_are_kept() -> None:
    line = {"from": "steps", "system_calls": 0, "numbers": []}
    result = [
        said(f"getcpu.steps/12.1/static, tunable={i}", line | {"instructions": n})
        for i, n in ((0, 44), (1, 16))
    ]
    answer = judge(GetcpuSteps(), material(["12.1"]), batch(*result))["12.1/static, tunable=1"]
    assert isinstance(answer, Finding)
    assert answer.measures["on_instructions"] == 16
    assert answer.measures["on_system_calls"] == 0
