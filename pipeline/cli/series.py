"""Verb ``series``: are the patches in order, and do they apply one by one?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from tabulate import tabulate

from pipeline import paths, series, source
from pipeline import profile as profiles
from pipeline.errors import ExitCode, UsageError
from pipeline.profile import Profile
from pipeline.progress import say, warn

Row = tuple[str, str, str, str]


@click.command()
@click.option(
    "--profile", "names", multiple=True, metavar="NAME|FILE", help="Only this profile (repeatable)."
)
@click.option("--release", "releases", multiple=True, metavar="R", help="With --each: only this release.")
@click.option("--lint", "only_lint", is_flag=True, help="Only look the patches over (the default).")
@click.option("--each", is_flag=True, help="Also fetch the source and apply each series patch by patch.")
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
    up_to: str,
    override: str,
) -> int:
    """Look the patches over; with --each, apply every series to the source patch by patch."""
    if only_lint and each:
        raise UsageError("--lint and --each exclude each other", hint="--each looks the patches over as well")
    if not each and (up_to or override or releases):
        raise UsageError("--release, --up-to and --source are for --each", hint="add --each")
    if override and len(names) != 1:
        raise UsageError("--source is the source of one profile", hint="add --profile NAME")
    chosen = [profiles.load(name) for name in names or profiles.available()]
    found = [line for profile in chosen for line in series.lint(profile)]
    for line in found:
        print(line)
    if found:
        say(f"{len(found)} things to mend in the patches")
        return ExitCode.FAILED
    say(f"the patches of {', '.join(p.name for p in chosen)} are in order")
    return apply_each(chosen, releases, up_to, override, asked=bool(names)) if each else ExitCode.PASS


def apply_each(
    chosen: list[Profile], releases: tuple[str, ...], up_to: str, override: str, *, asked: bool
) -> ExitCode:
    """Apply the series of each profile; one whose source is not at hand is MISSING unless it was asked for.

    Asked for by name it raises what `pipeline.source.fetch` raises.
    """
    rows: list[Row] = []
    missing = failed = False
    for profile in chosen:
        for name in releases:
            profile.get(name)
        at_hand, why = (True, "") if asked else source.available(profile)
        if not at_hand:
            warn(f"profile {profile.name} was not tried: {why}")
            missing = True
            continue
        fetched = source.fetch(profile, override or None)
        for release in releases or tuple(profile.releases):
            done = apply_one(profile, release, fetched, up_to or None)
            failed |= any(row[3].startswith("does not apply") for row in done)
            rows += done
    print(tabulate(rows, headers=["release", "patch", "subject", "applies"], tablefmt="simple"))
    if failed:
        return ExitCode.FAILED
    return ExitCode.MISSING if missing else ExitCode.PASS


def apply_one(profile: Profile, release: str, fetched: source.FetchedSource, up_to: str | None) -> list[Row]:
    """A row for each patch of a release; it ends with the first that does not apply, which is explained."""
    chosen = series.load(profile.name, release)
    where = f"{profile.name}/{release}"
    rows: list[Row] = []
    paths.state().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.state(), prefix="series-") as work:
        tree = fetched.unpack(Path(work))
        for patch in chosen.patches_up_to(up_to):
            try:
                notes = series.apply_patch(patch, tree)
            except UsageError as e:
                warn(e.message)
                return [*rows, (where, patch.file, patch.subject, "does not apply")]
            for note in notes:
                warn(note)
            rows.append((where, patch.file, patch.subject, "with an offset" if notes else "exactly"))
    return rows or [(where, "(none)", "", "the source as it is")]
