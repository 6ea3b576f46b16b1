"""Benches of small releases: real RPMs, made by rpmbuild or byte by byte, in the place of glibc's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pipeline import profile
from pipeline.check import Material
from pipeline.core.arch import arch
from pipeline.core.outcome import Finding, Outcome, Target
from pipeline.core.records import BuildManifest, BuildMode, Built, FileRecord, SourceRecord
from pipeline.core.store import file_sha256


def built(
    release: str,
    rpms: Sequence[Path],
    *,
    machine: str = "x86_64",
    mode: BuildMode = "native",
    source: Literal["apt", "distgit"] = "apt",
    root: Path = Path("/nonexistent"),
) -> Built:
    """A built release of these RPMs, which lie in one directory."""
    files = tuple(FileRecord(file=p.name, sha256=file_sha256(p), size=p.stat().st_size) for p in sorted(rpms))
    return Built(
        manifest=BuildManifest(
            target=Target(profile="bookworm", release=release, arch=machine),
            key="0" * 32,
            nvr=f"glibc-2.36-{release}",
            rpms=files,
            srpm=None,
            mode=mode,
            place="host",
            hermetic=False,
            source=SourceRecord(kind=source, origin="test", sha256="0" * 64, pinned=False),
            patches=(),
            image=None,
            seconds=0.0,
        ),
        rpms=rpms[0].parent if rpms else root,
        root=root,
    )


def material(releases: Mapping[str, Built], programs: Path, machine: str = "x86_64") -> Material:
    return Material(profile=profile.load("bookworm"), arch=arch(machine), built=releases, programs=programs)


def answers(findings: Sequence[Finding]) -> dict[tuple[str, str], Finding]:
    """Findings by (release, case)."""
    return {(f.target.release, f.case): f for f in findings}


def outcomes(findings: Sequence[Finding]) -> dict[tuple[str, str], Outcome]:
    return {key: f.outcome for key, f in answers(findings).items()}
