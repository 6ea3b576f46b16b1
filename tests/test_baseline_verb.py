"""The verb ``baseline``: what it lists, what it refuses, and what it says of a difference."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.abi import baseline
from pipeline.cli.baseline import command, origin_of
from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.errors import MalformedInput, PipelineError, SourceUnreachable, UsageError
from pipeline.core.outcome import Target
from pipeline.core.records import (
    BuildManifest,
    Built,
    FileRecord,
    ImageRecord,
    PatchRecord,
    SourceRecord,
)
from pipeline.core.run import run
from tests import elf_edit as edits
from tests import rpmwriter, webserver
from tests.elf_fixtures import LD, LIBC, LOADER, LOADER_RSEQ, MODULE, release_root

ARCH = host_arch().name
TARGET = Target(profile="bookworm", release="12.1", arch=ARCH)
CHOSEN = ("--profile", "bookworm", "--release", "12.1", "--arch", ARCH)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BASELINES", tmp_path / "abi-baselines")
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(command, [str(a) for a in args], standalone_mode=False)


def refused(result: Result, kind: type[Exception], says: str) -> None:
    assert isinstance(result.exception, kind), result.exception or result.output
    words = result.exception.message if isinstance(result.exception, PipelineError) else result.output
    assert says in words


def provenance() -> dict[str, object]:
    return tomllib.loads((baseline.directory_of(TARGET) / "provenance.toml").read_text())


def test_from_a_root_then_a_difference_is_shown_and_kept(tmp_path: Path) -> None:
    root = release_root(tmp_path / "root", LOADER_RSEQ)
    args = (*CHOSEN, "--from-root", root, "--origin", "glibc-2.36-x", "--note", "by hand")
    assert call(*args).exception is None
    found = baseline.load_target(TARGET)
    assert found is not None
    assert set(found.listings) == {LD, "libc.so.6", "gconv/UTF-16.so"}
    assert (provenance()["origin"], provenance()["note"]) == ("glibc-2.36-x", "by hand")

    LOADER.build(root / "lib64" / LD)
    result = call(*args)
    refused(result, UsageError, "1 of 1 baselines differ and were kept")
    assert f"- {LD}: GLIBC_2.35 __rseq_size D 0x4" in result.stdout
    assert baseline.load_target(TARGET) == found

    assert call(*args, "--force").exception is None
    replaced = baseline.load_target(TARGET)
    assert replaced is not None
    assert "GLIBC_2.35" not in replaced.listings[LD].nodes


def test_without_a_difference_the_provenance_is_kept(tmp_path: Path) -> None:
    root = release_root(tmp_path / "root")
    assert call(*CHOSEN, "--from-root", root, "--origin", "first").exception is None
    assert call(*CHOSEN, "--from-root", root, "--origin", "second").exception is None
    assert provenance()["origin"] == "first"
    assert call(*CHOSEN, "--from-root", root, "--origin", "second", "--force").exception is None
    assert provenance()["origin"] == "second"


def make_rpm(directory: Path) -> Path:
    libraries = {f"/lib64/{LD}": LOADER_RSEQ, "/lib64/libc.so.6": LIBC, "/lib64/gconv/UTF-16.so": MODULE}
    items = [
        rpmwriter.Item(path, rpmwriter.REG | 0o755, dso.build(directory / "x.so").read_bytes())
        for path, dso in libraries.items()
    ]
    if ARCH != "x86_64":  # its loader is in /lib
        items.append(rpmwriter.Item("/lib", rpmwriter.LNK | 0o777, b"lib64"))
    return rpmwriter.write(directory, "glibc", version="2.36", release="9.el9", arch=ARCH, items=items)


def test_traits_are_added_to_an_old_baseline_and_a_difference_is_kept(tmp_path: Path) -> None:
    root = release_root(tmp_path / "root", LOADER_RSEQ)
    args = (*CHOSEN, "--from-root", root, "--origin", "glibc-2.36-x")
    assert call(*args).exception is None
    found = baseline.load_target(TARGET)
    assert found is not None
    bare = found.provenance.model_copy(update={"traits": {}})
    baseline.write(baseline.Baseline(found.listings, bare), baseline.directory_of(TARGET))
    assert call(*args).exception is None  # the listings do not differ: no --force is needed
    assert baseline.load_target(TARGET) == found

    edits.edit(root / "lib64" / LD, edits.verdef_flags("GLIBC_2.35", 2))
    result = call(*args)
    refused(result, UsageError, "1 of 1 baselines differ and were kept")
    assert f"+ {LD}: node GLIBC_2.35 weak < GLIBC_2.2.5" in result.stdout
    assert baseline.load_target(TARGET) == found


def test_from_an_rpm(tmp_path: Path) -> None:
    rpm = make_rpm(tmp_path)
    assert call(*CHOSEN, "--from-rpm", rpm).exception is None
    found = baseline.load_target(TARGET)
    assert found is not None
    assert found.provenance.origin == "glibc-2.36-9.el9"
    assert [(r.file, r.size) for r in found.provenance.inputs] == [(rpm.name, rpm.stat().st_size)]
    assert "GLIBC_2.35 __rseq_size D 0x4\n" in found.listings[LD].text


def test_an_altered_rpm_is_refused_before_it_is_listed(tmp_path: Path) -> None:
    rpm = make_rpm(tmp_path)
    data = bytearray(rpm.read_bytes())
    data[-20] ^= 1
    rpm.write_bytes(data)
    refused(call(*CHOSEN, "--from-rpm", rpm), MalformedInput, rpm.name)
    rpm.write_bytes(data[: len(data) // 2])
    refused(call(*CHOSEN, "--from-rpm", rpm), MalformedInput, rpm.name)
    assert baseline.load_target(TARGET) is None


def test_from_an_address(tmp_path: Path) -> None:
    rpm = make_rpm(tmp_path)
    with webserver.serve() as web:
        web.pages["/el9/glibc.rpm"] = webserver.Page(rpm.read_bytes())
        assert call(*CHOSEN, "--from-rpm", f"{web.url}/el9/glibc.rpm").exception is None
        assert provenance()["source"] == f"{web.url}/el9/glibc.rpm"
        refused(call(*CHOSEN, "--from-rpm", f"{web.url}/none.rpm"), SourceUnreachable, "/none.rpm")
        refused(call(*CHOSEN, "--from-rpm", f"{web.url}/index.html"), UsageError, "does not name an RPM")


def make_deb(directory: Path) -> Path:
    tree = release_root(directory / "tree", LOADER_RSEQ)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: libc6\nVersion: 2.36-9\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
        "Description: a test\n"
    )
    run(["dpkg-deb", "--root-owner-group", "-b", tree, directory / "libc6.deb"])
    return directory / "libc6.deb"


def test_upstream_nodes_from_a_deb(tmp_path: Path) -> None:
    deb = make_deb(tmp_path)
    assert call("--upstream", "2.35", "--arch", ARCH, "--from-deb", deb).exception is None
    found = baseline.load(baseline.upstream_directory("2.35", ARCH))
    assert found is not None
    assert set(found.listings) == {LD}
    assert found.listings[LD].nodes == {"GLIBC_2.35"}
    assert found.provenance.origin == "libc6 2.36-9"
    refused(
        call("--upstream", "2.35", "--node", "GLIBC_9.9", "--arch", ARCH, "--from-deb", deb),
        MalformedInput,
        "has no DSO",
    )


def test_a_truncated_deb_is_refused(tmp_path: Path) -> None:
    deb = make_deb(tmp_path)
    deb.write_bytes(deb.read_bytes()[:-3000])
    refused(call(*CHOSEN, "--from-deb", deb), MalformedInput, "libc6.deb")
    assert baseline.load_target(TARGET) is None


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((*CHOSEN, "--from-root", "/nonexistent", "--origin", "x"), "is not a directory"),
        ((*CHOSEN, "--from-root", "/"), "needs --origin"),
        ((*CHOSEN, "--from-deb", "/nonexistent.deb"), "is not a file"),
        ((*CHOSEN, "--from-deb", "x", "--from-rpm", "y"), "only one of"),
        (("--profile", "bookworm", "--arch", ARCH, "--from-rpm", "y"), "exactly one --release"),
        (("--profile", "bookworm", "--release", "12.1", "--from-rpm", "y"), "exactly one --arch"),
        ((*CHOSEN, "--node", "X", "--from-rpm", "y"), "--node is for --upstream"),
        (("--upstream", "2.35", "--arch", ARCH), "needs --from-rpm, --from-deb or --from-root"),
        (("--upstream", "2.35", "--arch", "vax", "--from-rpm", "y"), "unknown architecture 'vax'"),
        (("--profile", "bookworm", "--release", "7", "--arch", ARCH, "--from-rpm", "y"), "no release '7'"),
    ],
)
def test_wrong_use(args: tuple[str, ...], says: str) -> None:
    refused(call(*args), UsageError, says)


def test_the_provenance_of_a_build_names_everything(tmp_path: Path) -> None:
    manifest = BuildManifest(
        target=TARGET,
        key="k",
        nvr="glibc-2.36-40",
        rpms=(FileRecord(file="glibc.rpm", sha256="a" * 64, size=1),),
        srpm=None,
        mode="cross",
        place="container",
        hermetic=True,
        source=SourceRecord(kind="apt", origin="glibc_2.36.orig.tar.xz", sha256="b" * 64, pinned=True),
        patches=(PatchRecord(file="0001-x.patch", sha256="c" * 64, subject="x"),),
        image=ImageRecord(id="sha256:0123", base="mmdebstrap bookworm", pinned=True),
        seconds=1.0,
    )
    origin = origin_of(Built(manifest=manifest, rpms=tmp_path, root=tmp_path), "n")
    assert (origin.kind, origin.name, origin.inputs, origin.note) == (
        "build",
        "glibc-2.36-40",
        manifest.rpms,
        "n",
    )
    assert "b" * 64 in origin.source
    assert f"0001-x.patch sha256 {'c' * 64}" in origin.source
    assert origin.builder == "cross, container without network, image sha256:0123 on mmdebstrap bookworm"
