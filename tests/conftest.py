"""Every test gets a state directory of its own, and an environment that holds no setting of the user's."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline.core import paths
from tests.tiny_kit import Tiny

#: what a user may have set that would change what a test sees
SETTINGS = (
    "PIPELINE_ENGINE",
    "PIPELINE_SCRATCH",
    "PIPELINE_TREES",
    "PIPELINE_TRACEBACK",
    "PIPELINE_CCACHE_REMOTE",
    "FORCE_COLOR",
    "NO_COLOR",
    "COLUMNS",
)

# How long an example takes says nothing on a machine that does other work.
settings.register_profile("here", deadline=None)
settings.load_profile("here")

# Started in the background of a script, a process ignores ^C and so does all it starts; many tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory for this test alone."""
    directory = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("PIPELINE_STATE", str(directory))
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return directory


@pytest.fixture(scope="session")
def users_state() -> str | None:
    """PIPELINE_STATE as it was before any test."""
    return os.environ.get("PIPELINE_STATE")


@pytest.fixture
def real_state(state: Path, users_state: str | None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """The user's own state directory, for tests that use a build image or a kernel that is there already."""
    if users_state is None:
        monkeypatch.delenv("PIPELINE_STATE")
    else:
        monkeypatch.setenv("PIPELINE_STATE", users_state)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """A profile of two releases on a tree that builds in a second; its patches are the ones there are."""
    laid_out = Tiny.lay_out(tmp_path)
    monkeypatch.setattr(paths, "PATCHES", laid_out.patches)
    return laid_out
