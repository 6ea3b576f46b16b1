"""Does ld.so look for libraries where it should, in the order that it should, and whose symbol comes first?

Every round a library lies in fewer directories than before, so that each has its turn: DT_RPATH, the
directories of LD_LIBRARY_PATH, DT_RUNPATH, the cache that the release's own ldconfig makes; first in each
what is below glibc-hwcaps for the processor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipeline.check import Material
from pipeline.check.kinds import UnsetKinds
from pipeline.check.probing import Answers, Case, Unanswered, Verdict, verdict
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome
from pipeline.place import PlaceFacts

#: Where loading/main.c puts the library, the first to win first; then nowhere, and with another preloaded.
ROUNDS = ("rpath", "first", "second", "runpath", "cached", "nowhere", "cached", "preloaded")
NOWHERE, PRELOADED = ROUNDS[5], ROUNDS[7]
_PATH = re.compile(r"/etc/(\w+)/(glibc-hwcaps/x86-64-v[234]/)?libfound\.so\.1")


class Loading(UnsetKinds):
    """Each round's program finds the library where it must; a preloaded library's symbol comes before others,
    and the program's malloc before the C library's own."""

    declared = Declaration(
        name="launch.loading",
        measures=measured(Unit.COUNT, "rounds"),
        question=(
            "Does ld.so find libraries in the order of RPATH, LD_LIBRARY_PATH, RUNPATH and ldconfig's cache, "
            "those for the processor first, and does a preloaded symbol, or a program's own malloc, come "
            "before others?"
        ),
    )
    programs: ClassVar[Mapping[str, str]] = {"dynamic": "loading"}

    def refused(self, facts: PlaceFacts) -> str:
        if facts.emulation == "user":
            return "under user-mode QEMU a program cannot lay a directory over another"
        return super().refused(facts)

    def asks(self, case: Case) -> str:  # noqa: ARG002
        return f"found in each of {', '.join(dict.fromkeys(ROUNDS[:5]))}, in that order, and then nowhere"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        lines = self.lines(material, case, answers)
        rounds = list(zip(lines[::2], lines[1::2], strict=True))
        names = [_name(begin["round"]) for begin, _ in rounds]
        if [name for name in names if name in ROUNDS] != list(ROUNDS):
            raise Unanswered(Outcome.ERROR, f"the rounds were {', '.join(names)}")
        cached = next(begin["round"] for begin, _ in rounds[::-1] if _name(begin["round"]) == "cached")
        faults = [
            f"{name}: {fault}"
            for name, (begin, seen) in zip(names, rounds, strict=True)
            for fault in _faults(begin, seen, cached)
        ]
        best = sorted({name.partition(" ")[2] for name in names if name not in ROUNDS})
        words = f"{len(rounds)} rounds" + (f", the processor's directory being {best[0]}" if best else "")
        return verdict(self.asks(case), words, faults, {"rounds": len(rounds)})


def _name(path: str) -> str:
    """A round's directory, with that of the processor if it is one."""
    found = _PATH.fullmatch(path)
    return path if not found else f"{found[1]} {found[2].strip('/')}" if found[2] else found[1]


def _faults(begin: Mapping[str, Any], seen: Mapping[str, Any], cached: str) -> Sequence[str]:
    if begin["ldconfig"]:
        return [f"ldconfig ended with {begin['ldconfig']:#x}"]
    if "status" in seen:
        return [f"the program ended with {seen['status']:#x}"]
    path = {NOWHERE: "", PRELOADED: cached}.get(begin["round"], begin["round"])
    whose = PRELOADED if begin["round"] == PRELOADED else "found" if path else ""
    faults = []
    if seen["found"] != path:
        faults.append(f"found as {seen['found'] or 'nothing'}, not {path or 'nothing'}")
    elif seen["whose"] != whose:
        faults.append(f"the symbol is of {seen['whose'] or 'none'}, not {whose or 'none'}")
    if seen["malloc"] != 1:
        faults.append("the C library does not call the program's own malloc")
    return faults


CHECKS = (Loading(),)
