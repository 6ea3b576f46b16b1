"""The build image of a profile: had from mmdebstrap (no registry needed) or from a registry.

The image's name carries the hash of everything it is made from, so a change of a package list or a
Containerfile makes another image and an unchanged one is found again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock

from pipeline import profile as profiles
from pipeline.core import paths, store
from pipeline.core.arch import ARCHES, Arch, host_arch
from pipeline.core.errors import CommandFailed, PipelineError, SourceUnreachable, UsageError
from pipeline.core.progress import step
from pipeline.core.records import ImageRecord
from pipeline.core.run import run
from pipeline.core.store import key_of, tree_sha256
from pipeline.debian.apt import PrivateApt, reaching_options
from pipeline.host import binfmt, emulation
from pipeline.host import engine as engines
from pipeline.host.engine import Engine
from pipeline.profile import Profile
from pipeline.source.address import unresolved

#: What the image's root leaves out: manuals are not needed in a build image.
DPKG_OPTIONS = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/locale/*",
)

#: Seconds a registry has to answer before profile `auto` takes it for unreachable.
ANSWER_SECONDS = 4.0

#: How the versions of the tools that decide what comes out are asked for, inside the image.
TOOLS = {
    "gcc": "gcc --version | head -n1",
    "binutils": "ld --version | head -n1",
    "rpm": "rpm --version",
    "make": "make --version | head -n1",
    "ccache": "ccache --version | head -n1",
}


@dataclass(frozen=True)
class BuildImage:
    """An image that the engine has, and the way to run it; ``record.id`` is the engine's image id.

    ``env``: what its programs are to have in their environment (`pipeline.host.emulation`).
    """

    engine: Engine
    name: str
    record: ImageRecord
    env: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class _Recipe:
    """What an image is made from, and its name."""

    profile: Profile
    reference: str
    machine: Arch
    tag: str

    @property
    def directory(self) -> Path:
        return paths.CONTAINERS / self.profile.image.directory


def packages(directory: Path, machine: Arch) -> list[str]:
    """Names in ``packages.txt`` that an image running on ``machine`` has; raises `UsageError`."""
    names = []
    file = directory / "packages.txt"
    if not file.is_file():
        raise UsageError(f"{file} does not exist", hint="write it: one Debian package a line")
    for number, line in enumerate(file.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) == 1 or (len(words) == 2 and words[1] == f"[{machine.name}]"):
            names.append(words[0])
        elif len(words) > 2 or words[1] not in [f"[{name}]" for name in ARCHES]:
            raise UsageError(
                f"{file}:{number}: expected 'NAME' or 'NAME [ARCH]', ARCH being {' or '.join(ARCHES)}",
                hint="fix the line",
            )
    return names


def _recipe(profile: Profile, reference: str, machine: Arch) -> _Recipe:
    directory = paths.CONTAINERS / profile.image.directory
    if not (directory / "Containerfile").is_file():
        raise UsageError(
            f"profile {profile.name}: image.directory: {directory} has no Containerfile",
            hint="correct the profile, or write the Containerfile",
        )
    inputs = {
        "image": profile.image.model_dump(),
        "reference": reference,
        "machine": machine.name,
        "files": tree_sha256(directory),
    }
    tag = f"localhost/glibc-pipeline-{profile.name}-{machine.name}:{key_of('image', inputs)[:16]}"
    return _Recipe(profile, reference, machine, tag)


def find(profile: Profile) -> BuildImage | None:
    """The profile's own build image if it is in local storage, without making it."""
    recipe = _recipe(profile, "", host_arch())
    for importer in engines.importers():
        if known := importer.image_id(recipe.tag):
            return _ensure(recipe, importer, known)
    return None


def ensure(profile: Profile, *, reference: str = "", machine: Arch | None = None) -> BuildImage:
    """The profile's build image, made if it is not there yet.

    ``reference`` names another base in a registry or local storage (then it is not the pinned one).
    ``machine`` is the architecture the image runs on (the host's unless emulated). Raises `NoEngine`,
    `SourceUnreachable`.
    """
    machine = machine or host_arch()
    if machine != host_arch():
        binfmt.ensure(machine)
    borrowed = reference in profiles.available()  # another profile's image, as `--image bookworm`
    recipe = (
        _recipe(profiles.load(reference), "", machine) if borrowed else _recipe(profile, reference, machine)
    )
    importers = list(engines.importers())
    if not importers:
        wanted = os.environ.get("PIPELINE_ENGINE")
        raise engines.no_engine(
            f"PIPELINE_ENGINE={wanted}, and that is not an engine that is installed"
            if wanted
            else "neither podman nor docker is installed"
        )
    said = []
    for importer in importers:
        known = importer.image_id(recipe.tag)
        try:
            if known is None:  # not `images`, which fails where another process removes one meanwhile
                importer.call("ps", "--quiet", timeout=120)
        except CommandFailed as e:  # the program is there, its engine is not (docker without a daemon)
            said.append(f"{importer.program} does not work here: {engines.last_word(e)}")
            continue
        try:
            made = _ensure(recipe, importer, known)
        except engines.NoEngine as e:
            said.append(e.message)
            continue
        return replace(made, record=made.record.model_copy(update={"pinned": False})) if borrowed else made
    raise engines.no_engine("\n".join(said))


def available(profile: Profile) -> tuple[bool, str]:
    """Whether the pinned image is here or its registry answers, and why not; asks for seconds at most."""
    if profile.image.base == "mmdebstrap":
        return have_mmdebstrap(), "mmdebstrap makes the base image"
    tag = _recipe(profile, "", host_arch()).tag
    for engine in engines.importers():
        with suppress(PipelineError):
            if engine.image_id(tag) or engine.image_id(profile.image.reference):
                return True, f"image {profile.image.reference} is here"
    registry = profile.image.reference.partition("/")[0]
    if unresolved(registry):
        return False, f"registry {registry} cannot be reached (its name cannot be resolved)"
    import requests  # noqa: PLC0415  # it takes a tenth of a second to load

    try:
        requests.get(f"https://{registry}/v2/", timeout=ANSWER_SECONDS)
    except requests.RequestException as e:
        return False, f"registry {registry} cannot be reached ({type(e).__name__})"
    return True, f"registry {registry} answers"


def _ensure(recipe: _Recipe, importer: Engine, known: str | None) -> BuildImage:
    """The image, whose id is ``known`` if it is there already."""
    tag, profile, reference = recipe.tag, recipe.profile, recipe.reference
    lock = paths.state() / "image" / f"{tag.rpartition(':')[2]}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        found = known or importer.image_id(tag)
        if found is None:
            with step(f"build image {profile.name} ({recipe.machine.name})"):
                base = _base(recipe, importer)
                runner = engines.probe(base, importer.program)
                foreign = bool(reference) or profile.image.base == "registry"
                arguments = {"BASE": base, **emulation.environment(runner, base, recipe.machine)}
                run(
                    runner.build_argv(recipe.directory, tag, arguments, network=foreign),
                    log=paths.logs() / f"image-{profile.name}.log",
                    remedy="read the log named above",
                )
            found = importer.image_id(tag)
            if found is None:
                raise CommandFailed(f"{importer.program} built {tag} but does not know it")
        runner = engines.found(tag, importer.program)
    tools = _tools(runner, tag, found, recipe.machine)
    base = reference or profile.image.reference
    if base and "@" not in base and (digest := importer.digest(f"{tag}-base", base)):
        base += f" ({digest})"  # what the tag named on that day
    base = base or f"mmdebstrap {profile.image.suite}"
    return BuildImage(
        runner, tag, ImageRecord(id=found, base=base, pinned=not reference, tools=tools),
        emulation.environment(runner, tag, recipe.machine),
    )  # fmt: skip


def _tools(runner: Engine, tag: str, image_id: str, machine: Arch) -> dict[str, str]:
    """The versions of the tools in an image, asked for once an image: what its id names does not change."""
    asked = dict(TOOLS)
    for other in ARCHES.values():
        if other != machine:
            asked[f"{other.triplet}-gcc"] = f"{other.triplet}-gcc --version | head -n1"
    script = "\n".join(
        f"printf '{name}=%s\\n' \"$({command} 2>/dev/null)\"" for name, command in asked.items()
    )

    def make(into: Path) -> None:
        lines = runner.run(tag, ["sh", "-c", script]).text.splitlines()
        tools = dict(line.partition("=")[::2] for line in lines if "=" in line)
        (into / "tools.json").write_text(json.dumps(tools))

    kept = store.produce("image-tools", {"image": image_id, "script": script}, make)
    tools: dict[str, str] = json.loads((kept.path / "tools.json").read_text())
    return tools


def _base(recipe: _Recipe, engine: Engine) -> str:
    """A base image in local storage; its name."""
    base = f"{recipe.tag}-base"
    if engine.image_id(base) is not None:
        return base
    wanted = recipe.reference or recipe.profile.image.reference
    if wanted:
        _pull(wanted, recipe.machine, engine)
        engine.call("tag", wanted, base)
        return base
    with tempfile.TemporaryDirectory(dir=lock_dir(), prefix="base-") as work:
        tar = Path(work) / "base.tar"
        names = packages(recipe.directory, recipe.machine)
        bootstrap(recipe.profile.image.suite, recipe.machine, names, tar)
        engine.call("import", str(tar), base)
    return base


def _pull(wanted: str, machine: Arch, engine: Engine) -> None:
    """Have ``wanted`` in local storage as the image of ``machine``; raises `SourceUnreachable`.

    One name stands for an image of each architecture, and local storage has one of them under it.
    """
    if engine.architecture(wanted) == machine.deb:
        return
    with step(f"pull {wanted} ({machine.name})"):
        try:
            engine.call("pull", "--quiet", "--platform", f"linux/{machine.deb}", wanted, timeout=900)
        except CommandFailed as e:
            raise SourceUnreachable(
                f"image {wanted} cannot be pulled: {engines.last_word(e)}",
                hint="name an image that can be had: `--image REFERENCE` (CentOS Stream 9, AlmaLinux 9), "
                "`--image bookworm` for the Debian build image, or load one with `podman load`",
            ) from None
    found = engine.architecture(wanted)
    if found != machine.deb:
        raise SourceUnreachable(
            f"image {wanted} is for {found or 'no architecture that is known'}, not for {machine.deb}",
            hint=f"name one that is there for {machine.name}: `--image REFERENCE`",
        )


def lock_dir() -> Path:
    """A directory on the state's disk: an image of 700 MB may not fit into /tmp."""
    directory = paths.state() / "image"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def bootstrap(suite: str, machine: Arch, names: list[str], tar: Path) -> None:
    """Make a root file system of a Debian suite with these packages, as a tar file.

    The mirror and the keyring are the host's. Raises `SourceUnreachable`.
    """
    apt = PrivateApt(suite, machine.deb)
    mode = "root" if os.geteuid() == 0 else "unshare"
    options = [f"--dpkgopt={o}" for o in DPKG_OPTIONS]
    options += [f"--aptopt={o}" for o in reaching_options()]
    if machine != host_arch():  # `binfmt.ensure` has looked, without arch-test
        options.append("--skip=check/qemu")
    try:
        run(
            ["mmdebstrap", f"--mode={mode}", "--variant=minbase", f"--architectures={machine.deb}",
             f"--include={','.join(names)}", "--aptopt=Acquire::Languages \"none\"", *options,
             suite, tar, "-"],
            stdin="".join(f"{line}\n" for line in apt.sources_lines()).encode(),
            env=_apt_environment(),
        )  # fmt: skip
    except CommandFailed as e:
        raise SourceUnreachable(
            f"mmdebstrap could not make a base of {suite} ({machine.deb}):\n{e.tail}",
            hint=f"is the host's Debian mirror reachable, and does it carry {suite}? try `apt-get update`",
        ) from None


def _apt_environment() -> Mapping[str, str]:
    return {
        "DEBIAN_FRONTEND": "noninteractive",
        "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
    }


def have_mmdebstrap() -> bool:
    """Whether base images can be made here."""
    return shutil.which("mmdebstrap") is not None
