"""Verb ``series``: are the patches in order, and do they apply one by one?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import click
from tabulate import tabulate

from pipeline import profile as profiles
from pipeline import source
from pipeline.build import stepwise
from pipeline.build.builder import Builder
from pipeline.build.options import Options
from pipeline.build.stepwise import PatchStep
from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.errors import ExitCode, UsageError
from pipeline.core.progress import say, warn
from pipeline.profile import Profile, targets
from pipeline.source import series

Row = tuple[str, str, str, str]
BuiltRow = tuple[str, str, str, str]


@click.command()
@click.option(
    "--profile", "names", multiple=True, metavar="NAME|FILE", help="Only this profile (repeatable)."
)
@click.option("--release", "releases", multiple=True, metavar="R", help="With --each: only this release.")
@click.option("--lint", "only_lint", is_flag=True, help="Only look the patches over (the default).")
@click.option("--each", is_flag=True, help="Also fetch the source and apply each series patch by patch.")
@click.option(
    "--build", "also_build", is_flag=True, help="With --each: build at each patch, compare warnings."
)
@click.option("--arch", "machines", multiple=True, metavar="A", help="With --build: default is the host's.")
@click.option(
    "--place", type=click.Choice(["container", "host"]), default="container", help="With --build: where."
)
@click.option("--image", default="", metavar="REF", help="With --build: another base for the build image.")
@click.option("--up-to", default="", metavar="PATCH", help="With --each: stop after this patch.")
@click.option(
    "--source", "override", default="", metavar="KIND:WHERE", help=f"Another source: {source.FORMS}."
)
def command(
    *,
    names: tuple[str, ...],
    releases: tuple[str, ...],
    only_lint: bool,
    each: bool,
    also_build: bool,
    machines: tuple[str, ...],
    place: Literal["container", "host"],
    image: str,
    up_to: str,
    override: str,
) -> int:
    """Look the patches over; with --each, apply every series to the source patch by patch, and --build it."""
    if only_lint and each:
        raise UsageError("--lint and --each exclude each other", hint="--each looks the patches over as well")
    if not each and (up_to or override or releases):
        raise UsageError("--release, --up-to and --source are for --each", hint="add --each")
    if also_build and not each:
        raise UsageError("--build is for --each", hint="add --each")
    if not also_build and (machines or place != "container" or image):
        raise UsageError("--arch, --place and --image are for --build", hint="add --each --build")
    if override and len(names) != 1:
        raise UsageError("--source is the source of one profile", hint="add --profile NAME")
    chosen = [profiles.load(name) for name in names or profiles.available()]
    found = [line for profile in chosen for line in series.lint(profile)]
    for line in found:
        print(line)
    if found:
        say(f"{len(found)} things to fix in the patches")
        return ExitCode.FAILED
    say(f"the patches of {', '.join(p.name for p in chosen)} are in order")
    if not each:
        return ExitCode.PASS
    options = Options(place=place, image=image) if also_build else None
    return apply_each(
        chosen, releases, up_to, override, asked=bool(names), options=options, machines=machines
    )


def apply_each(
    chosen: list[Profile],
    releases: tuple[str, ...],
    up_to: str,
    override: str,
    *,
    asked: bool,
    options: Options | None = None,
    machines: tuple[str, ...] = (),
) -> ExitCode:
    """Apply the series of each profile; one whose source is unavailable is MISSING unless it was named.

    With ``options`` what applies is also built so, patch by patch, for each of ``machines``. Asked for by
    name it raises what `pipeline.source.fetch` raises.
    """
    rows: list[Row] = []
    built: list[BuiltRow] = []
    missing = failed = False
    for profile in chosen:
        for name in releases:
            profile.get(name)
        available, why = (True, "") if asked else source.available(profile)
        if not available:
            warn(f"profile {profile.name} was not tried: {why}")
            missing = True
            continue
        fetched = source.fetch(profile, override or None)
        for release in releases or tuple(profile.releases):
            done, applies = apply_one(profile, release, fetched, up_to or None)
            failed |= not applies
            rows += done
        if options is not None and not failed:
            found = build_each(Builder(profile, fetched, options), releases, machines, up_to)
            failed |= any(step.wrong for _, step in found)
            built += [_row(profile.name, arch, step) for arch, step in found]
    print(tabulate(rows, headers=["release", "patch", "subject", "applies"], tablefmt="simple"))
    if built:
        print()
        print(tabulate(built, headers=["target", "patch", "builds", "new warnings"], tablefmt="simple"))
    if failed:
        return ExitCode.FAILED
    return ExitCode.MISSING if missing else ExitCode.PASS


def build_each(
    builder: Builder, releases: tuple[str, ...], machines: tuple[str, ...], up_to: str
) -> list[tuple[str, PatchStep]]:
    """(architecture, step) of every patch; what is wrong is said as soon as it is seen."""
    profile = builder.profile
    found = []
    for target in targets(profile, tuple(profile.releases)[:1], machines or (host_arch().name,)):
        for step in stepwise.each(builder, list(releases or profile.releases), target.arch, up_to):
            where = f"{profile.name}/{step.release}/{target.arch}: {step.patch}"
            if step.trouble and not step.as_in:
                warn(f"{where} does not build: {step.trouble}")
            for line in step.new or () if not step.as_in else ():
                warn(f"{where}: new warning: {line}")
            found.append((target.arch, step))
    return found


def _row(profile: str, arch: str, step: PatchStep) -> BuiltRow:
    if step.trouble:
        new = ""
    elif step.new is None:
        new = f"(nothing to compare with; has {len(step.warnings)})"
    else:
        new = str(len(step.new)) if step.new else "none"
    builds = "does not build" if step.trouble else "yes"
    same = f", as in {step.as_in}" if step.as_in else ""
    return f"{profile}/{step.release}/{arch}", step.patch, builds + same, new


def apply_one(
    profile: Profile, release: str, fetched: source.FetchedSource, up_to: str | None
) -> tuple[list[Row], bool]:
    """A row for each patch of a release, and whether all apply; the first that does not ends it."""
    chosen = series.load(profile.name, release)
    where = f"{profile.name}/{release}"
    rows: list[Row] = []
    paths.state().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.state(), prefix="series-") as work:
        tree = fetched.unpack(Path(work))
        for patch in chosen.patches_up_to(up_to):
            try:
                applied = series.apply_patch(patch, tree)
            except UsageError as e:
                warn(e.message)
                return [*rows, (where, patch.file, patch.subject, "does not apply")], False
            for note in applied.notes:
                warn(note)
            how = "with an offset" if applied.notes else "exactly"
            if applied.present:
                how = f"is there already: {applied.present}"
            rows.append((where, patch.file, patch.subject, how))
    return rows or [(where, "(none)", "", "the source as it is")], True
