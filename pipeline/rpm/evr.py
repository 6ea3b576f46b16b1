"""Which of two RPM versions is newer: epoch, version, release, compared as rpm does (rpmvercmp)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

_SEGMENT = re.compile(r"[0-9]+|[A-Za-z]+|[~^]")


def rpmvercmp(one: str, other: str) -> int:
    """-1, 0 or 1. The rules are those of rpm's ``rpmio/rpmvercmp.c``.

    Separators only separate; numbers are newer than letters; of equal beginnings the longer is newer, but
    ``~`` sorts before the end and ``^`` just after it.
    """
    left, right = _SEGMENT.findall(one), _SEGMENT.findall(other)
    for a, b in zip(left, right, strict=False):
        if order := _segments(a, b):
            return order
    if len(left) == len(right):
        return 0
    longer, sign = (left, 1) if len(left) > len(right) else (right, -1)
    rest = longer[min(len(left), len(right))]
    return -sign if rest == "~" else sign


def _segments(a: str, b: str) -> int:
    if a == b:
        return 0
    for sign in "~^":
        if sign in (a, b):
            return -1 if a == sign else 1
    if a.isdigit() != b.isdigit():
        return 1 if a.isdigit() else -1
    # numbers by length and then by digits: they may be longer than Python cares to convert
    x, y = (((len(s), s) if s.isdigit() else (0, s)) for s in (_number(a), _number(b)))
    return (x > y) - (x < y)


def _number(segment: str) -> str:
    return segment.lstrip("0") or "0" if segment.isdigit() else segment


@total_ordering
@dataclass(frozen=True, eq=False)
class Evr:
    """Epoch (none counts as 0), version and release, ordered as rpm orders them.

    Equal ones can be written differently (``1.0`` and ``1.00``), so they have no hash.
    """

    epoch: int
    version: str
    release: str

    __hash__ = None  # type: ignore[assignment]

    def _compare(self, other: Evr) -> int:
        if self.epoch != other.epoch:
            return -1 if self.epoch < other.epoch else 1
        return rpmvercmp(self.version, other.version) or rpmvercmp(self.release, other.release)

    def __lt__(self, other: Evr) -> bool:
        return self._compare(other) < 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evr) and self._compare(other) == 0
