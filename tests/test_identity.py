"""Who judged: the commit, and what was changed since."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.core import identity as identities
from pipeline.core import paths
from pipeline.core.identity import Identity, identity, identity_to_the_end


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small checkout in the place of this one."""
    for name in ("pipeline/profiles/el9.toml", "patches/el9/9.0.series", "docs/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as committed\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for args in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *args], check=True)
    monkeypatch.setattr(paths, "REPO", tmp_path)
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "pipeline")
    monkeypatch.setattr(identities, "STAMP", tmp_path / "pipeline" / "stamp.json")
    identity.cache_clear()
    yield tmp_path
    identity.cache_clear()


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    head = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    )
    found = identity()
    assert (found.commit, found.changed, found.doubt) == (head.stdout.strip(), (), "")
    assert found.text == f"{found.version}+g{found.commit[:12]}"


@pytest.mark.parametrize("name", ["pipeline/profiles/el9.toml", "patches/el9/9.0.series", "pipeline/new.py"])
def test_what_judges_and_was_changed_is_named(checkout: Path, name: str) -> None:
    (checkout / name).write_text("edited in place\n")
    found = identity()
    assert found.changed == (name,)
    assert name in found.doubt
    assert found.text.endswith(".changed")


def _git(checkout: Path, *args: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(checkout), *who, *args], check=True)


def test_what_git_is_told_to_ignore_judges_all_the_same(checkout: Path) -> None:
    """A profile of one's own that an exclude file hides would be one that comes with the pipeline."""
    (checkout / ".git/info/exclude").write_text("mine.toml\n__pycache__/\n")
    (checkout / "pipeline/profiles/mine.toml").write_text("whatever I like\n")
    (checkout / "pipeline/__pycache__").mkdir()
    (checkout / "pipeline/__pycache__/x.pyc").touch()
    assert identity().changed == ("pipeline/profiles/mine.toml",)


@pytest.mark.parametrize("how", ["--assume-unchanged", "--skip-worktree"])
def test_what_git_is_told_not_to_look_at_is_not_taken_for_unchanged(checkout: Path, how: str) -> None:
    name = "pipeline/profiles/el9.toml"
    _git(checkout, "update-index", how, name)
    (checkout / name).write_text("edited in place\n")
    assert identity().changed == (name,)


def test_what_changes_during_a_run_is_a_change(checkout: Path) -> None:
    """What ran was read in between: it is neither the commit at the start nor the one at the end."""
    name = "pipeline/profiles/el9.toml"
    before = identity()
    assert identity_to_the_end() == before
    (checkout / name).write_text("edited in place\n")
    assert identity_to_the_end().changed == (name,)
    _git(checkout, "commit", "-q", "-a", "-m", "two")
    ended = identity_to_the_end()
    assert ended.commit == before.commit
    assert "the checkout, which is now" in ended.doubt
    identity.cache_clear()
    (checkout / name).write_text("edited before the run, and taken back in it\n")
    assert identity().changed == (name,)
    _git(checkout, "checkout", "-q", name)
    assert identity_to_the_end().changed == (name,)


def test_a_removed_file_is_a_change(checkout: Path) -> None:
    (checkout / "pipeline/profiles/el9.toml").unlink()
    assert identity().changed == ("pipeline/profiles/el9.toml",)


def test_what_does_not_judge_may_change(checkout: Path) -> None:
    (checkout / "docs/notes.md").write_text("more\n")
    assert identity().changed == ()


def test_without_git_nothing_is_known(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    found = identity()
    assert (found.commit, found.changed) == ("", ())
    assert "is unknown" in found.doubt


def test_many_changes_are_counted() -> None:
    found = Identity(version="1", commit="a" * 40, changed=tuple("abcdef"))
    assert found.doubt.endswith(": a, b, c, d and 2 more")


def test_there_is_one_version() -> None:
    """The package's, the project file's and the newest of the change log's are the same."""
    project = tomllib.loads((paths.REPO / "pyproject.toml").read_text())["project"]
    newest = re.search(
        r"^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$", (paths.REPO / "CHANGELOG.md").read_text(), re.M
    )
    assert newest is not None
    assert project["version"] == __version__ == newest[1]
