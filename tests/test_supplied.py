"""RPMs built elsewhere as a release to judge (real ones: integration/test_supplied.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.build import supplied
from pipeline.cli.options import of_release
from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.errors import EvidenceError, MalformedInput, UsageError
from pipeline.core.store import file_sha256
from tests import rpmwriter
from tests.rpmwriter import Item
from tests.tiny_kit import Tiny

MACHINE = host_arch()
FOREIGN = next(a for a in ARCHES.values() if a != MACHINE)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "rpms"
    made.mkdir()
    return made


def write(directory: Path, name: str, release: str = "7", machine: str = MACHINE.name) -> Path:
    """A package; the one called glibc has a loader."""
    loader = b"\x7fELF\x02\x01" + bytes(12) + ARCHES[machine].elf_machine.to_bytes(2, "little") + bytes(64)
    items = [Item(ARCHES[machine].interp, data=loader)] if name == "glibc" else []
    return rpmwriter.write(directory, name, version="2.36", release=release, arch=machine, items=items)


def test_which_release_it_is() -> None:
    assert of_release("--rpms", "9.0=/a/b", ()) == ("9.0", "/a/b")
    assert of_release("--rpms", "/a/b", ("9.1",)) == ("9.1", "/a/b")
    assert of_release("--rpms", "9.0=/a=b", ()) == ("9.0", "/a=b")
    with pytest.raises(UsageError, match="where is it"):
        of_release("--rpms", "9.0=", ())  # not the current directory
    for releases in ((), ("9.0", "9.1")):
        with pytest.raises(UsageError, match="which release is it") as failed:
            of_release("--rpms", "/a/b", releases)
        assert "--rpms RELEASE=" in failed.value.hint


def test_the_packages_of_one_build_become_a_release(tiny: Tiny, directory: Path) -> None:
    own = write(directory, "glibc")
    common = write(directory, "glibc-common")
    write(directory, "glibc", machine=FOREIGN.name)
    write(directory, "bash", release="1")  # another package's version: no part of it
    source = rpmwriter.write(directory, "glibc", version="2.36", release="7", source=True)
    found = supplied.supplied(tiny.profile, "1.0", directory, MACHINE)
    assert found is not None
    manifest = found.manifest
    assert {(r.file, r.sha256) for r in manifest.rpms} == {(p.name, file_sha256(p)) for p in (own, common)}
    assert manifest.srpm is not None
    assert manifest.srpm.file == source.name
    assert (manifest.nvr, manifest.mode, manifest.place) == ("glibc-2.36-7", "supplied", "elsewhere")
    assert (manifest.hermetic, manifest.source, manifest.image, manifest.patches) == (False, None, None, ())
    assert str(manifest.target) == f"tiny/1.0/{MACHINE.name}"
    assert found.rpm("glibc") == own
    assert (found.root / MACHINE.interp.lstrip("/")).is_file()
    key = manifest.key
    common.unlink()
    again = supplied.supplied(tiny.profile, "1.0", directory, MACHINE)
    assert again is not None
    assert again.manifest.key != key


def test_packages_for_another_machine_say_nothing_of_this_one(tiny: Tiny, directory: Path) -> None:
    write(directory, "glibc", machine=FOREIGN.name)
    assert supplied.supplied(tiny.profile, "1.0", directory, MACHINE) is None
    assert supplied.supplied(tiny.profile, "1.0", directory, FOREIGN) is not None


@pytest.mark.parametrize("what", ["nothing", "a source package"])
def test_a_directory_without_binary_packages(tiny: Tiny, directory: Path, what: str) -> None:
    if what == "a source package":
        rpmwriter.write(directory, "glibc", version="2.36", release="7", source=True)
    with pytest.raises(EvidenceError, match="holds no binary RPM"):
        supplied.supplied(tiny.profile, "1.0", directory, MACHINE)


def test_two_builds_in_one_directory(tiny: Tiny, directory: Path) -> None:
    write(directory, "glibc")
    write(directory, "glibc", release="8")
    with pytest.raises(EvidenceError, match="must hold one package glibc") as failed:
        supplied.supplied(tiny.profile, "1.0", directory, MACHINE)
    for release in ("7", "8"):
        assert f"glibc-2.36-{release}.{MACHINE.name}.rpm" in failed.value.message


def test_packages_without_glibc_itself(tiny: Tiny, directory: Path) -> None:
    write(directory, "glibc-common")
    with pytest.raises(EvidenceError, match="it holds: none"):
        supplied.supplied(tiny.profile, "1.0", directory, MACHINE)


@pytest.mark.parametrize("harm", ["truncated", "flipped"])
def test_a_damaged_package_is_named(tiny: Tiny, directory: Path, harm: str) -> None:
    write(directory, "glibc")
    rpm = write(directory, "glibc-common")
    data = bytearray(rpm.read_bytes())
    if harm == "truncated":
        rpm.write_bytes(data[:-1])
    else:
        data[-1] ^= 1
        rpm.write_bytes(data)
    with pytest.raises(MalformedInput, match=rpm.name):
        supplied.supplied(tiny.profile, "1.0", directory, MACHINE)


def test_a_release_or_a_directory_nobody_knows(tiny: Tiny, directory: Path) -> None:
    with pytest.raises(UsageError, match=r"has no release '9\.9'"):
        supplied.supplied(tiny.profile, "9.9", directory, MACHINE)
    with pytest.raises(UsageError, match="there is no such directory"):
        supplied.supplied(tiny.profile, "1.0", directory / "none", MACHINE)


def test_directories_of_several_releases_and_machines(tiny: Tiny, tmp_path: Path) -> None:
    for name in ("old", "new", "foreign"):
        (tmp_path / name).mkdir()
    write(tmp_path / "old", "glibc")
    write(tmp_path / "new", "glibc", release="8")
    write(tmp_path / "foreign", "glibc", release="8", machine=FOREIGN.name)
    theirs = [("1.0", tmp_path / "old"), ("1.1", tmp_path / "new"), ("1.1", tmp_path / "foreign")]
    given = supplied.gather(tiny.profile, theirs, [MACHINE, FOREIGN])
    assert {name: sorted(releases) for name, releases in given.items()} == {
        MACHINE.name: ["1.0", "1.1"],
        FOREIGN.name: ["1.1"],
    }
    assert given[MACHINE.name]["1.0"].manifest.nvr == "glibc-2.36-7"
    with pytest.raises(UsageError, match=f"two directories of --rpms hold 1.1 for {MACHINE.name}"):
        supplied.gather(tiny.profile, [*theirs[:2], ("1.1", tmp_path / "old")], [MACHINE])
    with pytest.raises(EvidenceError, match=f"foreign holds no RPM for {MACHINE.name}"):
        supplied.gather(tiny.profile, theirs, [MACHINE])


def test_an_architecture_without_packages_is_told_or_if_named_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    both = ("x86_64", "aarch64")
    assert supplied.judged({"x86_64": {}, "aarch64": {}}, both, named=True) == both
    assert capfd.readouterr().err == ""
    assert supplied.judged({"x86_64": {}}, both, named=False) == ("x86_64",)
    assert "aarch64 is not judged" in capfd.readouterr().err
    with pytest.raises(EvidenceError, match="--arch aarch64: no directory of --rpms holds packages for it"):
        supplied.judged({"x86_64": {}}, both, named=True)


def test_packages_without_an_architecture_and_of_32_bits(
    tiny: Tiny, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = ARCHES["x86_64"]
    own = write(directory, "glibc", machine=machine.name)
    doc = rpmwriter.write(directory, "glibc-doc", version="2.36", release="7", arch="noarch")
    other = rpmwriter.write(directory, "glibc", version="2.36", release="7", arch="i686")
    rpmwriter.write(directory, "bash", version="5", release="7", arch="i686")  # no part of it
    found = supplied.supplied(tiny.profile, "1.0", directory, machine)
    assert found is not None
    assert {r.file for r in found.manifest.rpms} == {own.name, doc.name}
    assert [(r.file, r.sha256) for r in found.manifest.beside] == [(other.name, file_sha256(other))]
    assert other.name in {r.file for r in found.manifest.files}, "a sign-off names it"
    assert "i686 packages of glibc-2.36-7 are judged as packages" in capsys.readouterr().err
    key = found.manifest.key
    other.unlink()
    again = supplied.supplied(tiny.profile, "1.0", directory, machine)
    assert again is not None
    assert (again.manifest.beside, again.manifest.key == key) == ((), False)
