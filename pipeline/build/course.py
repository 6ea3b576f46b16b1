"""How far a build of glibc is and how long the rest takes: from what it prints, and from the last one here.

What is known at the beginning is the number of objects and what comes after them, from the build before it
of the same profile and architecture on this machine (else what was measured elsewhere: glibc 2.34 on two busy
processors). The rest is its own rate.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from pydantic import ValidationError

from pipeline.build import estimate
from pipeline.build.rpmbuild import EXECUTING, RESUMED
from pipeline.core import paths, store
from pipeline.core.outcome import Frozen, Target
from pipeline.core.progress import Running

#: An object in this many seconds from the beginning says how fast the others will come.
_SETTLED = 20.0
_PHASES = (
    (f"{EXECUTING}%prep)", "unpacking and patching"),
    (f"{EXECUTING}%build)", "configuring"),
    (f"{EXECUTING}%install)", "installing"),
    (f"{EXECUTING}%check)", "running glibc's own tests"),
    ("Processing files:", "packing"),
    ("Wrote:", "packing"),
)


class Known(Frozen):
    """Of a build that ended well: how many objects, and how many seconds installing and packing took."""

    objects: int = 7100
    after: float = 50.0


class Course:
    """One build under way; ``step`` shows it. ``kept``: it may begin with kept objects."""

    def __init__(self, target: Target, step: Running, *, kept: bool = False) -> None:
        self._step = step
        self._file = paths.state() / "course" / f"{target.profile}-{target.arch}.json"
        self._known = _known(self._file)
        work = estimate.begins_with(target, kept=kept)
        self._ends = time.monotonic() + estimate.seconds(len(os.sched_getaffinity(0)), work.value)
        self._resumed = False
        self._phase = "beginning"
        self._objects = 0
        self._first = self._compiled = 0.0

    def heard(self, words: str) -> None:
        """Something that `rpmbuild.show` tells of."""
        now = time.monotonic()
        if words.startswith(RESUMED):
            self._resumed = True
            return
        for beginning, phase in _PHASES:
            if words.startswith(beginning):
                self._phase = phase
                self._compiled = self._compiled or (now if phase == "installing" else 0.0)
                break
        else:
            if not words.startswith(EXECUTING):
                self._objects += 1
                if self._phase == "configuring":
                    self._phase, self._first = "compiling", now
        self._step.at(self._shown(words), left=self._left(now))

    def _shown(self, words: str) -> str:
        if self._phase == "compiling" and not self._resumed:
            about = max(self._known.objects, self._objects)
            return f"compiling, {self._objects} of about {about} objects: {words}"
        return f"{self._phase}: {words}" if self._phase in ("compiling", "packing") else self._phase

    def _left(self, now: float) -> float | None:
        if self._phase in ("beginning", "unpacking and patching", "configuring"):
            return self._ends - now
        if self._phase == "compiling":
            took = now - self._first
            if took < _SETTLED or self._resumed:
                return self._ends - now
            rest = max(0, self._known.objects - self._objects)
            return took / self._objects * rest + self._known.after
        if self._phase.startswith("running"):
            return None  # nobody knows
        return self._known.after - (now - self._compiled)

    def ended(self) -> None:
        """It ended well: the next one goes by it."""
        if self._objects and self._compiled:
            known = Known(objects=self._objects, after=round(time.monotonic() - self._compiled, 1))
            store.write_atomically(self._file, known.model_dump_json() + "\n")


def _known(file: Path) -> Known:
    try:
        return Known.model_validate_json(file.read_text())
    except (OSError, ValidationError):
        return Known()
