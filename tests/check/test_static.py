"""rseq.static: a program with libc.a in it is judged as one of a shared libc is, and by what is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.check.static import KINDS, RseqStatic
from pipeline.core.outcome import Finding, Outcome
from tests.check.probe_kit import batch, judge, material, outcomes, said
from tests.check.test_registration import GOOD, Change, Lines, kernel, lines

CASES = {
    (kind, case): f"{case.partition('/')[0]}/{kind}, {case.partition('/')[2]}"
    for case in GOOD
    for kind in KINDS
}


def one(case: str, said_lines: Lines) -> Finding:
    answer = judge(RseqStatic(), material(), batch(said(f"rseq.static/{case}", *said_lines)))[case]
    assert isinstance(answer, Finding)
    return answer


def test_both_ways_of_linking_are_asked_of_each_release_and_state() -> None:
    jobs = RseqStatic().jobs(material())
    assert len(jobs) == len(CASES) == 18
    assert {j.argv[1] for j in jobs if j.root == "12.0.z"} == {
        "/probes/rseq-static-12.0.z", "/probes/rseq-static-pie-12.0.z",
    }  # fmt: skip
    for job in jobs:  # a release's libc.a, in that release's root
        assert job.argv[1].endswith(f"-{job.root}")
        assert job.env.get("GLIBC_TUNABLES", "unset")[-1] == job.id[-1] or job.id.endswith("unset")


def test_good_releases_are_green() -> None:
    results = [
        said(f"rseq.static/{CASES[kind, case]}", *lines(on=on, exports=exports))
        for case, (on, exports) in GOOD.items()
        for kind in KINDS
    ]
    answers = judge(RseqStatic(), material(), batch(*results))
    assert outcomes(answers) == dict.fromkeys(CASES.values(), Outcome.PASS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_default_is_red_both_ways(kind: str) -> None:
    assert one(f"12.0/{kind}, tunable unset", lines(on=True, exports=False)).outcome is Outcome.FAIL
    assert one(f"12.0.z/{kind}, tunable unset", lines(on=True, exports=True)).outcome is Outcome.FAIL
    assert one(f"12.1/{kind}, tunable unset", lines(on=False, exports=True)).outcome is Outcome.FAIL


@pytest.mark.parametrize("kind", KINDS)
def test_a_tunable_without_effect_is_red(kind: str) -> None:
    assert one(f"12.0.z/{kind}, tunable=1", lines(on=False, exports=True)).outcome is Outcome.FAIL
    assert one(f"12.1/{kind}, tunable=0", lines(on=True, exports=True)).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: kernel(x).update(pointer=0, size=0, signature=0), "thread 105: not registered"),
        (lambda x: kernel(x).update(pointer=kernel(x)["pointer"] + 32), "__rseq_offset +2336"),
        (lambda x: x[0].update(size=20), "__rseq_size is 20, not 32"),
        (lambda x: x[0].update(flags=1), "__rseq_flags is 1"),
        (lambda x: x[0].update(size=None), "__rseq_size is not exported"),
    ],
)
def test_each_fault_is_red(change: Change, words: str) -> None:
    changed = lines(on=True, exports=True)
    change(changed)
    finding = one("12.1/static-pie, tunable unset", changed)
    assert finding.outcome is Outcome.FAIL
    assert words in finding.seen


def test_a_release_that_exports_symbols_must_have_them_in_libc_a_too() -> None:
    for case in ("12.0.z/static, tunable unset", "12.1/static, tunable=0"):
        assert one(case, lines(on=False, exports=False)).outcome is Outcome.FAIL


def test_symbols_nobody_promised_must_tell_the_truth() -> None:
    """A version script hides them in ld.so; an archive has none."""
    case = "12.0/static, tunable=1"
    assert one(case, lines(on=True, exports=True)).outcome is Outcome.PASS
    lies, half = lines(on=True, exports=True), lines(on=True, exports=True)
    lies[0]["size"] = 0
    half[0]["size"] = None
    assert "__rseq_size is 0, not 32" in one(case, lies).seen
    assert one(case, half).outcome is Outcome.FAIL


def test_a_release_without_libc_a_is_missing_and_another_failure_to_start_is_not(tmp_path: Path) -> None:
    case = "12.1/static, tunable unset"

    def started(words: bytes) -> Finding:
        result = said(f"rseq.static/{case}", status=127, stderr=b"rseq-tracer: " + words)
        answer = judge(RseqStatic(), material(programs=tmp_path), batch(result))[case]
        assert isinstance(answer, Finding)
        return answer

    missing = started(b"/probes/rseq-static-12.1: No such file or directory\n")
    assert missing.outcome is Outcome.MISSING
    assert "glibc-static" in missing.seen
    (tmp_path / "rseq-static-12.1").touch()
    assert started(b"/probes/rseq-static-12.1: Exec format error\n").outcome is Outcome.ERROR
