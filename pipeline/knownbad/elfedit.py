"""Named edits of an ELF file's bytes: each makes one thing wrong and leaves the rest as it was linked.

Positions are found with pyelftools, so that no edit knows a file's layout. Constants are those of ``elf.h``.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection
from elftools.elf.hash import GNUHashSection
from elftools.elf.sections import Section, SymbolTableSection

from pipeline.core.errors import UsageError

TYPES = {"NOTYPE": 0, "OBJECT": 1, "FUNC": 2, "TLS": 6, "IFUNC": 10}
BINDINGS = {"LOCAL": 0, "GLOBAL": 1, "WEAK": 2}
VISIBILITIES = {"DEFAULT": 0, "INTERNAL": 1, "HIDDEN": 2, "PROTECTED": 3}
SEGMENTS = {"NULL": 0, "LOAD": 1, "DYNAMIC": 2, "NOTE": 4, "GNU_PROPERTY": 0x6474E553,
            "GNU_EH_FRAME": 0x6474E550, "GNU_STACK": 0x6474E551, "GNU_RELRO": 0x6474E552}  # fmt: skip
TAGS = {"NULL": 0, "NEEDED": 1, "PLTRELSZ": 2, "HASH": 4, "SONAME": 14, "RPATH": 15, "SYMBOLIC": 16,
        "DEBUG": 21, "TEXTREL": 22, "BIND_NOW": 24, "INIT_ARRAYSZ": 27, "RUNPATH": 29, "FLAGS": 30,
        "GNU_HASH": 0x6FFFFEF5, "FLAGS_1": 0x6FFFFFFB, "VERSYM": 0x6FFFFFF0,
        "AUXILIARY": 0x7FFFFFFD}  # fmt: skip
SECTIONS = {"NULL": 0, "PROGBITS": 1, "SYMTAB": 2}
#: bytes of a symbol, a dynamic entry, a program header, a version definition and one of its names
SYM, DYN, PHDR, VERDEF = 24, 16, 56, 20


class ElfEdit:
    """One 64-bit little-endian ELF file to be changed. Methods raise `UsageError` for what is not in it."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = bytearray(data)
        self.name = name
        self.elf = ELFFile(io.BytesIO(data))

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"{self.name} has no {what}", hint="correct the entry")

    def _section(self, kind: type[Section] | str) -> Any:
        for section in self.elf.iter_sections():
            if section.name == kind if isinstance(kind, str) else type(section) is kind:
                return section
        raise self._wrong(kind if isinstance(kind, str) else kind.__name__)

    def _pack(self, form: str, at: int, *values: int) -> None:
        struct.pack_into("<" + form, self.data, at, *values)

    def _symbol(self, name: str, section: str = ".dynsym") -> tuple[int, int, Any]:
        """Number, file offset and entry of a defined symbol."""
        table = self._section(section)
        assert isinstance(table, SymbolTableSection)
        for number, symbol in enumerate(table.iter_symbols()):
            if symbol.name == name and symbol["st_shndx"] != "SHN_UNDEF":
                return number, table["sh_offset"] + SYM * number, symbol
        raise self._wrong(f"dynamic symbol {name}")

    def _file_offset(self, address: int) -> int:
        for segment in self.elf.iter_segments("PT_LOAD"):
            if segment["p_vaddr"] <= address < segment["p_vaddr"] + segment["p_filesz"]:
                return int(address - segment["p_vaddr"] + segment["p_offset"])
        raise self._wrong(f"bytes of address {address:#x} in the file")

    # -- symbols

    def symbol_size(self, symbol: str, size: int) -> None:
        self._pack("Q", self._symbol(symbol)[1] + 16, size)

    def symbol_type(self, symbol: str, to: str) -> None:
        at = self._symbol(symbol)[1] + 4
        self._pack("B", at, self.data[at] & 0xF0 | TYPES[to])

    def symbol_binding(self, symbol: str, to: str, section: str = ".dynsym") -> None:
        at = self._symbol(symbol, section)[1] + 4
        self._pack("B", at, self.data[at] & 0x0F | BINDINGS[to] << 4)

    def symbol_visibility(self, symbol: str, to: str) -> None:
        self._pack("B", self._symbol(symbol)[1] + 5, VISIBILITIES[to])

    def symbol_value(self, symbol: str, add: int) -> None:
        _, at, entry = self._symbol(symbol)
        self._pack("Q", at + 8, entry["st_value"] + add)

    def version_code(self, symbol: str, version: str, other: str) -> None:
        """One version of a symbol means the code of another one."""
        numbers = {self._node(v)[1]: v for v in (version, other)}
        table, versions = self._section(".dynsym"), self._section(".gnu.version")
        at = {}
        for number, found in enumerate(table.iter_symbols()):
            (index,) = struct.unpack_from("<H", self.data, versions["sh_offset"] + 2 * number)
            if found.name == symbol and index & 0x7FFF in numbers:
                at[numbers[index & 0x7FFF]] = table["sh_offset"] + SYM * number + 8
        if len(at) != 2:
            raise self._wrong(f"{symbol} of {version} and of {other}")
        self.data[at[version] : at[version] + 8] = self.data[at[other] : at[other] + 8]

    def symbol_rename(self, symbol: str, to: str) -> None:
        """Give a symbol another name of the same length; the hash tables do not follow."""
        if len(to) != len(symbol):
            raise UsageError(f"{to} is not as long as {symbol}", hint="correct the entry")
        _, at, _ = self._symbol(symbol)
        (name,) = struct.unpack_from("<I", self.data, at)
        start = self._section(".dynstr")["sh_offset"] + name
        self.data[start : start + len(to)] = to.encode()

    def symbol_version(self, symbol: str, to: str = "", *, hidden: bool | None = None) -> None:
        """Move a symbol to another of the file's nodes, or make it ``@`` (hidden) instead of ``@@``."""
        number, _, _ = self._symbol(symbol)
        at = self._section(".gnu.version")["sh_offset"] + 2 * number
        (index,) = struct.unpack_from("<H", self.data, at)
        if to:
            index = index & 0x8000 | self._node(to)[1]
        if hidden is not None:
            index = index & 0x7FFF | (0x8000 if hidden else 0)
        self._pack("H", at, index)

    def data_at(self, symbol: str, hex: str) -> None:
        """Other bytes where a symbol is."""
        _, _, entry = self._symbol(symbol)
        raw = bytes.fromhex(hex)
        at = self._file_offset(entry["st_value"])
        self.data[at : at + len(raw)] = raw

    # -- hash tables

    def gnu_hash_entry(self, symbol: str) -> None:
        """Change a symbol's value in the GNU hash chain: it is in the table, and no lookup finds it."""
        number, _, _ = self._symbol(symbol)
        table = self._section(GNUHashSection)
        head = table.params
        chains = table["sh_offset"] + 16 + 8 * head["bloom_size"] + 4 * head["nbuckets"]
        at = chains + 4 * (number - head["symoffset"])
        (value,) = struct.unpack_from("<I", self.data, at)
        self._pack("I", at, value ^ 0x00010000)

    def bloom_filter(self) -> None:
        """Clear the filter that a lookup asks first."""
        table = self._section(GNUHashSection)
        for word in range(table.params["bloom_size"]):
            self._pack("Q", table["sh_offset"] + 16 + 8 * word, 0)

    # -- version nodes

    def _node(self, name: str) -> tuple[int, int]:
        """File offset and index of a version definition."""
        section = self._section(GNUVerDefSection)
        at = section["sh_offset"]
        for definition, names in section.iter_versions():
            if next(iter(names)).name == name:
                return at, definition["vd_ndx"]
            at += definition["vd_next"]
        raise self._wrong(f"version node {name}")

    def node_flags(self, node: str, flags: int) -> None:
        self._pack("H", self._node(node)[0] + 2, flags)

    def node_hash(self, node: str) -> None:
        at = self._node(node)[0] + 8
        (value,) = struct.unpack_from("<I", self.data, at)
        self._pack("I", at, value ^ 1)

    def node_orphan(self, node: str) -> None:
        """Take a node's parent away."""
        at = self._node(node)[0]
        (aux,) = struct.unpack_from("<I", self.data, at + 12)
        self._pack("H", at + 6, 1)
        self._pack("I", at + aux + 4, 0)

    def _need(self, library: str, node: str) -> int:
        """File offset of what is needed of a library."""
        section = self._section(GNUVerNeedSection)
        at = section["sh_offset"]
        for need, wanted in section.iter_versions():
            aux = at + need["vn_aux"]
            for one in wanted:
                if need.name == library and one.name == node:
                    return int(aux)
                aux += one["vna_next"]
            at += need["vn_next"]
        raise self._wrong(f"need of {node} in {library}")

    def need_hash(self, library: str, node: str) -> None:
        at = self._need(library, node)
        (value,) = struct.unpack_from("<I", self.data, at)
        self._pack("I", at, value ^ 1)

    def need_weak(self, library: str, node: str) -> None:
        self._pack("H", self._need(library, node) + 4, 2)

    # -- segments, the dynamic section, notes

    def _segment(self, kind: str, number: int = 0) -> tuple[int, Any]:
        found = [(n, s) for n, s in enumerate(self.elf.iter_segments()) if s["p_type"] == f"PT_{kind}"]
        if len(found) <= number:
            raise self._wrong(f"segment PT_{kind}")
        n, segment = found[number]
        return self.elf["e_phoff"] + PHDR * n, segment

    def segment_flags(self, segment: str, flags: int, number: int = 0) -> None:
        self._pack("I", self._segment(segment, number)[0] + 4, flags)

    def segment_type(self, segment: str, to: str) -> None:
        self._pack("I", self._segment(segment)[0], SEGMENTS[to])

    def segment_memory(self, segment: str, size: int) -> None:
        """Another size in memory and in the file."""
        at, _ = self._segment(segment)
        self._pack("QQ", at + 32, size, size)

    def segment_align(self, segment: str, align: int, number: int = 0) -> None:
        self._pack("Q", self._segment(segment, number)[0] + 48, align)

    def segment_offset(self, segment: str, add: int) -> None:
        """The file's copy lies elsewhere than what is mapped at the segment's address."""
        at, entry = self._segment(segment)
        self._pack("Q", at + 8, entry["p_offset"] + add)

    def _dynamic(self, tag: str) -> tuple[int, int]:
        """File offset and value of the first entry of a tag."""
        section = self._section(DynamicSection)
        for number in range(section.num_tags()):
            at = section["sh_offset"] + DYN * number
            found, value = struct.unpack_from("<qQ", self.data, at)
            if found == TAGS[tag]:
                return at, value
        raise self._wrong(f"DT_{tag}")

    def dynamic_value(self, tag: str, *, clear: int = 0, set: int = 0, add: int = 0) -> None:
        at, value = self._dynamic(tag)
        self._pack("Q", at + 8, (value & ~clear | set) + add)

    def dynamic_tag(self, tag: str, to: str) -> None:
        """Turn an entry into one of another kind."""
        self._pack("q", self._dynamic(tag)[0], TAGS[to])

    def dynamic_add(self, tag: str, value: int = 0, string: str = "") -> None:
        """Fill the first spare entry at the end; ``string``: its offset in .dynstr, where it must be."""
        at, _ = self._dynamic("NULL")
        section = self._section(DynamicSection)
        if at + 2 * DYN > section["sh_offset"] + section["sh_size"]:
            raise self._wrong("spare dynamic entry")
        if string:
            value = self._section(".dynstr").data().find(string.encode() + b"\0")
            if value < 0:
                raise self._wrong(f"string {string}")
        self._pack("qQ", at, TAGS[tag], value)

    def string(self, old: str, new: str, section: str = ".dynstr") -> None:
        """Another string of the same length or shorter in a section, at its only place."""
        raw = self._section(section)
        whole = raw.data()
        if whole.count(b"\0" + old.encode() + b"\0") + whole.startswith(old.encode() + b"\0") != 1:
            raise self._wrong(f"only one string {old}")
        at = raw["sh_offset"] + whole.find(old.encode() + b"\0")
        self.data[at : at + len(old)] = new.encode().ljust(len(old), b"\0")

    def bytes_in(self, section: str, find: str, put: str, count: int = 1) -> None:
        """Replace hexadecimal ``find`` by ``put`` of the same length; it must be there ``count`` times."""
        raw = self._section(section)
        old, new = bytes.fromhex(find), bytes.fromhex(put)
        if raw.data().count(old) != count or len(old) != len(new):
            raise self._wrong(f"{count} times {find} in {section} (there: {raw.data().count(old)})")
        start, end = raw["sh_offset"], raw["sh_offset"] + raw["sh_size"]
        self.data[start:end] = bytes(self.data[start:end]).replace(old, new)

    def abi_tag(self, major: int, minor: int) -> None:
        """Another minimum kernel in .note.ABI-tag (name GNU, type 1: os, major, minor, patch)."""
        at = self._section(".note.ABI-tag")["sh_offset"] + 12 + 4 + 4
        self._pack("II", at, major, minor)

    def code_at_entry(self, hex: str) -> None:
        """Other code where the file begins to run."""
        raw = bytes.fromhex(hex)
        at = self._file_offset(self.elf["e_entry"])
        self.data[at : at + len(raw)] = raw

    def header_flags(self, flags: int) -> None:
        """e_flags of the file."""
        self._pack("I", 48, flags)

    def section_type(self, section: str, to: str) -> None:
        """Another type in a section's header; its bytes stay."""
        for number, found in enumerate(self.elf.iter_sections()):
            if found.name == section:
                self._pack("I", self.elf["e_shoff"] + self.elf["e_shentsize"] * number + 4, SECTIONS[to])
                return
        raise self._wrong(section)

    def build_id(self) -> None:
        """Another build id (the last of a note's twenty bytes)."""
        section = self._section(".note.gnu.build-id")
        self.data[section["sh_offset"] + section["sh_size"] - 1] ^= 1

    def nothing(self) -> None:
        """Change nothing: an entry that must stay green."""


#: What an entry may name: every public method, by its name with dashes.
EDITS: dict[str, Callable[..., None]] = {
    name.replace("_", "-"): method
    for name, method in vars(ElfEdit).items()
    if callable(method) and not name.startswith("_")
}
