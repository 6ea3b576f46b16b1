"""The demo's table of what is not asked, and what it expects of the running kernel."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.build import packaged
from pipeline.check import registry
from pipeline.cli import demo
from pipeline.core import paths
from pipeline.core.errors import SourceUnreachable


def test_what_is_not_asked_is_a_check() -> None:
    names = [d.name for d in registry.declarations()]
    for name in {**demo.NOT_ASKED, **demo.SIZED, **demo.ONE_USER}:
        assert any(n.startswith(name) if name.endswith(".") else n == name for n in names), name


@pytest.mark.parametrize("release", sorted(demo.RELEASES.values()))
def test_each_release_has_a_profile_and_baselines(release: str) -> None:
    profile = profiles.load_file(paths.PROFILES / "packaged" / f"debian-{release}.toml")
    assert list(profile.releases) == [release]
    for arch in profile.arches:
        assert (paths.BASELINES / profile.name / release / arch / "elf.hardening").is_file()


def test_the_size_is_the_kernel_s_word_where_glibc_asks_it(tmp_path: Path) -> None:
    auxv = tmp_path / "auxv"
    auxv.write_bytes(struct.pack("@6N", 6, 4096, 27, 28, 0, 0))
    assert packaged.announced_size(auxv) == 28
    auxv.write_bytes(struct.pack("@4N", 6, 4096, 0, 0))
    assert packaged.announced_size(auxv) == 0


def test_expectations_by_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "announced_size", lambda: 40)
    assert (demo._profile("bookworm", "").rseq.size_on, demo._profile("bookworm", "").rseq.area_size) == (
        20,
        32,
    )
    trixie = demo._profile("trixie", "")
    assert (trixie.rseq.size_on, trixie.rseq.area_size) == (40, 40)
    assert "rseq.announced" in trixie.stand_in
    monkeypatch.setattr(packaged, "announced_size", lambda: 0)
    assert demo._profile("trixie", "").rseq.size_on == 20


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ({"ID": "debian", "VERSION_CODENAME": "bookworm"}, ("bookworm", "")),
        ({"ID": "debian", "VERSION_CODENAME": "forky"}, ("trixie", "in place of forky")),
        ({"ID": "debian"}, ("trixie", "in place of this Debian")),
    ],
)
def test_which_packages(
    monkeypatch: pytest.MonkeyPatch, system: dict[str, str], expected: tuple[str, str]
) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: system)
    suite, words = demo._suite()
    assert suite == expected[0]
    assert expected[1] in words


def test_another_distribution_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "fedora"})
    with pytest.raises(SourceUnreachable, match="this is no Debian"):
        demo._suite()


@pytest.mark.parametrize(("capabilities", "may"), [("000001ffffffffff", True), ("00000000a80425fb", False)])
def test_a_container_s_root_may_not_mount(tmp_path: Path, capabilities: str, may: bool) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{capabilities}\n")
    assert demo._may_mount(status) is may
