"""Source + series -> RPMs, for each target. A release that is already built is found, not built again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.build import distgit, rpmbuild, scratch, sharedcache, tarball, trees
from pipeline.build.checkout import Checkout
from pipeline.build.conditions import ORDINARY, Conditions
from pipeline.build.course import Course
from pipeline.build.distgit import DistGit
from pipeline.build.options import NO_PATCH, Options
from pipeline.build.rpmbuild import Ingredients
from pipeline.build.stored import WARNINGS, built, log_of, read_manifest, write_manifest
from pipeline.build.workplace import Workplace
from pipeline.build.workplaces import Workplaces
from pipeline.core import paths, store
from pipeline.core.arch import Arch, arch
from pipeline.core.errors import CommandFailed, NoSpace, PrepFailed
from pipeline.core.outcome import Target
from pipeline.core.progress import say, step, warn
from pipeline.core.records import BuildManifest, BuildMode, Built, PatchRecord, file_record
from pipeline.core.store import Stored
from pipeline.profile import Profile
from pipeline.rpm import SOURCE_DATE_EPOCH, package
from pipeline.source import FetchedSource, series
from pipeline.source.patchfile import Patch

#: for each patch how the source shows that it has it, "" if it has not
PRESENT = "present.json"
CHECK_INC = paths.SPECS / "check.inc"


class Builder:
    """Builds the targets of one profile from one source; images are made when first needed.

    ``source`` may be what fetches it when it is first needed. ``distgits`` maps releases to the dist-gits
    they are built from in the place of source and series.
    """

    def __init__(
        self,
        profile: Profile,
        source: FetchedSource | Callable[[], FetchedSource],
        options: Options,
        distgits: Mapping[str, Checkout] | None = None,
    ) -> None:
        self.profile = profile
        self.options = options
        self.distgits = dict(distgits or {})
        self._source = source
        self._read: dict[tuple[str, str], DistGit] = {}
        self.workplaces = Workplaces(profile, options)

    @cached_property
    def source(self) -> FetchedSource:
        """The source; raises what `pipeline.source.fetch` raises."""
        return self._source if isinstance(self._source, FetchedSource) else self._source()

    def distgit(self, target: Target) -> DistGit | None:
        """The dist-git that ``target`` is built from, as rpm reads it where it is built; None: our series."""
        checkout = self.distgits.get(target.release)
        if checkout is None:
            return None
        at = (target.release, target.arch)
        if at not in self._read:
            machine = arch(target.arch)
            found = distgit.read(
                checkout, self.profile, machine, self.workplace(machine),
                source=lambda: self.source, own_tests=self.options.check,
            )  # fmt: skip
            found.patches_up_to(self.options.up_to)
            say(f"{target}: {found.record.origin}")
            if found.further:
                warn(_what_else_prep_does(target, found.further))
            self._read[at] = found
        return self._read[at]

    def patches(self, target: Target) -> tuple[Patch, ...]:
        """Those of our series that ``target`` is built with; raises `UsageError`."""
        up_to = "" if self.distgits else self.options.up_to
        chosen = series.load(self.profile.name, target.release)
        return () if up_to == NO_PATCH else chosen.patches_up_to(up_to or None)

    def records(self, target: Target) -> tuple[PatchRecord, ...]:
        """The records of `patches`, which say which ones the source has already. They are tried once.

        rpmbuild would neither leave those out nor say which hunk of a patch does not fit. Raises `UsageError`
        for the one that does not.
        """
        ours = self.patches(target)

        def make(into: Path) -> None:
            done = series.apply_all(ours, self.source.unpack(into / "tree"))
            (into / PRESENT).write_text(json.dumps([record.present for record in done]))
            store.remove_tree(into / "tree")

        inputs = {"source": self.source.identity, "patches": [p.sha256 for p in ours]}
        present = json.loads((store.produce("present", inputs, make).path / PRESENT).read_text())
        return tuple(
            p.record.model_copy(update={"present": why}) for p, why in zip(ours, present, strict=True)
        )

    def workplace(self, machine: Arch) -> Workplace:
        """Where targets of ``machine`` are built; raises as `Workplaces.of`."""
        return self.workplaces.of(machine)

    def mode(self, machine: Arch) -> BuildMode:
        """How targets of ``machine`` are built; raises as `Workplaces.mode`."""
        return self.workplaces.mode(machine)

    def inputs(self, target: Target) -> dict[str, Any]:
        """Everything that decides what the build of ``target`` makes."""
        machine = arch(target.arch)
        release = self.profile.get(target.release)
        made_from: dict[str, Any]
        if theirs := self.distgit(target):
            made_from = {"distgit": theirs.identity(self.options.up_to)}
        else:
            made_from = {
                "source": self.source.identity,
                **({} if self.source.topdir else {"top": tarball.TOP}),
                "patches": [[p.file, p.sha256] for p in self.patches(target)],
            }
        return {
            **made_from,
            "release": rpmbuild.release_inc(self.profile, release, archive="", topdir=""),
            "spec": rpmbuild.spec_sha256(),
            "workplace": self.workplace(machine).identity(machine),
            "arch": target.arch,
            "check": self.options.check
            and [store.file_sha256(CHECK_INC), *self.profile.tests_of(target.release)],
            "epoch": SOURCE_DATE_EPOCH,
            # a hermetic build must not be answered with one that was not; without it the key is as it was
            **({"shared_cache": True} if self.options.shared_cache else {}),
        }

    def stopping_at(self, patch: str) -> Builder:
        """A builder of the same in the same workplaces whose series stop after ``patch``."""
        other = Builder(self.profile, self.source, replace(self.options, up_to=patch), self.distgits)
        other.workplaces = self.workplaces
        return other

    def again(
        self, target: Target, into: Path, conditions: Conditions = ORDINARY, *, keep: bool = False
    ) -> BuildManifest:
        """Build a target from nothing below ``into`` whether it is stored or not; raises as `make`.

        ``keep``: its tree is kept.
        """
        with step(f"build {target} once again") as at:
            course = Course(target, at)
            self._make(target, into, course.heard, conditions=conditions, keep=keep)
            course.ended()
            return read_manifest(into)

    def find(self, target: Target) -> Built | None:
        """The built target if it is there, without building."""
        entry = store.peek("build", self.inputs(target))
        return None if entry is None else built(entry)

    def build(self, target: Target) -> Built:
        """The built target with its root, built if need be; raises as `make`."""
        return built(self.make(target))

    def make(self, target: Target, compiled: Callable[[], object] = lambda: None) -> Stored:
        """The stored result of a target, built if need be; ``compiled``: called when its objects are there.

        Raises `CommandFailed` with the path of the full log if rpmbuild fails, `UsageError` for a patch that
        does not apply.
        """
        machine = arch(target.arch)
        inputs = self.inputs(target)
        if found := store.peek("build", inputs):
            return found
        how = self.mode(machine)
        title = f"build {target}" + ("" if how == "native" else f" ({how})")
        if self.options.up_to:  # of many such builds in a row, each says which it is
            title += f" up to {self.options.up_to}"
        with step(title) as at:
            begin = self.kept(target)
            course = Course(target, at, kept=bool(begin))

            def build(into: Path) -> None:
                self._make(target, into, course.heard, compiled=compiled, kept=begin, keep=begin is not None)

            entry = store.produce("build", inputs, build)
            manifest = read_manifest(entry.path)
            if not manifest.tree:
                course.ended()
            hits = sum(n for k, n in manifest.ccache.items() if k.endswith("hit") and "cache_hit" in k)
            objects = (
                ", from a kept tree" if manifest.tree else f", {hits} objects from ccache" if hits else ""
            )
            at.done(f"{len(manifest.rpms)} RPMs{objects}")
        return entry

    def kept(self, target: Target) -> list[Path] | None:
        """The trees that a build of ``target`` may begin with; None: it neither uses nor keeps one.

        On the host each build has a directory of its own. glibc's own tests begin with no object, and
        the steps of a series ask what the compiler says, which kept objects do not repeat. Objects from a
        shared compiler cache would make other builds what they were made from.
        """
        options = self.options
        other = self.distgit(target) or options.check or options.up_to or options.shared_cache
        if other or self.workplace(arch(target.arch)).image is None or not trees.wanted():
            return None
        return trees.kept(target, self.inputs(target))

    def _make(
        self,
        target: Target,
        into: Path,
        at: Callable[[str], None],
        *,
        compiled: Callable[[], object] = lambda: None,
        conditions: Conditions = ORDINARY,
        kept: Sequence[Path] | None = None,
        keep: bool = False,
    ) -> None:
        start = time.monotonic()
        machine = arch(target.arch)
        release = self.profile.get(target.release)
        workplace = self.workplace(machine)
        shared = sharedcache.usable(self.options.shared_cache, workplace.ccache_version)
        top = into / "rpmbuild"
        top.mkdir()
        theirs = self.distgit(target)
        extra = [CHECK_INC] if self.options.check else []
        patches: tuple[PatchRecord, ...]
        if theirs:
            inc = rpmbuild.release_inc(
                self.profile, release, archive=theirs.archive.name, topdir=theirs.topdir
            )
            theirs.lay_out(top, inc, up_to=self.options.up_to, extra=extra)
            patches = tuple(p.record for p in theirs.patches_up_to(self.options.up_to))
        else:
            patches = self.records(target)
            absent = {record.file for record in patches if not record.present}
            ours = tuple(p for p in self.patches(target) if p.file in absent)
            archive, topdir = tarball.source_archive(self.source, into)
            Ingredients(
                archive=archive,
                patches=[p.path for p in ours],
                release_inc=rpmbuild.release_inc(self.profile, release, archive=archive.name, topdir=topdir),
                patches_inc=rpmbuild.patches_inc([p.file for p in ours]),
                spec=paths.SPECS / "glibc.spec",
                extra=extra,
            ).lay_out(top)
        log = log_of(target, into)
        log.unlink(missing_ok=True)
        warnings: set[str] = set()
        hooked = keep or bool(kept)
        first = workplace.at("/build/hooks/bin", trees.lay_out(top, kept or (), keep=keep)) if hooked else ""

        def heard(line: str) -> None:
            warnings.add(rpmbuild.warning_in(line))
            if hooked and line.startswith(trees.KEPT):
                try:
                    trees.publish(top, target, self.inputs(target))
                except (OSError, NoSpace) as e:  # the build itself is well
                    warn(f"{target}: its objects are not kept: {e}")
            if line.startswith(trees.SETTLED if hooked else f"{rpmbuild.EXECUTING}%install)"):
                compiled()

        try:
            statistics = rpmbuild.rpmbuild(
                workplace,
                machine,
                self.profile.name,
                top,
                log=log,
                at=at,
                heard=heard,
                own_tests=self.profile.tests_of(target.release) if self.options.check else None,
                shared_cache=shared,
                options=("--nocheck",) if theirs and theirs.own else (),  # hours, and no evidence of ours
                # another's spec may build any number of things
                in_memory=not (theirs and theirs.own) and scratch.in_memory(),
                first_in_path=first,
                conditions=conditions,
            )
        except PrepFailed:
            if theirs:  # most likely a patch: say which hunk, as rpmbuild does not
                theirs.apply(into / "tree", up_to=self.options.up_to)
            raise
        rpms, srpm = rpmbuild.collect(top, into / "RPMS")
        manifest = BuildManifest(
            target=target,
            key=into.name,
            nvr=_nvr(rpms) if theirs and theirs.own else f"glibc-{self.profile.glibc}-{release.rpm_release}",
            rpms=tuple(file_record(rpm) for rpm in rpms),
            srpm=file_record(srpm) if srpm else None,
            mode=workplace.mode,
            place=workplace.name,
            hermetic=workplace.image is not None and not shared,
            source=theirs.record if theirs else self.source.record,
            patches=patches,
            image=workplace.image.record if workplace.image else None,
            own_tests=rpmbuild.read_own_tests(top) if self.options.check else None,
            seconds=round(time.monotonic() - start, 1),
            ccache=statistics,
            tree=trees.begun(top)[0] if hooked else "",
            seen=Conditions.seen(top),
        )
        if (top / "results").is_dir():
            (top / "results").rename(into / "results")
        # from what was heard, not from the log, which another build of the target may write meanwhile; the
        # compiler says nothing of objects that were kept
        if not manifest.tree:
            (into / WARNINGS).write_text(json.dumps(sorted(warnings - {""})) + "\n")
        write_manifest(into, manifest)
        store.remove_tree(top)
        store.remove_tree(into / "source")


def _what_else_prep_does(target: Target, commands: Sequence[str]) -> str:
    """One line on the commands of a dist-git's %prep that our spec does not run; all of them in a log."""
    log = paths.logs() / f"prep-{target.profile}-{target.release}-{target.arch}.log"
    store.write_atomically(log, "\n".join(commands) + "\n")
    names = ", ".join(dict.fromkeys(c.split()[0] for c in commands))
    count = f"{len(commands)} more command{'s'[: len(commands) > 1]}"
    return f"{target}: its %prep has {count}, which specs/glibc.spec does not run ({names}); all of it: {log}"


def _nvr(rpms: Sequence[Path]) -> str:
    """Name, version and release of the package glibc that another's spec made; raises `CommandFailed`."""
    for path in rpms:
        rpm = package.read(path)
        if rpm.name == "glibc":
            return rpm.nvr
    raise CommandFailed("the dist-git's own spec made no package called glibc")
