"""A stored build read again, and the log a build writes."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import EvidenceError, reason
from pipeline.core.outcome import Target
from pipeline.core.records import BuildManifest, Built
from pipeline.core.store import Stored, file_sha256
from pipeline.rpm.sysroot import extract

#: in the directory of a stored build: its record
MANIFEST = "manifest.json"
#: its sha256 as it was written: that a record can be read says nothing of who wrote it
MANIFEST_SEAL = "manifest.sha256"
#: what the compiler warned of in the build: a sorted list of ``FILE: WORDS``
WARNINGS = "warnings.json"


def write_manifest(directory: Path, manifest: BuildManifest) -> None:
    """Write the record of a build into the directory that is going to be stored."""
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
    (directory / MANIFEST_SEAL).write_text(file_sha256(directory / MANIFEST) + "\n")


def read_manifest(directory: Path) -> BuildManifest:
    """The record of a stored build; its key is the directory's name.

    Raises `EvidenceError` if it cannot be read, or was changed since it was written. (One of an older version
    is sealed when it is first read.)
    """
    try:
        manifest = BuildManifest.model_validate_json((directory / MANIFEST).read_text())
    except (OSError, ValueError) as e:
        raise EvidenceError(
            f"{directory / MANIFEST} cannot be read: {reason(e)}",
            hint=f"remove {directory} and run `nox -s build` again",
        ) from None
    seal, found = directory / MANIFEST_SEAL, file_sha256(directory / MANIFEST)
    if not seal.is_file():
        seal.write_text(found + "\n")
    elif seal.read_text().strip() != found:
        raise EvidenceError(
            f"{directory / MANIFEST} was changed since the build wrote it",
            hint=f"remove {directory} and run `nox -s build` again",
        )
    return manifest.model_copy(update={"key": directory.name})


def packages(entry: Stored) -> BuildManifest:
    """The record of a stored build, with which every RPM and the source RPM was compared.

    Raises `EvidenceError` naming the RPM that is not what was built.
    """
    manifest = read_manifest(entry.path)
    for record in manifest.files:
        rpm = entry.path / "RPMS" / record.file
        if not rpm.is_file():
            raise EvidenceError(
                f"{rpm} is gone since it was built", hint=f"remove {entry.path} and run `nox -s build` again"
            )
        if rpm.stat().st_size != record.size or file_sha256(rpm) != record.sha256:
            raise EvidenceError(
                f"{rpm} is not the file that was built (its record says {record.sha256[:16]}…)",
                hint=f"remove {entry.path} and run `nox -s build` again",
            )
    return manifest


def built(entry: Stored) -> Built:
    """A stored build with its root extracted. Raises as `packages`."""
    manifest = packages(entry)
    directory = entry.path / "RPMS"
    root = extract([directory / r.file for r in manifest.rpms], judged=True)
    return Built(manifest=manifest, rpms=directory, root=root)


def log_of(target: Target, into: Path) -> Path:
    """Where rpmbuild's full output goes: builds of one target at the same time have different directories.

    ``build-TARGET.log`` beside it is a link to the log that was begun last.
    """
    stem = f"build-{target.profile}-{target.release}-{target.arch}"
    log = paths.logs() / f"{stem}-{into.name.strip('.').partition('.')[0]}.log"
    latest = log.with_name(f"{stem}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    new = log.with_name(f".{log.name}.link")
    new.unlink(missing_ok=True)
    new.symlink_to(log.name)
    new.rename(latest)
    return log
