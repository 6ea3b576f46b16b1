"""What of a release's root is carried to a place that does not share our file system.

A root holds every package of a release; programs that are run need little of it: the loader, the shared
libraries, and the configuration they read. The rest (`LEFT_OUT`) is most of the bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

#: Directories below a root that no job needs: headers, locales (jobs run in the C locale, which is built
#: in), message catalogues and manuals, separate debug information, sources. Every DSO is carried, gconv's
#: modules too: `rseq.relro` loads them all.
LEFT_OUT = (
    "boot", "usr/include", "usr/share", "usr/src", "usr/lib/debug", "usr/lib/locale", "usr/libexec",
    "var/lib", "var/cache", "var/db",
    "proc", "sys", "dev", "tmp", "probes",
)  # fmt: skip
#: Static libraries and start files: nothing is linked at a place.
LEFT_OUT_SUFFIXES = (".a", ".o")
#: Left-out directories that must be there, empty, as places to mount on.
MOUNT_POINTS = ("proc", "sys", "dev", "tmp", "probes")


@dataclass(frozen=True)
class Carried:
    """One thing to carry: its path relative to the root and where it lies here (never followed)."""

    name: str
    path: Path

    @property
    def mode(self) -> int:
        """Kind and permissions, ``st_mode``."""
        return self.path.lstat().st_mode


def needed(name: PurePosixPath) -> bool:
    """Whether the path ``name`` (relative to a root) is carried."""
    text = name.as_posix()
    if any(text == left or text.startswith(f"{left}/") for left in LEFT_OUT):
        return False
    return name.suffix not in LEFT_OUT_SUFFIXES


def items(root: Path, *, filtered: bool) -> Iterator[Carried]:
    """Everything below ``root`` that is carried, parents before children, in a fixed order.

    ``filtered`` applies `needed`; overlays are carried whole. Symbolic links are items, not followed;
    sockets, pipes and devices are not carried.
    """
    for directory, dirs, files in os.walk(root):
        base = Path(directory)
        links = [d for d in dirs if (base / d).is_symlink()]
        dirs[:] = sorted(
            d for d in dirs if d not in links and (not filtered or needed(_relative(base / d, root)))
        )
        if base != root:
            yield Carried(_relative(base, root).as_posix(), base)
        for name in sorted(files + links):
            path = base / name
            where = _relative(path, root)
            if (path.is_symlink() or path.is_file()) and (not filtered or needed(where)):
                yield Carried(where.as_posix(), path)


def _relative(path: Path, root: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(root).as_posix())


def content_key(path: Path) -> tuple[int, int, str]:
    """Two regular files with the same key are the same file: permissions, size and sha256."""
    status = path.stat()
    with path.open("rb") as f:
        return status.st_mode & 0o7777, status.st_size, hashlib.file_digest(f, "sha256").hexdigest()
