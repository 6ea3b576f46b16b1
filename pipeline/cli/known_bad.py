"""Verb ``known-bad``: each release is wrong in one way, and must be red by the named checks alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import click
from tabulate import tabulate

from pipeline.build.every import build_all
from pipeline.cli.options import Choice, choice_options
from pipeline.core.arch import Arch, arch, host_arch
from pipeline.core.errors import ExitCode, UsageError
from pipeline.core.progress import say
from pipeline.knownbad import edits, entry, museum
from pipeline.knownbad.entry import Entry
from pipeline.knownbad.judge import Seen, known_checks
from pipeline.knownbad.steady import Round, rounds
from pipeline.profile import Profile, targets
from pipeline.verify.sites import Sites


@click.command()
@click.option("--name", "names", multiple=True, metavar="NAME", help="Only this entry (repeatable).")
@click.option("--edits", "only_edits", is_flag=True, help="Leave out entries that need a build.")
@click.option("--waiting", is_flag=True, help="Also entries whose check is not there yet.")
@click.option("--good", type=int, default=0, metavar="N", help="Verify the good releases N times under load.")
@click.option("--lanes", type=int, default=0, metavar="N", help="Entries judged side by side (default: 2).")
@click.option("--fresh", is_flag=True, help="Watch programs again even if nothing changed.")
@choice_options("known-bad")
def command(
    *,
    names: tuple[str, ...],
    only_edits: bool,
    waiting: bool,
    good: int,
    lanes: int,
    fresh: bool,
    choice: Choice,
) -> int:
    """Judge releases that are wrong in one way each, and the good ones beside them.

    Ends 1 if a check misses what is wrong, or if one that is not named is red too.
    """
    profile, _ = choice.profile()
    found = chosen(entry.load(), names, only_edits=only_edits, waiting=waiting)
    machines = [arch(name) for name in choice.arches or (host_arch().name,)]
    wanted = targets(profile, (), tuple(m.name for m in machines))
    sites = Sites(profile, choice.places, choice.kernels)
    sites.check(machines)
    builder = choice.builder(profile)
    made = build_all(builder, wanted)
    sites = replace(sites, image=builder.workplace(host_arch()).image)
    holds = True
    for machine in machines:
        hall = museum.Hall(profile, machine, made[machine.name], builder, sites.for_arch)
        if good:
            ran = list(rounds(hall, good))
            print(_rounds(ran))
            holds &= all(r.green for r in ran)
            continue
        here = fitting(found, profile, machine, named=bool(names))
        seen = museum.judge_all(hall, here, lanes=lanes or min(2, len(os.sched_getaffinity(0))), fresh=fresh)
        print(table(seen))
        caught = sum(j.holds for j in seen)
        say(f"{profile.name}, {machine.name}: {caught} of {len(seen)} as they should be")
        holds &= caught == len(seen)
    return ExitCode.PASS if holds else ExitCode.FAILED


def chosen(found: Sequence[Entry], names: Sequence[str], *, only_edits: bool, waiting: bool) -> list[Entry]:
    """The entries that were asked for; raises `UsageError` for an unknown name, edit or check."""
    known = known_checks()
    for one in found:
        for edit in one.edit:
            edits.check(edit)
        if one.expect and not one.waits and not known & set(one.expect):
            raise UsageError(
                f"{one.path}: there is no check {one.expect[0]}", hint=f"known: {', '.join(sorted(known))}"
            )
    if absent := [n for n in names if n not in {e.name for e in found}]:
        raise UsageError(
            f"there is no entry {absent[0]!r}", hint=f"entries: {', '.join(e.name for e in found)}"
        )
    taken = [e for e in found if not names or e.name in names]
    return [
        e for e in taken if not (only_edits and e.change) and (waiting or not e.waits or e.waits in known)
    ]


def fitting(found: Sequence[Entry], profile: Profile, machine: Arch, *, named: bool) -> list[Entry]:
    """Those for a profile and architecture; raises `UsageError` if none is."""
    here = [e for e in found if e.fits(profile, machine)]
    if not here:
        raise UsageError(
            f"no {'such ' if named else ''}entry is for {profile.name} on {machine.name}",
            hint="each names its profiles and arches; `--waiting` adds those that wait for a check",
        )
    return here


def table(seen: Sequence[Seen]) -> str:
    """Entry, expected, seen, seconds; what was missed or is too much stands beside it."""
    rows = []
    for j in seen:
        verdict = "yes" if j.holds else "NO"
        remarks = [*j.remarks, *([j.note] if j.note else [])]
        rows.append((j.name, ", ".join(j.expected) or "(green)", ", ".join(j.seen) or "(green)",
                     f"{j.seconds:.0f}", verdict, "\n".join(remarks)))  # fmt: skip
    return tabulate(
        rows,
        headers=["entry", "expected", "seen", "s", "holds", ""],
        tablefmt="simple",
        maxcolwidths=[32, 40, 40, None, None, 80],
    )


def _rounds(ran: Sequence[Round]) -> str:
    rows = [
        (n, "green" if r.green else "NOT green", f"{r.seconds:.0f}", r.words) for n, r in enumerate(ran, 1)
    ]
    return tabulate(
        rows, headers=["run", "outcome", "s", ""], tablefmt="simple", maxcolwidths=[None, None, None, 120]
    )
