"""The text files of a baseline, read strictly: what is unsorted, cut short or twice there is refused.

Every function raises `MalformedInput` naming file and line.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.abi import traits
from pipeline.abi.listing import Line, parse_line
from pipeline.abi.traits import Blocks
from pipeline.core.errors import MalformedInput

REMEDY = "make it again with `nox -s baseline` (see abi-baselines/README.md), or restore it from git"
_SECTION = re.compile(r"\[([^\s\[\]]+)\]")


def read_listing(file: Path) -> frozenset[Line]:
    """The entries of one DSO's file."""
    return _read_entries(file, _lines(file), 1)


def read_traits(file: Path) -> Blocks:
    """The blocks of a file of `pipeline.abi.traits`."""
    try:
        return traits.parse(file.read_text())
    except (OSError, ValueError) as e:  # a UnicodeDecodeError is one
        raise MalformedInput(f"{file}: {e}", hint=REMEDY) from None


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as e:
        raise MalformedInput(f"{file}: {e}", hint=REMEDY) from None
    if text and not text.endswith("\n"):
        raise MalformedInput(f"{file}:{text.count(chr(10)) + 1}: the last line has no end", hint=REMEDY)
    return text.split("\n")[:-1]


def _read_entries(file: Path, lines: list[str], first: int) -> frozenset[Line]:
    """The entries of ``lines``, of which the first is line ``first`` of the file."""
    previous = b""
    entries: set[Line] = set()
    for number, line in enumerate(lines, first):
        try:
            entries.add(parse_line(line))
        except ValueError as e:
            raise MalformedInput(f"{file}:{number}: {e}", hint=REMEDY) from None
        raw = line.encode()
        if raw <= previous:
            raise MalformedInput(f"{file}:{number}: out of order, or twice: {line!r}", hint=REMEDY)
        previous = raw
    return frozenset(entries)


def read_bundle(file: Path) -> dict[str, frozenset[Line]]:
    """The entries of all modules of a directory, by stable name."""
    lines = _lines(file)
    heads = [n for n, line in enumerate(lines) if line.startswith("[")]
    if not heads or heads[0] != 0:
        raise MalformedInput(f"{file}:1: expected '[{file.stem}/NAME]'", hint=REMEDY)
    found: dict[str, frozenset[Line]] = {}
    for at, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        match = _SECTION.fullmatch(lines[at])
        if not match or match[1].partition("/")[0] != file.stem or match[1] in found:
            raise MalformedInput(
                f"{file}:{at + 1}: expected '[{file.stem}/NAME]', each once, not {lines[at]!r}", hint=REMEDY
            )
        found[match[1]] = _read_entries(file, lines[at + 1 : end], at + 2)
    return found
