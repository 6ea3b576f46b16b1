"""Profiles: what is built, what it must export and default to. Data (TOML), not code, says it.

A release is built from a series, or it is published: never built here, its listing is that of another release
and whole nodes of upstream. A profile all of whose releases are published has only an `Outline`.
``@loader`` in a symbol line stands for the soname of the architecture's ld.so.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from pipeline.core import paths, tomlfile
from pipeline.core.arch import ARCHES, Arch, arch
from pipeline.core.errors import UsageError
from pipeline.core.outcome import Target

#: The profile that this project is for; it needs a source only where something is built.
MISSION = "el9"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
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


class _Model(BaseModel):
    # cached_property needs a place to write, so the model is not frozen by pydantic
    model_config = ConfigDict(extra="forbid")


class AptSource(_Model):
    """A file of a source package of a Debian suite; apt verifies the archive's signature."""

    #: the file comes through apt
    kind: Literal["apt"]
    #: the Debian suite, as apt names it
    suite: str
    #: name of the source package
    package: str
    #: the source package's file that is used
    file: str
    #: of that file
    sha256: Sha256
    #: the directory that the archive unpacks to
    topdir: str


class TarballSource(_Model):
    """A tarball at any of several addresses."""

    #: the file comes from an address
    kind: Literal["tarball"]
    #: addresses, tried in order
    urls: Annotated[list[str], Field(min_length=1)]
    #: name of the file
    file: str
    #: of that file
    sha256: Sha256
    #: bytes of that file
    size: Annotated[int, Field(gt=0)]
    #: the directory that the archive unpacks to
    topdir: str


KINDS = ("apt", "tarball")
Source = Annotated[AptSource | TarballSource, Field(discriminator="kind")]


class Image(_Model):
    """How the build image's base is had: ``mmdebstrap`` (suite) or ``registry`` (pinned reference)."""

    #: how the base is made: by mmdebstrap, or pulled
    base: Literal["mmdebstrap", "registry"]
    #: mmdebstrap: the Debian suite
    suite: str = ""
    #: registry: the image, pinned by digest
    reference: str = ""
    #: directory below containers/, holding Containerfile and packages.txt
    directory: str

    @model_validator(mode="after")
    def _base_is_named(self) -> Image:
        if self.base == "mmdebstrap" and not self.suite:
            raise ValueError("base = 'mmdebstrap' needs a suite")
        if self.base == "registry" and not self.reference:
            raise ValueError("base = 'registry' needs a reference")
        return self


class Release(_Model):
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


class Published(_Model):
    """A release that others built and published; here only its ABI is known."""

    #: begins with a digit
    name: Annotated[str, Field(pattern=r"^[0-9][0-9a-z.]*$")]
    #: shown beside the name
    title: str = ""
    #: the release (of this profile, or PROFILE/RELEASE) whose public ABI it has ...
    derived_from: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9._-]*/)?[0-9][0-9a-z.]*$")]
    #: ... and upstream's whole nodes that it has beyond, as "DSO NODE"; the DSO * is each that has the node
    nodes: list[Annotated[str, Field(pattern=r"^\S+ GLIBC_\S+$")]] = []


def _which_release(value: Any) -> str:
    published = isinstance(value, Published) or (isinstance(value, dict) and "derived_from" in value)
    return "published" if published else "built"


AnyRelease = Annotated[
    Annotated[Release, Tag("built")] | Annotated[Published, Tag("published")], Discriminator(_which_release)
]


class Step(_Model):
    """From one release to another, the public ABI gains exactly ``added`` and loses nothing."""

    #: a release that is built
    before: str = Field(alias="from")
    #: a later one
    after: str = Field(alias="to")
    #: lines DSO NODE SYMBOL KIND [SIZE] that the later one has beyond
    added: list[SymbolLine]


class Rseq(_Model):
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


class Speed(_Model):
    """Verdicts on the ratio of two times per call; judged only on real hardware."""

    #: sched_getcpu with rseq on may cost at most this many times a function that only reads the area (on an
    #: EPYC it is 2.2, where the vDSO's getcpu is 4 and a system call 90) ...
    max_over_direct_read: float = 3.0
    #: ... and at most this many times what sched_getcpu costs with rseq off
    max_on_over_off: float = 1.25


class Kernel(_Model):
    """A kernel for virtual machines: a package of a suite, per architecture."""

    #: what `--kernel` calls it
    name: str
    #: the Debian suite it comes from
    suite: str
    #: architecture name -> package name (a metapackage is followed to the real one)
    packages: dict[str, str]
    #: whether it is booted unless the user names kernels
    usual: bool = True


class ArchOptions(_Model):
    """What one architecture is built with beyond the profile's options."""

    #: further options of glibc's configure
    configure: list[str] = []
    #: further options of the compiler
    cflags: list[str] = []


class Outline(_Model):
    """What is known of every profile: which releases there are, in what order, on which architectures."""

    #: version of this form
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
            base = release.derived_from if isinstance(release, Published) else "/"
            if "/" not in base and base not in names[:number]:
                raise ValueError(f"release {release.name}: derived_from: no release {base!r} before it")
        for name in self.arches:
            if name not in ARCHES:
                raise ValueError(f"arches: unknown architecture {name!r}; known: {', '.join(ARCHES)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All releases, built and published, in the profile's order."""
        return tuple(r.name for r in self.every_release)

    @cached_property
    def published(self) -> dict[str, Published]:
        return {r.name: r for r in self.every_release if isinstance(r, Published)}

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
    image: Image
    #: what the checks of rseq expect
    rseq: Rseq
    #: what each release gains over an earlier one
    step: list[Step] = []
    #: limits for getcpu.speed
    speed: Speed = Speed()
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
    def release(self) -> list[Release]:
        """The releases that are built."""
        return [r for r in self.every_release if isinstance(r, Release)]

    @cached_property
    def releases(self) -> dict[str, Release]:
        return {r.name: r for r in self.release}

    def configure_of(self, machine: str) -> list[str]:
        """Options of glibc's configure for one architecture."""
        return [*self.configure, *self.arch_options.get(machine, ArchOptions()).configure]

    def cflags_of(self, machine: str) -> list[str]:
        """Options of the compiler for one architecture."""
        return [*self.cflags, *self.arch_options.get(machine, ArchOptions()).cflags]

    def tests_of(self, name: str) -> list[str]:
        """glibc's own tests of one release."""
        return [*self.own_tests, *self.get(name).own_tests]

    def get(self, name: str) -> Release:
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


Kind = TypeVar("Kind", bound=Outline)
#: pydantic puts the kind of a source or release between the table and its key; the file has no such level.
_LEVELS = {*(("source", 1, kind) for kind in KINDS), *(("release", 2, k) for k in ("built", "published"))}


def _in_the_file(location: tomlfile.Location) -> tomlfile.Location:
    return tuple(p for n, p in enumerate(location) if (location[0], n, p) not in _LEVELS)


def load_file(file: Path) -> Profile:
    """Read one profile; raises `UsageError` naming file, key and what was expected."""
    data = _read(file)
    if not _builds(data):
        raise UsageError(
            f"nothing of profile {data.get('name', file.stem)} is built: all its releases are published",
            hint="`scan` and `drift` answer for them; name another profile",
        )
    return _valid(Profile, data, file)


def load_outline(name: str) -> Outline:
    """What is known of the releases of a profile (or of the file ``name``), built or not; `UsageError`."""
    file = Path(name) if name.endswith(".toml") else paths.PROFILES / f"{name}.toml"
    if file.parent == paths.PROFILES and file.stem not in outlines():
        raise UsageError(f"there is no profile {name!r}", hint=f"there are: auto, {', '.join(outlines())}")
    data = _read(file)
    return _valid(Profile if _builds(data) else Outline, data, file)


def _builds(data: dict[str, Any]) -> bool:
    """Whether a profile has a release that is built, or is so wrong that its errors are reported as such."""
    releases = data.get("release")
    if not isinstance(releases, list) or not releases:
        return True
    return any(_which_release(r) == "built" for r in releases)


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        raise UsageError(f"{file} does not exist", hint=f"name a file, or one of: {', '.join(available())}")
    return tomlfile.read(file)


def _valid(kind: type[Kind], data: dict[str, Any], file: Path) -> Kind:
    hint = "fix the keys named above; CONTRIBUTING.md has the schema"
    return tomlfile.checked(kind, data, file, hint=hint, location=_in_the_file)


def available() -> list[str]:
    """Names of the profiles that come with the pipeline and are built."""
    return [n for n in outlines() if _builds(_read(paths.PROFILES / f"{n}.toml"))]


def outlines() -> list[str]:
    """Names of all profiles that come with the pipeline, also of those that are published only."""
    return sorted(p.stem for p in paths.PROFILES.glob("*.toml"))


def load(name: str) -> Profile:
    """The profile called ``name`` (or the one in the file ``name``); raises `UsageError`."""
    if name.endswith(".toml"):
        return load_file(Path(name))
    if name not in outlines():
        raise UsageError(f"there is no profile {name!r}", hint=f"there are: auto, {', '.join(available())}")
    return load_file(paths.PROFILES / f"{name}.toml")


def targets(profile: Profile, releases: tuple[str, ...] = (), arches: tuple[str, ...] = ()) -> list[Target]:
    """The chosen targets in the profile's order; all of them if nothing is chosen. Raises `UsageError`."""
    for name in releases:
        profile.get(name)
    for name in arches:
        arch(name)
        if name not in profile.arches:
            raise UsageError(
                f"profile {profile.name} is not built for {name}", hint=", ".join(profile.arches)
            )
    return [
        Target(profile=profile.name, release=r.name, arch=a)
        for a in profile.arches
        for r in profile.release
        if (not releases or r.name in releases) and (not arches or a in arches)
    ]
