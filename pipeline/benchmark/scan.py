"""How long the verb ``scan`` takes for ten thousand files, against readelf once a file."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from pipeline.benchmark.builds import Ratio
from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.errors import EvidenceError, ExitCode
from pipeline.core.progress import step
from pipeline.core.run import run
from pipeline.elf.image import MAGIC

#: Files that are scanned, and how many of them readelf reads, whose time is then multiplied.
FILES, SAMPLE = 10_000, 500
#: Bytes above which a file of this machine is not copied: 10,000 copies are to be a few hundred megabytes.
LARGEST = 64 << 10
#: readelf, once a file, must take at least this many times as long as our scan.
LEAST_OVER_READELF = 1.0
#: Reads what a scan reads: needed libraries, versions, dynamic symbols.
READELF = 'for file; do readelf -W -d -V --dyn-syms "$file" >/dev/null || exit; done'


@dataclass(frozen=True)
class Took:
    """Seconds on the clock, and of processors' work by this process and those it started."""

    wall: float
    cpu: float


def _now() -> Took:
    used = os.times()
    return Took(time.monotonic(), used.user + used.system + used.children_user + used.children_system)


def _since(start: Took) -> Took:
    now = _now()
    return Took(now.wall - start.wall, now.cpu - start.cpu)


def originals() -> list[Path]:
    """Small ELF files of this machine, in the order of their names: programs and libraries."""
    libraries = Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "")
    found = []
    for directory in (Path("/usr/bin"), Path("/usr/sbin"), Path("/usr/lib64"), libraries):
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
                continue
            with path.open("rb") as file:
                if file.read(len(MAGIC)) == MAGIC:
                    found.append(path)
    return found


def copies(files: Sequence[Path], count: int, into: Path) -> Iterator[Path]:
    """``count`` files of which no two are alike: each is one of ``files`` with its number behind the end."""
    contents = [path.read_bytes() for path in files]
    for number, (path, data) in enumerate(islice(cycle(zip(files, contents, strict=True)), count)):
        made = into / f"{number:05}-{path.name}"
        made.write_bytes(data + f"\n{number:05}".encode())
        yield made


def scan_ratio(profile: str, files: int = FILES, sample: int = SAMPLE) -> Ratio:
    """readelf over our scan of the same files; readelf's time is that of ``sample`` of them, multiplied.

    ``profile`` is a name or a file, as ``--profile`` takes it. Ours is the whole command, as a user calls it:
    Python's start, every release of this architecture, the table and the JSON.

    Raises `EvidenceError` if there is nothing to copy, or if a file was lost on the way.
    """
    real = originals()
    if not real:
        raise EvidenceError("there are no small ELF files in /usr to make a scan of")
    paths.state().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.state(), prefix="bench-scan-") as top:
        many, record = Path(top, "files"), Path(top, "scan.json")
        many.mkdir()
        with step(f"{files} files from {len(real)}"):
            made = list(copies(real, files, many))
        argv: list[str | Path] = [sys.executable, "-m", "pipeline", "scan", many, "--json", record]
        with step("scan"):
            start = _now()
            run(
                [*argv, "--profile", profile, "--arch", host_arch().name],
                cwd=paths.REPO,
                success_codes=(ExitCode.PASS, ExitCode.FAILED, ExitCode.MISSING),
            )
            ours = _since(start)
        scanned = len(json.loads(record.read_text())["files"])
        if scanned != files:
            raise EvidenceError(f"{files} files were made, {scanned} were scanned")
        some = made[:: max(1, files // sample)][:sample]
        with step(f"readelf, {len(some)} files"):
            start = _now()
            run(["sh", "-c", READELF, "sh", *some])
            theirs = _since(start)
    factor = files / len(some)
    ratio = theirs.wall * factor / ours.wall
    load = os.getloadavg()[0]
    return Ratio(
        meaning=f"readelf once a file ({len(some)} files, times {factor:g}) over our scan of {files} files",
        theirs=theirs.wall * factor,
        ours=ours.wall,
        ratio=ratio,
        limit=f"at least {LEAST_OVER_READELF:g}",
        holds=ratio >= LEAST_OVER_READELF,
        figures={
            "files_per_second": files / ours.wall,
            "cpu_seconds": ours.cpu,
            "readelf_cpu_seconds": theirs.cpu * factor,
            "load": load,
        },
    )
