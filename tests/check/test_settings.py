"""rseq.settings: the forms in which the tunable may be set."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.check.settings import Settings, forms
from pipeline.core.outcome import Finding, Outcome
from tests.check import probe_kit

CHECK = Settings()
TUNABLE = "glibc.pthread.rseq"


def judged(*, over: dict[str, int | None] | None = None, **fields: Any) -> Finding:
    """Answers of ld.so for 12.1, whose default is 1; ``over``: form -> another value, None for no line."""
    results = []
    for n, form in enumerate(forms(TUNABLE, 1)):
        value = (over or {}).get(form.text, form.value)
        line = "" if value is None else f"{TUNABLE}: {value} (min: 0, max: 1)\n"
        out = f"glibc.malloc.check: 0 (min: 0, max: 3)\n{line}".encode()
        results.append(probe_kit.said(f"rseq.settings/12.1/{n}", **({"stdout": out} | fields)))
    answer = probe_kit.judge(CHECK, probe_kit.material(), probe_kit.batch(*results))["12.1/"]
    assert isinstance(answer, Finding)
    return answer


def test_each_form_as_documented_is_green() -> None:
    found = judged()
    assert found.outcome is Outcome.PASS
    assert found.measures == {"forms": len(list(forms(TUNABLE, 1)))}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"glibc.malloc.check=0:{TUNABLE}=0", 1),  # heard only where it stands first
        (f"{TUNABLE}=1:{TUNABLE}=0", 1),  # the first of two holds
        (f"{TUNABLE}=0x0", 1),
        (f"{TUNABLE}=2", 0),  # what is not allowed is taken for 0
        (f"{TUNABLE}x=0", 0),  # a longer name is taken for it
        (f"{TUNABLE}=-1", None),
    ],
)
def test_a_form_that_is_heard_otherwise_is_red(text: str, value: int | None) -> None:
    assert text in {form.text for form in forms(TUNABLE, 1)}
    found = judged(over={text: value})
    assert found.outcome is Outcome.FAIL
    assert repr(text) in found.seen


def test_the_forms_are_of_the_release_and_in_the_environment() -> None:
    jobs = CHECK.jobs(probe_kit.material())
    assert {job.env["GLIBC_TUNABLES"] for job in jobs if job.root == "12.0"} == {
        form.text for form in forms(TUNABLE, 0)
    }
    assert all(set(job.env) == {"GLIBC_TUNABLES"} for job in jobs)
    assert {form.value for form in forms(TUNABLE, 0)} == {0, 1}


def test_no_answer_is_missing_and_a_crash_is_an_error() -> None:
    assert judged(status=None, timed_out=True).outcome is Outcome.MISSING
    assert judged(status=None, signal=11).outcome is Outcome.ERROR
