"""Follows a runner whose results come into a file, and notices when none does.

The runner ends every job in time by itself. So when a job's own limit and some more have passed without a
line, it is not the job that hangs but what runs the runner: a machine, a connection.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.progress import Running
from pipeline.place import Job

#: Seconds beyond a job's own limit without a result that count as a hang.
SILENCE = 20.0
#: Seconds between two looks.
POLL = 0.05


@contextmanager
def kept(path: Path) -> Iterator[Path]:
    """An empty file beside ``path`` to be written by this run alone; afterwards, whatever happened, ``path``.

    So two runs at once do not write into each other's log, and the last one to end is the one that is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, live = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    os.fchmod(fd, 0o644)
    os.close(fd)
    try:
        yield Path(live)
    finally:
        Path(live).replace(path)


@dataclass(frozen=True)
class Watch:
    """What is waited for: the place's facts (first line of ``results``), a line a job, the end.

    ``starting`` and ``ending`` name what happens before the first and after the last line, and say for how
    many seconds it may. ``total_limit`` (seconds) is for all of it, None for no limit but the single ones.
    """

    jobs: Sequence[Job]
    results: Path
    starting: tuple[str, float]
    ending: tuple[str, float]
    total_limit: float | None = None
    silence: float = SILENCE

    def until_end(self, process: subprocess.Popen[bytes], step: Running) -> str:
        """Returns "" when ``process`` ends by itself, else why it was not waited for any longer."""
        start = since = time.monotonic()
        seen = 0
        while True:
            try:
                process.wait(POLL)
                return ""
            except subprocess.TimeoutExpired:
                pass
            lines = self.results.read_bytes().count(b"\n")
            now = time.monotonic()
            if lines != seen:
                seen, since = lines, now
            what, limit = self._stage(lines)
            step.at(what, done=lines - 1, of=len(self.jobs) if lines else 0)
            if now - since > limit:
                return f"it hung: nothing came for {limit:g} s while {what}"
            if self.total_limit is not None and now - start > self.total_limit:
                return f"the time limit of {self.total_limit:g} s was over while {what}"

    def _stage(self, lines: int) -> tuple[str, float]:
        """What is under way after so many lines, and how many seconds that may take."""
        done = lines - 1
        if done < 0:
            return self.starting
        if done < len(self.jobs):
            job = self.jobs[done]
            return f"running {job.id} ({done + 1} of {len(self.jobs)})", job.timeout + self.silence
        return self.ending
