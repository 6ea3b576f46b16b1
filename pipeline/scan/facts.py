"""What scan must know of one ELF file: what kind it is, and what it wants of whom."""

from __future__ import annotations

import functools
import posixpath
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from pipeline.core.arch import ARCHES, Arch
from pipeline.elf import Elf, Import
from pipeline.elf.image import (
    DF_1_NODEFLIB,
    DF_1_PIE,
    DT_FLAGS_1,
    DT_RELR,
    DT_RELRSZ,
    DT_RPATH,
    DT_RUNPATH,
    DT_VERDEF,
    DT_VERNEED,
    ET_DYN,
    ET_EXEC,
)
from pipeline.elf.lookup import Lookup, elf_hash
from pipeline.elf.versions import BASE, UNVERSIONED, VER_FLG_WEAK, VersionNeed
from pipeline.scan import loadable, wrapped
from pipeline.scan.remarks import remarks_of

#: e_type of what is no program and no DSO (gABI chapter 4)
_OTHER_TYPES = {1: "an object file that is not linked yet", 4: "a core dump"}
_MACHINES = {a.elf_machine: a for a in ARCHES.values()}
#: A reference without a version binds to version indexes up to this, even if hidden: the oldest node's.
_OLDEST = 2


class Kind(StrEnum):
    """``STATIC`` is a program that no loader completes; ``OTHER`` is no program and no library."""

    PROGRAM = "program"
    LIBRARY = "library"
    STATIC = "static program"
    OTHER = "other"


@dataclass(frozen=True)
class Exports:
    """What others can bind to in a file, by ld.so's rules (elf/dl-lookup.c: check_match).

    ``versioned``: the file has versions at all. ``nodes`` are those it defines, its base among them; None:
    it defines none, and whatever is required of it is granted. ``symbols`` are (node, name), with the node
    ``-`` for what a reference without version finds, ``Base`` for what suits every version.
    """

    versioned: bool
    nodes: frozenset[str] | None
    symbols: frozenset[tuple[str, str]]

    def has(self, name: str, node: str) -> bool:
        """Whether a reference to ``name`` at ``node`` (``-``: no version) finds a symbol here."""
        if not self.versioned:
            return (UNVERSIONED, name) in self.symbols
        return (node, name) in self.symbols or (node != UNVERSIONED and (BASE, name) in self.symbols)


@dataclass(frozen=True)
class Facts:
    """One ELF file. ``arch`` is an architecture's name, or ``machine-N`` for one the pipeline does not know.

    ``alien`` says why no glibc will ever load it ("" if one does). ``needed`` is DT_NEEDED, ``auxiliaries``
    what is loaded if it is there, ``needs`` the required versions, ``misnamed`` those of them (DSO, version)
    whose hash is wrong, ``imports`` the symbols that relocations want from elsewhere. ``rpath`` and
    ``runpath`` are as they stand in the file; with a DT_RUNPATH ld.so ignores DT_RPATH, and so ``rpath`` is
    "". ``relr``: it has packed relative relocations. ``refused`` says why every ld.so refuses it,
    ``refused_before`` why those of an older glibc do, ``no_library`` what a program is that is no library.
    ``own_loader`` is a loader of glibc's name that lies where no release has it, ``doubt`` says why it cannot
    be judged. ``no_default``: what it needs is not looked for in the default directories (DF_1_NODEFLIB).
    ``exports`` may be None: not read yet.
    """

    kind: Kind
    arch: str
    soname: str = ""
    interp: str = ""
    alien: str = ""
    needed: tuple[str, ...] = ()
    auxiliaries: tuple[str, ...] = ()
    needs: tuple[VersionNeed, ...] = ()
    imports: tuple[Import, ...] = ()
    misnamed: frozenset[tuple[str, str]] = frozenset()
    rpath: str = ""
    runpath: str = ""
    relr: bool = False
    refused: str = ""
    refused_before: tuple[tuple[loadable.Version, str], ...] = ()
    own_loader: str = ""
    doubt: str = ""
    no_library: str = ""
    no_default: bool = False
    remarks: tuple[str, ...] = ()
    exports: Exports | None = None

    @cached_property
    def wanted(self) -> frozenset[tuple[str, str]]:
        """(node, name) of the imports that must be found; a weak one need not be."""
        return frozenset((i.version, i.name) for i in self.imports if not i.weak)

    @cached_property
    def required(self) -> frozenset[tuple[str, str]]:
        """(DSO, version) of the required versions."""
        return frozenset((need.file, version) for need in self.needs for version in need.versions)

    @cached_property
    def copied(self) -> tuple[Import, ...]:
        """The imports of which the program keeps a copy."""
        return tuple(i for i in self.imports if i.copied)


def facts_of(binary: Elf, *, with_exports: bool = False) -> Facts:
    """The facts of a file; raises `MalformedInput` if one of its tables cannot be read.

    ``with_exports`` reads those of a library too: for a file that cannot be opened a second time.
    """
    machine = _MACHINES.get(binary.machine)
    arch = machine.name if machine else f"machine-{binary.machine}"
    if binary.type not in (ET_EXEC, ET_DYN):
        return Facts(Kind.OTHER, arch, alien=_OTHER_TYPES.get(binary.type, f"of ELF type {binary.type}"))
    needed = (*binary.needed, *binary.filters)
    if not binary.interp and not binary.dynamic and (hidden := wrapped.hidden_in(binary)):
        return Facts(Kind.STATIC, arch, doubt=hidden)
    if not binary.interp and binary.type == ET_DYN and not binary.dynamic:
        return Facts(Kind.OTHER, arch, alien="it has no dynamic section (debug information kept apart?)")
    if not binary.interp and _is_static(binary):
        if not binary.begins:
            return Facts(Kind.OTHER, arch, alien="its code is not in it (debug information kept apart?)")
        return Facts(
            Kind.STATIC,
            arch,
            alien=_other_system(binary),
            doubt=wrapped.hidden_in(binary),
            remarks=remarks_of(binary, arch),
        )
    needs, misnamed, refused, nameless = _requirements(binary)
    imports = binary.imports
    if nameless:
        imports = tuple(
            i._replace(version=UNVERSIONED, file="") if (i.file, i.version) in nameless else i
            for i in imports
        )
    is_pie = binary.tags.get(DT_FLAGS_1, 0) & DF_1_PIE  # and a program whatever soname it has
    is_library = not binary.interp or (binary.is_shared_object and not is_pie)
    named = "" if is_library else binary.interp  # of a library ld.so does not look at it
    alien, own_loader = _alien(binary, named, machine)
    refused = refused or ("" if alien else loadable.refused(binary, arch, library=is_library))
    has_runpath = DT_RUNPATH in binary.tags
    return Facts(
        kind=Kind.LIBRARY if is_library else Kind.PROGRAM,
        arch=arch,
        soname=binary.soname,
        interp=binary.interp,
        alien=alien,
        needed=needed,
        auxiliaries=binary.auxiliaries,
        needs=needs,
        imports=imports,
        misnamed=misnamed,
        rpath=binary.string(binary.tags[DT_RPATH]) if DT_RPATH in binary.tags and not has_runpath else "",
        runpath=binary.string(binary.tags[DT_RUNPATH]) if has_runpath else "",
        relr=bool(DT_RELR in binary.tags and binary.tags.get(DT_RELRSZ, 0)),
        refused=refused,
        refused_before=loadable.refused_before(binary) if is_library and not alien else (),
        own_loader=own_loader,
        doubt=loadable.unsure(binary) or ("" if is_library else wrapped.hidden_in(binary)),
        no_library="" if is_library else loadable.not_a_library(binary),
        no_default=bool(binary.tags.get(DT_FLAGS_1, 0) & DF_1_NODEFLIB),
        remarks=remarks_of(binary, arch),
        exports=exports_of(binary) if with_exports and is_library and not alien else None,
    )


def exports_of(binary: Elf) -> Exports:
    """What others can bind to in a file; raises `MalformedInput`."""
    lookup = Lookup(binary)
    versioned = DT_VERDEF in binary.tags or DT_VERNEED in binary.tags
    symbols: set[tuple[str, str]] = set()
    for name, index, node, hidden in lookup.exported() if binary.dynamic else ():
        if not versioned:
            symbols.add((UNVERSIONED, name))
            continue
        symbols.add((node or BASE, name))
        if index <= _OLDEST or not hidden:
            symbols.add((UNVERSIONED, name))
        if not node and hidden:
            symbols.discard((BASE, name))
    nodes = None
    if DT_VERDEF in binary.tags:
        nodes = frozenset(
            d.name for d in lookup.definitions if d.hash == _hash_of(d.name) and d.revision == 1
        )
    return Exports(versioned, nodes, frozenset(symbols))


@functools.lru_cache(maxsize=4096)
def _hash_of(version: str) -> int:
    return elf_hash(version.encode("utf-8", "surrogateescape"))


def _requirements(
    binary: Elf,
) -> tuple[tuple[VersionNeed, ...], frozenset[tuple[str, str]], str, frozenset[tuple[str, str]]]:
    """The required versions; those with a wrong hash; why ld.so refuses the table; those whose hash is 0.

    A reference at a version whose hash is 0 is one without a version (elf/dl-reloc.c: RESOLVE_MAP).
    """
    if DT_VERNEED not in binary.tags:
        return (), frozenset(), "", frozenset()
    found = Lookup(binary).requirements
    files: dict[str, tuple[list[str], set[str]]] = {}
    for need in found:
        versions, weak = files.setdefault(need.file, ([], set()))
        versions.append(need.name)
        if need.flags & VER_FLG_WEAK:
            weak.add(need.name)
    refused = f"unsupported version {found[0].revision} of Verneed record" if found[0].revision != 1 else ""
    return (
        tuple(
            VersionNeed(file, tuple(versions), frozenset(weak)) for file, (versions, weak) in files.items()
        ),
        frozenset((r.file, r.name) for r in found if r.hash != _hash_of(r.name)),
        refused,
        frozenset((r.file, r.name) for r in found if r.hash == 0),
    )


def _is_static(binary: Elf) -> bool:
    """A program without a loader: not dynamic at all, or a static PIE, which relocates itself."""
    if binary.needed:
        return False
    return binary.type == ET_EXEC or bool(binary.tags.get(DT_FLAGS_1, 0) & DF_1_PIE)


def _alien(binary: Elf, named: str, machine: Arch | None) -> tuple[str, str]:
    """Why another C library than the release's glibc loads this file ("" if none does), and its own loader.

    That is one of glibc's name in a place of its own: whether it is there, the file does not tell. ``named``
    is the loader that a program names.
    """
    loader, interp = (machine.loader, machine.interp) if machine else ("", "")
    if named and loader and named.rpartition("/")[2] != loader:
        return f"its loader is {named}, not glibc's {interp}", ""
    if named and loader and f"/{posixpath.normpath(named).lstrip('/')}" not in (interp, f"/usr{interp}"):
        return f"its loader is {named}, and glibc's is {interp}", named  # /lib64 is a link to /usr/lib64
    for library in binary.needed:
        if library.startswith(("libc.musl-", "ld-musl-")) or library == "libc.so":
            return f"it needs {library}, which is not glibc's", ""
    return "", ""


def _other_system(binary: Elf) -> str:
    """Why a static program is none of Linux, which the kernel does not ask: its code asks another kernel."""
    abi = binary.data[7]
    return "" if abi in loadable.OS_ABIS else f"it is for another system (EI_OSABI {abi})"
