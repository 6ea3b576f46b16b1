"""Has each thread what glibc owes it, are all found by who looks for them, and is all given back at the end?

rseq is registered where a thread begins, between what else is done there: its list of robust mutexes, its
signals, its thread-local data. A patch that loses a neighbour's line leaves registration right. The lists of
threads that the same code keeps are what setresuid, dlopen and debuggers go by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipeline.check import Material
from pipeline.check.kinds import UnsetKinds
from pipeline.check.probing import Answers, Case, Unanswered, Verdict, as_faceted, verdict
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome
from pipeline.place import PlaceFacts

#: What threads/main.c asks.
ASKED = (
    "the kernel has each thread's robust mutexes", "robust mutexes of threads that end",
    "each thread's id", "the signals that are blocked", "thread-local data has its first value",
    "tables and the resolver's state",
    "what a thread keeps while it moves", "__libc_single_threaded", "affinity and policy",
    "stacks of a size", "the default stack", "sizes of signal stacks", "destructors as a thread ends",
    "children of a busy process", "threads that cannot begin", "stacks are given back",
    "posix_spawn of nothing",
)  # fmt: skip
#: Asked by itself: there are places with one user.
USERS = "setresuid changes all threads"
#: What needs the unwinder, which dynamic programs have from another package, and what needs libraries.
STATIC = ("cancelled at once", "the last thread ends the process")
DYNAMIC = ("static thread-local data of a library", "dynamic thread-local data of a library")
#: Threads of debugged.c.
THREADS = ("main", "used descriptor", "plain", "plain again", "own stack", "detached")


class Threads(UnsetKinds):
    """What threads are owed, in threads begun in each way, in used descriptors, in children, one by one."""

    declared = Declaration(
        name="launch.threads",
        measures=measured(Unit.COUNT, "questions"),
        question=(
            "Has each thread, however begun, what it is owed (its signals, thread-local data, robust "
            "mutexes, a stack of its size), and is all given back as they end?"
        ),
    )
    programs: ClassVar[Mapping[str, str]] = {"dynamic": "threads", "static": "threads-static-{release}"}

    def refused(self, facts: PlaceFacts) -> str:
        if facts.emulation == "user":
            return "user-mode QEMU does not hand a program's robust mutexes and limits on to the kernel"
        return super().refused(facts)

    def questions_of(self, kind: str) -> tuple[str, ...]:
        """What a program of that kind asks."""
        return (*ASKED, *(STATIC if kind == "static" else DYNAMIC))

    def asks(self, case: Case) -> str:
        return f"{len(self.questions_of(as_faceted(case).value))} questions, nothing wrong in any"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        lines = self.lines(material, case, answers)
        wanted = Counter(self.questions_of(as_faceted(case).value))
        there = Counter(str(line["question"]) for line in lines)
        if there - wanted:
            raise Unanswered(Outcome.ERROR, f"not asked: {', '.join(sorted(there - wanted))}")
        faults = [f"{line['question']}: {line['wrong']}" for line in lines if line.get("wrong")]
        faults += [f"{question}: no answer" for question in sorted(wanted - there)]
        unable = [f"{line['question']}: {line['cannot']}" for line in lines if "cannot" in line]
        if unable and not faults:
            raise Unanswered(Outcome.MISSING, f"the place does not let it be asked: {'; '.join(unable)}")
        return verdict(self.asks(case), f"{len(lines)} questions", faults, {"questions": len(lines)})


class Credentials(Threads):
    """setresuid changes all threads: the kernel knows of each thread's users alone (nptl(7))."""

    declared = Declaration(
        name="launch.credentials",
        measures=measured(Unit.COUNT, "questions"),
        question="Does setresuid in one thread change the user of all, however they were begun?",
    )

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        return (*super().argv(material, case), USERS)

    def questions_of(self, kind: str) -> tuple[str, ...]:  # noqa: ARG002
        return (USERS,)

    def asks(self, case: Case) -> str:  # noqa: ARG002
        return "every thread, the main one too, has the new user"


class Debugger(UnsetKinds):
    """libthread_db finds every thread, knows its id and its start, and where its thread-local data lies."""

    declared = Declaration(
        name="launch.debugger",
        measures=measured(Unit.COUNT, "threads"),
        question="Does the release's libthread_db, by which debuggers find threads, tell the truth of each?",
    )
    programs: ClassVar[Mapping[str, str]] = {"dynamic": "debugged"}

    def asks(self, case: Case) -> str:  # noqa: ARG002
        return f"{len(THREADS)} threads, each found once, with its id, its start and its thread-local data"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        first, *lines = self.lines(material, case, answers)
        if first["init"] or first["new"]:
            words = f"libthread_db does not take the process (td_ta_new: error {first['new']})"
            return verdict(self.asks(case), "", [words])
        *each, total = lines
        faults = _of_threads(each)
        if total["asked"] or total["iterated"]:
            errors = f"{total['asked']} and {total['iterated']}"
            faults.append(f"counting and listing threads ends with the errors {errors}")
        if total["counted"] != len(THREADS):
            faults.append(f"{total['counted']} threads are counted, not {len(THREADS)}")
        faults += [
            f"{total[key]} of {len(THREADS)} threads are found by their {by}"
            for key, by in (("mapped", "handle"), ("found", "number"))
            if total[key] != len(THREADS)
        ]
        return verdict(self.asks(case), f"{len(each)} threads, each right", faults, {"threads": len(each)})


def _of_threads(each: Sequence[Mapping[str, Any]]) -> list[str]:
    there, wanted = Counter(str(line["thread"]) for line in each), Counter(THREADS)
    faults = [f"the thread ({name}) is not listed" for name in sorted(wanted - there)]
    faults += [f"a thread ({name}) too much is listed" for name in sorted(there - wanted)]
    for line in each:
        who = line["thread"]
        if line["info"] or line["block"]:
            faults.append(f"{who}: error {line['info'] or line['block']} where it is asked about")
            continue
        told = {"id": "id", "start": "function", "active": "state", "block_is": "data's place"}
        faults += [f"{who}: its {words} is wrong" for key, words in told.items() if not line.get(key)]
    return faults


CHECKS = (Threads(), Credentials(), Debugger())
