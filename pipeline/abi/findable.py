"""What ld.so would not find of a file that its symbol table lists, or would find and should not.

It goes by hash tables and versions, and walks no symbol table. A symbol that the table has and the hash has
not, a version node with a wrong hash, a dynamic section that the loader finds elsewhere than other tools:
each leaves every listing as it was, and programs do not start. Nor does a listing tell of segments and tags
that say less than the sections, or of a function that no unwinder finds its way out of.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from pipeline import elf
from pipeline.abi.files import ElfFile
from pipeline.core.errors import MalformedInput
from pipeline.elf import Symbol, agreement, layout, unwind, versions
from pipeline.elf.image import DT_GNU_HASH, DT_VERDEFNUM, DT_VERNEEDNUM
from pipeline.elf.lookup import Lookup, elf_hash
from pipeline.elf.versions import BASE, LOCAL, UNVERSIONED

_STYLES = {DT_GNU_HASH: "the GNU hash table"}


def file_faults(file: ElfFile, counts: Counter[str]) -> Iterator[str]:
    """All faults of a file. A table that cannot be followed is one: it is the file that is judged."""
    for ask in (
        lambda: version_faults(file.lookup),
        lambda: layout.faults(file.binary, file.binary.symbol_count),
        lambda: agreement.faults(file.binary),
        lambda: unwind.faults(file.binary),
        lambda: symbol_faults(file.lookup, counts),
    ):
        try:
            yield from ask()
        except MalformedInput as e:
            yield e.message


def version_faults(lookup: Lookup) -> Iterator[str]:
    """What ld.so would not accept of the versions a file defines and needs (elf/dl-version.c)."""
    tags = lookup.binary.tags
    for what, number, found in (
        ("defined", DT_VERDEFNUM, len(lookup.definitions)),
        ("required", DT_VERNEEDNUM, len({r.file for r in lookup.requirements})),
    ):
        if tags.get(number, 0) != found:
            yield f"{tags.get(number, 0)} versions {what} by the tag, {found} along the links"
    names = Counter(d.name for d in lookup.definitions if not d.base)
    yield from (f"the node {name} is defined {count} times" for name, count in names.items() if count > 1)
    for definition in lookup.definitions:
        right = elf_hash(definition.name.encode())
        if definition.hash != right and not definition.base:  # the base version is never looked up
            yield f"vd_hash of {definition.name} is {definition.hash:#x}, not {right:#x}: nobody finds it"
        if definition.revision != 1:
            yield f"vd_version of {definition.name} is {definition.revision}, which ld.so refuses"
        if definition.number <= 1 and not definition.base:
            yield f"{definition.name} has the index {definition.number}, which stands for no version"
    indexes: dict[int, str] = {d.number: d.name for d in lookup.definitions}
    for need in lookup.requirements:
        if need.hash != (right := elf_hash(need.name.encode())):
            yield f"vna_hash of {need.name} of {need.file} is {need.hash:#x}, not {right:#x}: refused"
        if need.revision != 1:
            yield f"vn_version of {need.file} is {need.revision}, which ld.so refuses"
        bare = need.number & versions.MAX_VERSIONS
        if bare in indexes:
            yield f"{need.name} of {need.file} and {indexes[bare]} have the same version index {bare}"
        indexes[bare] = need.name


def symbol_faults(lookup: Lookup, counts: Counter[str]) -> Iterator[str]:
    """What the table lists and the hash tables do not give, or give otherwise; and the other way round."""
    listed = dict(exported(lookup.binary.all_symbols))
    counts["symbols"] += len(listed)
    if not lookup.styles:
        if listed:
            yield f"it has no hash table, and {len(listed)} symbols that nobody finds"
        return
    defaults: dict[str, list[int]] = defaultdict(list)
    for index, symbol in listed.items():
        if not symbol.hidden:
            defaults[symbol.name].append(index)
    for style in lookup.styles:
        table = _STYLES.get(style, "the hash table (DT_HASH)")
        for index, symbol in listed.items():
            counts["lookups"] += 1
            node = None if symbol.version in (UNVERSIONED, BASE, LOCAL) else symbol.version
            there = lookup.find(_raw(lookup, index), node, style=style)
            if there != index:
                yield f"{_full(symbol)}: {_instead(lookup, there)} in {table}"
        for name, candidates in defaults.items():
            there = lookup.find(_raw(lookup, candidates[0]), None, style=style)
            if there not in candidates or len(candidates) > 1:
                yield (
                    f"{name} without a version: {_instead(lookup, there)} in {table}, "
                    f"with {len(candidates)} default versions"
                )
        for index, raw in lookup.hashed(style).items():
            # undefined ones are there too, where a program's PLT entry stands for a function
            if index not in listed and lookup.symbol(index).section != elf.SHN_UNDEF:
                yield f"{table} holds {_text(raw)} (symbol {index}), which is not exported"


def exported(symbols: tuple[Symbol, ...]) -> Iterator[tuple[int, Symbol]]:
    """(index, symbol) of what others can bind to, by the rules of the listing."""
    for index, symbol in enumerate(symbols, 1):
        if symbol.section == elf.SHN_UNDEF or symbol.binding == elf.STB_LOCAL:
            continue
        if symbol.visibility in (elf.STV_HIDDEN, elf.STV_INTERNAL):
            continue
        yield index, symbol


def _raw(lookup: Lookup, index: int) -> bytes:
    return lookup.symbol(index).name


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _full(symbol: Symbol) -> str:
    if symbol.version in (UNVERSIONED, BASE, LOCAL):
        return symbol.name
    return f"{symbol.name}{'@' if symbol.hidden else '@@'}{symbol.version}"


def _instead(lookup: Lookup, index: int | None) -> str:
    if index is None:
        return "not found"
    symbol, (node, _) = lookup.symbol(index), lookup.version_of(index)
    return f"found as {_text(symbol.name)}{'@' if node else ''}{node} (symbol {index})"
