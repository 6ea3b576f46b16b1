"""Evidence of schema version 1, read as version 2, and of version 2 as it first was.

Version 1 had no table of checks, named the judge by a version number alone, and marked a negative control
by the words of what was expected. What it lacked is filled in from what its writer knew; what it never asked
stays unasked, so it is never release grade here.
"""

from __future__ import annotations

import re
from typing import Any

from pipeline.core.declaration import Declaration, Need, Scope, Unit, measured
from pipeline.signoff.completeness import OWN

#: Measures of which more is known than their name, by check: what a report counts and draws.
MEASURES = {
    "abi.baseline": measured(Unit.SYMBOLS, "*_symbols"),
    "getcpu.steps": (
        *measured(Unit.INSTRUCTIONS, "instructions"),
        *measured(Unit.SYSTEM_CALLS, "system_calls", "syscalls"),
    ),
    "getcpu.speed": measured(Unit.NANOSECONDS, "*_ns"),
}
#: What version 2 says since evidence of it was first written, by the list it is in, with what stands for it.
LATER: dict[str, dict[str, Any]] = {
    "places": {"page_size": 0, "rseq_feature_size": 0, "rseq_align": 0},
    "builds": {"beside": [], "rebuild": None, "tree": "", "seen": {}},
}
#: Checks that version 1 could hold, in its report's order, with what they needed and were asked about.
CHECKS = tuple(
    Declaration(
        name=name,
        question=question,
        needs=needs,
        scope=scope,
        release_grade=name != "glibc.tests",
        measures=MEASURES.get(name, ()),
    )
    for name, question, needs, scope in (
        ("abi.baseline", "Do public symbols equal the committed baseline?", (), Scope.RELEASE),
        ("abi.delta", "Are symbols gained and lost between releases those intended?", (), Scope.STEP),
        ("abi.node-whole", "Is a gained version node whole, and in no other DSO?", (), Scope.LATER),
        ("abi.rseq-layout", "Have the rseq symbols the right size, kind and section?", (), Scope.RELEASE),
        ("rpm.provides", "Do the packages provide the version nodes they should?", (), Scope.STEP),
        ("rpm.requires", "Does a program's package get its Requires by itself?", (), Scope.NEWEST),
        ("rpm.transaction", "Is that package accepted and refused where it should be?", (), Scope.RELEASE),
        ("launch.needs", "Does only the rseq program need the new node?", (), Scope.NEWEST),
        ("glibc.tests", "Do glibc's own tests pass in the build?", (), Scope.RELEASE),
        ("rseq.registered", "Is every thread registered, or none?", (Need.RSEQ,), Scope.RELEASE),
        ("rseq.tunable", "Has the tunable the right default and bounds?", (), Scope.RELEASE),
        ("rseq.fallback", "Do threads run where there is no rseq?", (), Scope.RELEASE),
        ("rseq.static", "Are static programs registered alike?", (Need.RSEQ,), Scope.RELEASE),
        ("rseq.secure", "Does the default hold in AT_SECURE programs?", (Need.RSEQ,), Scope.RELEASE),
        ("rseq.own", "Is a program's own registration answered rightly?", (Need.RSEQ,), Scope.RELEASE),
        ("rseq.critical", "Do critical sections lose no increment?", (Need.RSEQ,), Scope.RELEASE),
        ("getcpu.migration", "Is sched_getcpu right under migration?", (Need.TWO_CPUS,), Scope.RELEASE),
        ("getcpu.path", "Does sched_getcpu read the rseq area?", (Need.RSEQ,), Scope.RELEASE),
        ("getcpu.steps", "What does one call take?", (Need.RSEQ,), Scope.RELEASE),
        ("getcpu.speed", "Is a call as fast as it should be?", (Need.RSEQ, Need.TIME), Scope.RELEASE),
        ("launch.matrix", "Do programs start where they should?", (), Scope.RELEASE),
    )
)
#: How version 1 said that a launch had to be refused.
_REFUSAL = re.compile(
    r"\b(refus\w*|rejected|not start\w*|must not|does not start|not found)\b", re.IGNORECASE
)
_LAUNCH = re.compile(r"(?P<program>.+?) on [^,]+(?:, tunable[ =](?P<tunable>unset|0|1))?")


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 of evidence that is valid version 1; raises what reading a malformed record may raise."""
    tool = str(data["tool"])
    rest = {k: v for k, v in data.items() if k not in ("tool", "schema_version")}
    profile = data["profile"]
    newest = profile["steps"][-1]["after"] if profile["steps"] else profile["releases"][-1]
    controls = {_key(f) for f in data["findings"] if _control(f)}
    return {
        **rest,
        "schema_version": 2,
        "pipeline": {"version": tool, "commit": "", "changed": []},
        "checks": [d.model_dump(mode="json") for d in (*CHECKS, *OWN)],
        "profile": {**profile, "build_against": newest, "kernels": {}},
        "baselines": [],
        **{
            kind: [_faceted(record, controls) for record in data[kind]]
            for kind in ("questions", "findings", "not_judged")
        },
    }


def completed(data: dict[str, Any]) -> bool:
    """Fill in what evidence of version 2 lacks that was written before version 2 had it.

    That is units of measures, and facts of places and builds. Returns whether anything was lacking. What is
    of another shape is left as it is, for the model to refuse.
    """
    lacking = False
    for one in _records(data, "checks"):
        if "measures" not in one:
            known = MEASURES.get(str(one.get("name")), ())
            one["measures"] = [m.model_dump(mode="json") for m in known]
            lacking = True
    for key, facts in LATER.items():
        for one in _records(data, key):
            absent = {k: v for k, v in facts.items() if k not in one}
            one.update(absent)
            lacking = lacking or bool(absent)
    return lacking


def _records(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = data.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _key(record: dict[str, Any]) -> tuple[str, ...]:
    return (record["check"], str(record["target"]), record["case"], record["place"])


def _control(finding: dict[str, Any]) -> bool:
    launched = finding["check"] == "launch.matrix" and _LAUNCH.fullmatch(finding["case"])
    return bool(launched) and _REFUSAL.search(finding["expected"]) is not None


def _faceted(record: dict[str, Any], controls: set[tuple[str, ...]]) -> dict[str, Any]:
    found = _LAUNCH.fullmatch(record["case"]) if record["check"] == "launch.matrix" else None
    facets = {k: v for k, v in found.groupdict().items() if v} if found else {}
    return {**record, "facets": facets, "control": _key(record) in controls}
