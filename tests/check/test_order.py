"""launch.order: the order that needs ask for, the one that is usual, and each step once."""

from __future__ import annotations

import pytest

from pipeline import profile as profiles
from pipeline.check.order import DYNAMIC, NEEDS, OTHER, RING, STATIC, LaunchOrder, order_faults
from pipeline.core.outcome import Outcome
from tests.check import probe_kit

CASE = "dynamic, tunable unset"
#: What 2.34-83.1.el9 did, and upstream from 2.39 on.
REVERSED = DYNAMIC.partition(" -main")[0] + (
    " -main -early -inner -nested -two -one -late -late-base -top -ring-b -ring-a -left -right -base"
)


def judged(steps: str, release: str = "12.1", kind: str = "dynamic", **over: object) -> tuple[Outcome, str]:
    case = f"{kind}, tunable unset"
    lines = [{"step": step.replace("_", " ")} for step in steps.split()]
    said = probe_kit.said(f"launch.order/{release}/{case}", *lines, **over)
    answer = probe_kit.judge(LaunchOrder(), probe_kit.material(), probe_kit.batch(said))[f"{release}/{case}"]
    assert not hasattr(answer, "reason")
    return answer.outcome, answer.seen


def swapped(steps: str, one: str, other: str) -> str:
    words = {one: other, other: one}
    return " ".join(words.get(step, step) for step in steps.split())


def test_the_usual_order_is_green_and_a_circle_may_end_either_way() -> None:
    assert judged(DYNAMIC)[0] is Outcome.PASS
    assert judged(DYNAMIC.replace(RING, OTHER))[0] is Outcome.PASS
    assert judged(STATIC, kind="static")[0] is Outcome.PASS


def test_the_order_that_2_34_83_1_had_is_red_up_to_2_38() -> None:
    outcome, seen = judged(REVERSED)
    assert outcome is Outcome.FAIL
    assert seen.startswith("in another order from -inner on, where -ring-a was before: +preinit")
    assert order_faults("dynamic", REVERSED.split(), whole=False) == []


@pytest.mark.parametrize("one", sorted(set(NEEDS) - {"early", "main"}))
def test_a_need_that_is_not_heeded_is_red_in_every_glibc(one: str) -> None:
    for other in NEEDS[one]:
        for sign, words in (("+", f"+{one} before +{other}"), ("-", f"-{other} before -{one}")):
            wrong = swapped(DYNAMIC, f"{sign}{one}", f"{sign}{other}").split()
            assert words in order_faults("dynamic", wrong, whole=False)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("+preinit", "+base", "+base before +preinit"),
        ("+early", "+main", "+main before +early"),
        ("-early", "-main", "-early before -main"),
        ("-atexit_1", "-atexit_2", "-atexit_1 before -atexit_2"),
        ("-base", "-atexit_1", "-base before -atexit_1"),
        ("-closed-base", "=closed", "=closed before -closed-base"),
        ("+ring-b", "+early", "+early before +ring-b"),
    ],
)
def test_other_places_out_of_order_are_red(one: str, other: str, words: str) -> None:
    assert words in order_faults("dynamic", swapped(DYNAMIC, one, other).split(), whole=False)


@pytest.mark.parametrize("step", DYNAMIC.split())
def test_each_step_happens_once(step: str) -> None:
    steps = DYNAMIC.split()
    steps.remove(step)
    assert order_faults("dynamic", steps, whole=True) == [f"{step} did not happen"]
    assert order_faults("dynamic", [*DYNAMIC.split(), step], whole=True) == [f"{step} happened 2 times"]


def test_how_the_program_ends_counts() -> None:
    assert judged(DYNAMIC, status=None, signal=11)[0] is Outcome.FAIL
    assert judged(DYNAMIC, status=1, stderr=b"order-late: cannot open shared object file")[0] is Outcome.FAIL
    assert judged(DYNAMIC, status=None, timed_out=True)[0] is Outcome.MISSING
    assert judged("", status=127, kind="static")[0] is Outcome.MISSING


def test_profiles_are_of_a_glibc_whose_order_is_known() -> None:
    for name in profiles.available():
        assert tuple(map(int, profiles.load(name).glibc.split("."))) < (2, 39)
