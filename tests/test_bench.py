"""The timed build of three releases starts from nothing, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.abi.listing import Listing
from pipeline.benchmark import builds
from pipeline.build.builder import Builder
from pipeline.build.options import Options
from pipeline.cli.bench import command
from pipeline.core import paths
from pipeline.core.errors import CommandFailed, ToolMissing
from pipeline.core.lanes import Piece, side_by_side
from pipeline.core.outcome import Target
from pipeline.core.records import Built
from tests.tiny_kit import Tiny


def note(file: Path) -> None:
    file.write_text(str(paths.state()))


def test_what_is_timed_starts_from_an_empty_state_in_lanes_too(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Tiny.lay_out(tmp_path)
    (state / "sources").mkdir()
    (state / "sources" / "kept").touch()
    before = dict(os.environ)
    files = [tmp_path / "one", tmp_path / "two"]

    def make_all(_: Builder, wanted: Sequence[Target]) -> None:
        assert [t.release for t in wanted] == ["1.0", "1.1"]
        assert {p.name for p in paths.state().iterdir()} == {"sources"}
        assert (paths.state() / "sources" / "kept").exists()
        assert dict(os.environ) == before  # a setting that leaks from one run into the next
        side_by_side([Piece(partial(note, f)) for f in files], lanes=2)
        note(tmp_path / "here")

    monkeypatch.setattr(builds, "plain_build", lambda *_: 1000.0)
    monkeypatch.setattr(builds, "make_all", make_all)
    monkeypatch.setattr(builds, "_variant", lambda *_: 151.0)  # on the host no tree can be kept
    monkeypatch.setattr(paths, "PATCHES", tiny.patches)
    builder = tiny.builder()
    again = [99.0, 20.0, 27.0, 26.0]  # the first has everything to do

    def main_job(choice: Sequence[str], _: Path) -> float:
        assert choice == ["--profile", "tiny"]
        assert paths.state() == state
        return again.pop(0)

    monkeypatch.setattr(builds, "_main_job", main_job)
    three, first, further, variant, rerun = builds.build_ratios(
        tiny.profile, builder.source, Options(place="host"), ["--profile", "tiny"]
    )
    assert {r.theirs for r in (three, first, further, variant)} == {1000.0}
    assert three.holds
    assert first.holds
    assert further.holds
    assert variant.ours == 151.0
    assert variant.ratio == 0.151
    assert not variant.holds
    assert (rerun.ours, rerun.ratio, rerun.holds) == (26.0, 0.026, False)
    fresh = {f.read_text() for f in (*files, tmp_path / "here")}
    assert len(fresh) == 1
    assert Path(fresh.pop()).parent == state
    assert [p.name for p in state.iterdir()] == ["sources"]
    assert paths.state() == state


@pytest.mark.parametrize("which", ["one", "all"])
def test_a_broken_build_gives_the_state_back(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    tiny = Tiny.lay_out(tmp_path)

    def broken(*_: object) -> None:
        raise CommandFailed("broken")

    monkeypatch.setattr(builds, "plain_build", lambda *_: 1.0)
    monkeypatch.setattr(Builder, "make", broken if which == "one" else lambda *_: None)
    monkeypatch.setattr(builds, "make_all", broken)
    with pytest.raises(CommandFailed):
        builds.build_ratios(tiny.profile, tiny.builder().source, Options(place="host"), [])
    assert paths.state() == state
    assert list(state.iterdir()) == []


def test_the_round_that_reads_from_the_disk_is_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Listing("libc.so.6", "libc.so.6", "x86_64", frozenset(), "lib/libc.so.6")
    gone = Listing("gone.so", "gone.so", "x86_64", frozenset(), "lib/gone.so")
    rounds = [99.0, 1.0, 3.0, 2.0, 1.0, 5.0]
    compared: list[tuple[str, ...]] = []

    def compare(first: Path, last: Path) -> tuple[float, dict[str, Listing], dict[str, Listing]]:
        assert (first.name, last.name) == ("1.0", "1.1")
        return rounds.pop(0), {one.name: one, gone.name: gone}, {one.name: one}

    monkeypatch.setattr(builds, "_compare", compare)
    monkeypatch.setattr(builds, "run", lambda argv, **_: compared.append(tuple(map(str, argv))))
    built = {name: SimpleNamespace(root=tmp_path / name) for name in ("1.0", "between", "1.1")}
    ratio = builds.abi_ratio(cast("dict[str, Built]", built))
    assert rounds == []
    assert ratio.ours == 2.0
    assert ratio.figures == {"fastest_seconds": 1.0, "slowest_seconds": 5.0}
    assert not ratio.holds  # that abidiff took no time at all
    files = [str(tmp_path / name / "lib/libc.so.6") for name in ("1.0", "1.1")]
    assert compared == [("abidiff", *files)]


def test_what_ours_is_compared_with_is_asked_for_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="abidiff is not installed"):
        command.main(["--only", "abi", "--profile", "bookworm"], standalone_mode=False)
    with pytest.raises(ToolMissing, match="readelf is not installed"):
        command.main(["--profile", "bookworm"], standalone_mode=False)
