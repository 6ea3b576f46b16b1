"""The table of tunables in a loader: their numbers, as libc.so.6 asks for them, and all that is said of each.

ld.so and libc.so.6 name a tunable by its place in this table (``__tunable_get_val``), so its order belongs to
what the two must agree on while an update runs. The names stand in it as they are, at equal distances.
"""

from __future__ import annotations

import re
from itertools import pairwise

from pipeline.elf import Elf

_NAME = re.compile(rb"glibc\.[a-z0-9_]+\.[a-z0-9_]+\0")


def table(loader: Elf) -> dict[str, bytes]:
    """Name -> its row of the table, in its order. Raises `MalformedInput` if there is no such table."""
    data = bytes(loader.data)
    found = [(m.start(), m[0][:-1].decode()) for m in _NAME.finditer(data)]
    distances = [b - a for (a, _), (b, _) in pairwise(found)]
    width = max(distances, key=distances.count) if distances else 0
    rows: dict[str, bytes] = {}
    for (at, name), distance in zip(found, [*distances, width], strict=True):
        if name in rows:
            break
        if rows or distance == width:
            rows[name] = data[at : at + width]
        if rows and distance != width:
            break
    if len(rows) < 2 or not width:
        raise loader.malformed("no table of tunables is in it")
    return rows
