"""Edited packages are packages: rpm itself accepts them, and what was not edited is what it was."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from pipeline.core.errors import MalformedInput, UsageError
from pipeline.knownbad.edits import RPM_EDITS
from pipeline.knownbad.rpmfile import CAPABILITIES, FLAGS, LANGUAGES, USERS, RpmFile
from pipeline.rpm import package
from pipeline.rpm.coherence import payload_faults

pytestmark = pytest.mark.integration

SPEC = """
%global _binary_payload w3.zstdio
Name: museum
Version: 1
Release: 1
Summary: A package to be edited
License: Apache-2.0
BuildArch: noarch
Provides: thing = 1
Requires: /bin/sh
%description
x
%install
mkdir -p %{buildroot}/etc %{buildroot}/usr/share/museum
echo one > %{buildroot}/etc/one.conf
echo two > %{buildroot}/usr/share/museum/two
ln %{buildroot}/usr/share/museum/two %{buildroot}/usr/share/museum/twin
ln -s two %{buildroot}/usr/share/museum/zz
%post
true
%files
%config(noreplace) /etc/one.conf
/usr/share/museum
"""


def rpm(*arguments: object) -> str:
    done = subprocess.run(
        ["rpm", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("museum")
    (top / "museum.spec").write_text(SPEC)
    subprocess.run(
        ["rpmbuild", "-bb", "--define", f"_topdir {top}", top / "museum.spec"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return next(top.glob("RPMS/noarch/*.rpm"))


def saved(edited: RpmFile, tmp_path: Path) -> Path:
    """The package after its edits; rpm and our own reader find every digest right."""
    path = tmp_path / edited.name
    edited.save(path)
    assert "digests OK" in rpm("-K", "--nosignature", path)
    package.verify(path)
    return path


def test_a_package_that_is_only_rewritten_says_the_same(built: Path, tmp_path: Path) -> None:
    path = saved(RpmFile(built), tmp_path)
    for question in ("-l", "--dump", "--provides", "--requires", "--scripts", "-i"):
        ours, theirs = (rpm("-qp", "--nosignature", question, p) for p in (path, built))
        assert ours == theirs, question
    roots = []
    for number, one in enumerate((path, built)):
        root = tmp_path / str(number)
        root.mkdir()
        package.extract(one, root)
        roots.append({p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()})
    assert roots[0] == roots[1]
    assert roots[0]


def test_other_content_has_its_own_digest(built: Path, tmp_path: Path) -> None:
    edited = RpmFile(built)
    edited.write("/etc/one.conf", b"another and longer\n")
    path = saved(edited, tmp_path)
    root = tmp_path / "root"
    root.mkdir()
    package.extract(path, root)
    assert (root / "etc/one.conf").read_text() == "another and longer\n"
    assert (root / "usr/share/museum/twin").read_text() == "two\n"
    rpm("--root", tmp_path / "installed", "--initdb")
    rpm("--root", tmp_path / "installed", "-i", "--nodeps", "--nosignature", "--noscripts", path)
    assert (tmp_path / "installed/etc/one.conf").read_text() == "another and longer\n"


def test_modes_owners_flags_links_files_and_dependencies(built: Path, tmp_path: Path) -> None:
    edited = RpmFile(built)
    edited.mode("/etc/one.conf", 0o600)
    edited.column(USERS, "/etc/one.conf", "nobody")
    edited.column(FLAGS, "/etc/one.conf", 0)
    edited.link("/usr/share/museum/zz", "/etc/one.conf")
    edited.add("/usr/lib/new", b"new\n", like="/etc/one.conf")
    edited.depend("provides", "extra = 2")
    edited.depend("requires", "nothing-has-this")
    edited.depend("requires", "/bin/sh", remove=True)
    path = saved(edited, tmp_path)
    files = {f.path: f for f in package.read(path).files}
    assert stat.S_IMODE(files["/etc/one.conf"].mode) == 0o600
    assert files["/etc/one.conf"].flags == 0
    assert files["/usr/share/museum/zz"].link == "/etc/one.conf"
    assert "nobody" in rpm("-qp", "--nosignature", "--dump", path)
    assert {"extra = 2", "thing = 1"} <= set(rpm("-qp", "--nosignature", "--provides", path).splitlines())
    needs = rpm("-qp", "--nosignature", "--requires", path)
    assert "nothing-has-this" in needs
    assert "/bin/sh" not in needs.splitlines()
    rpm("--root", tmp_path / "installed", "--initdb")
    rpm("--root", tmp_path / "installed", "-i", "--nodeps", "--nosignature", "--noscripts", path)
    assert (tmp_path / "installed/usr/lib/new").read_text() == "new\n"


def test_capabilities_colors_and_another_release(built: Path, tmp_path: Path) -> None:
    edited = RpmFile(built)
    edited.optional(CAPABILITIES, "/etc/one.conf", "cap_net_raw=ep")
    edited.optional(LANGUAGES, "/usr/share/museum/two", "de")
    edited.release("0.1")
    edited.depend("recommends", "more")
    path = saved(edited, tmp_path)
    read = package.read(path)
    assert {f.path for f in read.files if f.capabilities == "cap_net_raw=ep"} == {"/etc/one.conf"}
    assert {f.path for f in read.files if f.languages == "de"} == {"/usr/share/museum/two"}
    assert read.release == "0.1"
    assert f"{read.name} = {read.version}-0.1" in rpm("-qp", "--nosignature", "--provides", path)
    assert rpm("-qp", "--nosignature", "--recommends", path).split() == ["more"]


def test_a_removed_file_is_gone(built: Path, tmp_path: Path) -> None:
    edited = RpmFile(built)
    edited.remove("/usr/share/museum/zz")
    path = saved(edited, tmp_path)
    assert "/usr/share/museum/zz" not in rpm("-qpl", "--nosignature", path).splitlines()


def test_two_files_have_what_the_other_had(built: Path, tmp_path: Path) -> None:
    edited = RpmFile(built)
    RPM_EDITS["file-exchange"](edited, "/etc/one.conf", other="/usr/share/museum/two")
    with package.payload(saved(edited, tmp_path)) as members:
        found = {m.path: m.read() for m in members}
    assert found["/etc/one.conf"] == b"two\n"
    assert b"one\n" in found.values()


def test_a_source_package_can_be_edited(built: Path, tmp_path: Path) -> None:
    top = built.parents[2]
    subprocess.run(
        ["rpmbuild", "-bs", "--define", f"_topdir {top}", "--define", "_source_payload w3.zstdio",
         top / "museum.spec"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    edited = RpmFile(next(top.glob("SRPMS/*.rpm")))
    RPM_EDITS["text"](edited, "/museum.spec", find="echo one", replace="echo two")
    path = saved(edited, tmp_path)
    assert payload_faults(path) == []
    assert [f.path for f in package.read(path).files] == ["museum.spec"]


def test_late_bytes_are_what_the_list_does_not_say(built: Path, tmp_path: Path) -> None:
    edited = RpmFile(built)
    edited.late["/etc/one.conf"] = b"bad\n"
    path = saved(edited, tmp_path)  # package digests are right, the file's digest in the list is not
    listed = next(f for f in package.read(path).files if f.path == "/etc/one.conf")
    with package.payload(path) as members:
        found = {m.name: m.read() for m in members}
    assert b"bad\n" in found.values()
    assert listed.digest == next(f for f in package.read(built).files if f.path == "/etc/one.conf").digest


def test_what_is_not_there_is_wrong_use(built: Path, tmp_path: Path) -> None:
    edited = RpmFile(built)
    with pytest.raises(UsageError, match="has no file /nowhere"):
        edited.write("/nowhere", b"")
    with pytest.raises(UsageError, match="provides no other"):
        edited.depend("provides", "other", remove=True)
    (tmp_path / "no.rpm").write_bytes(b"x" * 200)
    with pytest.raises(MalformedInput):
        RpmFile(tmp_path / "no.rpm")
