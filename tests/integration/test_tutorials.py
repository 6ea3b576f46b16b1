"""The tutorials, typed from the page: each command works, and what a page shows is what comes.

The scan is the real one, on the committed baselines. For the release engineer's a build of glibc would take
too long: in its place stands tests/small_world.py, whose packages hold the host's own C library, and a
dist-git of a small tree.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.host.image import BuildImage
from tests import small_world, tutorial_kit
from tests.distgit_kit import DistGitKit, patch_text
from tests.scene_kit import rpms_of
from tests.small_world import Said
from tests.tutorial_kit import Typed

pytestmark = pytest.mark.integration

MACHINE = host_arch()


@pytest.mark.skipif(MACHINE.name != "x86_64", reason="the page shows x86_64")
def test_from_a_red_scan_to_a_wheel_that_starts(tmp_path: Path) -> None:
    page = (paths.REPO / "docs" / "tutorial-scan.md").read_text()
    where = tutorial_kit.checkout(tmp_path / "checkout")
    for name, text in tutorial_kit.files(page):
        (where / name).write_text(text)
    todo = tutorial_kit.steps(page)
    tutorial_kit.walk(todo, where, {})
    assert not (wrong := tutorial_kit.problems(todo)), "\n\n".join(wrong)


#: what the last commit of the dist-git brings: a library that no baseline has
EXTRA = "glibc-rhel-extra.patch"


def a_dist_git(world: small_world.World, home: Path) -> Path:
    """A clone with one commit more: a patch that installs a library of its own."""
    kit = DistGitKit(home / "src" / "glibc")
    shutil.copytree(world.distgit.directory, kit.directory, symlinks=True)
    spec = (kit.directory / "glibc.spec").read_text()
    last, line = "%patch9 -p1" if "%patch9 -p1" in spec else "%patch -P 9 -p1", "Patch5: "
    spec = spec.replace(last, f"{last}\n{last.replace('9', '11')}")
    kit.write("glibc.spec", spec.replace(line, f"Patch11: {EXTRA}\n{line}"))
    before = "\tcp ldconfig $(root)/sbin/\n"
    kit.write(EXTRA, patch_text("Makerules", before, f"{before}\tcp libc.so.6 $(root)/lib64/libextra.so.1\n"))
    kit.commit()
    return kit.directory


def test_from_a_dist_git_to_a_signed_report(
    tmp_path: Path, host_in_a_container: BuildImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (paths.REPO / "docs" / "tutorial-release.md").read_text().replace("x86_64", MACHINE.name)
    (tmp_path / "world").mkdir()
    with small_world.lay_out(tmp_path / "world", host_in_a_container) as world:
        world.enter(monkeypatch)
        a_dist_git(world, world.home)
        where = tutorial_kit.checkout(
            tmp_path / "checkout", world=world.directory, image=tutorial_kit.expression(host_in_a_container)
        )
        env = {
            "HOME": str(world.home),
            "PIPELINE_STATE": str(world.directory / "state"),
            "EMAIL": "name@example.org",  # git wants to know who reverts
        }
        before = Typed("nox -s baseline -- --profile el9"), Typed("nox -s build -- --profile el9")
        tutorial_kit.walk(before, where, env)
        built = rpms_of(Said(before[1].code, "\n".join(before[1].came)))
        for release, name in (("9.0", "glibc-2.34-28.el9_0"), ("9.1", "glibc-2.34-40.el9")):
            shutil.copytree(built[f"el9/{release}/{MACHINE.name}"], world.home / "koji" / name)
        todo = tutorial_kit.steps(page)
        tutorial_kit.walk(todo, where, env)
    assert not (wrong := tutorial_kit.problems(todo)), "\n\n".join(wrong)
