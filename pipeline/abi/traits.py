"""What a baseline says beside listings: traits of symbols and versions, and of files, in lines.

``abi.details`` has for each DSO its version nodes with flags and parents, its thread-local segment, its
private symbols (``private NAME KIND SIZE``), and every public symbol that is not plain. A plain one is a
default version (``@@``), global, of default visibility, and of the type that its kind in the listing stands
for. ``elf.hardening`` has the lines of `pipeline.elf.hardening` for each program and DSO, ``abi.tunables``
those of `pipeline.elf.tunables` for the loader, in the order of their numbers, and ``abi.aliases`` the names
of each datum that has several. Blocks of equal lines are written once, under all the names they are for::

    [gconv/BIG5.so]
    [gconv/BRF.so]
    type DYN
    needed libc.so.6
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from pipeline import elf
from pipeline.abi.files import ElfFile
from pipeline.abi.listing import PRIVATE, listing_of
from pipeline.abi.scopes import Scopes, unresolved
from pipeline.core.arch import ARCHES
from pipeline.core.errors import MalformedInput
from pipeline.elf import tunables, versions
from pipeline.elf.hardening import traits as file_traits
from pipeline.elf.lookup import STB_GNU_UNIQUE
from pipeline.elf.versions import BASE, LOCAL, UNVERSIONED, VER_FLG_WEAK

#: The one line of a DSO that has nothing else to say: a block is never empty.
PLAIN = "plain"
#: How the line of a private symbol begins.
PRIVATE_LINE = "private "
DETAILS, HARDENING, TUNABLES, ALIASES = "abi.details", "elf.hardening", "abi.tunables", "abi.aliases"
FILES = (DETAILS, HARDENING, TUNABLES, ALIASES)
PT_TLS = 7
VER_FLG_INFO = 4
_HEAD = re.compile(r"\[([^\[\]]+)\]")
_BINDINGS = {elf.STB_WEAK: "weak", STB_GNU_UNIQUE: "unique", elf.STB_GLOBAL: ""}
_TYPES = {elf.STT_NOTYPE: "notype", elf.STT_COMMON: "common", elf.STT_GNU_IFUNC: "ifunc", elf.STT_OBJECT: "",
          elf.STT_FUNC: "", elf.STT_TLS: ""}  # fmt: skip

#: name of a DSO or file -> its lines
Blocks = Mapping[str, tuple[str, ...]]


def details(files: Mapping[str, ElfFile]) -> dict[str, tuple[str, ...]]:
    """Blocks of all DSOs of a release by stable name. Raises `MalformedInput`."""
    return _by_name(
        (file, tuple(_details(file)) or (PLAIN,)) for file in files.values() if file.binary.is_shared_object
    )


def hardening(files: Mapping[str, ElfFile]) -> dict[str, tuple[str, ...]]:
    """Blocks of all ELF files of a release by stable name. Raises `MalformedInput`."""
    scopes = Scopes.of(files)
    return _by_name((f, file_traits(f.binary, unresolved(f, scopes))) for f in files.values())


def _by_name(found: Iterable[tuple[ElfFile, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """Blocks by name, sorted. A second file of a name that is not the same is listed by its path."""
    blocks: dict[str, tuple[str, ...]] = {}
    for file, lines in found:
        if blocks.setdefault(file.name, lines) != lines:
            blocks[file.path] = lines
    return dict(sorted(blocks.items()))


def of_files(files: Mapping[str, ElfFile]) -> dict[str, Blocks]:
    """All kinds of blocks, by the name of the baseline's file."""
    found: dict[str, Blocks] = {DETAILS: details(files), HARDENING: hardening(files)}
    more = {TUNABLES: tunables_of(files), ALIASES: aliases(files)}
    return found | {name: blocks for name, blocks in more.items() if blocks}


def aliases(files: Mapping[str, ElfFile]) -> dict[str, tuple[str, ...]]:
    """Blocks of the DSOs that have data under several names: a line for each such object, its names in it.

    Functions are left out: which of them are one piece of code is the implementation's choice.
    """
    return _by_name(
        (file, lines) for file in files.values() if file.binary.is_shared_object and (lines := _aliases(file))
    )


def _aliases(file: ElfFile) -> tuple[str, ...]:
    names: dict[int, list[str]] = {}
    for symbol in file.binary.defined:
        public = symbol.binding != elf.STB_LOCAL and symbol.version != PRIVATE
        if public and symbol.type == elf.STT_OBJECT and symbol.section != elf.SHN_ABS:
            names.setdefault(symbol.value, []).append(f"{symbol.name}@{symbol.version}")
    return tuple(sorted(" ".join(sorted(same)) for same in names.values() if len(same) > 1))


def versions_of_code(files: Mapping[str, ElfFile]) -> dict[tuple[str, str], frozenset[frozenset[str]]]:
    """DSO and name of each function that has several versions -> those versions, by which are one code.

    An old version that means the code of a newer one breaks programs that were linked with it, and no listing
    shows it.
    """
    found: dict[tuple[str, str], dict[int, set[str]]] = {}
    for file in files.values():
        for symbol in file.binary.defined if file.binary.is_shared_object else ():
            if symbol.type in (elf.STT_FUNC, elf.STT_GNU_IFUNC) and symbol.version != PRIVATE:
                same = found.setdefault((file.name, symbol.name), {})
                same.setdefault(symbol.value, set()).add(symbol.version)
    return {
        key: frozenset(map(frozenset, same.values()))
        for key, same in found.items()
        if sum(map(len, same.values())) > 1
    }


def tunables_of(files: Mapping[str, ElfFile]) -> dict[str, tuple[str, ...]]:
    """The block of the loader's tunables; none if its table is of a form that is not known."""
    loaders = {a.loader for a in ARCHES.values()}
    found: dict[str, tuple[str, ...]] = {}
    for file in files.values():
        if file.name in loaders:
            with suppress(MalformedInput):
                table = tunables.tunables(bytes(file.binary.data), file.path)
                found[file.name] = tuple(tunable.line for tunable in table.values())
    return found


def _details(file: ElfFile) -> Iterator[str]:
    for segment in file.binary.segments:
        if segment.type == PT_TLS:
            yield f"tls {segment.memsz:#x} align {segment.align:#x}"
    nodes = []
    for definition in file.lookup.definitions:
        if definition.base and definition.name == file.binary.soname:
            continue  # the soname is part of the listing
        flags = [
            word
            for bit, word in ((versions.VER_FLG_BASE, "base"), (VER_FLG_WEAK, "weak"), (VER_FLG_INFO, "info"))
            if definition.flags & bit
        ]
        rest = definition.flags & ~(versions.VER_FLG_BASE | VER_FLG_WEAK | VER_FLG_INFO)
        words = [definition.name, *flags, *([f"{rest:#x}"] if rest else [])]
        nodes.append(f"node {' '.join(words)} < {' '.join(definition.parents) or 'nothing'}")
    yield from sorted(nodes)
    yield from sorted(_symbols(file))
    private = listing_of(file.binary, file.name).private
    yield from sorted(f"{PRIVATE_LINE}{str(entry).removeprefix(PRIVATE + ' ')}" for entry in private)


def private(blocks: Blocks) -> dict[str, tuple[str, ...]]:
    """The private symbols alone."""
    return {name: tuple(x for x in lines if x.startswith(PRIVATE_LINE)) for name, lines in blocks.items()}


def public(blocks: Blocks) -> dict[str, tuple[str, ...]]:
    """All but the private symbols."""
    return {name: tuple(x for x in lines if not x.startswith(PRIVATE_LINE)) for name, lines in blocks.items()}


def _symbols(file: ElfFile) -> Iterator[str]:
    for index, symbol in enumerate(file.binary.all_symbols, 1):
        if symbol.section == elf.SHN_UNDEF or symbol.binding == elf.STB_LOCAL or symbol.version == PRIVATE:
            continue
        if symbol.visibility in (elf.STV_HIDDEN, elf.STV_INTERNAL):
            continue
        other = file.lookup.symbol(index).other
        words = [
            "hidden" if symbol.hidden and symbol.version not in (UNVERSIONED, BASE, LOCAL) else "",
            _BINDINGS.get(symbol.binding, f"binding-{symbol.binding}"),
            _TYPES.get(symbol.type, f"type-{symbol.type}"),
            "protected" if symbol.visibility == elf.STV_PROTECTED else "",
            f"other-{other & ~3:#x}" if other & ~3 else "",
        ]
        if any(words):
            yield f"{symbol.version} {symbol.name} {' '.join(word for word in words if word)}"


# -- as files -------------------------------------------------------------------------------------------


def render(blocks: Blocks) -> str:
    """Blocks as a file: equal ones together, in the order of their first names."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, lines in sorted(blocks.items()):
        groups.setdefault(lines, []).append(name)
    return "".join(
        "".join(f"[{name}]\n" for name in names) + "".join(f"{line}\n" for line in lines)
        for lines, names in groups.items()
    )


def parse(text: str) -> dict[str, tuple[str, ...]]:
    """The blocks of a file. Raises ValueError saying which line is wrong."""
    if text and not text.endswith("\n"):
        raise ValueError("the last line has no end")
    blocks: dict[str, list[str]] = {}
    names: list[str] = []
    fresh = True
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if line.startswith("["):
            match = _HEAD.fullmatch(line)
            if match is None or match[1] in blocks:
                raise ValueError(f"line {number}: expected '[NAME]', each once, not {line!r}")
            names = [match[1]] if fresh else [*names, match[1]]
            blocks[match[1]] = []
            fresh = False
        elif not names or not line.strip():
            raise ValueError(f"line {number}: expected '[NAME]' or a trait, not {line!r}")
        else:
            for name in names:
                blocks[name].append(line)
            fresh = True
    return {name: tuple(lines) for name, lines in sorted(blocks.items())}


def difference(before: Blocks, after: Blocks) -> list[str]:
    """What one release's blocks have and the other's have not: ``- NAME: LINE`` and ``+ NAME: LINE``."""
    found = [f"- {name}: the whole file" for name in sorted(before.keys() - after.keys())]
    found += [f"+ {name}: the whole file" for name in sorted(after.keys() - before.keys())]
    for name in sorted(before.keys() & after.keys()):
        found += [f"- {name}: {line}" for line in before[name] if line not in after[name]]
        found += [f"+ {name}: {line}" for line in after[name] if line not in before[name]]
        if before[name] != after[name] and set(before[name]) == set(after[name]):
            found.append(f"+ {name}: the same lines in another order or number")
    return found
