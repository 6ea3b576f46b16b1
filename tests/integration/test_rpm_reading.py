"""What we read of packages is what rpm itself reads of them, on packages that rpmbuild makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import MalformedInput
from pipeline.core.run import run
from pipeline.rpm import package as rpmfile

pytestmark = pytest.mark.integration

SPEC = r"""
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global source_date_epoch_from_changelog 0
Name: probe
Epoch: 3
Version: 1.0
Release: 1.test
Summary: A package with one of each
License: Apache-2.0
Provides: libprobe.so.1(V_1)(64bit) other(x) = 2:4
Requires: something >= 1.2 /bin/sh
Obsoletes: old-probe < 1.0
%description
One of each.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc/probe.d
printf 'echo hello\n%.0s' $(seq 2000) > %{buildroot}/usr/bin/probe
ln %{buildroot}/usr/bin/probe %{buildroot}/usr/bin/probe-hard
ln -s probe %{buildroot}/usr/bin/probe-soft
echo secret > %{buildroot}/etc/probe.d/conf
touch %{buildroot}/etc/probe.d/empty
%files
%dir %attr(0750,root,root) /etc/probe.d
%attr(0755,root,root) /usr/bin/*
%config %attr(0600,root,root) /etc/probe.d/conf
/etc/probe.d/empty
%ghost /var/log/probe
"""


def _rpmbuild(directory: Path, payload: str) -> tuple[Path, Path]:
    spec = directory / "probe.spec"
    spec.write_text(SPEC)
    run([
        "rpmbuild", "-ba", "--define", f"_topdir {directory}/top", "--define", f"_binary_payload {payload}",
        "--target", "x86_64", spec,
    ])  # fmt: skip
    return next(directory.glob("top/RPMS/*/*.rpm")), next(directory.glob("top/SRPMS/*.rpm"))


def _asked(package: Path, *arguments: str) -> list[str]:
    return run(["rpm", "-qp", *arguments, package]).text.splitlines()


@pytest.mark.parametrize(
    ("payload", "compressor"), [("w3.zstdio", "zstd"), ("w6.xzdio", "xz"), ("w9.gzdio", "gzip")]
)
def test_a_package_reads_as_rpm_reads_it(tmp_path: Path, payload: str, compressor: str) -> None:
    package, source = _rpmbuild(tmp_path, payload)
    ours = rpmfile.verify(package)
    assert ours.compressor == compressor
    for found, option in (
        (ours.provides, "--provides"), (ours.requires, "--requires"), (ours.obsoletes, "--obsoletes"),
    ):  # fmt: skip
        assert sorted(str(d) for d in found) == sorted(_asked(package, option))
    form = "%{NAME} %{EPOCH} %{VERSION} %{RELEASE} %{ARCH} %{SOURCERPM} %{SHA256HEADER} %{PAYLOADDIGEST}\n"
    assert " ".join(map(str, (
        ours.name, ours.epoch, ours.version, ours.release, ours.arch, ours.source_rpm, ours.header_sha256,
        ours.payload_digest,
    ))) == _asked(package, "--qf", form)[0]  # fmt: skip
    form = "[%{FILENAMES} %{FILEMODES:octal} %{FILESIZES} %{FILEDIGESTS}.%{FILELINKTOS}.%{FILEFLAGS}\n]"
    assert [f"{f.path} {f.mode:o} {f.size} {f.digest}.{f.link}.{f.flags}" for f in ours.files] == _asked(
        package, "--qf", form
    )
    assert [f.path for f in ours.files if f.ghost] == ["/var/log/probe"]

    read = rpmfile.verify(source)
    assert read.is_source
    assert [f.path for f in read.files] == _asked(source, "-l")


def test_extraction_agrees_with_the_file_list(tmp_path: Path) -> None:
    package, _ = _rpmbuild(tmp_path, "w3.zstdio")
    root = tmp_path / "root"
    root.mkdir()
    rpmfile.extract(package, root)
    for entry in rpmfile.read(package).files:
        path = root / entry.path[1:]
        if entry.ghost:
            assert not path.exists()
        elif entry.link:
            assert str(path.readlink()) == entry.link
        elif entry.is_regular:
            assert path.stat().st_size == entry.size
            assert path.stat().st_mode == entry.mode
            assert run(["sha256sum", path]).text.split()[0] == entry.digest
    assert (root / "usr/bin/probe").samefile(root / "usr/bin/probe-hard")
    listed = {e.path for e in rpmfile.read(package).files if not e.ghost}
    assert {f"/{p.relative_to(root)}" for p in root.rglob("*") if not p.is_dir()} == {
        e for e in listed if not (root / e[1:]).is_dir()
    }


def test_rpm_and_we_agree_on_damage(tmp_path: Path) -> None:
    package, _ = _rpmbuild(tmp_path, "w3.zstdio")
    whole = package.read_bytes()
    assert run(["rpm", "-K", "--nosignature", package], success_codes=None).returncode == 0
    for position in (len(whole) - 1, rpmfile.read(package).payload_offset - 40):
        package.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert run(["rpm", "-K", "--nosignature", package], success_codes=None).returncode != 0
        with pytest.raises(MalformedInput):
            rpmfile.verify(package)
