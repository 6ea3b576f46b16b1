"""Where a kernel or a filter refuses rseq: a silent fallback at the start, the documented abort later.

A container engine's seccomp profile, a sandbox or an old kernel answers the system call with ENOSYS or EPERM.
When a program starts so, glibc goes on without rseq and says so. When the main thread is registered and a
later thread's registration fails, the process cannot keep what `__rseq_size` promised, and ends.
"""

from __future__ import annotations

import signal
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from pipeline.check import Material
from pipeline.check.launch import started
from pipeline.check.launch_needs import PRINTS, RSEQ, STATIC
from pipeline.check.probing import (
    PROBES,
    Answers,
    Case,
    FacetedCase,
    ProbeCheck,
    Unanswered,
    Verdict,
    as_faceted,
    faceted,
    verdict,
)
from pipeline.check.refused import (
    LINKED,
    Command,
    ending_of,
    lines_of,
    offset,
    ran_to_its_end,
    thread_faults,
    threads_there,
    was_started,
    words_of,
)
from pipeline.core.declaration import Declaration, Need, Unit, measured
from pipeline.core.outcome import Finding, NotJudged, Outcome
from pipeline.place import BatchResult, JobResult

#: How filters refuse a system call: ENOSYS as if the kernel were old, EPERM as old container engines did.
#: EBUSY stands for all other errors: a libc that picks among them could take this one for "done already".
ERRORS = ("ENOSYS", "EPERM", "EBUSY")
#: A sandbox may also end whoever makes the call. The tunable is the documented way out: with rseq off glibc
#: makes no such call at all.
KILLED = "SIGSYS"
#: Kinds of threads that `rseq-refused start` makes (pipeline/probes/rseq_refused.c).
WAYS = ("plain", "affinity", "detached", "own-stack", "c11", "timer")
#: Kinds that `rseq-refused later` makes besides: on the stack of an ended thread, and in a child of fork.
LATER_WAYS = (*WAYS, "reused", "fork")
#: (error, whether the program is dynamic) -> kinds of threads. Of the errors but the first, and of static
#: programs, some kinds are enough: what is refused how does not depend on how a thread was made.
SOME_WAYS: Mapping[tuple[str, bool], tuple[str, ...]] = {
    ("ENOSYS", True): LATER_WAYS, ("ENOSYS", False): ("plain", "reused"),
    ("EPERM", True): ("plain", "reused"), ("EPERM", False): ("plain",),
    ("EBUSY", True): ("plain",), ("EBUSY", False): (),
}  # fmt: skip
#: One program makes a thread of each kind, where none of them ends it.
ALL = "all"
#: What glibc says when it ends the process (nptl/pthread_create.c).
FATAL = "Fatal glibc error: rseq registration failed"


class RefusalCheck(ProbeCheck):
    """What both moments share: one job a case starts all commands, and a fault of one is a fault."""

    def cases(self, material: Material) -> Sequence[FacetedCase]:
        return faceted(super().cases(material), "error", ERRORS)

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/rseq-refuse",)

    @abstractmethod
    def filter(self, case: FacetedCase) -> str:
        """The first argument of ``rseq-refuse``."""

    @abstractmethod
    def commands(self, case: FacetedCase) -> list[Command]: ...

    @abstractmethod
    def faults(self, material: Material, case: FacetedCase, command: Command, ended: JobResult) -> list[str]:
        """What is wrong with how a command ended. Raises `Unanswered`."""

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        asked = as_faceted(case)
        argv = [*self.program(material), self.filter(asked), material.profile.rseq.tunable]
        for command in self.commands(asked):
            argv += ["--", *command.argv]
        return tuple(argv)

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        case = as_faceted(case)
        place, *ends = answers.lines(case.job(self.name))
        commands = self.commands(case)
        if len(ends) != len(commands) or any(
            e["program"] != c.argv[0] for e, c in zip(ends, commands, strict=True)
        ):
            raise Unanswered(Outcome.ERROR, f"{len(ends)} of {len(commands)} programs were started")
        faults: list[str] = []
        missing: list[str] = []
        for command, end in zip(commands, ends, strict=True):
            ended = ending_of(command.label, end)
            try:
                was_started(material, command, case, ended)
                found = self.faults(material, case, command, ended)
            except Unanswered as e:
                if e.outcome is not Outcome.MISSING:
                    raise
                missing.append(f"{command.label}: {e.why}")
            else:
                faults += [f"{command.label}: {fault}" for fault in found]
        if missing and not faults:
            raise Unanswered(Outcome.MISSING, "; ".join(dict.fromkeys(missing)))
        seen = f"{len(commands)} programs: {', '.join(c.label for c in commands)}"
        by = (
            "a filter"
            if place["filtered"] or self.filter(case) not in (*ERRORS, KILLED)
            else "the place itself"
        )
        return verdict(self.asks(case), f"{seen}; refused by {by}", faults, {"programs": len(commands)})


class RseqRefused(RefusalCheck):
    """Refused from the start: every program starts and runs without rseq, and glibc says so.

    Where whoever calls is killed, and rseq is off, all runs, too.
    Where no filter can be made (user-mode QEMU) the place's own refusal is as good, if it is of that kind.
    """

    declared = Declaration(
        name="rseq.refused",
        measures=measured(Unit.COUNT, "programs"),
        question="Where rseq is refused from the start, does all run without it, and does glibc say so?",
        needs=(Need.TWO_CPUS,),
    )

    def asks(self, case: Case) -> str:
        if as_faceted(case).value == KILLED:
            return "every program starts and runs: with rseq off glibc does not call it"
        says = "__rseq_size 0, cpu_id -2" if case.release.exports_rseq else "no rseq symbols"
        return f"every program starts and every thread runs; {says}, sched_getcpu right on each CPU"

    def cases(self, material: Material) -> Sequence[FacetedCase]:
        killed = (c for c in ProbeCheck.cases(self, material) if not c.on)
        return [*super().cases(material), *faceted(killed, "error", (KILLED,))]

    def filter(self, case: FacetedCase) -> str:
        return case.value

    def commands(self, case: FacetedCase) -> list[Command]:
        if case.value == KILLED:  # ours ask what rseq is told, and would be killed for it
            # a static program has the default of the release that it was made with, which is another's here
            others = [p for p in PRINTS if p != STATIC or case.state == 0]
            return [Command(p, p) for p in others if p != RSEQ or case.release.exports_rseq]
        ours = [
            Command(kind, name.replace("RELEASE", case.release.name), ("start", offset(case)), kind)
            for kind, name in LINKED.items()
            if SOME_WAYS[case.value, kind == "dynamic"]
        ]
        # with rseq off glibc makes no call that could be refused: launch.matrix is the same question
        every = case.on and all(SOME_WAYS[case.value, dynamic] for dynamic in (True, False))
        others = [p for p in PRINTS if every and (p != RSEQ or case.release.exports_rseq)]
        return ours + [Command(p, p) for p in others]

    def _judge(self, material: Material, place: str, batch: BatchResult, case: Case) -> Finding | NotJudged:
        facts = batch.facts
        error = as_faceted(case).value
        if facts and not facts.judges_rseq and facts.rseq != error:
            return NotJudged(
                check=self.name, target=material.target(case.release.name), case=case.name, place=place,
                kernel=facts.kernel,
                reason=f"user-mode QEMU makes no filter, and refuses rseq with {facts.rseq} itself",
            )  # fmt: skip
        return super()._judge(material, place, batch, case)

    def faults(self, material: Material, case: FacetedCase, command: Command, ended: JobResult) -> list[str]:  # noqa: ARG002
        if not command.linked:
            outcome, seen = started(ended, command.program, 0)
            return [] if outcome is Outcome.PASS else [seen]
        faults = ran_to_its_end(ended)
        lines = lines_of(ended)
        faults += [f for x in lines for f in thread_faults(x, case, command, case.value, 0, on=False)]
        return faults + threads_there(lines, ("main", *WAYS))


class RseqRefusedLater(RefusalCheck):
    """Refused once the main thread is registered: the next thread ends the process, with glibc's message.

    The threads that are registered go on as before. With the tunable off nothing was promised, and nothing
    changes.
    """

    declared = Declaration(
        name="rseq.refused-later",
        measures=measured(Unit.COUNT, "programs"),
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

    def filter(self, case: FacetedCase) -> str:  # noqa: ARG002
        return "later"

    def commands(self, case: FacetedCase) -> list[Command]:
        return [
            Command(
                f"{kind}, {way}",
                name.replace("RELEASE", case.release.name),
                ("later", way, case.value, offset(case)),
                kind,
            )
            for kind, name in LINKED.items()
            if (ways := SOME_WAYS[case.value, kind == "dynamic"])
            for way in (ways if case.on else (ALL,))
        ]

    def faults(self, material: Material, case: FacetedCase, command: Command, ended: JobResult) -> list[str]:
        way = command.arguments[1]
        size = material.profile.rseq.size_on if case.on else 0
        lines = lines_of(ended)
        faults = [
            f
            for x in lines
            if x.get("who") != way or not case.on
            for f in thread_faults(
                x, case, command, "EINVAL" if x.get("who") == "main" else case.value, size, on=case.on
            )
        ]
        if not case.on:
            wanted = ("main", "main, refused", *LATER_WAYS)
            return ran_to_its_end(ended) + faults + threads_there(lines, wanted)
        if any(x.get("who") == way for x in lines):
            faults.insert(0, "the new thread ran on without registration, and nothing was said")
        elif ended.signal != signal.SIGABRT:
            faults.insert(0, f"it ended with {words_of(ended)}, not by SIGABRT")
        elif ended.stderr.decode(errors="replace") != f"{FATAL}\n":
            faults.insert(0, f"it was aborted with other words: {words_of(ended)}")
        return faults + threads_there(lines, ("main", "main, refused"))


CHECKS = (RseqRefused(), RseqRefusedLater())
