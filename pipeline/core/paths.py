"""Every path the pipeline reads or writes is named here.

State (sources, images, builds, ccache) lives outside the checkout, so that a clean clone finds what was
already built; ``PIPELINE_STATE`` moves it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import platformdirs

from pipeline.core.errors import UsageError

REPO = Path(__file__).resolve().parents[2]
PACKAGE = REPO / "pipeline"
PROFILES = PACKAGE / "profiles"
PROBES = PACKAGE / "probes"
#: The data directories lie beside the package in a checkout, and inside it in an installed wheel.
DATA = PACKAGE / "data" if (PACKAGE / "data").is_dir() else REPO
PATCHES = DATA / "patches"
SPECS = DATA / "specs"
CONTAINERS = DATA / "containers"
BASELINES = DATA / "abi-baselines"


#: what `state_at` says; lanes begin as copies of this process and have it too
_STATE: ContextVar[Path | None] = ContextVar("state", default=None)


@contextmanager
def state_at(directory: Path) -> Iterator[None]:
    """All results of the block live under ``directory``, whatever the environment says."""
    token = _STATE.set(directory.absolute())
    try:
        yield
    finally:
        _STATE.reset(token)


#: what `logs_at` says
_LOGS: ContextVar[Path | None] = ContextVar("logs", default=None)


@contextmanager
def logs_at(directory: Path) -> Iterator[None]:
    """All logs of the block lie in ``directory``: work that goes on side by side shares no log."""
    token = _LOGS.set(directory)
    try:
        yield
    finally:
        _LOGS.reset(token)


def state() -> Path:
    """The directory all results live under (created on demand by the store)."""
    if chosen := _STATE.get():
        return chosen
    named = os.environ.get("PIPELINE_STATE") or platformdirs.user_cache_dir("glibc-backport-pipeline")
    try:
        # absolute: container engines take a relative path for the name of a volume
        return Path(named).expanduser().absolute()
    except RuntimeError:  # a user without an entry in passwd and without HOME
        raise UsageError(
            f"{named}: no home directory is known", hint="set PIPELINE_STATE to a directory, or HOME"
        ) from None


def logs() -> Path:
    """Full logs of long commands, one file a command."""
    return _LOGS.get() or state() / "logs"


def ccache(profile: str, arch: str, *, shared: bool = False) -> Path:
    """One compiler cache for each profile and architecture: releases share it, nothing else does.

    ``shared``: that of builds with a remote cache, whose objects come to lie in it.
    """
    return state() / "ccache" / f"{profile}-{arch}{'-shared' if shared else ''}"


def out() -> Path:
    """Where reports and evidence for people go (``--out`` moves it)."""
    return Path.cwd() / "out"
