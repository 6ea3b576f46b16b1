"""What a check says of itself, once: registry, completeness, release grade, reports and documents read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

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


class Declaration(Frozen):
    """One check.

    ``question``: one sentence that a release board understands. ``release_grade``: a sign-off is not release
    grade without an answer for everything in ``scope``, on every architecture. ``only_at``: the one kind of
    place where it is asked, "" for all. ``when``: under what condition it is asked at all, "" for always.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(\.[a-z0-9-]+)+$")
    question: str = Field(pattern=r"^[A-Z].*\?$")
    needs: tuple[Need, ...] = ()
    scope: Scope = Scope.RELEASE
    release_grade: bool = True
    only_at: str = ""
    when: str = ""


Declarations = Mapping[str, Declaration]


def by_name(declared: Iterable[Declaration]) -> dict[str, Declaration]:
    """Declarations by name, in their order. Raises ValueError if two checks have one name."""
    found: dict[str, Declaration] = {}
    for one in declared:
        if one.name in found:
            raise ValueError(f"two checks are called {one.name}")
        found[one.name] = one
    return found
