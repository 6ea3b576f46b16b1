"""Verb ``bench``: the two ratios the pipeline is held to."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from tabulate import tabulate

from pipeline import bench, paths, source, store
from pipeline.arch import host_arch
from pipeline.build import Builder, build_all
from pipeline.cli.options import Choice, choice_options
from pipeline.errors import ExitCode
from pipeline.outcome import Target


@click.command()
@click.option("--only", type=click.Choice(["build", "abi"]), help="Only this one (build takes half an hour).")
@choice_options
def command(only: str | None, choice: Choice) -> int:
    """Three releases against one plain build; our listing against abidiff. Ends 1 if a ratio is missed."""
    profile, _ = choice.profile()
    fetched = source.fetch(profile, choice.source or None)
    ratios = []
    if only in (None, "abi"):
        machine = host_arch().name
        wanted = [Target(profile=profile.name, release=r.name, arch=machine) for r in profile.release]
        made = build_all(Builder(profile, fetched, choice.build), wanted)
        ratios.append(bench.abi_ratio(made[machine]))
    if only in (None, "build"):
        ratios.append(bench.build_ratio(profile, fetched, choice.build))
    rows = [
        (
            r.meaning,
            f"{r.theirs:.2f} s",
            f"{r.ours:.2f} s",
            f"{r.ratio:.2f}",
            r.limit,
            "yes" if r.holds else "NO",
        )
        for r in ratios
    ]
    print(tabulate(rows, headers=["what", "theirs", "ours", "ratio", "wanted", "holds"], tablefmt="simple"))
    record = paths.out() / "bench.json"
    store.write_atomically(record, json.dumps([asdict(r) for r in ratios], indent=1) + "\n")
    return ExitCode.PASS if all(r.holds for r in ratios) else ExitCode.FAILED
