"""Baselines: committed listings of a release's DSOs, with what they were made from.

A baseline is a directory ``abi-baselines/<profile>/<release>/<arch>``: ``<name>.abilist`` for each DSO in a
library directory, ``<directory>.abilists`` for all modules of a directory below it (gconv has 250),
``abi.details`` and ``elf.hardening`` (`pipeline.abi.traits`), and ``provenance.toml``.
``abi-baselines/upstream/<version>/<arch>`` holds whole version nodes of upstream glibc. Reading is strict: a
file that is unsorted, cut short, unknown or missing is `MalformedInput`, never a smaller baseline.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline import __version__
from pipeline.abi import traits
from pipeline.abi.files import elf_files, listings_of
from pipeline.abi.listing import Line, Listing, render
from pipeline.abi.strict import REMEDY, read_bundle, read_listing, read_traits
from pipeline.abi.traits import Blocks, of_files
from pipeline.core import paths, tomlfile
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Frozen, Target
from pipeline.core.records import FileRecord
from pipeline.core.store import tree_sha256

PROVENANCE = "provenance.toml"
UPSTREAM = "upstream"
SINGLE, BUNDLE = ".abilist", ".abilists"


#: ``derived``: see `pipeline.abi.derived`; committed only until a build replaces it, with a note on how.
Kind = Literal["rpm", "deb", "build", "root", "derived"]


@dataclass(frozen=True)
class Origin:
    """Where listings come from: see `Provenance`; ``name`` is its ``origin``."""

    kind: Kind
    name: str
    inputs: tuple[FileRecord, ...] = ()
    source: str = ""
    builder: str = ""
    note: str = ""
    image: str = ""


class DsoRecord(Frozen):
    """What a baseline says of a DSO beside its symbols: DT_SONAME ("" if none), lines of its listing."""

    soname: str
    lines: int


class Provenance(Frozen):
    """What a baseline was made from.

    ``kind``: RPMs or debs from elsewhere, a build of this pipeline, an extracted root, or derived. ``origin``
    names the release it is (an NVR), ``inputs`` its files. ``source`` and ``builder`` say what a build was
    made from and how. ``image`` is the base of the build image: what depends on the compiler is comparable
    with builds of the same image alone. ``nodes``: the version nodes the listings are restricted to (none:
    they are complete). ``traits``: how many blocks the files of `pipeline.abi.traits` have.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    profile: str
    release: str
    arch: str
    kind: Kind
    origin: str
    source: str = ""
    builder: str = ""
    image: str = ""
    note: str = ""
    nodes: tuple[str, ...] = ()
    made: date
    tool: str
    inputs: tuple[FileRecord, ...] = ()
    traits: dict[str, int] = Field(default_factory=dict)
    dsos: dict[str, DsoRecord]


@dataclass(frozen=True)
class Baseline:
    """The committed listings of one target, by stable name, and their provenance.

    ``traits`` maps a file's name (`traits.FILES`) to its blocks; a baseline of old or of published packages
    has none.
    """

    listings: Mapping[str, Listing]
    provenance: Provenance
    traits: Mapping[str, Blocks] = field(default_factory=dict)


def directory_of(target: Target) -> Path:
    """Where the baseline of a target is committed."""
    return paths.BASELINES / target.profile / target.release / target.arch


def record(directory: Path) -> FileRecord:
    """A baseline as evidence binds it: its path in the repository, sha256 and size of all that is in it."""
    return FileRecord(
        file=str(directory.relative_to(paths.BASELINES.parent)),
        sha256=tree_sha256(directory),
        size=sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
    )


def upstream_directory(version: str, arch: str) -> Path:
    """Where whole nodes of upstream's release ``version`` (``2.35``) are committed."""
    return paths.BASELINES / UPSTREAM / version / arch


def make(
    found: Mapping[str, Listing],
    target: Target,
    origin: Origin,
    nodes: tuple[str, ...] = (),
    blocks: Mapping[str, Blocks] | None = None,
) -> Baseline:
    """A baseline of these listings; with ``nodes`` only of those nodes, and of the DSOs that have them.

    Raises `MalformedInput` if there is no DSO in it, or one of another architecture.
    """
    for listing in found.values():
        if listing.arch != target.arch:
            raise MalformedInput(
                f"{listing.path or listing.name} is for {listing.arch}, not for {target.arch}",
                hint="give the packages of one architecture",
            )
    chosen = {
        name: Listing(name, listing.soname, listing.arch, symbols)
        for name, listing in sorted(found.items())
        if (symbols := _restricted(listing.symbols, nodes)) or not nodes
    }
    if not chosen:
        raise MalformedInput(f"{origin.name} has no DSO to list", hint="name the packages with the libraries")
    provenance = Provenance(
        profile=target.profile,
        release=target.release,
        arch=target.arch,
        kind=origin.kind,
        origin=origin.name,
        source=origin.source,
        builder=origin.builder,
        image=origin.image,
        note=origin.note,
        nodes=nodes,
        made=datetime.now(UTC).date(),
        tool=f"glibc-backport-pipeline {__version__}",
        inputs=origin.inputs,
        traits={name: len(found) for name, found in (blocks or {}).items()},
        dsos={n: DsoRecord(soname=x.soname, lines=len(x.symbols)) for n, x in chosen.items()},
    )
    return Baseline(chosen, provenance, blocks or {})


def _restricted(symbols: frozenset[Line], nodes: tuple[str, ...]) -> frozenset[Line]:
    return frozenset(e for e in symbols if e.node in nodes) if nodes else symbols


def from_root(root: Path, target: Target, origin: Origin, nodes: tuple[str, ...] = ()) -> Baseline:
    """`make` from the DSOs of a release extracted below ``root``; whole ones with their traits."""
    files = elf_files(root)
    return make(listings_of(files), target, origin, nodes, None if nodes else of_files(files))


def upstream_node(node: str, arch: str) -> Mapping[str, Listing] | None:
    """Upstream's set of a version node by DSO (only those that have it); None if it is not committed."""
    for directory in sorted((paths.BASELINES / UPSTREAM).glob(f"*/{arch}")):
        found = load(directory)
        if found is not None and node in found.provenance.nodes:
            return {
                name: Listing(name, x.soname, arch, x.node(node))
                for name, x in found.listings.items()
                if x.node(node)
            }
    return None


# -- writing --------------------------------------------------------------------------------------------


def files_of(found: Mapping[str, Listing]) -> dict[str, str]:
    """The listings as files: name -> text."""
    files: dict[str, str] = {}
    for name, listing in sorted(found.items()):
        directory, slash, _ = name.partition("/")
        if slash:
            text = files.get(directory + BUNDLE, "")
            files[directory + BUNDLE] = f"{text}[{name}]\n{render(listing.symbols)}"
        else:
            files[name + SINGLE] = render(listing.symbols)
    return files


def write(baseline: Baseline, directory: Path) -> None:
    """Put a baseline at ``directory`` in place of what is there; it appears all at once."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir(mode=0o755)
        for name, text in files_of(baseline.listings).items():
            (new / name).write_text(text)
        for name, blocks in baseline.traits.items():
            (new / name).write_text(traits.render(blocks))
        (new / PROVENANCE).write_text(_toml(baseline.provenance))
        if directory.exists():
            directory.rename(old)
        try:
            new.rename(directory)
        except OSError:
            if old.exists():
                old.rename(directory)
            raise


def _toml(provenance: Provenance) -> str:
    """Strings of JSON are strings of TOML, and so are the numbers and lists there are."""
    data = provenance.model_dump(mode="json", by_alias=True)
    inputs, dsos, counts = data.pop("inputs"), data.pop("dsos"), data.pop("traits")
    lines = [f"{key} = {value if key == 'made' else _value(value)}" for key, value in data.items()]
    for record in inputs:
        lines += ["", "[[inputs]]", *(f"{key} = {_value(value)}" for key, value in record.items())]
    if counts:
        lines += ["", "[traits]", *(f"{_value(name)} = {count}" for name, count in counts.items())]
    lines += ["", "[dsos]"]
    for name, record in dsos.items():
        fields = ", ".join(f"{key} = {_value(value)}" for key, value in record.items())
        lines.append(f"{_value(name)} = {{ {fields} }}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- reading --------------------------------------------------------------------------------------------


def load(directory: Path) -> Baseline | None:
    """The baseline in ``directory``, or None if there is no such directory. Raises `MalformedInput`."""
    if not directory.is_dir():
        return None
    provenance = _read_provenance(directory / PROVENANCE)
    found: dict[str, frozenset[Line]] = {}
    read: dict[str, Blocks] = {}
    for file in sorted(directory.iterdir()):
        if file.name == PROVENANCE:
            continue
        if file.name in traits.FILES:
            read[file.name] = read_traits(file)
            continue
        if file.suffix == SINGLE:
            found[file.stem] = read_listing(file)
        elif file.suffix == BUNDLE:
            found.update(read_bundle(file))
        else:
            raise MalformedInput(f"{file}: not a file of a baseline", hint=f"remove it, or {REMEDY}")
    for name in sorted(found.keys() ^ provenance.dsos.keys()):
        where = "is not in it" if name in provenance.dsos else f"is not in {PROVENANCE}"
        raise MalformedInput(f"{directory}: the listing of {name} {where}", hint=REMEDY)
    for name, record in provenance.dsos.items():
        if len(found[name]) != record.lines:
            raise MalformedInput(
                f"{directory}: the listing of {name} has {len(found[name])} lines, {PROVENANCE} says "
                f"{record.lines}",
                hint=REMEDY,
            )
    counts = {name: len(blocks) for name, blocks in read.items()}
    if counts != provenance.traits:
        raise MalformedInput(
            f"{directory}: blocks of traits are {counts}, {PROVENANCE} says {provenance.traits}", hint=REMEDY
        )
    return Baseline(
        {
            name: Listing(name, provenance.dsos[name].soname, provenance.arch, entries)
            for name, entries in sorted(found.items())
        },
        provenance,
        read,
    )


def load_target(target: Target) -> Baseline | None:
    """The committed baseline of a target, or None. Raises `MalformedInput`, also if it is another's."""
    baseline = load(directory_of(target))
    if baseline is not None:
        p = baseline.provenance
        made_for = Target(profile=p.profile, release=p.release, arch=p.arch)
        if made_for != target:
            raise MalformedInput(f"{directory_of(target)}: made for {made_for}", hint=REMEDY)
        if p.nodes:
            raise MalformedInput(
                f"{directory_of(target)}: restricted to {', '.join(p.nodes)}, not complete", hint=REMEDY
            )
    return baseline


def _read_provenance(file: Path) -> Provenance:
    data = tomlfile.read(file, hint=REMEDY, error=MalformedInput)
    return tomlfile.checked(Provenance, data, file, hint=REMEDY, error=MalformedInput)
