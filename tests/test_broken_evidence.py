"""Evidence that was damaged or changed is refused or red: never a green, a traceback, or a long wait."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.core.outcome import Outcome
from pipeline.signoff import document
from tests.report.factory import draft

#: What is read must not take longer than this, whatever it is (seconds).
LONGEST = 10.0
KEPT = 10


def _small() -> bytes:
    """Evidence of a few findings, two of them red."""
    made = draft(("x86_64",))
    asked = {(f.check, f.target, f.case, f.place) for f in made.findings[:KEPT]}
    made.findings = made.findings[:KEPT]
    made.questions = [q for q in made.questions if (q.check, q.target, q.case, q.place) in asked]
    made.not_judged = []
    for number in (2, 7):
        made.findings[number] = made.findings[number].model_copy(update={"outcome": Outcome.FAIL})
    return made.evidence().text.encode()


RED = _small()
WHOLE: Any = json.loads(RED)


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a JSON document is."""
    found = [here] if here else []
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        found += _paths(child, (*here, key))
    return found


PATHS = _paths(WHOLE)
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.just([]), st.just({}),
    st.sampled_from(["PASS", "WAIVED", "ERROR", "2026-01-01T00:00:00Z", "bookworm"]),
)  # fmt: skip


def read(raw: bytes) -> Outcome | None:
    """The verdict of what was read; None if it was refused."""
    start = time.monotonic()
    try:
        return document.parse(raw, "evidence.json").verdict
    except PipelineError as e:
        return None if e.message and e.hint else Outcome.PASS  # an error that says nothing is as bad
    finally:
        assert time.monotonic() - start < LONGEST


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def test_what_the_others_start_from_is_read_and_red() -> None:
    assert read(RED) is Outcome.FAIL


@settings(max_examples=300)
@given(st.sampled_from(PATHS), st.one_of(st.just("remove"), JUNK.map(lambda junk: ("put", junk))))
def test_no_single_change_makes_two_reds_green(path: tuple[Any, ...], change: Any) -> None:
    changed = copy.deepcopy(WHOLE)
    holder = _at(changed, path[:-1])
    if change == "remove":
        del holder[path[-1]]
    else:
        holder[path[-1]] = change[1]
    seen = read(json.dumps(changed).encode())
    assert seen is None or not seen.green


@settings(max_examples=100)
@given(st.integers(0, len(RED)), st.binary(max_size=8))
def test_no_damage_of_bytes_is_green_or_a_traceback(at: int, junk: bytes) -> None:
    for raw in (RED[:at], RED[:at] + junk + RED[at + len(junk) :]):
        seen = read(raw)
        assert seen is None or not seen.green


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 100_000,
        b"1e999999", b'"' + b"\xff" * 9 + b'"',
        b'{"schema_version": 2}', b'{"schema_version": 1}', b'{"schema_version": 1e400}', b"NaN",
        b'{"schema_version": "2"}', b"1" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_evidence_is_refused(raw: bytes) -> None:
    assert read(raw) is None
