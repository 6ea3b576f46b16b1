"""A small real bench: the probes compiled here, and roots that hold a C library this machine has."""

from __future__ import annotations

import ctypes
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.build.workshop import WARNINGS, compiler, programs
from pipeline.check import Material, PlaceCheck
from pipeline.check.launch_needs import PRINTS
from pipeline.check.probing import PROBES, ProbeCheck
from pipeline.core import paths
from pipeline.core.arch import Arch, host_arch
from pipeline.core.outcome import Finding, NotJudged
from pipeline.core.run import run
from pipeline.place import BatchResult, Job, Place
from pipeline.place.batch import decode_results
from pipeline.place.host import HostPlace
from pipeline.profile import Profile
from tests.check.probe_kit import material, profile

#: The release of the stand-in profile that a distribution's own glibc is like, its opposite, and the one that
#: exports no rseq symbols.
LIKE, OPPOSITE, SYMBOLLESS = "12.1", "12.0.z", "12.0"
#: Programs of these checks.
OURS = (
    "runner", "rseq-tracer", "look-tracer", "step-count", "rseq-threads", "own-registration", "getcpu-once",
    "getcpu-migrate", "getcpu-path", "getcpu-speed", "rseq-critical", "rseq-static", "rseq-static-pie",
    "relro-pages", "relro-static", "refuse-clone3", "getcpu-once-static", "getcpu-fallback",
    "getcpu-fallback-static",
    "rseq-refuse", "rseq-refused", "rseq-refused-static", "rseq-refused-static-pie", "rseq-starts",
    "rseq-starts-tls", "rseq-starts-static", "rseq-contexts", "rseq-contexts-static", "rseq-library",
    "rseq-auditor", "rseq-copied", *PRINTS,
)  # fmt: skip

#: Whether this machine's glibc is like no release that is judged.
NEWER = tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 41)
#: For tests that take this machine's glibc for a release that is right.
AS_RELEASED = pytest.mark.skipif(
    NEWER,
    reason="since glibc 2.41 the area lies outside the descriptor, in each program at another place, and on "
    "a stack of the program's own it is not cleared where rseq is off",
)
#: rseq's system call on this machine (the kernel's asm/unistd.h).
RSEQ_SYSCALL = {"x86_64": 334, "aarch64": 293}[platform.machine()]


def compile_one(machine: Arch, source: Path, to: Path, *flags: str) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    include = f"-I{paths.PROBES}"
    run(
        [compiler(machine, cxx=source.suffix == ".cc"), *WARNINGS, include, "-o", to, source, *flags],
        timeout=60,
    )
    return to


def compile_all(machine: Arch, into: Path, only: Sequence[str] = ()) -> Path:
    """The probes, with the flags programs.toml has, against this machine's own C library.

    So the static programs of every release are the same. ``only``: the names of those that are wanted.
    """
    listed = {p.name: p for p in programs()}
    for name in only or OURS:
        program = listed[name]
        each = [f"{name}-{release}" for release in (LIKE, OPPOSITE, SYMBOLLESS)]
        first, *others = each if program.against == "each" else [name]
        needs = (*(str(into / name) for name in program.needs), f"-Wl,-rpath-link,{into}")
        compile_one(machine, paths.PROBES / program.source, into / first, *program.flags, *needs)
        for other in others:
            shutil.copy2(into / first, into / other)
    return into


def replaced(programs_at: Path, name: str, by: Path, into: Path) -> Path:
    """A copy of the probes of which one is another program."""
    shutil.copytree(programs_at, into)
    (into / name).unlink()
    shutil.copy2(by, into / name)
    return into


def make_root(machine: Arch, into: Path) -> Path:
    """A root with loader and libc of the compiler's C library, and the empty directories a root has."""
    loader = into / machine.interp.lstrip("/")
    native = machine == host_arch()
    libraries = into / "lib" / machine.triplet if native else into / "lib"
    for directory in (loader.parent, libraries, *(into / d for d in ("proc", "dev", "sys", "tmp", "probes"))):
        directory.mkdir(parents=True, exist_ok=True)
    for soname, to in ((machine.loader, loader), ("libc.so.6", libraries / "libc.so.6")):
        argv = [compiler(machine, cxx=False), f"-print-file-name={soname}"]
        shutil.copy2(Path(run(argv).text.strip()).resolve(), to)
    return into


def make_release_root(machine: Arch, into: Path) -> Path:
    """As `make_root`, with the loader beside libc as in every release: dlmopen and auditors look there."""
    made = make_root(machine, into)
    (libc,) = made.rglob("libc.so.6")
    loader = made / machine.interp.lstrip("/")
    if not (libc.parent / loader.name).exists():
        shutil.copy2(loader, libc.parent / loader.name)
    return made


def size_when_on() -> int:
    """What this machine's own glibc says in __rseq_size: 32 at first, 20 since upstream bug 31965."""
    return ctypes.c_uint.in_dll(ctypes.CDLL(None), "__rseq_size").value


def host_profile() -> Profile:
    """The stand-in profile with this machine's __rseq_size, its release ``LIKE`` being what the host has."""
    return profile(size_on=size_when_on())


def host_bench(root: Path, programs_at: Path, release: str = LIKE, of: Profile | None = None) -> Material:
    return material({release: root}, machine=host_arch().name, of=of or host_profile(), programs=programs_at)


def observe(place: Place, on: Material, checks: Sequence[PlaceCheck]) -> BatchResult:
    """All checks' jobs in one batch."""
    roots = {name: b.root for name, b in on.built.items()}
    jobs = [job for check in checks for job in check.jobs(on)]
    return place.run_batch(roots, {PROBES: on.programs}, jobs)


def ask(check: ProbeCheck, on: Material) -> dict[str, Finding]:
    """What a check finds of a bench whose programs this machine itself runs, by case."""
    found = check.judge(on, "host", observe(HostPlace(on.programs / "runner"), on, [check]))
    return {a.case: a for a in found if isinstance(a, Finding)}


def answers(
    on: Material, place: str, batch: BatchResult, checks: Sequence[PlaceCheck]
) -> dict[str, Finding | NotJudged]:
    """Answers by ``check case`` (of a bench with one release)."""
    return {f"{a.check} {a.case}": a for check in checks for a in check.judge(on, place, batch)}


@dataclass(frozen=True)
class Emulated:
    """A place that runs each job under user-mode QEMU, found in the overlay."""

    place: Place
    qemu: str
    name: str = "qemu-user"

    def run_batch(
        self, roots: Mapping[str, Path], overlay: Mapping[str, Path], jobs: Sequence[Job]
    ) -> BatchResult:
        under = [replace(job, argv=(f"{PROBES}/{self.qemu}", *job.argv)) for job in jobs]
        return self.place.run_batch(roots, overlay, under)


__all__ = ["PROBES", "decode_results", "paths", "profile", "run"]
