"""Does an unwinder find its way out of each function? Exceptions, cancellation and backtraces go by this.

libgcc and gdb find a function's frame by a binary search in the table that PT_GNU_EH_FRAME names (LSB,
"Exception Frames"; ``unwind-dw2-fde-dip.c`` in GCC). A table that is not there, not sorted or cut leaves all
symbols as they were, and the first exception that goes through a callback of qsort ends the program.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.elf import SHN_UNDEF, STT_FUNC, STT_GNU_IFUNC, Elf
from pipeline.elf.image import PT_GNU_EH_FRAME

#: The form that ld, gold and lld write: version, and the encodings of pointer, count and table (DW_EH_PE_*).
_FORM = bytes((1, 0x1B, 0x03, 0x3B))
_HEAD = struct.Struct("<4siI")
_ENTRY = struct.Struct("<ii")
#: Length, distance to what it shares with others, and the first two words of a frame: begin and size.
_FRAME = struct.Struct("<IIiI")


class Frame(NamedTuple):
    """What one entry of the table describes: the code from ``start`` to ``end``."""

    start: int
    end: int


def faults(binary: Elf) -> list[str]:
    """Why frames are not found, a line each; none if all are, or if the file has no functions for others."""
    functions = {
        s.value: s
        for s in binary.defined
        if s.type in (STT_FUNC, STT_GNU_IFUNC) and s.section != SHN_UNDEF and s.size
    }
    tables = [s for s in binary.segments if s.type == PT_GNU_EH_FRAME and s.filesz]
    if not tables:
        return ["it has no table of frames (PT_GNU_EH_FRAME)"] if functions else []
    found: list[str] = []
    frames: list[Frame] = []
    for number, (listed, frame) in enumerate(_frames(binary, tables[0].vaddr)):
        if listed != frame.start:
            found.append(
                f"entry {number} of the table of frames is for {listed:#x}, its frame {frame.start:#x}"
            )
        frames.append(frame)
    starts = [frame.start for frame in frames]
    if starts != sorted(starts):
        found.append("the table of frames is not sorted: a binary search misses some")
        return found
    for address, symbol in functions.items():
        at = bisect_right(starts, address) - 1
        if at < 0 or address >= frames[at].end:
            found.append(f"no frame is for {symbol.name}@{symbol.version}")
    return found


def _frames(binary: Elf, at: int) -> Iterator[tuple[int, Frame]]:
    """Each entry's address, and the frame that it names. Raises `MalformedInput`."""
    form, _, count = _HEAD.unpack(binary.memory(at, _HEAD.size, "the table of frames"))
    if form != _FORM:
        raise binary.malformed(f"its table of frames is of the form {form.hex()}, which no linker writes")
    raw = binary.memory(at + _HEAD.size, count * _ENTRY.size, "the table of frames")
    for start, where in _ENTRY.iter_unpack(raw):
        place = at + where
        length, _, begin, size = _FRAME.unpack(binary.memory(place, _FRAME.size, "a frame"))
        if length < _FRAME.size - 4:
            raise binary.malformed(f"its table of frames names none at {place:#x}")
        first = place + 8 + begin
        yield at + start, Frame(first, first + size)
