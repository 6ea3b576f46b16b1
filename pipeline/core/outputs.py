"""Where results are to go: found wanting before what takes long, not after it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import UsageError


def check_writable(outdir: Path, what: str = "the report", option: str = "--out DIR") -> None:
    """Make ``outdir`` and write into it for a moment; raises `UsageError` if ``what`` cannot go there.

    To be asked before what takes long. ``option`` names another place.
    """
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=outdir) as f:
            f.write(b"x")
    except OSError as e:
        file = next((p for p in (outdir, *outdir.parents) if p.exists() and not p.is_dir()), None)
        why = f"{file} is no directory" if file else e.strerror
        raise UsageError(
            f"{what} cannot go to {outdir}: {why}", hint=f"name a directory that can be written: {option}"
        ) from None


def check_files(files: Mapping[str, Path | None]) -> None:
    """As `check_writable`, for the files that options name (option as written -> file, None if not given)."""
    for option, file in files.items():
        if file:
            check_writable(file.absolute().parent, "the result", option)
