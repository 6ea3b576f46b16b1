"""RPMs built elsewhere (a distribution's, Koji's) as a release to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.core.arch import Arch
from pipeline.core.errors import EvidenceError, UsageError
from pipeline.core.outcome import Target
from pipeline.core.progress import warn
from pipeline.core.records import BuildManifest, Built, FileRecord, file_record
from pipeline.core.store import digest
from pipeline.profile import Profile
from pipeline.rpm import package
from pipeline.rpm.sysroot import extract


def gather(
    profile: Profile, theirs: Sequence[tuple[str, Path]], machines: Sequence[Arch]
) -> dict[str, dict[str, Built]]:
    """Architecture -> release -> what was supplied for it; an architecture that has nothing is left out.

    Raises as `supplied`; `UsageError` if two directories hold the same release for one architecture,
    `EvidenceError` if one holds nothing for any of ``machines``.
    """
    given: dict[str, dict[str, Built]] = {}
    for release, directory in theirs:
        found = {m.name: built for m in machines if (built := supplied(profile, release, directory, m))}
        if not found:
            raise EvidenceError(
                f"{directory} holds no RPM for {' or '.join(m.name for m in machines)}",
                hint="name a directory of RPMs of that architecture, or choose another --arch",
            )
        for name, built in found.items():
            if release in given.setdefault(name, {}):
                raise UsageError(
                    f"two directories of --rpms hold {release} for {name}", hint="leave one of them out"
                )
            given[name][release] = built
    return {m.name: given[m.name] for m in machines if m.name in given}


def judged(given: Mapping[str, object], asked: Sequence[str], *, named: bool) -> tuple[str, ...]:
    """The architectures of ``asked`` that packages were supplied for; a warning names the others.

    ``named``: the user named them, and one that has no packages raises `EvidenceError`.
    """
    absent = [name for name in asked if name not in given]
    if absent and named:
        raise EvidenceError(
            f"--arch {absent[0]}: no directory of --rpms holds packages for it",
            hint="name one that does, or leave this --arch out",
        )
    if absent:
        warn(f"{', '.join(absent)} is not judged: no directory of --rpms holds packages for it")
    return tuple(name for name in asked if name in given)


def supplied(profile: Profile, release: str, directory: Path, machine: Arch) -> Built | None:
    """The release whose RPMs for ``machine`` lie in ``directory``; None if there is none for it.

    Packages without an architecture belong to it; those of `Arch.beside` are kept apart (`BuildManifest`).

    Every package is verified (a truncated or altered one raises `MalformedInput`). `EvidenceError`: there is
    no package glibc among them, or more than one.
    """
    profile.get(release)
    if not directory.is_dir():
        raise UsageError(f"--rpms {directory}: there is no such directory", hint="name a directory of RPMs")
    read = [package.verify(p) for p in sorted(directory.glob("*.rpm"))]
    fitting = [r for r in read if r.arch == machine.name and not r.is_source]
    if not fitting:
        if any(not r.is_source for r in read):
            return None
        raise EvidenceError(f"{directory} holds no binary RPM", hint="name a directory of RPMs")
    own = [r for r in fitting if r.name == "glibc"]
    if len(own) != 1:
        found = ", ".join(r.path.name for r in own) or "none"
        raise EvidenceError(
            f"{directory} must hold one package glibc for {machine.name}, it holds: {found}",
            hint="keep the packages of one build in one directory",
        )
    nvr = own[0].nvr
    version = nvr.removeprefix("glibc-")
    same = [r for r in read if f"{r.version}-{r.release}" == version and not r.is_source]
    taken = [r.path for r in same if r.arch in (machine.name, "noarch")]
    records = tuple(file_record(p) for p in taken)
    beside = tuple(file_record(r.path) for r in same if r.arch == machine.beside)
    if beside:
        warn(
            f"{directory}: {machine.beside} packages of {nvr} are judged as packages that are installed "
            f"beside those of {machine.name}, not as a release"
        )
    source = next((r.path for r in read if r.is_source and r.nvr == nvr), None)
    manifest = manifest_of(
        Target(profile=profile.name, release=release, arch=machine.name), nvr, records,
        srpm=file_record(source) if source else None, beside=beside,
    )  # fmt: skip
    return Built(manifest=manifest, rpms=directory, root=extract(taken, machine, judged=True))


def manifest_of(
    target: Target,
    nvr: str,
    packages: tuple[FileRecord, ...],
    *,
    srpm: FileRecord | None = None,
    beside: tuple[FileRecord, ...] = (),
) -> BuildManifest:
    """The record of packages that were made elsewhere: nothing is known but what they are."""
    return BuildManifest(
        target=target,
        key=digest([r.sha256 for r in (*packages, *beside)])[:32],
        nvr=nvr,
        rpms=packages,
        srpm=srpm,
        mode="supplied",
        place="elsewhere",
        hermetic=False,
        source=None,
        patches=(),
        image=None,
        seconds=0.0,
        beside=beside,
    )
