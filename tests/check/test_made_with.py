"""launch.user, devel.link: how a program ended says whether the release or the place is at fault."""

from __future__ import annotations

import pytest

from pipeline.check.made_with import AsUser, Linking
from pipeline.check.probing import CANNOT
from pipeline.core.outcome import Outcome
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
@pytest.mark.parametrize("check", [AsUser(), Linking()])
def test_how_it_ended(check: Linking, over: dict[str, object], wanted: Outcome) -> None:
    answers = judge(check, material(), batch(said(f"{check.name}/12.1/pie", **over)))
    assert outcome(answers["12.1/pie"]) is wanted
