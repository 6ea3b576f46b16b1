"""Where a kernel or a filter refuses rseq: a silent fallback at the start, the documented abort later.

A container engine's seccomp profile, a sandbox or an old kernel answers the system call with ENOSYS or EPERM.
When a program starts so, glibc goes on without rseq and says so. When the main thread is registered and a
later thread's registration fails, the process cannot keep what `__rseq_size` promised, and ends.
"""

from __future__ import annotations

import signal
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.check import Bench
from pipeline.check.launch import PRINTS, RSEQ, started
from pipeline.check.probing import (
    CANNOT,
    MAX_CPU,
    PROBES,
    REGISTRATION_FAILED,
    Answers,
    Case,
    ProbeCheck,
    Unanswered,
    Verdict,
    need_static,
    verdict,
)
from pipeline.core import jsontext
from pipeline.core.declaration import Declaration, Need
from pipeline.core.outcome import Finding, NotJudged, Outcome
from pipeline.place import BatchResult, JobResult

#: How filters refuse a system call: ENOSYS as if the kernel were old, EPERM as old container engines did.
ERRORS = ("ENOSYS", "EPERM")
#: Kinds of threads that `rseq-refused start` makes (pipeline/probes/rseq_refused.c).
WAYS = ("plain", "affinity", "detached", "own-stack", "c11", "timer")
#: Kinds that `rseq-refused later` makes besides: on the stack of an ended thread, and in a child of fork.
LATER_WAYS = (*WAYS, "reused", "fork")
#: Of the errors but the first, and of static programs, some kinds are enough: what is refused how does not
#: depend on how a thread was made.
SOME_WAYS: Mapping[tuple[bool, bool], tuple[str, ...]] = {
    # (dynamic, the first error)
    (True, True): LATER_WAYS, (True, False): ("plain", "reused"),
    (False, True): ("plain", "reused"), (False, False): ("plain",),
}  # fmt: skip
#: One program makes a thread of each kind, where none of them ends it.
ALL = "all"
#: Stands for the area's place where libc does not tell it; nothing is looked up where it does.
IN_SYMBOL, TO_BE_FOUND = "in-symbol", "@offset"
#: The program as it is linked, by what it is called in findings; RELEASE stands for the release's name.
LINKED = {
    "dynamic": "rseq-refused",
    "static": "rseq-refused-static-RELEASE",
    "static-pie": "rseq-refused-static-pie-RELEASE",
}
#: What glibc says when it ends the process (nptl/pthread_create.c).
FATAL = "Fatal glibc error: rseq registration failed"
#: What `rseq-refuse` says of a program that it cannot start.
ABSENT = "No such file or directory"


@dataclass(frozen=True)
class Refused(Case):
    """A release in one state of the tunable, and the error with which rseq is refused."""

    error: str

    @property
    def name(self) -> str:
        return f"{super().name}, {self.error}"

    @property
    def offset(self) -> str:
        """The program's argument for where its area lies."""
        return IN_SYMBOL if self.release.exports_rseq else TO_BE_FOUND


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


class RefusalCheck(ProbeCheck):
    """What both moments share: one job a case starts all commands, and a fault of one is a fault."""

    def cases(self, bench: Bench) -> Sequence[Refused]:
        return [Refused(c.release, c.state, error) for c in super().cases(bench) for error in ERRORS]

    def program(self, bench: Bench) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/rseq-refuse",)

    @abstractmethod
    def filter(self, case: Refused) -> str:
        """The first argument of ``rseq-refuse``."""

    @abstractmethod
    def commands(self, case: Refused) -> list[Command]: ...

    @abstractmethod
    def faults(self, bench: Bench, case: Refused, command: Command, ended: JobResult) -> list[str]:
        """What is wrong with how a command ended. Raises `Unanswered`."""

    def argv(self, bench: Bench, case: Case) -> tuple[str, ...]:
        assert isinstance(case, Refused)
        argv = [*self.program(bench), self.filter(case), bench.profile.rseq.tunable]
        for command in self.commands(case):
            argv += ["--", *command.argv]
        return tuple(argv)

    def verdict(self, bench: Bench, case: Case, answers: Answers) -> Verdict:
        assert isinstance(case, Refused)
        place, *ends = answers.lines(case.job(self.name))
        commands = self.commands(case)
        if len(ends) != len(commands) or any(
            e["program"] != c.argv[0] for e, c in zip(ends, commands, strict=True)
        ):
            raise Unanswered(Outcome.ERROR, f"{len(ends)} of {len(commands)} programs were started")
        faults: list[str] = []
        missing: list[str] = []
        for command, end in zip(commands, ends, strict=True):
            ended = _ended(command.label, end)
            try:
                _was_started(bench, command, case, ended)
                found = self.faults(bench, case, command, ended)
            except Unanswered as e:
                if e.outcome is not Outcome.MISSING:
                    raise
                missing.append(f"{command.label}: {e.why}")
            else:
                faults += [f"{command.label}: {fault}" for fault in found]
        if missing and not faults:
            raise Unanswered(Outcome.MISSING, "; ".join(dict.fromkeys(missing)))
        seen = f"{len(commands)} programs: {', '.join(c.label for c in commands)}"
        by = "a filter" if place["filtered"] or self.filter(case) not in ERRORS else "the place itself"
        return verdict(self.asks(case), f"{seen}; refused by {by}", faults, {"programs": len(commands)})


class RseqRefused(RefusalCheck):
    """Refused from the start: every program starts and runs without rseq, and glibc says so.

    Where no filter can be made (user-mode QEMU) the place's own refusal is as good, if it is of that kind.
    """

    declared = Declaration(
        name="rseq.refused",
        question="Where rseq is refused from the start, does all run without it, and does glibc say so?",
        needs=(Need.TWO_CPUS,),
    )

    def asks(self, case: Case) -> str:
        says = "__rseq_size 0, cpu_id -2" if case.release.exports_rseq else "no rseq symbols"
        return f"every program starts and every thread runs; {says}, sched_getcpu right on each CPU"

    def filter(self, case: Refused) -> str:
        return case.error

    def commands(self, case: Refused) -> list[Command]:
        ours = [
            Command(kind, name.replace("RELEASE", case.release.name), ("start", case.offset), kind)
            for kind, name in LINKED.items()
        ]
        # with rseq off glibc makes no call that could be refused: launch.matrix is the same question
        others = [p for p in PRINTS if case.on and (p != RSEQ or case.release.exports_rseq)]
        return ours + [Command(p, p) for p in others]

    def _judge(self, bench: Bench, place: str, batch: BatchResult, case: Case) -> Finding | NotJudged:
        assert isinstance(case, Refused)
        facts = batch.facts
        if facts and not facts.judges_rseq and facts.rseq != case.error:
            return NotJudged(
                check=self.name, target=bench.target(case.release.name), case=case.name, place=place,
                kernel=facts.kernel,
                reason=f"user-mode QEMU makes no filter, and refuses rseq with {facts.rseq} itself",
            )  # fmt: skip
        return super()._judge(bench, place, batch, case)

    def faults(self, bench: Bench, case: Refused, command: Command, ended: JobResult) -> list[str]:  # noqa: ARG002
        if not command.linked:
            outcome, seen = started(ended, command.program, 0)
            return [] if outcome is Outcome.PASS else [seen]
        faults = _ran_to_its_end(ended)
        lines = _lines(ended)
        faults += [f for x in lines for f in _thread_faults(x, case, command, case.error, 0, on=False)]
        return faults + _threads_there(lines, ("main", *WAYS))


class RseqRefusedLater(RefusalCheck):
    """Refused once the main thread is registered: the next thread ends the process, with glibc's message.

    The threads that are registered go on as before. With the tunable off nothing was promised, and nothing
    changes.
    """

    declared = Declaration(
        name="rseq.refused-later",
        question=(
            "Where rseq is refused only once a program runs, does the next thread end it with the documented "
            "message, and does nothing change when rseq is off?"
        ),
        needs=(Need.RSEQ, Need.TWO_CPUS),
    )

    def asks(self, case: Case) -> str:
        if case.on:
            return f"the main thread goes on; a new thread of any kind ends the process by SIGABRT: {FATAL}"
        return "every thread runs as before, without rseq; sched_getcpu right on each CPU"

    def filter(self, case: Refused) -> str:  # noqa: ARG002
        return "later"

    def commands(self, case: Refused) -> list[Command]:
        return [
            Command(
                f"{kind}, {way}",
                name.replace("RELEASE", case.release.name),
                ("later", way, case.error, case.offset),
                kind,
            )
            for kind, name in LINKED.items()
            for way in (SOME_WAYS[kind == "dynamic", case.error == ERRORS[0]] if case.on else (ALL,))
        ]

    def faults(self, bench: Bench, case: Refused, command: Command, ended: JobResult) -> list[str]:
        way = command.arguments[1]
        size = bench.profile.rseq.size_on if case.on else 0
        lines = _lines(ended)
        faults = [
            f
            for x in lines
            if x.get("who") != way or not case.on
            for f in _thread_faults(
                x, case, command, "EINVAL" if x.get("who") == "main" else case.error, size, on=case.on
            )
        ]
        if not case.on:
            wanted = ("main", "main, refused", *LATER_WAYS)
            return _ran_to_its_end(ended) + faults + _threads_there(lines, wanted)
        if any(x.get("who") == way for x in lines):
            faults.insert(0, "the new thread ran on without registration, and nothing was said")
        elif ended.signal != signal.SIGABRT:
            faults.insert(0, f"it ended with {_words(ended)}, not by SIGABRT")
        elif ended.stderr.decode(errors="replace") != f"{FATAL}\n":
            faults.insert(0, f"it was aborted with other words: {_words(ended)}")
        return faults + _threads_there(lines, ("main", "main, refused"))


def _ended(label: str, line: dict[str, Any]) -> JobResult:
    """How a command ended, as if it were a job of its own; bytes travel as Latin-1."""
    return JobResult(
        id=label, status=line["status"], signal=line["signal"], timed_out=False, seconds=0,
        stdout=line["stdout"].encode("latin-1"), stderr=line["stderr"].encode("latin-1"),
    )  # fmt: skip


def _words(ended: JobResult) -> str:
    words = ended.stderr.decode(errors="replace").strip()[-300:]
    return f"{ended.ending()}: {words}" if words else ended.ending()


def _was_started(bench: Bench, command: Command, case: Refused, ended: JobResult) -> None:
    """Raise `Unanswered` if the program could not be tried."""
    words = ended.stderr.decode(errors="replace").strip()
    if ended.status == 127 and words == f"rseq-refuse: {command.argv[0]}: {ABSENT}":
        if command.linked.startswith("static"):
            need_static(bench, case.release.name, command.program)
        raise Unanswered(Outcome.ERROR, f"{command.argv[0]} or its loader is not there")
    if ended.status == CANNOT:
        raise Unanswered(Outcome.MISSING, f"the place permits no filter: {words}")


def _lines(ended: JobResult) -> list[dict[str, Any]]:
    """What the program printed, as far as it came; a line cut short by the end of the process is none."""
    lines = []
    for raw in ended.stdout.splitlines():
        try:
            lines.append(jsontext.loads(raw))
        except ValueError:
            continue
    return lines


def _ran_to_its_end(ended: JobResult) -> list[str]:
    if ended.status != 0:
        return [f"it ended with {_words(ended)}"]
    if ended.stderr:
        return [f"it said on standard error: {_words(ended)}"]
    lines = _lines(ended)
    errors = [f"thread {x['who']}: {x['error']}" for x in lines if x["from"] == "error"]
    if not errors and (not lines or lines[-1]["from"] != "end"):
        return ["it did not come to its end"]
    return errors


def _threads_there(lines: Sequence[dict[str, Any]], wanted: Sequence[str]) -> list[str]:
    there = [x["who"] for x in lines if x["from"] == "thread"]
    absent = [who for who in wanted if who not in there]
    return [f"nothing came from thread {', '.join(absent)}"] if absent else []


def _thread_faults(
    line: dict[str, Any], case: Refused, command: Command, told: str, size: int, *, on: bool
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
        faults.append(f"thread {who} is not registered: cpu_id is {cpu_id:#x}")
    if cpu_id is not None and not on and cpu_id != REGISTRATION_FAILED:
        faults.append(f"thread {who}: cpu_id is {cpu_id:#x}, not -2 (not registered)")
    if line["wrong"]:
        faults.append(f"thread {who}: sched_getcpu was wrong {line['wrong']} times, such as {line['seen']}")
    if not faults and line["unpinned"]:
        raise Unanswered(Outcome.MISSING, f"{line['unpinned']} moves to a CPU were refused")
    if not faults and line["cpus"] < 2:
        raise Unanswered(Outcome.MISSING, "one CPU is to be had: a wrong sched_getcpu would not show")
    return faults


def _symbol_faults(line: dict[str, Any], case: Refused, command: Command, size: int) -> list[str]:
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


CHECKS = (RseqRefused(), RseqRefusedLater())
