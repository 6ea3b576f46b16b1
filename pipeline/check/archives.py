"""Do static archives hold together? A linker reads an archive's index, then members, then what those need.

Programs that link with a few functions see nothing of the rest: what is wrong with a member shows where
somebody uses that one.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import elf
from pipeline.build import headers
from pipeline.check import Material, StaticCheck
from pipeline.check.abi_facts import Fact
from pipeline.check.packages import EachPackaging, judged
from pipeline.core import ar, store
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


#: Raised when `_object` reads more of an object, or otherwise.
READER = 1
KIND, OBJECTS = "archives", "objects.json"


@dataclass(frozen=True)
class _Object:
    """What a linker sees of an object: ELF's number of its machine, the names that it defines strongly and
    weakly, and those that another must define."""

    machine: int
    executable_stack: bool
    strong: Sequence[str]
    weak: Sequence[str]
    needs: Sequence[str]

    @property
    def defined(self) -> Iterator[str]:
        yield from self.strong
        yield from self.weak


@dataclass(frozen=True)
class _Archive:
    """An archive: its name, its index, and its objects by member (of an archive two may have one name)."""

    name: str
    index: frozenset[str]
    members: Sequence[tuple[str, _Object]]

    @property
    def defined(self) -> Iterator[str]:
        """The symbols that its members define, one for each definition."""
        return (name for _, content in self.members for name in content.defined)


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


def _read(root: Path) -> tuple[list[_Archive], dict[str, _Object]]:
    """The archives of a release, and its start files by name. Raises `MalformedInput`.

    There are thousands of objects, so what a linker sees of them is kept.
    """
    base = inside(root, DIRECTORY)
    names = [f"{DIRECTORY}/{e.name}" for e in sorted(base.iterdir())] if base.is_dir() else []
    there = {name: inside(root, name) for name in names if name.endswith((".a", ".o"))}  # some are links
    files = {name: file for name, file in there.items() if file.is_file()}
    inputs = {"files": {name: store.file_sha256(file) for name, file in files.items()}, "reader": READER}

    def make(into: Path) -> None:
        archives, starts = [], {}
        for name, file in files.items():
            data = file.read_bytes()
            if data.startswith(ar.MAGIC):
                objects = [(m, asdict(_object(d, f"{name}({m})"))) for m, d in headers.members(data, name)]
                archives.append((name, sorted(ar.index(io.BytesIO(data), name)), objects))
            elif data.startswith(b"\x7fELF"):  # libmcheck.a is one object
                starts[name] = asdict(_object(data, name))
        (into / OBJECTS).write_text(json.dumps([archives, starts]) + "\n")

    kept = store.produce(KIND, inputs, make)
    archives, starts = json.loads((kept.path / OBJECTS).read_text())
    return (
        [
            _Archive(name, frozenset(index), [(member, _Object(**fields)) for member, fields in objects])
            for name, index, objects in archives
        ],
        {name: _Object(**fields) for name, fields in starts.items()},
    )


def _object(data: bytes, where: str) -> _Object:
    read = Relocatable(data, where)
    defined = list(read.defined)
    return _Object(
        machine=read.machine,
        executable_stack=read.executable_stack,
        strong=[s.name for s in defined if s.binding != WEAK],
        weak=[s.name for s in defined if s.binding == WEAK],
        needs=[s.name for s in read.symbols if s.section == SHN_UNDEF and s.binding != WEAK],
    )


def _of_one(archive: _Archive, machine: int) -> Iterator[str]:
    """What is wrong with one archive by itself."""
    strong: dict[str, list[str]] = {}
    for member, content in archive.members:
        for name in content.strong:
            strong.setdefault(name, []).append(member)
    names = set(archive.defined)
    yield from (f"{name} is defined, and not in the index" for name in sorted(names - archive.index))
    yield from (f"{name} is in the index, and no member defines it" for name in sorted(archive.index - names))
    yield from (
        f"{name} is defined twice: {', '.join(members)}"
        for name, members in sorted(strong.items())
        if len(members) > 1
    )
    for member, content in archive.members:
        yield from (f"{member} {fault}" for fault in _marks(content, machine))


def _marks(content: _Object, machine: int) -> Iterator[str]:
    if content.machine != machine:
        yield f"is for ELF machine {content.machine}, not {machine}"
    if content.executable_stack:
        yield "makes the stack executable"


def _unmet(archives: Sequence[_Archive], starts: Iterable[_Object]) -> Iterator[str]:
    """Names that a member must have and that neither the release nor the compiler defines."""
    known = {name for archive in archives for name in archive.defined}
    known |= {name for start in starts for name in start.defined}
    for archive in archives:
        for member, content in archive.members:
            for name in content.needs:
                if name not in known and not _LINKER.fullmatch(name) and not _COMPILER.fullmatch(name):
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
            strong = {name for _, content in archive.members for name in content.strong}
            found = sorted(shared & strong)
            yield from (f"{LIBC_A}: {name} is weak in {LIBC} and not here" for name in found)


CHECKS: tuple[StaticCheck, ...] = (Archives(),)
