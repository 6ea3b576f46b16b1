"""The checks of a second build, and of files that name the directory of the build."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.build.conditions import others, unlike
from pipeline.check.rebuilt import CONDITIONS, judged, known_naming, naming
from pipeline.core.outcome import Outcome
from pipeline.core.records import RebuildDifference, RebuildRecord
from tests.report.factory import draft
from tests.rpmwriter import LNK, REG, Item, write

FIRST = draft().builds[0]
assert FIRST.rebuild
RECORD = FIRST.rebuild


def said(**conditions: str) -> RebuildRecord:
    return RECORD.model_copy(update={"conditions": {**RECORD.conditions, **conditions}})


def test_the_same_packages_under_other_conditions_are_green() -> None:
    assert judged(FIRST, RECORD)[0] is Outcome.PASS


def test_one_package_that_differs_is_red_whatever_was_varied() -> None:
    difference = RebuildDifference(package="b.rpm", built="1", rebuilt="2", where="/etc/b: byte 1")
    for conditions in (RECORD.conditions, {}):
        record = RECORD.model_copy(update={"differences": (difference,), "conditions": conditions})
        outcome, words = judged(FIRST.model_copy(update={"seen": {}}), record)
        assert outcome is Outcome.FAIL
        assert f"1 of {len(RECORD.compared)} packages differ: b.rpm: /etc/b: byte 1" in words


def test_a_rebuild_that_does_not_say_its_conditions_is_no_answer() -> None:
    for name in CONDITIONS:
        for first, record in (
            (FIRST, RECORD.model_copy(update={"conditions": without(name, RECORD.conditions)})),
            (FIRST.model_copy(update={"seen": without(name, FIRST.seen)}), RECORD),
        ):
            outcome, words = judged(first, record)
            assert outcome is Outcome.MISSING
            assert name in words
    assert judged(FIRST.model_copy(update={"seen": {}}), RECORD)[0] is Outcome.MISSING


def without(name: str, said: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in said.items() if k != name}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_that_was_the_same_in_both_builds_is_no_answer(name: str) -> None:
    """An engine without further user ids builds as the same user twice."""
    outcome, words = judged(FIRST, said(**{name: FIRST.seen[name]}))
    assert outcome is Outcome.MISSING
    assert f"both builds saw the same of: {name} ({FIRST.seen[name]})" in words


@pytest.mark.parametrize(
    "time", ["2026-03-14T09:27:53Z", "2027-03-14T09:26:53Z", "2027-04-10T00:00:00Z", "?"]
)
def test_a_date_that_has_something_of_the_first_builds_is_not_another(time: str) -> None:
    """The moment, year, month, day or weekday: a build that embeds it would come out the same."""
    assert judged(FIRST, said(time=time))[0] is Outcome.MISSING


def test_a_rebuild_is_on_an_unlike_date_however_long_after_the_first_build() -> None:
    now = datetime.now(UTC)
    for days in range(800):
        first = now - timedelta(days=days)
        later = int(others(first.isoformat()).env["VARY_DAYS"])
        assert unlike(first, now + timedelta(days=later, seconds=12345))
    assert others("").env["VARY_DAYS"]


@pytest.mark.parametrize("change", ["fewer", "more", "other", "of another"])
def test_a_rebuild_of_other_packages_is_no_answer(change: str) -> None:
    compared = dict(RECORD.compared)
    match change:
        case "fewer":
            compared.popitem()
        case "more":
            compared["bash.rpm"] = "0" * 64
        case "other":
            compared[next(iter(compared))] = "0" * 64
        case _:
            other = draft().builds[1].rebuild
            assert other
            compared = other.compared
    outcome, words = judged(FIRST, RECORD.model_copy(update={"compared": compared}))
    assert outcome is Outcome.MISSING
    assert "not the packages of this build" in words


def test_a_file_that_names_the_directory_of_its_build_is_found(tmp_path: Path) -> None:
    clean = [
        Item("/usr/clean", data=b"/usr/src/debug/glibc /build /build/", mode=REG | 0o644),
        Item("/usr/empty", data=b""),
        Item("/usr/alias", LNK | 0o777, b"clean"),
    ]
    assert naming([write(tmp_path, "a", items=clean)]) == []
    wrong = [
        Item("/usr/inside", data=b"\x7fELF\0/build/BUILD/glibc-2.34\0"),
        Item("/usr/host", data=b"x /home/a/rpmbuild/BUILD/y"),
        Item("/usr/made", data=b"from /build/SOURCES/x.tar"),
        Item("/usr/link", LNK | 0o777, b"/build/tmp/x"),
    ]
    both = [write(tmp_path, name, items=items) for name, items in (("a", clean), ("b-debuginfo", wrong))]
    named = ["/usr/host", "/usr/inside", "/usr/link", "/usr/made"]
    assert naming(both) == named
    assert known_naming(both) == known_naming(both) == named
    assert known_naming(both[:1]) == []
