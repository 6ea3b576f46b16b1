"""Verb ``scan``: on which releases will these files start, and if not, which symbol is missing where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from pipeline import profile as profiles
from pipeline.core import store
from pipeline.core.errors import ExitCode, UsageError
from pipeline.core.outputs import check_files
from pipeline.core.progress import say, step, warn
from pipeline.profile import Outline
from pipeline.scan import Scan, layers, record, sarif, scan, table
from pipeline.scan.judge import Answer


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--profile",
    default="auto",
    show_default=True,
    metavar="NAME|FILE",
    help="auto (el9), el9, el10, bookworm, a TOML file.",
)
@click.option("--release", "releases", multiple=True, metavar="R", help="Only this release (repeatable).")
@click.option("--arch", "arches", multiple=True, metavar="A", help="Only this architecture (repeatable).")
@click.option(
    "--floor",
    default="",
    metavar="PROFILE:RELEASE",
    help="A gate: all must start on this release and every later one (el9:9.2).",
)
@click.option("--failing", is_flag=True, help="Show only files that do not start on every release.")
@click.option(
    "--requires", is_flag=True, help="For each versioned Requires of an RPM: the files and symbols behind it."
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write the result as JSON."
)
@click.option(
    "--sarif", "sarif_file", type=click.Path(path_type=Path), metavar="FILE", help="Write SARIF 2.1.0."
)
def command(
    *,
    paths: tuple[Path, ...],
    profile: str,
    releases: tuple[str, ...],
    arches: tuple[str, ...],
    floor: str,
    failing: bool,
    requires: bool,
    json_file: Path | None,
    sarif_file: Path | None,
) -> int:
    """Say on which releases of the profile files will start, and if not, which symbol is missing there.

    PATHS are ELF files, directories, wheels and other zip archives, RPMs, debs, tar archives, and container
    images (oci:DIR, docker-archive:FILE). Nothing is run; the committed baselines decide. Exit code: 0 all
    start on all chosen releases, 1 some do not, 3 something could not be judged.
    """
    if not paths:
        raise UsageError(
            "name what to scan", hint="files, directories, wheels, RPMs, debs or tar archives: scan PATH..."
        )
    for path in paths:
        if not (layers.path_of(str(path)) if layers.is_image(str(path)) else path).exists():
            raise UsageError(f"{path} does not exist", hint="check the path; nothing was scanned")
    if json_file and sarif_file and json_file.absolute() == sarif_file.absolute():
        raise UsageError(f"--json and --sarif both name {json_file}", hint="name two files")
    check_files({"--json FILE": json_file, "--sarif FILE": sarif_file})
    if floor:
        if releases or profile != "auto":
            raise UsageError(
                "--floor names profile and releases itself", hint="leave out --profile and --release"
            )
        chosen, releases = _from_floor(floor)
    else:
        # baselines are committed: unlike what builds, scan needs no source to take the mission's profile
        chosen = profiles.load_outline(profiles.MISSION if profile == "auto" else profile)
    wanted, machines = chosen.chosen(releases, arches)
    with step("scan") as current:
        result = scan(chosen, wanted, machines, paths, with_requires=requires)
        current.done(_counted(len(result.files), "file", "files"))
    _show(result, failing=failing)
    if json_file:
        store.write_atomically(json_file, record.to_json(result))
    if sarif_file:
        store.write_atomically(sarif_file, sarif.to_sarif(result))
    return result.exit_code


def _from_floor(text: str) -> tuple[Outline, tuple[str, ...]]:
    """The profile of ``PROFILE:RELEASE``, and its releases from that one on; raises `UsageError`."""
    name, colon, release = text.rpartition(":")
    if not colon:
        raise UsageError(f"--floor {text} is no PROFILE:RELEASE", hint="for example --floor el9:9.2")
    chosen = profiles.load_outline(name)
    chosen.chosen((release,), ())
    return chosen, chosen.names[chosen.names.index(release) :]


def _show(result: Scan, *, failing: bool) -> None:
    shown = table.text_of(result, failing=failing)
    if shown:
        click.echo(shown)
    for words, names in _together(result.derived).items():
        say(f"* no package of {', '.join(names)} was read: {words}")
    if not result.files:
        warn("no ELF file was found, so nothing was judged")
    counts = {a: sum(a in f.answers for f in result.files) for a in Answer}
    start = [f for f in result.files if f.answers == {Answer.STARTS}]
    open_ = sum(any(j.elsewhere for j in f.judgements.values()) for f in start)
    say(
        f"{_counted(len(result.files), 'file', 'files')}: "
        f"{_counted(len(start), 'starts', 'start')} on every release"
        + (f" ({open_} of them if libraries that are not glibc's are there)" if open_ else "")
        + f", {_counted(counts[Answer.FAILS], 'fails', 'fail')} on some, "
        f"{counts[Answer.UNKNOWN]} could not be judged, "
        f"{_counted(counts[Answer.NOT_APPLICABLE], 'does', 'do')} not apply"
    )
    if result.exit_code == ExitCode.MISSING:
        say("what could not be judged is not known to start (exit code 3)")


def _together(derived: Mapping[str, str]) -> dict[str, list[str]]:
    """Words -> the releases that they are of."""
    found: dict[str, list[str]] = {}
    for release, words in derived.items():
        found.setdefault(words, []).append(release)
    return found


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
