"""Where a build's tree lies while it is built: in memory where there is room, else on disk.

A build makes some 60,000 files that are not read afterwards. On a disk file system they cost a tenth of the
build's time; mock has the same in its tmpfs plugin, for the same reason.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.core.errors import NoSpace, UsageError

#: Bytes a build's tree and its install root may take (glibc 2.36 with debug information: 1.9 GB), and the
#: memory that must be there before it begins: two builds side by side see each other's room as free.
SIZE = 5 << 30
ROOM = 11 << 30

#: cgroup v2 and v1: the hierarchy's directory, what a group may use at most, and what it uses.
_GROUPS = (
    ("", "memory.max", "memory.current"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_CGROUPS = Path("/sys/fs/cgroup")
_OURS = Path("/proc/self/cgroup")
_MEMINFO = Path("/proc/meminfo")


def _groups(hierarchy: str) -> list[Path]:
    """The directories of the group this process is in and of those it is in, in one hierarchy."""
    top = _CGROUPS / hierarchy
    lines = _OURS.read_text().splitlines() if _OURS.is_file() else []
    own = [path for _, names, path in (x.split(":", 2) for x in lines) if hierarchy in names.split(",")]
    # a container may see its own group as the top, and still read its name outside
    below = Path(own[0].lstrip("/")) if own and ".." not in own[0] else Path()
    return [top / directory for directory in (below, *below.parents)]


def _available() -> int:
    """MemAvailable of /proc/meminfo (proc(5)) in bytes: the kernel's estimate of what needs no swapping."""
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) << 10  # its kB are KiB


def free_memory() -> int:
    """Bytes that can be had without swapping, within the limits of the control groups."""
    free = _available()
    for hierarchy, most, used in _GROUPS:
        for group in _groups(hierarchy):
            try:
                left = int((group / most).read_text()) - int((group / used).read_text())
            except (OSError, ValueError):  # no such group, or "max"
                continue
            free = min(free, max(left, 0))
    return free


def too_small(error: NoSpace) -> NoSpace:
    """The error of a build whose tree lay in memory: that may be what is full, or the disk."""
    return NoSpace(
        f"{error.message}; its tree lay in memory, {SIZE >> 30} GB at most",
        hint=f"set PIPELINE_SCRATCH=disk to build on disk; if it is the disk that is full, {error.hint}",
    )


def in_memory() -> bool:
    """Whether a build beginning now keeps its tree in memory; PIPELINE_SCRATCH (memory, disk) decides.

    Raises `UsageError` for another word.
    """
    match os.environ.get("PIPELINE_SCRATCH", ""):
        case "memory":
            return True
        case "disk":
            return False
        case "":
            return free_memory() >= ROOM
        case word:
            raise UsageError(f"PIPELINE_SCRATCH={word!r} is not understood", hint="set it to memory or disk")
