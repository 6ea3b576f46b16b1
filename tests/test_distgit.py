"""What is taken for a dist-git, and what is read of it without rpm (with it: integration/test_distgit.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.build import checkout, distgit
from pipeline.build.distgit import DistGit, TheirPatch
from pipeline.cli.options import of_release
from pipeline.core import store
from pipeline.core.errors import HashMismatch, SourceUnreachable, UsageError
from pipeline.core.records import PatchRecord
from pipeline.rpm.spec import Application
from tests.distgit_kit import TARBALL, DistGitKit


@pytest.fixture
def kit(tmp_path: Path) -> DistGitKit:
    return DistGitKit.lay_out(tmp_path / "glibc")


def test_a_release_is_named_by_the_option_or_beside_it() -> None:
    assert of_release("--distgit", "9.0.z=/a/b", ()) == ("9.0.z", "/a/b")
    assert of_release("--distgit", "https://x/y?a=b@c9s", ("9.1",)) == ("9.1", "https://x/y?a=b@c9s")
    for releases in ((), ("9.0", "9.1")):
        with pytest.raises(UsageError, match="which release is it") as failed:
            of_release("--distgit", "/a/b", releases)
        assert "--distgit RELEASE=" in failed.value.hint


def test_a_directory_is_copied_and_says_its_commit(kit: DistGitKit) -> None:
    commit = kit.git("rev-parse", "HEAD")
    found = checkout.fetch(str(kit.directory))
    assert found.origin == f"distgit:glibc (commit {commit})"
    assert list(found.digests or ()) == [TARBALL]
    names = {p.name for p in found.directory.iterdir()}
    assert names == {p.name for p in kit.directory.iterdir() if not p.name.startswith(".")}
    assert checkout.fetch(str(kit.directory)).directory == found.directory
    kit.write("nsswitch.conf", "hosts: dns\n")
    changed = checkout.fetch(str(kit.directory))
    assert changed.origin == f"distgit:glibc (commit {commit}, changed since)"
    assert changed.directory != found.directory


def test_a_commit_that_git_will_not_tell_is_not_passed_over(
    kit: DistGitKit, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of another user's checkout git says nothing, unless that user is trusted."""
    (kit.directory / ".git" / "HEAD").write_text("damaged\n")
    assert checkout.fetch(str(kit.directory)).origin == "distgit:glibc (commit not known)"
    assert "is not known: fatal:" in " ".join(capfd.readouterr().err.split())


def test_a_directory_that_is_no_repository_is_taken_too(tmp_path: Path) -> None:
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked" / "glibc.spec").write_text("Name: glibc\n")
    (tmp_path / "unpacked" / "sources").write_text("")
    assert checkout.fetch(str(tmp_path / "unpacked")).origin == "distgit:unpacked"


def test_a_commit_of_a_repository(kit: DistGitKit) -> None:
    commit = kit.git("rev-parse", "HEAD")
    kit.write("nsswitch.conf", "hosts: dns\n")  # what is not committed is not in it
    found = checkout.fetch(f"{kit.directory}@c9s")
    assert found.origin == f"distgit:{kit.directory}@c9s (commit {commit})"
    assert (found.directory / "nsswitch.conf").read_text() == "hosts: files\n"
    assert not (found.directory / TARBALL).exists()


def test_what_cannot_be_had(kit: DistGitKit, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory, and it names no commit"):
        checkout.fetch(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="no commit, tag or branch c10s"):
        checkout.fetch(f"{kit.directory}@c10s")
    with pytest.raises(SourceUnreachable, match="cannot be read"):
        checkout.fetch(f"{tmp_path / 'nothing'}@c9s")


@pytest.mark.parametrize("name", ["glibc.spec", "sources"])
def test_a_checkout_that_lacks_what_makes_it_one(kit: DistGitKit, name: str) -> None:
    (kit.directory / name).unlink()
    with pytest.raises(UsageError, match=f"has no .*{name}"):
        checkout.fetch(str(kit.directory))


def test_a_file_that_changes_while_it_is_copied(kit: DistGitKit, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.file_sha256

    def changing(path: Path) -> str:
        return "0" * 64 if path.parent.name == "files" and path.name == "sources" else real(path)

    monkeypatch.setattr(store, "file_sha256", changing)
    with pytest.raises(HashMismatch, match="sources changed while it was read"):
        checkout.fetch(str(kit.directory))


def test_sources_as_dist_gits_write_them() -> None:
    line = f"SHA512 (glibc-2.34.tar.xz) = {'a' * 128}"
    assert checkout.read_sources(f"{line}\n\n", "x") == {"glibc-2.34.tar.xz": "a" * 128}
    for wrong in (
        f"{'a' * 32}  glibc-2.34.tar.xz",
        "SHA512 (glibc-2.34.tar.xz) = 12",
        f"SHA512 (../x) = {'a' * 128}",
    ):
        with pytest.raises(UsageError, match=r"x: sources:2: .* is not 'SHA512") as failed:
            checkout.read_sources(f"{line}\n{wrong}\n", "x")
        assert "sha512sum --tag" in failed.value.hint


@pytest.mark.parametrize(
    ("head", "subject", "upstream"),
    [
        ("Subject: [PATCH 2/7] nptl: a title\n\nSubject matter\n", "nptl: a title", ()),
        (
            f"commit {'0123456789' * 4}\nAuthor: A <a@b>\nDate:   today\n\n    a title\n\n    more\n",
            "a title",
            ("0123456789 a title",),
        ),
        (f"From {'a' * 40} Mon\nFrom: A\nDate: x\nSubject: t\n(cherry picked from commit {'b' * 40})\n",
         "t", ("bbbbbbbbbb t",)),
        ("", "", ()),
        (f"commit {'a' * 40}\n", "", ("aaaaaaaaaa p.patch",)),
    ],
)  # fmt: skip
def test_the_title_of_a_patch(tmp_path: Path, head: str, subject: str, upstream: tuple[str, ...]) -> None:
    patch = tmp_path / "p.patch"
    patch.write_text(head + "diff --git a/x b/x\nSubject: not this\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    record = distgit.patch_record(patch)
    assert (record.file, record.subject, record.upstream) == ("p.patch", subject, upstream)


@pytest.mark.parametrize(
    ("said", "own", "why"),
    [
        ("EMPTY\n", False, "the host has no rpm packages"),
        ("status 0\n", True, "satisfies its BuildRequires"),
        (
            (
                "error: Failed build dependencies:\n\tgcc >= 4 is needed by glibc-2.34-28.x86_64\n"
                "\t(foo or bar) is needed by glibc-2.34-28.x86_64\nstatus 11\n"
            ),
            False,
            "its own spec needs gcc >= 4, (foo or bar)",
        ),
        ("error: Unknown tag: Frob\nstatus 1\n", False, "rpm says: error: Unknown tag"),
        ("", False, "rpm says: "),
    ],
)
def test_whether_its_own_spec_will_do(said: str, own: bool, why: str) -> None:
    found = distgit.satisfied(said, "host")
    assert found[0] is own
    assert why in found[1]


def test_only_the_first_missing_requirements_are_listed() -> None:
    said = "".join(f"\tp{n} is needed by glibc-1-1.x86_64\n" for n in range(8)) + "status 11\n"
    assert distgit.satisfied(said, "host") == (False, "its own spec needs p0, p1, p2, p3, p4 and 3 more")


@pytest.fixture
def made(tmp_path: Path) -> DistGit:
    """A dist-git of three patches, of which the second takes fuzz."""
    archive = tmp_path / "glibc-2.36.tar.xz"
    spec = tmp_path / "glibc.spec"
    patches = []
    for name, fuzz in (("b.patch", 0), ("a.patch", 2), ("ab.patch", 0)):
        (tmp_path / name).write_text(name)
        applied = Application(name, ("-p1", f"--fuzz={fuzz}"))
        patches.append(
            TheirPatch(tmp_path / name, applied, PatchRecord(file=name, sha256=name * 2, subject=""))
        )
    spec.write_text("spec")
    archive.write_text("tar")
    return DistGit(
        "distgit:x",
        spec,
        archive,
        "1" * 64,
        "glibc-2.36",
        tuple(patches),
        False,
        "why",
        "its sha512 is listed",
        (),
        (),
    )


def test_a_series_can_stop_half_way(made: DistGit) -> None:
    assert [p.record.file for p in made.patches_up_to("a.patch")] == ["b.patch", "a.patch"]
    assert [p.record.file for p in made.patches_up_to("b")] == ["b.patch"]
    assert made.patches_up_to("") == made.patches
    for wrong, how in (("a", "more than one"), ("c.patch", "no")):
        with pytest.raises(UsageError, match=f"has {how} patch '{wrong}'") as failed:
            made.patches_up_to(wrong)
        assert failed.value.hint == "it has: b.patch, a.patch, ab.patch"


def test_the_sign_off_says_what_it_was_built_from(made: DistGit) -> None:
    assert made.record.kind == "distgit"
    assert made.record.pinned is False
    assert made.record.origin == (
        "distgit:x, glibc-2.36.tar.xz (its sha512 is listed); built with specs/glibc.spec (why); "
        "a.patch with fuzz 2"
    )
    assert "built with its own spec (why)" in replace(made, own=True).record.origin


def test_everything_of_it_that_decides_a_build_is_in_the_key(made: DistGit, tmp_path: Path) -> None:
    first = made.patches[0]
    other = replace(first, applied=replace(first.applied, options=("-p0", "--fuzz=0")))
    more = tmp_path / "more.conf"
    more.write_text("more")
    own = replace(made, own=True)
    variants = [
        made.identity(""),
        made.identity("b"),
        replace(made, archive_sha256="2" * 64).identity(""),
        replace(made, topdir="x").identity(""),
        replace(made, origin="distgit:y").identity(""),
        replace(made, patches=made.patches[::-1]).identity(""),
        replace(made, patches=(other, *made.patches[1:])).identity(""),
        own.identity(""),
        own.identity("b"),
        replace(own, files=(more,)).identity(""),
    ]
    made.spec.write_text("another spec")
    assert made.identity("") == variants[0], "its own spec does not matter where ours is used"
    variants.append(own.identity(""))
    more.write_text("other")
    variants.append(replace(own, files=(more,)).identity(""))
    assert len({store.digest(v) for v in variants}) == len(variants)
