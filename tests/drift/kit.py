"""Releases of small DSOs as RPMs, a file of sources, and the verb called on them."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from pipeline.abi import baseline
from pipeline.abi.baseline import Origin
from pipeline.cli.drift import command
from pipeline.core.arch import host_arch
from pipeline.core.errors import PipelineError
from pipeline.core.outcome import Target
from tests import rpmwriter
from tests.elf_fixtures import LD, LIBC, LOADER, LOADER_RSEQ, RSEQ_SOURCE, Dso, release_root

ARCH = host_arch().name
#: Another size of one datum, and nothing else.
LOADER_SLIP = LOADER_RSEQ.but(
    source=RSEQ_SOURCE.replace("long __rseq_offset", "int __rseq_offset")
    + "void _dl_mcount (void) {}\nlong _r_debug[5];\nint _rtld_global;\n"
)
LIBC_LESS = LIBC.but(nodes={"GLIBC_2.2.5": ("printf",), "GLIBC_2.34": ("environ",)})
TARGET = Target(profile="el9", release="9.0", arch=ARCH)

__all__ = ["LD", "LIBC", "LOADER", "LOADER_RSEQ"]


def commit_baseline(directory: Path, loader: Dso = LOADER, libc: Dso = LIBC) -> None:
    """A baseline of a release with these DSOs (paths.BASELINES must be the test's own)."""
    root = release_root(directory / "baseline-root", loader, libc)
    made = baseline.from_root(root, TARGET, Origin("root", "glibc-2.34-1.el9"))
    baseline.write(made, baseline.directory_of(TARGET))


def rpm(directory: Path, release: str, loader: Dso = LOADER, libc: Dso = LIBC, name: str = "glibc") -> Path:
    """An RPM without a builder."""
    root = release_root(directory / f"root-{release}", loader, libc)
    files = sorted(p for p in root.rglob("*") if p.is_file())
    items = [rpmwriter.Item(f"/{p.relative_to(root)}", rpmwriter.REG | 0o755, p.read_bytes()) for p in files]
    directory.mkdir(parents=True, exist_ok=True)
    return rpmwriter.write(directory, name, version="2.34", release=release, arch=ARCH, items=items)


def sources(directory: Path, *tables: str) -> Path:
    """A file of sources; each table is the lines after ``[[source]]``."""
    file = directory / "sources.toml"
    common = f'arches = ["{ARCH}"]\npackages = ["glibc"]\n'
    file.write_text("schema = 1\n" + "".join(f"[[source]]\n{common}{t}\n" for t in tables))
    return file


def call(*args: str | Path) -> Result:
    """The verb, its errors raised."""
    result = CliRunner().invoke(command, [str(a) for a in args], standalone_mode=False)
    if result.exception and not isinstance(result.exception, PipelineError):
        raise result.exception
    return result
