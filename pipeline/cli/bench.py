"""Verb ``bench``: the ratios the pipeline is held to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
from tabulate import tabulate

from pipeline import source
from pipeline.benchmark import builds, scan
from pipeline.benchmark import page as pages
from pipeline.build.builder import Builder
from pipeline.build.every import build_all
from pipeline.cli import ending
from pipeline.cli.options import Choice, choice_options
from pipeline.core import paths, store
from pipeline.core.arch import host_arch
from pipeline.core.errors import ExitCode, ToolMissing
from pipeline.core.outcome import Target
from pipeline.core.outputs import check_writable
from pipeline.core.progress import say

#: What ours is compared with. It is asked for first: the builds before it take a quarter of an hour.
COMPARED_WITH = {"scan": "readelf", "abi": "abidiff"}


@click.command()
@click.option(
    "--only", type=click.Choice(["builds", "abi", "scan"]), help="Only this one (builds takes half an hour)."
)
@click.option(
    "--page", type=click.Path(path_type=Path), help="Also write the figures and their machine as Markdown."
)
@choice_options("bench")
def command(only: str | None, page: Path | None, choice: Choice) -> int:
    """Releases against one plain build, our listing against abidiff, our scan against readelf.

    Ends 1 if a ratio is missed.
    """
    check_writable(paths.out(), "the figures", "run it in another directory")
    if page:
        check_writable(page.parent, "the page", "name another file with `--page`")
    for part, program in COMPARED_WITH.items():
        if only in (None, part) and not shutil.which(program):
            raise ToolMissing(f"{program} is not installed", hint="`nox -s setup -- --dev` brings it")
    profile, _ = choice.profile()
    own = choice.profile_name.endswith(".toml")
    named = str(Path(choice.profile_name).absolute()) if own else profile.name
    ratios = []
    if only in (None, "scan"):
        ratios.append(scan.scan_ratio(named))
    if only in (None, "abi", "builds"):
        fetched = source.fetch(profile, choice.source or None)
    if only in (None, "abi"):
        machine = host_arch().name
        wanted = [Target(profile=profile.name, release=r.name, arch=machine) for r in profile.release]
        made = build_all(Builder(profile, fetched, choice.build), wanted)
        ratios.append(builds.abi_ratio(made[machine]))
    if only in (None, "builds"):
        chosen = ["--profile", named, *(["--source", choice.source] if choice.source else [])]
        ratios += builds.build_ratios(profile, fetched, choice.build, chosen)
    print(tabulate(pages.rows(ratios), headers=pages.HEADERS, tablefmt="simple"))
    for r in ratios:
        if r.figures:
            say(f"{r.meaning}: " + ", ".join(f"{name} {value:.2f}" for name, value in r.figures.items()))
    record = pages.record(ratios)
    ending.tell(figures=record)
    store.write_atomically(paths.out() / "bench.json", json.dumps(record, indent=1) + "\n")
    if page:
        store.write_atomically(page, pages.page(ratios, record))
    return ExitCode.PASS if all(r.holds for r in ratios) else ExitCode.FAILED
