"""Outcomes: their order, what of nothing comes, and what they say to a caller."""

from __future__ import annotations

import itertools

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.core import errors
from pipeline.core.errors import ExitCode
from pipeline.core.outcome import Finding, Outcome, OutcomeName, Target, worst

ERROR, FAIL, MISSING, WAIVED, PASS = (
    Outcome.ERROR, Outcome.FAIL, Outcome.MISSING, Outcome.WAIVED, Outcome.PASS,
)  # fmt: skip


def test_the_worst_wins() -> None:
    order = [ERROR, FAIL, MISSING, WAIVED, PASS]
    assert order == sorted(Outcome, reverse=True)
    for better, worse in itertools.combinations(reversed(order), 2):
        assert worst([better, worse, better]) is worse


def test_of_nothing_at_all_missing() -> None:
    assert worst([]) is MISSING


def test_only_pass_and_waived_are_green() -> None:
    assert {o for o in Outcome if o.green} == {PASS, WAIVED}


def test_exit_codes() -> None:
    assert {o: int(o.exit_code) for o in Outcome} == {PASS: 0, WAIVED: 0, FAIL: 1, MISSING: 3, ERROR: 3}
    assert [int(c) for c in ExitCode] == [0, 1, 2, 3, 4, 130]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError, 2), (errors.EvidenceError, 3), (errors.MalformedInput, 3),
        (errors.WorldError, 4), (errors.ToolMissing, 4), (errors.SourceUnreachable, 4),
        (errors.HashMismatch, 4), (errors.NoSpace, 4), (errors.CommandFailed, 4),
    ],
)  # fmt: skip
def test_each_way_to_fail_has_its_exit_code(error: type[errors.PipelineError], code: int) -> None:
    raised = error("what", hint="remedy")
    assert (raised.exit_code, raised.message, raised.hint, str(raised)) == (code, "what", "remedy", "what")


def test_an_outcome_travels_by_name() -> None:
    adapter: TypeAdapter[Outcome] = TypeAdapter(OutcomeName)
    assert [adapter.dump_json(o) for o in Outcome] == [f'"{o.name}"'.encode() for o in Outcome]
    assert adapter.validate_json('"WAIVED"') is WAIVED
    with pytest.raises(ValidationError, match="unknown outcome 'GREEN'"):
        adapter.validate_json('"GREEN"')


def test_records_are_strict_and_frozen() -> None:
    target = Target(profile="p", release="1", arch="x86_64")
    finding = Finding(check="a.b", target=target, case="c", outcome=PASS, expected="x", seen="x")
    assert str(target) == "p/1/x86_64"
    assert finding.key == ("a.b", "p/1/x86_64", "c", "", "")
    with pytest.raises(ValidationError, match="frozen"):
        finding.outcome = FAIL  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Target.model_validate({"profile": "p", "release": "1", "arch": "x", "colour": "red"})
