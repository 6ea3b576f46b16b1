"""launch.loading: where a library is found, and whose symbol comes first."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.check.loading import Loading
from pipeline.core.outcome import Finding, Outcome
from tests.check import probe_kit

Line = dict[str, Any]
BEST = "first/glibc-hwcaps/x86-64-v3"
DIRECTORIES = ("rpath", BEST, "first", "second", "runpath", "cached")


def path(directory: str) -> str:
    return f"/etc/{directory}/libfound.so.1"


def lines(over: dict[str, Line] | None = None, directories: tuple[str, ...] = DIRECTORIES) -> list[Line]:
    rounds = [(path(d), {"found": path(d), "whose": "found"}) for d in directories]
    rounds += [("nowhere", {"found": "", "whose": ""}), rounds[-1]]
    rounds += [("preloaded", {"found": path("cached"), "whose": "preloaded"})]
    made: list[Line] = []
    for name, seen in rounds:
        made += [{"round": name, "ldconfig": 0}, {**seen, "malloc": 1} | (over or {}).get(name, {})]
    return made


def judged(said: list[Line], **fields: Any) -> tuple[Outcome, str]:
    case = "12.1/dynamic, tunable unset"
    batch = probe_kit.batch(probe_kit.said(f"launch.loading/{case}", *said, **fields))
    answer = probe_kit.judge(Loading(), probe_kit.material(), batch)[case]
    assert isinstance(answer, Finding)
    return answer.outcome, answer.seen


def test_the_order_that_there_is_is_green() -> None:
    words = "9 rounds, the processor's directory being glibc-hwcaps/x86-64-v3"
    assert judged(lines()) == (Outcome.PASS, words)
    plain = tuple(d for d in DIRECTORIES if d != BEST)  # another architecture
    assert judged(lines(directories=plain)) == (Outcome.PASS, "8 rounds")


@pytest.mark.parametrize(
    ("where", "over", "words"),
    [
        (path(BEST), {"found": path("first")}, "first glibc-hwcaps/x86-64-v3: found as /etc/first/libfound"),
        (path("cached"), {"found": "", "whose": ""}, "cached: found as nothing, not /etc/cached"),
        (path("runpath"), {"found": path("cached")}, "runpath: found as /etc/cached/libfound.so.1"),
        ("nowhere", {"found": path("second")}, "nowhere: found as /etc/second/libfound.so.1, not nothing"),
        ("preloaded", {"whose": "found"}, "preloaded: the symbol is of found, not preloaded"),
        (path("rpath"), {"malloc": 0}, "rpath: the C library does not call the program's own malloc"),
        (path("second"), {"status": 139}, "second: the program ended with 0x8b"),
    ],
)
def test_another_order_is_red(where: str, over: Line, words: str) -> None:
    outcome, seen = judged(lines({where: over}))
    assert outcome is Outcome.FAIL
    assert words in seen


def test_an_ldconfig_that_fails_is_red() -> None:
    said = lines()
    said[0]["ldconfig"] = 256
    assert judged(said) == (Outcome.FAIL, "rpath: ldconfig ended with 0x100")


def test_rounds_that_are_lost_are_an_error_and_a_place_that_cannot_is_missing() -> None:
    assert judged(lines()[:-2])[0] is Outcome.ERROR
    assert judged(lines()[:-1])[0] is Outcome.ERROR
    assert judged(lines(directories=DIRECTORIES[1:]))[0] is Outcome.ERROR
    assert judged([], status=77)[0] is Outcome.MISSING
