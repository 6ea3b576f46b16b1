"""From an entry's changes to a patch file, made against the patched source that it is about."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from pipeline.build.builder import Builder
from pipeline.core import store
from pipeline.core.errors import UsageError
from pipeline.core.outcome import Target
from pipeline.core.progress import step
from pipeline.knownbad.entry import Change
from pipeline.source import patchfile, series
from pipeline.source.patchfile import Patch

_HEADER = """\
Subject: {title}
Why: A known-bad build, to see that the checks find it.
Upstream: none
Author: glibc-backport-pipeline
Signed-off-by: glibc backport pipeline maintainers <maintainers@localhost>
Licence: LGPL-2.1-or-later
---
"""
_NOTHING = "/dev/null"


def patched(builder: Builder, target: Target) -> Path:
    """The source of a target with its series applied, made once."""
    inputs = {
        "source": builder.source.identity,
        "patches": [p.sha256 for p in builder.patches(target)],
    }

    def make(into: Path) -> None:
        tree = builder.source.unpack(into / "unpacked")
        for patch in builder.patches(target):
            series.apply_patch(patch, tree)
        tree.rename(into / "tree")
        store.remove_tree(into / "unpacked")

    with step(f"patch the source of {target.profile} {target.release}"):
        return store.produce("patched", inputs, make).path / "tree"


def patch(title: str, changes: Sequence[Change], tree: Path, into: Path) -> Patch:
    """The changes of ``tree`` as a patch file at ``into``. Raises `UsageError` for one that does not fit."""
    text = _HEADER.format(title=title)
    by_file: dict[str, list[Change]] = {}
    for change in changes:
        by_file.setdefault(change.file, []).append(change)
    for file, wanted in sorted(by_file.items()):
        path = tree / file
        old: str | None = path.read_text() if path.is_file() else None
        new = old
        for change in wanted:
            new = _changed(change, new)
        text += _diff(file, old, new)
    into.write_text(text)
    return patchfile.read(into)


def _changed(change: Change, old: str | None) -> str | None:
    if change.add:
        if old is not None:
            raise UsageError(f"{change.file} is there already", hint="correct the entry's change")
        return change.add
    if old is None:
        raise UsageError(f"the source has no {change.file}", hint="correct the entry's change")
    if change.remove:
        return None
    found = old.count(change.find)
    if found != change.count:
        raise UsageError(
            f"{change.file} has {found} times, not {change.count}: {change.find.strip()!r}",
            hint="correct the entry's change",
        )
    return old.replace(change.find, change.replace)


def _diff(file: str, old: str | None, new: str | None) -> str:
    before = [] if old is None else old.splitlines(keepends=True)
    after = [] if new is None else new.splitlines(keepends=True)
    return "".join(
        difflib.unified_diff(
            before,
            after,
            _NOTHING if old is None else f"a/{file}",
            _NOTHING if new is None else f"b/{file}",
            n=2,
        )
    )
