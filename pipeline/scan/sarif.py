"""Scan results as SARIF 2.1.0 (OASIS), which code hosts show beside the file.

Only what needs someone's attention is a result: what fails is an error, what is unknown a warning.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from pipeline import __version__
from pipeline.scan import Scan, Scanned
from pipeline.scan.judge import Answer, Missing

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RULES = {
    "missing-symbol": "A release lacks a symbol that the file needs",
    "missing-version": "A release lacks a version node that the file needs",
    "missing-library": "A release lacks a library of glibc that the file needs",
    "refused": "A release's loader refuses the file",
    "unknown": "The file could not be judged",
}


def _rule(missing: Missing) -> str:
    if missing.says:
        return "refused"
    if missing.symbol:
        return "missing-symbol"
    return "missing-version" if missing.node else "missing-library"


def to_sarif(scan: Scan) -> str:
    """The whole log as text."""
    driver = {
        "name": "glibc-backport-pipeline scan",
        "version": __version__,
        "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in RULES.items()],
    }
    results = [result for scanned in scan.files for result in _results(scanned, scan.profile)]
    # a name that is no UTF-8 is a surrogate in Python; it is shown as an escape
    run: dict[str, Any] = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    if scan.derived:
        run["properties"] = {"derivedReleases": dict(scan.derived)}
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=1) + "\n"


def _results(scanned: Scanned, profile: str) -> list[dict[str, Any]]:
    """One result for each missing thing (its releases together), and one for what is unknown."""
    releases: dict[tuple[str, str, str], list[str]] = {}
    for release, judgement in scanned.judgements.items():
        if judgement.answer is Answer.FAILS:
            because = f" ({judgement.reason})" if judgement.reason else ""
            for missing in judgement.missing:
                text = missing.says or f"{missing} is missing"
                key = (_rule(missing), "error", f"{text}{because}")
                releases.setdefault(key, []).append(release)
        elif judgement.answer is Answer.UNKNOWN:
            releases.setdefault(("unknown", "warning", judgement.reason), []).append(release)
    return [
        {
            "ruleId": rule,
            "ruleIndex": list(RULES).index(rule),
            "level": level,
            "message": {"text": f"{scanned.item.name}: {text} on {profile} {', '.join(names)}"},
            "locations": [_location(scanned)],
            "partialFingerprints": {"missing/v1": f"{scanned.item.name}|{rule}|{text}"},
        }
        for (rule, level, text), names in releases.items()
    ]


def _location(scanned: Scanned) -> dict[str, Any]:
    item = scanned.item
    path = PurePath(item.file)
    raw = str(path).encode("utf-8", "surrogateescape")
    uri = ("file://" if path.is_absolute() else "") + quote(raw)
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri}}}
    if item.member:
        location["logicalLocations"] = [{"fullyQualifiedName": item.name, "kind": "member"}]
    return location
