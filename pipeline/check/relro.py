"""Is what the loader promises to protect really read-only once a program runs? The kernel is asked to write.

`elf.hardening` reads headers; a loader that forgets to protect, or protects less than the header names,
leaves them right. Where the public rseq symbols lie, a stray write would tell a program a wrong area.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pipeline.abi.files import ElfFile
from pipeline.check import Material
from pipeline.check.probing import (
    PROBES,
    Answers,
    Case,
    FacetedCase,
    ProbeCheck,
    Unanswered,
    Verdict,
    faceted,
    need_static,
    verdict,
)
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Outcome
from pipeline.elf.image import PT_GNU_RELRO

#: What the kernel says to a write to a page that is read-only.
READ_ONLY = "EFAULT"
STATIC = "static"
SYMBOLS = ("__rseq_size", "__rseq_offset", "__rseq_flags")


class RseqRelro(ProbeCheck):
    """Every page of every DSO's RELRO, and each public rseq symbol, is read-only at run time.

    All DSOs of a release where the tunable is not set; the loader and libc in each of its states, for the
    rseq symbols are written before they are protected. Of a static program the symbols alone.
    """

    declared = Declaration(
        name="rseq.relro",
        measures=(
            *measured(Unit.COUNT, "objects", "with_relro", "pages"),
            *measured(Unit.BYTES, "page_size"),
        ),
        question=(
            "Are the RELRO pages of every DSO, and the pages of the rseq symbols (also in static programs), "
            "read-only for the kernel once a program runs?"
        ),
    )
    needs_rseq: ClassVar[bool] = False

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return (f"{PROBES}/relro-pages",)

    def cases(self, material: Material) -> Sequence[Case]:
        every = super().cases(material)
        return [*every, *faceted((c for c in every if c.release.exports_rseq), "kind", (STATIC,))]

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        if isinstance(case, FacetedCase):
            return (f"{PROBES}/relro-{STATIC}-{case.release.name}",)
        try:
            objects = _objects(material, case)
        except (MalformedInput, OSError):  # said when it is judged
            objects = []
        return (*self.program(material), *(f"/{file.path}" for file in objects))

    def asks(self, case: Case) -> str:
        if isinstance(case, FacetedCase):
            return f"the kernel refuses a write to {', '.join(SYMBOLS)} of a static program"
        whose = ", ".join(SYMBOLS) if case.release.exports_rseq else "no rseq symbol"
        what = "every DSO" if case.state is None else "the loader and libc"
        return f"the kernel refuses a write to each RELRO page of {what}, and to {whose}"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        if isinstance(case, FacetedCase):
            need_static(material, case.release.name, self.argv(material, case)[0])
            lines = answers.lines(case.job(self.name))
            faults = _symbol_faults(lines, SYMBOLS)
            return verdict(self.asks(case), f"{', '.join(SYMBOLS)} are read-only", faults)
        try:
            objects = _objects(material, case)
        except (MalformedInput, OSError) as e:
            raise Unanswered(Outcome.ERROR, str(e)) from None
        lines = answers.lines(case.job(self.name))
        (total,) = [x for x in lines if x.get("end")] or [{}]
        if not total or not objects:
            raise Unanswered(Outcome.ERROR, "the probe did not come to its end, or there was nothing to ask")
        lost = [f"{x['object']}: {x['error']}" for x in lines if "error" in x]
        faults = [_object_fault(x) for x in lines if "object" in x and "error" not in x]
        with_relro = sum(any(s.type == PT_GNU_RELRO for s in f.binary.segments) for f in objects)
        if not (faults or lost) and (total["objects"], total["with_relro"]) != (len(objects), with_relro):
            faults.append(
                f"{total['objects']} objects were loaded, {total['with_relro']} with RELRO; the release has "
                f"{len(objects)} and {with_relro}"
            )
        if not total["pages"]:
            faults.append("not one page is protected")
        faults += _symbol_faults(lines, SYMBOLS if case.release.exports_rseq else ())
        if lost and not faults:
            words = ", ".join(lost)
            raise Unanswered(Outcome.MISSING, f"what is not loaded cannot be asked about: {words}")
        seen = f"{total['pages']} pages of {total['with_relro']} of {total['objects']} DSOs are read-only" + (
            f", and so are {', '.join(SYMBOLS)}" if case.release.exports_rseq else ""
        )
        measures = {k: total[k] for k in ("objects", "with_relro", "pages", "page_size")}
        return verdict(self.asks(case), seen, faults, measures)


def _symbol_faults(lines: Sequence[dict[str, Any]], wanted: Sequence[str]) -> list[str]:
    symbols = {x["symbol"]: x for x in lines if "symbol" in x}
    return [
        *(f"{name} is not exported" for name in wanted if name not in symbols),
        *(f"{name} is exported" for name in symbols if name not in wanted),
        *(
            f"{name} can be overwritten (the kernel's answer to a write: {x['write']})"
            for name, x in symbols.items()
            if x["write"] != READ_ONLY or x["listed"] == 1
        ),
    ]


def _objects(material: Material, case: Case) -> list[ElfFile]:
    """The DSOs that the probe loads. Raises `MalformedInput`, OSError."""
    core = {material.arch.loader, "libc.so.6"}
    return [
        file
        for file in material.files(case.release.name).values()
        if file.binary.is_shared_object and (case.state is None or file.name in core)
    ]


def _object_fault(line: dict[str, Any]) -> str:
    listed = f", {line['writable']} are listed as writable" if line["writable"] else ""
    return f"{line['object']}: {line['written']} RELRO pages took a write{listed}"


CHECKS = (RseqRelro(),)
