"""What is written down about things that were made, so that a sign-off can bind findings to them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.core.outcome import Frozen, Target
from pipeline.core.store import file_sha256

BuildMode = Literal["native", "cross", "emulated", "supplied"]


class FileRecord(Frozen):
    """A file by name, sha256 (hexadecimal) and size (bytes)."""

    file: str
    sha256: str
    size: int


def file_record(path: Path) -> FileRecord:
    """A file's name, sha256 and size. Raises OSError."""
    return FileRecord(file=path.name, sha256=file_sha256(path), size=path.stat().st_size)


def timestamp(at: datetime | None = None) -> str:
    """A moment (UTC; default: now) as records write it: ISO 8601 to the second."""
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


class SourceRecord(Frozen):
    """Where the source came from; ``pinned``: it is the file the profile pins, verified."""

    kind: Literal["apt", "tarball", "git", "dir", "distgit"]
    origin: str
    sha256: str
    pinned: bool


class PatchRecord(Frozen):
    """One patch of a series. ``present``: how the source shows that it has it already; "": it was applied."""

    file: str
    sha256: str
    subject: str
    upstream: tuple[str, ...] = ()
    present: str = ""


class ImageRecord(Frozen):
    """The build image; ``pinned``: it is the one the profile names, not one the user chose."""

    id: str
    base: str
    pinned: bool
    tools: dict[str, str] = Field(default_factory=dict)


class RebuildDifference(Frozen):
    """A package that a rebuild made differently; ``built`` and ``rebuilt`` are sha256 ("": not made).

    ``where``: the first difference, as far down as it can be named.
    """

    package: str
    built: str
    rebuilt: str
    where: str


class RebuildRecord(Frozen):
    """A release made once more from nothing, under other conditions, and compared bit by bit.

    ``at`` (UTC) says when, ``machine`` who and where, ``processor`` on what. ``conditions`` is
    what the rebuild saw, by name (`BuildManifest.seen`).
    ``compared``: every package of the first build, the source package among them, with its sha256 there.
    """

    at: str
    machine: str
    processor: str
    conditions: dict[str, str]
    compared: dict[str, str]
    differences: tuple[RebuildDifference, ...]
    seconds: float


class BuildManifest(Frozen):
    """One built release: what came out and what it was made from. Stored as ``manifest.json``.

    ``key`` is the store's key. ``hermetic`` is true for a container without network. ``seconds`` is the
    duration of the build itself. ``ccache`` holds that run's statistics by name.
    """

    target: Target
    key: str
    nvr: str
    rpms: tuple[FileRecord, ...]
    srpm: FileRecord | None
    mode: BuildMode
    place: Literal["container", "host", "elsewhere"]
    hermetic: bool
    source: SourceRecord | None
    patches: tuple[PatchRecord, ...]
    image: ImageRecord | None
    seconds: float
    #: glibc's own tests, where they were run in the build: name -> PASS, FAIL, UNSUPPORTED ...
    own_tests: dict[str, str] | None = None
    ccache: dict[str, int] = Field(default_factory=dict)
    #: the key of the kept tree whose objects it began with; "": it was made from nothing
    tree: str = ""
    #: what it saw of where, when and by whom it was made, by name; {} outside a container
    seen: dict[str, str] = Field(default_factory=dict)
    #: supplied packages of the same build for `Arch.beside`: judged as packages installed with the others
    beside: tuple[FileRecord, ...] = ()

    #: how it was made once more (``verify --rebuild``); None: it was not
    rebuild: RebuildRecord | None = None

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Every package, the source package last."""
        return (*self.rpms, *self.beside, *([self.srpm] if self.srpm else []))


class Built(Frozen):
    """A built release on this machine: its record, the directory of its RPMs and its extracted root.

    ``root`` holds every package of the release extracted as one file system (runtime, devel, static),
    with empty ``/proc``, ``/dev``, ``/sys``, ``/tmp`` and ``/probes``.
    """

    manifest: BuildManifest
    rpms: Path
    root: Path

    @property
    def target(self) -> Target:
        return self.manifest.target

    def rpm(self, package: str) -> Path:
        """The RPM of the package called exactly ``package``; KeyError if there is none."""
        version = self.manifest.nvr.removeprefix("glibc-")
        for record in self.manifest.rpms:
            if record.file.startswith(f"{package}-{version}."):
                return self.rpms / record.file
        raise KeyError(package)
