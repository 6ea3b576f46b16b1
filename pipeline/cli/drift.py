"""Verb ``drift``: what is published now, compared with the committed baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from tabulate import tabulate

from pipeline import profile as profiles
from pipeline.abi import baseline
from pipeline.abi.baseline import Origin
from pipeline.core import paths, store
from pipeline.core.arch import arch as named
from pipeline.core.errors import ExitCode, UsageError
from pipeline.core.outcome import Target
from pipeline.core.outputs import check_files
from pipeline.core.progress import say, step
from pipeline.core.records import FileRecord, timestamp
from pipeline.drift import Looker, accepted, history, summary, target_of, timeline
from pipeline.drift import sources as drift_sources
from pipeline.drift.published import AnySource
from pipeline.drift.record import record, to_json
from pipeline.drift.sources import AGAINST, AptSuite, Sources

#: Lines of one look that the terminal shows; --json has them all.
MOST_LINES = 40


def database() -> Path:
    """Where the history is kept unless --database says otherwise."""
    return paths.state() / "drift.sqlite"


@click.command()
@click.option("--source", "names", multiple=True, metavar="NAME", help="Only this source (repeatable).")
@click.option(
    "--sources", "sources_file", type=click.Path(path_type=Path), metavar="FILE", help="Other sources."
)
@click.option("--arch", "arches", multiple=True, metavar="A", help="Only this architecture (repeatable).")
@click.option(
    "--against", default="", metavar="WHAT", help="baseline:PROFILE/RELEASE, source:NAME or previous."
)
@click.option("--database", "file", type=click.Path(path_type=Path), metavar="FILE", help="Another history.")
@click.option(
    "--history", "show_history", is_flag=True, help="Show when each symbol came and went; look at nothing."
)
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the history (.svg, .png)."
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write the result as JSON."
)
@click.option(
    "--summary", "summary_file", type=click.Path(path_type=Path), metavar="FILE", help="Write it as Markdown."
)
@click.option("--list", "listing", is_flag=True, help="List the sources.")
@click.option("--accept", is_flag=True, help="Make what is published now the baseline of the source.")
def command(
    *,
    names: tuple[str, ...],
    sources_file: Path | None,
    arches: tuple[str, ...],
    against: str,
    file: Path | None,
    show_history: bool,
    plot: Path | None,
    json_file: Path | None,
    summary_file: Path | None,
    listing: bool,
    accept: bool,
) -> int:
    """Look at what distributions publish now, and compare it with the committed baselines.

    Exit code: 0 no drift; 1 drift; 4 a source could not be looked at; 3 there was nothing there, or nothing
    to compare it with. Of several sources drift counts first, then 4, then 3. Every look is recorded.
    """
    sources = drift_sources.load(sources_file or drift_sources.DEFAULT)
    chosen = _chosen(sources, names, arches)
    if against and not AGAINST.match(against):
        raise UsageError(
            f"--against {against!r} is not understood",
            hint="baseline:PROFILE/RELEASE, source:NAME or previous",
        )
    if against.startswith("source:"):
        sources.get(against.removeprefix("source:"))
    if (show_history or accept) and (json_file or summary_file):
        raise UsageError(
            "--json and --summary are of a look", hint="leave them out, or --history and --accept"
        )
    if show_history and accept:
        raise UsageError("--history looks at nothing that could be accepted", hint="leave one of them out")
    if plot and not show_history:
        raise UsageError("--plot draws what --history shows", hint="add --history")
    if listing:
        _list(sources)
        return ExitCode.PASS
    check_files({"--json FILE": json_file, "--summary FILE": summary_file})
    for written in filter(None, (json_file, summary_file)):
        written.unlink(missing_ok=True)  # so that none of an earlier look is taken for this one's
    with history.opened(file or database()) as past:
        if show_history:
            return _history(past, chosen, plot)
        looker = Looker(sources, past)
        if accept:
            return _accept(looker, chosen)
        return _look(looker, chosen, against, json_file, summary_file)


Chosen = list[tuple[AnySource, str]]


def _chosen(sources: Sources, names: tuple[str, ...], arches: tuple[str, ...]) -> Chosen:
    for name in arches:
        named(name)
    wanted = [sources.get(n) for n in names] or list(sources.source)
    chosen = [(s, a) for s in wanted for a in s.arches if not arches or a in arches]
    if not chosen:
        raise UsageError(
            f"no source is for {', '.join(arches)}", hint="see `nox -s drift -- --list` for what there is"
        )
    return chosen


def _list(sources: Sources) -> None:
    rows = [[s.name, s.kind, ", ".join(s.arches), s.against, s.title] for s in sources.source]
    click.echo(
        tabulate(rows, headers=["source", "kind", "arches", "compared with", "title"], tablefmt="simple")
    )


def _look(
    looker: Looker, chosen: Chosen, against: str, json_file: Path | None, summary_file: Path | None
) -> int:
    at = timestamp()
    looks = []
    for source, arch in chosen:
        with step(f"look at {source.name} ({arch})") as current:
            look = looker.look(source, arch, against)
            current.done(look.sight)
        looks.append(look)
    drift = record(looks, at)
    click.echo(summary.table(drift))
    for look in looks:
        lines = summary.lines_of(look)
        if lines:
            click.echo(f"\n--- {look.against}\n+++ {look.source} {look.arch}: {look.nvr}")
            click.echo("\n".join(lines[:MOST_LINES]))
        if len(lines) > MOST_LINES:
            click.echo(f"... and {len(lines) - MOST_LINES} more lines (--json FILE has them all)")
        if look.hint:
            say(f"{look.source} ({look.arch}), what to do: {look.hint}")
    if json_file:
        store.write_atomically(json_file, to_json(drift))
    if summary_file:
        store.write_atomically(summary_file, summary.markdown(drift))
    return drift.exit_code


def _history(past: history.History, chosen: Chosen, plot: Path | None) -> int:
    wanted = {(s.name, a) for s, a in chosen}
    found = [t for t in timeline.tracks(past) if (t.source, t.arch) in wanted]
    if not any(t.seen for t in found):
        say("the history has no look at these sources that saw anything; `nox -s drift` takes one")
        return ExitCode.MISSING
    rows = [[t.source, t.arch, t.first, t.last, f"{t.seen} of {t.looks}", t.nvr, t.symbols] for t in found]
    headers = ["source", "arch", "first look", "last look", "looks that saw", "published", "symbols"]
    click.echo(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
    events = [e for t in found for e in t.events]
    lines = [
        [e.at, e.source, e.arch, e.sign, e.change.dso, e.change.node, e.change.symbol, e.change.kind,
         "" if e.change.size is None else f"{e.change.size:#x}", e.package]
        for e in sorted(events, key=lambda e: (e.at, e.source, e.arch))
    ]  # fmt: skip
    headers = ["when", "source", "arch", "", "DSO", "node", "symbol", "kind", "size", "package"]
    click.echo()
    if lines:
        click.echo(tabulate(lines, headers=headers, tablefmt="simple", disable_numparse=True))
    else:
        click.echo("no symbol came or went between looks")
    if plot:
        timeline.draw(found, plot)
        say(f"plot: {plot}")
    return ExitCode.PASS


def _to_accept(source: AnySource, arch: str) -> Target:
    """The target whose baseline a source's packages become; `UsageError` for one that is built here."""
    kind, _, name = source.against.partition(":")
    if kind == "baseline":
        target = target_of(name, arch)
        if target.profile not in profiles.outlines():
            return target
        if target.release in profiles.load_outline(target.profile).published:
            return target
    raise UsageError(
        f"{source.name} is compared with {source.against}, which --accept does not write",
        hint="name sources whose baseline is a distribution's, or a published release of a profile; "
        "`nox -s baseline` makes those of releases that are built",
    )


def _accept(looker: Looker, chosen: Chosen) -> int:
    """Write baselines of what is published; a profile's own are made by ``baseline``."""
    for source, arch in chosen:
        target = _to_accept(source, arch)
        with step(f"baseline {target}") as current:
            found = looker.published(source, arch)
            inputs = tuple(FileRecord(file=p.file, sha256=p.sha256, size=p.size) for p in found.packages)
            origin = Origin(
                "deb" if isinstance(source, AptSuite) else "rpm",
                ", ".join(p.nvr for p in found.packages),
                inputs,
                note=source.title,
            )
            listings, kept = accepted(source, found.listings, target)
            if kept:
                origin = replace(origin, note=f"{source.title}; not in these packages, as before: {kept}")
            baseline.write(baseline.make(listings, target, origin), baseline.directory_of(target))
            current.done(origin.name)
    return ExitCode.PASS
