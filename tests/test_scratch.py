"""Trees are built in memory only where there is room, within the group's limits, or on the user's word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.build import scratch
from pipeline.core.errors import UsageError

GIB = 1 << 30


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """64 GiB are free; the groups' files are below the directory returned."""
    monkeypatch.delenv("PIPELINE_SCRATCH", raising=False)
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemFree: 2 kB\nMemAvailable:  {64 << 20} kB\n")
    monkeypatch.setattr(scratch, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(scratch, "_CGROUPS", tmp_path)
    monkeypatch.setattr(scratch, "_OURS", tmp_path / "ours")
    return tmp_path


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 64 * GIB),
        ({"memory.max": "max", "memory.current": "5"}, 64 * GIB),
        ({"memory.max": str(8 * GIB), "memory.current": str(3 * GIB)}, 5 * GIB),
        ({"memory.max": str(3 * GIB), "memory.current": str(8 * GIB)}, 0),
        ({"memory/memory.limit_in_bytes": str(4 * GIB), "memory/memory.usage_in_bytes": "0"}, 4 * GIB),
        (
            {"memory/memory.limit_in_bytes": str((1 << 63) - 4096), "memory/memory.usage_in_bytes": "0"},
            64 * GIB,
        ),
        ({"memory.max": str(8 * GIB)}, 64 * GIB),
    ],
)
def test_what_is_free_is_what_the_group_may_still_have(
    machine: Path, files: Mapping[str, str], free: int
) -> None:
    for name, text in files.items():
        (machine / name).parent.mkdir(exist_ok=True)
        (machine / name).write_text(f"{text}\n")
    assert scratch.free_memory() == free


@pytest.mark.parametrize(
    ("ours", "limited"),
    [
        ("0::/user.slice/small.scope\n", "user.slice/small.scope/memory.max"),
        ("0::/user.slice/small.scope\n", "user.slice/memory.max"),
        ("5:cpu:/else\n4:memory:/job\n0::/\n", "memory/job/memory.limit_in_bytes"),
        ("4:memory:/outside/name\n", "memory/memory.limit_in_bytes"),
    ],
)
def test_the_group_this_process_is_in_counts_and_those_around_it(
    machine: Path, ours: str, limited: str
) -> None:
    (machine / "ours").write_text(ours)
    limit = machine / limited
    limit.parent.mkdir(parents=True, exist_ok=True)
    limit.write_text(f"{2 * GIB}\n")
    used = "memory.current" if limit.name == "memory.max" else "memory.usage_in_bytes"
    (limit.parent / used).write_text("0\n")
    assert scratch.free_memory() == 2 * GIB


def test_a_build_is_in_memory_if_there_is_room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scratch.ROOM > 2 * scratch.SIZE
    for free, expected in ((scratch.ROOM, True), (scratch.ROOM - 1, False)):
        monkeypatch.setattr(scratch, "free_memory", lambda free=free: free)
        assert scratch.in_memory() is expected


def test_the_user_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_SCRATCH", "disk")
    assert not scratch.in_memory()
    monkeypatch.setattr(scratch, "free_memory", lambda: 0)
    monkeypatch.setenv("PIPELINE_SCRATCH", "memory")
    assert scratch.in_memory()
    monkeypatch.setenv("PIPELINE_SCRATCH", "moon")
    with pytest.raises(UsageError, match="moon"):
        scratch.in_memory()
