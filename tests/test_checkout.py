"""The layouts in which a distribution's inputs are had, each with what is refused of it."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline import source
from pipeline.build import checkout, tarball
from pipeline.core.errors import ExitCode, UsageError
from pipeline.core.records import SourceRecord
from pipeline.core.run import run
from pipeline.rpm import package
from pipeline.source import FetchedSource, vcs
from tests.distgit_kit import CHANGES, TARBALL, TOP, DistGitKit, flip, source_rpm, split
from tests.tiny_kit import TREE


@pytest.fixture
def kit(tmp_path: Path) -> DistGitKit:
    return DistGitKit.lay_out(tmp_path / "glibc")


def profile_source(file: Path | None, kind: str = "tarball") -> FetchedSource:
    record = SourceRecord.model_validate({"kind": kind, "origin": "x", "sha256": "0" * 64, "pinned": True})
    return FetchedSource(record, {}, lambda into: into, file)


def no_source() -> FetchedSource:
    raise AssertionError("the profile's source was asked for")


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_specs_and_sources_with_metadata(kit: DistGitKit, tmp_path: Path, algorithm: str) -> None:
    found = checkout.fetch(str(split(kit, tmp_path / "rpms", algorithm)))
    flat = checkout.fetch(str(kit.directory))
    names = {p.name for p in found.directory.iterdir()}
    assert names == {p.name for p in flat.directory.iterdir()} - {"sources"}
    path, why = tarball.find(found, TARBALL, TOP, no_source)
    assert path.read_bytes() == kit.tarball.read_bytes()
    assert why == f"its {algorithm} is listed"
    flip(tmp_path / "rpms/SOURCES" / TARBALL)
    with pytest.raises(UsageError, match=rf"is not the one that is listed: its {algorithm} is"):
        tarball.find(checkout.fetch(str(tmp_path / "rpms")), TARBALL, TOP, no_source)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{'a' * 32} SOURCES/x.tar\n", ":1: 'aaa"),
        (f"{'a' * 64} SOURCES/x.tar\n{'a' * 64} SOURCES/../x\n", ":2: 'aaa"),
        (f"{'g' * 64} SOURCES/x.tar\n", ":1: 'ggg"),
    ],
)
def test_metadata_that_is_none(kit: DistGitKit, tmp_path: Path, text: str, said: str) -> None:
    """A digest of 32 digits is md5, by which nothing is recognised."""
    top = split(kit, tmp_path / "rpms")
    (top / ".glibc.metadata").write_text(text)
    with pytest.raises(UsageError, match=re.escape(f".glibc.metadata{said}")) as failed:
        checkout.fetch(str(top))
    assert "sha256sum" in failed.value.hint
    (top / ".glibc.metadata").rename(top / ".a.metadata")
    (top / ".b.metadata").write_text("")
    with pytest.raises(UsageError, match=r"\.a\.metadata, \.b\.metadata"):
        checkout.fetch(str(top))


def test_a_directory_that_rpm_filled(kit: DistGitKit, tmp_path: Path) -> None:
    """`rpm -i` itself fills it, and nothing lists a digest."""
    top = tmp_path / "rpmbuild"
    run(["rpm", "-i", "--define", f"_topdir {top}", "--dbpath", tmp_path / "db", source_rpm(kit, tmp_path)])
    assert {p.name for p in top.iterdir()} == {"SPECS", "SOURCES"}
    found = checkout.fetch(str(top))
    path, why = tarball.find(found, TARBALL, TOP, no_source)
    assert (path.read_bytes(), why) == (
        kit.tarball.read_bytes(),
        "as it lies there: nothing lists its digest",
    )
    (top / "SOURCES" / TARBALL).unlink()
    bare = checkout.fetch(str(top))
    path, why = tarball.find(bare, TARBALL, TOP, lambda: profile_source(kit.tarball))
    assert (path, why) == (kit.tarball, "the profile's")
    with pytest.raises(UsageError, match=f"wants {TARBALL}, and the source is other") as failed:
        tarball.find(bare, TARBALL, TOP, lambda: profile_source(kit.directory / "other.tar"))
    assert "--lookaside" in failed.value.hint


def test_a_tree_that_the_user_names_takes_the_tarball_s_place(kit: DistGitKit, tmp_path: Path) -> None:
    """No digest of a tarball says anything of a tree, and the sign-off says that."""
    kit.tarball.unlink()
    tree = tmp_path / "any-name"
    shutil.copytree(TREE, tree)
    (tree / "link").symlink_to("any-name/x")
    named = source.fetch(profiles.load("bookworm"), f"dir:{tree}")
    for layout in (kit.directory, split(kit, tmp_path / "rpms")):
        path, why = tarball.find(checkout.fetch(str(layout)), TARBALL, TOP, lambda: named)
        assert path.name == TARBALL
        assert "packed from --source dir:any-name, which no digest" in why
        names = run(["tar", "-tvf", path]).text
        assert f" {TOP}/elf/ld.map\n" in names
        assert f" {TOP}/link -> any-name/x\n" in names
        assert "any-name/elf" not in names


def test_which_spec_is_glibc_s(kit: DistGitKit, tmp_path: Path) -> None:
    specs = split(kit, tmp_path / "rpms", "sha256") / "SPECS"
    (specs / "kernel.spec").write_text("Name: kernel\n")
    assert checkout.fetch(str(tmp_path / "rpms")).directory
    (specs / "glibc.spec").rename(specs / "glibc-9.spec")
    with pytest.raises(UsageError, match=r"SPECS holds glibc-9\.spec, kernel\.spec"):
        checkout.fetch(str(tmp_path / "rpms"))
    (specs / "kernel.spec").unlink()
    found = checkout.fetch(str(tmp_path / "rpms"))
    assert (found.directory / "glibc.spec").read_bytes() == (specs / "glibc-9.spec").read_bytes()
    (specs / "glibc-9.spec").unlink()
    with pytest.raises(UsageError, match="no spec"):
        checkout.fetch(str(tmp_path / "rpms"))


class TestSourceRpm:
    def test_its_files_and_its_digests(self, kit: DistGitKit, tmp_path: Path) -> None:
        rpm = source_rpm(kit, tmp_path)
        found = checkout.fetch(str(rpm))
        assert found.origin.startswith(f"distgit:{rpm.name} sha256 ")
        names = {p.name for p in found.directory.iterdir()}
        foreign = {"glibc-rhel-foreign.patch", "glibc-rhel-never.patch"}  # of another architecture, of none
        assert names == {"glibc.spec", "nsswitch.conf", TARBALL, *(CHANGES.keys() - foreign)}
        path, why = tarball.find(found, TARBALL, TOP, no_source)
        assert (path.read_bytes(), why) == (kit.tarball.read_bytes(), "its sha256 is listed")

    @pytest.mark.parametrize("where", [-50, 50], ids=["header", "payload"])
    def test_one_that_was_changed(self, kit: DistGitKit, tmp_path: Path, where: int) -> None:
        rpm = source_rpm(kit, tmp_path)
        data = bytearray(rpm.read_bytes())
        data[package.read(rpm).payload_offset + where] ^= 1
        rpm.write_bytes(data)
        with pytest.raises(UsageError, match="altered") as failed:
            checkout.fetch(str(rpm))
        assert failed.value.exit_code == ExitCode.WRONG_USE
        assert "rpm -K" in failed.value.hint
        rpm.write_bytes(bytes(data[: len(data) // 2]))
        with pytest.raises(UsageError, match=r"in the middle of it|cut off"):
            checkout.fetch(str(rpm))

    def test_files_that_are_no_source_rpm(self, kit: DistGitKit, tmp_path: Path) -> None:
        run(["rpmbuild", "-bb", "--quiet", "--nodeps", "--define", f"_topdir {tmp_path}", "--define",
             f"_sourcedir {kit.directory}", "--nocheck", kit.directory / "glibc.spec"])  # fmt: skip
        built = next((tmp_path / "RPMS").glob("*/*.rpm"))
        with pytest.raises(UsageError, match="a package that was built") as failed:
            checkout.fetch(str(built))
        assert "--rpms" in failed.value.hint
        top = split(kit, tmp_path / "rpms")
        with pytest.raises(UsageError, match="only if it is a source RPM") as failed:
            checkout.fetch(str(top / "SPECS" / "glibc.spec"))
        assert f"name the directory {top}" in failed.value.hint


class TestLookaside:
    @pytest.mark.parametrize("where", ["{name}", "glibc/{name}/sha512/{hex}/{name}", "{hex}"])
    def test_the_tarball_is_found_by_its_digest(self, kit: DistGitKit, tmp_path: Path, where: str) -> None:
        """As a plain directory, as dist-git's own, and by digest alone."""
        wanted = hashlib.sha512(kit.tarball.read_bytes()).hexdigest()
        aside = tmp_path / "aside"
        place = aside / where.format(name=TARBALL, hex=wanted)
        place.parent.mkdir(parents=True)
        kit.tarball.rename(place)
        (aside / "other").mkdir()
        (aside / "other" / TARBALL).write_text("another of that name")
        found = checkout.fetch(str(kit.directory), [aside])
        path, why = tarball.find(found, TARBALL, TOP, no_source)
        assert (path.name, path.read_bytes()) == (TARBALL, place.read_bytes())
        assert why == "its sha512 is listed"
        flip(place)
        with pytest.raises(UsageError, match=f"wants {TARBALL} with sha512 {wanted[:16]}") as failed:
            tarball.find(found, TARBALL, TOP, lambda: profile_source(None))
        assert "--lookaside" in failed.value.hint

    def test_where_nothing_lists_a_digest_two_that_differ_are_refused(
        self, kit: DistGitKit, tmp_path: Path
    ) -> None:
        top = split(kit, tmp_path / "rpms")
        (top / "SOURCES" / TARBALL).unlink()
        for name in ("a", "b"):
            (tmp_path / "aside" / name).mkdir(parents=True)
            shutil.copy(kit.tarball, tmp_path / "aside" / name)
        found = checkout.fetch(str(top), [tmp_path / "aside"])
        assert "look-aside" in tarball.find(found, TARBALL, TOP, no_source)[1]
        flip(tmp_path / "aside" / "b" / TARBALL)
        with pytest.raises(UsageError, match="differ, and nothing lists a digest"):
            tarball.find(found, TARBALL, TOP, no_source)

    def test_one_that_is_not_there(self, kit: DistGitKit) -> None:
        with pytest.raises(UsageError, match="--lookaside /nowhere: there is no such directory"):
            checkout.fetch(str(kit.directory), [Path("/nowhere")])


class TestBranch:
    """A branch of glibc's own sources: each commit after BASE is a patch."""

    @pytest.fixture
    def repository(self, tmp_path: Path) -> DistGitKit:
        kit = DistGitKit(tmp_path / "glibc-git")
        kit.directory.mkdir()
        kit.git("init", "--quiet", "--initial-branch=master")
        kit.write("version.h", '#define RELEASE "stable"\n#define VERSION "2.36"\n')
        kit.write("a.c", "one\n")
        kit.commit()
        kit.git("tag", "glibc-2.36")
        kit.git("checkout", "--quiet", "-b", "vendor")
        for number in (2, 3):
            kit.write("a.c", f"{number}\n")
            kit.git("commit", "--quiet", "-a", f"--message=a: say {number}\n\n(cherry picked from commit "
                    f"{str(number) * 40})")  # fmt: skip
        return kit

    def test_each_commit_is_a_patch_and_its_subject_the_name(self, repository: DistGitKit) -> None:
        base, head = repository.git("rev-parse", "glibc-2.36"), repository.git("rev-parse", "vendor")
        repository.git("config", "diff.noprefix", "true")
        repository.git("config", "format.signature", "somebody's")
        found = checkout.fetch(f"{repository.directory}@glibc-2.36..vendor")
        assert found.series is not None
        assert [p.name for p in found.series.patches] == ["0001-a-say-2.patch", "0002-a-say-3.patch"]
        assert "\n--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-one\n+2\n" in found.series.patches[0].read_text()
        assert found.series.version == "2.36"
        assert found.origin == (f"distgit:{repository.directory}@glibc-2.36..vendor (commits {base}..{head})")
        again = checkout.fetch(f"file://{repository.directory}@{base}..{head[:12]}")
        assert again.series is not None
        assert again.series.patches == found.series.patches
        inside = run(["tar", "-xOf", found.series.base.archive, f"glibc-{base[:12]}/a.c"]).text
        assert inside == "one\n"

    def test_only_as_much_history_is_fetched_as_the_series_needs(
        self, repository: DistGitKit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.source.branch.FIRST_DEPTH", 2)
        for number in range(20):
            repository.write("a.c", f"more {number}\n")
            repository.git("commit", "--quiet", "-a", f"--message=more {number}")
        found = checkout.fetch(f"{repository.directory}@vendor~..vendor".replace("vendor~", "glibc-2.36"))
        assert found.series is not None
        assert len(found.series.patches) == 22
        few = checkout.fetch(
            f"file://{repository.directory}@{repository.git('rev-parse', 'vendor~3')}..vendor"
        )
        assert few.series is not None
        assert len(few.series.patches) == 3
        store = vcs.repository_store(f"file://{repository.directory}")
        assert len(vcs.git(store, "rev-list", "--all", few.series.head).text.split()) < 22

    def test_a_commit_without_a_change_is_left_out_and_said(
        self, repository: DistGitKit, capfd: pytest.CaptureFixture[str]
    ) -> None:
        repository.git("commit", "--quiet", "--allow-empty", "--message=nothing")
        found = checkout.fetch(f"{repository.directory}@glibc-2.36..vendor")
        assert found.series is not None
        assert len(found.series.patches) == 2
        assert "1 of 3 commits change nothing" in " ".join(capfd.readouterr().err.split())

    def test_what_is_no_series(self, repository: DistGitKit) -> None:
        where = repository.directory
        with pytest.raises(UsageError, match="there is no commit in between"):
            checkout.fetch(f"{where}@vendor..vendor")
        with pytest.raises(UsageError, match="is not among what") as failed:
            checkout.fetch(f"{where}@vendor..glibc-2.36")
        assert "merge-base" in failed.value.hint
        with pytest.raises(UsageError, match="no commit, tag or branch nothing"):
            checkout.fetch(f"{where}@nothing..vendor")
        with pytest.raises(UsageError, match="names no commit"):
            checkout.fetch(f"{where}@glibc-2.36...vendor")
        repository.git("checkout", "--quiet", "-b", "side", "glibc-2.36")
        repository.git("commit", "--quiet", "--allow-empty", "--message=nothing")
        with pytest.raises(UsageError, match="no commit in it changes a file"):
            checkout.fetch(f"{where}@glibc-2.36..side")
        repository.git("merge", "--quiet", "-m", "both", "vendor")
        with pytest.raises(UsageError, match="is a merge") as failed:
            checkout.fetch(f"{where}@glibc-2.36..side")
        assert "rebase" in failed.value.hint

    def test_a_binary_change_and_a_tree_that_is_no_glibc(self, repository: DistGitKit) -> None:
        (repository.directory / "b.mo").write_bytes(bytes(range(256)))
        repository.commit()
        with pytest.raises(UsageError, match=r"0003-tests\.patch changes a binary file"):
            checkout.fetch(f"{repository.directory}@glibc-2.36..vendor")
        repository.git("rm", "--quiet", "version.h")
        base = repository.commit()
        repository.write("a.c", "last\n")
        repository.commit()
        with pytest.raises(UsageError, match="is no glibc source tree"):
            checkout.fetch(f"{repository.directory}@{base}..vendor")


def test_a_partial_clone_says_what_it_lacks(kit: DistGitKit, tmp_path: Path) -> None:
    kit.git("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "partial"
    run(["git", "clone", "--quiet", "--bare", "--filter=blob:none", f"file://{kit.directory}", clone])
    kit.directory.rename(tmp_path / "gone")  # what it was cloned from does not answer any more
    with pytest.raises(UsageError, match=r"is partial and lacks \d+ objects of c9s: \.gitignore") as failed:
        checkout.fetch(f"{clone}@c9s")
    assert "glibc-rhel-first.patch" in failed.value.message
    assert "--refetch" in failed.value.hint


def test_a_shallow_clone_is_enough(kit: DistGitKit, tmp_path: Path) -> None:
    kit.write("nsswitch.conf", "hosts: dns\n")
    kit.commit()
    clone = tmp_path / "shallow"
    run(["git", "clone", "--quiet", "--depth=1", f"file://{kit.directory}", clone])
    commit = kit.git("rev-parse", "HEAD")
    for ref in ("c9s", commit[:10], commit, "HEAD"):
        assert f"(commit {commit})" in checkout.fetch(f"{clone}@{ref}").origin
