"""Entries of the museum: one TOML file says what is wrong, where it happened, and which checks must see it.

``tests/known-bad/NAME.toml``. README there describes them; the schema is these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.core import paths, tomlfile
from pipeline.core.arch import Arch
from pipeline.core.errors import UsageError
from pipeline.profile import Profile

DIRECTORY = paths.REPO / "tests" / "known-bad"

#: Which release of a profile is made wrong: its first, the one that exports while rseq is off, the newest, or
#: all of them alike.
Role = Literal["oldest", "update", "newest", "all"]
#: What a run that ends without a verdict counts as, beside the names of checks.
REFUSED = "refused"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Change(_Model):
    """A change of one source file: ``find`` (exactly ``count`` times) becomes ``replace``.

    ``add`` makes a new file of that text, ``remove`` takes the file away. ``profiles`` narrows the change.
    """

    file: str
    find: str = ""
    replace: str = ""
    count: int = 1
    add: str = ""
    remove: bool = False
    profiles: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_of(self) -> Change:
        if sum((bool(self.find), bool(self.add), self.remove)) != 1:
            raise ValueError("exactly one of find, add and remove")
        return self


class Edit(_Model):
    """An edit of a built package: ``do`` names it; ``file`` is a path in the package called ``package``.

    The file of an edit of an ELF file may be ``@loader``. All other keys are the edit's own.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    do: str
    package: str = "glibc"
    file: str = ""
    arches: tuple[str, ...] = ()

    @property
    def details(self) -> dict[str, Any]:
        """The edit's own keys."""
        return dict(self.model_extra or {})


class Record(_Model):
    """An edit of a good run's evidence: the value at a JSON path (``findings.0.outcome``) is set or dropped.

    A step ``*`` stands for all elements of a list.
    """

    at: str
    value: Any = None
    drop: bool = False


class Entry(_Model):
    """One known-bad release.

    ``expect`` names every check that must be red, and no other may be; `REFUSED`: the run must end with an
    error about what is judged. Nothing expected: a good release, made by the same means, that must be green.
    ``also_on`` names what is red besides on an architecture.
    ``happened`` tells where it really happened. ``waits``: the check that sees it is not there yet.
    """

    title: str
    happened: str = ""
    profiles: Annotated[tuple[str, ...], Field(min_length=1)] = ("bookworm", "el9")
    arches: Annotated[tuple[str, ...], Field(min_length=1)] = ("x86_64", "aarch64")
    release: Role = "newest"
    expect: tuple[str, ...] = ()
    also_on: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    waits: str = ""
    change: tuple[Change, ...] = ()
    edit: tuple[Edit, ...] = ()
    record: tuple[Record, ...] = ()
    path: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _one_kind(self) -> Entry:
        if sum(map(bool, (self.change, self.edit, self.record))) != 1:
            raise ValueError(
                "an entry has either [[change]] (source), [[edit]] (package) or [[record]] (evidence)"
            )
        for names in (self.expect, *self.also_on.values()):
            if list(names) != sorted(set(names)):
                raise ValueError("expect, also_on: each check once, in order")
        return self

    @cached_property
    def name(self) -> str:
        return self.path.stem

    @property
    def good(self) -> bool:
        """Whether this is a control that must stay green."""
        return not self.expect

    def expected_on(self, machine: Arch) -> tuple[str, ...]:
        """The checks that must be red there, in order."""
        return tuple(sorted({*self.expect, *self.also_on.get(machine.name, ())}))

    def releases_of(self, profile: Profile) -> tuple[str, ...]:
        """The names of the releases that are made wrong."""
        if self.release == "all":
            return tuple(release.name for release in profile.release)
        if self.release == "newest":
            return (profile.build_against,)
        if self.release == "oldest":
            return (profile.release[0].name,)
        for release in profile.release:
            if release.exports_rseq and not release.rseq_default:
                return (release.name,)
        raise UsageError(f"profile {profile.name} has no release that exports and is off")

    def fits(self, profile: Profile, machine: Arch) -> bool:
        return profile.name in self.profiles and machine.name in self.arches


def read(path: Path) -> Entry:
    """One entry; raises `UsageError` naming file and key."""
    hint = "fix the file; tests/known-bad/README.md has the schema"
    data = tomlfile.read(path, hint=hint)
    return tomlfile.checked(Entry, {**data, "path": path}, path, hint=hint)


def load(directory: Path = DIRECTORY) -> list[Entry]:
    """All entries, good ones first, then by name; raises `UsageError`."""
    found = [read(path) for path in sorted(directory.glob("*.toml"))]
    if not found:
        raise UsageError(f"{directory} has no entries", hint="run it in a checkout of the pipeline")
    return sorted(found, key=lambda e: (not e.good, e.name))
