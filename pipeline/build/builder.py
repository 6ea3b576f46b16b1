"""Source + series -> RPMs, for each target. A release that is already built is found, not built again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from pipeline.build import distgit, estimate, rpmbuild, scratch, sharedcache, tarball
from pipeline.build.checkout import Checkout
from pipeline.build.conditions import Conditions
from pipeline.build.distgit import DistGit
from pipeline.build.rpmbuild import Ingredients
from pipeline.build.workplace import Workplace
from pipeline.core import paths, store
from pipeline.core.arch import Arch, arch, host_arch
from pipeline.core.errors import CommandFailed, EvidenceError, PrepFailed, UsageError, reason
from pipeline.core.lanes import Piece, lane_event, side_by_side
from pipeline.core.outcome import Target
from pipeline.core.progress import say, step, warn
from pipeline.core.records import BuildManifest, BuildMode, Built, PatchRecord, file_record
from pipeline.core.store import Stored, file_sha256
from pipeline.host import image as images
from pipeline.host.image import BuildImage
from pipeline.profile import Profile
from pipeline.rpm import SOURCE_DATE_EPOCH, package
from pipeline.rpm.sysroot import extract
from pipeline.source import FetchedSource, series
from pipeline.source.patchfile import Patch

#: ``auto``: with a cross compiler where there is one, else emulated
ForeignBuild = Literal["auto", "cross", "emulated"]
MANIFEST = "manifest.json"
#: what the compiler warned of in the build: a sorted list of ``FILE: WORDS``
WARNINGS = "warnings.json"
#: for each patch how the source shows that it has it, "" if it has not
PRESENT = "present.json"
#: ``Options.up_to`` for the source as it is, with no patch at all
NO_PATCH = "(none)"
CHECK_INC = paths.SPECS / "check.inc"


@dataclass(frozen=True)
class Options:
    """What the user chose about a build.

    ``place``: ``container``, or ``host`` for machines without an engine (recorded as not hermetic).
    ``foreign``: how a target of another architecture is built. ``image``: another base than the profile's.
    ``up_to``: the series stops after this patch (with dist-gits theirs stop, ours are whole; `NO_PATCH`: ours
    has not begun). ``check``: run glibc's own rseq tests in the build.
    ``shared_cache``: address of ccache's remote storage (`pipeline.build.sharedcache`), "" for none.
    """

    place: Literal["container", "host"] = "container"
    foreign: ForeignBuild = "auto"
    image: str = ""
    up_to: str = ""
    check: bool = False
    shared_cache: str = ""


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
        self._workplaces: dict[BuildMode, Workplace] = {}
        self._modes: dict[str, BuildMode] = {}

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
        """Where targets of ``machine`` are built."""
        mode = self.mode(machine)
        if mode not in self._workplaces:
            image: BuildImage | None = None
            if self.options.place == "container":
                runs_on = machine if mode == "emulated" else host_arch()
                image = images.ensure(self.profile, reference=self.options.image, machine=runs_on)
            elif mode == "emulated":
                raise UsageError(
                    "an emulated build needs a container of that architecture",
                    hint="use `--aarch64-build cross` with `--place host`",
                )
            self._workplaces[mode] = Workplace(image, mode)
        return self._workplaces[mode]

    def mode(self, machine: Arch) -> BuildMode:
        """How targets of ``machine`` are built; the workplace says whether it has a cross compiler.

        Raises `UsageError` where a cross build was asked for by name and there is no compiler for it.
        """
        if machine.name not in self._modes:
            self._modes[machine.name] = self._mode(machine)
        return self._modes[machine.name]

    def _mode(self, machine: Arch) -> BuildMode:
        if machine == host_arch():
            return "native"
        if self.options.foreign == "emulated":
            return "emulated"
        host = self.workplace(host_arch())
        if host.cross_compiler(machine):
            return "cross"
        where = f"build image ({host.image.record.base})" if host.image else "host"
        lacks = f"the {where} has no compiler for {machine.name} ({machine.triplet}-gcc)"
        if self.options.foreign == "cross" or not host.image:
            raise UsageError(
                f"{lacks}, so nothing can be cross-built there",
                hint="leave --aarch64-build out or say `--aarch64-build emulated` (hours, in a container), "
                f"or `--image bookworm` (has one), or build on a machine of {machine.name}",
            )
        say(
            f"{lacks}: {machine.name} is built emulated by QEMU, which takes hours for each release (2 h "
            "47 min were seen on two cores, less where the compiler cache has objects). Alternatives: "
            f"--image bookworm (cross-built in minutes), --arch {host_arch().name}, or a machine of "
            f"{machine.name} for its part and `nox -s report -- --merge`"
        )
        return "emulated"

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
        other._workplaces, other._modes = self._workplaces, self._modes
        return other

    def again(self, target: Target, into: Path, conditions: Conditions | None = None) -> dict[str, str]:
        """Build a target below ``into`` whether it is stored or not; raises as `make`.

        Returns what the build saw of ``conditions``, by name.
        """
        with step(f"build {target} once again") as at:
            return self._make(target, arch(target.arch), into, at.at, conditions)

    def find(self, target: Target) -> Built | None:
        """The built target if it is there, without building."""
        entry = store.peek("build", self.inputs(target))
        return None if entry is None else built(entry)

    def build(self, target: Target) -> Built:
        """The built target with its root, built if need be; raises as `make`."""
        return built(self.make(target))

    def make(self, target: Target, compiled: Callable[[], object] = lambda: None) -> Stored:
        """The stored result of a target, built if need be; ``compiled`` is called when all objects are there.

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

            def notice(words: str) -> None:
                if words.startswith(f"{rpmbuild.EXECUTING}%install)"):
                    compiled()
                at.at(words)

            def build(into: Path) -> None:
                self._make(target, machine, into, notice)

            entry = store.produce("build", inputs, build)
            manifest = read_manifest(entry.path)
            hits = sum(n for k, n in manifest.ccache.items() if k.endswith("hit") and "cache_hit" in k)
            at.done(f"{len(manifest.rpms)} RPMs" + (f", {hits} objects from ccache" if hits else ""))
        return entry

    def _make(
        self,
        target: Target,
        machine: Arch,
        into: Path,
        at: Callable[[str], None],
        conditions: Conditions | None = None,
    ) -> dict[str, str]:
        start = time.monotonic()
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
            archive, topdir = source_archive(self.source, into)
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
        try:
            statistics = rpmbuild.rpmbuild(
                workplace,
                machine,
                self.profile.name,
                top,
                log=log,
                at=at,
                heard=lambda line: warnings.add(rpmbuild.warning_in(line)),
                own_tests=self.profile.tests_of(target.release) if self.options.check else None,
                shared_cache=shared,
                options=("--nocheck",) if theirs and theirs.own else (),  # hours, and no evidence of ours
                # another's spec may build any number of things
                in_memory=not (theirs and theirs.own) and scratch.in_memory(),
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
        )
        if (top / "results").is_dir():
            (top / "results").rename(into / "results")
        # from what was heard, not from the log, which another build of the target may write meanwhile
        (into / WARNINGS).write_text(json.dumps(sorted(warnings - {""})) + "\n")
        (into / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        seen = Conditions.seen(top)
        store.remove_tree(top)
        store.remove_tree(into / "source")
        return seen


def log_of(target: Target, into: Path) -> Path:
    """Where rpmbuild's full output goes: builds of one target at the same time have different directories.

    ``build-TARGET.log`` beside it is a link to the log that was begun last.
    """
    stem = f"build-{target.profile}-{target.release}-{target.arch}"
    log = paths.logs() / f"{stem}-{into.name.strip('.').partition('.')[0]}.log"
    latest = log.with_name(f"{stem}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    new = log.with_name(f".{log.name}.link")
    new.unlink(missing_ok=True)
    new.symlink_to(log.name)
    new.rename(latest)
    return log


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


def source_archive(source: FetchedSource, into: Path) -> tuple[Path, str]:
    """The source as an archive for the source RPM, and the name of its top directory.

    A tarball is taken as it is; a tree is packed so that equal trees make equal archives.
    """
    if source.file and source.topdir:
        return source.file, source.topdir
    tree = source.unpack(into / "source")
    packed = into / "source" / f"{tree.name}.tar"
    tarball.pack(tree, packed, tree.name)
    return packed, tree.name


def read_manifest(directory: Path) -> BuildManifest:
    """The record of a stored build; its key is the directory's name. Raises `EvidenceError`."""
    try:
        manifest = BuildManifest.model_validate_json((directory / MANIFEST).read_text())
    except (OSError, ValueError) as e:
        raise EvidenceError(
            f"{directory / MANIFEST} cannot be read: {reason(e)}",
            hint=f"remove {directory} and run `nox -s build` again",
        ) from None
    return manifest.model_copy(update={"key": directory.name})


def built(entry: Stored) -> Built:
    """A stored build with its root extracted; every RPM and the source RPM is compared with its record first.

    Raises `EvidenceError` naming the RPM that is not what was built.
    """
    manifest = read_manifest(entry.path)
    directory = entry.path / "RPMS"
    for record in manifest.files:
        rpm = directory / record.file
        if not rpm.is_file():
            raise EvidenceError(
                f"{rpm} is gone since it was built", hint=f"remove {entry.path} and run `nox -s build` again"
            )
        if rpm.stat().st_size != record.size or file_sha256(rpm) != record.sha256:
            raise EvidenceError(
                f"{rpm} is not the file that was built (its record says {record.sha256[:16]}…)",
                hint=f"remove {entry.path} and run `nox -s build` again",
            )
    root = extract([directory / r.file for r in manifest.rpms], judged=True)
    return Built(manifest=manifest, rpms=directory, root=root)


def make_all(builder: Builder, wanted: Sequence[Target], *, lanes: int | None = None) -> None:
    """Build what is not built yet, side by side in ``lanes`` (default: two where there are two processors).

    The others of an architecture begin when its first has compiled everything (it installs and packs on one
    processor), and find its objects in the compiler cache. Raises as `Builder.make`.
    """
    if lanes is None:
        lanes = min(2, len(os.sched_getaffinity(0)))
    missing = [t for t in wanted if store.peek("build", builder.inputs(t)) is None]  # makes the images, too
    say(estimate.plan(wanted, missing, len(os.sched_getaffinity(0))))
    first = {t.arch: t for t in reversed(missing)}
    compiled = {name: lane_event() for name in first}

    def make(target: Target) -> None:
        event = compiled[target.arch]
        if target != first[target.arch]:
            builder.make(target)
            return
        try:
            builder.make(target, event.set)
        finally:
            event.set()  # built meanwhile by another, or failed: stop waiting

    order = sorted(missing, key=lambda t: t != first[t.arch])
    pieces = [Piece(partial(make, t), None if t == first[t.arch] else compiled[t.arch].is_set) for t in order]
    side_by_side(pieces, lanes=lanes)


def build_all(builder: Builder, wanted: Sequence[Target]) -> Mapping[str, dict[str, Built]]:
    """Build all targets: architecture -> release -> built, in the order asked for."""
    make_all(builder, wanted)
    result: dict[str, dict[str, Built]] = {}
    for target in wanted:
        result.setdefault(target.arch, {})[target.release] = builder.build(target)
    return result
