"""rpm.origin: packages of several builds, and a source package that is not what was built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline import profile as profiles
from pipeline.build import rpmbuild
from pipeline.check.origin import Origin
from pipeline.core import paths
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.records import FileRecord, PatchRecord, SourceRecord, file_record
from tests.check.rpm_bench import built, material
from tests.rpmwriter import Item, write

PASS, FAIL, MISSING = Outcome.PASS, Outcome.FAIL, Outcome.MISSING
ARCHIVE = b"the source"
PATCHES = {"0001-one.patch": b"first", "0002-two.patch": b"second"}


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))


def sources() -> dict[str, bytes]:
    """What the source package of a build holds."""
    profile = profiles.load("bookworm")
    inc = rpmbuild.release_inc(profile, profile.get("12.0"), archive="glibc.tar", topdir="glibc-2.36")
    return {
        "glibc.spec": (paths.SPECS / "glibc.spec").read_bytes(),
        "glibc.tar": ARCHIVE,
        "release.inc": inc.encode(),
        "patches.inc": rpmbuild.patches_inc(list(PATCHES)).encode(),
        **PATCHES,
    }


def source_package(directory: Path, contents: Mapping[str, bytes], **over: Any) -> FileRecord:
    """A source package, whose files have names alone."""
    items = [Item(f"./{name}", data=data) for name, data in contents.items()]
    names = list(contents)
    columns = {
        1117: names, 1118: [""], 1116: (0,) * len(names),
        1028: tuple(len(data) for data in contents.values()), 1030: tuple(i.mode for i in items),
        1035: [hashlib.sha256(data).hexdigest() for data in contents.values()], 1036: [""] * len(names),
        1037: (0,) * len(names), 5011: 8,
    }  # fmt: skip
    made: dict[str, Any] = {"version": "2.36", "release": "12.0", "items": items, "source": True}
    tags = {**columns, **over.pop("tags", {})}
    return file_record(write(directory, "glibc", **(made | {"tags": tags} | over)))


def ask(
    directory: Path, contents: Mapping[str, bytes] | None, *, kind: str = "apt", mode: str = "native",
    common: Mapping[str, Any] | None = None, record: Mapping[str, Any] | None = None, **over: Any,
) -> Finding:  # fmt: skip
    """What is said of a release; ``common`` makes one package otherwise, ``over`` the source package."""
    made: dict[str, Any] = {"version": "2.36", "release": "12.0", "tags": {1006: 7, 1007: "builder"}}
    second = made | {"tags": {**made["tags"], 1044: "glibc-2.36-12.0.src.rpm"}} | dict(common or {})
    rpms = [write(directory, "glibc", **made), write(directory, "glibc-common", **second)]
    of = built("12.0", rpms, mode=mode)  # type: ignore[arg-type]
    patches = tuple(
        PatchRecord(file=name, sha256=hashlib.sha256(data).hexdigest(), subject=name)
        for name, data in PATCHES.items()
    )
    sha256 = hashlib.sha256(ARCHIVE).hexdigest()
    update: dict[str, Any] = {
        "patches": patches,
        "source": SourceRecord(kind=kind, origin="test", sha256=sha256, pinned=True),
        "srpm": None if contents is None else source_package(directory, contents, **over),
    }
    manifest = of.manifest.model_copy(update=update | dict(record or {}))
    on = material({"12.0": of.model_copy(update={"manifest": manifest})}, Path("/nowhere"))
    (finding,) = Origin().run(on)
    assert [finding.target] == [q.target for q in Origin().questions(on)]
    return finding


def test_what_a_build_leaves_is_green(tmp_path: Path) -> None:
    said = ask(tmp_path, sources())
    assert (said.outcome, said.measures) == (PASS, {"packages": 2, "files": 6}), said.seen


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("0002-two.patch", None, "- 0002-two.patch"),
        ("0002-two.patch", b"other", "0002-two.patch: another content than recorded"),
        ("0003-more.patch", b"more", "+ glibc.tar"),
        ("glibc.tar", b"another", "glibc.tar: another content than recorded"),
        ("glibc.tar", None, "- the source"),
        ("glibc.spec", b"Name: glibc", "glibc.spec: another content than recorded"),
        (
            "patches.inc",
            b"Patch1: 0001-one.patch\n",
            "patches.inc applies 0001-one.patch, the record 0001-one",
        ),
        ("patches.inc", None, "patches.inc applies nothing"),
        ("patches.inc", rpmbuild.patches_inc(list(PATCHES)[::-1]).encode(), "applies 0002-two.patch, 0001"),
        (
            "patches.inc",
            rpmbuild.patches_inc(list(PATCHES)).encode() + b"%global x y\n",
            "patches.inc applies",
        ),
        ("release.inc", b"%global glibc_release 1\n", "release.inc: not what the profile says of 12.0"),
    ],
)
def test_another_source_package_is_red(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    contents = {k: v for k, v in (sources() | {name: content}).items() if v is not None}
    said = ask(tmp_path, contents)
    assert said.outcome is FAIL
    assert words in said.seen


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"release": "11.0"}, "it is that of glibc-2.36-11.0"),
        ({"release": "11.0"}, "glibc is made from glibc-2.36-12.0.src.rpm"),
        ({"items": [Item("./glibc.spec", data=b"else")]}, "in the payload"),
        ({"tags": {5011: 1}}, "digests of kind md5"),
    ],
)
def test_a_source_package_that_is_of_another_build_is_red(
    tmp_path: Path, over: dict[str, Any], words: str
) -> None:
    said = ask(tmp_path, sources(), **over)
    assert said.outcome is FAIL
    assert words in said.seen


@pytest.mark.parametrize(
    ("common", "words"),
    [
        ({"tags": {1006: 8, 1007: "builder", 1044: "glibc-2.36-12.0.src.rpm"}}, "x86_64: glibc-common of"),
        ({"tags": {1006: 7, 1007: "laptop", 1044: "glibc-2.36-12.0.src.rpm"}}, "7 at laptop"),
        ({"tags": {1006: 7, 1007: "builder", 1044: "other-1.src.rpm"}}, "other-1.src.rpm"),
        ({"release": "11.0"}, "glibc-common-2.36-11.0 is not of 2.36-12.0"),
    ],
)
@pytest.mark.parametrize("mode", ["native", "supplied"])
def test_a_package_of_another_build_is_red(
    tmp_path: Path, common: dict[str, Any], words: str, mode: str
) -> None:
    for contents in (sources(), None):
        said = ask(tmp_path, contents, mode=mode, common=common)
        assert said.outcome is FAIL
        assert words in said.seen


def test_a_package_that_names_another_vendor_is_red(tmp_path: Path) -> None:
    tags = {1006: 7, 1007: "builder", 1044: "glibc-2.36-12.0.src.rpm", 1011: "Somebody"}
    said = ask(tmp_path, sources(), common={"tags": tags})
    assert said.outcome is FAIL
    assert "glibc-common of glibc-2.36-12.0.src.rpm, 7 at builder, vendor Somebody" in said.seen


def test_a_source_package_under_another_licence_is_red(tmp_path: Path) -> None:
    said = ask(tmp_path, sources(), tags={1014: "Proprietary"})
    assert said.outcome is FAIL
    assert "it says 'license Proprietary', and glibc not" in said.seen


def test_packages_without_an_architecture_may_be_built_elsewhere(tmp_path: Path) -> None:
    common = {"arch": "noarch", "tags": {1006: 9, 1007: "other", 1044: "glibc-2.36-12.0.src.rpm"}}
    assert ask(tmp_path, sources(), common=common).outcome is PASS


def test_of_what_others_made_the_sources_are_not_known(tmp_path: Path) -> None:
    unknown: dict[str, Any] = {"source": None, "patches": ()}
    assert ask(tmp_path, {"any.spec": b""}, mode="supplied", record=unknown).outcome is PASS
    assert ask(tmp_path, None, mode="supplied", record=unknown).outcome is PASS
    assert ask(tmp_path, None).outcome is MISSING


def test_a_dist_git_with_its_own_spec_brings_files_of_its_own(tmp_path: Path) -> None:
    theirs = {"their.spec": b"Name: glibc", "helper.sh": b"", "glibc.tar": ARCHIVE, **PATCHES}
    assert ask(tmp_path, theirs, kind="distgit").outcome is PASS
    assert (
        "the recorded source is not in it" in ask(tmp_path, theirs | {"glibc.tar": b""}, kind="distgit").seen
    )
    assert (
        "- 0001-one.patch"
        in ask(tmp_path, {k: v for k, v in theirs.items() if "one" not in k}, kind="distgit").seen
    )


def test_a_tree_has_no_digest_of_its_archive(tmp_path: Path) -> None:
    assert ask(tmp_path, sources() | {"glibc.tar": b"packed here"}, kind="dir").outcome is PASS


def test_a_patch_that_the_source_has_is_not_in_it(tmp_path: Path) -> None:
    present = PatchRecord(file="0003-three.patch", sha256="3" * 64, subject="three", present="a text")
    patches = tuple(
        PatchRecord(file=name, sha256=hashlib.sha256(data).hexdigest(), subject=name)
        for name, data in PATCHES.items()
    )
    assert ask(tmp_path, sources(), record={"patches": (*patches, present)}).outcome is PASS
    later = present.model_copy(update={"present": ""})
    assert "- 0003-three.patch" in ask(tmp_path, sources(), record={"patches": (*patches, later)}).seen
