"""Patch series: which patches make a release, applied exactly, and a lint over all of it.

``patches/PROFILE/RELEASE.series`` names patch files of the same directory, one a line; ``#`` begins a
comment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import UsageError
from pipeline.core.progress import say, warn
from pipeline.core.records import PatchRecord
from pipeline.core.run import Completed, run
from pipeline.profile import Profile
from pipeline.source import patchfile
from pipeline.source.patchfile import Patch, count_up_to

#: rejected lines of one hunk that are shown
SHOWN = 40
_FAILED = re.compile(r"^Hunk #(\d+) FAILED at (\d+)")
_OFFSET = re.compile(r"^Hunk #(\d+) succeeded at (\d+) \(offset (-?\d+) lines?\)")
_FILE = re.compile(r"^(?:checking|patching) (?:file|symbolic link) '?(.*?)'?$")


@dataclass(frozen=True)
class Applied:
    """What became of a patch: a note for each hunk that fitted only at another line, or why it is in the tree
    already (``present``).
    """

    notes: tuple[str, ...] = ()
    present: str = ""


@dataclass(frozen=True)
class Series:
    """The patches of one release, in order. ``path`` is the series file."""

    profile: str
    release: str
    path: Path
    patches: tuple[Patch, ...]

    def patches_up_to(self, up_to: str | None) -> tuple[Patch, ...]:
        """The patches up to and with ``up_to`` (None: all), as `patchfile.count_up_to` finds it."""
        return self.patches[: count_up_to([p.file for p in self.patches], up_to, self.path.name)]

    def apply(self, tree: Path, *, up_to: str | None = None) -> tuple[PatchRecord, ...]:
        """Apply the series to a pristine ``tree``; returns the patches' records.

        An offset is warned of; what the tree has already is said and left out. Raises `UsageError` with patch
        file and line, target file and line, and the rejected lines of every hunk that does not fit; the tree
        is then half patched.
        """
        return apply_all(self.patches_up_to(up_to), tree)


def directory(profile: str) -> Path:
    """Where the patches of a profile are."""
    return paths.PATCHES / profile


def read_names(path: Path) -> list[tuple[int, str]]:
    """(line number, patch file) of a series file; raises `UsageError` if it cannot be read."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise UsageError(
            f"{path} does not exist, so there is no series for that release",
            hint="write it: one patch file a line, or only a comment if the base is as it should be",
        ) from None
    except UnicodeDecodeError as e:
        raise UsageError(f"{path} is not UTF-8: {e}", hint="save it as UTF-8") from None
    lines = ((number, line.split("#", 1)[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line]


def load(profile_name: str, release: str, *, base: Path | None = None) -> Series:
    """The series of a release, from ``base`` (the profile's own directory by default).

    Raises `UsageError` naming file and line of what is wrong.
    """
    base = base or directory(profile_name)
    path = base / f"{release}.series"
    patches = []
    for number, name in read_names(path):
        if not (base / name).is_file() or Path(name).name != name:
            raise UsageError(
                f"{path}:{number}: there is no patch {name}", hint=f"correct the name, or put it in {base}"
            )
        patches.append(patchfile.read(base / name))
    return Series(profile_name, release, path, tuple(patches))


def apply_all(patches: Sequence[Patch], tree: Path) -> tuple[PatchRecord, ...]:
    """Apply patches in order as `Series.apply` does."""
    records = []
    for patch in patches:
        applied = apply_patch(patch, tree)
        for note in applied.notes:
            warn(note)
        if applied.present:
            say(f"{patch.file} is in the source already: {applied.present}")
        records.append(patch.record.model_copy(update={"present": applied.present}))
    return tuple(records)


def apply_patch(patch: Patch, tree: Path) -> Applied:
    """Apply one patch with fuzz 0, unless ``tree`` has it already.

    A tree has a patch if it has every text of its field Present (another made the same change in other
    words), or if the patch does not apply and all of it can be taken back.
    Raises `UsageError` as `Series.apply` does.
    """
    if patch.present and all(_has(tree / file, text) for file, text in patch.present):
        return Applied(present="; ".join(f"{file} has {text!r}" for file, text in patch.present))
    hunks = patch.hunks()
    fits = _patch(patch, tree, "--forward", "--dry-run").returncode == 0
    if not fits and _patch(patch, tree, "--reverse", "--dry-run").returncode == 0:
        return Applied(present="every hunk of it is there, word for word")
    done = _patch(patch, tree, "--forward", "--no-backup-if-mismatch")
    said = done.text
    by_target: dict[str, list[patchfile.Hunk]] = {}
    for hunk in hunks:
        by_target.setdefault(hunk.target, []).append(hunk)
    notes: list[str] = []
    failures: list[str] = []
    target = ""
    for line in said.splitlines():
        if match := _FILE.match(line):
            target = match[1]
        elif match := _OFFSET.match(line):
            hunk = by_target[target][int(match[1]) - 1]
            notes.append(
                f"{patch.path}:{hunk.line}: fits {target}:{match[2]} only, "
                f"{match[3]} lines off; refresh the patch"
            )
        elif match := _FAILED.match(line):
            hunk = by_target[target][int(match[1]) - 1]
            failures.append(_rejected(patch, hunk, tree))
    if done.returncode:
        if not failures:  # a missing target, a patch that is applied already
            words = " ".join((said + done.stderr.decode(errors="replace")).split())
            first = next((h for h in hunks if not (tree / h.target).exists()), None)
            if first is not None and first.start:
                words = f"{first.target} does not exist in the tree"
            failures = [f"{patch.path}:{(first or hunks[0]).line}: {words[:400]}"]
        raise UsageError(
            f"{patch.file} does not apply with fuzz 0\n" + "\n".join(failures),
            hint="make the patch again on this source, or name the source it was made for; "
            "`nox -s series -- --each` shows which patches apply",
        )
    return Applied(notes=tuple(notes))


def _patch(patch: Patch, tree: Path, *options: str) -> Completed:
    return run(
        ["patch", "-p1", "--fuzz=0", "--batch", "--reject-file=-", *options],
        cwd=tree,
        stdin=patch.diff.encode(),
        success_codes=None,
        timeout=300,
    )


def _has(file: Path, text: str) -> bool:
    return file.is_file() and text in file.read_text(errors="replace")


def _rejected(patch: Patch, hunk: patchfile.Hunk, tree: Path) -> str:
    where = f"{hunk.target}:{hunk.start}"
    if not (tree / hunk.target).exists():
        where += " (no such file)"
    shown = [f"    {line}" for line in hunk.lines[:SHOWN]]
    if len(hunk.lines) > SHOWN:
        shown.append(f"    … {len(hunk.lines) - SHOWN} more lines")
    return "\n".join([f"{patch.path}:{hunk.line}: this hunk does not fit {where}:", *shown])


def lint(profile: Profile, *, base: Path | None = None) -> list[str]:
    """Everything that is wrong with the patches of a profile: ``FILE:LINE: what``; empty if nothing is.

    Every release has a series, every series names patches that exist, each once; every patch is used; every
    header is complete; every diff is whole, with little context and no blemish in what it adds.
    """
    base = base or directory(profile.name)
    found: list[str] = []
    used: set[str] = set()
    for release in profile.release:
        path = base / f"{release.name}.series"
        try:
            names = read_names(path)
        except UsageError as e:
            found.append(e.message)
            continue
        seen: set[str] = set()
        for number, name in names:
            if name in seen:
                found.append(f"{path}:{number}: {name} is named twice")
            elif not (base / name).is_file():
                found.append(f"{path}:{number}: there is no patch {name}")
            seen.add(name)
        used |= seen
    for path in sorted(base.glob("*.series")):
        if path.stem not in profile.releases:
            found.append(f"{path}: profile {profile.name} has no release {path.stem}")
    for path in sorted(p for p in base.iterdir() if p.suffix != ".series") if base.is_dir() else []:
        if path.suffix != ".patch":
            found.append(f"{path}: neither a .patch nor a .series file")
            continue
        if path.name not in used:
            found.append(f"{path}: no series uses it")
        try:
            found += patchfile.blemishes(patchfile.read(path))
        except UsageError as e:
            found.append(e.message)
    return found
