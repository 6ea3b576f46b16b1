"""Kept objects are used only where they are what the compiler would make now."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.build import builder as builders
from pipeline.build import rpmbuild, tarball, trees, variants
from pipeline.build.options import Options
from pipeline.build.variants import Variant
from pipeline.cli.build import proved
from pipeline.core import paths
from pipeline.core.errors import ExitCode
from pipeline.core.records import BuildManifest
from pipeline.host.image import BuildImage
from tests.integration.test_variants import _spoil
from tests.tiny_kit import TREE, Tiny

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("state")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source, to be changed."""
    return shutil.copytree(TREE, tmp_path / "tree")


def made(tiny: Tiny, image: BuildImage, tree: Path, release: str = "1.1") -> BuildManifest:
    return tiny.builder(tree=tree, image=image).build(tiny.target(release)).manifest


def edit(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text()))


def test_packages_do_not_tell_what_the_sources_directory_was_called(
    tiny: Tiny, host_in_a_container: BuildImage, tmp_path: Path
) -> None:
    """Nor do its objects, which the next commit's build may begin with."""
    packages = []
    for name in ("glibc-1", "glibc-2"):
        shutil.copytree(TREE, tmp_path / name)
        builder = tiny.builder(tree=tmp_path / name, image=host_in_a_container)
        (into := tmp_path / f"{name}.made").mkdir()
        builder.again(tiny.target("1.1"), into)
        packages.append(into / "RPMS")
    assert variants.differences(*packages) == []
    edit(tmp_path / "glibc-2" / "iconvdata" / "x.c", lambda text: text.replace("return 0", "return 7"))
    made(tiny, host_in_a_container, tmp_path / "glibc-1")
    builder = tiny.builder(tree=tmp_path / "glibc-2", image=host_in_a_container)
    assert builder.build(tiny.target("1.1")).manifest.tree != ""
    assert variants.prove(builder, Variant(tiny.target("1.1")), tiny.target("1.1")).wrong == []


def test_objects_of_another_directory_are_not_taken(
    tiny: Tiny, host_in_a_container: BuildImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debug information has its name."""
    assert made(tiny, host_in_a_container, TREE).tree == ""
    monkeypatch.setattr(tarball, "TOP", "another")
    assert made(tiny, host_in_a_container, TREE, "1.0").tree == ""


def test_another_time_for_all_times_is_another_build(
    tiny: Tiny, host_in_a_container: BuildImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made(tiny, host_in_a_container, TREE).tree == ""
    for module in (builders, rpmbuild):
        monkeypatch.setattr(module, "SOURCE_DATE_EPOCH", "1695478400")
    assert made(tiny, host_in_a_container, TREE, "1.0").tree == ""


def test_a_link_to_another_directory_is_a_change(
    tiny: Tiny, host_in_a_container: BuildImage, tree: Path
) -> None:
    for name in "ab":
        (tree / "v" / name).mkdir(parents=True)
        (tree / "v" / name / "value.h").write_text(f"#define VALUE {ord(name)}\n")
    (tree / "now").symlink_to("v/a")
    edit(tree / "iconvdata" / "x.c", lambda text: '#include "../now/value.h"\n' + text)
    assert made(tiny, host_in_a_container, tree).tree == ""
    (tree / "now").unlink()
    (tree / "now").symlink_to("v/b")
    assert made(tiny, host_in_a_container, tree).tree == ""


def test_a_clock_that_was_set_back_makes_all_times_worthless(
    tiny: Tiny, host_in_a_container: BuildImage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The tree is kept by a hook that takes it to be tomorrow."""
    honest = trees.HOOK.read_text()
    assert '"at": time.time_ns()' in honest
    later = tmp_path / "hook.py"
    later.write_text(honest.replace('"at": time.time_ns()', f'"at": {time.time_ns() + 86400 * 10**9}'))
    monkeypatch.setattr(trees, "HOOK", later)
    assert made(tiny, host_in_a_container, TREE).tree == ""
    assert len(list((paths.state() / "trees").glob("[0-9a-f]*"))) == 1
    assert made(tiny, host_in_a_container, TREE, "1.0").tree == ""


def test_objects_that_take_in_whole_files_are_not_kept(
    tiny: Tiny, host_in_a_container: BuildImage, tree: Path
) -> None:
    (tree / "elf" / "blob.conf").write_text("A\n")
    taking = '__asm__(".section .rodata\\n.incbin \\"../elf/blob.conf\\"\\n.previous");\n'
    edit(tree / "elf" / "rtld.c", lambda text: taking + text)
    made(tiny, host_in_a_container, tree)
    (tree / "elf" / "blob.conf").write_text("B\n")
    assert made(tiny, host_in_a_container, tree).tree == ""


def test_a_make_that_configure_asks_for_its_version_is_not_the_build(
    tiny: Tiny, host_in_a_container: BuildImage, tree: Path
) -> None:
    """It would have the tree taken before it is configured."""
    edit(tree / "configure", lambda text: text.replace("#!/bin/sh\n", "#!/bin/sh\nmake --version\n", 1))
    assert os.access(tree / "configure", os.X_OK)
    assert made(tiny, host_in_a_container, tree).tree == ""
    assert made(tiny, host_in_a_container, tree, "1.0").tree != ""


def test_a_proof_in_which_no_kept_tree_had_a_part_proves_nothing(
    tiny: Tiny, host_in_a_container: BuildImage, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.add("1.0", "0009-rules.patch", "Makerules", "-ffreestanding", "-ffreestanding -O1")
    builder = tiny.builder(image=host_in_a_container)
    proof = variants.prove(builder, Variant(tiny.target("1.0")), tiny.target("1.1"))
    assert (proof.wrong, proof.tree) == ([], "")
    assert "rules changed: Makerules" in proof.why
    assert "nothing is proved of kept trees" in capsys.readouterr().err
    builder.options = Options(place="container")
    assert proved(builder, [tiny.target("1.0")]) is ExitCode.MISSING


def test_a_proof_tries_the_tree_that_is_there_now(
    tiny: Tiny, host_in_a_container: BuildImage, tmp_path: Path
) -> None:
    builder = tiny.builder(image=host_in_a_container)
    first, other = tiny.target("1.1"), tiny.target("1.0")
    assert variants.prove(builder, Variant(other), first).wrong == []
    for tree in trees.kept(first, builder.inputs(first)):
        _spoil(tree / "objects.tar", tmp_path / "spoiled.tar")
    assert variants.prove(builder, Variant(other), first).wrong != []


def test_all_that_was_built_from_a_bad_tree_is_dropped(
    tiny: Tiny, host_in_a_container: BuildImage, tmp_path: Path
) -> None:
    more = '[[release]]\nname = "1.2"\nrpm_release = "3.t1_2"\nexports_rseq = true\nrseq_default = 1\n'
    edit(tiny.file, lambda text: text + more)
    (tiny.patches / "tiny" / "1.2.series").write_text("# as it is\n")
    tiny.add("1.2", "0012-x.patch", "nss/nsswitch.conf", "files", "files dns")
    builder = tiny.builder(image=host_in_a_container)
    first, *others = (tiny.target(release) for release in ("1.1", "1.0", "1.2"))
    builder.build(first)
    (tree,) = trees.kept(first, builder.inputs(first))
    _spoil(tree / "objects.tar", tmp_path / "spoiled.tar")
    assert [builder.build(other).manifest.tree for other in others] == [tree.name] * 2
    assert variants.prove(builder, Variant(others[0]), first).wrong != []
    assert [builder.find(other) for other in others] == [None, None]
    assert builder.find(first) is not None  # made from nothing
