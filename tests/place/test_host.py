"""The host place: a runner that is absent, fails or hangs is an error or trouble, never a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import ToolMissing
from pipeline.place import Job
from pipeline.place import host as host_module
from pipeline.place.host import HostPlace

JOB = Job("a", "r", ("/x",), timeout=1)


def runner(tmp_path: Path, script: str) -> HostPlace:
    """A place whose runner is a shell script; ``$4`` is the result file (``--jobs J --out R``)."""
    file = tmp_path / "runner"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return HostPlace(file)


def test_no_runner(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing):
        HostPlace(tmp_path / "none").run_batch({}, {}, [JOB])


def test_a_runner_that_refuses_its_work(tmp_path: Path) -> None:
    batch = runner(tmp_path, "echo 'no such option' >&2; exit 2").run_batch({}, {}, [JOB])
    assert batch.facts is None
    assert batch.results == {}
    assert "the runner ended with status 2: no such option" in batch.trouble
    assert "cut short after 0 jobs" in batch.trouble


def test_a_runner_that_was_killed_keeps_what_it_wrote(tmp_path: Path) -> None:
    line = '{"kind":"job","id":"a","status":0,"signal":null,"timed_out":false,"ns":1,"stdout":"",'
    script = f"""cat >"$4" <<'END'
{line}"code":"","error":"","stderr":""}}
{{"kind":"job","id":"b","sta
END
kill -9 $$"""
    batch = runner(tmp_path, script).run_batch({}, {}, [JOB])
    assert set(batch.results) == {"a"}
    assert "signal 9" in batch.trouble
    assert "line 2" in batch.trouble


def test_a_runner_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "longest", lambda _jobs: 0.3)
    batch = runner(tmp_path, "sleep 60").run_batch({}, {}, [JOB])
    assert "did not end within" in batch.trouble
    assert batch.results == {}


def test_what_is_told_to_the_runner(tmp_path: Path) -> None:
    place = runner(tmp_path, f'shift 4; printf "%s\\n" "$@" >{tmp_path}/told')
    place.run_batch({"12.0": Path("/a"), "12.1": Path("/b")}, {"/probes": Path("/p")}, [JOB])
    told = (tmp_path / "told").read_text().splitlines()
    assert told == ["--root", "12.0=/a", "--root", "12.1=/b", "--overlay", "/probes=/p"]


def test_the_raw_lines_are_kept(tmp_path: Path) -> None:
    place = runner(tmp_path, 'echo garbage >"$4"')
    place = HostPlace(place.runner, log=tmp_path / "logs" / "batch.jsonl")
    batch = place.run_batch({}, {}, [JOB])
    assert batch.log is not None
    assert batch.log.read_bytes() == b"garbage\n"
    assert "garbage" in batch.trouble
