"""What scan must know of one ELF file: what kind it is, and what it wants of whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.core.arch import ARCHES
from pipeline.elf import Elf, Import, Need
from pipeline.elf.image import DF_1_PIE, DT_FLAGS_1, ET_DYN, ET_EXEC

#: e_type of what is no program and no DSO (gABI chapter 4)
_OTHER_TYPES = {1: "an object file that is not linked yet", 4: "a core dump"}
_MACHINES = {a.elf_machine: a for a in ARCHES.values()}


class Kind(StrEnum):
    """``STATIC`` is a program that no loader completes; ``OTHER`` is no program and no library."""

    PROGRAM = "program"
    LIBRARY = "library"
    STATIC = "static program"
    OTHER = "other"


@dataclass(frozen=True)
class Facts:
    """One ELF file. ``arch`` is an architecture's name, or ``machine-N`` for one the pipeline does not know.

    ``alien`` says why no glibc will ever load it ("" if one does). ``needed`` is DT_NEEDED, ``needs`` the
    required versions, ``imports`` the symbols wanted from elsewhere.
    """

    kind: Kind
    arch: str
    soname: str = ""
    interp: str = ""
    alien: str = ""
    needed: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    imports: tuple[Import, ...] = ()


def facts_of(binary: Elf) -> Facts:
    """The facts of a file; raises `MalformedInput` if one of its tables cannot be read."""
    machine = _MACHINES.get(binary.machine)
    arch = machine.name if machine else f"machine-{binary.machine}"
    if binary.type not in (ET_EXEC, ET_DYN):
        return Facts(Kind.OTHER, arch, alien=_OTHER_TYPES.get(binary.type, f"of ELF type {binary.type}"))
    needed = binary.needed
    if not binary.interp and _is_static(binary):
        return Facts(Kind.STATIC, arch)
    alien = _alien(binary, machine.loader if machine else "", machine.interp if machine else "")
    return Facts(
        Kind.PROGRAM if binary.interp and not binary.is_shared_object else Kind.LIBRARY,
        arch,
        binary.soname,
        binary.interp,
        alien,
        needed,
        binary.needs,
        binary.imports,
    )


def _is_static(binary: Elf) -> bool:
    """A program without a loader: not dynamic at all, or a static PIE, which relocates itself."""
    if binary.needed:
        return False
    return binary.type == ET_EXEC or bool(binary.tags.get(DT_FLAGS_1, 0) & DF_1_PIE)


def _alien(binary: Elf, loader: str, interp: str) -> str:
    """Why another C library than the release's glibc loads this file, "" if none does."""
    named = binary.interp
    if named and loader and named.rpartition("/")[2] != loader:
        return f"its loader is {named}, not glibc's {interp}"
    if named and loader and named not in {interp, f"/lib64/{loader}", f"/lib/{loader}",
                                          f"/usr/lib64/{loader}", f"/usr/lib/{loader}"}:  # fmt: skip
        return f"it brings its own loader, {named}"
    for library in binary.needed:
        if library.startswith(("libc.musl-", "ld-musl-")) or library == "libc.so":
            return f"it needs {library}, which is not glibc's"
    return ""
