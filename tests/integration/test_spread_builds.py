"""Builds made on several machines are found by another: their directories of results are all it needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.host.image import BuildImage
from tests.tiny_kit import Tiny

pytestmark = pytest.mark.integration


def test_builds_of_two_machines_are_found_by_a_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host_in_a_container: BuildImage
) -> None:
    tiny = Tiny.lay_out(tmp_path)
    monkeypatch.setattr(paths, "PATCHES", tiny.patches)
    joined = tmp_path / "judge" / "build"
    made = {}
    for release in ("1.0", "1.1"):
        state = tmp_path / f"builder-{release}"
        monkeypatch.setenv("PIPELINE_STATE", str(state))
        builder = tiny.builder(image=host_in_a_container)
        made[release] = builder.build(tiny.target(release)).manifest
        for result in (state / "build").iterdir():
            if not result.name.startswith("."):  # as an upload leaves hidden files out, and modes do not last
                shutil.copytree(result, joined / result.name, copy_function=shutil.copyfile)
    monkeypatch.setenv("PIPELINE_STATE", str(joined.parent))
    builder = tiny.builder(image=host_in_a_container)
    for release, manifest in made.items():
        found = builder.find(tiny.target(release))
        assert found is not None, release
        assert found.manifest == manifest
    assert not (joined.parent / "ccache").exists()
