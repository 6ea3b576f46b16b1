"""The figures of a bench as a record and as a page: what was measured, where, and by which pipeline."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pipeline.benchmark.builds import Ratio
from pipeline.core.identity import identity
from pipeline.core.records import timestamp
from pipeline.host import processor

HEADERS = ("what", "theirs", "ours", "ratio", "wanted", "holds")


def rows(ratios: Sequence[Ratio]) -> list[tuple[str, ...]]:
    """One row a ratio, as `HEADERS` name the columns; times in seconds."""
    return [
        (
            r.meaning,
            f"{r.theirs:.2f} s",
            f"{r.ours:.2f} s",
            f"{r.ratio:.2f}",
            r.limit,
            "yes" if r.holds else "NO",
        )
        for r in ratios
    ]


def record(ratios: Sequence[Ratio]) -> dict[str, Any]:
    """All of it as JSON has it; ``memory`` in bytes, ``load`` the average of the last minute."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "at": timestamp(),
        "pipeline": identity().text,
        "machine": {
            "processor": processor.name() or platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "os": release.get("PRETTY_NAME", platform.system()),
            "kernel": platform.release(),
            "load": round(os.getloadavg()[0], 1),
        },
        "ratios": [asdict(r) for r in ratios],
    }


def page(ratios: Sequence[Ratio], of: dict[str, Any]) -> str:
    """A page in Markdown; ``of`` is the record of the same ratios."""
    m = of["machine"]
    memory = m["memory"] / (1 << 30)
    figures = "\n".join(
        f"- {r.meaning}: " + ", ".join(f"{name} {value:.2f}" for name, value in r.figures.items())
        for r in ratios
        if r.figures
    )
    return f"""# Performance

Made by `bench`, not by hand: `nox -s bench -- --page docs/performance.md`. \
Seconds are those of one machine, which may have had
other work; what is judged is the ratio of two things that were done one after the other.

Machine: {m["processor"]}, {m["cpus"]} processors, {memory:.0f} GiB of memory, \
{m["os"]}, kernel {m["kernel"]}, load {m["load"]}.
Made at {of["at"]} by pipeline {of["pipeline"]}.

{tabulate(rows(ratios), headers=HEADERS, tablefmt="github")}

{figures}
"""
