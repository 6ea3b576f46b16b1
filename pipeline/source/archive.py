"""Unpacking: an archive becomes a tree with one top directory, or one clear error."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import CommandFailed, SourceUnreachable, ToolMissing, UsageError
from pipeline.core.run import run


def unpack(archive: Path, into: Path, *, topdir: str = "") -> Path:
    """Unpack a tar archive (any compression tar knows) and return its top directory.

    ``topdir`` is the name it must have ("" accepts any single directory). GNU tar is used, as it is quick
    and refuses names that lead out of ``into``; Debian 12's own Python has no tarfile filters yet.
    Raises `SourceUnreachable` for an archive that is truncated or no archive, `UsageError` if there is not
    exactly one top directory or it is not a glibc tree.
    """
    into.mkdir(parents=True, exist_ok=True)
    before = set(into.iterdir())
    try:
        run(["tar", "--extract", "--file", archive, "--directory", into, "--no-same-owner"], timeout=900)
    except CommandFailed as e:
        if "Cannot exec" in e.tail:
            raise ToolMissing(
                f"tar cannot unpack {archive.name}: {_first(e.tail)}",
                hint="install the decompressor it names (xz-utils, zstd), or run `nox -s setup`",
            ) from e
        raise SourceUnreachable(
            f"{archive} cannot be unpacked; it is truncated, damaged or no tar archive: {_first(e.tail)}",
            hint="fetch it again, and give its hash (--source tarball:FILE#sha256=…) to have it verified",
        ) from e
    if _lacks_end(archive):
        raise SourceUnreachable(
            f"{archive} cannot be unpacked; it is truncated, damaged or no tar archive: it has no end",
            hint="fetch it again, and give its hash (--source tarball:FILE#sha256=…) to have it verified",
        )
    new = sorted(p for p in into.iterdir() if p not in before)
    if topdir:
        if into / topdir not in new:
            raise UsageError(
                f"{archive.name} has no directory {topdir}", hint="correct topdir in the profile's [source]"
            )
        return check_tree(into / topdir)
    if len(new) != 1 or not new[0].is_dir():
        names = ", ".join(p.name for p in new[:5]) or "nothing"
        raise UsageError(
            f"{archive.name} must hold one top directory, but holds {names}",
            hint="pack the source tree as one directory, or give it with --source dir:PATH",
        )
    return check_tree(new[0])


def _lacks_end(archive: Path) -> bool:
    """Whether a tar archive that is not compressed was cut between two members, which GNU tar passes over."""
    with archive.open("rb") as f:
        f.seek(257)
        if f.read(5) != b"ustar":  # compressed: the compressor's own end mark was looked for
            return False
        f.seek(-min(1024, archive.stat().st_size), 2)
        return f.read() != bytes(1024)


def _first(tail: str) -> str:
    """The first complaint; the ones after it follow from it."""
    return next((line for line in tail.splitlines() if line.strip()), "no reason given")


def check_tree(top: Path) -> Path:
    """``top`` if it looks like glibc; raises `UsageError` else."""
    if not (top / "version.h").is_file():
        raise UsageError(
            f"{top.name} is no glibc source tree: it has no version.h",
            hint="name the top directory of a glibc source tree",
        )
    return top
