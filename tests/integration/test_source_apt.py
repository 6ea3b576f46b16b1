"""The pinned source of the embedded profile, from the real archive: it is verified and its series apply."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import profile, source
from pipeline.core import paths
from pipeline.core.arch import ARCHES
from pipeline.debian.apt import PrivateApt
from pipeline.source import series

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True)
def _state(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(state))


def test_the_pinned_source_and_every_series(tmp_path: Path) -> None:
    bookworm = profile.load("bookworm")
    assert source.available(bookworm)[0]
    fetched = source.fetch(bookworm)
    assert fetched.record.pinned
    assert fetched.record.sha256 == bookworm.source.sha256
    assert source.available(bookworm) == (True, f"{bookworm.source.file} is cached")
    listed = {}
    for release in bookworm.releases:
        chosen = series.load("bookworm", release)
        tree = fetched.unpack(tmp_path / release)
        for patch in chosen.patches:
            assert series.apply_patch(patch, tree) == series.Applied()  # not even an offset
        abi = tree / "sysdeps/unix/sysv/linux/x86_64/64/ld.abilist"
        tunables = (tree / "sysdeps/nptl/dl-tunables.list").read_text()
        default = tunables[tunables.index("rseq {") :].split("default: ")[1][0]
        listed[release] = (abi.read_text().count("GLIBC_2.35 __rseq_"), int(default))
    assert listed == {r.name: (3 if r.exports_rseq else 0, r.rseq_default) for r in bookworm.release}


def test_a_flipped_byte_is_found_and_the_source_had_again(capsys: pytest.CaptureFixture[str]) -> None:
    bookworm = profile.load("bookworm")
    source.fetch(bookworm)
    kept = paths.state() / "sources" / bookworm.source.sha256 / bookworm.source.file
    data = bytearray(kept.read_bytes())
    data[1_000_000] ^= 1
    kept.write_bytes(data)
    assert source.fetch(bookworm).record.pinned
    assert "is not the pinned file" in capsys.readouterr().err
    assert len(list((paths.state() / "quarantine").iterdir())) == 1


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_kernels_of_any_suite_and_architecture(suite: str, arch: str) -> None:
    deb = ARCHES[arch].deb
    apt = PrivateApt(suite, deb)
    real = apt.resolve_dependency(f"linux-image-cloud-{deb}", "linux-image-")
    assert real.startswith("linux-image-6.")
    assert real.endswith(f"cloud-{deb}")
    assert apt.candidate(real)
