"""What threads and contexts said is judged: all of it, or nothing was shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.check.contexts import REUSED, STARTS, RseqContexts, RseqThreads
from pipeline.check.probing import FacetedCase
from pipeline.core.arch import arch
from pipeline.core.outcome import Outcome
from pipeline.place import BatchResult, JobResult, PlaceFacts
from tests.check import probe_kit

Line = dict[str, Any]
CHECK = RseqThreads()
ON = "12.1/dynamic, tunable=1"
JOB = "rseq.threads/12.1/dynamic, tunable=1"


#: A kernel that writes node_id and mm_cid (6.3 and later say so).
FACTS = replace(probe_kit.REAL, kernel="6.12.0", rseq_feature_size=28)


def batch(said: JobResult, facts: PlaceFacts = FACTS) -> BatchResult:
    return probe_kit.batch(said, facts=facts)


def lines() -> list[Line]:
    """Every look, as a right glibc gives it, and what the tracer saw of threads that ended."""
    machine = arch("x86_64")
    looks = [
        {
            "context": context, "reused": int(n > 0) if context in REUSED else -1, "error": "0",
            "pointer": 140254171803744, "place": 2336, "size": 32, "signature": machine.rseq_signature,
            "flags": 0, "cpu_id_start": 1, "cpu_id": 1, "rseq_cs": 0, "area_flags": 0, "planted": 1,
            "tail": [0, 1, 0], "node": 0, "cpus": 2, "wrong": 0, "wrong_getcpu": 0,
            "touched": 0,
            "libc": {
                "offset": 2336, "size": 32, "flags": 0, "cpu_id_start": 1, "cpu_id": 1, "rseq_cs": 0,
                "area_flags": 0, "first": 1, "tail": [0, 1, 0],
            },
        }
        for context, count in STARTS.items()
        for n in range(count)
    ]  # fmt: skip
    return [*looks, {"from": "tracer", "looks": len(looks), "ends": 60, "registered": 60, "error": "0"}]


def with_libc(line: Line, **over: Any) -> Line:
    return {**line, "libc": {**line["libc"], **over}} if "libc" in line else line


def judged(changed: list[Line], *, facts: PlaceFacts = FACTS, **over: Any) -> tuple[Outcome, str]:
    answer = probe_kit.judge(
        CHECK, probe_kit.material(), batch(probe_kit.said(JOB, *changed, **over), facts)
    )[ON]
    assert not hasattr(answer, "reason")
    return answer.outcome, answer.seen


def test_all_as_it_should_be() -> None:
    assert judged(lines())[0] is Outcome.PASS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pointer": 0, "place": 0}, "detached: not registered with the kernel"),
        ({"size": 20}, "detached: the kernel's size is 0x14, not 0x20"),
        ({"signature": 1}, "the kernel's signature is 0x1"),
        ({"flags": 1}, "the kernel's flags is 0x1"),
        ({"cpu_id": 0xFFFFFFFE}, "the area holds no CPU number (0xfffffffe)"),
        ({"cpu_id_start": 0}, "the area holds no CPU number"),
        ({"rseq_cs": 16}, "detached: the area's rseq_cs is 0x10, not 0"),
        # an address differs in every run, and the cause of a finding must not
        ({"rseq_cs": 0x7FAD5A6B0FE0}, "detached: the area's rseq_cs is above 0xff, not 0"),
        ({"rseq_cs": 0x7FAE}, "detached: the area's rseq_cs is above 0xff, not 0"),  # half of an address
        ({"area_flags": 1}, "detached: the area's flags is 0x1, not 0"),
        ({"planted": 0}, "sched_getcpu does not read the area"),
        ({"wrong": 1}, "sched_getcpu was wrong on 1 of 2 CPUs"),
        ({"wrong_getcpu": 2}, "getcpu was wrong on 2 of 2 CPUs"),
        ({"touched": 2}, "detached: sched_getcpu or getcpu set errno on 2 of 2 CPUs"),
        ({"tail": [1, 1, 0]}, "detached: the area's node_id is 0x1, not 0x0"),
        ({"tail": [0, 0x3000, 0]}, "detached: the area's mm_cid is above 0xff, more than there are CPUs"),
        ({"tail": [0, 1, 5]}, "detached: the area's word at 28 is 0x5, not 0"),
        ({"libc": None}, "detached: the rseq symbols are not there"),
        ({"place": 2368}, "the area is not at one place in each thread: [2336, 2368]"),
    ],
)
def test_one_wrong_look_is_red(change: Line, said: str) -> None:
    changed = [{**line, **change} if line.get("context") == "detached" else line for line in lines()]
    outcome, seen = judged(changed)
    assert outcome is Outcome.FAIL
    assert said in seen


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 0}, "detached: __rseq_size is 0, not 32"),
        ({"flags": 1}, "detached: __rseq_flags is 1, not 0"),
        ({"offset": 0}, "detached: __rseq_offset is 0"),
        ({"offset": 2368}, "detached: the kernel's area is at +2336, __rseq_offset +2368"),
        ({"cpu_id": 0xFFFFFFFE}, "detached: cpu_id is 0xfffffffe, no CPU number"),
        ({"first": 0xFFFFFFFF}, "detached: cpu_id was 0xffffffff, no CPU number, until something made"),
    ],
)
def test_one_wrong_symbol_is_red(change: Line, said: str) -> None:
    changed = [with_libc(line, **change) if line.get("context") == "detached" else line for line in lines()]
    outcome, seen = judged(changed)
    assert outcome is Outcome.FAIL
    assert said in seen


def test_what_the_kernel_writes_is_known_from_the_place() -> None:
    """Not from the program: in a resolver, or where ld.so was called, its auxiliary vector may be unknown."""
    outcome, seen = judged(lines(), facts=probe_kit.REAL)  # 6.1 writes neither
    assert outcome is Outcome.FAIL
    assert "main: the area's word at 24 is 0x1, not 0" in seen


def test_a_thread_that_never_looked_is_seen_when_it_ends() -> None:
    *looks, ends = lines()
    outcome, seen = judged([*looks, {**ends, "registered": 59}])
    assert outcome is Outcome.FAIL
    assert "1 of 60 threads ended without registration" in seen
    assert judged([*looks, {**ends, "error": "EPERM"}])[0] is Outcome.MISSING


@pytest.mark.parametrize("change", [{"looks": 3}, {"ends": 0}, {"from": "another"}])
def test_a_tracer_that_saw_something_else_is_an_error(change: Line) -> None:
    *looks, ends = lines()
    assert judged([*looks, {**ends, **change}])[0] is Outcome.ERROR
    assert judged(looks)[0] is Outcome.ERROR


NONE = {"pointer": 0, "place": 0, "size": 0, "signature": 0, "planted": -1}
OFF: dict[str, Any] = {"size": 0, "cpu_id": 0xFFFFFFFE, "cpu_id_start": 0, "tail": [0, 0, 0]}


def off(release: str, *, libc: Line | None = OFF, registered: int = 0) -> tuple[Outcome, str]:
    """Of a release with rseq off, all the lines with these words of its libc."""
    *looks, ends = lines()
    looks = [(with_libc(x, **libc) if libc else x | {"libc": None}) | NONE for x in looks]
    case = "dynamic, tunable=0"
    said = probe_kit.said(f"rseq.threads/{release}/{case}", *looks, {**ends, "registered": registered})
    answer = probe_kit.judge(CHECK, probe_kit.material(), batch(said))[f"{release}/{case}"]
    assert not hasattr(answer, "reason")
    return answer.outcome, answer.seen


def test_what_is_said_with_rseq_off() -> None:
    assert off("12.0.z")[0] is Outcome.PASS
    assert off("12.0", libc=None)[0] is Outcome.PASS
    assert "the rseq symbols are there" in off("12.0")[1]
    assert "cpu_id is 0x1, not -2" in off("12.0.z", libc=OFF | {"cpu_id": 1})[1]
    assert "the area's word at 20 is 0x7, not 0" in off("12.0.z", libc=OFF | {"tail": [7, 0, 0]})[1]
    assert "cpu_id_start is 0x5, not 0" in off("12.0.z", libc=OFF | {"cpu_id_start": 5})[1]
    assert "flags is 0x1, not 0" in off("12.0.z", libc=OFF | {"area_flags": 1})[1]
    assert "__rseq_size is 32, not 0" in off("12.0.z", libc=OFF | {"size": 32})[1]
    assert "1 of 60 threads ended registered" in off("12.0.z", registered=1)[1]


def in_vfork(**over: Any) -> tuple[Outcome, str]:
    """As rseq.contexts judges its program, the child of vfork having said this."""
    check, case = RseqContexts(), "static, tunable=1"
    whole, first = lines(), lines()[0]
    counted = check.expected(FacetedCase(probe_kit.material().profile.get("12.1"), 1, "kind", "static"))
    looks = [{**first, "context": context} for context, count in counted.items() for _ in range(count)]
    looks = [{**x, **NONE, **over} if x["context"] == "child of vfork" else x for x in looks]
    said = probe_kit.said(f"rseq.contexts/12.1/{case}", *looks, {**whole[-1], "looks": len(looks)})
    answer = probe_kit.judge(check, probe_kit.material(), batch(said))[f"12.1/{case}"]
    assert not hasattr(answer, "reason")
    return answer.outcome, answer.seen


def test_a_child_in_its_parents_memory_is_not_registered() -> None:
    assert in_vfork()[0] is Outcome.PASS
    assert in_vfork(wrong=1)[0] is Outcome.PASS  # it reads its parent's area
    assert "child of vfork: registered with the kernel" in in_vfork(pointer=4096, signature=1)[1]
    assert "__rseq_offset is 0" in in_vfork(libc=lines()[0]["libc"] | {"offset": 0, "cpu_id": 0})[1]


@pytest.mark.parametrize("context", sorted(STARTS))
def test_a_look_that_is_not_there_is_red(context: str) -> None:
    found = lines()
    found.remove(next(line for line in found if line.get("context") == context))
    outcome, seen = judged(found)
    assert (outcome, context in seen) == (Outcome.FAIL, True)


@pytest.mark.parametrize("context", sorted(REUSED))
def test_without_a_used_descriptor_nothing_was_shown(context: str) -> None:
    fresh = [{**line, "reused": 0} if line.get("context") == context else line for line in lines()]
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


@pytest.mark.parametrize(("kind", "outcome"), [("static", Outcome.MISSING), ("dynamic", Outcome.FAIL)])
def test_a_static_program_that_is_not_there_has_no_archive(kind: str, outcome: Outcome) -> None:
    """A dynamic one that cannot be started lacks its loader."""
    file = "rseq-starts-static-12.1" if kind == "static" else "rseq-starts"
    words = f"look-tracer: /probes/{file}: No such file or directory\n".encode()
    said = probe_kit.said(f"rseq.threads/12.1/{kind}, tunable=1", status=127, stderr=words)
    answer = probe_kit.judge(CHECK, probe_kit.material(), batch(said))[f"12.1/{kind}, tunable=1"]
    assert not hasattr(answer, "reason")
    assert answer.outcome is outcome
