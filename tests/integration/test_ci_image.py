"""ci/image: an image that one runner saved is, with the same id, what another loads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.run import run
from pipeline.host.engine import Engine

pytestmark = pytest.mark.integration

PREFIX = f"pipeline-ci-tests-{os.getpid()}-"
NAME = f"localhost/{PREFIX}el9:0123456789abcdef"


def image(*arguments: str | Path, engine: Engine) -> subprocess.CompletedProcess[str]:
    assert engine.program == "podman"
    env = {**os.environ, "IMAGE_PREFIX": PREFIX}
    return subprocess.run(
        [paths.REPO / "ci" / "image", *arguments], env=env, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


@pytest.fixture
def tagged(bare_image: tuple[Engine, str], tmp_path: Path) -> Iterator[Engine]:
    """The engine, with an image made and named as a build image is, and its base, which is none."""
    engine, name = bare_image
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    (recipe / "Containerfile").write_text("ARG BASE\nFROM ${BASE}\nENV MADE=here\n")
    engine.call("tag", name, f"{NAME}-base")
    run(engine.build_argv(recipe, NAME, {"BASE": name}, network=False))
    yield engine
    for tag in (NAME, f"{NAME}-base"):
        if engine.image_id(tag):
            engine.call("rmi", tag)


def test_saved_and_loaded_it_is_the_same_image(tagged: Engine, tmp_path: Path) -> None:
    file = tmp_path / "new" / "image.tar.zst"
    before = tagged.image_id(NAME)
    done = image("save", file, engine=tagged)
    assert done.returncode == 0, done.stderr
    tagged.call("rmi", NAME)
    assert tagged.image_id(NAME) is None
    done = image("load", file, engine=tagged)
    assert done.returncode == 0, done.stderr
    assert tagged.image_id(NAME) == before
    tagged.run(NAME, ["true"], timeout=120)


def test_not_knowing_which_is_said(tagged: Engine, tmp_path: Path) -> None:
    other = f"localhost/{PREFIX}el10:fedcba9876543210"
    tagged.call("tag", NAME, other)
    try:
        done = image("save", tmp_path / "image", engine=tagged)
    finally:
        tagged.call("rmi", other)
    assert done.returncode == 4
    assert other in done.stderr
    tagged.call("rmi", NAME)
    done = image("save", tmp_path / "image", engine=tagged)
    assert done.returncode == 4
    assert "found 0" in done.stderr
    assert not (tmp_path / "image").exists()


def test_wrong_use_and_a_broken_file(tagged: Engine, tmp_path: Path) -> None:
    assert image("save", engine=tagged).returncode == 2
    assert image("show", tmp_path, engine=tagged).returncode == 2
    (tmp_path / "broken").write_bytes(b"no archive")
    assert image("load", tmp_path / "broken", engine=tagged).returncode not in (0, 2)
