"""A distribution's dist-git as input: a spec, its patches, and the tarball its file ``sources`` names.

rpm itself reads the spec, where the build will run; its series takes the place of ours for one release. It is
built with its own spec where the place has that spec's BuildRequires, else with ours and its patches.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.build.rpmbuild import Ingredients
from pipeline.build.workplace import Workplace
from pipeline.core import paths, store
from pipeline.core.arch import Arch
from pipeline.core.errors import CommandFailed, HashMismatch, UsageError
from pipeline.core.progress import warn
from pipeline.core.records import PatchRecord, SourceRecord
from pipeline.core.run import Completed, run
from pipeline.profile import Profile
from pipeline.rpm import SOURCE_DATE_EPOCH
from pipeline.rpm import spec as specfile
from pipeline.rpm.spec import Application
from pipeline.source import FetchedSource, vcs
from pipeline.source.download import without_password

SPEC = "glibc.spec"
_RELEASE = re.compile(r"^[0-9][0-9a-z.]*$")
_ENTRY = re.compile(r"^SHA512 \(([^()/]+)\) = ([0-9a-f]{128})$")
_HEAD_NOISE = re.compile(r"^(From [0-9a-f]|commit |Author|Commit|Date|From:|Reviewed-by|Index: |=+$)")
_DIFF = re.compile(r"^(diff |index |--- |\+\+\+ |@@ |---$)")


@dataclass(frozen=True)
class Checkout:
    """What the user named, copied: ``origin`` says where it is from; ``tarballs`` maps names to sha512."""

    directory: Path
    origin: str
    tarballs: dict[str, str]


@dataclass(frozen=True)
class TheirPatch:
    """A patch of a dist-git as its spec applies it."""

    path: Path
    applied: Application
    record: PatchRecord


@dataclass(frozen=True)
class DistGit:
    """A dist-git as rpm reads it at one place. ``own``: it is built with its own spec; ``why`` says why or
    why not; ``files`` is everything else its own spec declares.
    """

    origin: str
    spec: Path
    archive: Path
    archive_sha256: str
    topdir: str
    patches: tuple[TheirPatch, ...]
    own: bool
    why: str
    notes: tuple[str, ...]
    files: tuple[Path, ...]

    def patches_up_to(self, up_to: str) -> tuple[TheirPatch, ...]:
        """The patches up to and with ``up_to`` (a file name or its beginning; "": all); `UsageError`."""
        if not up_to:
            return self.patches
        names = [p.record.file for p in self.patches]
        exact = [n for n, name in enumerate(names) if name == up_to]
        found = exact or [n for n, name in enumerate(names) if name.startswith(up_to)]
        if len(found) != 1:
            raise UsageError(
                f"the dist-git's {SPEC} applies {'no' if not found else 'more than one'} patch {up_to!r}",
                hint="it applies: " + (", ".join(names) or "none"),
            )
        return self.patches[: found[0] + 1]

    @property
    def record(self) -> SourceRecord:
        """What a sign-off says of it; a dist-git is never what the profile pins."""
        spec = f"built with {'its own spec' if self.own else 'specs/glibc.spec'} ({self.why})"
        fuzzy = [f"{p.record.file} with fuzz {p.applied.fuzz}" for p in self.patches if p.applied.fuzz]
        origin = "; ".join([f"{self.origin}, {self.archive.name}", spec, *fuzzy])
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


def parse(text: str, releases: Sequence[str]) -> tuple[str, str]:
    """``RELEASE=WHERE``, or ``WHERE`` where exactly one ``--release`` says which; raises `UsageError`."""
    release, equals, where = text.partition("=")
    if equals and _RELEASE.match(release):
        return release, where
    if len(releases) == 1:
        return releases[0], text
    raise UsageError(
        f"--distgit {text}: which release does it build?",
        hint="write --distgit RELEASE=DIR-or-URL@REF, or add one --release",
    )


def fetch(where: str) -> Checkout:
    """The checkout ``DIR``, or commit ``REF`` of the repository ``URL@REF``, as files of our own.

    Raises `UsageError` for one without spec or ``sources``, `SourceUnreachable`.
    """
    path = Path(where).expanduser()
    if path.is_dir():
        return _checkout(_keep(path), f"distgit:{path.resolve().name}{_commit_of(path)}")
    repository, _, ref = where.rpartition("@")
    if not repository or not re.match(r"^\w[\w./+-]*$", ref) or ".." in ref:
        raise UsageError(
            f"--distgit {without_password(where)}: there is no such directory, and it names no commit",
            hint="write a directory, or REPOSITORY@REF, REF being a commit id, a tag or a branch",
        )
    commit = vcs.fetch_commit(repository, ref)
    work = paths.state() / "sources"
    with tempfile.TemporaryDirectory(dir=work, prefix=".distgit-") as unpacked:
        run(["tar", "-xf", commit.archive, "-C", unpacked, "--no-same-owner"])
        kept = _keep(next(Path(unpacked).iterdir()))
    return _checkout(kept, f"distgit:{commit.origin.removeprefix('git:')}")


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


def _keep(directory: Path) -> Path:
    """A copy of the files of a directory (not of directories in it), in the store under their hashes."""
    found = {p.name: p for p in sorted(directory.iterdir()) if p.is_file() and not p.name.startswith(".")}
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
        if SPEC in found:
            (into / "marked").mkdir()
            marked = specfile.mark((into / "files" / SPEC).read_bytes())
            (into / "marked" / SPEC).write_bytes(marked)

    return store.produce("distgit", {"files": hashes, "form": 1}, make).path / "files"


def _checkout(directory: Path, origin: str) -> Checkout:
    if not (directory / SPEC).is_file():
        raise UsageError(
            f"{origin} has no {SPEC}", hint="name the dist-git of glibc, and a branch with a spec"
        )
    if not (directory / "sources").is_file():
        raise UsageError(
            f"{origin} has no file sources, so nothing says which tarball it is for",
            hint="write it: SHA512 (NAME) = and the tarball's sha512, as `sha512sum --tag` prints it",
        )
    return Checkout(directory, origin, read_sources((directory / "sources").read_text(), origin))


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
    text = _expanded(checkout, machine, workplace)
    parsed = specfile.parse(text, f"{checkout.origin}: {SPEC}")
    if (parsed.name, parsed.version) != ("glibc", profile.glibc):
        raise UsageError(
            f"{checkout.origin} is {parsed.name} {parsed.version}, "
            f"profile {profile.name} is glibc {profile.glibc}",
            hint="choose another branch, or another --profile",
        )
    archive = _tarball(checkout, parsed.sources[0], source)
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
    own, why = _own_spec(checkout, machine, workplace, others, own_tests=own_tests)
    notes = [] if own else [f"%prep of the dist-git also says: {line}" for line in parsed.further]
    return DistGit(
        origin=checkout.origin,
        spec=checkout.directory / SPEC,
        archive=archive,
        archive_sha256=store.file_sha256(archive),
        topdir=parsed.topdir,
        patches=tuple(patches),
        own=own,
        why=why,
        notes=tuple(notes),
        files=tuple(others.values()) if own else (),
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
            f"{checkout.origin}: rpm cannot read {SPEC}:\n{e.tail}", hint="mend the spec, or name another ref"
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


def _tarball(checkout: Checkout, name: str, source: Callable[[], FetchedSource]) -> Path:
    wanted = checkout.tarballs.get(name)
    if wanted is None:
        raise UsageError(
            f"{checkout.origin}: sources does not list {name}, which {SPEC} builds from",
            hint="mend sources: `sha512sum --tag FILE` prints the line",
        )
    beside = checkout.directory / name
    if beside.is_file():
        seen = _sha512(beside)
        if seen != wanted:
            raise UsageError(
                f"{checkout.origin}: {name} beside the spec is not the one in sources: "
                f"its sha512 is {seen[:16]}…, not {wanted[:16]}…",
                hint="fetch it again (`fedpkg sources`, `centpkg sources`), or mend sources",
            )
        return beside
    fetched = source()
    seen = _sha512(fetched.file) if fetched.file else ""
    if fetched.file is None or seen != wanted:
        what = f"{fetched.file.name} with sha512 {seen[:16]}…" if fetched.file else f"a {fetched.record.kind}"
        raise UsageError(
            f"{checkout.origin} wants {name} with sha512 {wanted[:16]}…, and the source is {what}",
            hint=f"put {name} beside the spec, or give it with --source tarball:FILE-or-URL",
        )
    return fetched.file


def _sha512(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha512").hexdigest()


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
