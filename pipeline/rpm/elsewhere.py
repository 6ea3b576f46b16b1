"""The packages of a build as they would be if it had been made in another directory.

rpm (from 4.18 on) writes the expanded spec into the source package, with the directory of the build in it,
and every other package carries the source package's digest. Nothing else in a package may name the directory.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.rpm.package import SIG_MD5
from pipeline.rpm.writing import BINARY, Parts

#: The expanded spec, and the digest of the source package (rpm's ``rpmtag.h``).
SPEC, SOURCEPKGID = 5099, 1146


def moved(rpms: Path, directory: str, to: str) -> None:
    """Write the packages in ``rpms`` anew, with ``to`` for ``directory`` in the source package's spec.

    Packages that carry the source package's digest get its new one; all else stays as it is, byte for byte.
    One that is not written as rpm writes it (digests that are not its own, values that nothing names) is left
    alone, so that it differs. Raises `MalformedInput`.
    """
    ids = {}
    for path in rpms.glob("*.src.rpm"):
        parts = _parts(path)
        if parts is None or SPEC not in parts.header.values:
            continue
        before = parts.signature.values.get(SIG_MD5)
        parts.header.keep_type(SPEC, [text.replace(directory, to) for text in parts.header.strings(SPEC)])
        raw = parts.written()
        path.write_bytes(raw)
        if before:
            ids[before[1]] = Parts.of(raw, str(path)).signature.values[SIG_MD5][1]
    for path in rpms.glob("*.rpm"):
        parts = _parts(path)
        if parts is None:
            continue
        _, source = parts.header.values.get(SOURCEPKGID, (BINARY, b""))
        if source in ids:
            parts.header.values[SOURCEPKGID] = (BINARY, ids[source])
            path.write_bytes(parts.written())


def _parts(path: Path) -> Parts | None:
    """A package taken apart; None if it would not be the same when it is put together."""
    raw = path.read_bytes()
    parts = Parts.of(raw, str(path))
    return parts if parts.written() == raw else None
