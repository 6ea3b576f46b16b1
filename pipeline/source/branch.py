"""A git branch whose commits are a series: ``BASE..BRANCH``, each commit a patch, its subject the name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pipeline.core import store
from pipeline.core.errors import UsageError
from pipeline.core.progress import step, warn
from pipeline.source import vcs
from pipeline.source.address import without_password
from pipeline.source.vcs import Commit

#: Commits of history that are fetched before more are asked for; each further request is four times as deep.
FIRST_DEPTH = 64
MOST_DEPTH = 1 << 20
#: Nothing of the user's configuration decides what a patch looks like.
_OWN_CONFIG = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
#: Against settings of the store's own as well: full ids, plain diffs, ``a/`` and ``b/``.
_FORMAT = (
    "--no-stat", "--full-index", "--no-renames", "--no-signature", "--no-attach", "--no-cover-letter",
    "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--no-ext-diff", "--no-textconv", "--no-color",
    "--diff-algorithm=myers", "--ignore-submodules",
)  # fmt: skip


@dataclass(frozen=True)
class Branch:
    """``base`` is the tree the series begins on; ``patches`` are files in ``directory``, in order.

    ``version`` is that of the glibc that ``base`` is.
    """

    base: Commit
    head: str
    directory: Path
    patches: tuple[Path, ...]
    origin: str
    version: str


def fetch_branch(repository: str, base: str, head: str) -> Branch:
    """The commits after ``base`` up to ``head`` as patches, fetched only as deep as they go.

    Raises `UsageError`: no such commit, ``base`` is not an ancestor, nothing in between, a merge, a change of
    a binary file, ``base`` is no glibc; `SourceUnreachable`.
    """
    shown = f"{without_password(repository)}@{base}..{head}"
    git = vcs.repository_store(repository)
    with FileLock(git.with_suffix(".lock")):
        with step(f"fetch {base} and {head} of {without_password(repository)}"):
            first = vcs.obtain(git, repository, base)
            last = vcs.obtain(git, repository, head)
            commits = _commits(git, repository, first, last, shown)
        version = _version(git, first, shown)
        found = vcs.archive_of(git, first, f"git:{shown} (base {first})")
        patches = store.produce(
            "branch", {"commits": commits, "form": 1}, lambda into: _format(git, first, last, into / "files")
        )
    files = tuple(sorted((patches.path / "files").iterdir()))
    for path in files:
        if re.search(rb"^GIT binary patch$", path.read_bytes(), re.MULTILINE):
            raise UsageError(
                f"{shown}: {path.name} changes a binary file, which patch(1) cannot",
                hint="leave that change out of the branch",
            )
    if not files:
        raise UsageError(f"{shown}: no commit in it changes a file", hint="name a branch that has patches")
    if len(files) < len(commits):
        warn(
            f"{shown}: {len(commits) - len(files)} of {len(commits)} commits change nothing and are left out"
        )
    origin = f"{shown} (commits {first}..{last})"
    return Branch(found, last, patches.path / "files", files, origin, version)


def _format(git: Path, first: str, last: str, into: Path) -> None:
    into.mkdir()
    vcs.git(git, "format-patch", "--quiet", *_FORMAT, "-o", str(into), f"{first}..{last}", env=_OWN_CONFIG)
    for path in into.iterdir():  # a commit without a change is a message alone
        if not re.search(rb"^diff --git ", path.read_bytes(), re.MULTILINE):
            path.unlink()


def _commits(git: Path, repository: str, first: str, last: str, shown: str) -> list[str]:
    """The ids from ``first`` (left out) to ``last``, oldest first; deepens the history until they meet."""
    depth = FIRST_DEPTH
    while True:
        found, why = _walk(git, first, last)
        if why == "cut" and depth <= MOST_DEPTH:
            vcs.deepen(git, repository, last, depth)
            depth *= 4
            continue
        if why == "merge":
            raise UsageError(
                f"{shown}: {found[-1]} is a merge, and a series has none",
                hint="rebase the branch, so that it is one commit after another from BASE on",
            )
        if why:
            raise UsageError(
                f"{shown}: {first} is not among what {last} was made from",
                hint="BASE is the commit that the first patch was committed on (`git merge-base` finds it)",
            )
        if not found:
            raise UsageError(f"{shown}: there is no commit in between", hint="write BASE..BRANCH")
        return found[::-1]


def _walk(git: Path, first: str, last: str) -> tuple[list[str], str]:
    """Ids from ``last`` back to ``first``, and why it ended before it ("": it did not): merge, cut, root."""
    cut = set((git / "shallow").read_text().split()) if (git / "shallow").is_file() else set()
    lines = vcs.git(git, "rev-list", "--parents", "--topo-order", last).text.splitlines()
    parents = {line.split()[0]: line.split()[1:] for line in lines}
    found: list[str] = []
    at = last
    while at != first:
        found.append(at)
        if len(parents[at]) > 1:
            return found, "merge"
        if not parents[at]:
            return found, "cut" if at in cut else "root"
        at = parents[at][0]
    return found, ""


def _version(git: Path, commit: str, shown: str) -> str:
    done = vcs.git(git, "show", f"{commit}:version.h", success_codes=None)
    match = re.search(r'^#define VERSION "([0-9.]+)"', done.text, re.MULTILINE)
    if done.returncode or not match:
        raise UsageError(
            f"{shown}: {commit} is no glibc source tree: it has no version.h with a version",
            hint="name a branch of glibc's own sources; a dist-git is named REPOSITORY@REF",
        )
    return match[1]


__all__ = ["Branch", "fetch_branch"]
