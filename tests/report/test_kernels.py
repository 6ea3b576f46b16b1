"""A red that one kernel alone shows says so in every rendering; one that others show, too, does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.core.outcome import Outcome
from pipeline.report import html, junit, kernels, markdown, terminal
from pipeline.signoff.records import Evidence
from tests.report import factory

FAIL, MISSING, ERROR = Outcome.FAIL, Outcome.MISSING, Outcome.ERROR
CHECK, RELEASE, CASE = "rseq.critical", "12.1", "tunable=1"
RENDERINGS: tuple[Callable[[Evidence], str], ...] = (
    terminal.render, markdown.render, html.render, junit.render,
)  # fmt: skip


def spoiled(*outcomes: Outcome | None) -> Evidence:
    """The answers to one question on AArch64's kernels, in their order; None: as it was."""
    made = factory.draft()
    at = [p for p in made.places if p.arch == "aarch64"]
    assert len(at) == 2
    for place, outcome in zip(at, outcomes, strict=True):
        if outcome is not None:
            made.spoil(
                CHECK,
                outcome,
                "no abort was seen",
                release=RELEASE,
                arch="aarch64",
                case=CASE,
                place=place.place,
            )
    return made.evidence()


def test_a_red_of_one_kernel_says_on_which_it_is_green() -> None:
    evidence = spoiled(FAIL, None)
    first, second = (p.kernel for p in evidence.places if p.arch == "aarch64")
    note = f"only on {first}; green on {second}"
    assert list(kernels.notes(evidence).values()) == [note]
    assert evidence.verdict is FAIL
    for render in RENDERINGS:
        assert note in render(evidence).replace("&#43;", "+"), render


@pytest.mark.parametrize(
    "outcomes", [(FAIL, FAIL), (FAIL, ERROR), (FAIL, MISSING), (MISSING, None), (None, None)]
)
def test_a_red_of_all_kernels_or_without_a_green_does_not(outcomes: tuple[Outcome | None, ...]) -> None:
    evidence = spoiled(*outcomes)
    assert not kernels.notes(evidence)
    assert all("green on" not in render(evidence) for render in RENDERINGS)


def test_a_kernel_that_is_green_at_another_place_is_not_to_blame() -> None:
    made = factory.draft()
    first, second = (p for p in made.places if p.arch == "aarch64")
    red = made.spoil(CHECK, FAIL, release=RELEASE, arch="aarch64", case=CASE, place=first.place)
    assert kernels.notes(made.evidence())
    made.findings.append(red.model_copy(update={"outcome": Outcome.PASS, "place": "ssh:me@there"}))
    assert not kernels.notes(made.evidence())
    assert second.kernel != first.kernel
