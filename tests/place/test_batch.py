"""The job file and the result lines: what goes in comes back, and what is cut or garbled is noticed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import UsageError
from pipeline.place import Job
from pipeline.place.batch import EMULATED, decode_results, encode_jobs, for_emulation, longest

FACTS = {
    "kind": "facts", "cpus": 2, "kernel": "6.1.0", "kernel_version": "#1", "machine": "x86_64",
    "cpu_model": "a cpu", "hypervisor": "", "rseq": "EINVAL", "page_size": 4096,
    "rseq_feature_size": 28, "rseq_align": 32,
}  # fmt: skip


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def job_line(name: str, **over: Any) -> dict[str, Any]:
    return {
        "kind": "job", "id": name, "status": 0, "signal": None, "timed_out": False, "ns": 5_000_000,
        "code": "", "error": "", "stdout": b64(b"out"), "stderr": b64(b"err"),
    } | over  # fmt: skip


def stream(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_results_come_back() -> None:
    data = stream(FACTS, job_line("a"), job_line("b", status=None, signal=9), {"kind": "end", "jobs": 2})
    batch = decode_results(data, place="host")
    assert batch.trouble == ""
    assert batch.facts is not None
    assert (batch.facts.kernel, batch.facts.cpus, batch.facts.judges_time) == ("6.1.0", 2, True)
    assert batch.results["a"].stdout == b"out"
    assert batch.results["a"].seconds == 0.005
    assert batch.results["b"].ending() == "signal 9"


def test_missing_end_is_trouble() -> None:
    batch = decode_results(stream(FACTS, job_line("a")), place="host")
    assert batch.trouble == "results are cut short after 1 jobs"
    assert set(batch.results) == {"a"}


@given(st.integers(min_value=0))
def test_a_stream_cut_anywhere_is_trouble(cut: int) -> None:
    whole = stream(FACTS, job_line("a"), job_line("b"), {"kind": "end", "jobs": 2})
    part = whole[: cut % (len(whole) - 1)]  # the last newline may go
    assert decode_results(part, place="host").trouble


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"[]",
        b'{"kind":"job"}',
        b'{"kind":"what"}',
        b'{"kind":"end","jobs":"1"}',
        json.dumps(job_line("a")).encode(),
        json.dumps(job_line("x", stdout="*")).encode(),
        json.dumps(job_line("x", status="0")).encode(),
        json.dumps(job_line("x", status=True)).encode(),
    ],
)
def test_a_garbage_line_is_trouble_and_the_rest_is_kept(line: bytes) -> None:
    data = stream(FACTS, job_line("a")) + line + b"\n" + stream(job_line("b"), {"kind": "end", "jobs": 2})
    batch = decode_results(data, place="host")
    assert "line 3 of the results cannot be read" in batch.trouble
    assert set(batch.results) == {"a", "b"}


def test_a_wrong_count_and_a_line_after_the_end_are_trouble() -> None:
    assert "1 results came, 2 were sent" in decode_results(
        stream(FACTS, job_line("a"), {"kind": "end", "jobs": 2}), place="host"
    ).trouble  # fmt: skip
    assert "after the end" in decode_results(
        stream(FACTS, {"kind": "end", "jobs": 0}, job_line("a")), place="host"
    ).trouble  # fmt: skip


def test_the_runners_and_the_callers_trouble_are_both_told() -> None:
    data = stream(FACTS, {"kind": "trouble", "message": "no mounts"})
    batch = decode_results(data, place="host", trouble="status 1")
    assert batch.trouble == "status 1; no mounts; results are cut short after 0 jobs"


def test_no_bytes_at_all() -> None:
    batch = decode_results(b"", place="vm")
    assert batch.facts is None
    assert batch.trouble


def test_a_hypervisor_called_tcg_is_emulation() -> None:
    data = stream(FACTS | {"hypervisor": "TCGTCGTCGTCG"}, {"kind": "end", "jobs": 0})
    facts = decode_results(data, place="ssh:a@b").facts
    assert facts is not None
    assert facts.emulation == "tcg"
    assert not facts.judges_time


def test_job_file() -> None:
    job = Job("a/b%", "12.0", ("/x", "two words\n"), {"A": "ü"}, timeout=1.5)
    assert encode_jobs([job]) == (
        b"jobs 1\njob a/b%25\nroot 12.0\ntimeout 1500\nenv A=%C3%BC\narg /x\narg two words%0A\nend 1\n"
    )
    assert longest([job]) > 31.5


def test_jobs_for_an_emulated_place_have_more_time_and_know_where_they_run() -> None:
    job = Job("a", "r", ("/x",), {"A": "b"}, timeout=1.5)
    assert for_emulation([job], 4.0) == [Job("a", "r", ("/x",), {"A": "b", EMULATED: "1"}, timeout=6.0)]
    assert job.env == {"A": "b"}


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ([Job("a", "r", ("/x",))] * 2, "two jobs"),
        ([Job("a", "r", ())], "no program"),
        ([Job("a", "r", ("/x\0",))], "zero byte"),
    ],
)
def test_jobs_that_cannot_be_sent(jobs: list[Job], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        encode_jobs(jobs)
