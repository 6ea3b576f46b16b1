"""Verb ``setup``: install what the host lacks, make the images."""

from __future__ import annotations

import click
from tabulate import tabulate

from pipeline.cli.options import Choice, choice_options
from pipeline.core.errors import ExitCode
from pipeline.core.progress import say
from pipeline.host import hosttools, image


@click.command()
@click.option("--dev", is_flag=True, help="Also what the tests and benchmarks need.")
@click.option("--no-image", is_flag=True, help="Leave the build image alone.")
@choice_options
def command(dev: bool, no_image: bool, choice: Choice) -> int:
    """Install what the host lacks and make the build image. Does nothing if nothing is missing.

    With --check: only print the table of what is there, and how to mend what is not.
    """
    groups = ["run", "host-build", "vm", *(["dev"] if dev else [])]
    lacking = hosttools.missing(groups)
    if choice.build.check:
        rows = hosttools.table(groups)
        print(tabulate(rows, headers=["tool", "found", "package", "what for"], tablefmt="simple"))
        manager = hosttools.installer()
        if lacking and manager:
            say(f"to mend it, as root: {manager.command(lacking)}")
        return ExitCode.WORLD if lacking else ExitCode.PASS
    if lacking:
        hosttools.install(lacking)
    if not no_image and choice.build.place == "container":
        profile, _ = choice.profile()
        made = image.ensure(profile, reference=choice.build.image)
        say(f"build image: {made.name} ({made.engine})")
    return ExitCode.PASS
