"""Ratios measured in one run: our three releases against one plain build, our listing against abidiff.

Seconds depend on the machine and on what else it does; a ratio of two things done one after the other on
the same machine is what is judged.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.abi.delta import delta
from pipeline.abi.files import listings
from pipeline.abi.listing import Listing
from pipeline.build import rpmbuild, variants
from pipeline.build.builder import Builder
from pipeline.build.every import make_all
from pipeline.build.options import Options
from pipeline.build.variants import Variant
from pipeline.build.workplace import Workplace
from pipeline.core import paths, store
from pipeline.core.arch import host_arch
from pipeline.core.errors import ExitCode
from pipeline.core.outcome import Target
from pipeline.core.progress import step
from pipeline.core.records import Built
from pipeline.core.run import run
from pipeline.knownbad import change
from pipeline.knownbad.entry import Change
from pipeline.profile import Profile
from pipeline.source import FetchedSource, series

#: What may be spent, in plain builds: on three releases, on one alone, on a further one, and on a
#: variant in which one C file is another.
MOST_OVER_PLAIN, MOST_FIRST, MOST_FURTHER, MOST_VARIANT = 1.45, 1.15, 0.15, 0.13
#: The same, on a main job that finds everything done: 8 seconds, where a plain build takes 320.
MOST_RERUN = 0.025
#: The main job, verb by verb.
MAIN_JOB = ("setup", "build", "verify")
#: abidiff takes at least this many of our listings.
LEAST_OVER_ABIDIFF = 20.0
#: A file of every glibc, and a line of it that is there once.
OTHER_FILE = Change(
    file="sysdeps/unix/sysv/linux/sched_getcpu.c", find="#include <sched.h>\n",
    replace="#include <sched.h>\n#include <stddef.h>\n",
)  # fmt: skip
#: Times our listing and delta are made for their median, and those of a rerun.
ROUNDS, RERUNS = 5, 3


@dataclass(frozen=True)
class Ratio:
    """``theirs`` and ``ours`` in seconds; ``ratio`` as named by ``meaning``, and whether it holds."""

    meaning: str
    theirs: float
    ours: float
    ratio: float
    limit: str
    holds: bool
    #: further figures, shown and not judged
    figures: Mapping[str, float] = field(default_factory=dict)


@contextmanager
def _fresh_state(near: Path) -> Iterator[None]:
    """Results and compiler cache of the block start from nothing; sources are taken from the real state."""
    with tempfile.TemporaryDirectory(dir=near, prefix="bench-") as fresh:
        (Path(fresh) / "sources").symlink_to(near / "sources")
        with paths.state_at(Path(fresh)):
            yield


def plain_build(profile: Profile, source: FetchedSource, workplace: Workplace, top: Path) -> float:
    """Seconds of ``configure && make -jN && make install`` of one release's tree, without ccache or RPMs."""
    machine = host_arch()
    tree = source.unpack(top)
    series.load(profile.name, profile.build_against).apply(tree)
    build = top / "build"
    build.mkdir()
    cpus = len(os.sched_getaffinity(0))
    here, headers = workplace.at("/build", top), workplace.kernel_headers(top, machine)
    script = (
        f"set -e; cd {here}/build; ../{tree.name}/configure --with-headers={headers} "
        f"{' '.join(profile.configure_of(machine.name))} --disable-werror "
        f"CFLAGS='{' '.join(profile.cflags_of(machine.name))}' CXX=; make -j{cpus} CXX=; "
        f"make -j{cpus} install install_root={here}/root CXX="
    )
    argv = ["sh", "-c", script]
    log = paths.logs() / "bench-plain.log"
    log.unlink(missing_ok=True)
    start = time.monotonic()
    with step("plain configure && make && make install") as at:
        workplace.run(argv, mounts={"/build": top}, log=log, on_line=rpmbuild.show(at.at))
    return time.monotonic() - start


def build_ratios(
    profile: Profile, source: FetchedSource, options: Options, choice: Sequence[str]
) -> list[Ratio]:
    """What releases cost, from an empty compiler cache to RPMs, over one plain build (`MOST_OVER_PLAIN`).

    Then what a rerun of the main job does, with the options ``choice``, in the state that there is.
    """
    builder = Builder(profile, source, options)
    workplace = builder.workplace(host_arch())
    state = paths.state()
    with tempfile.TemporaryDirectory(dir=state, prefix="bench-") as top:
        plain = plain_build(profile, source, workplace, Path(top))
    wanted = [Target(profile=profile.name, release=r.name, arch=host_arch().name) for r in profile.release]
    with _fresh_state(state):
        first = _taking(lambda: builder.make(wanted[0]))
    with _fresh_state(state):
        ratios = [
            _over_plain(
                f"{len(wanted)} releases as RPMs",
                _taking(lambda: make_all(builder, wanted)),
                plain,
                MOST_OVER_PLAIN,
            ),
            _over_plain("one release as RPMs", first, plain, MOST_FIRST),
            _over_plain("a further release", _again(builder, wanted[-1]), plain, MOST_FURTHER),
            _over_plain("a variant of one C file", _variant(builder, wanted[-1]), plain, MOST_VARIANT),
        ]
    return [*ratios, _over_plain("setup, build and verify again", _rerun(choice), plain, MOST_RERUN)]


def _rerun(choice: Sequence[str]) -> float:
    """Seconds of a main job that finds everything done: the median after one that does it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as out:
        seconds = [_main_job(choice, Path(out)) for _ in range(RERUNS + 1)]
    return statistics.median(seconds[1:])


def _main_job(choice: Sequence[str], out: Path) -> float:
    env, judged = {"PIPELINE_STATE": str(paths.state())}, (ExitCode.PASS, ExitCode.FAILED)
    start = time.monotonic()
    with step("setup, build and verify") as at:
        for verb in MAIN_JOB:
            at.at(verb)
            where = ["--out", str(out)] if verb == "verify" else []
            run([sys.executable, "-m", "pipeline", verb, *choice, *where], env=env, success_codes=judged)
    return time.monotonic() - start


def _over_plain(what: str, ours: float, plain: float, most: float) -> Ratio:
    ratio = ours / plain
    return Ratio(f"{what} over one plain build", plain, ours, ratio, f"at most {most}", ratio <= most)


def _taking(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _again(builder: Builder, target: Target) -> float:
    """Seconds of a build of a release that begins with the objects of another."""
    if found := store.peek("build", builder.inputs(target)):
        store.remove_tree(found.path)
    return _taking(lambda: builder.make(target))


def _variant(builder: Builder, target: Target) -> float:
    """Seconds of a build of a release in which one C file of libc is another, to its RPMs."""
    tree = change.patched(builder, target)
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        patch = change.patch("one file is another", [OTHER_FILE], tree, Path(work) / "9999-bench.patch")
        return _taking(lambda: variants.build(builder, Variant(target, (patch,)), target))


def _compare(first: Path, last: Path) -> tuple[float, dict[str, Listing], dict[str, Listing]]:
    """Seconds of our listings of both releases and of the delta between them, and the listings."""
    start = time.monotonic()
    before, after = listings(first), listings(last)
    delta(before, after)
    return time.monotonic() - start, before, after


def abi_ratio(built: Mapping[str, Built]) -> Ratio:
    """abidiff on every pair of DSOs of the first and the last release, over our listing and delta of them.

    The first round only brings the libraries into memory, for both sides alike. Ours, being short, is the
    median of `ROUNDS` more; abidiff's, hundreds of processes, is one sum.
    """
    first, *_, last = built.values()
    _compare(first.root, last.root)
    rounds = []
    for _ in range(ROUNDS):
        seconds, before, after = _compare(first.root, last.root)
        rounds.append(seconds)
    ours = statistics.median(rounds)
    start = time.monotonic()
    with step("abidiff") as at:
        for name, listing in before.items():
            if name in after:
                at.at(name)
                pair = (first.root / listing.path, last.root / after[name].path)
                run(["abidiff", *pair], success_codes=None)
    theirs = time.monotonic() - start
    ratio = theirs / ours
    return Ratio(
        meaning=f"abidiff over our listing and delta, {len(before)} pairs of DSOs",
        theirs=theirs,
        ours=ours,
        ratio=ratio,
        limit=f"at least {LEAST_OVER_ABIDIFF:.0f}",
        holds=ratio >= LEAST_OVER_ABIDIFF,
        figures={"fastest_seconds": min(rounds), "slowest_seconds": max(rounds)},
    )
