"""A wheel of the pipeline works from any directory: its data is inside, and it knows which commit it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.cli import manual
from pipeline.core import paths

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory a wheel of this checkout was unpacked into, which is all that installing it does."""
    top = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(top),
            str(paths.REPO),
        ],
        check=True,
    )  # fmt: skip
    (wheel,) = top.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(top / "site")
    return top / "site"


def call(installed: Path, cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """A verb of the installed pipeline, from an empty directory; the checkout is not on its path."""
    cwd.mkdir(exist_ok=True)
    env = {
        **os.environ, "PYTHONPATH": str(installed), "PIPELINE_STATE": str(cwd.parent / "state"),
        "PIPELINE_TRACEBACK": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *args],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_installed_pipeline_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    code = "from pipeline.core import paths; print(paths.PATCHES)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(installed / "pipeline" / "data" / "patches")


def test_the_series_are_inside(installed: Path, tmp_path: Path) -> None:
    done = call(installed, tmp_path / "empty", "series", "--lint")
    assert done.returncode == 0, done.stderr


def test_the_manual_pages_are_inside(installed: Path) -> None:
    (directory,) = installed.glob("*.data/data/share/man/man1")
    assert {p.name for p in directory.iterdir()} == set(manual.pages())


def test_scan_works_from_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    done = call(installed, tmp_path / "empty", "scan", "--json", "-", "/usr/bin/env")
    assert done.returncode in (0, 1), done.stderr
    assert "env" in done.stdout


def test_it_knows_its_commit_and_sees_an_edit(installed: Path, tmp_path: Path) -> None:
    code = (
        "from pipeline.core.identity import identity; import json; i = identity();"
        "print(json.dumps([i.commit, i.changed]))"
    )

    def asked() -> tuple[str, list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        commit, changed = json.loads(done.stdout)
        return commit, changed

    head = subprocess.run(
        ["git", "-C", str(paths.REPO), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    commit, before = asked()
    assert commit == head.stdout.strip()
    profile = installed / "pipeline" / "profiles" / "el9.toml"
    text = profile.read_text()
    profile.write_text(text + "# edited in place\n")
    try:
        assert set(asked()[1]) - set(before) == {"profiles/el9.toml"}
    finally:
        profile.write_text(text)
