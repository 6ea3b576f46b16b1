"""What a run of drift says: one versioned record, whose JSON Schema is committed beside this module.

``python -m pipeline.drift.schema`` writes the schema anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from pipeline import __version__
from pipeline.core import paths
from pipeline.core.errors import ExitCode
from pipeline.core.outcome import Frozen

SCHEMA_VERSION = 1
SCHEMA_FILE = paths.PACKAGE / "drift" / "drift.schema.json"


class Sight(StrEnum):
    """What one look came to."""

    NO_DRIFT = "no drift"
    DRIFT = "drift"
    COULD_NOT_LOOK = "could not look"
    NOTHING = "nothing there"


#: A drift is worth more than a source that was down, and that more than one with nothing to see.
_RANKS = (
    (Sight.DRIFT, ExitCode.FAILED),
    (Sight.COULD_NOT_LOOK, ExitCode.WORLD),
    (Sight.NOTHING, ExitCode.MISSING),
)


def exit_code(sights: Iterable[Sight]) -> ExitCode:
    """Drift (1) over could not look (4) over nothing there (3) over no drift (0); of no look at all 3."""
    seen = set(sights)
    for sight, code in _RANKS:
        if sight in seen:
            return code
    return ExitCode.PASS if seen else ExitCode.MISSING


class PackageRecord(Frozen):
    """A package that was looked into; ``size`` in bytes."""

    nvr: str
    arch: str
    file: str
    sha256: str
    size: int


class ChangeRecord(Frozen):
    """One symbol that came (``+``) or went (``-``).

    ``changed``: it is there on both sides, with another kind or size. ``package`` is the one published now
    that has the DSO ("" if none has it any more); what it is compared with is the look's.
    """

    sign: Literal["+", "-"]
    dso: str
    node: str
    symbol: str
    kind: str
    size: int | None
    changed: bool
    package: str


class DsoChange(Frozen):
    """A DSO that appeared or vanished (``soname``: has another soname)."""

    what: Literal["appeared", "vanished", "soname"]
    dso: str
    before: str = ""
    after: str = ""
    package: str = ""


class LookRecord(Frozen):
    """One look at one source for one architecture.

    ``at`` is UTC (ISO 8601); ``against`` says what it was compared with and which release that is; ``dsos``
    and ``symbols`` count what was compared.
    """

    source: str
    title: str
    kind: str
    arch: str
    at: str
    sight: Literal["no drift", "drift", "could not look", "nothing there"]
    against: str
    packages: tuple[PackageRecord, ...] = ()
    dsos: int = 0
    symbols: int = 0
    changes: tuple[ChangeRecord, ...] = ()
    whole_dsos: tuple[DsoChange, ...] = ()
    message: str = ""
    hint: str = ""

    @property
    def nvr(self) -> str:
        """The package that names what was published, "" if nothing was seen."""
        return self.packages[0].nvr if self.packages else ""


class DriftRecord(Frozen):
    """A whole run."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    tool: str
    at: str
    exit_code: int
    looks: tuple[LookRecord, ...]


def record(looks: Iterable[LookRecord], at: str) -> DriftRecord:
    """The record of a run."""
    all_looks = tuple(looks)
    return DriftRecord(
        tool=f"glibc-backport-pipeline {__version__}",
        at=at,
        exit_code=int(exit_code(Sight(x.sight) for x in all_looks)),
        looks=all_looks,
    )


def to_json(drift: DriftRecord) -> str:
    """The record as text."""
    return json.dumps(drift.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n"


def schema_text() -> str:
    """The schema as it is committed."""
    made: dict[str, Any] = DriftRecord.model_json_schema(mode="serialization", by_alias=True)
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"
