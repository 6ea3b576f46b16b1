"""Kept trees: the objects of builds from nothing, with which later builds of the same configuration begin.

A tree holds the objects, and content and time of every source file (`pipeline.build.hook`, which runs in the
build in the place of make, decides what of it can be used). Builds hold links to the trees that they were
offered, so a tree may be dropped at any time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.build import hook
from pipeline.core import paths, store
from pipeline.core.outcome import Target
from pipeline.core.store import file_sha256

HOOK = Path(hook.__file__)
KIND = "trees"
#: the files of a kept tree
TREE = (hook.OBJECTS, hook.MANIFEST)
#: Bytes that all kept trees may take together (one of glibc takes 0.5 GB); the least recently used go first.
ROOM = 6 << 30
#: How many are offered to a build, the last used first.
OFFERED = 4
#: What a build prints when its objects are kept, or are not to be.
SETTLED, KEPT = "keep: ", "keep: the objects"


def wanted() -> bool:
    """Whether builds begin with kept objects: PIPELINE_TREES, ``yes`` or ``no``."""
    return os.environ.get("PIPELINE_TREES", "") != "no"


def configuration(target: Target, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What of a build's inputs decides whether a kept tree can serve it (the source does not)."""
    return {
        "configuration": [line for line in inputs["release"].splitlines() if "glibc_release" not in line],
        "profile": target.profile,
        "arch": target.arch,
        "workplace": inputs["workplace"],
        "spec": inputs["spec"],
        "hook": file_sha256(HOOK),
    }


def _of(target: Target, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "configuration": configuration(target, inputs),
        "source": inputs["source"],
        "patches": inputs["patches"],
    }


def kept(target: Target, inputs: Mapping[str, Any], *, others: bool = False) -> list[Path]:
    """The trees that a build of ``target`` may begin with, the last used first.

    ``others``: only those of another source or other patches, which a proof is to begin with.
    """
    ours = _of(target, inputs)
    found = []
    for record in (paths.state() / KIND).glob(f"[0-9a-f]*/{store.INPUTS}"):
        with suppress(OSError, ValueError):
            theirs = json.loads(record.read_text())
            if theirs.get("configuration") == ours["configuration"] and not (others and theirs == ours):
                found.append((record.parent.stat().st_mtime_ns, record.parent))
    return [path for _, path in sorted(found, reverse=True)]


def lay_out(top: Path, trees: Sequence[Path], *, keep: bool) -> Path:
    """Put the hook below ``top`` with links to ``trees``; returns the directory to come first in PATH.

    ``keep``: a build that begins from nothing keeps its objects. A tree that is gone is left out.
    """
    hooks = top / "hooks"
    (hooks / "bin").mkdir(parents=True)
    (hooks / "bin" / "make").write_text(f"#!/usr/bin/env python3\n{HOOK.read_text()}")
    (hooks / "bin" / "make").chmod(0o755)
    if keep:
        (hooks / hook.KEEP).touch()
    for tree in trees[:OFFERED]:
        here = hooks / "kept" / tree.name
        here.mkdir(parents=True)
        try:
            for name in TREE:
                store.link_or_copy(tree / name, here / name)
        except FileNotFoundError:
            shutil.rmtree(here)
    return hooks / "bin"


def begun(top: Path) -> tuple[str, str]:
    """The key of the tree that a build below ``top`` began with ("": none), and that in words."""
    said = json.loads((top / "hooks" / hook.SAID).read_text())
    tree: str = said["resumed"]
    if not tree:
        return "", f"from nothing: {said['why']}"
    with suppress(OSError):  # dropped meanwhile
        os.utime(paths.state() / KIND / tree)
    changed = len(said["changed"])
    return tree, f"from a kept tree, {changed} file{'s'[: changed != 1]} differ{'s'[: changed == 1]}"


def publish(top: Path, target: Target, inputs: Mapping[str, Any]) -> Path:
    """Take the objects that a build below ``top`` kept; returns the tree, which is there then for others."""

    def make(into: Path) -> None:
        for name in TREE:
            shutil.move(top / "hooks" / name, into / name)

    entry = store.produce(KIND, _of(target, inputs), make)
    evict(entry.path)
    return entry.path


def evict(used: Path, room: int | None = None) -> None:
    """Drop the least recently used trees until all together fit into ``room``; ``used`` stays."""
    trees = []
    for tree in (paths.state() / KIND).iterdir():
        with suppress(OSError):  # another process dropped it
            size = sum((tree / name).stat().st_size for name in TREE)
            trees.append((tree.stat().st_mtime_ns, tree, size))
    total = 0
    for _, tree, size in sorted(trees, reverse=True):
        total += size
        if total > (ROOM if room is None else room) and tree != used:
            store.remove_tree(tree)


def drop(target: Target, inputs: Mapping[str, Any]) -> list[str]:
    """Drop every tree that a build of ``target`` may begin with; returns their keys."""
    dropped = kept(target, inputs)
    for tree in dropped:
        store.remove_tree(tree)
    return [tree.name for tree in dropped]
