"""What rpmbuild is given and what is taken from it; the whole run is in integration/test_build_tiny.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.build import rpmbuild
from pipeline.build.rpmbuild import Ingredients
from pipeline.build.workplace import Workplace
from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.errors import CommandFailed, NoSpace
from pipeline.core.records import ImageRecord
from pipeline.core.run import run
from pipeline.host.engine import Engine
from pipeline.host.image import BuildImage
from pipeline.profile import ArchOptions
from pipeline.rpm import SOURCE_DATE_EPOCH
from tests.tiny_kit import Tiny


def test_what_tells_one_release_from_another(tmp_path: Path) -> None:
    profile = Tiny.lay_out(tmp_path).profile
    texts = [
        rpmbuild.release_inc(profile, profile.get(r), archive="a.tar", topdir="t") for r in ("1.0", "1.1")
    ]
    assert "%global glibc_release 1.t1_0\n" in texts[0]
    assert "%global configure_options --prefix=/usr --disable-werror\n" in texts[0]
    assert texts[0].replace("1.t1_0", "2.t1_1") == texts[1]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_spec_takes_the_options_of_the_architecture_it_is_built_for(tmp_path: Path, machine: str) -> None:
    """As rpm itself expands the spec."""
    profile = Tiny.lay_out(tmp_path).profile.model_copy(
        update={
            "arches": ["x86_64", "aarch64"],
            "configure": ["--prefix=/usr"],
            "cflags": ["-O2"],
            "arch_options": {
                "x86_64": ArchOptions(configure=["--with-x"], cflags=["-mx"]),
                "aarch64": ArchOptions(configure=["--with-a"]),
            },
        }
    )
    inc = rpmbuild.release_inc(profile, profile.get("1.0"), archive="a.tar", topdir="t")
    (tmp_path / "release.inc").write_text(inc)
    (tmp_path / "patches.inc").write_text(rpmbuild.patches_inc([]))
    text = run(
        ["rpmspec", "-P", "--target", f"{machine}-linux", "--define", f"_sourcedir {tmp_path}",
         paths.SPECS / "glibc.spec"]
    ).text  # fmt: skip
    given = {"x86_64": ("--prefix=/usr --with-x", "-O2 -mx"), "aarch64": ("--prefix=/usr --with-a", "-O2")}
    configure, cflags = given[machine]
    assert f"    {configure} \\\n" in text
    assert f'CFLAGS="{cflags} $tolerated"' in text


def test_patches_in_order_and_without_fuzz() -> None:
    text = rpmbuild.patches_inc(["b.patch", "a.patch"])
    assert text == "%global _default_patch_fuzz 0\nPatch1: b.patch\nPatch2: a.patch\n"


def test_everything_laid_out_has_one_time_and_mode_and_the_users_file_keeps_its_own(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.tar", "p.patch", "s.spec")]
    for file in files:
        file.write_text(file.name)
        file.chmod(0o640)
        os.utime(file, (5, 5))
    top = tmp_path / "top"
    Ingredients(files[0], [files[1]], "release", "patches", files[2]).lay_out(top)
    laid = {p.name: p for p in (*(top / "SOURCES").iterdir(), *(top / "SPECS").iterdir())}
    assert set(laid) == {"a.tar", "p.patch", "release.inc", "patches.inc", "glibc.spec"}
    for path in laid.values():
        assert path.stat().st_mtime == int(SOURCE_DATE_EPOCH)
        assert path.stat().st_mode & 0o777 == 0o644
    assert laid["glibc.spec"].read_text() == "s.spec"
    assert {(f.stat().st_mtime, f.stat().st_mode & 0o777, f.stat().st_nlink) for f in files} == {
        (5, 0o640, 1)
    }


def test_what_is_shown_of_a_builds_output() -> None:
    shown: list[str] = []
    line = rpmbuild.show(shown.append)
    line("gcc ../elf/rtld.c -c -std=gnu11 -O2 -o /build/BUILD/build/elf/rtld.os -MD -MP")
    line("make[2]: Entering directory '/build'")
    line("Processing files: glibc-2.36")
    assert shown == ["elf/rtld.os", "Processing files: glibc-2.36"]


def test_packages_are_collected_and_none_at_all_is_a_failure(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for name in ("RPMS/x86_64/b.rpm", "RPMS/noarch/a.rpm", "SRPMS/s.src.rpm"):
        (top / name).parent.mkdir(parents=True)
        (top / name).touch()
    rpms, srpm = rpmbuild.collect(top, tmp_path / "out")
    assert [p.name for p in rpms] == ["a.rpm", "b.rpm"]
    assert srpm == tmp_path / "out" / "s.src.rpm"
    with pytest.raises(CommandFailed, match="wrote no RPM"):
        rpmbuild.collect(tmp_path / "empty", tmp_path / "out2")


def test_a_spec_that_asks_for_its_debuginfo_gets_no_second_one() -> None:
    assert rpmbuild._own_debuginfo((paths.SPECS / "glibc.spec").read_text())
    assert rpmbuild._own_debuginfo("%debug_package\n")
    assert not rpmbuild._own_debuginfo("%global debug_package %{nil}\n# %{?debug_package}\n")


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_build_that_ran_out_of_room_names_the_remedy_for_where_its_tree_lay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool, inside: bool
) -> None:
    for name in ("podman", "rpmbuild"):
        (tmp_path / name).write_text(
            "#!/bin/sh\necho \"as: can't write: 'No space left on device'\"; exit 1\n"
        )
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "SPECS").mkdir()
    (tmp_path / "SPECS" / "glibc.spec").touch()
    record = ImageRecord(id="sha256:1", base="b", pinned=True)
    image = BuildImage(Engine("podman"), "name", record) if inside else None
    log = tmp_path / "log"
    with pytest.raises(NoSpace, match=f"full log: {log}") as failed:
        rpmbuild.rpmbuild(
            Workplace(image, "native"), host_arch(), "p", tmp_path, log=log, at=print, in_memory=in_memory
        )
    assert "PIPELINE_STATE" in failed.value.hint
    assert ("PIPELINE_SCRATCH=disk" in failed.value.hint) is (in_memory and inside)
    assert ("in memory" in failed.value.message) is (in_memory and inside)


def test_caches_events_are_counted(tmp_path: Path) -> None:
    log = tmp_path / "stats"
    log.write_text("# a.o\ndirect_cache_hit\n# b.o\ncache_miss\n# c.o\ndirect_cache_hit\ncleanup\n")
    assert rpmbuild._ccache_counts(log) == {"cache_miss": 1, "direct_cache_hit": 2}
    assert rpmbuild._ccache_counts(tmp_path / "none") == {}
