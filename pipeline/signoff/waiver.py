"""Waivers: a named person accepts one cause of one red finding until a day.

A waivers file (``--waivers FILE``) is TOML; each ``[[waiver]]`` names the finding (check, target, case and,
if wanted, place) and its cause, either as the exact text it had under "seen" or as the beginning of the
cause's sha256 that the report prints. A check that turns red for another cause stays red.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.core import store, tomlfile
from pipeline.core.errors import UsageError
from pipeline.core.outcome import Finding, Frozen, Outcome

Text = Annotated[str, Field(min_length=1)]


class Waiver(BaseModel):
    """One entry of a waivers file. ``expires`` is the last day on which it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: Text
    target: Annotated[str, Field(pattern=r"^[^/]+/[^/]+/[^/]+$")]
    case: str = ""
    place: str | None = None
    seen: str | None = None
    cause: Annotated[str, Field(pattern=r"^[0-9a-f]{12,64}$")] | None = None
    reason: Text
    who: Text
    expires: date

    @model_validator(mode="after")
    def _names_one_cause(self) -> Waiver:
        if (self.seen is None) == (self.cause is None):
            raise ValueError(
                "needs either `seen` (the exact text) or `cause` (12 or more digits of its sha256)"
            )
        return self

    def covers(self, finding: Finding) -> bool:
        """Whether it is about this finding, by name and by cause."""
        return (
            (self.check, self.target, self.case) == (finding.check, str(finding.target), finding.case)
            and self.place in (None, finding.place)
            and (self.seen is None or self.seen == finding.seen)
            and (self.cause is None or cause_of(finding).startswith(self.cause))
        )


class WaiverRecord(Frozen):
    """What became of a waiver. ``causes`` are the sha256 of the causes it covers, ``was`` their outcomes."""

    check: str
    target: str
    case: str
    place: str | None
    seen: str | None
    cause: str | None
    reason: str
    who: str
    expires: str
    status: Literal["applied", "expired", "unused", "refused"]
    note: str
    causes: tuple[str, ...] = ()
    was: tuple[str, ...] = ()


def cause_of(finding: Finding) -> str:
    """sha256 of what a finding says, wherever it was seen: the same cause on two kernels is one cause."""
    return store.digest([finding.check, str(finding.target), finding.case, finding.expected, finding.seen])


def load(file: Path) -> list[Waiver]:
    """Waivers from a TOML file; raises `UsageError` naming file, entry, key and what was expected."""
    if not file.exists():
        raise UsageError(f"there is no waivers file {file}", hint="name one with `--waivers FILE`")
    data = tomlfile.read(file)
    unknown = sorted(set(data) - {"waiver"})
    entries = data.get("waiver", [])
    if unknown or not isinstance(entries, list):
        raise UsageError(
            f"{file}: {unknown[0] if unknown else 'waiver'}: only [[waiver]] tables are expected",
            hint="CONTRIBUTING.md shows a waivers file",
        )
    return [tomlfile.checked(Waiver, e, f"{file}: waiver {n}") for n, e in enumerate(entries, 1)]


def apply_waivers(
    waivers: Sequence[Waiver], findings: Iterable[Finding], today: date, *, never: Collection[str]
) -> tuple[list[Finding], list[WaiverRecord]]:
    """The findings with the waived ones marked, and what became of each waiver.

    Only FAIL and MISSING are waived; an ERROR, and any finding of a check named in ``never``, is not.
    """
    result = list(findings)
    records = []
    for waiver in waivers:
        hit = [i for i, f in enumerate(result) if waiver.covers(f) and f.outcome is not Outcome.PASS]
        open_ = [
            i
            for i in hit
            if result[i].outcome in (Outcome.FAIL, Outcome.MISSING) and result[i].check not in never
        ]
        status: Literal["applied", "expired", "unused", "refused"]
        if not hit:
            status, note = "unused", "no red finding has this cause: remove it"
        elif waiver.expires < today:
            status, note = "expired", f"not applied: it held until {waiver.expires}"
        elif not open_:
            outcomes = ", ".join(sorted({result[i].outcome.name for i in hit}))
            status, note = "refused", f"not applied: the finding is {outcomes}, which no waiver covers"
        else:
            status, note = "applied", f"covers {len(open_)} finding{'s' if len(open_) > 1 else ''}"
        records.append(
            WaiverRecord(
                check=waiver.check,
                target=waiver.target,
                case=waiver.case,
                place=waiver.place,
                seen=waiver.seen,
                cause=waiver.cause,
                reason=waiver.reason,
                who=waiver.who,
                expires=waiver.expires.isoformat(),
                status=status,
                note=note,
                causes=tuple(sorted({cause_of(result[i]) for i in open_})) if status == "applied" else (),
                was=tuple(sorted({result[i].outcome.name for i in open_})) if status == "applied" else (),
            )
        )
        if status == "applied":
            for i in open_:
                text = (
                    f"{result[i].outcome.name} waived by {waiver.who} until {waiver.expires}: {waiver.reason}"
                )
                result[i] = result[i].model_copy(update={"outcome": Outcome.WAIVED, "waiver": text})
    return result, records
