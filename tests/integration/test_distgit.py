"""A dist-git read by the real rpm and built, on a tree that builds in a second."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.abi.files import listings
from pipeline.build import checkout, distgit
from pipeline.build.builder import Builder
from pipeline.build.distgit import DistGit
from pipeline.build.options import Options
from pipeline.build.workplace import Workplace
from pipeline.core.arch import host_arch
from pipeline.core.errors import ExitCode, UsageError
from pipeline.core.run import run
from pipeline.host.image import BuildImage
from pipeline.rpm import package
from pipeline.source import FetchedSource
from tests.distgit_kit import (
    AUTOSETUP,
    BY_HAND,
    FOREIGN,
    TARBALL,
    DistGitKit,
    flip,
    source_rpm,
    split,
)  # fmt: skip
from tests.tiny_kit import RSEQ_NODE, TREE, Tiny

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("home")]

HOST = Workplace(None, "native")
FIRST, LEVEL0, WITHDRAW = (f"glibc-rhel-{n}.patch" for n in ("first", "level0", "withdraw"))


@pytest.fixture
def kit(tmp_path: Path) -> DistGitKit:
    return DistGitKit.lay_out(tmp_path / "glibc")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, with an rpm database that is empty: what a distribution's rpms would fill."""
    directory = tmp_path / "home"
    directory.mkdir()
    (directory / ".rpmmacros").write_text(f"%_dbpath {directory}/rpmdb\n")
    monkeypatch.setenv("HOME", str(directory))
    run(["rpm", "--initdb"])
    return directory


def no_source() -> FetchedSource:
    raise AssertionError("the profile's source was asked for")


def read(tiny: Tiny, kit: DistGitKit, workplace: Workplace = HOST) -> DistGit:
    machine = FOREIGN if workplace.mode == "cross" else host_arch()
    return distgit.read(
        checkout.fetch(str(kit.directory)), tiny.profile, machine, workplace, source=no_source
    )


def builder(tiny: Tiny, kit: DistGitKit, up_to: str = "") -> Builder:
    theirs = {"1.0": checkout.fetch(str(kit.directory))}
    return Builder(tiny.profile, no_source, Options(place="host", up_to=up_to), theirs)


def files(found: DistGit) -> list[str]:
    return [p.record.file for p in found.patches]


def install(home: Path, name: str, version: str) -> None:
    """Have rpm's database hold a package of that name."""
    spec = home / f"{name}.spec"
    spec.write_text(
        f"Name: {name}\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n"
        "%description\n%files\n"
    )
    run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {home}/rpmbuild", spec])
    rpm = next((home / "rpmbuild" / "RPMS").glob(f"*/{name}-*.rpm"))
    run(["rpm", "--install", "--justdb", "--nodeps", rpm])


@pytest.mark.parametrize("prep", ["by hand", "autosetup"])
def test_rpm_says_which_patches_in_which_order_with_which_options(
    tiny: Tiny, tmp_path: Path, prep: str
) -> None:
    kit = DistGitKit.lay_out(tmp_path / "glibc", BY_HAND if prep == "by hand" else AUTOSETUP)
    found = read(tiny, kit)
    order = [WITHDRAW, LEVEL0, FIRST] if prep == "by hand" else [FIRST, WITHDRAW, LEVEL0]
    assert files(found) == order
    by_name = {p.record.file: p.applied for p in found.patches}
    assert by_name[FIRST].plain
    assert by_name[WITHDRAW].plain
    assert {"-p0", "--fuzz=1", ".level0"} <= set(by_name[LEVEL0].options)
    assert found.topdir == "glibc-2.36"
    assert found.patches[0].record.upstream[0].startswith("0123456789 ")
    assert f"{LEVEL0} with fuzz 1" in found.record.origin
    assert (found.own, found.further) == (False, ("chmod +x scripts/ldd",))
    assert "no rpm packages" in found.why


def test_conditions_of_the_spec_are_those_of_the_machine_built_for(tiny: Tiny, kit: DistGitKit) -> None:
    kit.write("glibc.spec", (kit.directory / "glibc.spec").read_text().replace(BY_HAND, "%autosetup -p1"))
    assert "glibc-rhel-foreign.patch" not in files(read(tiny, kit))
    foreign = read(tiny, kit, Workplace(None, "cross"))
    assert files(foreign) == [FIRST, LEVEL0, "glibc-rhel-foreign.patch", WITHDRAW]
    assert "cross compiler" in foreign.why


def test_the_fuzz_that_the_spec_sets_is_respected_and_told(tiny: Tiny, kit: DistGitKit) -> None:
    spec = (kit.directory / "glibc.spec").read_text()
    kit.write("glibc.spec", "%global _default_patch_fuzz 2\n" + spec)
    found = read(tiny, kit)
    assert [p.applied.fuzz for p in found.patches] == [2, 1, 2]
    assert f"{WITHDRAW} with fuzz 2" in found.record.origin


def test_it_is_read_where_it_is_built(tiny: Tiny, kit: DistGitKit, host_in_a_container: BuildImage) -> None:
    found = read(tiny, kit, Workplace(host_in_a_container, "native"))
    assert files(found) == [WITHDRAW, LEVEL0, FIRST]
    assert "the container has no rpm packages" in found.why


def test_its_series_takes_the_place_of_ours(
    tiny: Tiny, kit: DistGitKit, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = builder(tiny, kit)
    made = ours.build(tiny.target("1.0"))
    manifest = made.manifest
    assert [p.file for p in manifest.patches] == [WITHDRAW, LEVEL0, FIRST]
    assert manifest.nvr == "glibc-2.36-1.t1_0"
    assert manifest.source is not None
    assert (manifest.source.kind, manifest.source.pinned) == ("distgit", False)
    assert "built with specs/glibc.spec (the host has no rpm packages" in manifest.source.origin
    assert not [s for s in listings(made.root)[host_arch().loader].symbols if "rseq" in s.symbol]
    assert "level 0" in (made.root / "usr/bin/mtrace").read_text()
    assert manifest.srpm is not None
    inside = set(run(["rpm", "-qpl", made.rpms / manifest.srpm.file]).text.split())
    assert inside == {"glibc.spec", "release.inc", "patches.inc", TARBALL, WITHDRAW, LEVEL0, FIRST}
    said = " ".join(capsys.readouterr().err.split())
    assert "its %prep has 1 more command, which specs/glibc.spec does not run (chmod); all of it: " in said
    assert Path(said.partition("all of it: ")[2].split()[0]).read_text() == "chmod +x scripts/ldd\n"
    assert "not run: what else its %prep does (1 command)" in manifest.source.origin
    assert builder(tiny, kit).make(tiny.target("1.0")).reused

    # stopped half way, to bisect
    half = builder(tiny, kit, "glibc-rhel-level0")
    part = half.build(tiny.target("1.0"))
    assert [p.file for p in part.manifest.patches] == [WITHDRAW, LEVEL0]
    assert part.manifest.key != manifest.key
    with pytest.raises(UsageError, match="has no patch 'glibc-rhel-never"):
        builder(tiny, kit, "glibc-rhel-never.patch").inputs(tiny.target("1.0"))


def test_its_own_spec_is_used_where_its_requirements_are_met(tiny: Tiny, kit: DistGitKit, home: Path) -> None:
    install(home, "gcc", "12")
    lacking = read(tiny, kit)
    assert (lacking.own, lacking.why) == (False, "its own spec needs make")
    install(home, "make", "4")
    kit.write("glibc.spec", (kit.directory / "glibc.spec").read_text() + "%package doc\nSummary: x\n"
              "%description doc\n%files doc\n")  # fmt: skip
    found = read(tiny, kit)
    assert (found.own, found.why) == (True, "the host satisfies its BuildRequires")
    assert {f.name for f in found.files} == {"nsswitch.conf"}
    target = tiny.target("1.0")
    entry = builder(tiny, kit, WITHDRAW).make(target)
    names = {package.verify(p).nvr for p in (entry.path / "RPMS").glob(f"*.{host_arch().name}.rpm")}
    assert names == {"glibc-2.36-7", "glibc-doc-2.36-7"}
    assert builder(tiny, kit, WITHDRAW).make(target).reused
    text = (entry.path / "manifest.json").read_text()
    assert '"nvr": "glibc-2.36-7"' in text
    assert "its own spec (the host satisfies" in text
    assert FIRST not in text


def test_a_patch_that_does_not_apply_is_named(tiny: Tiny, tmp_path: Path) -> None:
    kit = DistGitKit.lay_out(tmp_path / "glibc", "%autosetup -p1")
    with pytest.raises(UsageError, match=f"{LEVEL0} of the dist-git does not apply") as failed:
        builder(tiny, kit).make(tiny.target("1.0"))
    assert "-p1" in failed.value.message
    assert "mtrace" in failed.value.message


def test_specs_that_will_not_do(tiny: Tiny, kit: DistGitKit) -> None:
    spec = (kit.directory / "glibc.spec").read_text()
    kit.write("glibc.spec", spec.replace("%description", "%frobnicate {", 1).replace("Name:", "Nome:"))
    with pytest.raises(UsageError, match=r"rpm cannot read glibc\.spec") as failed:
        read(tiny, kit)
    assert "error:" in failed.value.message
    kit.write("glibc.spec", spec.replace("glibcversion 2.36", "glibcversion 2.28"))
    with pytest.raises(UsageError, match=r"is glibc 2\.28, profile tiny is glibc 2\.36"):
        read(tiny, kit)
    kit.write("glibc.spec", spec)
    (kit.directory / LEVEL0).unlink()
    with pytest.raises(UsageError, match=LEVEL0):
        read(tiny, kit)


def test_the_tarball_is_the_one_in_sources(tiny: Tiny, kit: DistGitKit) -> None:
    sources = (kit.directory / "sources").read_text()
    kit.write("sources", sources.replace(TARBALL, "another.tar.xz"))
    with pytest.raises(UsageError, match=f"nothing lists {TARBALL}"):
        read(tiny, kit)
    kit.write("sources", sources)
    data = bytearray(kit.tarball.read_bytes())
    data[len(data) // 2] ^= 1
    kit.tarball.write_bytes(data)
    with pytest.raises(UsageError, match=f"{TARBALL} beside the spec is not the one that is listed"):
        read(tiny, kit)


def test_the_verb_takes_a_repository_and_the_tarball_from_the_source(tiny: Tiny, kit: DistGitKit) -> None:
    where = f"{kit.directory}@c9s"
    other = kit.directory / "other.tar"
    other.write_bytes(b"another tarball")
    wrong = tiny.call("build", "--release", "1.0", "--distgit", where, "--source", f"tarball:{other}")
    assert wrong.returncode == ExitCode.WRONG_USE
    assert f"wants {TARBALL}" in wrong.stderr
    assert "--source tarball:" in wrong.stderr
    given = ["--source", f"tarball:{kit.tarball}", "--distgit", where, "--release", "1.0"]
    done = tiny.call("build", *given, "--up-to", WITHDRAW)
    assert done.returncode == ExitCode.PASS, done.stderr
    assert "glibc-2.36-1.t1_0" in done.stdout
    unknown = tiny.call("build", *given, "--up-to", "0009")
    assert unknown.returncode == ExitCode.WRONG_USE
    assert f"it has: {WITHDRAW}, {LEVEL0}, {FIRST}" in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--distgit", "D"], "which release is it?"),
        (["--distgit", "7.7=D"], "has no release '7.7'"),
        (["--distgit", "1.0=D", "--distgit", "1.0=D"], "two --distgit for release 1.0"),
        (["--distgit", "1.0=/nowhere"], "no such directory"),
    ],
)
def test_wrong_use_of_the_option(tiny: Tiny, kit: DistGitKit, arguments: list[str], said: str) -> None:
    done = tiny.call("build", *(a.replace("D", str(kit.directory)) if a[0] != "-" else a for a in arguments))
    assert done.returncode == ExitCode.WRONG_USE
    assert said in done.stderr


def test_a_release_is_rpms_or_a_dist_git(tiny: Tiny, kit: DistGitKit) -> None:
    done = tiny.call("verify", "--rpms", f"1.0={TREE}", "--distgit", f"1.0={kit.directory}")
    assert done.returncode == ExitCode.WRONG_USE
    assert "--rpms and --distgit both say" in done.stderr


def test_specs_and_sources_are_built_with_metadata_and_with_a_look_aside(
    tiny: Tiny, kit: DistGitKit, tmp_path: Path
) -> None:
    top = split(kit, tmp_path / "rpms", "sha256")
    done = tiny.call("build", "--place", "host", "--release", "1.0", "--distgit", str(top))
    assert done.returncode == ExitCode.PASS, done.stderr
    aside = tmp_path / "aside"
    aside.mkdir()
    (top / "SOURCES" / TARBALL).rename(aside / TARBALL)
    again = ["build", "--place", "host", "--release", "1.0", "--distgit", str(top)]
    found = tiny.call(*again, "--lookaside", str(aside))
    assert found.returncode == ExitCode.PASS, found.stderr
    assert found.stdout == done.stdout, "the same tarball from another place makes the same build"
    flip(aside / TARBALL)
    wrong = tiny.call(*again, "--lookaside", str(aside), "--source", f"tarball:{aside / TARBALL}")
    assert wrong.returncode == ExitCode.WRONG_USE
    assert f"wants {TARBALL} with sha256" in wrong.stderr
    alone = tiny.call("build", "--lookaside", str(aside))
    assert (alone.returncode, "add --distgit" in alone.stderr) == (ExitCode.WRONG_USE, True)


def test_a_source_rpm_is_built(tiny: Tiny, kit: DistGitKit, tmp_path: Path) -> None:
    """With its own spec's patches in their order, or, where its requirements are met, with its own spec."""
    rpm = source_rpm(kit, tmp_path)
    found = checkout.fetch(str(rpm))
    read_back = distgit.read(found, tiny.profile, host_arch(), HOST, source=no_source)
    assert files(read_back) == [WITHDRAW, LEVEL0, FIRST]
    made = Builder(tiny.profile, no_source, Options(place="host"), {"1.0": found}).build(tiny.target("1.0"))
    assert made.manifest.source is not None
    assert made.manifest.source.origin.startswith(f"distgit:{rpm.name} sha256 ")
    assert not [s for s in listings(made.root)[host_arch().loader].symbols if "rseq" in s.symbol]


def test_a_branch_of_commits_is_built(tiny: Tiny, tmp_path: Path) -> None:
    """The tree at BASE, and each commit after it; a branch that ends sooner makes something else."""
    tree = DistGitKit(tmp_path / "glibc-git")
    shutil.copytree(TREE, tree.directory)
    tree.git("init", "--quiet", "--initial-branch=vendor")
    tree.commit()
    tree.git("tag", "base")
    elf_map = (tree.directory / "elf/ld.map").read_text()
    assert RSEQ_NODE in elf_map
    tree.write("elf/ld.map", elf_map.replace(RSEQ_NODE, ""))
    tree.git("commit", "--quiet", "-a", "--message=elf: withdraw the symbols")
    tree.write("elf/ld.map", elf_map)
    tree.git("commit", "--quiet", "-a", "--message=elf: bring them back")
    tree.git("branch", "half", "HEAD~1")

    def rseq(ref: str, up_to: str = "") -> tuple[list[str], bool]:
        theirs = {"1.0": checkout.fetch(f"{tree.directory}@base..{ref}")}
        ours = Builder(tiny.profile, no_source, Options(place="host", up_to=up_to), theirs)
        made = ours.build(tiny.target("1.0"))
        found = [s for s in listings(made.root)[host_arch().loader].symbols if "rseq" in s.symbol]
        return [p.subject for p in made.manifest.patches], bool(found)

    assert rseq("half") == (["elf: withdraw the symbols"], False)
    assert rseq("vendor") == (["elf: withdraw the symbols", "elf: bring them back"], True)
    assert rseq("vendor", "0001-") == (["elf: withdraw the symbols"], False)
    tree.write("version.h", '#define VERSION "2.34"\n')
    tree.git("commit", "--quiet", "-a", "--message=another")
    tree.git("tag", "older")
    tree.write("version.h", '#define VERSION "2.36"\n')
    tree.git("commit", "--quiet", "-a", "--message=back")
    other = checkout.fetch(f"{tree.directory}@older..vendor")
    with pytest.raises(UsageError, match=r"is glibc 2\.34, profile tiny is glibc 2\.36"):
        distgit.read(other, tiny.profile, host_arch(), HOST, source=no_source)
