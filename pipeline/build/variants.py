"""Builds with further patches, from a kept tree: a change of one file costs what depends on it.

A build of a variant unpacks, patches and configures its source as always, and takes the objects of a kept
tree (`pipeline.build.trees`) if make can be trusted with the difference; then it makes, installs and packs.
Spec and source RPM know nothing of it. `prove` makes the same from nothing and compares package by package,
bit by bit; trees that ever gave another one are dropped.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.build import rpmbuild, scratch, tarball, trees
from pipeline.build.builder import Builder
from pipeline.build.rpmbuild import Ingredients
from pipeline.build.stored import MANIFEST
from pipeline.core import paths, store
from pipeline.core.arch import arch
from pipeline.core.errors import WorldError
from pipeline.core.outcome import Target
from pipeline.core.progress import say, step, warn
from pipeline.core.store import file_sha256
from pipeline.source.patchfile import Patch

KIND = "variant"
#: in a stored variant: the key of the kept tree it began with, "" for none; and that in words
BEGUN = "begun.json"


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


@dataclass(frozen=True)
class Proof:
    """What differs from a build from nothing, and the key of the kept tree that was tried.

    ``tree`` "": the build began from nothing too, ``why`` says for what reason, so nothing was proved.
    """

    wrong: Sequence[Difference]
    tree: str
    why: str = ""


def keep_tree(builder: Builder, like: Target, *, other_than: Target | None = None) -> None:
    """See that there is a tree which builds of ``like``'s profile and architecture may begin with.

    ``other_than``: of another source than that target's. If there is none, ``like`` is built from nothing
    and must give the packages of the plain build if there is one. Raises as `Builder.make`, and `WorldError`
    if it does not or if no tree can be kept.
    """
    of = other_than or like
    if trees.kept(of, builder.inputs(of), others=other_than is not None):
        return
    with tempfile.TemporaryDirectory(dir=paths.state(), prefix="kept-") as work:
        builder.again(like, Path(work), keep=True)
        plain = builder.find(like)
        wrong = differences(Path(work) / "RPMS", plain.rpms) if plain else []
    if wrong:
        trees.drop(like, builder.inputs(like))
        raise WorldError(
            f"{like}: the build whose tree is kept made another {wrong[0].package} than the plain one",
            hint="build without variants, and report this: the build is not reproducible here",
        )
    if not trees.kept(like, builder.inputs(like)):
        raise WorldError(
            f"{like}: its tree cannot be kept: make changed the source itself, or there is no room",
            hint="build without variants; the log says why",
        )


def build(builder: Builder, variant: Variant, tree: Target, *, fresh: bool = False) -> Path:
    """The directory of a variant's RPMs, built from a kept tree (``tree``'s if there is none) if need be.

    A plain target that is not ``tree`` begins with another source's objects than its own. ``fresh``: it is
    made anew, with the trees there are now.

    Raises as `Builder.make`.
    """
    inputs = {
        "target": builder.inputs(variant.target),
        "patches": [p.sha256 for p in variant.patches],
        "hook": file_sha256(trees.HOOK),
    }
    if found := store.peek(KIND, inputs):
        if not fresh:
            return found.path / "RPMS"
        store.remove_tree(found.path)
    plain = variant.target if not variant.patches and variant.target != tree else None
    keep_tree(builder, tree, other_than=plain)

    def make(into: Path) -> None:
        of = variant.target
        at.done(_build(builder, variant, into, trees.kept(of, builder.inputs(of), others=plain is not None)))

    title = f"build {variant.target} changed" if variant.patches else f"build {variant.target} as a variant"
    with step(title) as at:
        return store.produce(KIND, inputs, make).path / "RPMS"


def _build(builder: Builder, variant: Variant, into: Path, kept: Sequence[Path]) -> str:
    """Run rpmbuild below ``into``; returns in words what it began with."""
    target = variant.target
    machine = arch(target.arch)
    workplace = builder.workplace(machine)
    release = builder.profile.get(target.release)
    absent = {record.file for record in builder.records(target) if not record.present}
    patches = (*(p for p in builder.patches(target) if p.file in absent), *variant.patches)
    top = into / "rpmbuild"
    first = trees.lay_out(top, kept, keep=False)
    archive, topdir = tarball.source_archive(builder.source, into)
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
        first_in_path=workplace.at("/build/hooks/bin", first),
    )  # fmt: skip
    rpmbuild.collect(top, into / "RPMS")
    began = trees.begun(top)
    (into / BEGUN).write_text(json.dumps(began))
    store.remove_tree(top)
    store.remove_tree(into / "source")
    return began[1]


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


def prove(builder: Builder, variant: Variant, tree: Target) -> Proof:
    """Make a variant with the trees there are now, and the same from nothing.

    A plain target's build is taken from the store if it is there: it is one of the two, as it was made. On a
    difference the kept trees are dropped, and every stored build that began with one of them.
    """
    target = variant.target
    with tempfile.TemporaryDirectory(dir=paths.state(), prefix="again-") as work:
        whole = Path(work)
        plain = None if variant.patches else builder.build(target)
        if plain and plain.manifest.tree:
            rpms, began, why = plain.rpms, plain.manifest.tree, ""
            builder.again(target, whole)
            wrong = differences(rpms, whole / "RPMS")
        else:
            rpms = build(builder, variant, tree, fresh=True)
            began, why = json.loads((rpms.parent / BEGUN).read_text())
            if not plain:
                with step(f"build {target} from nothing"):
                    _build(builder, variant, whole, ())
            wrong = differences(rpms, plain.rpms if plain else whole / "RPMS")
    if wrong:
        warn(f"{target}: {wrong[0].package} differs; the kept trees and what was built from one are dropped")
        store.remove_tree(rpms.parent)
        _drop_made_from({began, *trees.drop(tree, builder.inputs(tree))} - {""})
    elif began:
        say(f"{target}: its packages from a kept tree are those of a build from nothing, bit by bit")
    else:
        say(f"{target}: nothing is proved of kept trees, for it was built {why}")
    return Proof(wrong, began, why)


def _drop_made_from(keys: Collection[str]) -> None:
    """Drop every stored build and variant that began with one of these trees."""
    for kind, file in (("build", MANIFEST), (KIND, BEGUN)):
        for record in (paths.state() / kind).glob(f"[0-9a-f]*/{file}"):
            try:
                said = json.loads(record.read_text())
            except (OSError, ValueError):  # no record of a whole build
                continue
            if (said["tree"] if isinstance(said, dict) else said[0]) in keys:
                store.remove_tree(record.parent)
