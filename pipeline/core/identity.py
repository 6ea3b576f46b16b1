"""Which pipeline this is: its version, the commit it comes from, and what was changed since.

A sign-off says who judged. A profile, baseline or check edited in place is another judge under the same name.
"""

from __future__ import annotations

import json
from functools import cache

from pipeline import __version__
from pipeline.core import paths
from pipeline.core.errors import PipelineError
from pipeline.core.outcome import Frozen
from pipeline.core.run import run
from pipeline.core.store import file_sha256

#: What decides a verdict, relative to the top of the repository.
JUDGING = ("pipeline", "patches", "specs", "containers", "abi-baselines")
#: Written into the wheel when it is made: the commit, and the sha256 of every file of `JUDGING`.
STAMP = paths.PACKAGE / "stamp.json"


class Identity(Frozen):
    """``commit`` is "" if unknown; ``changed`` lists files that are not as the commit has them."""

    version: str
    commit: str = ""
    changed: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """``1.0.0+g0123456789ab``, with ``.changed`` if files were changed."""
        parts = [f"g{self.commit[:12]}" if self.commit else "", "changed" if self.changed else ""]
        local = ".".join(part for part in parts if part)
        return f"{self.version}+{local}" if local else self.version

    @property
    def doubt(self) -> str:
        """Why it is not known who judged, or "" if it is."""
        if not self.commit:
            return "the commit of the pipeline is unknown: it runs from neither a git checkout nor a wheel"
        if not self.changed:
            return ""
        more = f" and {len(self.changed) - 4} more" if len(self.changed) > 4 else ""
        shown = ", ".join(self.changed[:4]) + more
        return f"the pipeline has uncommitted changes on top of {self.commit[:12]}: {shown}"


@cache
def identity() -> Identity:
    """Of the pipeline that runs, as it was when it was first asked. Never raises: the rest is unknown."""
    return _now()


def identity_to_the_end() -> Identity:
    """`identity`, with what has changed since: what ran is neither what was there then nor what is now."""
    before, after = identity(), _now()
    if before == after:
        return before
    changed = {*before.changed, *after.changed}
    if before.commit != after.commit:
        changed.add(f"the checkout, which is now {after.commit[:12] or 'unknown'}")
    return before.model_copy(update={"changed": tuple(sorted(changed))})


def _now() -> Identity:
    return _from_stamp() if STAMP.is_file() else _from_git()


def _from_git() -> Identity:
    if not (paths.REPO / ".git").exists():  # a checkout of something else above it says nothing about us
        return Identity(version=__version__)
    git = ("git", "-C", str(paths.REPO), "-c", f"safe.directory={paths.REPO}")
    try:
        commit = run([*git, "rev-parse", "HEAD"]).text.strip()
        options = ("--porcelain", "-z", "--no-renames", "--untracked-files=all")
        # what an exclude file hides is there all the same: a profile of one's own, a baseline
        status = run([*git, "status", *options, "--ignored=traditional", "--", *JUDGING])
        # and git does not look at what it was told to take for unchanged: `h`, `s` and `S` of ls-files
        untold = run([*git, "ls-files", "-v", "-z", "--", *JUDGING])
    except PipelineError:
        return Identity(version=__version__)
    changed = {entry[3:] for entry in status.text.split("\0") if entry}
    changed = {name for name in changed if "__pycache__" not in name}
    changed |= {entry[2:] for entry in untold.text.split("\0") if entry[:1].islower() or entry[:1] == "S"}
    return Identity(version=__version__, commit=commit, changed=tuple(sorted(changed)))


def _from_stamp() -> Identity:
    try:
        stamp = json.loads(STAMP.read_text())
        commit, files = str(stamp["commit"]), dict(stamp["files"])
        there = {p.relative_to(paths.PACKAGE).as_posix(): p for p in paths.PACKAGE.rglob("*") if p.is_file()}
        own = {name for name in there if "__pycache__" not in name and name != STAMP.name}
        altered = {name for name in own & files.keys() if file_sha256(there[name]) != files[name]}
        changed = sorted({*stamp["changed"], *altered, *(own ^ files.keys())})
    except (OSError, ValueError, KeyError, TypeError):
        return Identity(version=__version__)
    return Identity(version=__version__, commit=commit, changed=tuple(changed))
