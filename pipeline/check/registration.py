"""Is rseq registered as the release and the tunable say? The kernel is asked, not glibc."""

from __future__ import annotations

from typing import Any

from pipeline.check import Material
from pipeline.check.area import (
    cpu_id_faults,
    descriptor_faults,
    kernel_faults,
    place_faults,
    symbol_faults,
)
from pipeline.check.probing import (
    PROBES,
    Answers,
    Case,
    ProbeCheck,
    Unanswered,
    Verdict,
    told,
    verdict,
)
from pipeline.core.declaration import Declaration, Need, Unit, measured
from pipeline.core.outcome import Outcome

#: Threads beside the main one.
THREADS = 16

Lines = list[dict[str, Any]]


class RseqRegistered(ProbeCheck):
    """Every thread is registered, or none is, and what glibc says of it agrees with the kernel."""

    declared = Declaration(
        name="rseq.registered",
        measures=(
            *measured(Unit.COUNT, "threads", "registered"),
            *measured(Unit.BYTES, "rseq_size"),
        ),
        question=(
            "Does the kernel (ptrace) have an rseq area for every thread when on, and for none when off?"
        ),
        needs=(Need.RSEQ,),
    )

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/rseq-tracer", f"{PROBES}/rseq-threads", str(THREADS))

    def exports(self, case: Case, libc: dict[str, Any]) -> bool:  # noqa: ARG002
        """Whether the program is to have the rseq symbols."""
        return case.release.exports_rseq

    def descriptors(self, case: Case, lines: Lines) -> Lines:  # noqa: ARG002
        """What libc tells of the thread descriptor: one line; raises `Unanswered` if it is not there."""
        found = [x for x in lines if x["from"] == "descriptor"]
        if len(found) != 1:
            raise Unanswered(Outcome.ERROR, "the program does not say what libc tells of its descriptor")
        return found

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        rseq = material.profile.rseq
        lines = answers.lines(case.job(self.name))
        libc, threads, kernel = _sorted_out(lines)
        exports = self.exports(case, libc)
        for word in kernel.values():
            told(word["error"])

        size = rseq.size_on if case.on else 0
        says = f"__rseq_size {size}, __rseq_flags 0, __rseq_offset valid" if exports else "no rseq symbols"
        if case.on:
            expected = (
                f"the kernel has all {len(threads)} threads registered: {rseq.area_size} bytes, "
                f"signature {material.arch.rseq_signature:#x}, flags 0, one place in each; {says}"
            )
            faults = _registered(material, libc, threads, kernel)
        else:
            expected = f"the kernel has none of {len(threads)} threads registered; {says}"
            faults = [
                f"thread {tid}: {fault}"
                for tid, word in kernel.items()
                for fault in kernel_faults(material, word, on=False)
            ]
        faults = _libc_faults(libc, threads, exports=exports, size=size, on=case.on) + faults
        places = sorted({w["pointer"] - threads[t]["tp"] for t, w in kernel.items() if w["pointer"]})
        for descriptor in () if material.profile.area_grows else self.descriptors(case, lines):
            here = places or ([libc["offset"]] if libc["offset"] is not None else [])
            faults += [fault for place in here for fault in descriptor_faults(material, place, descriptor)]
        where = f" at thread pointer {places[0]:+d}" if places else ""
        registered = sum(1 for w in kernel.values() if w["pointer"])
        seen = f"{registered} of {len(kernel)} threads registered{where}; "
        seen += (
            f"__rseq_size {libc['size']}, __rseq_offset {libc['offset']}" if exports else "no rseq symbols"
        )
        measures = {"threads": len(kernel), "registered": registered}
        if libc["size"] is not None:
            measures["rseq_size"] = libc["size"]
        return verdict(expected, seen, faults, measures)


def _sorted_out(lines: Lines) -> tuple[dict[str, Any], dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """What libc said, what each thread said and what the kernel said, by thread id; all must be there."""
    libc = [x for x in lines if x["from"] == "libc"]
    threads = {x["tid"]: x for x in lines if x["from"] == "thread"}
    kernel = {x["tid"]: x for x in lines if x["from"] == "kernel"}
    whole = any(x["from"] == "end" for x in lines)
    if len(libc) != 1 or len(threads) != THREADS + 1 or threads.keys() != kernel.keys() or not whole:
        raise Unanswered(
            Outcome.ERROR,
            f"{THREADS + 1} threads were to be seen; the program told of {len(threads)}, "
            f"the tracer of {len(kernel)}" + ("" if whole else ", and the program did not end"),
        )
    return libc[0], threads, kernel


def _registered(
    material: Material,
    libc: dict[str, Any],
    threads: dict[int, dict[str, Any]],
    kernel: dict[int, dict[str, Any]],
) -> list[str]:
    faults = []
    offsets = set()
    for tid, word in kernel.items():
        found = kernel_faults(material, word, on=True)
        if word["pointer"]:
            offset = word["pointer"] - threads[tid]["tp"]
            offsets.add(offset)
            found += place_faults(offset, libc["offset"])
        faults += [f"thread {tid}: {fault}" for fault in found]
    if len(offsets) > 1:
        faults.append(f"the area is not at one place in each thread: {sorted(offsets)}")
    return faults


def _libc_faults(
    libc: dict[str, Any], threads: dict[int, dict[str, Any]], *, exports: bool, size: int, on: bool
) -> list[str]:
    if not exports:
        return [f"__rseq_{k} is exported" for k in ("size", "flags", "offset") if libc[k] is not None]
    faults = [f"__rseq_{k} is not exported" for k in ("size", "flags", "offset") if libc[k] is None]
    if faults:
        return faults
    faults = symbol_faults(libc, size)
    for tid, thread in threads.items():
        faults += [f"thread {tid}: {fault}" for fault in cpu_id_faults(thread["cpu_id"], on=on)]
    return faults


class RseqTunable(ProbeCheck):
    """ld.so lists the tunable with its range and the value that holds."""

    declared = Declaration(
        name="rseq.tunable",
        question="Does `glibc.pthread.rseq` have the right default and bounds?",
    )

    def program(self, material: Material) -> tuple[str, ...]:
        return (material.arch.interp, "--list-tunables")

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        tunable = material.profile.rseq.tunable
        expected = f"{tunable}: {int(case.on)} (min: 0, max: 1)"
        listed = answers.output(case.job(self.name)).decode(errors="replace").splitlines()
        ours = [line for line in listed if line.startswith(f"{tunable}:")]
        if not listed:
            raise Unanswered(Outcome.ERROR, "ld.so --list-tunables printed nothing")
        seen = "; ".join(ours) or f"no such tunable among {len(listed)}"
        return verdict(expected, seen, [] if ours == [expected] else [seen])


CHECKS = (RseqRegistered(), RseqTunable())
