"""Verb ``verify``: every check on built RPMs -> evidence, verdict, sign-off report."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline import checks, image, paths, report, source, waiver, workshop
from pipeline.arch import Arch, host_arch
from pipeline.build import Builder, build_all
from pipeline.cli.options import Choice, choice_options
from pipeline.profile import targets
from pipeline.progress import say
from pipeline.sites import Sites
from pipeline.verify import verify


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Where the report goes (default: ./out).")
@click.option(
    "--waivers", "waivers_file", type=click.Path(path_type=Path), help="TOML file of waived causes."
)
@click.option("--fresh", is_flag=True, help="Watch programs again even if nothing changed.")
@choice_options
def command(out: Path | None, waivers_file: Path | None, fresh: bool, choice: Choice) -> int:
    """Run every check on the chosen targets and write the sign-off report. Builds what is not built yet."""
    profile, _ = choice.profile()
    wanted = choice.targets(profile)
    builder = Builder(profile, source.fetch(profile, choice.source or None), choice.build)
    # A comparison needs both ends, so all releases of an architecture are taken whatever was chosen.
    arches = tuple(dict.fromkeys(t.arch for t in wanted))
    built = build_all(builder, targets(profile, (), arches))

    def programs(machine: Arch) -> Path:
        return workshop.compile_programs(profile, machine, builder.workplace(machine), built[machine.name])

    container = None
    if choice.build.place == "container":
        container = image.ensure(profile, reference=choice.build.image, machine=host_arch())
    sites = Sites(profile, choice.places, choice.kernels, container)
    evidence = verify(
        profile,
        wanted,
        built,
        programs=programs,
        sites=sites.for_arch,
        static=checks.STATIC,
        watched=checks.WATCHED,
        command="nox -s build verify" + (f" -- {' '.join(sys.argv[2:])}" if sys.argv[2:] else ""),
        fresh=fresh,
        waivers=waiver.load(waivers_file) if waivers_file else (),
    )
    written = report.write_all(evidence, out or paths.out())
    say(f"report: {written.html}")
    return evidence.verdict.exit_code
