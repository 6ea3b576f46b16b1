"""What ``scan --json`` writes: one versioned record, whose JSON Schema is committed beside this module.

``python -m pipeline.scan.record`` writes the schema anew.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from pipeline import __version__
from pipeline.core import paths, store
from pipeline.core.outcome import Frozen
from pipeline.scan import Scan, Scanned
from pipeline.scan.causes import broken_promise, causes_of, since_of
from pipeline.scan.judge import Judgement, Missing

SCHEMA_VERSION = 2
SCHEMA_FILE = paths.PACKAGE / "scan" / "scan.schema.json"

AnswerName = Literal["starts", "fails", "unknown", "not applicable"]


class MissingRecord(Frozen):
    """See `Missing`; ``text`` is it in words. ``used_by``: functions of the file, None if that is unknown."""

    dso: str
    node: str
    symbol: str
    text: str
    used_by: tuple[str, ...] | None


class JudgementRecord(Frozen):
    """The answer for one release.

    ``not_judged``: libraries that are neither glibc's nor scanned. ``borrowed``: symbols without a version
    that whoever loads a library must have.
    """

    release: str
    answer: AnswerName
    missing: tuple[MissingRecord, ...]
    reason: str
    notes: tuple[str, ...]
    not_judged: tuple[str, ...]
    borrowed: tuple[str, ...]


class FileResult(Frozen):
    """One file; ``kind`` and ``arch`` are "" for what could not be read.

    ``remarks`` decide nothing; ``tag`` says what a wheel's tag promises and the file breaks, or "".
    """

    file: str
    member: str
    kind: str
    arch: str
    judgements: tuple[JudgementRecord, ...]
    remarks: tuple[str, ...]
    tag: str


class CauseRecord(Frozen):
    """One cause of failures: see `pipeline.scan.causes`. ``since``: the glibc release of the node, or ""."""

    title: str
    dso: str
    node: str
    since: str
    symbols: tuple[str, ...]
    files: tuple[str, ...]
    releases: tuple[str, ...]


class BecauseRecord(Frozen):
    """A file that causes a Requires, by its symbols at the version; ``weak``: all references are weak."""

    file: str
    symbols: tuple[str, ...]
    weak: bool


class RequiresRecord(Frozen):
    """A versioned Requires of an RPM (``--requires``)."""

    package: str
    requirement: str
    since: str
    causes: tuple[BecauseRecord, ...]


class ScanRecord(Frozen):
    """A whole scan. ``counts``: answer -> how many (file, release).

    ``derived``: the releases of which no package was read -> what their listing is derived from.
    """

    schema_version: Literal[2] = Field(default=2, alias="schema")
    tool: str
    profile: str
    releases: tuple[str, ...]
    arches: tuple[str, ...]
    derived: dict[str, str]
    exit_code: int
    counts: dict[str, int]
    causes: tuple[CauseRecord, ...]
    requires: tuple[RequiresRecord, ...]
    files: tuple[FileResult, ...]


def _missing(missing: Missing, scanned: Scanned) -> MissingRecord:
    return MissingRecord(
        dso=missing.dso,
        node=missing.node,
        symbol=missing.symbol,
        text=str(missing),
        used_by=scanned.users.get((missing.symbol, missing.node)),
    )


#: Records of judgements with nothing missing, by release: many files have the same.
Plain = dict[tuple[str, Judgement], JudgementRecord]


def _judgement(release: str, judgement: Judgement, scanned: Scanned, plain: Plain) -> JudgementRecord:
    if judgement.missing:
        return _judgement_record(release, judgement, scanned)
    found = plain.get((release, judgement))
    if found is None:
        found = plain[release, judgement] = _judgement_record(release, judgement, scanned)
    return found


def _judgement_record(release: str, judgement: Judgement, scanned: Scanned) -> JudgementRecord:
    answer: AnswerName = judgement.answer.value
    return JudgementRecord(
        release=release,
        answer=answer,
        missing=tuple(_missing(m, scanned) for m in judgement.missing),
        reason=judgement.reason,
        notes=judgement.notes,
        not_judged=judgement.elsewhere,
        borrowed=judgement.borrowed,
    )


def _printable(name: str) -> str:
    """Names that are no UTF-8 are surrogates in Python, which JSON does not take."""
    return name.encode("utf-8", "backslashreplace").decode()


def _file(scanned: Scanned, plain: Plain) -> FileResult:
    item = scanned.item
    return FileResult(
        file=_printable(item.file),
        member=_printable(item.member),
        kind=item.facts.kind.value if item.facts else "",
        arch=item.facts.arch if item.facts else "",
        judgements=tuple(_judgement(r, j, scanned, plain) for r, j in scanned.judgements.items()),
        remarks=item.facts.remarks if item.facts else (),
        tag=broken_promise(item),
    )


def record(scan: Scan) -> ScanRecord:
    """The record of a scan."""
    counts: dict[str, int] = {}
    plain: Plain = {}
    for scanned in scan.files:
        for judgement in scanned.judgements.values():
            counts[judgement.answer.value] = counts.get(judgement.answer.value, 0) + 1
    return ScanRecord(
        tool=f"glibc-backport-pipeline {__version__}",
        profile=scan.profile,
        releases=scan.releases,
        derived=dict(scan.derived),
        arches=scan.arches,
        exit_code=int(scan.exit_code),
        counts=dict(sorted(counts.items())),
        causes=tuple(
            CauseRecord(
                title=c.title,
                dso=c.dso,
                node=c.node,
                since=since_of(c.node),
                symbols=tuple(sorted(c.symbols)),
                files=tuple(_printable(f) for f in sorted(c.files)),
                releases=tuple(c.releases),
            )
            for c in causes_of((f.item, f.judgements) for f in scan.files)
        ),
        requires=tuple(
            RequiresRecord(
                package=_printable(r.package),
                requirement=r.requirement,
                since=since_of(r.node),
                causes=tuple(
                    BecauseRecord(file=_printable(b.file), symbols=b.symbols, weak=b.weak) for b in r.causes
                ),
            )
            for r in scan.requires
        ),
        files=tuple(_file(f, plain) for f in scan.files),
    )


def to_json(scan: Scan) -> str:
    """The record as text."""
    return record(scan).model_dump_json(indent=1, by_alias=True) + "\n"


def schema_text() -> str:
    """The schema as it is committed."""
    made: dict[str, Any] = ScanRecord.model_json_schema(mode="serialization", by_alias=True)
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    store.write_atomically(SCHEMA_FILE, schema_text())
