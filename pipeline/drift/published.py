"""What a source publishes now: its newest packages, verified, and the listings of their DSOs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.abi.files import listings
from pipeline.abi.listing import Listing
from pipeline.core.arch import arch as arch_named
from pipeline.core.errors import MalformedInput, PipelineError, SourceUnreachable
from pipeline.core.run import run
from pipeline.core.store import file_sha256
from pipeline.debian.apt import PrivateApt
from pipeline.drift.errors import CouldNotLook, NothingThere
from pipeline.drift.repository import Repository
from pipeline.drift.sources import AptSuite, DnfSource, RpmDirectory
from pipeline.rpm import package as rpmfile
from pipeline.rpm.evr import Evr

AnySource = DnfSource | AptSuite | RpmDirectory


@dataclass(frozen=True)
class Package:
    """A package that was looked into: name, version as its own kind writes it, sha256 and size in bytes."""

    name: str
    version: str
    arch: str
    file: str
    sha256: str
    size: int

    @property
    def nvr(self) -> str:
        """``glibc-2.34-28.el9_0`` for an RPM, ``libc6_2.36-9`` for a deb."""
        return f"{self.name}{'_' if self.file.endswith('.deb') else '-'}{self.version}"


@dataclass(frozen=True)
class PublishedPackages:
    """Packages (the one that names the release first), their listings, and whose each DSO is."""

    packages: tuple[Package, ...]
    listings: Mapping[str, Listing]
    owners: Mapping[str, Package]


def published(source: AnySource, arch: str, scratch: Path) -> PublishedPackages:
    """What ``source`` publishes now for ``arch``; ``scratch`` is a directory that may be filled.

    Raises `CouldNotLook` or `NothingThere`; every other error of the pipeline becomes the former, for it
    says that nothing was seen.
    """
    try:
        match source:
            case DnfSource():
                files = Repository(source, arch, scratch).newest(source.packages)
                found = [_rpm(file, arch, name) for name, file in files.items()]
            case AptSuite():
                found = list(_debs(source, arch, scratch))
            case RpmDirectory():
                found = list(_directory(source, arch))
        return _listed(source, arch, found)
    except (CouldNotLook, NothingThere):
        raise
    except PipelineError as e:
        raise CouldNotLook(e.message, hint=e.hint) from e


Unpacked = tuple[Package, Path]


def _listed(source: AnySource, arch: str, found: Sequence[Unpacked]) -> PublishedPackages:
    merged: dict[str, Listing] = {}
    owners: dict[str, Package] = {}
    for package, file in found:
        with tempfile.TemporaryDirectory(prefix="drift-") as root:
            _extract(file, Path(root))
            of_package = listings(Path(root))
        for name, listing in of_package.items():
            if not source.compares(name):
                continue
            if listing.arch != arch:
                raise MalformedInput(f"{file.name}: {listing.path} is for {listing.arch}, not for {arch}")
            if name in merged:
                raise MalformedInput(f"{owners[name].file} and {file.name} both have a {name}")
            merged[name], owners[name] = listing, package
    if not merged:
        names = ", ".join(p.file for p, _ in found)
        raise NothingThere(
            f"{source.name}: no DSO to compare in {names}", hint="check `packages` and `dsos` of the source"
        )
    return PublishedPackages(tuple(p for p, _ in found), dict(sorted(merged.items())), owners)


def _extract(file: Path, root: Path) -> None:
    if file.suffix == ".rpm":
        rpmfile.extract(file, root)
    else:
        run(["dpkg-deb", "-x", file, root], remedy="fetch the package again")


def _rpm(file: Path, arch: str, name: str) -> Unpacked:
    rpm = rpmfile.verify(file)
    if (rpm.name, rpm.arch) != (name, arch):
        raise MalformedInput(f"{file.name} is {rpm.nvra}, and was announced as {name} for {arch}")
    return _package(rpm), file


def _package(rpm: rpmfile.Rpm) -> Package:
    epoch = f"{rpm.epoch}:" if rpm.epoch else ""
    return Package(
        rpm.name, f"{epoch}{rpm.version}-{rpm.release}", rpm.arch, rpm.path.name,
        file_sha256(rpm.path), rpm.path.stat().st_size,
    )  # fmt: skip


def _directory(source: RpmDirectory, arch: str) -> Iterator[Unpacked]:
    directory = Path(source.path.replace("{arch}", arch))
    if not directory.is_dir():
        raise CouldNotLook(f"{directory} is not a directory", hint="correct `path` of the source")
    newest: dict[str, tuple[Evr, Path]] = {}
    for file in sorted(directory.rglob("*.rpm")):
        rpm = rpmfile.read(file)
        if rpm.is_source or rpm.arch != arch or rpm.name not in source.packages:
            continue
        evr = Evr(rpm.epoch or 0, rpm.version, rpm.release)
        if rpm.name not in newest or evr > newest[rpm.name][0]:
            newest[rpm.name] = (evr, file)
    for name in source.packages:
        if name not in newest:
            raise NothingThere(f"{directory} has no package {name} for {arch}", hint="build or fetch it")
        yield _rpm(newest[name][1], arch, name)


def _debs(source: AptSuite, arch: str, scratch: Path) -> Iterator[Unpacked]:
    apt = PrivateApt(source.suite, arch_named(arch).deb, max_age=0.0, strict=True)
    apt.refresh()
    for name in source.packages:
        try:
            apt.candidate(name)
        except SourceUnreachable as e:  # the lists are fresh, so the suite does not have it
            raise NothingThere(e.message, hint=e.hint) from e
        deb = apt.download_package(name, scratch)
        fields = run(["dpkg-deb", "-f", deb, "Package", "Version", "Architecture"]).text
        stated = dict(re.findall(r"^(\w+): (\S+)$", fields, re.MULTILINE))
        if (stated.get("Package"), stated.get("Architecture")) != (name, arch_named(arch).deb):
            raise MalformedInput(f"{deb.name} is not the package {name} for {arch}")
        yield (
            Package(name, stated["Version"], arch, deb.name, file_sha256(deb), deb.stat().st_size),
            deb,
        )
