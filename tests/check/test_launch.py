"""The launch checks' judgements: on batches written by hand, and programs linked against small DSOs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.check import Material, PlaceCheck, StaticCheck
from pipeline.check.launch import CONTROL, LaunchMatrix, starts
from pipeline.check.launch_needs import PRINTS, RSEQ, STATIC, Needs
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.run import run
from pipeline.place import BatchResult, JobResult
from tests import elf_edit as edits
from tests.check import probe_kit
from tests.check.probe_kit import REAL
from tests.elf_fixtures import LD, RSEQ_SOURCE, Dso

PASS, FAIL, ERROR, MISSING = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.MISSING
NODE = "GLIBC_2.35"
LOADER = "ld-linux-x86-64.so.2"
LIBC = Dso("libc.so.6", "int puts_ = 1, newer = 1;", {"GLIBC_2.34": ("puts_",), NODE: ("newer",)})
LOAD = Dso(LOADER, RSEQ_SOURCE, {NODE: ("__rseq_flags", "__rseq_size", "__rseq_offset")})

Answer = dict[str, Outcome]


def link(file: Path, *symbols: str) -> None:
    """A program that takes these symbols from the small DSOs; without any it needs no DSO."""
    source = file.with_name(f".{file.name}.c")
    source.write_text(
        "".join(f"extern int {s};\n" for s in symbols)
        + f"int main(void) {{ return {' + '.join(symbols) or '0'}; }}\n"
    )
    kind = [] if symbols else ["-static-pie"]
    dsos = [file.parent / ".dso" / d for d in (LIBC.soname, LOADER)] if symbols else []
    run(["gcc", "-fPIE", "-nostdlib", "-Wl,-e,main", *kind, source, "-o", file, "-Wl,--as-needed", *dsos])
    source.unlink()


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("probes")
    for dso in (LIBC, LOAD):
        dso.build(directory / ".dso" / dso.soname)
    for name in PRINTS:
        link(directory / name, *({RSEQ: ("puts_", "__rseq_size"), STATIC: ()}.get(name, ("puts_",))))
    return directory


@pytest.fixture
def programs(linked: Path, tmp_path: Path) -> Path:
    """A copy of the programs, for tests that replace one."""
    run(["cp", "-a", linked, tmp_path / "probes"])
    return tmp_path / "probes"


def refusal(program: str = RSEQ, dso: str = f"/lib64/{LOADER}", node: str = NODE) -> bytes:
    path = f"/probes/{program}"
    return f"{path}: {dso}: version `{node}' not found (required by {path})\n".encode()


def right(material: Material) -> BatchResult:
    """What comes back from releases that are right."""
    results = []
    for start in starts(material):
        if start.program == RSEQ and start.release == "12.0":
            result = probe_kit.said(start.job, status=1, stderr=refusal())
        else:
            line: dict[str, Any] = {"name": start.program, **PRINTS[start.program]}
            if start.program == RSEQ:
                on = start.state if start.state is not None else int(start.release == "12.1")
                line |= {"offset": 2336, "size": 32 if on else 0}
            result = probe_kit.said(start.job, line)
        results.append(result)
    return probe_kit.batch(*results)


def judged(material: Material, batch: BatchResult) -> Answer:
    answers = probe_kit.judge(LaunchMatrix(), material, batch)
    return {key: probe_kit.outcome(a) for key, a in answers.items()}


def but(batch: BatchResult, job: str, change: Callable[[JobResult], JobResult | None]) -> BatchResult:
    """The batch with one result changed or taken away."""
    results = dict(batch.results)
    changed = change(results.pop(f"launch.matrix/{job}"))
    if changed:
        results[changed.id] = changed
    return replace(batch, results=results)


def prints(**changes: Any) -> Callable[[JobResult], JobResult]:
    """Changes what a program printed (None: the key is gone)."""

    def change(result: JobResult) -> JobResult:
        line = {k: v for k, v in (json.loads(result.stdout) | changes).items() if v is not None}
        return replace(result, stdout=json.dumps(line).encode() + b"\n")

    return change


def test_the_checks_are_checks() -> None:
    watched: PlaceCheck = LaunchMatrix()
    static: StaticCheck = Needs()
    assert (watched.name, static.name) == ("launch.matrix", "launch.needs")


def test_right_releases_pass(linked: Path) -> None:
    material = probe_kit.material(programs=linked)
    answers = judged(material, right(material))
    assert set(answers.values()) == {PASS}
    assert len(answers) == 3 * (len(PRINTS) - 1 + 3) + 1
    assert f"12.0/{CONTROL}" in answers
    assert "12.0/rseq on 12.0, tunable=1" in answers
    assert "12.1/cxx on 12.1" in answers
    assert {j.id for j in LaunchMatrix().jobs(material)} == set(right(material).results)
    for job in LaunchMatrix().jobs(material):
        assert job.id.startswith("launch.matrix/")
        assert dict(job.env) in ({}, {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"},
                                 {"GLIBC_TUNABLES": "glibc.pthread.rseq=1"})  # fmt: skip


@pytest.mark.parametrize("state", ["tunable unset", "tunable=0", "tunable=1"])
def test_a_program_that_starts_where_it_must_not(linked: Path, state: str) -> None:
    material = probe_kit.material(programs=linked)
    started = json.dumps({"name": RSEQ, "offset": 2336, "size": 0, "flags": 0, "aligned": True}).encode()
    batch = but(
        right(material), f"{RSEQ}/12.0/{state}", lambda r: replace(r, status=0, stdout=started, stderr=b"")
    )
    answers = judged(material, batch)
    assert {k for k, v in answers.items() if v is not PASS} == {f"12.0/rseq on 12.0, {state}"}
    assert answers[f"12.0/rseq on 12.0, {state}"] is FAIL


def test_no_refusal_at_all_leaves_the_control_missing(linked: Path) -> None:
    material = probe_kit.material(programs=linked)
    batch = right(material)
    for state in ("tunable unset", "tunable=0", "tunable=1"):
        batch = but(batch, f"{RSEQ}/12.0/{state}", lambda r: replace(r, status=0, stderr=b""))
    assert judged(material, batch)[f"12.0/{CONTROL}"] is MISSING


@pytest.mark.parametrize(
    "change",
    [
        {"stderr": b""},
        {"stderr": b"Segmentation fault\n"},
        {"stderr": refusal(node="GLIBC_2.36")},
        {"stderr": refusal(dso="/lib64/libc.so.6")},
        {"stderr": refusal(program="launch-plain")},
        {"stderr": refusal() + refusal(dso="/lib64/libc.so.6", node="GLIBC_2.36")},
        {"stderr": refusal().replace(b"version", b"symbol")},
        {"status": None, "signal": 11},
        {"status": 77},
        {"status": 0},
        {"stdout": b'{"name": "launch-rseq"}\n'},
        {"status": None, "error": "exec /probes/launch-rseq: No such file or directory", "stderr": b""},
    ],
)
def test_refused_otherwise_than_by_the_loader_for_the_node(linked: Path, change: dict[str, Any]) -> None:
    material = probe_kit.material(programs=linked)
    batch = but(right(material), f"{RSEQ}/12.0/tunable unset", lambda r: replace(r, **change))
    assert judged(material, batch)["12.0/rseq on 12.0, tunable unset"] is FAIL


@pytest.mark.parametrize("release", ["12.0.z", "12.1"])
def test_refused_where_it_must_start(linked: Path, release: str) -> None:
    material = probe_kit.material(programs=linked)
    batch = but(
        right(material), f"{RSEQ}/{release}/tunable=1",
        lambda r: replace(r, status=1, stdout=b"", stderr=refusal()),
    )  # fmt: skip
    assert judged(material, batch)[f"{release}/rseq on {release}, tunable=1"] is FAIL


@pytest.mark.parametrize("program", [p for p in PRINTS if p != RSEQ])
@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, status=None, signal=11, stdout=b""),
        lambda r: replace(r, status=127, stdout=b"", stderr=b"cannot open shared object file"),
        lambda r: replace(r, status=None, error="exec /probes/x: No such file or directory", stdout=b""),
        lambda r: replace(r, stdout=b""),
        lambda r: replace(r, stdout=r.stdout * 2),
        lambda r: replace(r, stdout=b"hello\n"),
        lambda r: replace(r, status=2),
        prints(extra=1),
        prints(name="other"),
    ],
)
def test_a_program_that_crashes_or_says_something_else(
    linked: Path, program: str, change: Callable[[JobResult], JobResult]
) -> None:
    material = probe_kit.material(programs=linked)
    batch = but(right(material), f"{program}/12.0.z/tunable unset", change)
    answers = judged(material, batch)
    assert {k: v for k, v in answers.items() if v is not PASS} == {
        f"12.0.z/{program.removeprefix('launch-')} on 12.0.z": FAIL
    }


@pytest.mark.parametrize(("program", "key"), [(p, k) for p, line in PRINTS.items() for k in line])
def test_every_value_counts(linked: Path, program: str, key: str) -> None:
    material = probe_kit.material(programs=linked)
    old = PRINTS[program][key]
    other: Any = {"x": 1} if isinstance(old, dict) else int(old) if isinstance(old, bool) else f"{old}x"
    for value in (other, None):
        batch = but(right(material), f"{program}/12.1/tunable unset", prints(**{key: value}))
        assert FAIL in judged(material, batch).values()


@pytest.mark.parametrize(
    ("state", "change"),
    [
        ("tunable unset", {"size": 0}),
        ("tunable=0", {"size": 32}),
        ("tunable=1", {"size": 20}),
        ("tunable=1", {"offset": 0}),
        ("tunable=1", {"offset": None}),
    ],
)
def test_wrong_values_of_the_symbols(linked: Path, state: str, change: dict[str, Any]) -> None:
    material = probe_kit.material(programs=linked)
    batch = but(right(material), f"{RSEQ}/12.1/{state}", prints(**change))
    assert judged(material, batch)[f"12.1/rseq on 12.1, {state}"] is FAIL


def test_user_mode_qemu_has_no_rseq_and_is_judged_so(linked: Path) -> None:
    material = probe_kit.material(programs=linked)
    batch = replace(right(material), facts=replace(REAL, emulation="user", rseq="ENOSYS"))
    assert judged(material, batch)["12.1/rseq on 12.1, tunable=1"] is FAIL  # size 32 cannot be true there
    for release, state in (
        ("12.1", "tunable unset"), ("12.1", "tunable=1"), ("12.0.z", "tunable=1"),
    ):  # fmt: skip
        batch = but(batch, f"{RSEQ}/{release}/{state}", prints(size=0))
    assert set(judged(material, batch).values()) == {PASS}


@pytest.mark.parametrize("program", list(PRINTS))
def test_a_job_that_did_not_come_back_is_missing(linked: Path, program: str) -> None:
    material = probe_kit.material(programs=linked)
    batch = but(right(material), f"{program}/12.0/tunable unset", lambda _: None)
    answers = judged(material, replace(batch, trouble="the console was cut"))
    assert MISSING in answers.values()
    assert set(answers.values()) == {PASS, MISSING}


@pytest.mark.parametrize(
    "change", [{"timed_out": True}, {"status": None, "code": "chroot", "error": "Operation not permitted"}]
)
def test_timed_out_or_not_to_be_had_is_missing(linked: Path, change: dict[str, Any]) -> None:
    material = probe_kit.material(programs=linked)
    batch = but(right(material), "launch-cxx/12.0/tunable unset", lambda r: replace(r, **change))
    assert judged(material, batch)["12.0/cxx on 12.0"] is MISSING


def test_a_place_that_never_came_up_is_missing(linked: Path) -> None:
    material = probe_kit.material(programs=linked)
    answers = judged(material, BatchResult(facts=None, results={}, trouble="kernel panic"))
    assert set(answers.values()) == {MISSING}


def test_a_program_that_was_not_compiled_is_missing(programs: Path) -> None:
    (programs / RSEQ).unlink()
    material = probe_kit.material(programs=programs)
    answers = judged(material, right(material))
    assert {k for k, v in answers.items() if v is MISSING} == {
        k for k in answers if "rseq on" in k or CONTROL in k
    }


def test_a_control_that_does_not_need_the_node_is_no_control(programs: Path) -> None:
    link(programs / RSEQ, "puts_")
    material = probe_kit.material(programs=programs)
    batch = right(material)
    for state in ("tunable unset", "tunable=0", "tunable=1"):
        line = {"name": RSEQ, **PRINTS[RSEQ], "offset": 2336, "size": 32 if state == "tunable=1" else 0}
        started = json.dumps(line).encode()
        batch = but(
            batch, f"{RSEQ}/12.0/{state}",
            lambda r, s=started: replace(r, status=0, stdout=s, stderr=b""),  # type: ignore[misc]
        )  # fmt: skip
    answers = judged(material, batch)
    assert {k: v for k, v in answers.items() if v is not PASS} == {f"12.0/{CONTROL}": MISSING}
    assert needs(material)[RSEQ] is FAIL


def test_no_control_is_planned_where_every_release_exports(linked: Path) -> None:
    material = probe_kit.material(["12.0.z", "12.1"], programs=linked)
    assert not [q for q in LaunchMatrix().questions(material, "host") if q.case == CONTROL]


# -- launch.needs --------------------------------------------------------------------------------------------


def needs(material: Material) -> Answer:
    found: list[Finding] = Needs().run(material)
    assert [f.case for f in found] == [q.case for q in Needs().questions(material)]
    return {f.case: f.outcome for f in found}


def test_needs(linked: Path) -> None:
    assert needs(probe_kit.material(programs=linked)) == dict.fromkeys(PRINTS, PASS)


@pytest.mark.parametrize(
    ("program", "symbols"),
    [
        (RSEQ, ["puts_"]),  # needs it of nobody
        (RSEQ, ["newer"]),  # of libc instead
        (RSEQ, ["newer", "__rseq_size"]),  # of libc as well
        ("launch-plain", ["puts_", "__rseq_size"]),
        ("launch-cxx", ["puts_", "newer"]),
        (STATIC, ["puts_"]),  # not static
    ],
)
def test_a_program_with_other_needs(programs: Path, program: str, symbols: list[str]) -> None:
    link(programs / program, *symbols)
    assert needs(probe_kit.material(programs=programs)) == dict.fromkeys(PRINTS, PASS) | {program: FAIL}


def test_a_weak_need_is_none(programs: Path) -> None:
    """ld.so starts a program whose need of the node is weak on every release: it is no negative control."""
    edits.edit(programs / RSEQ, edits.verneed_weak(NODE))
    material = probe_kit.material(programs=programs)
    assert needs(material) == dict.fromkeys(PRINTS, PASS) | {RSEQ: FAIL}
    assert judged(material, right(material))[f"12.0/{CONTROL}"] is MISSING


def test_a_program_that_is_none(programs: Path) -> None:
    (programs / "launch-cxx").write_bytes(b"\x7fELF\x02\x01\x01" + b"\0" * 20)
    (programs / "launch-plain").unlink()
    material = probe_kit.material(programs=programs)
    assert needs(material) == dict.fromkeys(PRINTS, PASS) | {"launch-cxx": ERROR, "launch-plain": MISSING}
    assert judged(material, right(material))["12.0/cxx on 12.0"] is ERROR


def test_the_loader_of_the_tests_is_known() -> None:
    assert LD.startswith("ld-linux")
