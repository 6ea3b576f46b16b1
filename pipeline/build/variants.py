"""Builds that start from a kept tree: a change of one file costs what depends on it, not a whole build.

The tree of a whole build (its objects, and content and time of every source file) is kept for each
profile, architecture, workplace and configuration. A later build unpacks, patches and configures its
source as always, and takes the objects of the kept tree if make can be trusted with the difference
(`pipeline.build.hook`); then it makes, installs and packs. Spec and source RPM know nothing of it: the
hook stands in the place of make. `prove` makes the same from nothing and compares package by package, bit
by bit; a tree that ever gave another one is dropped.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.build import rpmbuild, scratch
from pipeline.build.builder import Builder, source_archive
from pipeline.build.rpmbuild import Ingredients
from pipeline.core import paths, store
from pipeline.core.arch import arch
from pipeline.core.errors import WorldError
from pipeline.core.outcome import Target
from pipeline.core.progress import say, step, warn
from pipeline.core.store import Stored, file_sha256
from pipeline.source.patchfile import Patch

HOOK = Path(__file__).with_name("hook.py")
KIND, TREES = "variant", "trees"
#: the files of a kept tree
TREE = ("objects.tar", "manifest.json")
#: Bytes that all kept trees may take together (one of glibc takes 1.0 GB); the least recently used go first.
ROOM = 6 << 30


@dataclass(frozen=True)
class Variant:
    """A target with further patches at the end of its series."""

    target: Target
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True)
class Difference:
    """A package that a variant made differently from a build from nothing."""

    package: str
    variant: str
    whole: str


def tree_inputs(builder: Builder, target: Target) -> dict[str, Any]:
    """What decides whether a kept tree can serve a build of ``target``."""
    inputs = builder.inputs(target)
    configuration = [line for line in inputs["release"].splitlines() if "glibc_release" not in line]
    return {
        "configuration": configuration,
        "profile": target.profile,
        "arch": target.arch,
        "workplace": inputs["workplace"],
        "spec": inputs["spec"],
        "hook": file_sha256(HOOK),
    }


def kept_tree(builder: Builder, like: Target) -> Stored:
    """The kept tree for ``like``'s profile and architecture, made by a whole build of it if there is none.

    The packages of that build must be those of the plain build, bit by bit, if there is one. Raises as
    `Builder.make`, and `WorldError` if they are not.
    """
    inputs = tree_inputs(builder, like)
    if found := store.peek(TREES, inputs):
        os.utime(found.path)
        return found

    def make(into: Path) -> None:
        made = into / "made"
        made.mkdir()
        _build(builder, Variant(like), made, None, keep=True)
        hooks = made / "rpmbuild" / "hooks"
        if not (hooks / "objects.tar").is_file():
            raise WorldError(
                f"{like}: its tree cannot be kept: make changed the source itself",
                hint="build without variants; the log says which file",
            )
        for name in TREE:
            (hooks / name).rename(into / name)
        plain = builder.find(like)
        if plain and (wrong := differences(made / "RPMS", plain.rpms)):
            raise WorldError(
                f"{like}: the build whose tree is kept made another {wrong[0].package} than the plain one",
                hint="build without variants, and report this: the build is not reproducible here",
            )
        store.remove_tree(made)

    with step(f"keep a tree of {like}"):
        entry = store.produce(TREES, inputs, make)
    evict(entry.path)
    return entry


def evict(used: Path, room: int | None = None) -> None:
    """Drop the least recently used trees until all together fit into ``room``; ``used`` stays."""
    trees = [t for t in (paths.state() / TREES).iterdir() if (t / "objects.tar").is_file()]
    trees.sort(key=lambda t: t.stat().st_mtime, reverse=True)
    total = 0
    for tree in trees:
        total += sum(f.stat().st_size for f in tree.iterdir())
        if total > (ROOM if room is None else room) and tree != used:
            store.remove_tree(tree)


def build(builder: Builder, variant: Variant, tree: Target) -> Path:
    """The directory of a variant's RPMs, built from the kept tree of ``tree`` if it is not there yet.

    Raises as `Builder.make`.
    """
    inputs = {
        "target": builder.inputs(variant.target),
        "patches": [p.sha256 for p in variant.patches],
        "hook": file_sha256(HOOK),
    }
    if found := store.peek(KIND, inputs):
        return found.path / "RPMS"
    kept = kept_tree(builder, tree)

    def make(into: Path) -> None:
        said = _build(builder, variant, into, kept.path)
        at.done(f"{len(said['changed'])} files differ" if said["resumed"] else f"whole: {said['why']}")
        store.remove_tree(into / "rpmbuild")

    title = f"build {variant.target} changed" if variant.patches else f"build {variant.target} as a variant"
    with step(title) as at:
        return store.produce(KIND, inputs, make).path / "RPMS"


def _build(
    builder: Builder, variant: Variant, into: Path, kept: Path | None, *, keep: bool = False
) -> dict[str, Any]:
    """Run rpmbuild below ``into``; returns what the hook said of the kept tree. ``keep``: keep this one's."""
    target = variant.target
    machine = arch(target.arch)
    workplace = builder.workplace(machine)
    release = builder.profile.get(target.release)
    absent = {record.file for record in builder.records(target) if not record.present}
    patches = (*(p for p in builder.patches(target) if p.file in absent), *variant.patches)
    top = into / "rpmbuild"
    hooks = top / "hooks"
    (hooks / "bin").mkdir(parents=True)
    (hooks / "bin" / "make").write_text(f"#!/usr/bin/env python3\n{HOOK.read_text()}")
    (hooks / "bin" / "make").chmod(0o755)
    if keep:
        (hooks / "keep").touch()
    if kept:
        (hooks / "kept").mkdir()
        for name in TREE:
            store.link_or_copy(kept / name, hooks / "kept" / name)
    archive, topdir = source_archive(builder.source, into)
    Ingredients(
        archive=archive,
        patches=[p.path for p in patches],
        release_inc=rpmbuild.release_inc(builder.profile, release, archive=archive.name, topdir=topdir),
        patches_inc=rpmbuild.patches_inc([p.path.name for p in patches]),
        spec=paths.SPECS / "glibc.spec",
    ).lay_out(top)
    log = paths.logs() / f"variant-{target.profile}-{target.release}-{target.arch}-{into.name.strip('.')}.log"
    log.unlink(missing_ok=True)
    rpmbuild.rpmbuild(
        workplace, machine, target.profile, top, log=log, at=lambda _: None, in_memory=scratch.in_memory(),
        first_in_path=workplace.at("/build/hooks/bin", hooks / "bin"),
    )  # fmt: skip
    rpmbuild.collect(top, into / "RPMS")
    store.remove_tree(into / "source")
    said: dict[str, Any] = json.loads((hooks / "said.json").read_text())
    return said


def differences(one: Path, other: Path) -> list[Difference]:
    """The packages (the source package too) of two directories that are not bit for bit the same, by name."""

    def read(directory: Path) -> dict[str, str]:
        return {p.name: file_sha256(p) for p in directory.glob("*.rpm")}

    ours, theirs = read(one), read(other)
    names = sorted({*ours, *theirs})
    return [
        Difference(n, ours.get(n, "absent"), theirs.get(n, "absent"))
        for n in names
        if ours.get(n) != theirs.get(n)
    ]


def prove(builder: Builder, variant: Variant, tree: Target) -> Sequence[Difference]:
    """Make a variant, and the same from nothing; a kept tree that led to another package is dropped.

    What a plain target makes from nothing is its build, which is taken from the store if it is there.
    """
    rpms = build(builder, variant, tree)
    if not variant.patches:
        wrong = differences(rpms, builder.build(variant.target).rpms)
    else:
        with tempfile.TemporaryDirectory(dir=paths.state(), prefix="again-") as work:
            whole = Path(work) / "whole"
            whole.mkdir()
            with step(f"build {variant.target} from nothing"):
                _build(builder, variant, whole, None)
            wrong = differences(rpms, whole / "RPMS")
    if not wrong:
        say(f"{variant.target}: the variant's packages are those of a build from nothing, bit by bit")
        return wrong
    warn(f"{variant.target}: {wrong[0].package} differs; the kept tree and the variant are dropped")
    store.remove_tree(rpms.parent)
    if found := store.peek(TREES, tree_inputs(builder, tree)):
        store.remove_tree(found.path)
    return wrong
