"""A distribution's spec, patches and tarball as input (`pipeline.build.checkout` has the layouts).

rpm itself reads the spec, where the build will run; its series takes the place of ours for one release. It is
built with its own spec where the place has that spec's BuildRequires, else with ours and its patches.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.build import tarball
from pipeline.build.checkout import ALGORITHMS, SPEC, Checkout, digest_of
from pipeline.build.rpmbuild import Ingredients
from pipeline.build.workplace import Workplace
from pipeline.core import paths, store
from pipeline.core.arch import Arch
from pipeline.core.errors import CommandFailed, UsageError
from pipeline.core.records import PatchRecord, SourceRecord
from pipeline.core.run import Completed, run
from pipeline.profile import Profile
from pipeline.rpm import SOURCE_DATE_EPOCH
from pipeline.rpm import spec as specfile
from pipeline.rpm.spec import Application
from pipeline.source import FetchedSource
from pipeline.source.branch import Branch
from pipeline.source.patchfile import count_up_to

#: patch(1)'s options for the commits of a branch, which fit as they are.
_EXACT = ("-p1", "--fuzz=0", "-s")
_HEAD_NOISE = re.compile(r"^(From [0-9a-f]|commit |Author|Commit|Date|From:|Reviewed-by|Index: |=+$)")
_DIFF = re.compile(r"^(diff |index |--- |\+\+\+ |@@ |---$)")


@dataclass(frozen=True)
class TheirPatch:
    """A patch of a dist-git as its spec applies it."""

    path: Path
    applied: Application
    record: PatchRecord


@dataclass(frozen=True)
class DistGit:
    """A dist-git as rpm reads it at one place. ``own``: it is built with its own spec; ``why`` says why or
    why not; ``files`` is everything else its own spec declares. ``vouched``: what says that ``archive`` is
    the right one. ``further``: the commands of %prep that our spec does not run.
    """

    origin: str
    spec: Path
    archive: Path
    archive_sha256: str
    topdir: str
    patches: tuple[TheirPatch, ...]
    own: bool
    why: str
    vouched: str
    further: tuple[str, ...]
    files: tuple[Path, ...]

    def patches_up_to(self, up_to: str) -> tuple[TheirPatch, ...]:
        """The patches up to and with ``up_to`` (a file name or its beginning; "": all); `UsageError`."""
        names = [p.record.file for p in self.patches]
        return self.patches[: count_up_to(names, up_to or None, f"the dist-git's {SPEC}")]

    @property
    def record(self) -> SourceRecord:
        """What a sign-off says of it; a dist-git is never what the profile pins."""
        spec = f"built with {'its own spec' if self.own else 'specs/glibc.spec'} ({self.why})"
        fuzzy = [f"{p.record.file} with fuzz {p.applied.fuzz}" for p in self.patches if p.applied.fuzz]
        origin = "; ".join([f"{self.origin}, {self.archive.name} ({self.vouched})", spec, *fuzzy])
        if self.further:
            origin += f"; not run: what else its %prep does ({_counted(self.further)})"
        return SourceRecord(kind="distgit", origin=origin, sha256=self.archive_sha256, pinned=False)

    def identity(self, up_to: str) -> dict[str, Any]:
        """What of it decides a build (JSON, for store keys)."""
        found: dict[str, Any] = {
            "record": self.record.model_dump(),
            "topdir": self.topdir,
            "patches": [
                [p.record.file, p.record.sha256, *p.applied.options] for p in self.patches_up_to(up_to)
            ],
        }
        if self.own:
            found["spec"] = store.file_sha256(self.spec)
            found["files"] = sorted([f.name, store.file_sha256(f)] for f in self.files)
            found["all"] = [[p.record.file, p.record.sha256] for p in self.patches]
        return found

    def lay_out(self, top: Path, release_inc: str, *, up_to: str, extra: Sequence[Path] = ()) -> None:
        """Fill ``top`` for rpmbuild, with its own spec or ours (which has the files ``extra`` as well)."""
        chosen = self.patches_up_to(up_to)
        if not self.own:
            Ingredients(
                archive=self.archive,
                patches=[p.path for p in chosen],
                release_inc=release_inc,
                patches_inc=specfile.patches_inc(tuple(p.applied for p in chosen)),
                spec=paths.SPECS / SPEC,
                extra=extra,
            ).lay_out(top)
            return
        Ingredients(
            archive=self.archive,
            patches=[p.path for p in self.patches],
            release_inc="",
            patches_inc="",
            spec=self.spec,
            extra=self.files,
        ).lay_out(top)
        kept = {p.record.file for p in chosen}
        for patch in self.patches:  # its spec names them all, and patch(1) does nothing with an empty one
            if patch.record.file not in kept:
                file = top / "SOURCES" / patch.record.file
                file.write_bytes(b"")
                os.utime(file, (int(SOURCE_DATE_EPOCH),) * 2)

    def apply(self, into: Path, *, up_to: str) -> None:
        """Apply the patches one by one to the tarball's tree, to find the one that does not fit.

        Raises `UsageError` naming it, with patch's own words.
        """
        into.mkdir(parents=True, exist_ok=True)
        run(["tar", "-xf", self.archive, "-C", into, "--no-same-owner"], timeout=900)
        for patch in self.patches_up_to(up_to):
            done = run(
                ["patch", *patch.applied.options, "--batch", "--reject-file=-"],
                cwd=into / self.topdir, stdin=patch.path.read_bytes(), success_codes=None, timeout=300,
            )  # fmt: skip
            if done.returncode:
                words = (done.text + done.stderr.decode(errors="replace")).strip()
                raise UsageError(
                    f"{patch.record.file} of the dist-git does not apply "
                    f"({' '.join(patch.applied.options)}):\n{words[:2000]}",
                    hint="does the tarball belong to this dist-git, and is the checkout whole?",
                )


def read(
    checkout: Checkout,
    profile: Profile,
    machine: Arch,
    workplace: Workplace,
    *,
    source: Callable[[], FetchedSource],
    own_tests: bool = False,
) -> DistGit:
    """The dist-git as rpm reads it for ``machine`` at ``workplace``; ``source`` is the profile's, if needed.

    Raises `UsageError` with rpm's words for a spec it cannot read, for one of another glibc than the
    profile's, for a tarball that is not the one in ``sources``.
    """
    if checkout.series:
        return _of_branch(checkout, checkout.series, profile)
    text = _expanded(checkout, machine, workplace)
    parsed = specfile.parse(text, f"{checkout.origin}: {SPEC}")
    if parsed.name != "glibc":
        raise UsageError(
            f"{checkout.origin} is the spec of {parsed.name}, not of glibc", hint="name the dist-git of glibc"
        )
    if parsed.version != profile.glibc:
        raise _another_glibc(checkout, parsed.version, profile)
    archive, vouched = tarball.find(checkout, parsed.sources[0], parsed.topdir, source)
    patches = []
    for applied in parsed.applied:
        path = checkout.directory / applied.file
        if not path.is_file():
            raise UsageError(
                f"{checkout.origin}: patch {applied.file} is not there", hint="name a whole checkout"
            )
        patches.append(TheirPatch(path, applied, patch_record(path)))
    others = {n: checkout.directory / n for n in (*parsed.sources[1:], *parsed.patches)}
    for patch in patches:
        others.pop(patch.record.file, None)
    _own_files_are_listed(checkout, [*others.values(), *(p.path for p in patches)])
    own, why = _own_spec(checkout, machine, workplace, others, own_tests=own_tests)
    return DistGit(
        origin=checkout.origin,
        spec=checkout.directory / SPEC,
        archive=archive,
        archive_sha256=store.file_sha256(archive),
        topdir=parsed.topdir,
        patches=tuple(patches),
        own=own,
        why=why,
        vouched=vouched,
        further=() if own else specfile.commands(parsed.further),
        files=tuple(others.values()) if own else (),
    )


def _counted(commands: Sequence[str]) -> str:
    return f"{len(commands)} command{'s'[: len(commands) > 1]}"


def _of_branch(checkout: Checkout, series: Branch, profile: Profile) -> DistGit:
    """The commits of a branch on the tree they begin on; there is no spec but ours."""
    if series.version != profile.glibc:
        raise _another_glibc(checkout, series.version, profile)
    return DistGit(
        origin=checkout.origin,
        spec=paths.SPECS / SPEC,
        archive=series.base.archive,
        archive_sha256=series.base.sha256,
        topdir=series.base.archive.name.removesuffix(".tar"),
        patches=tuple(TheirPatch(p, Application(p.name, _EXACT), patch_record(p)) for p in series.patches),
        own=False,
        why="a branch of commits has none of its own",
        vouched="the tree of BASE",
        further=(),
        files=(),
    )


def _another_glibc(checkout: Checkout, found: str, profile: Profile) -> UsageError:
    return UsageError(
        f"{checkout.origin} is glibc {found}, profile {profile.name} is glibc {profile.glibc}",
        hint="choose another branch, or another --profile",
    )


def _at(workplace: Workplace, script: str, directory: Path, machine: Arch) -> Completed:
    """Run a shell script where the build will run; $D is the dist-git, $@ are rpm's options for it."""
    where = workplace.at("/distgit/files", directory)
    head = (
        f"D={shlex.quote(where)}; T=$(mktemp -d); trap 'rm -rf \"$T\"' EXIT; "
        f'set -- --target {machine.name}-linux --define "_topdir $T" '
        '--define "_sourcedir $D" --define "_specdir $D"; '
    )
    return workplace.run(["sh", "-c", head + script], read_only={"/distgit": directory.parent})


def _expanded(checkout: Checkout, machine: Arch, workplace: Workplace) -> str:
    try:
        return _at(workplace, f'rpmspec -P "$@" "$D/../marked/{SPEC}"', checkout.directory, machine).text
    except CommandFailed as e:
        if e.returncode in (125, 126, 127):  # the engine's, or the shell's: rpm never came to it
            raise
        raise UsageError(
            f"{checkout.origin}: rpm cannot read {SPEC}:\n{e.tail}", hint="fix the spec, or name another ref"
        ) from e


def _own_spec(
    checkout: Checkout, machine: Arch, workplace: Workplace, others: dict[str, Path], *, own_tests: bool
) -> tuple[bool, str]:
    """Whether it can be built with its own spec, and why (not). rpm says which BuildRequires are missing."""
    absent = [name for name, path in others.items() if not path.is_file()]
    if own_tests:
        return False, "--check runs the tests that spec knows"
    if workplace.mode == "cross":
        return False, "its own spec does not build with a cross compiler"
    if absent:
        return False, f"its own spec wants {', '.join(absent)}, which the dist-git does not hold"
    script = (
        '[ -n "$(rpm -qa)" ] || { echo EMPTY; exit 0; }; '
        f'rpmbuild -bc --nobuild "$@" "$D/{SPEC}" 2>&1; echo "status $?"'
    )
    return satisfied(_at(workplace, script, checkout.directory, machine).text, workplace.name)


def satisfied(said: str, place: str) -> tuple[bool, str]:
    """What rpm said of a spec's BuildRequires at a place: whether they are there, and which are not."""
    missing = [m[1].strip() for m in re.finditer(r"^\s*(.+) is needed by ", said, re.MULTILINE)]
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    if said.strip() == "EMPTY":
        why = f"the {place} has no rpm packages to satisfy its own spec's BuildRequires"
    elif missing:
        why = f"its own spec needs {', '.join(missing[:5])}{more}"
    elif said.rstrip().endswith("status 0"):
        return True, f"the {place} satisfies its BuildRequires"
    else:
        why = f"rpm says: {' '.join(said.split())[:200]}"
    return False, why


def _own_files_are_listed(checkout: Checkout, files: Sequence[Path]) -> None:
    """Raise `UsageError` for a file that is not the one the layout has a digest of."""
    for path in files:
        wanted = (checkout.digests or {}).get(path.name)
        if wanted and path.is_file() and digest_of(path, wanted) != wanted:
            raise UsageError(
                f"{checkout.origin}: {path.name} is not the file that is listed with "
                f"{ALGORITHMS[len(wanted)]} {wanted[:16]}…",
                hint="fetch it again, or correct the list (sources, .glibc.metadata)",
            )


def patch_record(path: Path) -> PatchRecord:
    """A patch's record: its title and the upstream commits it names, read from the text before its diff."""
    subject = ""
    commits = []
    for raw in path.read_bytes().decode(errors="replace").splitlines():
        line = raw.strip()
        if _DIFF.match(raw):
            break
        if match := re.match(r"^(?:\(cherry picked from )?commit ([0-9a-f]{40})\)?$", line):
            commits.append(match[1])
        elif match := re.match(r"^Subject:\s*(?:\[[^\]]*\]\s*)*(\S.*)$", line):
            subject = match[1]
        elif line and not subject and not _HEAD_NOISE.match(line):
            subject = line
    upstream = tuple(f"{c[:10]} {subject or path.name}" for c in dict.fromkeys(commits))
    return PatchRecord(
        file=path.name, sha256=store.file_sha256(path), subject=subject[:200], upstream=upstream
    )
