"""Profiles: what is built, what it must export and default to. Data (TOML), not code, says it.

A release is built from a series, or it is published: never built here, its listing is that of another release
and whole nodes of upstream. A profile all of whose releases are published has only an `Outline`.
``@loader`` in a symbol line stands for the soname of the architecture's ld.so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pipeline.core import paths, tomlfile
from pipeline.core.arch import arch
from pipeline.core.errors import UsageError
from pipeline.core.outcome import Target
from pipeline.profile.model import (
    ArchOptions,
    BuiltRelease,
    Outline,
    Profile,
    PublishedRelease,
    Rseq,
    SpeedLimits,
    Step,
    for_arch,
    kind_of_release,
)
from pipeline.profile.origin import KINDS, AptSource, ImageKeys, Kernel, TarballSource

__all__ = [
    "AptSource",
    "ArchOptions",
    "BuiltRelease",
    "ImageKeys",
    "Kernel",
    "Outline",
    "Profile",
    "PublishedRelease",
    "Rseq",
    "SpeedLimits",
    "Step",
    "TarballSource",
    "for_arch",
]

#: The profile that this project is for; it needs a source only where something is built.
MISSION = "el9"

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
    return any(kind_of_release(r) == "built" for r in releases)


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
