"""Which functions of a file use a symbol that it imports: the places in its code that lead to the symbol.

A relocation names the word that ld.so fills in for the symbol (its GOT slot, or the program's copy of a
datum). Code refers to that word relative to the program counter, or calls a stub (PLT) that does. Every such
place is looked up in the symbol table, ``.symtab`` or the exported functions. In a stripped file that is
unknown, and is said so. Instructions are not decoded in order: bytes that only look like a reference would
have to hit the word's very address by chance.
"""

from __future__ import annotations

import bisect
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.core.errors import MalformedInput
from pipeline.elf import STT_FUNC, STT_GNU_IFUNC, Elf
from pipeline.elf.image import (
    DT_JMPREL,
    DT_PLTRELSZ,
    DT_RELA,
    DT_RELASZ,
    DT_SYMTAB,
    PT_LOAD,
    text,
)

#: (name, version)
Wanted = tuple[str, str]
_PF_X, _SHT_SYMTAB = 1, 2
_RELA = struct.Struct("<QQq")
_SYM = struct.Struct("<IBBHQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_INT = struct.Struct("<i")
_WORD = struct.Struct("<I")
#: Relocations that store a symbol's address in data: R_X86_64_64, R_AARCH64_ABS64.
_STORED = {62: 1, 183: 257}
_X86_64, _AARCH64 = 62, 183
#: call, jmp and jcc; then loads, stores, arithmetic, calls and jumps through memory relative to the code.
_X86_REFERENCE = re.compile(
    rb"(?=([\xe8\xe9]|\x0f[\x80-\x8f]"
    rb"|(?:[\x00-\x3b\x63\x80-\x8d\xc6\xc7\xf6\xf7\xff]|\x0f[\x10-\x7f\xb0-\xbf])[\x05\x0d\x15\x1d\x25\x2d\x35\x3d])"
    rb"(.{4}))",
    re.DOTALL,
)
#: Bytes of an immediate operand behind the reference, by the first byte of the instruction.
_X86_IMMEDIATE = {0x80: 1, 0x83: 1, 0xC6: 1, 0xF6: 1, 0x81: 4, 0xC7: 4, 0xF7: 4}
#: What may stand before the jump of a stub: nothing, bnd, endbr64, both.
_X86_STUB = (0, 1, 4, 5)
#: What may stand before the adrp of a stub: nothing, bti c.
_ARM_STUB = (0, 4)
#: Instructions between an adrp and the use of its page; compilers put few there.
_NEAR = 24
IN_DATA = "(its address is stored in data)"


@dataclass(frozen=True)
class Function:
    """A function of the file: its first address, and the one behind it."""

    start: int
    end: int
    name: str


def users_of(binary: Elf, wanted: Iterable[Wanted]) -> dict[Wanted, tuple[str, ...]]:
    """(name, version) -> the functions that use it, in order of address; without an entry: unknown.

    Raises `MalformedInput` for tables that cannot be read.
    """
    functions = _functions(binary)
    words = _words(binary, frozenset(wanted))
    if binary.machine not in _STORED or not functions or not words:
        return {}
    found: dict[Wanted, list[int]] = {}
    stubs: dict[int, Wanted] = {}
    targets = {address: of for address, (of, _) in words.items()}
    references = _x86_references if binary.machine == _X86_64 else _arm_references
    before = _X86_STUB if binary.machine == _X86_64 else _ARM_STUB
    for site, of in references(binary, targets):
        if _holding(functions, site) is None:
            stubs.update({site - n: of for n in before})
        else:
            found.setdefault(of, []).append(site)
    for site, of in references(binary, stubs) if stubs else ():
        found.setdefault(of, []).append(site)
    answer: dict[Wanted, tuple[str, ...]] = {}
    stored = {of for of, kind in words.values() if kind == _STORED[binary.machine]}
    for of in {*found, *stored}:
        holding = [_holding(functions, site) for site in sorted(found.get(of, []))]
        names = list(dict.fromkeys(f.name for f in holding if f))
        if names or of in stored:
            answer[of] = (*names, *([IN_DATA] if of in stored else []))
    return answer


def _words(binary: Elf, wanted: frozenset[Wanted]) -> dict[int, tuple[Wanted, int]]:
    """Address of each word that a relocation fills with a wanted symbol -> the symbol, relocation's type."""
    table = binary.window(binary.tags[DT_SYMTAB], "the dynamic symbol table")[0] if binary.dynamic else 0
    names = {i.name: i.version for i in binary.imports if (i.name, i.version) in wanted}
    found: dict[int, tuple[Wanted, int]] = {}
    for address, size in ((DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)):
        length = binary.tags.get(size, 0) // _RELA.size * _RELA.size
        if address not in binary.tags or not length or not names:
            continue
        for at, info, _ in _RELA.iter_unpack(binary.memory(binary.tags[address], length, "the relocations")):
            if info >> 32:
                name = binary.string(_SYM.unpack_from(binary.data, table + _SYM.size * (info >> 32))[0])
                if name in names:
                    found[at] = ((name, names[name]), info & 0xFFFFFFFF)
    return found


def _functions(binary: Elf) -> list[Function]:
    """Functions with a size, by address: of ``.symtab`` if it is there, and those that are exported."""
    found = {(s.value, s.size): s.name for s in binary.defined if s.type in (STT_FUNC, STT_GNU_IFUNC)}
    for name, value, size in _symtab(binary):
        found[value, size] = name
    functions = [Function(start, start + size, name) for (start, size), name in found.items() if size]
    return sorted(functions, key=lambda f: (f.start, -f.end))


def _symtab(binary: Elf) -> Iterator[tuple[str, int, int]]:
    """(name, address, size) of the functions in ``.symtab``, none without section headers."""
    start, width, count = binary.section_table
    data, end = binary.data, len(binary.data)
    if width != _SHDR.size or not start or start + count * width > end:
        return
    sections = list(_SHDR.iter_unpack(data[start : start + count * width]))
    for section in sections:
        kind, offset, size, link = section[1], section[4], section[5], section[6]
        if kind != _SHT_SYMTAB or offset + size > end or link >= count:
            continue
        strings = data[sections[link][4] : sections[link][4] + sections[link][5]]
        for name, info, _, index, value, length in _SYM.iter_unpack(
            data[offset : offset + size // _SYM.size * _SYM.size]
        ):
            if info & 15 in (STT_FUNC, STT_GNU_IFUNC) and index and length:
                yield text(strings[name : strings.find(b"\0", name)]), value, length


def _holding(functions: list[Function], address: int) -> Function | None:
    at = bisect.bisect_right(functions, address, key=lambda f: f.start)
    while at:
        at -= 1
        if functions[at].start <= address < functions[at].end:
            return functions[at]
        if address - functions[at].start > 1 << 20:
            break
    return None


def _code(binary: Elf) -> Iterator[tuple[int, bytes]]:
    """Address and bytes of what is executable."""
    for s in binary.segments:
        if s.type == PT_LOAD and s.flags & _PF_X and s.filesz:
            if s.offset + s.filesz > len(binary.data):
                raise binary.malformed("a segment goes beyond the file")
            yield s.vaddr, binary.data[s.offset : s.offset + s.filesz]


def _x86_references(binary: Elf, targets: dict[int, Wanted]) -> Iterator[tuple[int, Wanted]]:
    for base, code in _code(binary):
        for match in _X86_REFERENCE.finditer(code):
            target = base + match.end(2) + _INT.unpack(match[2])[0]
            of = targets.get(target)
            if of is None and len(match[1]) == 2 and match[1][0] in _X86_IMMEDIATE:
                of = targets.get(target + _X86_IMMEDIATE[match[1][0]])
            if of is not None:
                yield base + match.start(1), of


def _arm_references(binary: Elf, targets: dict[int, Wanted]) -> Iterator[tuple[int, Wanted]]:
    """Pages (adrp) with a load or an addition soon after, and branches; the site of a page is its adrp."""
    for base, code in _code(binary):
        pages: dict[int, tuple[int, int]] = {}
        for number, (word,) in enumerate(_WORD.iter_unpack(code[: len(code) // 4 * 4])):
            at = base + 4 * number
            address = None
            site = at
            if word & 0x9F000000 == 0x90000000:  # adrp
                immediate = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
                page = (at & ~0xFFF) + ((immediate ^ 0x100000) - 0x100000 << 12)
                pages[word & 31] = (page, number)
                continue
            if word & 0x7C000000 == 0x14000000:  # b, bl
                address = at + ((word & 0x3FFFFFF ^ 0x2000000) - 0x2000000 << 2)
            elif word & 0xFF800000 == 0x91000000 or word & 0xFFC00000 == 0xF9400000:  # add, ldr of 8 bytes
                page, when = pages.get(word >> 5 & 31, (0, -_NEAR - 1))
                if number - when <= _NEAR:
                    scale = 3 if word & 0xFFC00000 == 0xF9400000 else 0
                    address, site = page + ((word >> 10 & 0xFFF) << scale), base + 4 * when
            of = targets.get(address) if address is not None else None
            if of is not None:
                yield site, of


def safely(binary: Elf, wanted: Iterable[Wanted]) -> dict[Wanted, tuple[str, ...]]:
    """`users_of`, and nothing for a file whose tables cannot be read: it is only an explanation."""
    try:
        return users_of(binary, wanted)
    except (MalformedInput, struct.error, IndexError):
        return {}
