"""rseq.registered, rseq.tunable: each fault turns its case red; a whole answer is green."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from pipeline.check.registration import THREADS, RseqRegistered, RseqTunable
from pipeline.core.outcome import Finding, Outcome
from tests.check.probe_kit import REAL, batch, judge, material, outcome, outcomes, said

Lines = list[dict[str, Any]]
SIGNATURE = 0x53053053


#: The area is its last member, as glibc's is.
DESCRIPTOR: dict[str, Any] = {
    "from": "descriptor",
    "size": 2368,
    "members": [["tid", 720, 4], ["specific", 1296, 256]],
}


def lines(*, on: bool, exports: bool) -> Lines:
    """What tracer and program say of a good libc."""
    libc: dict[str, Any] = {"from": "libc", "size": 32 if on else 0, "flags": 0, "offset": 2336}
    if not exports:
        libc |= dict.fromkeys(("size", "flags", "offset"), None)
    threads, kernel = [], []
    for i in range(THREADS + 1):
        tp = 0x7F0000000000 + i * 0x1000
        cpu = (1 if on else 0xFFFFFFFE) if exports else None
        threads.append({"from": "thread", "tid": 100 + i, "tp": tp, "cpu_id": cpu})
        word = {
            "from": "kernel",
            "tid": 100 + i,
            "error": "0",
            "pointer": 0,
            "size": 0,
            "signature": 0,
            "flags": 0,
        }
        if on:
            word |= {"pointer": tp + 2336, "size": 32, "signature": SIGNATURE, "cpu_id": 1, "cpu_id_start": 1}
        kernel.append(word)
    ends = [{"from": "tracer", "threads": 17}, {"from": "end", "threads": 17}]
    return [libc, *threads, *kernel, *ends, deepcopy(DESCRIPTOR)]


#: case -> (on, exported) of the three releases
GOOD = {
    "12.0/tunable unset": (False, False), "12.0/tunable=0": (False, False), "12.0/tunable=1": (True, False),
    "12.0.z/tunable unset": (False, True), "12.0.z/tunable=0": (False, True),
    "12.0.z/tunable=1": (True, True),
    "12.1/tunable unset": (True, True), "12.1/tunable=0": (False, True), "12.1/tunable=1": (True, True),
}  # fmt: skip


def linked(case: str, kind: str) -> str:
    """The case of a check that asks of programs linked in several ways."""
    release, _, state = case.partition("/")
    return f"{release}/{kind}, {state}"


def test_three_good_releases_are_green() -> None:
    results = [said(f"rseq.registered/{case}", *lines(on=on, exports=ex)) for case, (on, ex) in GOOD.items()]
    answers = judge(RseqRegistered(), material(), batch(*results))
    assert outcomes(answers) == dict.fromkeys(GOOD, Outcome.PASS)
    on = answers["12.1/tunable unset"]
    assert isinstance(on, Finding)
    assert on.measures == {"threads": 17, "registered": 17, "rseq_size": 32}
    assert on.kernel == "6.1.0"
    assert "0x53053053" in on.expected


def one(case: str, changed: Lines, *, machine: str = "x86_64") -> Finding:
    on = material(machine=machine)
    facts = replace(REAL, machine=machine)
    answer = judge(RseqRegistered(), on, batch(said(f"rseq.registered/{case}", *changed), facts=facts))[case]
    assert isinstance(answer, Finding)
    return answer


def kernel(lines: Lines, which: int = 5) -> dict[str, Any]:
    return [x for x in lines if x["from"] == "kernel"][which]


Change = Callable[[Lines], object]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: kernel(x).update(pointer=0, size=0, signature=0), "thread 105: not registered"),
        (lambda x: kernel(x).update(size=20), "size is 0x14, not 0x20"),
        (lambda x: kernel(x).update(signature=0xD428BC00), "signature is 0xd428bc00, not 0x53053053"),
        (lambda x: kernel(x).update(flags=1), "flags is 0x1"),
        (lambda x: kernel(x).update(pointer=kernel(x)["pointer"] + 32), "is at +2368, __rseq_offset +2336"),
        (lambda x: kernel(x).update(cpu_id=0xFFFFFFFE), "holds no CPU number"),
        (lambda x: kernel(x).update(cpu_id_start=0), "holds no CPU number"),
        (lambda x: x[0].update(size=20), "__rseq_size is 20, not 32"),
        (lambda x: x[0].update(size=0), "__rseq_size is 0, not 32"),
        (lambda x: x[0].update(flags=1), "__rseq_flags is 1"),
        (lambda x: x[0].update(offset=0), "__rseq_offset is 0"),
        (lambda x: x[0].update(size=None), "__rseq_size is not exported"),
        (lambda x: x[3].update(cpu_id=0xFFFFFFFF), "cpu_id is 0xffffffff"),
        (lambda x: x[-1].update(size=2367), "(32 bytes at +2336) is not within the thread's descriptor"),
        (lambda x: x[-1].update(size=0), "libc does not say how large a thread's descriptor is"),
        (lambda x: x[-1]["members"].append(["end", 2367, 1]), "descriptor) overlaps end (1 at 2367)"),
        (lambda x: x[-1]["members"].append(["last", 2329, 8]), "descriptor) overlaps last (8 at 2329)"),
    ],
)  # fmt: skip
def test_each_fault_of_a_registered_release_is_red(change: Change, words: str) -> None:
    changed = lines(on=True, exports=True)
    change(changed)
    finding = one("12.1/tunable unset", changed)
    assert finding.outcome is Outcome.FAIL
    assert words in finding.seen


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda x: kernel(x).update(pointer=4096, size=32),
            "thread 105: registered with the kernel",
        ),
        (lambda x: kernel(x).update(signature=SIGNATURE), "thread 105: registered"),
        (lambda x: x[0].update(size=32), "__rseq_size is 32, not 0"),
        (lambda x: x[-1].update(size=2000), "(32 bytes at +2336) is not within the thread's descriptor"),
        (lambda x: x[0].update(offset=0), "__rseq_offset is 0"),
        (lambda x: x[3].update(cpu_id=0xFFFFFFFF), "not -2"),
        (lambda x: x[3].update(cpu_id=1), "not -2"),
    ],
)
def test_each_fault_of_an_unregistered_release_is_red(change: Change, words: str) -> None:
    changed = lines(on=False, exports=True)
    change(changed)
    finding = one("12.0.z/tunable unset", changed)
    assert finding.outcome is Outcome.FAIL
    assert words in finding.seen


def test_an_older_kernel_gives_a_size_for_no_registration() -> None:
    changed = lines(on=False, exports=True)
    for line in changed:
        if line["from"] == "kernel":
            line["size"] = 32
    assert one("12.1/tunable=0", changed).outcome is Outcome.PASS


def test_a_flipped_default_is_red_both_ways() -> None:
    assert one("12.0.z/tunable unset", lines(on=True, exports=True)).outcome is Outcome.FAIL
    assert one("12.1/tunable unset", lines(on=False, exports=True)).outcome is Outcome.FAIL


def test_a_symbol_where_there_should_be_none_is_red() -> None:
    finding = one("12.0/tunable=0", lines(on=False, exports=True))
    assert finding.outcome is Outcome.FAIL
    assert "__rseq_size is exported" in finding.seen


def test_areas_at_different_places_are_red_where_no_symbol_says_where() -> None:
    changed = lines(on=True, exports=False)
    kernel(changed)["pointer"] += 64
    finding = one("12.0/tunable=1", changed)
    assert finding.outcome is Outcome.FAIL
    assert "not at one place" in finding.seen


def test_the_other_architectures_signature_is_expected_there() -> None:
    assert one("12.1/tunable=1", lines(on=True, exports=True), machine="aarch64").outcome is Outcome.FAIL
    right = lines(on=True, exports=True)
    for line in right:
        if line["from"] == "kernel":
            line["signature"] = 0xD428BC00
            line["pointer"] += -32 - 2336  # its descriptors end at the thread pointer
    right[0]["offset"] = -32
    assert one("12.1/tunable=1", right, machine="aarch64").outcome is Outcome.PASS
    right[-1]["members"].append(["last", 2335, 2])
    assert "descriptor) overlaps last" in one("12.1/tunable=1", right, machine="aarch64").seen
    for line in right:
        if line["from"] == "kernel":
            line["pointer"] += 32
    right[0]["offset"] = 0
    assert "(32 bytes at +0) is not within" in one("12.1/tunable=1", right, machine="aarch64").seen


def test_from_glibc_2_41_on_the_area_is_not_in_the_descriptor() -> None:
    changed = lines(on=True, exports=True)
    changed[-1].update(size=2000)
    on = material()
    newer = replace(on, profile=on.profile.model_copy(update={"glibc": "2.41"}))
    case = "12.1/tunable unset"
    for world, wanted in ((on, Outcome.FAIL), (newer, Outcome.PASS)):
        answer = judge(RseqRegistered(), world, batch(said(f"rseq.registered/{case}", *changed), facts=REAL))
        finding = answer[case]
        assert isinstance(finding, Finding)
        assert finding.outcome is wanted


def test_a_program_that_does_not_tell_of_its_descriptor_is_an_error() -> None:
    assert one("12.1/tunable=1", lines(on=True, exports=True)[:-1]).outcome is Outcome.ERROR


@pytest.mark.parametrize("gone", ["libc", "thread", "kernel", "end"])
def test_a_part_that_is_not_there_is_an_error(gone: str) -> None:
    whole = lines(on=True, exports=True)
    part = [x for x in whole if x["from"] != gone]
    assert one("12.1/tunable=1", part).outcome is Outcome.ERROR
    whole.remove(next(x for x in whole if x["from"] == gone))
    assert one("12.1/tunable=1", whole).outcome is Outcome.ERROR


@pytest.mark.parametrize("error", ["EIO", "EPERM"])
def test_a_kernel_that_does_not_tell_is_missing(error: str) -> None:
    changed = lines(on=False, exports=True)
    for line in changed:
        if line["from"] == "kernel":
            line["error"] = error
    assert one("12.1/tunable=0", changed).outcome is Outcome.MISSING


def listed(value: int) -> bytes:
    return f"glibc.malloc.check: 0 (min: 0, max: 3)\nglibc.pthread.rseq: {value} (min: 0, max: 1)\n".encode()


def test_the_tunable_is_listed_with_the_value_that_holds() -> None:
    check = RseqTunable()
    results = [said(f"rseq.tunable/{case}", stdout=listed(int(on))) for case, (on, _) in GOOD.items()]
    assert outcomes(judge(check, material(), batch(*results))) == dict.fromkeys(GOOD, Outcome.PASS)
    flipped = [said(f"rseq.tunable/{case}", stdout=listed(int(not on))) for case, (on, _) in GOOD.items()]
    assert outcomes(judge(check, material(), batch(*flipped))) == dict.fromkeys(GOOD, Outcome.FAIL)


@pytest.mark.parametrize(
    "stdout",
    [
        b"glibc.malloc.check: 0 (min: 0, max: 3)\n",
        b"glibc.pthread.rseq: 1 (min: 0, max: 2)\n",
        b"glibc.pthread.rseq: 1 (min: 0, max: 1)\nglibc.pthread.rseq: 1 (min: 0, max: 1)\n",
    ],
)
def test_a_tunable_not_listed_exactly_is_red(stdout: bytes) -> None:
    answers = judge(RseqTunable(), material(), batch(said("rseq.tunable/12.1/tunable unset", stdout=stdout)))
    assert outcome(answers["12.1/tunable unset"]) is Outcome.FAIL
