"""Material without a build, and batches written by hand, for the checks that judge what probes said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import profile as profiles
from pipeline.check import Material, PlaceCheck
from pipeline.core.arch import arch
from pipeline.core.outcome import Finding, NotJudged, Outcome
from pipeline.core.records import BuildManifest, Built
from pipeline.place import BatchResult, JobResult, PlaceFacts
from pipeline.profile import Profile

REAL = PlaceFacts(
    place="host",
    kernel="6.1.0",
    kernel_version="#1",
    machine="x86_64",
    cpus=2,
    cpu_model="a CPU",
    rseq="EINVAL",
)


def profile(**rseq: Any) -> Profile:
    """The bookworm profile, with other expectations of rseq."""
    loaded = profiles.load("bookworm")
    return loaded.model_copy(update={"rseq": loaded.rseq.model_copy(update=rseq)})


def material(
    roots: Mapping[str, Path] | Sequence[str] = ("12.0", "12.0.z", "12.1"),
    *,
    machine: str = "x86_64",
    of: Profile | None = None,
    programs: Path = Path("/nowhere"),
) -> Material:
    """Material of releases whose roots are given (or nowhere, for checks that only judge)."""
    of = of or profile()
    places = roots if isinstance(roots, Mapping) else dict.fromkeys(roots, Path("/nowhere"))
    built = {}
    for target in profiles.targets(of, tuple(places), (machine,)):
        manifest = BuildManifest(
            target=target, key="0" * 32, nvr="glibc-2.36-1", rpms=(), srpm=None, mode="supplied",
            place="elsewhere", hermetic=False, source=None, patches=(), image=None, seconds=0,
        )  # fmt: skip
        built[target.release] = Built(manifest=manifest, rpms=Path("/nowhere"), root=places[target.release])
    return Material(profile=of, arch=arch(machine), built=built, programs=programs)


def said(job: str, *lines: Mapping[str, Any], **over: Any) -> JobResult:
    """A job that ended well and printed these lines."""
    fields: dict[str, Any] = {
        "id": job, "status": 0, "signal": None, "timed_out": False,
        "stdout": b"".join(json.dumps(line).encode() + b"\n" for line in lines), "stderr": b"",
        "seconds": 0.1,
    }  # fmt: skip
    return JobResult(**(fields | over))


def batch(*results: JobResult, facts: PlaceFacts | None = REAL, trouble: str = "") -> BatchResult:
    return BatchResult(facts=facts, results={r.id: r for r in results}, trouble=trouble)


def judge(check: PlaceCheck, on: Material, what: BatchResult) -> dict[str, Finding | NotJudged]:
    """The check's answers by ``release/case``; each planned question must have exactly one."""
    answers = check.judge(on, "host", what)
    planned = {(str(q.target), q.case) for q in check.questions(on, "host")}
    assert {(str(a.target), a.case) for a in answers} == planned
    assert len(answers) == len(planned)
    assert all(a.check == check.name for a in answers)
    return {f"{a.target.release}/{a.case}": a for a in answers}


def judged_unset(
    check: PlaceCheck, kind: str, lines: Sequence[Mapping[str, Any]], **over: Any
) -> tuple[Outcome, str]:
    """Outcome and words of a `UnsetKinds` check about 12.1, whose program of ``kind`` printed ``lines``."""
    case = f"12.1/{kind}, tunable unset"
    answer = judge(check, material(), batch(said(f"{check.name}/{case}", *lines, **over)))[case]
    assert isinstance(answer, Finding)
    return answer.outcome, answer.seen


def outcome(answer: Finding | NotJudged) -> Outcome:
    assert isinstance(answer, Finding), answer
    return answer.outcome


def outcomes(answers: Mapping[str, Finding | NotJudged]) -> dict[str, Outcome]:
    return {case: outcome(answer) for case, answer in answers.items()}
