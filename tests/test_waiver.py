"""A waiver covers one cause of one finding, by name, for a time; nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import MalformedInput, UsageError
from pipeline.core.outcome import Outcome
from pipeline.signoff import waiver
from pipeline.signoff.document import read, write
from tests.report.factory import Draft, draft

SEEN = "+ libc.so.6 GLIBC_2.35 epoll_pwait2 F"
ENTRY = {
    "check": "abi.delta",
    "target": "bookworm/12.0 -> 12.1/x86_64",
    "seen": SEEN,
    "reason": "known, tracked as #12",
    "who": "R. Engineer",
    "expires": "2026-12-31",
}


def _with(made: Draft, **change: object) -> Draft:
    made.waivers = [
        waiver.Waiver.model_validate({k: v for k, v in {**ENTRY, **change}.items() if v is not None})
    ]
    return made


@pytest.fixture
def red() -> Draft:
    made = draft()
    made.spoil("abi.delta", seen=SEEN, release="12.0 -> 12.1", arch="x86_64")
    return made


def test_waives_exactly_one_cause(red: Draft) -> None:
    got = _with(red).evidence()
    assert got.verdict is Outcome.WAIVED
    assert got.verdict.green
    (waived,) = [f for f in got.findings if f.outcome is Outcome.WAIVED]
    assert waived.waiver == "FAIL waived by R. Engineer until 2026-12-31: known, tracked as #12"
    assert got.waivers[0].status == "applied"
    assert "1 finding is waived" in got.grade_reasons


@pytest.mark.parametrize(
    "change",
    [{"expires": "2026-03-13"}, {"check": "abi.baseline"}, {"seen": "another"}, {"status": "unused"}],
)
def test_a_record_that_covers_nothing_waives_nothing(
    red: Draft, tmp_path: Path, change: dict[str, str]
) -> None:
    """Evidence of 14 March: a record of another finding, or one that held until the day before."""
    got = _with(red).evidence()
    assert read(write(got, tmp_path)) == got
    forged = got.model_copy(update={"waivers": (got.waivers[0].model_copy(update=change),)})
    with pytest.raises(MalformedInput, match=r"no waiver it records covers it|do not answer the questions"):
        read(write(forged, tmp_path))


def test_by_the_beginning_of_the_cause(red: Draft) -> None:
    cause = waiver.cause_of(red.findings[red.find("abi.delta", release="12.0 -> 12.1")])
    assert _with(red, seen=None, cause=cause[:12]).evidence().verdict is Outcome.WAIVED
    assert _with(red, seen=None, cause="0" * 12).evidence().verdict is Outcome.FAIL


@pytest.mark.parametrize(
    "change",
    [
        {"seen": SEEN + " "},
        {"seen": "+ libc.so.6"},
        {"check": "abi.baseline"},
        {"target": "bookworm/12.0 -> 12.1/aarch64"},
        {"case": "tunable=1"},
        {"place": "host"},
    ],
)
def test_another_cause_stays_red_and_the_waiver_is_unused(red: Draft, change: dict[str, str]) -> None:
    got = _with(red, **change).evidence()
    assert got.verdict is Outcome.FAIL
    assert got.waivers[0].status == "unused"


def test_a_second_cause_of_the_same_check_stays_red(red: Draft) -> None:
    red.spoil("abi.delta", seen=SEEN + "\n+ another", release="12.0 -> 12.0.z", arch="x86_64")
    assert _with(red).evidence().verdict is Outcome.FAIL


@pytest.mark.parametrize(
    ("expires", "verdict"), [("2026-03-14", Outcome.WAIVED), ("2026-03-13", Outcome.FAIL)]
)
def test_expires_after_its_last_day(red: Draft, expires: str, verdict: Outcome) -> None:
    got = _with(red, expires=expires).evidence()
    assert got.verdict is verdict
    assert got.waivers[0].status == ("applied" if verdict is Outcome.WAIVED else "expired")


def test_error_is_never_waived(red: Draft) -> None:
    red.spoil("abi.delta", Outcome.ERROR, seen=SEEN, release="12.0 -> 12.1", arch="x86_64")
    got = _with(red).evidence()
    assert got.verdict is Outcome.ERROR
    assert got.waivers[0].status == "refused"
    assert "ERROR" in got.waivers[0].note


def test_missing_can_be_waived(red: Draft) -> None:
    red.findings.pop(red.find("abi.delta", release="12.0 -> 12.1"))
    assert _with(red, seen="no answer came back").evidence().verdict is Outcome.WAIVED


def test_the_books_themselves_cannot_be_waived() -> None:
    made = draft()
    made.findings.append(made.findings[0])
    f = made.findings[0]
    got = _with(
        made, check="evidence.complete", target=str(f.target), case=f.check, seen="2 answers"
    ).evidence()
    assert got.verdict is Outcome.ERROR
    assert got.waivers[0].status == "refused"


FILE = """
[[waiver]]
check = "abi.delta"
target = "bookworm/12.0 -> 12.1/x86_64"
seen = "+ libc.so.6 GLIBC_2.35 epoll_pwait2 F"
reason = "known"
who = "R. Engineer"
expires = 2026-12-31
"""


def test_file_is_read(tmp_path: Path, red: Draft) -> None:
    path = tmp_path / "waivers.toml"
    path.write_text(FILE)
    red.waivers = waiver.load(path)
    assert red.evidence().verdict is Outcome.WAIVED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[waiver]\n", "is not TOML"),
        ("[waivers]\n", "only \\[\\[waiver\\]\\] tables"),
        ("waiver = 3\n", "only \\[\\[waiver\\]\\] tables"),
        (FILE.replace("who = ", "whom = "), "waiver 1: who"),
        (FILE.replace("seen = ", "case = "), "needs either `seen`"),
        (FILE + 'cause = "0123456789ab"\n', "needs either `seen`"),
        (FILE.replace("seen = ", "cause = "), "waiver 1: cause"),
        (FILE.replace("2026-12-31", '"soon"'), "waiver 1: expires"),
        (FILE.replace('"known"', '""'), "waiver 1: reason"),
        (FILE.replace("bookworm/", "").replace("/x86_64", ""), "waiver 1: target"),
    ],
)
def test_wrong_file_names_entry_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "waivers.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        waiver.load(path)


def test_no_file_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no waivers file"):
        waiver.load(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        waiver.load(tmp_path)
