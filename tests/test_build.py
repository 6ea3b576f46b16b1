"""What decides a build's key, and how a target is built (really built: integration/test_build_tiny.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.build.builder import Builder
from pipeline.build.every import build_all
from pipeline.build.options import ForeignBuild, Options
from pipeline.build.tarball import source_archive
from pipeline.build.workplace import Workplace
from pipeline.core import paths
from pipeline.core.arch import ARCHES, Arch, host_arch
from pipeline.core.errors import UsageError
from pipeline.core.records import ImageRecord
from pipeline.core.run import run
from pipeline.core.store import key_of
from pipeline.host import image as images
from pipeline.host.engine import Engine
from pipeline.host.image import BuildImage
from pipeline.source import FetchedSource
from tests.tiny_kit import RSEQ_NODE, Tiny

FOREIGN = next(a for a in ARCHES.values() if a != host_arch())


@pytest.fixture(autouse=True)
def same_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workplace, "identity", lambda *_: {"host": "tools"})


def key(builder: Builder, tiny: Tiny, release: str = "1.0") -> str:
    return key_of("build", builder.inputs(tiny.target(release)))


def test_the_same_inputs_have_the_same_key(tiny: Tiny) -> None:
    assert key(tiny.builder(), tiny) == key(tiny.builder(), tiny)
    assert key(tiny.builder(), tiny, "1.1") != key(tiny.builder(), tiny)


def test_what_a_key_is_made_of_without_a_dist_git(tiny: Tiny) -> None:
    """Another word in it would make every stored build, an hour of work, be built again."""
    builder = tiny.builder()
    names = ("source", "patches", "release", "spec", "workplace", "arch", "check", "epoch")
    inputs = builder.inputs(tiny.target("1.0"))
    assert set(inputs) == {*names, "top"}  # which a source has that is packed here
    assert inputs["source"] == tiny.builder().source.identity
    builder.source = replace(builder.source, topdir="glibc-2.36")
    assert tuple(builder.inputs(tiny.target("1.0"))) == names


def test_everything_that_decides_the_result_is_in_the_key(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [key(tiny.builder(), tiny)]
    builder = tiny.builder()
    builder.source = replace(builder.source, identity={"kind": "tree", "sha256": "1" * 64})
    keys.append(key(builder, tiny))
    keys.append(key(tiny.builder(Options(place="host", check=True)), tiny))
    text = tiny.file.read_text()
    for old, new in (("1.t1_0", "1.t1_1"), ("--disable-werror", "--enable-werror")):
        tiny.file.write_text(text.replace(old, new))
        keys.append(key(tiny.builder(), tiny))
    tiny.file.write_text(text)
    tiny.add("1.0", "0002-more.patch", "csu/libc.c", "return s[0]", "return s[1]")
    keys.append(key(tiny.builder(), tiny))
    with monkeypatch.context() as patched:
        patched.setattr(Workplace, "identity", lambda *_: {"host": "other tools"})
        keys.append(key(tiny.builder(), tiny))
    with monkeypatch.context() as patched:
        specs = tmp_path / "specs"
        specs.mkdir()
        (specs / "glibc.spec").write_text((paths.SPECS / "glibc.spec").read_text() + "# more\n")
        patched.setattr(paths, "SPECS", specs)
        keys.append(key(tiny.builder(), tiny))
    assert len(set(keys)) == len(keys)
    short = tiny.builder(Options(place="host", up_to="0001-withdraw.patch"))
    assert key(short, tiny) == keys[0]


def test_a_patch_of_another_release_does_not_change_the_key(tiny: Tiny) -> None:
    before = key(tiny.builder(), tiny, "1.1")
    tiny.add("1.0", "0002-more.patch", "elf/ld.map", RSEQ_NODE, "")
    assert key(tiny.builder(), tiny, "1.1") == before


def test_up_to_a_patch_nobody_knows(tiny: Tiny) -> None:
    with pytest.raises(UsageError, match="has no patch '0009'") as failed:
        tiny.builder(Options(place="host", up_to="0009")).inputs(tiny.target("1.0"))
    assert "0001-withdraw.patch" in failed.value.hint


class TestHowATargetIsBuilt:
    """The workplace says whether it has a cross compiler; the user may name the way."""

    @staticmethod
    def builder(
        tiny: Tiny, monkeypatch: pytest.MonkeyPatch, options: Options, compiler: str | None
    ) -> tuple[Builder, list[Arch]]:
        made: list[Arch] = []

        def ensure(*_: Any, machine: Arch, **__: Any) -> BuildImage:
            made.append(machine)
            tools = {} if compiler is None else {f"{FOREIGN.triplet}-gcc": compiler}
            record = ImageRecord(id="sha256:1", base="ubi", pinned=True, tools=tools)
            return BuildImage(Engine("podman"), "image", record)

        monkeypatch.setattr(images, "ensure", ensure)
        return tiny.builder(options), made

    def test_the_host_s_own_architecture_and_what_is_named(
        self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ours, made = self.builder(tiny, monkeypatch, Options(foreign="emulated"), "gcc 12")
        assert (ours.mode(host_arch()), ours.mode(FOREIGN), made) == ("native", "emulated", [])

    @pytest.mark.parametrize("foreign", ["auto", "cross"])
    def test_with_a_cross_compiler(
        self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, foreign: ForeignBuild
    ) -> None:
        ours, made = self.builder(tiny, monkeypatch, Options(foreign=foreign), "gcc 12")
        assert ours.workplace(FOREIGN).mode == "cross"
        assert set(made) == {host_arch()}

    def test_without_one_it_is_emulated_and_said_once(
        self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        ours, made = self.builder(tiny, monkeypatch, Options(), "")
        assert ours.workplace(FOREIGN).mode == "emulated"
        assert ours.stopping_at("x").mode(FOREIGN) == "emulated"
        assert made == [host_arch(), FOREIGN]
        said = " ".join(capfd.readouterr().err.split())
        assert said.count(f"the build image (ubi) has no compiler for {FOREIGN.name}") == 1
        assert "hours" in said
        assert "--image bookworm" in said

    def test_asked_for_by_name_without_one_nothing_is_built(
        self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ours, _ = self.builder(tiny, monkeypatch, Options(foreign="cross"), "")
        monkeypatch.setattr(Builder, "make", lambda *_: pytest.fail("something was built"))
        file = tiny.target("1.0").model_copy(update={"arch": FOREIGN.name})
        with pytest.raises(UsageError, match="nothing can be cross-built") as failed:
            build_all(ours, [tiny.target("1.0"), file])
        assert "--aarch64-build emulated" in failed.value.hint

    def test_on_a_host_without_one(self, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "sh").symlink_to("/bin/sh")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(UsageError, match="the host has no compiler for"):
            tiny.builder(Options(place="host")).mode(FOREIGN)


def test_an_emulated_build_needs_a_container(tiny: Tiny) -> None:
    with pytest.raises(UsageError, match="needs a container") as failed:
        tiny.builder(Options(place="host", foreign="emulated")).workplace(FOREIGN)
    assert "cross" in failed.value.hint


def test_an_image_is_made_once_for_the_machine_that_runs_it(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def ensure(*_: Any, **named: Any) -> BuildImage:
        asked.append(named)
        tools = {f"{FOREIGN.triplet}-gcc": "gcc 12"}
        record = ImageRecord(id="sha256:1", base="x", pinned=True, tools=tools)
        return BuildImage(Engine("podman"), "image", record)

    monkeypatch.setattr(images, "ensure", ensure)
    cross = tiny.builder(Options(image="other"))
    assert cross.workplace(FOREIGN) is cross.workplace(FOREIGN)
    assert cross.workplace(host_arch()).mode == "native"
    tiny.builder(Options(foreign="emulated")).workplace(FOREIGN)
    assert asked == [
        {"reference": "other", "machine": host_arch()}, {"reference": "other", "machine": host_arch()},
        {"reference": "", "machine": FOREIGN},
    ]  # fmt: skip


def test_a_tarball_is_taken_as_it_is_and_a_tree_is_packed(tiny: Tiny, tmp_path: Path) -> None:
    tree = tiny.builder().source
    archive, topdir = source_archive(tree, tmp_path)
    assert (archive.name, topdir) == ("glibc.tar", "glibc")
    names = run(["tar", "-tf", archive]).text.splitlines()
    assert "glibc/configure" in names
    assert names == sorted(names)
    given = FetchedSource(tree.record, tree.identity, tree.unpacker, Path("/x/glibc.tar.xz"), "glibc-2.36")
    assert source_archive(given, tmp_path) == (Path("/x/glibc.tar.xz"), "glibc-2.36")
