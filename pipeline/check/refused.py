"""What programs say that `rseq-refuse` started where rseq is refused, and what is wrong with it.

The programs are ``rseq-refused`` in every way of linking (pipeline/probes/rseq_refused.c) and those of the
launch matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.check import Material
from pipeline.check.area import number, words_faults
from pipeline.check.probing import (
    CANNOT,
    MAX_CPU,
    PROBES,
    REGISTRATION_FAILED,
    FacetedCase,
    Unanswered,
    need_static,
)
from pipeline.core import jsontext
from pipeline.core.outcome import Outcome
from pipeline.place import JobResult

#: Stands for the area's place where libc does not tell it; nothing is looked up where it does.
IN_SYMBOL, TO_BE_FOUND = "in-symbol", "@offset"
#: The program as it is linked, by what it is called in findings; RELEASE stands for the release's name.
LINKED = {
    "dynamic": "rseq-refused",
    "static": "rseq-refused-static-RELEASE",
    "static-pie": "rseq-refused-static-pie-RELEASE",
}


@dataclass(frozen=True)
class Command:
    """One program that `rseq-refuse` starts, and what findings call it."""

    label: str
    program: str
    arguments: tuple[str, ...] = ()
    linked: str = ""

    @property
    def argv(self) -> tuple[str, ...]:
        return (f"{PROBES}/{self.program}", *self.arguments)


def offset(case: FacetedCase) -> str:
    """The program's argument for where its area lies."""
    return IN_SYMBOL if case.release.exports_rseq else TO_BE_FOUND


def ending_of(label: str, line: dict[str, Any]) -> JobResult:
    """How a command ended, as if it were a job of its own; bytes travel as Latin-1."""
    return JobResult(
        id=label, code=line["code"], error=line["error"],
        status=line["status"], signal=line["signal"], timed_out=False, seconds=0,
        stdout=line["stdout"].encode("latin-1"), stderr=line["stderr"].encode("latin-1"),
    )  # fmt: skip


def words_of(ended: JobResult) -> str:
    words = ended.stderr.decode(errors="replace").strip()[-300:]
    return f"{ended.ending()}: {words}" if words else ended.ending()


def was_started(material: Material, command: Command, case: FacetedCase, ended: JobResult) -> None:
    """Raise `Unanswered` if the program could not be tried."""
    if ended.code == "exec" and ended.error == "ENOENT":
        if command.linked.startswith("static"):
            need_static(material, case.release.name, command.program)
        raise Unanswered(Outcome.ERROR, f"{command.argv[0]} or its loader is not there")
    if ended.code == "filter" or ended.status == CANNOT:
        words = ended.error or ended.stderr.decode(errors="replace").strip()
        raise Unanswered(Outcome.MISSING, f"the place permits no filter: {words}")


def lines_of(ended: JobResult) -> list[dict[str, Any]]:
    """What the program printed, as far as it came; a line cut short by the end of the process is none."""
    lines = []
    for raw in ended.stdout.splitlines():
        try:
            lines.append(jsontext.loads(raw))
        except ValueError:
            continue
    return lines


def ran_to_its_end(ended: JobResult) -> list[str]:
    if ended.status != 0:
        return [f"it ended with {words_of(ended)}"]
    if ended.stderr:
        return [f"it said on standard error: {words_of(ended)}"]
    lines = lines_of(ended)
    errors = [f"thread {x['who']}: {x['error']}" for x in lines if x["from"] == "error"]
    if not errors and (not lines or lines[-1]["from"] != "end"):
        return ["it did not come to its end"]
    return errors


def threads_there(lines: Sequence[dict[str, Any]], wanted: Sequence[str]) -> list[str]:
    there = [x["who"] for x in lines if x["from"] == "thread"]
    absent = [who for who in wanted if who not in there]
    return [f"nothing came from thread {', '.join(absent)}"] if absent else []


def thread_faults(
    line: dict[str, Any], case: FacetedCase, command: Command, told: str, size: int, *, on: bool
) -> list[str]:
    """What is wrong with what libc says in one thread; raises `Unanswered` if it says nothing."""
    if line["from"] != "thread":
        return []
    who = line["who"]
    if line["told"] != told:
        raise Unanswered(Outcome.ERROR, f"thread {who}: rseq is told {line['told']}, not {told}")
    faults = _symbol_faults(line, case, command, size)
    cpu_id = line.get("cpu_id")
    if cpu_id is None and case.release.exports_rseq:
        faults.append(f"thread {who}: the area is not to be found")
    if cpu_id is not None and on and cpu_id > MAX_CPU:
        faults.append(f"thread {who} is not registered: cpu_id is {number(cpu_id)}")
    if cpu_id is not None and not on and cpu_id != REGISTRATION_FAILED:
        faults.append(f"thread {who}: cpu_id is {number(cpu_id)}, not -2 (not registered)")
    if cpu_id is not None:
        faults += [f"thread {who}: {fault}" for fault in words_faults(line, on=on)]
    if line["wrong"]:
        faults.append(f"thread {who}: sched_getcpu was wrong {line['wrong']} times, such as {line['seen']}")
    if not faults and line["unpinned"]:
        raise Unanswered(Outcome.MISSING, f"{line['unpinned']} moves to a CPU were refused")
    if not faults and line["cpus"] < 2:
        raise Unanswered(Outcome.MISSING, "one CPU is to be had: a wrong sched_getcpu would not show")
    return faults


def _symbol_faults(line: dict[str, Any], case: FacetedCase, command: Command, size: int) -> list[str]:
    faults = []
    dynamic = command.linked == "dynamic"
    for name, value in (("size", size), ("flags", 0)):
        if name not in line:
            if case.release.exports_rseq:
                faults.append(f"__rseq_{name} is not there")
        elif dynamic and not case.release.exports_rseq:  # a version script hides nothing of an archive
            faults.append(f"__rseq_{name} is exported")
        elif line[name] != value:
            faults.append(f"__rseq_{name} is {line[name]}, not {value}")
    return faults
