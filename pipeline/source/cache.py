"""Files by their hash: kept once, verified each time, and put aside where they are not what was pinned."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from pipeline.core import paths
from pipeline.core.errors import HashMismatch
from pipeline.core.progress import warn
from pipeline.core.store import file_sha256


def place(sha256: str, file: str) -> Path:
    """Where the file of that hash is kept; one put there by hand is as good as one fetched."""
    return paths.state() / "sources" / sha256 / file


@contextmanager
def alone(sha256: str) -> Iterator[None]:
    """One fetcher of a file at a time; a second one waits and then finds it."""
    base = paths.state() / "sources"
    base.mkdir(parents=True, exist_ok=True)
    with FileLock(base / f".{sha256}.lock"):
        yield


def cached(sha256: str, file: str) -> Path | None:
    """The kept file if it is there and its bytes are right; wrong bytes are put aside, and said."""
    kept = place(sha256, file)
    if not kept.is_file():
        return None
    seen = file_sha256(kept)
    if seen == sha256:
        return kept
    warn(f"the kept {file} has changed: {quarantine(kept, sha256, seen, kept.parent.as_posix()).message}")
    return None


def admit(arrived: Path, sha256: str, file: str, origin: str) -> Path:
    """Move a file that arrived to its place if its hash is ``sha256``; else it is put aside.

    Raises `HashMismatch`, naming both hashes and where the file was put.
    """
    seen = file_sha256(arrived)
    if seen != sha256:
        raise quarantine(arrived, sha256, seen, origin)
    kept = place(sha256, file)
    kept.parent.mkdir(parents=True, exist_ok=True)
    arrived.rename(kept)
    return kept


def quarantine(path: Path, expected: str, seen: str, origin: str) -> HashMismatch:
    """Put ``path`` aside for inspection; returns the error that says so, for the caller to raise."""
    aside = (
        paths.state() / "quarantine" / f"{time.strftime('%Y%m%dT%H%M%S')}-{seen[:16]}-{path.name.lstrip('.')}"
    )
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, aside)
    return mismatch(path.name, expected, seen, origin, f"it was put aside as {aside}")


def mismatch(name: str, expected: str, seen: str, origin: str, where: str) -> HashMismatch:
    """The error for a file that is not what was pinned."""
    return HashMismatch(
        f"{name} from {origin} is not the pinned file: its sha256 is {seen}, not {expected}; {where}",
        hint="if the file was damaged on its way, run the same command again; if it really is to be another "
        "source, name that with --source (tarball:FILE-or-URL#sha256=…, git:REPOSITORY@REF, dir:PATH): the "
        "sign-off will then say that it is not release grade",
    )
