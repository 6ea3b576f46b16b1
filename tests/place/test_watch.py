"""A run's own log, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.place.watch import kept


def test_two_runs_do_not_write_into_each_others_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "console"
    with kept(log) as one:
        with kept(log) as two:
            one.write_text("one")
            two.write_text("two")
            assert not log.exists()
        assert log.read_text() == "two"
    assert log.read_text() == "one"
    assert list(log.parent.iterdir()) == [log]


def test_the_log_of_a_run_that_broke_is_kept(tmp_path: Path) -> None:
    def broken() -> None:
        with kept(tmp_path / "console") as live:
            live.write_text("as far as it got")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert (tmp_path / "console").read_text() == "as far as it got"
