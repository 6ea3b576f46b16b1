"""Verb ``verify``: every check on built RPMs -> evidence, verdict, sign-off report."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from pipeline import report
from pipeline.build import rebuild as rebuilds
from pipeline.build import supplied, workshop
from pipeline.build.every import build_all
from pipeline.check import registry
from pipeline.cli import ending
from pipeline.cli.next_step import next_step
from pipeline.cli.options import Choice, choice_options, distgit_option, lookaside_option, of_release
from pipeline.core import outputs, paths
from pipeline.core.arch import Arch, arch, host_arch
from pipeline.core.errors import UsageError
from pipeline.core.identity import identity
from pipeline.core.outcome import Target
from pipeline.core.progress import say
from pipeline.profile import targets
from pipeline.signoff import waiver
from pipeline.source.address import without_password
from pipeline.verify.run_checks import verify
from pipeline.verify.sites import Sites


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Where the report goes (default: ./out).")
@click.option(
    "--waivers", "waivers_file", type=click.Path(path_type=Path), help="TOML file of waived causes."
)
@click.option(
    "--rpms", "rpm_dirs", multiple=True, metavar="[RELEASE=]DIR", help="Judge these RPMs as that release."
)
@click.option(
    "--only",
    "only",
    multiple=True,
    metavar="CHECK",
    help="Ask only this check (repeatable); never release grade.",
)
@click.option("--fresh", is_flag=True, help="Watch programs again even if nothing changed.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Build each once more from nothing, under other conditions: the same packages must come out.",
)
@distgit_option
@lookaside_option
@choice_options("verify")
def command(
    *,
    out: Path | None,
    waivers_file: Path | None,
    rpm_dirs: tuple[str, ...],
    only: tuple[str, ...],
    fresh: bool,
    rebuild: bool,
    distgits: tuple[str, ...],
    lookaside: tuple[Path, ...],
    choice: Choice,
) -> int:
    """Run every check on the chosen targets and write the sign-off report. Builds what is not built yet."""
    identity()  # who judges is who began
    waivers = waiver.load(waivers_file) if waivers_file else ()  # before what takes long
    if rebuild and choice.build.place == "host":
        raise UsageError(
            "--rebuild is for builds in a container: on the host each build has a directory of its own, "
            "which rpm writes into the source package",
            hint="leave it out",
        )
    for name in only:
        if name not in {c.name for c in (*registry.STATIC, *registry.WATCHED)}:
            raise UsageError(f"there is no check {name!r}", hint="docs/checks.md lists them")
    outdir = out or paths.out()
    outputs.check_writable(outdir)
    profile, _ = choice.profile()
    wanted = choice.targets(profile)
    sites = Sites(profile, choice.places, choice.kernels)
    sites.check([])
    theirs = [
        (release, Path(where).expanduser())
        for release, where in (of_release("--rpms", text, choice.releases) for text in rpm_dirs)
    ]
    report.withdraw(
        outdir
    )  # from here on whatever ends the run must leave no older report to be taken for its
    builder = choice.builder(profile, distgits, lookaside)
    # A comparison needs both ends, so all releases of an architecture are taken whatever was chosen.
    arches = tuple(dict.fromkeys(t.arch for t in wanted))
    if both := sorted({release for release, _ in theirs} & set(builder.distgits)):
        raise UsageError(
            f"--rpms and --distgit both say what release {both[0]} is", hint="leave one of them out"
        )
    given = supplied.gather(profile, theirs, [arch(name) for name in arches])
    if theirs:
        arches = supplied.judged(given, arches, named=bool(choice.arches))
        wanted = [t for t in wanted if t.arch in given]
    sites.check([arch(name) for name in arches])
    ours = [t for t in targets(profile, (), arches) if t.release not in given.get(t.arch, {})]
    if rebuild and not ours:
        raise UsageError("--rebuild: all releases were supplied, and none is built here", hint="leave it out")
    made = build_all(builder, ours)
    built = {
        name: {r.name: given.get(name, {}).get(r.name) or made[name][r.name] for r in profile.release}
        for name in arches
    }

    # so that several runners can share the work; packages from elsewhere are asked everything
    narrow = bool(choice.releases) and not theirs and not distgits
    for t in built_again(ours, wanted, narrow=narrow) if rebuild else ():
        built[t.arch][t.release] = rebuilds.rebuilt(builder, built[t.arch][t.release], fresh=fresh)

    def programs(machine: Arch) -> Path:
        return workshop.compile_programs(profile, machine, builder.workplace(machine), built[machine.name])

    sites = replace(sites, image=builder.workplace(host_arch()).image)
    evidence = verify(
        profile,
        wanted if narrow else targets(profile, (), arches),
        built,
        programs=programs,
        sites=sites.for_arch,
        static=registry.STATIC,
        watched=registry.WATCHED,
        command=same_again(sys.argv[2:]),
        fresh=fresh,
        only=only,
        narrow=narrow,
        waivers=waivers,
    )
    written = report.write_all(evidence, outdir)
    ending.tell(
        verdict=evidence.verdict.name,
        release_grade=evidence.release_grade,
        reports={name: str(getattr(written, name)) for name in ("html", "evidence", "junit", "markdown")},
    )
    say(f"report: {written.html}")
    say(next_step(evidence))
    return evidence.verdict.exit_code


def built_again(ours: Sequence[Target], wanted: Sequence[Target], *, narrow: bool) -> list[Target]:
    """What `--rebuild` makes again of what was built here.

    Of a ``narrow`` run the rest is another runner's, and here to be compared with.
    """
    return [t for t in ours if not narrow or t in wanted]


def same_again(arguments: Sequence[str]) -> str:
    """The one command that does the same again: ``verify`` builds too, ``build`` has not all its options.

    It stands in the sign-off, so addresses lose what only their user may know.
    """
    shown = [_ADDRESS.sub(lambda found: without_password(found[0]), a) for a in arguments]
    return "nox -s verify" + (f" -- {shlex.join(shown)}" if shown else "")


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
