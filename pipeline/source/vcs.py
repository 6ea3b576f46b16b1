"""Sources that are trees already: a commit of a git repository, a directory."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pipeline.core import paths
from pipeline.core.errors import (
    CommandFailed,
    HashMismatch,
    NoSpace,
    SourceUnreachable,
    UsageError,
    is_disk_full,
)
from pipeline.core.progress import step
from pipeline.core.run import Completed, run
from pipeline.core.store import digest, file_sha256, tree_sha256
from pipeline.source import cache
from pipeline.source.address import without_password
from pipeline.source.archive import check_tree

#: Never copied and never part of an identity: a tree's history, or a worktree's pointer to it.
NOT_SOURCE = (".git",)
_COMMIT = re.compile(r"^[0-9a-f]{40}([0-9a-f]{24})?$")


@dataclass(frozen=True)
class Commit:
    """A commit as an archive: ``id`` is its full id, ``sha256`` that of ``archive``."""

    id: str
    archive: Path
    sha256: str
    origin: str


def split_git(text: str) -> tuple[str, str]:
    """``URL-or-path@REF`` -> (repository, ref); raises `UsageError`."""
    repository, _, ref = text.rpartition("@")
    if not repository or not re.match(r"^[\w][\w./+-]*$", ref) or ".." in ref:
        raise UsageError(
            f"--source git:{without_password(text)} does not say which commit",
            hint="write git:REPOSITORY@REF, REF being a commit id, a tag or a branch",
        )
    return repository, ref


def git(
    store: Path,
    *argv: str,
    success_codes: tuple[int, ...] | None = (0,),
    remedy: str = "",
    env: Mapping[str, str] | None = None,
) -> Completed:
    """Run git in a repository; it never asks for a password."""
    return run(
        ["git", "-C", store, *argv],
        env={"GIT_TERMINAL_PROMPT": "0", **(env or {})},
        success_codes=success_codes,
        timeout=3600,
        remedy=remedy,
    )


def repository_store(repository: str) -> Path:
    """Our own bare repository for what is fetched from ``repository``, made if it is not there.

    Callers hold the lock beside it (``.lock``) while they use it.
    """
    store = paths.state() / "git" / digest(repository)[:16]
    store.mkdir(parents=True, exist_ok=True)
    with FileLock(store.with_suffix(".new")):
        if not (store / "HEAD").is_file():
            git(store, "init", "--quiet", "--bare")
            # the tree as it was committed: attributes for release tarballs are not to leave files out
            (store / "info").mkdir(exist_ok=True)
            (store / "info" / "attributes").write_text("* -export-ignore -export-subst\n")
    return store


def fetch_commit(repository: str, ref: str) -> Commit:
    """The tree of ``ref`` as a tar archive, in the cache. Only that commit is fetched, not its history.

    A full commit id that was had once needs no network.
    Raises `SourceUnreachable` (repository does not answer) or `UsageError` (it has no such commit, or lacks
    files of it).
    """
    store = repository_store(repository)
    with FileLock(store.with_suffix(".lock")):
        with step(f"fetch {ref} of {without_password(repository)}"):
            commit = obtain(store, repository, ref)
        return archive_of(store, commit, f"git:{without_password(repository)}@{ref} (commit {commit})")


def obtain(store: Path, repository: str, ref: str) -> str:
    """The full id of ``ref``, whose tree is in ``store`` afterwards; raises as `fetch_commit`."""
    commit = _have(store, ref) if _COMMIT.match(ref) else ""
    return commit or _fetch(store, repository, ref)


def _have(store: Path, ref: str) -> str:
    """The full id of ``ref`` if the store has that commit, else ""."""
    done = git(store, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", success_codes=None)
    return done.text.strip() if done.returncode == 0 else ""


def _local(repository: str) -> Path | None:
    """The directory that ``repository`` is, if it is one of this machine."""
    path = Path(repository.removeprefix("file://")).expanduser()
    return path.resolve() if path.exists() else None


def _fetch(store: Path, repository: str, ref: str) -> str:
    local = _local(repository)
    source = str(local) if local else repository
    # of a local repository git itself can say which commit an abbreviation or another name means
    wanted = (_have(local, ref) if local else "") or ref
    done = git(store, "fetch", "--quiet", "--depth=1", "--no-tags", source, wanted, success_codes=None)
    if done.returncode == 0:
        return _have(store, "FETCH_HEAD")
    if local:
        _say_what_is_missing(local, wanted, ref)
    # an abbreviated id, or a server that does not give commits by id: all branches and tags may hold it
    shallow = ["--unshallow"] if (store / "shallow").exists() else []
    done = git(
        store, "fetch", "--quiet", "--force", *shallow, source,
        "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", success_codes=None,
    )  # fmt: skip
    if done.returncode:
        raise SourceUnreachable(
            f"git repository {without_password(repository)} cannot be read: " + _last_word(done.stderr),
            hint="check the address and the network, or give the source as tarball:FILE-or-URL or dir:PATH",
        )
    commit = _have(store, ref)
    if not commit:
        raise UsageError(
            f"git repository {without_password(repository)} has no commit, tag or branch {ref}",
            hint="`git ls-remote REPOSITORY` lists what it has",
        )
    return commit


def deepen(store: Path, repository: str, commit: str, depth: int) -> None:
    """Have ``depth`` commits of the history of ``commit``; raises as `fetch_commit`."""
    local = _local(repository)
    done = git(
        store, "fetch", "--quiet", f"--depth={depth}", "--no-tags", str(local) if local else repository,
        commit, success_codes=None,
    )  # fmt: skip
    if done.returncode:
        if local:
            _say_what_is_missing(local, commit, commit, depth)
        raise SourceUnreachable(
            f"git repository {without_password(repository)} does not give the history of {commit}: "
            + _last_word(done.stderr),
            hint="name a clone that has it (`git clone REPOSITORY` without --depth)",
        )


def _say_what_is_missing(repository: Path, commit: str, ref: str, depth: int = 1) -> None:
    """Raise `UsageError` if a partial clone lacks files of the last ``depth`` commits, naming them."""
    done = git(
        repository, "rev-list", "--objects", "--missing=print", f"--max-count={depth}", commit,
        success_codes=None, env={"GIT_NO_LAZY_FETCH": "1"},
    )  # fmt: skip
    missing = {line[1:] for line in done.text.splitlines() if line.startswith("?")}
    if done.returncode or not missing:
        return
    tree = git(repository, "ls-tree", "-r", "-t", commit, success_codes=None, env={"GIT_NO_LAZY_FETCH": "1"})
    rows = [line.partition("\t") for line in tree.text.splitlines()]
    named = [path for meta, _, path in rows if meta.split()[2] in missing]
    shown = named or sorted(missing)
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    raise UsageError(
        f"the clone {repository} is partial and lacks {len(missing)} objects of {ref}: "
        f"{', '.join(shown[:5])}{more}",
        hint=f"fetch them where its remote answers (`git -C {repository} fetch --refetch --no-filter`, or "
        f"`git -C {repository} checkout {ref}`), or name the repository that it was cloned from",
    )


def _last_word(stderr: bytes) -> str:
    """git's first fatal complaint (general advice follows it), else its last line; no password in it."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    said = next((line for line in lines if line.startswith("fatal: ")), lines[-1] if lines else "")
    return re.sub(r"://[^/@\s]+@", "://", said) or "no reason given"


def archive_of(store: Path, commit: str, origin: str) -> Commit:
    """The tree of a commit in ``store`` as an archive, in the cache."""
    base = paths.state() / "sources"
    base.mkdir(parents=True, exist_ok=True)
    name = f"glibc-{commit[:12]}"
    with tempfile.TemporaryDirectory(dir=base, prefix=".git-") as work:
        tar = Path(work) / f"{name}.tar"
        git(store, "archive", "--format=tar", f"--prefix={name}/", f"--output={tar}", commit)
        sha256 = file_sha256(tar)
        return Commit(commit, cache.admit(tar, sha256, tar.name, origin), sha256, origin)


def directory(text: str) -> tuple[Path, str]:
    """``PATH`` -> (the directory, its tree's sha256); raises `UsageError` if it is no glibc tree."""
    top = Path(text).expanduser()
    if not top.is_dir():
        raise UsageError(f"--source dir:{text}: there is no such directory", hint="name a glibc source tree")
    top = check_tree(top.resolve())
    with step(f"hash {top}"):
        return top, tree_sha256(top, ignore=NOT_SOURCE)


def copy_directory(top: Path, sha256: str, into: Path) -> Path:
    """A copy of ``top`` below ``into``, without its history; `HashMismatch` if it changed meanwhile.

    Raises `NoSpace`, and `CommandFailed` for what cannot be read.
    """
    copy = into / top.name
    into.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(top, copy, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    except shutil.Error as e:
        if is_disk_full(e):
            raise NoSpace(f"no space left in {into} to copy {top}") from e
        first = e.args[0][0] if e.args and e.args[0] else ("", "", e)
        raise CommandFailed(
            f"{top} cannot be copied: {first[2]}", hint="make the directory readable and run it again"
        ) from e
    seen = tree_sha256(copy, ignore=NOT_SOURCE)
    if seen != sha256:
        raise HashMismatch(
            f"{top} changed while it was read (tree sha256 {seen}, was {sha256})",
            hint="leave the directory alone and run the same command again",
        )
    return copy
