"""The models of a profile: every key of its file, with what it means and what it must be."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from pipeline.core.arch import ARCHES, Arch, arch
from pipeline.core.errors import UsageError
from pipeline.profile.origin import ImageKeys, Kernel, Keys, Source

#: From this version of glibc on the rseq area has the size that the kernel announces, and a place of its own.
AREA_GROWS = (2, 41)
#: ``DSO NODE SYMBOL KIND [SIZE]``: a DSO's name before a line of glibc's own .abilist notation.
SYMBOL_LINE = re.compile(r"^\S+ \S+ \S+ [A-Z]( 0x[0-9a-f]+)?$")


def _symbol_line(line: str) -> str:
    if not SYMBOL_LINE.match(line):
        raise ValueError(f"{line!r} is not 'DSO NODE SYMBOL KIND [SIZE]'")
    return line


SymbolLine = Annotated[str, AfterValidator(_symbol_line)]


#: Levels of the x86-64 psABI, lowest first.
IsaLevel = Literal["x86-64-baseline", "x86-64-v2", "x86-64-v3", "x86-64-v4"]
#: One of glibc's own tests: SUBDIRECTORY/NAME.
OwnTest = Annotated[str, Field(pattern=r"^[a-z-]+/[\w-]+$")]


class BuiltRelease(Keys):
    """One release: a patch series on the base and what comes of it."""

    #: begins with a digit
    name: Annotated[str, Field(pattern=r"^[0-9][0-9a-z.]*$")]
    #: shown beside the name
    title: str = ""
    #: the RPM's Release tag
    rpm_release: str
    #: whether ld.so exports the profile's public rseq symbols
    exports_rseq: bool
    #: glibc's own tests that only this release has, beyond the profile's
    own_tests: list[OwnTest] = []
    #: default of the tunable
    rseq_default: Literal[0, 1]


class PublishedRelease(Keys):
    """A release that others built and published; here only its ABI is known."""

    #: begins with a digit
    name: Annotated[str, Field(pattern=r"^[0-9][0-9a-z.]*$")]
    #: shown beside the name
    title: str = ""
    #: the release (of this profile, or PROFILE/RELEASE) whose public ABI it has ...
    derived_from: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9._-]*/)?[0-9][0-9a-z.]*$")]
    #: ... and upstream's whole nodes that it has beyond, as "DSO NODE"; the DSO * is each that has the node
    nodes: list[Annotated[str, Field(pattern=r"^\S+ GLIBC_\S+$")]] = []


def kind_of_release(value: Any) -> str:
    published = isinstance(value, PublishedRelease) or (isinstance(value, dict) and "derived_from" in value)
    return "published" if published else "built"


AnyRelease = Annotated[
    Annotated[BuiltRelease, Tag("built")] | Annotated[PublishedRelease, Tag("published")],
    Discriminator(kind_of_release),
]


class Step(Keys):
    """From one release to another, the public ABI gains exactly ``added`` and loses nothing."""

    #: a release that is built
    before: str = Field(alias="from")
    #: a later one
    after: str = Field(alias="to")
    #: lines DSO NODE SYMBOL KIND [SIZE] that the later one has beyond
    added: list[SymbolLine]


class Rseq(Keys):
    """What the rseq checks expect."""

    #: full name of the tunable
    tunable: str
    #: value of __rseq_size when registered (32 as first shipped, 20 after upstream bug 31965)
    size_on: int
    #: bytes glibc registers with the kernel
    area_size: int = 32
    #: the version node and the (DSO NODE SYMBOL KIND SIZE) lines that must be exported together
    node: str
    #: those lines: DSO NODE SYMBOL KIND SIZE
    symbols: list[SymbolLine]
    #: the installed headers that come with the symbols, and with nothing else
    headers: list[str] = ["bits/rseq.h", "sys/rseq.h"]


class SpeedLimits(Keys):
    """Verdicts on the ratio of two times per call; judged only on real hardware."""

    #: sched_getcpu with rseq on may cost at most this many times a function that only reads the area (on an
    #: EPYC it is 2.2, where the vDSO's getcpu is 4 and a system call 90) ...
    max_over_direct_read: float = 3.0
    #: ... and at most this many times what sched_getcpu costs with rseq off
    max_on_over_off: float = 1.25


class ArchOptions(Keys):
    """What one architecture is built with beyond the profile's options."""

    #: further options of glibc's configure
    configure: list[str] = []
    #: further options of the compiler
    cflags: list[str] = []


class Outline(Keys):
    """What is known of every profile: which releases there are, in what order, on which architectures."""

    #: version of this schema
    schema_version: Literal[1] = Field(alias="schema")
    #: also the name of its directory of patches and of baselines
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    #: shown in reports
    title: str
    #: upstream's version
    glibc: str
    #: architectures, in the order of reports
    arches: Annotated[list[str], Field(min_length=1)]
    #: the releases, oldest first
    every_release: Annotated[list[AnyRelease], Field(min_length=1, alias="release")]

    @model_validator(mode="after")
    def _releases_and_arches_fit(self) -> Self:
        names = self.names
        if len(set(names)) != len(names):
            raise ValueError("release: two have the same name")
        for number, release in enumerate(self.every_release):
            base = release.derived_from if isinstance(release, PublishedRelease) else "/"
            if "/" not in base and base not in names[:number]:
                raise ValueError(f"release {release.name}: derived_from: no release {base!r} before it")
        for name in self.arches:
            if name not in ARCHES:
                raise ValueError(f"arches: unknown architecture {name!r}; known: {', '.join(ARCHES)}")
        return self

    @property
    def version(self) -> tuple[int, ...]:
        """Major and minor number of glibc's release."""
        return tuple(int(n) for n in self.glibc.split(".")[:2])

    @property
    def area_grows(self) -> bool:
        """Whether the rseq area is as large as the kernel announces, and outside of a thread's descriptor."""
        return self.version >= AREA_GROWS

    @property
    def names(self) -> tuple[str, ...]:
        """All releases, built and published, in the profile's order."""
        return tuple(r.name for r in self.every_release)

    @cached_property
    def published(self) -> dict[str, PublishedRelease]:
        return {r.name: r for r in self.every_release if isinstance(r, PublishedRelease)}

    def chosen(self, releases: tuple[str, ...], arches: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """The chosen of all its releases and architectures, in its order; all if none. `UsageError`."""
        for name in releases:
            if name not in self.names:
                raise UsageError(
                    f"profile {self.name} has no release {name!r}", hint=f"it has: {', '.join(self.names)}"
                )
        for name in arches:
            arch(name)
            if name not in self.arches:
                raise UsageError(f"profile {self.name} is not for {name}", hint=", ".join(self.arches))
        return (
            [n for n in self.names if not releases or n in releases],
            [a for a in self.arches if not arches or a in arches],
        )


class Profile(Outline):
    """One glibc base with its releases, patches, images and expectations."""

    #: why a sign-off of this profile can never be release grade; empty for the mission's own
    stand_in: str = ""
    #: where glibc's source comes from
    source: Source
    #: the image that builds run in
    image: ImageKeys
    #: what the checks of rseq expect
    rseq: Rseq
    #: what each release gains over an earlier one
    step: list[Step] = []
    #: limits for getcpu.speed
    speed: SpeedLimits = SpeedLimits()
    #: kernels that virtual machines boot
    kernel: list[Kernel] = []
    #: the release programs of the launch matrix are built against
    build_against: str
    #: options of glibc's configure, beyond where headers and compilers are
    configure: list[str] = [
        "--prefix=/usr",
        "--enable-bind-now",
        "--enable-stack-protector=strong",
        "--disable-profile",
        "--disable-werror",
    ]
    #: architecture -> the newest instruction set level that every machine of the platform has (the names are
    #: those of the psABI); the lowest where none is named
    isa_level: dict[str, IsaLevel] = {}
    #: options of the compiler
    cflags: list[str] = ["-g", "-O2"]
    #: further options of both, by architecture
    arch_options: dict[str, ArchOptions] = {}
    #: what the vendor's build has and this one has not: the sign-off shows it with the builds
    differences: list[str] = []
    #: glibc's own tests that `build --check` runs, as SUBDIRECTORY/NAME
    own_tests: list[OwnTest] = []
    #: RPM packages made by the spec
    packages: list[str] = ["glibc", "glibc-common", "glibc-devel", "glibc-static"]

    @model_validator(mode="after")
    def _names_fit(self) -> Profile:
        names = [r.name for r in self.release]
        for step in self.step:
            for end in (step.before, step.after):
                if end not in names:
                    raise ValueError(f"step: there is no release {end!r}")
        if self.build_against not in names:
            raise ValueError(f"build_against: there is no release {self.build_against!r}")
        for name in self.arch_options:
            if name not in self.arches:
                raise ValueError(f"arch_options: {name!r} is not among arches")
        return self

    @cached_property
    def release(self) -> list[BuiltRelease]:
        """The releases that are built."""
        return [r for r in self.every_release if isinstance(r, BuiltRelease)]

    @cached_property
    def releases(self) -> dict[str, BuiltRelease]:
        return {r.name: r for r in self.release}

    def configure_of(self, arch: str) -> list[str]:
        """Options of glibc's configure for one architecture."""
        return [*self.configure, *self.arch_options.get(arch, ArchOptions()).configure]

    def cflags_of(self, arch: str) -> list[str]:
        """Options of the compiler for one architecture."""
        return [*self.cflags, *self.arch_options.get(arch, ArchOptions()).cflags]

    def tests_of(self, name: str) -> list[str]:
        """glibc's own tests of one release."""
        return [*self.own_tests, *self.get(name).own_tests]

    def get(self, name: str) -> BuiltRelease:
        """The release called ``name``; raises `UsageError`."""
        if name in self.published:
            raise UsageError(
                f"release {name} of profile {self.name} is published, and never built here",
                hint=f"`scan` and `drift` answer for it; built are: {', '.join(self.releases)}",
            )
        if name not in self.releases:
            raise UsageError(
                f"profile {self.name} has no release {name!r}", hint=f"it has: {', '.join(self.releases)}"
            )
        return self.releases[name]


def for_arch(lines: list[str], machine: Arch) -> list[str]:
    """Symbol lines with ``@loader`` replaced."""
    return [line.replace("@loader", machine.loader) for line in lines]
