"""Verb ``build``: source + series -> RPMs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from tabulate import tabulate

from pipeline.build import variants
from pipeline.build.builder import Builder
from pipeline.build.every import make_all
from pipeline.build.stored import packages
from pipeline.build.variants import Variant
from pipeline.cli import ending
from pipeline.cli.options import Choice, choice_options, distgit_option, lookaside_option
from pipeline.core.errors import ExitCode, UsageError
from pipeline.core.outcome import Target
from pipeline.verify.sites import Sites


@click.command()
@click.option(
    "--prove", is_flag=True, help="Also build each from a kept tree, and compare the packages bit by bit."
)
@distgit_option
@lookaside_option
@choice_options("build")
def command(*, prove: bool, distgits: tuple[str, ...], lookaside: tuple[Path, ...], choice: Choice) -> int:
    """Build the RPMs of each chosen target. What is already built is found, not built again."""
    profile, _ = choice.profile()
    wanted = choice.targets(profile)
    Sites(profile, choice.places, choice.kernels).check(
        []
    )  # `verify` may come after this with the same words
    builder = choice.builder(profile, distgits, lookaside)
    make_all(builder, wanted)
    entries = [builder.make(target) for target in wanted]
    with ThreadPoolExecutor(2) as pool:  # nearly all of it is sha256, which leaves Python to the other
        manifests = list(pool.map(packages, entries))
    made = [(entry.path / "RPMS", m) for entry, m in zip(entries, manifests, strict=True)]
    rows = [(str(m.target), m.nvr, m.mode, f"{m.seconds:.0f} s", str(rpms)) for rpms, m in made]
    ending.tell(
        builds=[
            {"target": str(m.target), "nvr": m.nvr, "mode": m.mode, "rpms": str(rpms)} for rpms, m in made
        ]
    )
    print(tabulate(rows, headers=["target", "package", "build", "took", "RPMs"], tablefmt="simple"))
    return proved(builder, wanted) if prove else ExitCode.PASS


def proved(builder: Builder, wanted: Sequence[Target]) -> ExitCode:
    """Whether a build from the kept tree of another release makes the packages of each target.

    MISSING where none of them began with a kept tree. Raises `UsageError` where there are no kept trees: with
    a dist-git, or on the host, where each build has a directory of its own.
    """
    if builder.distgits or builder.options.place == "host":
        raise UsageError("--prove is for builds of our series in a container", hint="leave it out")
    wrong, tried = [], 0
    for target in wanted:
        others = [r.name for r in builder.profile.release if r.name != target.release]
        newest = builder.profile.build_against
        other = newest if newest in others else (others or [target.release])[-1]
        tree = target.model_copy(update={"release": other})
        proof = variants.prove(builder, Variant(target), tree)
        wrong += [(str(target), d.package) for d in proof.wrong]
        tried += bool(proof.tree)
    if wrong:
        print(tabulate(wrong, headers=["target", "package that differs"], tablefmt="simple"))
        return ExitCode.FAILED
    return ExitCode.PASS if tried else ExitCode.MISSING
