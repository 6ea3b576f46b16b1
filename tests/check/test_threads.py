"""launch.threads, launch.credentials, launch.debugger: what threads are owed, what is told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.check import PlaceCheck
from pipeline.check.threads import THREADS, USERS, Credentials, Debugger, Threads
from pipeline.core import paths
from pipeline.core.outcome import NotJudged, Outcome
from tests.check import probe_kit
from tests.check.probe_kit import judged_unset as judged

Line = dict[str, Any]


def all_asked(kind: str, **over: Line) -> list[Line]:
    lines = {question: {"question": question, "wrong": None} for question in Threads().questions_of(kind)}
    return [line | over.get(question.replace(" ", "_"), {}) for question, line in lines.items()]


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_nothing_wrong_is_green(kind: str) -> None:
    outcome, seen = judged(Threads(), kind, all_asked(kind))
    assert (outcome, seen) == (Outcome.PASS, f"{len(Threads().questions_of(kind))} questions")


def test_the_program_asks_what_the_check_expects() -> None:
    source = (paths.PROBES / "threads/main.c").read_text()
    for kind in ("dynamic", "static"):
        assert all(f'"{question}"' in source for question in (*Threads().questions_of(kind), USERS))


def test_what_is_wrong_is_red_and_named() -> None:
    lines = all_asked("dynamic", stacks_are_given_back={"wrong": "memory is used up"})
    assert judged(Threads(), "dynamic", lines) == (Outcome.FAIL, "stacks are given back: memory is used up")


def test_a_question_without_an_answer_is_red() -> None:
    outcome, seen = judged(Threads(), "static", all_asked("static")[:-1])
    assert (outcome, seen) == (Outcome.FAIL, "the last thread ends the process: no answer")


def test_what_the_place_does_not_let_be_asked_is_missing_but_hides_no_fault() -> None:
    unable = {"threads_that_cannot_begin": {"cannot": "a filter: Operation not permitted"}}
    assert judged(Threads(), "dynamic", all_asked("dynamic", **unable))[0] is Outcome.MISSING
    wrong = {"affinity_and_policy": {"wrong": "its policy is 3"}}
    assert judged(Threads(), "dynamic", all_asked("dynamic", **unable, **wrong))[0] is Outcome.FAIL


def test_users_are_asked_by_themselves() -> None:
    assert {job.argv[-1] for job in Credentials().jobs(probe_kit.material())} == {USERS}
    assert judged(Credentials(), "static", [{"question": USERS, "wrong": None}])[0] is Outcome.PASS
    wrong = "the main thread is still user 0 after another thread's setresuid"
    assert judged(Credentials(), "dynamic", [{"question": USERS, "wrong": wrong}]) == (
        Outcome.FAIL, f"{USERS}: {wrong}"
    )  # fmt: skip
    one = {"question": USERS, "cannot": "becoming an ordinary user: Invalid argument"}
    assert judged(Credentials(), "dynamic", [one])[0] is Outcome.MISSING


def test_another_programs_answers_are_an_error() -> None:
    lines = [*all_asked("dynamic"), {"question": "the weather", "wrong": None}]
    assert judged(Threads(), "dynamic", lines)[0] is Outcome.ERROR


RIGHT = {"info": 0, "block": 0, "id": 1, "start": 1, "active": 1, "block_is": 1}
TOTAL = {"asked": 0, "counted": 6, "iterated": 0, "seen": 6, "mapped": 6, "found": 6}


def debugged(**over: Line) -> list[Line]:
    each = [{"thread": name, **RIGHT} | over.get(name.replace(" ", "_"), {}) for name in THREADS]
    return [{"init": 0, "new": 0}, *each, TOTAL | over.get("total", {})]


def test_a_debugger_that_is_told_the_truth_is_green() -> None:
    assert judged(Debugger(), "dynamic", debugged()) == (Outcome.PASS, "6 threads, each right")


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"main": {"id": 0}}, "main: its id is wrong"),
        ({"plain": {"block_is": 0}}, "plain: its data's place is wrong"),
        ({"own_stack": {"start": 0}}, "own stack: its function is wrong"),
        ({"detached": {"info": 15}}, "detached: error 15 where it is asked about"),
        ({"detached": {"thread": "unknown"}}, "the thread (detached) is not listed"),
        ({"total": {"counted": 5}}, "5 threads are counted, not 6"),
        ({"total": {"found": 1}}, "1 of 6 threads are found by their number"),
        ({"total": {"asked": 1}}, "counting and listing threads ends with the errors 1 and 0"),
    ],
)
def test_a_debugger_that_is_told_something_else_is_red(over: dict[str, Line], words: str) -> None:
    outcome, seen = judged(Debugger(), "dynamic", debugged(**over))
    assert outcome is Outcome.FAIL
    assert words in seen


def test_a_process_that_libthread_db_does_not_take_is_red() -> None:
    outcome, seen = judged(Debugger(), "dynamic", [{"init": 0, "new": 22}])
    assert (outcome, seen) == (Outcome.FAIL, "libthread_db does not take the process (td_ta_new: error 22)")


@pytest.mark.parametrize("check", [Threads(), Credentials(), Debugger()], ids=lambda c: c.name)
def test_how_the_program_ends_counts(check: PlaceCheck) -> None:
    assert judged(check, "dynamic", [], status=None, signal=11)[0] is Outcome.FAIL
    assert judged(check, "dynamic", [], status=77)[0] is Outcome.MISSING
    assert judged(check, "dynamic", [], status=None, timed_out=True)[0] is Outcome.MISSING


def test_user_mode_qemu_is_refused_by_name() -> None:
    batch = probe_kit.batch(facts=replace(probe_kit.REAL, emulation="user"))
    answers = probe_kit.judge(Threads(), probe_kit.material(), batch)
    assert all(isinstance(a, NotJudged) for a in answers.values())
