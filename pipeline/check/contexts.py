"""Is each thread registered, however it was begun and wherever its code runs, and is sched_getcpu right?

A descriptor that was another thread's before, a thread that is started stopped to be given its attributes, a
handler that runs before a thread's own function: each is a way of its own through glibc. In each of them the
kernel is asked, and sched_getcpu is called on every CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipeline.check import Material
from pipeline.check.area import (
    cpu_id_faults,
    kernel_faults,
    number,
    place_faults,
    symbol_faults,
    tail_faults,
    words_faults,
)
from pipeline.check.probing import (
    CANNOT,
    MAX_CPU,
    PROBES,
    Answers,
    Case,
    FacetedCase,
    ProbeCheck,
    Unanswered,
    Verdict,
    as_faceted,
    faceted,
    told,
    verdict,
    was_linked,
)
from pipeline.core.declaration import Declaration, Need, Unit, measured
from pipeline.core.outcome import Outcome

#: Looks of rseq_starts.c, by context.
STARTS = {
    "main": 1, "joined": 5, "several at once": 8, "from a thread": 1,
    "with an affinity": 2, "with a priority": 2, "with both": 1, "with a large stack": 2,
    "on an own stack": 38, "detached": 1, "thrd_create": 1, "SIGEV_THREAD": 1, "main at the end": 1,
}  # fmt: skip
#: Those of them in which a descriptor must have been another thread's before, or nothing was shown.
REUSED = frozenset(
    {
        "joined", "several at once", "with an affinity", "with a priority", "on an own stack",
    }
)  # fmt: skip
#: What needs cancellation is seen in static programs alone: elsewhere the unwinder is libgcc_s.so.1, which
#: is in no package of glibc's.
CANCELLED = {"after a cancelled one": 1}
HANDLER = {"cancellation handler": 1}
#: A static program that loads a library has a second libc.so.6 and a second ld.so, whose own variables
#: nothing sets (upstream's neither): there the kernel and sched_getcpu are asked, not the symbols.
SECOND = {
    "constructor of a library": 1, "a library loaded by a static program": 1, "destructor of a library": 1,
}  # fmt: skip
#: Looks of rseq_contexts.c, by context; the second part only of a program with dynamic linking.
CONTEXTS = {
    "constructor": 1, "main": 1, "signal handler": 1, "signal handler on its own stack": 1,
    "signal handler at a thread's start": 1, "a thread that began with a signal": 1,
    "destructor of thread-specific data": 1, "child of fork": 1,
    "child of fork, its thread": 1, "child of fork in a thread": 1,
    "child of fork in a thread, its thread": 1, "atfork, before": 1, "atfork, in the parent": 1,
    "atfork, in the child": 1, "child of _Fork": 1, "a program started by posix_spawn": 1,
    "child of vfork": 1, "a program started after vfork": 1, "main after vfork": 1, "atexit": 1,
    "destructor": 1,
}  # fmt: skip
LIBRARIES = {
    "constructor of a library": 2, "a library loaded by dlopen": 1, "a library loaded by dlmopen": 1,
    "constructor of an auditor": 1, "an auditor, asked for its version": 1, "an auditor": 1,
    "destructor of an auditor": 1, "a program that ld.so was called to start": 1,
    "resolver of an indirect function": 5, "a program with an auditor": 1, "destructor of a library": 2,
}  # fmt: skip
#: Looks of rseq_copied.c, a program that has copies of the rseq symbols and so starts where they are.
COPIED = {
    "main": 1, "a thread": 1, "constructor of a library": 1, "a library loaded by dlopen": 1,
    "destructor of a library": 1,
}  # fmt: skip
NON_PIE = "non-PIE"
#: Old kernels have no clone3, and filters of container engines refuse it: then glibc calls clone.
NO_CLONE3 = "clone3 refused"
#: Contexts of a child in its parent's memory: the kernel registers none of them (kernel/rseq.c).
BORROWERS = frozenset({"child of vfork"})


class Looks(ProbeCheck):
    """A program whose every line is one look: all are there, and each says what it should."""

    #: kind -> file below /probes; ``{release}`` stands for the release's name
    programs: ClassVar[Mapping[str, str]]

    def expected(self, case: FacetedCase) -> Mapping[str, int]:
        """How many looks there must be, by context."""
        raise NotImplementedError

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/look-tracer",)

    def cases(self, material: Material) -> Sequence[FacetedCase]:
        return faceted(super().cases(material), "kind", self.programs)

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        return (*self.program(material), self.file(as_faceted(case)))

    def asks(self, case: Case) -> str:
        expected = self.expected(as_faceted(case))
        count = sum(expected.values())
        word = "registered, its area read by sched_getcpu" if case.on else "not registered"
        return f"{count} looks in {len(expected)} contexts: each {word}, every CPU's number right"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        case = as_faceted(case)
        if ended := self._ended(material, case, answers):
            return Verdict(Outcome.FAIL, self.asks(case), ended)
        *lines, ends = answers.lines(case.job(self.name))
        if "context" in ends:
            raise Unanswered(Outcome.ERROR, "the tracer's account is not there")
        there = Counter(line["context"] for line in lines)
        if there != Counter(self.expected(case)):
            lacking = Counter(self.expected(case)) - there
            more = there - Counter(self.expected(case))
            return Verdict(
                Outcome.FAIL, self.asks(case), f"no look from {sorted(lacking)}; too many from {sorted(more)}"
            )
        for line in lines:
            told(line["error"])
        if any(line["cpus"] < 1 for line in lines):
            raise Unanswered(Outcome.MISSING, "a thread could not be moved to any CPU")
        places = {line["place"] for line in lines if line["pointer"]}
        # the place's own word: not every context can read its auxiliary vector
        feature = answers.batch.facts.rseq_feature_size if answers.batch.facts else 0
        faults = [
            f"{line['context']}: {fault}"
            for line in lines
            for fault in (*_faults(material, line, case.on, feature), *_libc_faults(material, line, case))
        ]
        if len(places) > 1:
            faults.append(f"the area is not at one place in each thread: {sorted(places)}")
        faults += _of_the_ends(ends, len(lines), case.on)
        if not faults:
            self.shown_enough(case, lines)
        registered = sum(bool(line["pointer"]) for line in lines)
        reused = sum(line["reused"] == 1 for line in lines)
        # how many threads there are at once, and so which descriptors are used again, is chance
        seen = f"{registered} of {len(lines)} registered, and each thread so as it ended"
        measures = {"looks": len(lines), "registered": registered, "reused": reused, "ends": ends["ends"]}
        return verdict(self.asks(case), seen, faults, measures)

    def shown_enough(self, case: FacetedCase, lines: Sequence[Mapping[str, Any]]) -> None:
        """Raise `Unanswered` if what is to be shown did not come about."""

    def _ended(self, material: Material, case: FacetedCase, answers: Answers) -> str:
        """How the program ended, if it crashed or gave up: that is the release's fault, not the probe's."""
        result = answers.batch.results.get(case.job(self.name))
        if result is None or result.timed_out or result.error or result.status in (0, CANNOT):
            return ""
        if case.value.startswith("static"):
            was_linked(material, case.release.name, self.file(case), result)
        words = result.stderr.decode(errors="replace").strip()[-200:]
        last = result.stdout.decode(errors="replace").splitlines()[-1:] or ["(none)"]
        said = f": {words}" if words else ""
        return f"the program ended with {result.ending()}{said}; last look: {last[0][:80]}"

    def file(self, case: FacetedCase) -> str:
        """The program's path at a place."""
        return f"{PROBES}/{self.programs[case.value].format(release=case.release.name)}"


def _faults(material: Material, line: Mapping[str, Any], on: bool, feature: int) -> list[str]:
    """What the kernel and the CPUs' numbers say against one look; ``feature`` as for `tail_faults`."""
    borrows = line["context"] in BORROWERS
    faults = kernel_faults(material, line, on=on and not borrows)
    if line["pointer"]:
        faults += words_faults(line, on=True)
        faults += tail_faults(line["tail"], on=True, feature=feature, node=line["node"])
    if line["touched"]:
        faults.append(f"sched_getcpu or getcpu set errno on {line['touched']} of {line['cpus']} CPUs")
    if on and not borrows and line["planted"] != 1:
        faults.append("sched_getcpu does not read the area")
    if on and borrows:  # what it reads is its parent's, which does not run
        return faults
    return faults + [
        f"{function} was wrong on {line[key]} of {line['cpus']} CPUs"
        for function, key in (("sched_getcpu", "wrong"), ("getcpu", "wrong_getcpu"))
        if line[key]
    ]


def _libc_faults(material: Material, line: Mapping[str, Any], case: FacetedCase) -> list[str]:
    """What is wrong with the symbols that the context sees, and with where they say that the area is."""
    static = case.value.startswith("static")
    libc = line["libc"]
    if static and line["context"] in SECOND:
        return []
    if libc is None:
        return ["the rseq symbols are not there"] if case.release.exports_rseq else []
    if not case.release.exports_rseq and not static:  # no version script hides symbols of libc.a
        return ["the rseq symbols are there"]
    faults = symbol_faults(libc, material.profile.rseq.size_on if case.on else 0)
    faults += cpu_id_faults(libc["cpu_id"], on=case.on) + words_faults(libc, on=case.on)
    if case.on and libc["first"] > MAX_CPU:
        faults.append(
            f"cpu_id was {number(libc['first'])}, no CPU number, until something made the kernel write it"
        )
    if not case.on:
        faults += tail_faults(libc["tail"], on=False, feature=0, node=0)
    return faults + (place_faults(line["place"], libc["offset"]) if line["pointer"] else [])


def _of_the_ends(ends: Mapping[str, Any], looks: int, on: bool) -> list[str]:
    """What is wrong with threads as they end, also with those that never look; raises `Unanswered`."""
    if ends.get("from") != "tracer" or ends["looks"] != looks or ends["ends"] < 1:
        raise Unanswered(Outcome.ERROR, "the tracer's account is not whole")
    told(ends["error"])
    if on and ends["registered"] != ends["ends"]:
        return [f"{ends['ends'] - ends['registered']} of {ends['ends']} threads ended without registration"]
    if not on and ends["registered"]:
        return [f"{ends['registered']} of {ends['ends']} threads ended registered"]
    return []


class RseqThreads(Looks):
    """Threads begun in every way; a used descriptor and a stopped start among them."""

    declared = Declaration(
        name="rseq.threads",
        measures=measured(Unit.COUNT, "looks", "registered", "reused", "ends"),
        question="Is every thread registered, or none, in whatever way it is begun, in used descriptors too?",
        needs=(Need.RSEQ,),
    )
    programs: ClassVar[Mapping[str, str]] = {
        "dynamic": "rseq-starts",
        "large thread-local data": "rseq-starts-tls",
        "static": "rseq-starts-static-{release}",
        NO_CLONE3: "rseq-starts",
    }

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        refuse = (f"{PROBES}/refuse-clone3",) if as_faceted(case).value == NO_CLONE3 else ()
        return (*refuse, *super().argv(material, case))

    def expected(self, case: FacetedCase) -> Mapping[str, int]:
        return {**STARTS, **CANCELLED} if case.value == "static" else STARTS

    def shown_enough(self, case: FacetedCase, lines: Sequence[Mapping[str, Any]]) -> None:
        wanted = REUSED | CANCELLED.keys() if case.value == "static" else REUSED
        fresh = sorted(wanted - {line["context"] for line in lines if line["reused"] == 1})
        if fresh:
            raise Unanswered(Outcome.MISSING, f"no descriptor was used again: {', '.join(fresh)}")


class RseqContexts(Looks):
    """Code in handlers, constructors, children, destructors, late libraries and auditors."""

    declared = Declaration(
        name="rseq.contexts",
        measures=measured(Unit.COUNT, "looks", "registered", "reused", "ends"),
        question=(
            "Is the right area registered in handlers, constructors, children, destructors and libraries "
            "loaded later?"
        ),
        needs=(Need.RSEQ,),
    )
    programs: ClassVar[Mapping[str, str]] = {
        "dynamic": "rseq-contexts",
        "static": "rseq-contexts-static-{release}",
        NON_PIE: "rseq-copied",
    }

    def cases(self, material: Material) -> Sequence[FacetedCase]:
        return [c for c in super().cases(material) if c.value != NON_PIE or c.release.exports_rseq]

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        files = ("rseq-library", "rseq-auditor") if as_faceted(case).value == "dynamic" else ("rseq-library",)
        return (*super().argv(material, case), *(f"{PROBES}/{file}" for file in files))

    def expected(self, case: FacetedCase) -> Mapping[str, int]:
        if case.value == NON_PIE:
            return COPIED
        return {**CONTEXTS, **(LIBRARIES if case.value == "dynamic" else HANDLER | SECOND)}


CHECKS = (RseqThreads(), RseqContexts())
