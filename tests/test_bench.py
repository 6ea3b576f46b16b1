"""The timed build of three releases starts from nothing, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from pipeline import bench, paths
from pipeline.build import Builder, Options
from pipeline.errors import CommandFailed
from pipeline.lanes import Piece, side_by_side
from pipeline.outcome import Target
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

    monkeypatch.setattr(bench, "plain_build", lambda *_: 1000.0)
    monkeypatch.setattr(bench, "make_all", make_all)
    builder = tiny.builder()
    ratio = bench.build_ratio(tiny.profile, builder.source, Options(place="host"))
    assert ratio.holds
    assert ratio.theirs == 1000.0
    fresh = {f.read_text() for f in (*files, tmp_path / "here")}
    assert len(fresh) == 1
    assert Path(fresh.pop()).parent == state
    assert [p.name for p in state.iterdir()] == ["sources"]
    assert paths.state() == state


def test_a_broken_build_gives_the_state_back(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Tiny.lay_out(tmp_path)

    def broken(*_: object) -> None:
        raise CommandFailed("broken")

    monkeypatch.setattr(bench, "plain_build", lambda *_: 1.0)
    monkeypatch.setattr(bench, "make_all", broken)
    with pytest.raises(CommandFailed):
        bench.build_ratio(tiny.profile, tiny.builder().source, Options(place="host"))
    assert paths.state() == state
    assert list(state.iterdir()) == []
