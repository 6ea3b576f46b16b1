"""Do static archives hold together? A linker reads an archive's index, then members, then what those need.

Programs that link with a few functions see nothing of the rest: what is wrong with a member shows where
somebody uses that one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import elf
from pipeline.build import headers
from pipeline.check import Material, StaticCheck
from pipeline.check.abi_facts import Fact
from pipeline.check.packages import EachPackaging, judged
from pipeline.core import ar
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome
from pipeline.elf.relocatable import SHN_UNDEF, WEAK, Relocatable
from pipeline.rpm.payload import inside

DIRECTORY, LIBC = "usr/lib64", "libc.so.6"
LIBC_A = f"{DIRECTORY}/libc.a"
#: What linkers define (the default script of GNU ld), and start files of the compiler.
_LINKER = re.compile(
    r"_DYNAMIC|_GLOBAL_OFFSET_TABLE_|_?(?:end|edata|etext)|__bss_start|__ehdr_start|__executable_start"
    r"|__(?:preinit|init|fini)_array_(?:start|end)|__rela_iplt_(?:start|end)|__(?:start|stop)_\w+"
    r"|__TMC_END__|__dso_handle"
)
#: What the compiler's own libraries define: the unwinder, arithmetic that no instruction does, atomics.
_COMPILER = re.compile(
    r"_Unwind_\w+|__gcc_personality_\w+|__(?:aarch64|sfp|cpu)_\w+"
    r"|__(?:add|sub|mul|div|neg|eq|ne|gt|ge|lt|le|unord|cmp|extend|trunc|fix|fixuns|float|floatun|powi"
    r"|popcount|clz|ctz|ffs|parity|bswap|udiv|umod|mod|ashl|ashr|lshr)(?:[sdxthb][fci]){1,2}[0-9]?"
)


@dataclass(frozen=True)
class _Archive:
    """An archive: its name, its index, and its objects by member (of an archive two may have one name)."""

    name: str
    index: frozenset[str]
    members: Sequence[tuple[str, Relocatable]]

    def defined(self) -> Iterator[tuple[str, str, bool]]:
        """Symbol, member, and whether the definition is weak."""
        for member, content in self.members:
            for symbol in content.defined:
                yield symbol.name, member, symbol.binding == WEAK


class Archives(EachPackaging):
    """Index, members and what members need fit together, in every archive of a release."""

    declared = Declaration(
        name="devel.archives",
        measures=measured(Unit.COUNT, "archives", "members"),
        question=(
            "Do index and members of static archives agree, and is what a member needs there, once, and weak "
            "where programs may have their own?"
        ),
    )
    expected = "an index as members define, one strong definition a name, every need met"

    def ask(self, material: Material, release: str) -> Fact:
        root = material.built[release].root
        archives, starts = _read(root)
        measures = {"archives": len(archives), "members": sum(len(a.members) for a in archives)}
        if LIBC_A not in {archive.name for archive in archives}:
            supplied = material.built[release].manifest.mode == "supplied"
            outcome = Outcome.MISSING if supplied else Outcome.FAIL
            words = f"there is no /{LIBC_A} (package glibc-static)"
            return Fact(outcome, self.expected, words, measures=measures)
        faults = [
            f"{archive.name}: {fault}"
            for archive in archives
            for fault in _of_one(archive, material.arch.elf_machine)
        ]
        faults += [
            f"{name} {fault}"
            for name, start in starts.items()
            for fault in _marks(start, material.arch.elf_machine)
        ]
        faults += _unmet(archives, starts.values())
        faults += _not_weak(material, release, archives)
        return judged(
            self.expected, f"{len(archives)} archives with {measures['members']} members", faults, measures
        )


def _read(root: Path) -> tuple[list[_Archive], dict[str, Relocatable]]:
    """The archives of a release, and its start files by name. Raises `MalformedInput`."""
    archives, starts = [], {}
    base = inside(root, DIRECTORY)
    for entry in sorted(base.iterdir()) if base.is_dir() else []:
        name = f"{DIRECTORY}/{entry.name}"
        file = inside(root, name)  # it may be a link
        if entry.suffix not in (".a", ".o") or not file.is_file():
            continue
        data = file.read_bytes()
        if data.startswith(ar.MAGIC):
            content = [(m, Relocatable(d, f"{name}({m})")) for m, d in headers.members(data, name)]
            archives.append(_Archive(name, ar.index(io.BytesIO(data), name), content))
        elif data.startswith(b"\x7fELF"):  # libmcheck.a is one object
            starts[name] = Relocatable(data, name)
    return archives, starts


def _of_one(archive: _Archive, machine: int) -> Iterator[str]:
    """What is wrong with one archive by itself."""
    strong: dict[str, list[str]] = {}
    names = set()
    for name, member, weak in archive.defined():
        names.add(name)
        if not weak:
            strong.setdefault(name, []).append(member)
    yield from (f"{name} is defined, and not in the index" for name in sorted(names - archive.index))
    yield from (f"{name} is in the index, and no member defines it" for name in sorted(archive.index - names))
    yield from (
        f"{name} is defined twice: {', '.join(members)}"
        for name, members in sorted(strong.items())
        if len(members) > 1
    )
    for member, content in archive.members:
        yield from (f"{member} {fault}" for fault in _marks(content, machine))


def _marks(content: Relocatable, machine: int) -> Iterator[str]:
    if content.machine != machine:
        yield f"is for ELF machine {content.machine}, not {machine}"
    if content.executable_stack:
        yield "makes the stack executable"


def _unmet(archives: Sequence[_Archive], starts: Iterable[Relocatable]) -> Iterator[str]:
    """Names that a member must have and that neither the release nor the compiler defines."""
    known = {name for archive in archives for name, _, _ in archive.defined()}
    known |= {s.name for start in starts for s in start.defined}
    for archive in archives:
        for member, content in archive.members:
            for symbol in content.symbols:
                name = symbol.name
                if symbol.section != SHN_UNDEF or symbol.binding == WEAK or name in known:
                    continue
                if not _LINKER.fullmatch(name) and not _COMPILER.fullmatch(name):
                    yield f"{archive.name}({member}) needs {name}, which no archive defines"


def _not_weak(material: Material, release: str, archives: Sequence[_Archive]) -> Iterator[str]:
    """Names that are weak in libc.so.6 and strong in libc.a: a program with its own would not link.

    Reserved ones (``_``) no program may define.
    """
    shared = {
        s.name
        for file in material.files(release).values()
        if file.name == LIBC
        for s in file.binary.defined
        if s.binding == elf.STB_WEAK and not s.hidden and not s.name.startswith("_")
    }
    for archive in archives:
        if archive.name == LIBC_A:
            strong = {name for name, _, weak in archive.defined() if not weak}
            found = sorted(shared & strong)
            yield from (f"{LIBC_A}: {name} is weak in {LIBC} and not here" for name in found)


CHECKS: tuple[StaticCheck, ...] = (Archives(),)
