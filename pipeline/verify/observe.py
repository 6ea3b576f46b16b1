"""Observations are results too: what a place said of the same programs is not asked for twice.

Only a whole batch whose every answer was green is kept; anything else is observed again. Kept is what the
programs printed, never a verdict: the checks judge it anew each time. A place whose identity is not known
for sure (a machine over ssh) is always asked.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.check import Material
from pipeline.check.rule import outcome_of, words_of
from pipeline.core import store
from pipeline.core.errors import PipelineError
from pipeline.core.lanes import Piece, side_by_side
from pipeline.core.records import timestamp
from pipeline.host import processor
from pipeline.place import BatchResult, Job, Place
from pipeline.place.batch import encode_jobs
from pipeline.rpm.sysroot import root_sha256

_ADAPTER: TypeAdapter[BatchResult] = TypeAdapter(BatchResult)
BATCH, LOG = "batch.json", "place.log"


@dataclass(frozen=True)
class Site:
    """A place for one architecture; ``kernel_image`` is the file it boots, if it boots one, and
    ``kernel_name`` what the profile calls that kernel.

    ``identity`` is all of the place that could change what is seen there (JSON); None: it cannot be known.
    """

    place: Place
    identity: Mapping[str, Any] | None = None
    kernel_image: Path | None = None
    kernel_name: str = ""


@dataclass(frozen=True)
class Observation:
    """What came back from a site, when (UTC, ISO 8601), and whether it is from an earlier run."""

    batch: BatchResult
    at: str
    inputs: Mapping[str, Any] | None
    reused: bool = False


def host_identity() -> dict[str, Any]:
    """The running kernel and processor, for places that use them."""
    return {
        "kernel": platform.release(),
        "version": platform.version(),
        "cpu": processor.name(),
        "cpus": len(os.sched_getaffinity(0)),
        "seccomp": _status("Seccomp", "Seccomp_filters"),
    }


def _status(*names: str) -> list[str]:
    """Lines of ``/proc/self/status``: whether a filter lies over us, and how many."""
    file = Path("/proc/self/status")
    lines = file.read_text().splitlines() if file.exists() else []
    return [line for line in lines if line.partition(":")[0] in names]


def inputs_of(site: Site, material: Material, jobs: Sequence[Job]) -> dict[str, Any] | None:
    """The key of an observation, None if it is not to be kept."""
    if site.identity is None:
        return None
    return {
        "place": site.place.name,
        "identity": dict(site.identity),
        "jobs": store.digest(encode_jobs(jobs).decode()),
        "roots": {name: root_sha256(b.root) for name, b in material.built.items()},
        "programs": material.programs.parent.name,
    }


def observe(site: Site, material: Material, jobs: Sequence[Job], *, fresh: bool = False) -> Observation:
    """Run the jobs at the site, or take what an earlier run of the very same saw there."""
    inputs = inputs_of(site, material, jobs)
    if not fresh and (found := _kept(inputs)):
        return found
    roots = {name: b.root for name, b in material.built.items()}
    batch = site.place.run_batch(roots, {"/probes": material.programs}, jobs)
    return Observation(batch, timestamp(), inputs)


def known(site: Site, material: Material, jobs: Sequence[Job]) -> Observation | None:
    """What an earlier run of the very same saw at the site, None if there is none."""
    return _kept(inputs_of(site, material, jobs))


def observe_all(
    sites: Sequence[Site], material: Material, jobs: Sequence[Job], *, fresh: bool = False
) -> list[Observation]:
    """What came back from each site, in their order; what cannot be had is trouble of its place.

    Emulated machines run side by side, one a processor: nothing is timed there, and each keeps one processor
    busy. All others have the machine for themselves. Raises what is of no single place (`outcome_of`).
    """
    emulated = [n for n, site in enumerate(sites) if (site.identity or {}).get("accelerator") == "tcg"]
    pieces = [Piece(partial(_tried, sites[n], material, jobs, fresh)) for n in emulated]
    lanes = min(len(pieces), len(os.sched_getaffinity(0)))
    seen = dict(zip(emulated, side_by_side(pieces, lanes=lanes), strict=True))
    return [seen[n] if n in seen else _tried(site, material, jobs, fresh) for n, site in enumerate(sites)]


def _tried(site: Site, material: Material, jobs: Sequence[Job], fresh: bool) -> Observation:
    try:
        return observe(site, material, jobs, fresh=fresh)
    except (PipelineError, OSError) as e:
        outcome_of(e)  # raises what is not the place's
        return Observation(BatchResult(facts=None, results={}, trouble=words_of(e)), timestamp(), None)


def _kept(inputs: Mapping[str, Any] | None) -> Observation | None:
    """What an earlier run kept; None if there is none or it was damaged since: then it is asked again."""
    found = store.peek("observation", inputs) if inputs is not None else None
    if found is None:
        return None
    file, log = found.path / BATCH, found.path / LOG
    try:
        batch = _ADAPTER.validate_json(file.read_bytes())
        at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except (OSError, ValidationError):
        return None
    return Observation(replace(batch, log=log if log.exists() else None), timestamp(at), inputs, reused=True)


def keep(observation: Observation) -> None:
    """Keep an observation whose answers were all green, for the next run."""
    batch = observation.batch
    if observation.inputs is None or observation.reused or batch.trouble or batch.facts is None:
        return

    def make(into: Path) -> None:
        (into / BATCH).write_bytes(_ADAPTER.dump_json(replace(batch, log=None)))
        if batch.log and batch.log.is_file():
            shutil.copyfile(batch.log, into / LOG)

    if found := store.peek("observation", observation.inputs):  # `--fresh` replaces it
        store.remove_tree(found.path)
    store.produce("observation", observation.inputs, make)
