"""Verb ``build``: source + series -> RPMs."""

from __future__ import annotations

from pathlib import Path

import click
from tabulate import tabulate

from pipeline.build.builder import build_all
from pipeline.cli.options import Choice, choice_options, distgit_option, lookaside_option
from pipeline.core.errors import ExitCode
from pipeline.verify.sites import Sites


@click.command()
@distgit_option
@lookaside_option
@choice_options
def command(distgits: tuple[str, ...], lookaside: tuple[Path, ...], choice: Choice) -> int:
    """Build the RPMs of each chosen target. What is already built is found, not built again."""
    profile, _ = choice.profile()
    wanted = choice.targets(profile)
    Sites(profile, choice.places, choice.kernels).check(
        []
    )  # `verify` may come after this with the same words
    builder = choice.builder(profile, distgits, lookaside)
    made = build_all(builder, wanted)
    rows = [
        (str(b.target), b.manifest.nvr, b.manifest.mode, f"{b.manifest.seconds:.0f} s", str(b.rpms))
        for releases in made.values()
        for b in releases.values()
    ]
    print(tabulate(rows, headers=["target", "package", "build", "took", "RPMs"], tablefmt="simple"))
    return ExitCode.PASS
