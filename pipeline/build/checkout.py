"""A distribution's inputs in the layouts in which people have them, brought into one form.

The form is a directory in the store with the spec, the patches and every other file side by side. A layout
is: a flat dist-git with ``sources``; ``SPECS/`` and ``SOURCES/`` with ``.NAME.metadata``; a directory that
``rpm -i`` filled; a source RPM; a git branch whose commits are the series.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.core import paths, store
from pipeline.core.errors import EvidenceError, HashMismatch, UsageError
from pipeline.core.progress import warn
from pipeline.core.run import run
from pipeline.rpm import package
from pipeline.rpm import spec as specfile
from pipeline.source import branch, vcs
from pipeline.source.address import without_password
from pipeline.source.branch import Branch

SPEC = "glibc.spec"
#: What --distgit accepts, for messages.
FORMS = (
    "a dist-git (glibc.spec and sources, or SPECS/, SOURCES/ and .glibc.metadata), a directory that `rpm -i` "
    "filled, a source RPM, REPOSITORY@REF, or REPOSITORY@BASE..BRANCH for a branch whose commits are patches"
)
#: Length in hexadecimal digits -> algorithm.
ALGORITHMS = {40: "sha1", 64: "sha256", 128: "sha512"}

_REF = r"\w[\w./+-]*"
_ENTRY = re.compile(r"^SHA512 \(([^()/]+)\) = ([0-9a-f]{128})$")
_METADATA = re.compile(r"^([0-9a-f]+) [ *]?(?:SOURCES/)?([^\s/]+)$")
#: rpm's flag of the file in a source package that is its spec (``rpmfiles.h``)
_SPECFILE = 32


@dataclass(frozen=True)
class Checkout:
    """What the user named, copied: ``origin`` says where it is from.

    ``digests`` maps file names to a digest (the algorithm by its length) wherever the layout has them, and
    is None where it has no such list. ``lookaside`` are directories that may hold the tarball. ``series``:
    the commits of a branch, which has no spec, in place of everything in ``directory``.
    """

    directory: Path
    origin: str
    digests: Mapping[str, str] | None
    lookaside: tuple[Path, ...] = ()
    series: Branch | None = None


def digest_of(path: Path, wanted: str) -> str:
    """The digest of a file, by the algorithm of ``wanted`` (see `ALGORITHMS`)."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, ALGORITHMS[len(wanted)]).hexdigest()


def fetch(where: str, lookaside: Sequence[Path] = ()) -> Checkout:
    """What ``where`` names (see `FORMS`), as files of our own.

    Raises `UsageError` for what is none of these or not whole, `SourceUnreachable`.
    """
    for directory in lookaside:
        if not directory.is_dir():
            raise UsageError(
                f"--lookaside {directory}: there is no such directory", hint="name one that holds tarballs"
            )
    path = Path(where).expanduser()
    if path.is_dir():
        found = _directory(path, f"distgit:{path.resolve().name}{_commit_of(path)}")
    elif path.is_file():
        found = _file(path)
    else:
        found = _commits(where)
    return replace(found, lookaside=tuple(lookaside))


def _commits(where: str) -> Checkout:
    """``REPOSITORY@REF`` or ``REPOSITORY@BASE..BRANCH``."""
    repository, _, ref = where.rpartition("@")
    if repository and (match := re.match(rf"^({_REF}?)\.\.({_REF})$", ref)) and "..." not in ref:
        series = branch.fetch_branch(repository, match[1], match[2])
        return Checkout(series.directory, f"distgit:{series.origin}", None, series=series)
    if not repository or not re.match(f"^{_REF}$", ref) or ".." in ref:
        raise UsageError(
            f"--distgit {without_password(where)}: there is no such directory, and it names no commit",
            hint=f"name {FORMS}; REF, BASE and BRANCH are a commit id, a tag or a branch",
        )
    commit = vcs.fetch_commit(repository, ref)
    work = paths.state() / "sources"
    with tempfile.TemporaryDirectory(dir=work, prefix=".distgit-") as unpacked:
        run(["tar", "-xf", commit.archive, "-C", unpacked, "--no-same-owner"])
        origin = f"distgit:{commit.origin.removeprefix('git:')}"
        return _directory(next(Path(unpacked).iterdir()), origin, committed=True)


def _commit_of(directory: Path) -> str:
    """The commit a directory has checked out, and whether it was changed since; "" if it has none."""
    if not (directory / ".git").exists():
        return ""
    head = run(["git", "-C", directory, "rev-parse", "HEAD"], success_codes=None)
    status = run(["git", "-C", directory, "status", "--porcelain"], success_codes=None)
    if head.returncode or status.returncode:  # another user's checkout, as a rule, which git does not read
        why = (head.stderr or status.stderr).decode(errors="replace").strip().splitlines()
        warn(f"the commit of {directory} is not known: {why[0] if why else 'git does not say why'}")
        return " (commit not known)"
    return f" (commit {head.text.strip()}{', changed since' if status.text.strip() else ''})"


# -- layouts ----------------------------------------------------------------------------------------------


def _directory(directory: Path, origin: str, *, committed: bool = False) -> Checkout:
    """A directory in one of the layouts. ``committed``: it is a commit's tree."""
    if (directory / "SPECS").is_dir():
        files = {**_files(directory / "SOURCES"), SPEC: _spec(directory / "SPECS", origin)}
        return Checkout(_keep(files), origin, _digests(directory, origin))
    if not (directory / SPEC).is_file():
        raise UsageError(
            f"{origin} has no {SPEC}, and no directory SPECS with one",
            hint=f"name the dist-git of glibc, and a branch with a spec: {FORMS}",
        )
    digests = _digests(directory, origin)
    if digests is None and (committed or (directory / ".git").exists()):
        raise UsageError(
            f"{origin} has no file sources and no .glibc.metadata, so nothing says which tarball it is for",
            hint="write sources: SHA512 (NAME) = and the tarball's sha512, as `sha512sum --tag` prints it",
        )
    return Checkout(_keep(_files(directory)), origin, digests)


def _files(directory: Path) -> dict[str, Path]:
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory", hint=f"name a whole checkout: {FORMS}")
    return {p.name: p for p in sorted(directory.iterdir()) if p.is_file() and not p.name.startswith(".")}


def _spec(directory: Path, origin: str) -> Path:
    """`SPEC`, or the only spec there is."""
    specs = sorted(directory.glob("*.spec"))
    for path in specs:
        if path.name == SPEC or len(specs) == 1:
            return path
    names = ", ".join(p.name for p in specs) or "no spec"
    raise UsageError(
        f"{origin}: SPECS holds {names}, and {SPEC} is not there",
        hint=f"rename glibc's to {SPEC}, or leave one spec there",
    )


def _digests(directory: Path, origin: str) -> dict[str, str] | None:
    """What ``sources`` or ``.NAME.metadata`` says of a directory's tarballs; None if it has neither."""
    if (directory / "sources").is_file():
        return read_sources((directory / "sources").read_text(), origin)
    found = sorted(directory.glob(".*.metadata"))
    own = [p for p in found if p.name == ".glibc.metadata"] or found
    if len(own) > 1:
        raise UsageError(
            f"{origin} has {', '.join(p.name for p in own)}", hint="keep the one of glibc (.glibc.metadata)"
        )
    return read_metadata(own[0].read_text(), f"{origin}: {own[0].name}") if own else None


def read_sources(text: str, where: str) -> dict[str, str]:
    """File name -> sha512 of a dist-git's ``sources``; raises `UsageError` naming the line."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _ENTRY.match(line.strip())
        if match:
            found[match[1]] = match[2]
        elif line.strip():
            raise UsageError(
                f"{where}: sources:{number}: {line.strip()[:60]!r} is not 'SHA512 (NAME) = HEX'",
                hint="write it as `sha512sum --tag` prints it; older hashes are not taken",
            )
    return found


def read_metadata(text: str, where: str) -> dict[str, str]:
    """File name -> digest of a ``.NAME.metadata`` (``HEX SOURCES/FILE``); `UsageError` naming the line."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _METADATA.match(line.strip())
        if match and len(match[1]) in ALGORITHMS:
            found[match[2]] = match[1]
        elif line.strip():
            raise UsageError(
                f"{where}:{number}: {line.strip()[:60]!r} is not 'HEX SOURCES/FILE'",
                hint="HEX is a sha1, sha256 or sha512: write what `sha256sum SOURCES/FILE` prints",
            )
    return found


def _file(path: Path) -> Checkout:
    """A source RPM. Every digest that it carries is checked; signatures are not (``rpm -K`` does that)."""
    if path.suffix != ".rpm":
        above = path.parent.parent if path.parent.name == "SPECS" else path.parent
        raise UsageError(
            f"--distgit {path}: a file is taken only if it is a source RPM",
            hint=f"name the directory {above}, or {FORMS}",
        )
    try:
        rpm = package.verify(path)
    except EvidenceError as e:
        raise UsageError(f"--distgit {path}: {e.message}", hint=e.hint) from e
    if not rpm.is_source:
        raise UsageError(
            f"--distgit {path}: {rpm.nvra} is a package that was built, not a source RPM",
            hint="judge built packages with --rpms RELEASE=DIR, or name glibc-….src.rpm",
        )
    specs = [f.path for f in rpm.files if f.flags & _SPECFILE]
    if len(specs) != 1:
        raise UsageError(f"--distgit {path}: {rpm.nvra} has {len(specs)} specs", hint="fetch it again")
    work = paths.state() / "sources"
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix=".srpm-") as scratch:
        package.extract(path, Path(scratch))
        files = _files(Path(scratch))
        digests = {f.path: f.digest for f in rpm.files if f.is_regular}
        for name, digest in digests.items():
            if name not in files or len(digest) not in ALGORITHMS or digest_of(files[name], digest) != digest:
                raise UsageError(
                    f"--distgit {path}: {name} in it is not the file that its header describes",
                    hint="fetch it again; `rpm -K FILE` shows what rpm makes of it",
                )
        files[SPEC] = files.pop(specs[0])
        return Checkout(_keep(files), f"distgit:{path.name} sha256 {store.file_sha256(path)}", digests)


def _keep(found: Mapping[str, Path]) -> Path:
    """A copy of these files (name -> path) in the store under their hashes, and of the spec as it is read."""
    hashes = {name: store.file_sha256(p) for name, p in found.items()}

    def make(into: Path) -> None:
        (into / "files").mkdir()
        for name, source in found.items():
            copy = into / "files" / name
            shutil.copyfile(source, copy)
            if store.file_sha256(copy) != hashes[name]:
                raise HashMismatch(
                    f"{source} changed while it was read", hint="leave the checkout alone and run it again"
                )
        (into / "marked").mkdir()
        marked = specfile.mark((into / "files" / SPEC).read_bytes())
        (into / "marked" / SPEC).write_bytes(marked)

    return store.produce("distgit", {"files": hashes, "form": 1}, make).path / "files"
