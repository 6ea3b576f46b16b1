"""The table of tunables in a loader or in libc.a: their numbers, and all that is said of each.

ld.so and libc.so.6 name a tunable by its place in this table (``__tunable_get_val``), so its order belongs to
what the two must agree on while an update runs. The names stand in it as they are, at equal distances. A row
is glibc's ``struct _tunable`` (elf/dl-tunable-types.h): the name, type and bounds, the value it begins with,
whether it was set, what an AT_SECURE program does with it, its older variable. From 2.39 on the value stands
there twice, in 16 bytes each, and no AT_SECURE program hears any.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from pipeline.core.errors import MalformedInput

_NAME = re.compile(rb"glibc\.[a-z0-9_]+\.[a-z0-9_]+\0")
_REMEDY = "build the release again"
#: type, minimum, maximum, value, set, security level; what follows up to the row's end is the older variable.
_FIELDS = struct.Struct("<I4xQQQB3xI")
#: type, minimum, maximum, default, value, set of 2.39 and later; then the older variable.
_LATER = struct.Struct("<I4xQQQ8xQ8xB")
_TYPES = ("INT_32", "UINT_64", "SIZE_T", "STRING")
_LEVELS = ("SXID_ERASE", "SXID_IGNORE", "NONE")
_ALIAS = re.compile(rb"([A-Z0-9_]*)\0*")


class Tunable(NamedTuple):
    """What a row says. ``security``: whether an AT_SECURE program takes the setting out of its environment
    (SXID_ERASE), leaves it there unheard (SXID_IGNORE), or hears it (NONE). ``alias``: the older variable."""

    name: str
    type: str
    minimum: int
    maximum: int
    default: int
    security: str
    alias: str

    @property
    def line(self) -> str:
        """``glibc.malloc.check INT_32 0 to 3 default 0 SXID_ERASE MALLOC_CHECK_``."""
        bounds = f"{self.minimum} to {self.maximum}"
        alias = f" {self.alias}" if self.alias else ""
        return f"{self.name} {self.type} {bounds} default {self.default} {self.security}{alias}"


def rows(data: bytes, where: str) -> dict[str, bytes]:
    """Name -> its row of the table, in its order. Raises `MalformedInput` if there is no such table."""
    found = [(m.start(), m[0][:-1].decode()) for m in _NAME.finditer(data)]
    none = MalformedInput(f"{where}: no table of tunables is in it", hint=_REMEDY)
    if len(found) < 2:
        raise none
    distances = [b - a for (a, _), (b, _) in pairwise(found)]
    width = max(distances, key=distances.count)
    table: dict[str, bytes] = {}
    for (at, name), distance in zip(found, [*distances, width], strict=True):
        if name in table:
            break
        if table or distance == width:
            table[name] = data[at : at + width]
        if table and distance != width:
            break
    if len(table) < 2:
        raise none
    return table


def tunables(data: bytes, where: str) -> dict[str, Tunable]:
    """Name -> what it says, in the table's order. Raises `MalformedInput`, also for rows of another form."""
    table = rows(data, where)
    at = (max(map(len, table)) + 1 + 7) // 8 * 8
    wrong = ""
    for fields in (_fields, _later_fields):
        found = {name: fields(row, at) for name, row in table.items()}
        made = {
            name: Tunable(name, *said) for name, said in found.items()
            if said and not table[name][len(name) : at].strip(b"\0")
        }  # fmt: skip
        if len(made) == len(table):
            return made
        wrong = wrong or next(name for name in table if name not in made)
    raise MalformedInput(
        f"{where}: the row of {wrong} is not as glibc has it: {table[wrong].hex()}", hint=_REMEDY
    )


_Said = tuple[str, int, int, int, str, str]


def _fields(row: bytes, at: int) -> _Said | None:
    """What a row of 2.34 to 2.38 says, of which the fields begin at ``at``; None if it is no such row."""
    if len(row) < at + _FIELDS.size:
        return None
    kind, low, high, value, is_set, level = _FIELDS.unpack_from(row, at)
    alias = _ALIAS.fullmatch(row, at + _FIELDS.size)
    if kind >= len(_TYPES) or level >= len(_LEVELS) or is_set or alias is None:
        return None
    return _TYPES[kind], low, high, value, _LEVELS[level], alias[1].decode()


def _later_fields(row: bytes, at: int) -> _Said | None:
    """As `_fields`, of a row of 2.39 or later."""
    if len(row) < at + _LATER.size:
        return None
    kind, low, high, default, value, is_set = _LATER.unpack_from(row, at)
    alias = _ALIAS.fullmatch(row, at + _LATER.size)
    if kind >= len(_TYPES) or default != value or is_set or alias is None:
        return None
    return _TYPES[kind], low, high, default, _LEVELS[0], alias[1].decode()


def difference(expected: Mapping[str, Tunable], found: Mapping[str, Tunable]) -> list[str]:
    """What ``found`` has otherwise: of tunables that both have, those that one lacks, and the numbers."""
    faults = [f"- {name}" for name in expected if name not in found]
    faults += [f"+ {name}" for name in found if name not in expected]
    if not faults and list(expected) != list(found):
        moved = next(a for a, b in zip(found, expected, strict=True) if a != b)
        faults.append(f"numbers differ, from {moved} on")
    return sorted(faults + altered(expected, found))


def altered(expected: Mapping[str, Tunable], found: Mapping[str, Tunable]) -> list[str]:
    """What is said otherwise of tunables that both have, a line each: ``NAME: default is 1, not 0``."""
    return [
        f"{name}: {field} is {is_ or 'none'}, not {was or 'none'}"
        if isinstance(was, str)
        else f"{name}: {field} is {is_}, not {was}"
        for name in sorted(expected.keys() & found.keys())
        for field, was, is_ in zip(Tunable._fields, expected[name], found[name], strict=True)
        if was != is_
    ]
