"""Verb ``baseline``: make or refresh committed listings from a build, RPMs, debs or an extracted root."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from pipeline import source
from pipeline.abi import baseline, traits
from pipeline.abi.baseline import Baseline, Origin
from pipeline.abi.delta import Delta, delta
from pipeline.build import described
from pipeline.build.builder import Builder
from pipeline.check.devel import devel_path, rendered
from pipeline.check.packages import inventory_path, make_inventory
from pipeline.check.texts import texts_of, texts_path
from pipeline.cli.options import Choice, choice_options
from pipeline.core import paths, store
from pipeline.core.arch import arch
from pipeline.core.errors import ExitCode, MalformedInput, UsageError
from pipeline.core.outcome import Target
from pipeline.core.progress import say
from pipeline.core.records import Built, file_record
from pipeline.core.run import run
from pipeline.rpm import inventory, package, sysroot
from pipeline.rpm import texts as rpm_texts
from pipeline.source.address import without_password
from pipeline.source.download import download


@dataclass(frozen=True)
class Given:
    """What the user named to list: at most one of the three. ``addresses``: where the RPMs were named."""

    rpms: tuple[Path, ...]
    addresses: tuple[str, ...]
    debs: tuple[Path, ...]
    root: Path | None
    origin: str
    note: str

    @property
    def kinds(self) -> int:
        return sum((bool(self.rpms), bool(self.debs), self.root is not None))


@click.command()
@choice_options("baseline")
@click.option("--from-rpm", "rpms", multiple=True, metavar="FILE|URL", help="List these RPMs (repeatable).")
@click.option(
    "--from-deb", "debs", multiple=True, type=click.Path(path_type=Path), help="List these debs (repeatable)."
)
@click.option("--from-root", "root", type=click.Path(path_type=Path), help="List an extracted release.")
@click.option("--origin", default="", metavar="NVR", help="What an extracted release is (--from-root).")
@click.option("--note", default="", help="A remark for the provenance.")
@click.option(
    "--upstream", default="", metavar="VERSION", help="Keep whole nodes of this upstream release instead."
)
@click.option("--node", "nodes", multiple=True, help="Which nodes (default: GLIBC_VERSION; repeatable).")
@click.option("--force", is_flag=True, help="Replace a baseline that differs.")
def command(
    *,
    choice: Choice,
    rpms: tuple[str, ...],
    debs: tuple[Path, ...],
    root: Path | None,
    origin: str,
    note: str,
    upstream: str,
    nodes: tuple[str, ...],
    force: bool,
) -> int:
    """Make or refresh baselines: by default from this pipeline's builds of the chosen targets.

    With --from-rpm, --from-deb or --from-root one release and one architecture must be named. A baseline that
    differs from what would be written is shown as a delta and kept, unless --force is given.
    """
    given = Given(tuple(Path(r) for r in rpms), rpms, debs, root, origin, note)
    texts: dict[Path, str] = {}
    if given.kinds > 1:
        raise UsageError("name only one of --from-rpm, --from-deb and --from-root")
    if nodes and not upstream:
        raise UsageError("--node is for --upstream", hint="a baseline of a release is always complete")
    given = replace(given, rpms=tuple(_local(where) for where in rpms))
    if upstream:
        target = Target(profile=baseline.UPSTREAM, release=upstream, arch=_the_one(choice.arches, "--arch"))
        arch(target.arch)
        directory = baseline.upstream_directory(upstream, target.arch)
        wanted = {directory: _given(given, target, nodes or (f"GLIBC_{upstream}",))}
    elif given.kinds:
        outline = choice.outline()
        _the_one(choice.releases, "--release")
        _the_one(choice.arches, "--arch")
        (release,), (machine,) = outline.chosen(choice.releases, choice.arches)
        target = Target(profile=outline.name, release=release, arch=machine)
        wanted = {baseline.directory_of(target): _given(given, target, ())}
        texts = _texts_of_rpms(given, target)
    else:
        wanted, texts = _from_builds(choice, note)
    refused = [path for path, made in wanted.items() if not _put(made, path, force)]
    refused += [path for path, text in texts.items() if not put_text(path, text, force=force)]
    if refused:
        raise UsageError(
            f"{len(refused)} of {len(wanted) + len(texts)} baselines differ and were kept",
            hint="look at the deltas above; if they are meant, run it again with --force",
        )
    return ExitCode.PASS


def _the_one(names: tuple[str, ...], option: str) -> str:
    if len(names) != 1:
        raise UsageError(f"name exactly one {option} for what is listed")
    return names[0]


def _put(made: Baseline, directory: Path, force: bool) -> bool:
    """Write ``made`` unless another is there; True if it is there now. Says what happened."""
    where = directory.relative_to(paths.BASELINES)
    old = baseline.load(directory)
    difference = delta(old.listings, made.listings) if old else Delta()
    changed = _traits_changed(old, made) if old else []
    count = sum(x.count for x in made.listings.values())
    summary = f"{where}: {len(made.listings)} DSOs, {count} symbols, from {made.provenance.origin}"
    added = sorted(made.traits.keys() - old.traits.keys()) if old else []
    if old is not None and difference.empty and not changed and not added and not force:
        say(f"{summary}: no difference, kept as it is")
        return True
    if not difference.empty or changed:
        text = difference.text + "".join(f"{line}\n" for line in changed)
        click.echo(f"--- {where}\n+++ {made.provenance.origin}\n{text}", nl=False)
        if not force:
            return False
    baseline.write(made, directory)
    say(f"{summary}: written")
    return True


def put_text(file: Path, text: str, *, force: bool) -> bool:
    """Write a text that is committed unless another is there; True if it is there now. Says what happened."""
    where = file.relative_to(paths.BASELINES)
    old = file.read_text() if file.is_file() else None
    if old is not None and _facts(old) == _facts(text):
        say(f"{where}: no difference, kept as it is")
        return True
    if old is not None:
        lines = difflib.unified_diff(_facts(old), _facts(text), str(where), "new", n=1, lineterm="")
        click.echo("\n".join(lines))
        if not force:
            return False
    store.write_atomically(file, text)
    say(f"{where}: written")
    return True


def _facts(text: str) -> list[str]:
    """The lines but the first, which names what it was made from."""
    return text.splitlines()[1:]


def _traits_changed(old: Baseline, made: Baseline) -> list[str]:
    """Lines of what differs in the files of traits that both have."""
    return [
        line
        for name in traits.FILES
        if name in old.traits and name in made.traits
        for line in traits.difference(old.traits[name], made.traits[name])
    ]


# -- where listings come from ---------------------------------------------------------------------------


def _given(given: Given, target: Target, nodes: tuple[str, ...]) -> Baseline:
    """The baseline of what the user named."""
    with ExitStack() as stack:
        if given.rpms:
            root, origin = _of_rpms(given, target)
        elif given.debs:
            root, origin = stack.enter_context(_of_debs(given))
        elif given.root is not None:
            if not given.origin:
                raise UsageError("--from-root needs --origin: what release is it?")
            if not given.root.is_dir():
                raise UsageError(f"{given.root} is not a directory")
            root, origin = given.root, Origin("root", given.origin, note=given.note)
        else:
            raise UsageError("--upstream needs --from-rpm, --from-deb or --from-root")
        return baseline.from_root(root, target, origin, nodes)


def _of_rpms(given: Given, target: Target) -> tuple[Path, Origin]:
    """The root of RPMs whose digests were verified."""
    files = given.rpms
    root = sysroot.extract(files, arch(target.arch))
    origin = Origin(
        "rpm",
        _name_of(given),
        tuple(file_record(file) for file in files),
        source=", ".join(without_password(w) for w in given.addresses if "://" in w),
        note=given.note,
    )
    return root, origin


def _name_of(given: Given) -> str:
    """What release the RPMs are, by the name and version of glibc's own package."""
    nvrs = sorted({package.read(file).nvr for file in given.rpms})
    return ", ".join([nvr for nvr in nvrs if nvr.startswith("glibc-2")] or nvrs)


def _local(where: str) -> Path:
    """The file, fetched first if it is an address."""
    if "://" not in where:
        return Path(where)
    name = Path(unquote(urlsplit(where).path)).name
    if not name.endswith(".rpm"):
        raise UsageError(f"{without_password(where)} does not name an RPM")
    final = paths.state() / "downloads" / name
    part = final.with_name(name + ".part")
    download([where], part, title=f"fetch {name}", hint="download it by hand and name the file")
    package.verify(part)
    part.replace(final)
    return final


@contextmanager
def _of_debs(given: Given) -> Iterator[tuple[Path, Origin]]:
    """The root of debs, as long as the block runs. dpkg-deb refuses what is cut off or damaged."""
    remedy = "fetch the package again; `apt-get download NAME` verifies what it fetches"
    origins = []
    with tempfile.TemporaryDirectory() as scratch:
        for deb in given.debs:
            if not deb.is_file():
                raise UsageError(f"{deb} is not a file")
            fields = run(["dpkg-deb", "-W", deb], success_codes=None)
            unpacked = run(["dpkg-deb", "-x", deb, scratch], success_codes=None)
            for done in (fields, unpacked):
                if done.returncode != 0:
                    raise MalformedInput(
                        f"{deb}: {done.stderr.decode(errors='replace').strip()}", hint=remedy
                    )
            origins.append(" ".join(fields.text.split()))
        inputs = tuple(file_record(deb) for deb in given.debs)
        yield Path(scratch), Origin("deb", ", ".join(origins), inputs, note=given.note)


def _texts_of_rpms(given: Given, target: Target) -> dict[Path, str]:
    """The inventory of the RPMs that were named."""
    if not given.rpms:
        return {}
    made = make_inventory(given.rpms, _name_of(given))
    return {inventory_path(target, foreign=True): inventory.render(made)}


def _from_builds(choice: Choice, note: str) -> tuple[dict[Path, Baseline], dict[Path, str]]:
    """Baselines of the chosen targets' builds, built first where they are not."""
    profile, _ = choice.profile()
    builder = Builder(profile, source.fetch(profile, choice.source or None), choice.build)
    listed: dict[Path, Baseline] = {}
    texts: dict[Path, str] = {}
    for target in choice.targets(profile):
        made = builder.build(target)
        listed[baseline.directory_of(target)] = baseline.from_root(made.root, target, origin_of(made, note))
        packages = make_inventory([made.rpms / r.file for r in made.manifest.rpms], made.manifest.nvr)
        texts[inventory_path(target)] = inventory.render(packages)
        if target.release == profile.build_against:
            texts[texts_path(profile, target.arch)] = rpm_texts.render(texts_of(made))
        machine = arch(target.arch)
        facts = described.committed(described.describe(machine, builder.workplace(machine), made.root))
        texts[devel_path(target)] = rendered(facts, made.manifest.nvr)
    return listed, texts


def origin_of(made: Built, note: str = "") -> Origin:
    """The provenance of a build."""
    m = made.manifest
    image = f", image {m.image.id[:19]} on {m.image.base}" if m.image else ""
    patches = "".join(f"; {p.file} sha256 {p.sha256}" for p in m.patches)
    return Origin(
        "build",
        m.nvr,
        m.rpms,
        source=f"{m.source.origin} sha256 {m.source.sha256}{patches}" if m.source else "",
        builder=f"{m.mode}, {m.place}{' without network' if m.hermetic else ''}{image}",
        note=note,
        image=m.image.base if m.image else "",
    )
