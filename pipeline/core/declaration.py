"""What a check says of itself, once: registry, completeness, release grade, reports and documents read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from pipeline.core.outcome import Frozen


class Need(StrEnum):
    """What a place must have for a check to be answered there."""

    #: a kernel with rseq behind the system calls: user-mode QEMU has none
    RSEQ = "rseq"
    #: a processor whose time means something: an emulated one does not
    TIME = "real time"
    #: two CPUs to move between
    TWO_CPUS = "two CPUs"


class Scope(StrEnum):
    """Of what a check is asked."""

    RELEASE = "each release"
    STEP = "each step from release to release"
    LATER = "each release but the first"
    NEWEST = "the release that programs are built against"


class Unit(StrEnum):
    """What a measure counts or is measured in."""

    #: of the things that the measure's name says
    COUNT = "count"
    SYMBOLS = "symbols"
    BYTES = "bytes"
    INSTRUCTIONS = "instructions"
    SYSTEM_CALLS = "system calls"
    NANOSECONDS = "ns"
    #: no figure: a list or a difference, whole, where ``seen`` has it cut
    TEXT = "text"


class Measure(Frozen):
    """A figure that a check's answers may carry. One ``*`` in ``name`` stands for what it is of, where there
    are several: ``*_symbols`` of each DSO."""

    name: str = Field(pattern=r"^[a-z0-9_]*\*?[a-z0-9_]*$")
    unit: Unit

    def of(self, name: str) -> str | None:
        """What ``name`` is of ("" if there is no choice); None if it is no name of this measure."""
        before, star, after = self.name.partition("*")
        if not star:
            return "" if name == self.name else None
        of = name[len(before) : len(name) - len(after)]
        return of if of and name == f"{before}{of}{after}" else None

    def takes(self, value: Any) -> bool:
        """Whether ``value`` is one of this measure: a text, or else a number or a list of numbers."""
        values = value if isinstance(value, (list, tuple)) and self.unit is not Unit.TEXT else [value]
        kind = str if self.unit is Unit.TEXT else (int, float)
        return all(isinstance(v, kind) and not isinstance(v, bool) for v in values)


def measured(unit: Unit, *names: str) -> tuple[Measure, ...]:
    """Measures of one unit."""
    return tuple(Measure(name=name, unit=unit) for name in names)


class Declaration(Frozen):
    """One check.

    ``question``: one sentence that a release board understands. ``release_grade``: a sign-off is not release
    grade without an answer for everything in ``scope``, on every architecture. ``only_at``: the one kind of
    place where it is asked, "" for all. ``when``: under what condition it is asked at all, "" for always.
    ``measures``: every figure that its answers may carry, with its unit.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(\.[a-z0-9-]+)+$")
    question: str = Field(pattern=r"^[A-Z].*\?$")
    needs: tuple[Need, ...] = ()
    scope: Scope = Scope.RELEASE
    release_grade: bool = True
    only_at: str = ""
    when: str = ""
    measures: tuple[Measure, ...] = ()

    def measure(self, name: str) -> Measure | None:
        """The measure that is called so; None if the check does not declare it."""
        return next((m for m in self.measures if m.of(name) is not None), None)

    def of_unit(self, unit: Unit, measures: Mapping[str, Any]) -> dict[str, Any]:
        """Those of an answer's measures that are of the unit."""
        return {n: v for n, v in measures.items() if (m := self.measure(n)) and m.unit is unit}

    def undeclared(self, measures: Mapping[str, Any]) -> list[str]:
        """Names of an answer's measures that are not declared, or whose value is of another type."""
        return sorted(n for n, v in measures.items() if (m := self.measure(n)) is None or not m.takes(v))


Declarations = Mapping[str, Declaration]


def by_name(declared: Iterable[Declaration]) -> dict[str, Declaration]:
    """Declarations by name, in their order. Raises ValueError if two checks have one name."""
    found: dict[str, Declaration] = {}
    for one in declared:
        if one.name in found:
            raise ValueError(f"two checks are called {one.name}")
        found[one.name] = one
    return found
