"""Packages of a build in another directory, with the directory's name put back: the same bytes, or red."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.rpm import package
from pipeline.rpm.elsewhere import SOURCEPKGID, SPEC, moved
from pipeline.rpm.package import SIG_MD5
from pipeline.rpm.writing import BINARY, Parts, pack
from tests.rpmwriter import Item, write

HERE, THERE = "/build", "/elsewhere/than/that"


def _whole(path: Path) -> Path:
    """The package with the digests that rpmbuild would have written."""
    path.write_bytes(Parts.of(path.read_bytes(), path.name).written())
    return path


def _made_in(
    directory: str,
    into: Path,
    *,
    data: bytes = b"x",
    tags: dict[int, object] | None = None,
    source_id: bytes = b"",
    spec: bool = True,
) -> dict[str, bytes]:
    """What a build in ``directory`` writes; then as it would be, had it been made in `HERE`."""
    into.mkdir()
    text = {SPEC: f"%prep\ncd '{directory}/BUILD'\n%install\nmake root={directory}/BUILDROOT\n"}
    source = write(
        into, "tool", source=True, items=[Item("/tool.spec", data=b"Name: tool\n")],
        tags=dict(text) if spec else {}, signature={SIG_MD5: bytes(16)},
    )  # fmt: skip
    made_from = Parts.of(_whole(source).read_bytes(), "source").signature.values[SIG_MD5][1]
    assert isinstance(made_from, bytes)
    further = {SOURCEPKGID: source_id or made_from, **(tags or {})}
    items = [Item("/usr/bin/tool", data=data)]
    _whole(write(into, "tool", items=items, signature={SIG_MD5: bytes(16)}, tags=further))
    moved(into, directory, HERE)
    for path in into.glob("*.rpm"):
        package.verify(path)
    return {path.name: path.read_bytes() for path in into.glob("*.rpm")}


def test_the_directory_in_the_expanded_spec_is_all_that_may_differ(tmp_path: Path) -> None:
    here = _made_in(HERE, tmp_path / "here")
    assert len(here) == 2
    assert _made_in(THERE, tmp_path / "there") == here


def test_what_is_written_again_unchanged_is_the_same_bytes(tmp_path: Path) -> None:
    for path in (write(tmp_path, "a", items=[Item("/a", data=b"a")]), write(tmp_path, "b", source=True)):
        assert Parts.of(path.read_bytes(), "p").written() == path.read_bytes()


@pytest.mark.parametrize("wrong", ["digest", "signature"])
def test_what_rpm_would_not_have_written_is_not_made_right(tmp_path: Path, wrong: str) -> None:
    here = _made_in(HERE, tmp_path / "here")
    name = "tool-1.0-1.x86_64.rpm"
    parts = Parts.of(here[name], name)
    if wrong == "digest":
        parts.signature.values[SIG_MD5] = (BINARY, bytes(16))
    else:
        parts.signature.values[1005] = (BINARY, b"somebody's")
    sig = pack(parts.signature)
    raw = parts.lead + sig + b"\0" * (-len(sig) % 8) + pack(parts.header) + parts.packed
    (tmp_path / "here" / name).write_bytes(raw)
    moved(tmp_path / "here", HERE, HERE)
    assert (tmp_path / "here" / name).read_bytes() == raw


def test_a_source_package_without_the_expanded_spec_stays_as_it_is(tmp_path: Path) -> None:
    """rpm before 4.18 writes none."""
    assert _made_in(THERE, tmp_path / "a", spec=False) == _made_in(HERE, tmp_path / "b", spec=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": b"made in /elsewhere/than/that"},
        {"tags": {1004: "made in /elsewhere/than/that"}},
        {"source_id": b"another source's"},
    ],
    ids=["file", "header", "source"],
)
def test_what_else_names_or_depends_on_the_directory_still_differs(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    here, there = _made_in(HERE, tmp_path / "here"), _made_in(THERE, tmp_path / "there", **wrong)  # type: ignore[arg-type]
    assert [name for name in here if here[name] != there[name]] == ["tool-1.0-1.x86_64.rpm"]
