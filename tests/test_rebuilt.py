"""The checks of a second build, and of files that name the directory of the build."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.check.rebuilt import CONDITIONS, DIRECTORIES, judged, known_naming, naming
from pipeline.core.outcome import Outcome
from pipeline.core.records import RebuildDifference, RebuildRecord

BEFORE = dict.fromkeys(CONDITIONS, "y")
RECORD = RebuildRecord(
    at="2026-01-01T00:00:00Z", machine="m", processor="p", conditions=dict.fromkeys(CONDITIONS, "x"),
    compared=("a.rpm", "b.rpm"), differences=(), seconds=1.0,
)  # fmt: skip


def test_the_same_packages_under_other_conditions_are_green() -> None:
    assert judged(RECORD, BEFORE)[0] is Outcome.PASS


def test_one_package_that_differs_is_red_whatever_was_varied() -> None:
    difference = RebuildDifference(package="b.rpm", built="1", rebuilt="2", where="/etc/b: byte 1")
    for conditions in (RECORD.conditions, {}):
        record = RECORD.model_copy(update={"differences": (difference,), "conditions": conditions})
        outcome, words = judged(record, {})
        assert outcome is Outcome.FAIL
        assert "1 of 2 packages differ: b.rpm: /etc/b: byte 1" in words


def test_a_rebuild_that_does_not_say_its_conditions_is_no_answer() -> None:
    for name in CONDITIONS:
        less = {k: v for k, v in RECORD.conditions.items() if k != name}
        for conditions, before in ((less, BEFORE), (RECORD.conditions, less)):
            outcome, words = judged(RECORD.model_copy(update={"conditions": conditions}), before)
            assert outcome is Outcome.MISSING
            assert name in words
    assert judged(RECORD.model_copy(update={"compared": ()}), BEFORE)[0] is Outcome.MISSING
    assert judged(RECORD, {})[0] is Outcome.MISSING


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_that_was_the_same_in_both_builds_is_no_answer(name: str) -> None:
    """An engine without further user ids builds as the same user twice."""
    outcome, words = judged(RECORD, {**BEFORE, name: "x"})
    assert outcome is Outcome.MISSING
    assert f"both builds saw the same of: {name} (x)" in words


def test_a_file_that_names_the_directory_of_its_build_is_found(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "clean").write_bytes(b"/usr/src/debug/glibc /build")
    (tmp_path / "usr" / "empty").write_bytes(b"")
    (tmp_path / "usr" / "dangling").symlink_to("/build/BUILD/nothing")
    assert naming(tmp_path, DIRECTORIES) == []
    (tmp_path / "usr" / "inside").write_bytes(b"\x7fELF\0/build/BUILD/glibc-2.34\0")
    (tmp_path / "usr" / "host").write_bytes(b"x /home/a/rpmbuild/BUILD/y")
    assert naming(tmp_path, DIRECTORIES) == ["/usr/host", "/usr/inside"]
    assert known_naming(tmp_path) == known_naming(tmp_path) == ["/usr/host", "/usr/inside"]
    (tmp_path / "usr" / "host").unlink()
    assert known_naming(tmp_path) == ["/usr/inside"]
