"""A bare Debian as a base for containers: the host's mirror and package index are known there, no tool is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.arch import host_arch
from pipeline.core.run import run
from pipeline.host import engine as engines
from pipeline.host import image
from pipeline.host.engine import Engine

_PATH = re.compile(r"(file://)?(/[^\s']+)")


@dataclass(frozen=True)
class Bare:
    """The image ``name``, and directories of the host that its pip reads, to be mounted read-only."""

    engine: Engine
    name: str
    volumes: tuple[Path, ...]

    @property
    def options(self) -> list[str]:
        """What `run` and `build` of the engine get for it."""
        return [word for v in self.volumes for word in ("--volume", f"{v}:{v}:ro")]


@contextmanager
def bare_debian(suite: str, tag: str, names: tuple[str, ...] = ()) -> Iterator[Bare]:
    """Debian's smallest system with ``names``, removed afterwards."""
    importer = next(engines.importers())
    with tempfile.TemporaryDirectory(dir=image.lock_dir(), prefix="bare-") as work:
        top = Path(work)
        image.bootstrap(suite, host_arch(), ["apt", *names], top / "base.tar")
        importer.call("import", str(top / "base.tar"), f"{tag}-base")
        (top / "base.tar").unlink()
        volumes, lines = _pip(top)
        (top / "Containerfile").write_text("\n".join([f"FROM {tag}-base", *lines, ""]))
        engine = engines.probe(f"{tag}-base", importer.program)
        run(engine.build_argv(top, tag, {}, network=False))
    try:
        yield Bare(engine, tag, tuple(volumes))
    finally:
        for each in (tag, f"{tag}-base"):
            importer.call("rmi", "--force", each)


def _pip(top: Path) -> tuple[list[Path], list[str]]:
    """pip's settings of this process as a file in ``top``; directories they name, and lines for its files."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings, volumes, lines = dict[str, str](), list[Path](), list[str]()
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = " ".join(shlex.split(value))
    for name, value in settings.items():
        for index, path in _PATH.findall(value):
            place = Path(path)
            if place.is_dir():  # an index refers to files that lie beside it
                volumes.append(place.parent if index else place)
            elif place.is_file():
                copied = f"{name}-{place.name}"
                (top / copied).write_bytes(place.read_bytes())
                lines.append(f"COPY {copied} /etc/pip/{copied}")
                settings[name] = settings[name].replace(str(place), f"/etc/pip/{copied}")
    (top / "pip.conf").write_text("[global]\n" + "".join(f"{n} = {v}\n" for n, v in settings.items()))
    return list(dict.fromkeys(volumes)), [*lines, "COPY pip.conf /etc/pip.conf"]
