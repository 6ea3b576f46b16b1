"""The commit hooks, run by pre-commit itself in a clone of this very tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.run import run

pytestmark = pytest.mark.integration


def _hook(tree: Path, name: str) -> subprocess.CompletedProcess[str]:
    """One hook on all files, with the packages that run this test in place of nox's environment."""
    environment = {
        **os.environ,
        "NOX_DEFAULT_VENV_BACKEND": "none",
        "PRE_COMMIT_HOME": str(tree.parent / "pc"),
    }
    return subprocess.run(
        [sys.executable, "-m", "pre_commit", "run", "--all-files", "--verbose", name],
        cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files that git has here, as they are now, in a repository of their own."""
    tree = tmp_path / "tree"
    tree.mkdir()
    listed = run(["git", "-C", paths.REPO, "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (paths.REPO / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((paths.REPO / name).read_bytes())
            (tree / name).chmod((paths.REPO / name).stat().st_mode)
    run(["git", "-C", tree, "init", "-q"])
    run(["git", "-C", tree, "add", "--all"])
    return tree


@pytest.mark.timeout(1200)
def test_a_commit_is_checked(tree: Path) -> None:
    """In the order of the costs: what is right passes, what is wrong is named."""
    done = _hook(tree, "lint")
    assert done.returncode == 0, done.stdout
    assert "Passed" in done.stdout
    module = tree / "pipeline" / "core" / "arch.py"
    inside = "def wrong() -> None:\n    from pipeline.cli import options\n"  # at the top it would be a circle
    module.write_text(f"{module.read_text()}\n\n{inside}")
    for name, wrong in (("lint", "F401"), ("quick", "core/arch.py imports pipeline.cli")):
        done = _hook(tree, name)
        assert done.returncode == 1, done.stdout
        assert wrong in done.stdout
