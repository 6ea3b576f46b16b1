"""Is each thread registered, however it was begun and wherever its code runs, and is sched_getcpu right?

A descriptor that was another thread's before, a thread that is started stopped to be given its attributes, a
handler that runs before a thread's own function: each is a way of its own through glibc. In each of them the
kernel is asked, and sched_getcpu is called on every CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipeline.check import Bench
from pipeline.check.probing import (
    CANNOT,
    MAX_CPU,
    PROBES,
    REGISTRATION_FAILED,
    Answers,
    Case,
    OfKind,
    ProbeCheck,
    Unanswered,
    Verdict,
    told,
    verdict,
)
from pipeline.core.declaration import Declaration, Need
from pipeline.core.outcome import Outcome

#: Looks of rseq_starts.c, by context.
STARTS = {
    "main": 1, "joined": 5, "several at once": 8, "from a thread": 1,
    "with an affinity": 2, "with a priority": 2, "with both": 1, "with a large stack": 2,
    "on an own stack": 28, "detached": 1, "thrd_create": 1, "SIGEV_THREAD": 1, "main at the end": 1,
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
SECOND = {"constructor of a library": 1, "a library loaded by a static program": 1}
#: Looks of rseq_contexts.c, by context; the second part only of a program with dynamic linking.
CONTEXTS = {
    "constructor": 1, "main": 1, "signal handler": 1, "signal handler on its own stack": 1,
    "signal handler at a thread's start": 1, "a thread that began with a signal": 1,
    "destructor of thread-specific data": 1, "child of fork": 1,
    "child of fork, its thread": 1, "child of fork in a thread": 1,
    "child of fork in a thread, its thread": 1, "atfork, before": 1, "atfork, in the parent": 1,
    "atfork, in the child": 1, "a program started by posix_spawn": 1,
    "a program started after vfork": 1, "main after vfork": 1, "atexit": 1, "destructor": 1,
}  # fmt: skip
LIBRARIES = {
    "constructor of a library": 2, "a library loaded by dlopen": 1, "a library loaded by dlmopen": 1,
    "an auditor": 1, "a program with an auditor": 1,
}  # fmt: skip
#: Looks of rseq_copied.c, a program that has copies of the rseq symbols and so starts where they are.
COPIED = {"main": 1, "a thread": 1, "constructor of a library": 1, "a library loaded by dlopen": 1}
NON_PIE = "non-PIE"


class Looks(ProbeCheck):
    """A program whose every line is one look: all are there, and each says what it should."""

    #: kind -> file below /probes; ``{release}`` stands for the release's name
    programs: ClassVar[Mapping[str, str]]

    def expected(self, case: OfKind) -> Mapping[str, int]:
        """How many looks there must be, by context."""
        raise NotImplementedError

    def program(self, bench: Bench) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def cases(self, bench: Bench) -> Sequence[OfKind]:
        return [OfKind(c.release, c.state, kind) for c in super().cases(bench) for kind in self.programs]

    def argv(self, bench: Bench, case: Case) -> tuple[str, ...]:  # noqa: ARG002
        assert isinstance(case, OfKind)
        return (self.file(case),)

    def asks(self, case: Case) -> str:
        assert isinstance(case, OfKind)
        count = sum(self.expected(case).values())
        word = "registered, its area read by sched_getcpu" if case.on else "not registered"
        return f"{count} looks in {len(self.expected(case))} contexts: each {word}, every CPU's number right"

    def verdict(self, bench: Bench, case: Case, answers: Answers) -> Verdict:
        assert isinstance(case, OfKind)
        if ended := self._ended(case, answers):
            return Verdict(Outcome.FAIL, self.asks(case), ended)
        lines = answers.lines(case.job(self.name))
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
        places = {line["place"] for line in lines if line["registered"]}
        faults = [
            f"{line['context']}: {fault}"
            for line in lines
            for fault in (*_faults(bench, line, case.on), *_libc_faults(bench, line, case))
        ]
        if len(places) > 1:
            faults.append(f"the area is not at one place in each thread: {sorted(places)}")
        if not faults:
            self.shown_enough(case, lines)
        registered = sum(line["registered"] for line in lines)
        reused = sum(line["reused"] == 1 for line in lines)
        seen = f"{registered} of {len(lines)} registered" + (
            f", {reused} in used descriptors" if reused else ""
        )
        return verdict(
            self.asks(case), seen, faults, {"looks": len(lines), "registered": registered, "reused": reused}
        )

    def shown_enough(self, case: OfKind, lines: Sequence[Mapping[str, Any]]) -> None:
        """Raise `Unanswered` if what is to be shown did not come about."""

    def _ended(self, case: OfKind, answers: Answers) -> str:
        """How the program ended, if it crashed or gave up: that is the release's fault, not the probe's."""
        result = answers.batch.results.get(case.job(self.name))
        if result is None or result.timed_out or result.error or result.status in (0, CANNOT):
            return ""
        absent = f"{self.file(case)}: No such file or directory".encode()
        if absent in result.stderr:
            raise Unanswered(Outcome.MISSING, f"{case.release.name} has no libc.a to link with")
        words = result.stderr.decode(errors="replace").strip()[-200:]
        last = result.stdout.decode(errors="replace").splitlines()[-1:] or ["(none)"]
        said = f": {words}" if words else ""
        return f"the program ended with {result.ending()}{said}; last look: {last[0][:80]}"

    def file(self, case: OfKind) -> str:
        """The program's path at a place."""
        return f"{PROBES}/{self.programs[case.kind].format(release=case.release.name)}"


def _faults(bench: Bench, line: Mapping[str, Any], on: bool) -> list[str]:
    """What is wrong with one look."""
    faults = []
    if on and not line["registered"]:
        faults.append("not registered with the kernel")
    elif on:
        wanted = {
            "size": bench.profile.rseq.area_size, "signature": bench.arch.rseq_signature, "flags": 0,
        }  # fmt: skip
        faults += [
            f"the kernel's {key} is {line[key]:#x}, not {value:#x}"
            for key, value in wanted.items()
            if line[key] != value
        ]
        if line["cpu_id"] > MAX_CPU or line["cpu_id"] != line["cpu_id_start"]:
            faults.append(f"the area holds no CPU number ({line['cpu_id']:#x})")
        if line["planted"] != 1:
            faults.append("sched_getcpu does not read the area")
    elif line["registered"]:
        faults.append("registered with the kernel")
    faults += [
        f"{function} was wrong on {line[key]} of {line['cpus']} CPUs"
        for function, key in (("sched_getcpu", "wrong"), ("getcpu", "wrong_getcpu"))
        if line[key]
    ]
    return faults


def _libc_faults(bench: Bench, line: Mapping[str, Any], case: OfKind) -> list[str]:
    """What is wrong with the symbols that the context sees, and with where they say that the area is."""
    static = case.kind.startswith("static")
    if static and line["context"] in SECOND:
        return []
    if not line["exported"]:
        return ["the rseq symbols are not there"] if case.release.exports_rseq else []
    if not case.release.exports_rseq and not static:  # no version script hides symbols of libc.a
        return ["the rseq symbols are there"]
    size = bench.profile.rseq.size_on if case.on else 0
    faults = [
        f"__rseq_{name} is {line[f'libc_{name}']}, not {value}"
        for name, value in (("size", size), ("flags", 0))
        if line[f"libc_{name}"] != value
    ]
    if not line["libc_offset"]:
        faults.append("__rseq_offset is 0")
    elif line["registered"] and line["place"] != line["libc_offset"]:
        faults.append(f"the kernel's area is at {line['place']:+d}, __rseq_offset {line['libc_offset']:+d}")
    elif not case.on and line["libc_cpu_id"] != REGISTRATION_FAILED:
        faults.append(f"cpu_id is {line['libc_cpu_id']:#x}, not -2 (not registered)")
    return faults


class RseqThreads(Looks):
    """Threads begun in every way; a used descriptor and a stopped start among them."""

    declared = Declaration(
        name="rseq.threads",
        question="Is every thread registered, or none, in whatever way it is begun, in used descriptors too?",
        needs=(Need.RSEQ,),
    )
    programs: ClassVar[Mapping[str, str]] = {
        "dynamic": "rseq-starts",
        "large thread-local data": "rseq-starts-tls",
        "static": "rseq-starts-static-{release}",
    }

    def expected(self, case: OfKind) -> Mapping[str, int]:
        return {**STARTS, **CANCELLED} if case.kind == "static" else STARTS

    def shown_enough(self, case: OfKind, lines: Sequence[Mapping[str, Any]]) -> None:
        wanted = REUSED | CANCELLED.keys() if case.kind == "static" else REUSED
        fresh = sorted(wanted - {line["context"] for line in lines if line["reused"] == 1})
        if fresh:
            raise Unanswered(Outcome.MISSING, f"no descriptor was used again: {', '.join(fresh)}")


class RseqContexts(Looks):
    """Code in handlers, constructors, children, destructors, late libraries and auditors."""

    declared = Declaration(
        name="rseq.contexts",
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

    def cases(self, bench: Bench) -> Sequence[OfKind]:
        return [c for c in super().cases(bench) if c.kind != NON_PIE or c.release.exports_rseq]

    def argv(self, bench: Bench, case: Case) -> tuple[str, ...]:
        assert isinstance(case, OfKind)
        files = ("rseq-library", "rseq-auditor") if case.kind == "dynamic" else ("rseq-library",)
        return (*super().argv(bench, case), *(f"{PROBES}/{file}" for file in files))

    def expected(self, case: OfKind) -> Mapping[str, int]:
        if case.kind == NON_PIE:
            return COPIED
        return {**CONTEXTS, **(LIBRARIES if case.kind == "dynamic" else HANDLER | SECOND)}


CHECKS = (RseqThreads(), RseqContexts())
