"""Verb ``clean``: drop stored results."""

from __future__ import annotations

import click

from pipeline.cli import ending
from pipeline.core import paths
from pipeline.core.errors import ExitCode
from pipeline.core.progress import say
from pipeline.core.store import remove_tree

#: What can be made again from the rest, and what takes the network or an hour to get again.
CHEAP = (
    "build",
    "sysroot",
    "debroot",
    "probes",
    "probes-against",
    "image-tools",
    "devel",
    "devel-headers",
    "observation",
    "probe-rpm",
    "rpm-transactions",
    "rpm-installation",
    "rpm-payload",
    "rpm-marks",
    "rebuild",
    "charsets",
    "archives",
    "drawing",
    "naming",
    "elf-facts",
    "warnings",
    "branch",
    "distgit",
    "known-bad",
    "patched",
    "present",
    "trees",
    "packed",
    "variant",
    "course",
    "logs",
)
ALL = (*CHEAP, "ccache", "sources", "git", "apt", "kernel", "downloads", "quarantine", "image")


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also sources, kernels and the compiler cache.")
def command(everything: bool) -> int:
    """Drop stored results (builds, roots, probes, logs); the next run makes them again."""
    removed: list[str] = []
    for name in ALL if everything else CHEAP:
        directory = paths.state() / name
        if directory.exists():
            remove_tree(directory)
            say(f"removed {directory}")
            removed.append(str(directory))
    ending.tell(removed=removed)
    return ExitCode.PASS
