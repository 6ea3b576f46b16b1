"""What threads and contexts said is judged: all of it, or nothing was shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.check.contexts import REUSED, STARTS, RseqThreads
from pipeline.core.arch import arch
from pipeline.core.outcome import Outcome
from tests.check import probe_kit

Line = dict[str, Any]
CHECK = RseqThreads()
ON = "12.1/dynamic, tunable=1"
JOB = "rseq.threads/12.1/dynamic, tunable=1"


def lines() -> list[Line]:
    """Every look, as a right glibc gives it."""
    machine = arch("x86_64")
    return [
        {
            "context": context, "reused": int(n > 0) if context in REUSED else -1, "error": "0",
            "registered": True,
            "place": 2336, "size": 32, "signature": machine.rseq_signature, "flags": 0, "cpu_id_start": 1,
            "cpu_id": 1, "planted": 1, "cpus": 2, "wrong": 0, "wrong_getcpu": 0,
            "exported": True, "libc_offset": 2336, "libc_size": 32, "libc_flags": 0, "libc_cpu_id": 1,
        }
        for context, count in STARTS.items()
        for n in range(count)
    ]  # fmt: skip


def judged(changed: list[Line], **over: Any) -> tuple[Outcome, str]:
    answer = probe_kit.judge(
        CHECK, probe_kit.bench(), probe_kit.batch(probe_kit.said(JOB, *changed, **over))
    )[ON]
    assert not hasattr(answer, "reason")
    return answer.outcome, answer.seen


def test_all_as_it_should_be() -> None:
    assert judged(lines())[0] is Outcome.PASS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"registered": False, "place": 0}, "detached: not registered with the kernel"),
        ({"size": 20}, "detached: the kernel's size is 0x14, not 0x20"),
        ({"signature": 1}, "the kernel's signature is 0x1"),
        ({"flags": 1}, "the kernel's flags is 0x1"),
        ({"cpu_id": 0xFFFFFFFE}, "the area holds no CPU number (0xfffffffe)"),
        ({"cpu_id_start": 0}, "the area holds no CPU number"),
        ({"planted": 0}, "sched_getcpu does not read the area"),
        ({"wrong": 1}, "sched_getcpu was wrong on 1 of 2 CPUs"),
        ({"wrong_getcpu": 2}, "getcpu was wrong on 2 of 2 CPUs"),
        ({"exported": False}, "detached: the rseq symbols are not there"),
        ({"libc_size": 0}, "detached: __rseq_size is 0, not 32"),
        ({"libc_flags": 1}, "detached: __rseq_flags is 1, not 0"),
        ({"libc_offset": 0}, "detached: __rseq_offset is 0"),
        ({"libc_offset": 2368}, "detached: the kernel's area is at +2336, __rseq_offset +2368"),
        ({"place": 2368}, "the area is not at one place in each thread: [2336, 2368]"),
    ],
)
def test_one_wrong_look_is_red(change: Line, said: str) -> None:
    changed = [{**line, **change} if line["context"] == "detached" else line for line in lines()]
    outcome, seen = judged(changed)
    assert outcome is Outcome.FAIL
    assert said in seen


def off(release: str, **over: Any) -> tuple[Outcome, str]:
    """Of a release with rseq off, all the lines with these changes."""
    nothing = {
        "registered": False, "place": 0, "size": 0, "signature": 0, "planted": -1, "libc_size": 0,
        "libc_cpu_id": 0xFFFFFFFE,
    }  # fmt: skip
    case = "dynamic, tunable=0"
    said = probe_kit.said(f"rseq.threads/{release}/{case}", *(x | nothing | over for x in lines()))
    answer = probe_kit.judge(CHECK, probe_kit.bench(), probe_kit.batch(said))[f"{release}/{case}"]
    assert not hasattr(answer, "reason")
    return answer.outcome, answer.seen


def test_what_the_libc_says_with_rseq_off() -> None:
    assert off("12.0.z")[0] is Outcome.PASS
    assert off("12.0", exported=False)[0] is Outcome.PASS
    assert "the rseq symbols are there" in off("12.0")[1]
    assert "cpu_id is 0x1, not -2" in off("12.0.z", libc_cpu_id=1)[1]
    assert "__rseq_size is 32, not 0" in off("12.0.z", libc_size=32)[1]


@pytest.mark.parametrize("context", sorted(STARTS))
def test_a_look_that_is_not_there_is_red(context: str) -> None:
    found = lines()
    found.remove(next(line for line in found if line["context"] == context))
    outcome, seen = judged(found)
    assert (outcome, context in seen) == (Outcome.FAIL, True)


@pytest.mark.parametrize("context", sorted(REUSED))
def test_without_a_used_descriptor_nothing_was_shown(context: str) -> None:
    fresh = [{**line, "reused": 0} if line["context"] == context else line for line in lines()]
    assert judged(fresh) == (Outcome.MISSING, f"no descriptor was used again: {context}")


@pytest.mark.parametrize(
    ("spoil", "over", "outcome"),
    [
        (lambda line: line | {"cpus": 0}, {}, Outcome.MISSING),
        (lambda line: line | {"error": "ENOSYS"}, {}, Outcome.MISSING),
        (lambda line: line, {"status": 77}, Outcome.MISSING),
        (lambda line: line, {"status": None, "timed_out": True}, Outcome.MISSING),
        (lambda line: line, {"status": None, "signal": 11}, Outcome.FAIL),
        (lambda line: line, {"status": 1, "stderr": b"a thread cannot be joined"}, Outcome.FAIL),
    ],
    ids=["no-cpu", "no-word", "place", "hang", "crash", "gave-up"],
)
def test_how_the_program_ends_counts(
    spoil: Callable[[Line], Line], over: dict[str, Any], outcome: Outcome
) -> None:
    assert judged([spoil(line) for line in lines()], **over)[0] is outcome
