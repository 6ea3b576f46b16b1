"""`verify --rpms` on RPMs that rpmbuild made, as the command line has it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.abi.files import listings
from pipeline.build import supplied
from pipeline.build.stored import read_manifest
from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.errors import ExitCode
from tests.tiny_kit import Tiny

pytestmark = pytest.mark.integration

FOREIGN = next(a for a in ARCHES.values() if a != host_arch())


@pytest.fixture
def theirs(tiny: Tiny, tmp_path: Path) -> Path:
    """A directory with the RPMs of 1.1, built elsewhere as far as the pipeline knows."""
    entry = tiny.builder().make(tiny.target("1.1"))
    directory = tmp_path / "theirs"
    shutil.copytree(entry.path / "RPMS", directory)
    return directory


def test_rpms_of_elsewhere_are_the_same_release_as_when_they_were_built_here(
    tiny: Tiny, theirs: Path
) -> None:
    ours = tiny.builder().build(tiny.target("1.1"))
    found = supplied.supplied(tiny.profile, "1.1", theirs, host_arch())
    assert found is not None
    assert found.manifest.rpms == ours.manifest.rpms
    assert found.manifest.srpm == ours.manifest.srpm
    assert found.manifest.nvr == ours.manifest.nvr == read_manifest(ours.rpms.parent).nvr
    assert listings(found.root) == listings(ours.root)
    assert supplied.supplied(tiny.profile, "1.1", theirs, FOREIGN) is None


def test_what_is_wrong_with_them_is_said_before_anything_is_judged(
    tiny: Tiny, theirs: Path, tmp_path: Path
) -> None:
    rpm = next(theirs.glob(f"glibc-2.36-*.{host_arch().name}.rpm"))
    (tmp_path / "empty").mkdir()
    unknown = tiny.call("verify", "--rpms", f"7.7={theirs}")
    assert unknown.returncode == ExitCode.WRONG_USE, unknown.stderr
    assert "has no release '7.7'" in unknown.stderr
    empty = tiny.call("verify", "--rpms", f"1.1={tmp_path / 'empty'}")
    assert empty.returncode == ExitCode.MISSING, empty.stderr
    assert "holds no binary RPM" in empty.stderr
    for other in theirs.glob("glibc-common-*"):
        shutil.copy(rpm, other)  # the package glibc a second time, under another's name
    twice = tiny.call("verify", "--rpms", str(theirs), "--release", "1.1")
    assert twice.returncode == ExitCode.MISSING, twice.stderr
    assert "must hold one package glibc" in twice.stderr
    rpm.write_bytes(rpm.read_bytes()[:-7])
    cut = tiny.call("verify", "--rpms", f"1.1={theirs}")
    assert cut.returncode == ExitCode.MISSING, cut.stderr
    assert rpm.name in cut.stderr
    assert "cut off" in cut.stderr
    for done in (unknown, empty, twice, cut):
        assert "build tiny/" not in done.stderr, "nothing is built for what cannot be judged"
        assert "what to do:" in done.stderr
