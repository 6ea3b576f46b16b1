"""The types in an object's debug information: names, layouts, and the headers they are from (DWARF).

Read with pyelftools. A type is written out in one line that holds everything two compilers must agree about:
size, alignment where it is asked for, each member's offset and type, enumerators with their values.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from pipeline.core.errors import MalformedInput
from pipeline.elf.damaged import DAMAGED

_KINDS = {
    "DW_TAG_structure_type": "struct",
    "DW_TAG_union_type": "union",
    "DW_TAG_enumeration_type": "enum",
    "DW_TAG_typedef": "typedef",
}
_QUALIFIERS = {
    "DW_TAG_const_type": "const",
    "DW_TAG_volatile_type": "volatile",
    "DW_TAG_restrict_type": "restrict",
    "DW_TAG_atomic_type": "_Atomic",
}
#: Anonymous types inside one another; more is no header of a C library.
MAX_DEPTH = 40


def types(file: Path, include: str) -> dict[str, str]:
    """Named types from headers below ``include``: ``sys/stat.h: struct stat`` -> its layout.

    ``include`` is the directory as the compiler saw it. Raises `MalformedInput` if there is no debug
    information that can be read.
    """
    try:
        with file.open("rb") as stream:
            elf = ELFFile(stream)
            if not elf.has_dwarf_info():
                raise MalformedInput(f"{file} has no debug information", hint="compile it with -g")
            dwarf = elf.get_dwarf_info()
            found: dict[str, str] = {}
            for unit in dwarf.iter_CUs():
                found |= _Unit(dwarf, unit, include.rstrip("/") + "/").types()
            return found
    except DAMAGED as e:
        raise MalformedInput(f"{file}: debug information cannot be read: {e!r}", hint="compile again") from e


class _Unit:
    def __init__(self, dwarf: Any, unit: Any, include: str) -> None:
        self.top = unit.get_top_DIE()
        self.include = include
        program = dwarf.line_program_for_CU(unit)
        directories = [_text(d) for d in program["include_directory"]]
        self.files = [self._path(directories, entry) for entry in program["file_entry"]]
        if program["version"] < 5:  # numbered from 1, and the compilation directory is not listed
            raise MalformedInput("debug information older than DWARF 5", hint="compile with -gdwarf-5")

    @staticmethod
    def _path(directories: list[str], entry: Any) -> str:
        directory = directories[entry.dir_index] if entry.dir_index < len(directories) else ""
        name = _text(entry.name)
        return name if name.startswith("/") else f"{directory}/{name}"

    def types(self) -> dict[str, str]:
        found = {}
        for die in self.top.iter_children():
            kind = _KINDS.get(die.tag)
            name = _name(die)
            header = self._header(die)
            if kind and name and header and "DW_AT_declaration" not in die.attributes:
                found[f"{header}: {kind} {name}"] = self._definition(die, 0)
        return found

    def _header(self, die: Any) -> str:
        """The header a type is declared in, "" if it is none of the release's."""
        attribute = die.attributes.get("DW_AT_decl_file")
        if attribute is None or attribute.value >= len(self.files):
            return ""
        path = self.files[attribute.value]
        return path.removeprefix(self.include) if path.startswith(self.include) else ""

    def _definition(self, die: Any, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise MalformedInput("types inside one another without an end", hint="compile again")
        if die.tag == "DW_TAG_typedef":
            return self._type(die, depth + 1)
        size = _number(die, "DW_AT_byte_size")
        asked = _number(die, "DW_AT_alignment")
        head = f"{size} bytes" + (f", aligned {asked}" if asked else "")
        if die.tag == "DW_TAG_enumeration_type":
            listed = [f"{_name(c)}={_number(c, 'DW_AT_const_value')}" for c in die.iter_children()]
            return f"{head} {{{', '.join(listed)}}}"
        return f"{head} {{{'; '.join(self._members(die, depth))}}}"

    def _members(self, die: Any, depth: int) -> Iterator[str]:
        for child in die.iter_children():
            if child.tag != "DW_TAG_member":
                continue
            bits = _number(child, "DW_AT_bit_size")
            at = f"bit {_number(child, 'DW_AT_data_bit_offset')}+{bits}" if bits else ""
            at = at or str(_number(child, "DW_AT_data_member_location"))
            asked = _number(child, "DW_AT_alignment")
            aligned = f" aligned {asked}" if asked else ""
            yield f"@{at} {self._type(child, depth + 1)} {_name(child)}{aligned}".rstrip()

    def _type(self, die: Any, depth: int) -> str:  # noqa: PLR0911 - one a kind of type
        """What ``die`` is of, as one writes it: ``const char *``, ``struct tm``, ``long [16]``."""
        if "DW_AT_type" not in die.attributes:
            return "void"
        of = die.get_DIE_from_attribute("DW_AT_type")
        if depth > MAX_DEPTH:
            raise MalformedInput("types inside one another without an end", hint="compile again")
        if of.tag in _QUALIFIERS:
            return f"{_QUALIFIERS[of.tag]} {self._type(of, depth + 1)}"
        if of.tag == "DW_TAG_pointer_type":
            return f"{self._type(of, depth + 1)} *"
        if of.tag == "DW_TAG_array_type":
            return f"{self._type(of, depth + 1)} {''.join(_bounds(of))}"
        if of.tag == "DW_TAG_subroutine_type":
            taken = [self._type(c, depth + 1) if "DW_AT_type" in c.attributes else "..."
                     for c in of.iter_children()]  # fmt: skip
            return f"{self._type(of, depth + 1)} ({', '.join(taken)})"
        name = _name(of)
        kind = _KINDS.get(of.tag, "")
        if kind == "typedef" or (not kind and name):
            return name
        return f"{kind} {name}" if name else f"{kind} {self._definition(of, depth + 1)}"


def _bounds(array: Any) -> Iterator[str]:
    for child in array.iter_children():
        if child.tag == "DW_TAG_subrange_type":
            attributes = child.attributes
            if "DW_AT_count" in attributes:
                yield f"[{attributes['DW_AT_count'].value}]"
            elif "DW_AT_upper_bound" in attributes:
                yield f"[{attributes['DW_AT_upper_bound'].value + 1}]"
            else:
                yield "[]"


def _name(die: Any) -> str:
    attribute = die.attributes.get("DW_AT_name")
    return _text(attribute.value) if attribute is not None else ""


def _number(die: Any, attribute: str) -> int:
    found = die.attributes.get(attribute)
    return int(found.value) if found is not None else 0


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
