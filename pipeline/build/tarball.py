"""Which tarball a spec is built from: the source's own, or a tree of it that is packed here.

A distribution's spec has it beside it, in a look-aside, or it is the profile's source. Where the layout
has the tarball's digest, that decides. Where it has none (a directory filled by ``rpm -i``), the sign-off
says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.build.checkout import ALGORITHMS, SPEC, Checkout, digest_of
from pipeline.core import store
from pipeline.core.errors import UsageError
from pipeline.core.run import run
from pipeline.rpm import SOURCE_DATE_EPOCH
from pipeline.source import FetchedSource

#: The compressors' own options, which tar passes on: what is packed is read a few times only.
_QUICK = {"XZ_OPT": "-0"}
#: What the top directory of a source is called that is packed here: debug information has the name, and it
#: must not be that of the user's directory or of a commit.
TOP = "glibc"
#: Kinds of --source that are trees. Only a user names one, and no digest of a tarball says anything of it.
TREES = ("dir", "git")


def find(checkout: Checkout, name: str, topdir: str, source: Callable[[], FetchedSource]) -> tuple[Path, str]:
    """The tarball called ``name`` in the spec, and what says that it is the right one.

    ``topdir`` is the directory in it that the spec works in.

    ``source`` gives the profile's source, if it comes to that. Raises `UsageError`.
    """
    if checkout.digests is None:
        return _unlisted(checkout, name, topdir, source)
    wanted = checkout.digests.get(name)
    if wanted is None:
        raise UsageError(
            f"{checkout.origin}: nothing lists {name}, which {SPEC} builds from",
            hint="add it to sources (`sha512sum --tag FILE` prints the line) or .glibc.metadata",
        )
    kind = ALGORITHMS[len(wanted)]
    vouched = f"its {kind} is listed"
    beside = checkout.directory / name
    if beside.is_file():
        seen = digest_of(beside, wanted)
        if seen != wanted:
            raise UsageError(
                f"{checkout.origin}: {name} beside the spec is not the one that is listed: "
                f"its {kind} is {seen[:16]}…, not {wanted[:16]}…",
                hint="fetch it again (`fedpkg sources`, `centpkg sources`), or correct the list",
            )
        return beside, vouched
    for path in _in(checkout.lookaside, (name, wanted)):
        if digest_of(path, wanted) == wanted:
            return _named(path, name, checkout), vouched
    fetched = source()
    if fetched.record.kind in TREES:
        return _packed(fetched, name, topdir)
    seen = digest_of(fetched.file, wanted) if fetched.file else ""
    if fetched.file is None or seen != wanted:
        what = f"{fetched.file.name} with {kind} {seen[:16]}…" if fetched.file else f"a {fetched.record.kind}"
        raise UsageError(
            f"{checkout.origin} wants {name} with {kind} {wanted[:16]}…, and the source is {what}",
            hint=_ways(name),
        )
    return fetched.file, vouched


def _unlisted(
    checkout: Checkout, name: str, topdir: str, source: Callable[[], FetchedSource]
) -> tuple[Path, str]:
    """The tarball where nothing but its name is known."""
    beside = checkout.directory / name
    if beside.is_file():
        return beside, "as it lies there: nothing lists its digest"
    found = {store.file_sha256(p): p for p in _in(checkout.lookaside, (name,))}
    if len(found) > 1:
        raise UsageError(
            f"{checkout.origin}: {' and '.join(map(str, found.values()))} differ, and nothing lists a digest",
            hint=f"put the right one beside the other sources as {name}",
        )
    if found:
        return next(iter(found.values())), "from a look-aside directory: nothing lists its digest"
    fetched = source()
    if fetched.record.kind in TREES:
        return _packed(fetched, name, topdir)
    if fetched.file is None or fetched.file.name != name:
        what = fetched.file.name if fetched.file else f"a {fetched.record.kind}"
        raise UsageError(f"{checkout.origin} wants {name}, and the source is {what}", hint=_ways(name))
    return fetched.file, "the profile's" if fetched.record.pinned else "from --source"


def _packed(fetched: FetchedSource, name: str, topdir: str) -> tuple[Path, str]:
    """The tree that the user named as a tarball of that name; equal trees make equal tarballs."""

    def make(into: Path) -> None:
        tree = fetched.unpack(into / "tree")
        pack(tree, into / name, topdir)
        store.remove_tree(into / "tree")

    inputs = {"source": fetched.identity, "name": name, "topdir": topdir, "form": 1}
    what = f"packed from --source {fetched.record.origin}, which no digest of it can be compared with"
    return store.produce("packed", inputs, make).path / name, what


def source_archive(source: FetchedSource, into: Path) -> tuple[Path, str]:
    """The source as an archive for the source RPM, and the name of its top directory.

    A tarball of a known form is taken as it is; any other source is packed so that equal trees make equal
    archives (`TOP`).
    """
    if source.file and source.topdir:
        return source.file, source.topdir
    tree = source.unpack(into / "source")
    packed = into / "source" / f"{TOP}.tar"
    pack(tree, packed, TOP)
    return packed, TOP


def pack(tree: Path, archive: Path, topdir: str) -> None:
    """Pack a tree as ``archive``, its top directory called ``topdir``; equal trees make equal archives."""
    order = [
        "--sort=name",
        f"--mtime=@{SOURCE_DATE_EPOCH}",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=u=rwX,go=rX",  # as trees are compared: of a mode only the executable bit counts
        f"--transform=flags=r;s,^{re.escape(tree.name)}\\(/\\|$\\),{topdir}\\1,",
    ]
    run(["tar", "-C", tree.parent, *order, "--exclude=.git", "-caf", archive, tree.name], env=_QUICK)


def _ways(name: str) -> str:
    return (
        f"put {name} beside the spec (in SOURCES), name a directory that has it with --lookaside, or give it "
        "with --source tarball:FILE-or-URL"
    )


def _in(directories: Sequence[Path], names: Sequence[str]) -> Iterator[Path]:
    """Files called so anywhere below a look-aside directory (NAME/FILE/sha512/HEX/FILE, or just HEX)."""
    for directory in directories:
        yield from sorted(p for p in directory.rglob("*") if p.name in names and p.is_file())


def _named(path: Path, name: str, checkout: Checkout) -> Path:
    """The file under the name the spec has for it: some look-asides name files by their digest."""
    if path.name == name:
        return path
    link = checkout.directory.parent / "lookaside" / store.digest(str(path.resolve())) / name
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        link.symlink_to(path.resolve())
    return link
