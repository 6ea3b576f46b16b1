"""Can the release's files be loaded where memory has larger pages than on the machine that tests them?

AArch64 kernels have pages of 4, 16 or 64 KiB, and RHEL ships both ends. A file that was linked for 4 KiB
starts on every kernel of 4 KiB and on no other, so a test on one kernel does not show it. ld.so maps each
segment by whole pages (elf/dl-load.c) and protects RELRO down to the last whole page (elf/dl-reloc.c).
"""

from __future__ import annotations

from itertools import pairwise

from pipeline.check import Material
from pipeline.check.abi_facts import EachRelease, Fact, built_files, shown
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome
from pipeline.elf import Elf
from pipeline.elf.image import PT_GNU_RELRO, PT_LOAD


def faults(binary: Elf, page: int) -> list[str]:
    """Why a file cannot be mapped by pages of ``page`` bytes, or not protected whole; none if it can."""
    loads = [s for s in binary.segments if s.type == PT_LOAD and s.memsz]
    found = []
    for load in loads:
        where = f"the segment at {load.vaddr:#x}"
        if load.align < page or load.align % page:
            found.append(f"{where} is aligned to {load.align:#x}, not to {page:#x}")
        elif (load.vaddr - load.offset) % page:
            found.append(f"{where} has the file offset {load.offset:#x}: not the same place in a page")
    for before, after in pairwise(loads):
        if before.flags != after.flags and (before.vaddr + before.memsz - 1) // page >= after.vaddr // page:
            found.append(
                f"the segments at {before.vaddr:#x} and {after.vaddr:#x} share a page, and not their access"
            )
    ends = [s.vaddr + s.memsz for s in binary.segments if s.type == PT_GNU_RELRO]
    found += [
        f"RELRO ends at {end:#x}, within a page: its last {end % page:#x} bytes stay writable"
        for end in ends
        if end % page
    ]
    return found


class Pages(EachRelease):
    """Every program and DSO is linked for the largest pages that the architecture has."""

    declared = Declaration(
        name="elf.pages",
        measures=(
            *measured(Unit.COUNT, "files"),
            *measured(Unit.BYTES, "page_bytes"),
        ),
        question=(
            "Can every program and DSO be loaded, and its RELRO be protected whole, with the largest memory "
            "pages of the architecture (AArch64: 64 KiB)?"
        ),
    )
    about = "files that can be read"

    def ask(self, material: Material, release: str) -> Fact:
        page = material.arch.largest_page
        files = built_files(material, release)
        wrong = [f"{name}: {fault}" for name, file in files.items() for fault in faults(file.binary, page)]
        expected = f"{len(files)} files whose segments can be mapped by pages of {page // 1024} KiB"
        return Fact(
            Outcome.FAIL if wrong else Outcome.PASS,
            expected,
            shown(wrong) or "all of them can",
            measures={"files": len(files), "page_bytes": page},
        )


CHECKS = (Pages(),)
