"""Verb ``setup``: install what the host lacks, make the images."""

from __future__ import annotations

import os

import click
from tabulate import tabulate

from pipeline.cli import ending
from pipeline.cli.options import BESIDE, Choice, choice_options
from pipeline.core.errors import ExitCode, UsageError
from pipeline.core.progress import say
from pipeline.host import engine as engines
from pipeline.host import hosttools, image


@click.command()
@click.option("--dev", is_flag=True, help="Also what the tests and benchmarks need.")
@click.option("--no-image", is_flag=True, help="Leave the build image alone.")
@click.option("--check", is_flag=True, help="Only print the table of what is there and what is missing.")
@choice_options("setup")
def command(dev: bool, no_image: bool, check: bool, choice: Choice) -> int:
    """Install what the host lacks and make the build image. Does nothing if nothing is missing."""
    if check and set(os.environ.get(BESIDE, "").split()) - {"setup"}:
        raise UsageError(
            "--check prints a table in setup and runs glibc's own tests in build and verify",
            hint="run `nox -s setup -- --check` by itself; in build and verify it is also --own-tests",
        )
    groups = ["run", "host-build", "vm", *(["dev"] if dev else [])]
    lacking = hosttools.missing(groups)
    ending.tell(missing=[{"tool": t.name, "why": t.why} for t in lacking])
    if check:
        rows = hosttools.table(groups)
        print(tabulate(rows, headers=["tool", "found", "package", "what for"], tablefmt="simple"))
        manager = hosttools.installer()
        if lacking and manager:
            say(f"to install it, as root: {manager.command(lacking)}")
        return ExitCode.WORLD if lacking else ExitCode.PASS
    if lacking:
        hosttools.install(lacking)
    if not no_image and choice.build.place == "container":
        profile, _ = choice.profile()
        for engine in engines.importers():
            engines.forget(engine.program)  # whoever asks for a set-up wants to know whether it works now
        made = image.ensure(profile, reference=choice.build.image)
        say(f"build image: {made.name} ({made.engine})")
    return ExitCode.PASS
