"""Evidence as a file: written and read it is the same; what was changed, or is no evidence, is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.core.errors import EvidenceError, MalformedInput, UsageError
from pipeline.core.records import file_record
from pipeline.place import BatchResult, PlaceFacts
from pipeline.report import figures
from pipeline.report.abi import symbol_counts
from pipeline.signoff import document, schema
from pipeline.signoff import evidence as ev
from pipeline.signoff.document import SCHEMA_FILE, read, write
from pipeline.signoff.merge import merge
from pipeline.signoff.records import Evidence, PlaceRecord
from tests.report.factory import CLEAN, Draft, draft, of_this_pipeline


@pytest.fixture
def made() -> Draft:
    return draft()


def test_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text() == schema.text(), "run `python -m pipeline.signoff.schema`"
    jsonschema.Draft202012Validator.check_schema(document.schema())


def test_written_and_read_it_is_the_same(made: Draft, tmp_path: Path) -> None:
    got = made.evidence()
    path = write(got, tmp_path / "out")
    assert [p.name for p in path.parent.iterdir()] == ["evidence.json"]
    assert read(path) == got
    assert file_record(path).sha256 == got.sha256


def _tampered(made: Draft, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    data = json.loads(made.evidence().text)
    change(data)
    path.write_text(json.dumps(data))
    return path


def _set(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.__setitem__(key, value)


def _turn_red(data: dict[str, Any]) -> None:
    data["findings"][0]["outcome"] = "FAIL"


def _waive(data: dict[str, Any]) -> None:
    data["findings"][0]["outcome"] = data["verdict"] = "WAIVED"


def _no_rebuild(data: dict[str, Any]) -> None:
    data["builds"][0]["rebuild"] = None


def _rebuilt_alike(data: dict[str, Any]) -> None:
    data["builds"][0]["rebuild"]["conditions"] = data["builds"][0]["seen"]


def _unseen(data: dict[str, Any]) -> None:
    data["builds"][0]["seen"] = {}


def _of_another(data: dict[str, Any]) -> None:
    data["builds"][0]["rebuild"]["compared"] = data["builds"][1]["rebuild"]["compared"]


def _unanswered(data: dict[str, Any]) -> None:
    """A rebuild that came out otherwise, the question taken out with its answer."""
    _rebuilt_otherwise(data)
    for kind in ("questions", "findings"):
        data[kind] = [x for x in data[kind] if x["check"] != "build.rebuild"]


def _rebuilt_otherwise(data: dict[str, Any]) -> None:
    data["builds"][0]["rebuild"]["differences"] = [
        {"package": "p.rpm", "built": "1", "rebuilt": "2", "where": "/etc/x: byte 1"}
    ]


def _measure(data: dict[str, Any]) -> None:
    data["findings"][0]["outcome"] = "GREENISH"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schema_version", 3), "schema version 3; this pipeline reads 1 and 2"),
        (_set("verdict", "FAIL"), "its verdict is FAIL, its findings say PASS"),
        (_set("verdict", "SHINY"), r"\$: verdict"),
        (_set("release_grade", "no"), r"\$\.release_grade: 'no' is not what would be written: 'False'"),
        (lambda d: d.pop("waivers"), r"\$\.waivers: is missing"),
        (lambda d: d["targets"][0].update(extra=1), "extra"),
        (lambda d: d["builds"][0].update(seconds=str(d["builds"][0]["seconds"])), r"seconds.*not what would"),
        (_set("release_grade", True), "release grade does not follow"),
        (_set("grade_reasons", []), "release grade does not follow"),
        (_set("extra", 1), "extra"),
        (lambda d: d.pop("builds"), "builds"),
        (lambda d: d["findings"].pop(7), "do not answer the questions"),
        (_turn_red, "its verdict is PASS, its findings say FAIL"),
        (_waive, "no waiver it records covers it"),
        (_measure, r"outcome"),
        (
            _no_rebuild,
            "build.rebuild is PASS for bookworm/12.0/x86_64, and there is no record",
        ),
        (_rebuilt_alike, "build.rebuild is PASS for .* by the record of its rebuild MISSING"),
        (_unseen, "build.rebuild is PASS for .* by the record of its rebuild MISSING"),
        (_of_another, "build.rebuild is PASS for .* by the record of its rebuild MISSING"),
        (_unanswered, "came out otherwise when it was rebuilt, and nothing answers for it"),
        (_rebuilt_otherwise, "build.rebuild is PASS for .* by the record of its rebuild FAIL"),
    ],
)
def test_changed_evidence_is_refused(
    made: Draft, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(MalformedInput, match=message):
        read(_tampered(made, tmp_path / "evidence.json", change))


def test_evidence_from_before_measures_had_units_is_read(made: Draft, tmp_path: Path) -> None:
    """Version 2 as it was first written: the units of what a report draws are known, the rest is not told."""

    def older(data: dict[str, Any]) -> None:
        for check in data["checks"]:
            del check["measures"]
        for seen_at in data["places"]:
            for key in ("page_size", "rseq_feature_size", "rseq_align"):
                del seen_at[key]
        for built in data["builds"]:
            del built["beside"], built["rebuild"], built["seen"]

    made.questions = [q for q in made.questions if q.check != "build.rebuild"]
    made.findings = [f for f in made.findings if f.check != "build.rebuild"]
    path = _tampered(made, tmp_path / "evidence.json", older)
    found = read(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.findings == made.evidence().findings
    assert figures.speeds(found) == figures.speeds(made.evidence())
    assert figures.steps(found) == figures.steps(made.evidence())
    assert symbol_counts(found) == symbol_counts(made.evidence())
    assert symbol_counts(found)


def _claiming(made: Draft, **claims: object) -> Evidence:
    """Evidence whose profile record was edited, and everything that follows from it with it."""
    e = made.evidence()
    parts = {name: getattr(e, name) for name in (
        "created", "command", "targets", "environment", "builds", "places", "questions", "findings",
        "not_judged", "waivers", "pipeline", "checks", "baselines",
    )}  # fmt: skip
    return ev.sealed(**parts, profile=e.profile.model_copy(update=claims))


@pytest.mark.parametrize(
    "claims", [{"stand_in": ""}, {"title": "RHEL 9 glibc 2.34"}, {"glibc": "2.34"}, {"arches": ("x86_64",)}]
)
def test_a_profile_that_is_here_says_for_itself_what_it_is(tmp_path: Path, claims: dict[str, object]) -> None:
    """Without this a stand-in becomes release grade by an edit that is consistent in itself."""
    made = draft(hardware=True)
    forged = _claiming(made, **claims)
    assert forged.release_grade is (claims == {"stand_in": ""})
    with pytest.raises(MalformedInput, match="its record of profile bookworm is not what that profile says"):
        read(write(forged, tmp_path))


@pytest.mark.parametrize(
    "claims", [{}, {"sha256": "0" * 64, "title": "older"}, {"name": "mine", "title": "mine"}, {"series": {}}]
)
def test_another_version_profile_or_series_is_not_held_against_ours(
    made: Draft, tmp_path: Path, claims: dict[str, object]
) -> None:
    made.pipeline = CLEAN
    evidence = _claiming(made, **claims)
    assert read(write(evidence, tmp_path)) == evidence


def _drop_check(data: dict[str, Any]) -> None:
    for kind in ("questions", "findings", "not_judged"):
        data[kind] = [one for one in data[kind] if one["check"] != "abi.delta"]
    data["checks"] = [one for one in data["checks"] if one["name"] != "abi.delta"]


def _need_nothing(data: dict[str, Any]) -> None:
    for check in data["checks"]:
        check["needs"] = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop_check, "its table of checks is not this pipeline's"),
        (_need_nothing, "its table of checks is not this pipeline's"),
        (lambda d: d["profile"].update(sha256="0" * 64), "its profile bookworm is none that comes with it"),
        (lambda d: d["profile"].update(series={}), "its profile bookworm is none that comes with it"),
        (lambda d: d["baselines"][0].update(sha256="0" * 64), r"the baseline \S+/12.0/x86_64 is not what"),
    ],
)
def test_what_this_very_pipeline_made_says_what_it_says(
    made: Draft, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """A check dropped with its questions and answers is missed by no sum; nor is a profile's limit."""
    made = of_this_pipeline(made)
    path = tmp_path / "evidence.json"
    assert read(_tampered(made, path, lambda _: None))
    with pytest.raises(MalformedInput, match=message):
        read(_tampered(made, path, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["builds"].append(d["builds"][0]), "records the build of bookworm/12.0/x86_64 twice"),
        (lambda d: d["places"].append(d["places"][0]), "records place host .* twice"),
        (lambda d: d["baselines"].append(d["baselines"][0]), "records the baseline .* twice"),
        (lambda d: d["builds"][0].update(rpms=[]), "no record of the build of a release that it judges"),
    ],
)
def test_records_that_say_nothing_or_two_things_are_refused(
    made: Draft, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(MalformedInput, match=message):
        read(_tampered(made, tmp_path / "evidence.json", change))


def test_parts_with_other_words_about_one_profile_are_not_merged(made: Draft) -> None:
    with pytest.raises(EvidenceError, match="disagree on the record of profile bookworm"):
        merge([made.evidence(), _claiming(made, stand_in="")])


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema_version": "1"}'])
def test_what_is_no_evidence_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "evidence.json"
    path.write_bytes(raw)
    with pytest.raises(MalformedInput):
        read(path)


def test_no_file_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no evidence at"):
        read(tmp_path / "evidence.json")


def test_place_record_of_a_batch(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("booted\n")
    facts = PlaceFacts("vm:stable", "6.1.0", "#1", "aarch64", 2, "Cortex-A57", "EINVAL", "tcg")
    got = PlaceRecord.of("vm:stable", "aarch64", BatchResult(facts, {}, log), kernel_image=log)
    assert got.came_up
    assert got.emulation == "tcg"
    assert got.log is not None
    assert got.log == got.kernel_image
    dead = PlaceRecord.of("vm:stable", "aarch64", BatchResult(None, {}, trouble="kernel panic"))
    assert not dead.came_up
    assert dead.trouble == "kernel panic"
