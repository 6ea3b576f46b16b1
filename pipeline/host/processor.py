"""The processor of this machine."""

from __future__ import annotations

from pathlib import Path

_INFO = Path("/proc/cpuinfo")


def name() -> str:
    """What the kernel calls it; "" where it has no name for it (AArch64)."""
    lines = _INFO.read_text().splitlines() if _INFO.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
