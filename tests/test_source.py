"""Sources: what is pinned is what is used, and everything else is refused or marked."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import profile, source
from pipeline.core import paths
from pipeline.core.errors import (
    CommandFailed,
    HashMismatch,
    NoSpace,
    SourceUnreachable,
    UsageError,
    WorldError,
)
from pipeline.core.store import tree_sha256
from pipeline.profile import Profile, TarballSource
from pipeline.source import address, vcs
from pipeline.source import download as downloads
from tests.webserver import Page, Web, serve

FILE = "glibc-2.99.tar"


def tarball(names: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, data in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return raw.getvalue()


#: a toy glibc that does not fit into one network read
BODY = tarball(
    {
        "glibc-2.99/version.h": b'#define VERSION "2.99"\n',
        "glibc-2.99/big": random.Random(1).randbytes(400_000),
    }
)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(downloads, "PAUSE", 0.01)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as running:
        running.pages["/" + FILE] = Page(BODY)
        yield running


def pinning(*urls: str, sha256: str = SHA256, size: int = len(BODY)) -> Profile:
    pin = TarballSource(
        kind="tarball", urls=list(urls), file=FILE, sha256=sha256, size=size, topdir="glibc-2.99"
    )
    return profile.load("bookworm").model_copy(update={"source": pin})


def dead_url() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}/{FILE}"


def git(repo: Path, *argv: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *who, "-C", repo, *argv], check=True, capture_output=True, text=True
    ).stdout.strip()


def toy_tree(top: Path) -> Path:
    (top / "elf").mkdir(parents=True)
    (top / "version.h").write_text('#define VERSION "2.99"\n')
    (top / "configure").write_text("#!/bin/sh\n")
    (top / "configure").chmod(0o755)
    (top / "elf" / "rtld.c").write_text("int main;\n")
    (top / "link").symlink_to("version.h")
    return top


class TestTarball:
    def test_is_fetched_verified_unpacked_and_kept(self, web: Web, tmp_path: Path) -> None:
        p = pinning(f"{web.url}/{FILE}")
        first = source.fetch(p)
        assert first.record.kind == "tarball"
        assert first.record.pinned
        assert first.record.sha256 == SHA256
        top = first.unpack(tmp_path / "tree")
        assert (top.name, (top / "version.h").read_text()) == ("glibc-2.99", '#define VERSION "2.99"\n')
        again = source.fetch(p)
        assert len(web.asked) == 1
        assert again.record == first.record
        assert again.identity == first.identity

    def test_goes_through_redirects(self, web: Web) -> None:
        web.pages["/mirror"] = Page(status=302, location="/second")
        web.pages["/second"] = Page(status=301, location=f"{web.url}/{FILE}")
        assert source.fetch(pinning(f"{web.url}/mirror")).record.sha256 == SHA256
        assert [path for path, _ in web.asked] == ["/mirror", "/second", f"/{FILE}"]

    def test_redirects_without_end_are_given_up(self, web: Web) -> None:
        web.pages["/round"] = Page(status=302, location="/round")
        with pytest.raises(SourceUnreachable, match="redirects without end"):
            source.fetch(pinning(f"{web.url}/round"))

    def test_a_broken_transfer_is_resumed_where_it_broke(self, web: Web) -> None:
        web.pages[f"/{FILE}"].breaks = [150_000, 100_000]
        assert source.fetch(pinning(f"{web.url}/{FILE}")).record.sha256 == SHA256
        spans = [span for _, span in web.asked]
        assert spans[0] == ""
        offsets = [int(span.removeprefix("bytes=").rstrip("-")) for span in spans[1:]]
        assert len(offsets) == 2
        assert 150_000 - downloads.CHUNK < offsets[0] <= 150_000
        assert offsets[0] + 100_000 - downloads.CHUNK < offsets[1] <= 250_000

    def test_what_an_earlier_run_left_is_gone_on_with(self, web: Web) -> None:
        part = paths.state() / "sources" / "partial" / f"{SHA256}-{FILE}"
        part.parent.mkdir(parents=True)
        part.write_bytes(BODY[:1000])
        source.fetch(pinning(f"{web.url}/{FILE}"))
        assert web.asked == [(f"/{FILE}", "bytes=1000-")]

    def test_a_server_without_ranges_is_read_from_the_start(self, web: Web) -> None:
        web.pages[f"/{FILE}"].ranges = False
        web.pages[f"/{FILE}"].breaks = [1000]
        assert source.fetch(pinning(f"{web.url}/{FILE}")).record.sha256 == SHA256

    def test_a_wrong_beginning_left_behind_costs_one_more_download(self, web: Web) -> None:
        part = paths.state() / "sources" / "partial" / f"{SHA256}-{FILE}"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"\0" * 1000)
        assert source.fetch(pinning(f"{web.url}/{FILE}")).record.sha256 == SHA256
        assert web.asked == [(f"/{FILE}", "bytes=1000-"), (f"/{FILE}", "")]

    @pytest.mark.parametrize("left", [len(BODY), len(BODY) + 5])
    def test_a_leftover_that_is_as_long_or_longer(self, web: Web, left: int) -> None:
        part = paths.state() / "sources" / "partial" / f"{SHA256}-{FILE}"
        part.parent.mkdir(parents=True)
        part.write_bytes((BODY + b"12345")[:left])
        assert source.fetch(pinning(f"{web.url}/{FILE}")).record.sha256 == SHA256

    def test_a_wrong_hash_is_refused_kept_aside_and_named(self, web: Web) -> None:
        bad = BODY[:-1] + b"X"
        web.pages[f"/{FILE}"].body = bad
        with pytest.raises(HashMismatch) as caught:
            source.fetch(pinning(f"{web.url}/{FILE}"))
        assert SHA256 in caught.value.message
        assert hashlib.sha256(bad).hexdigest() in caught.value.message
        (aside,) = (paths.state() / "quarantine").iterdir()
        assert str(aside) in caught.value.message
        assert aside.read_bytes() == bad
        assert not (paths.state() / "sources" / SHA256 / FILE).exists()

    def test_a_file_that_is_too_long_is_not_taken_whole(self, web: Web) -> None:
        web.pages[f"/{FILE}"].body = BODY + b"\0" * 5_000_000
        with pytest.raises(HashMismatch):
            source.fetch(pinning(f"{web.url}/{FILE}"))
        (aside,) = (paths.state() / "quarantine").iterdir()
        assert aside.stat().st_size < len(BODY) + 2 * downloads.CHUNK

    def test_a_mirror_with_other_bytes_does_not_stop_the_next(
        self, web: Web, capsys: pytest.CaptureFixture[str]
    ) -> None:
        web.pages["/bad"] = Page(b"not it")
        assert source.fetch(pinning(f"{web.url}/bad", f"{web.url}/{FILE}")).record.sha256 == SHA256
        assert "is not the pinned file" in capsys.readouterr().err

    def test_a_dead_first_mirror_goes_to_the_next(self, web: Web) -> None:
        assert source.fetch(pinning(dead_url(), f"{web.url}/{FILE}")).record.sha256 == SHA256

    def test_a_busy_server_is_asked_again(self, web: Web) -> None:
        web.pages["/busy"] = Page(status=503)
        with pytest.raises(SourceUnreachable, match="HTTP status 503"):
            source.fetch(pinning(f"{web.url}/busy"))
        assert len(web.asked) == downloads.ATTEMPTS

    def test_nowhere_names_all_that_was_tried_and_each_way_to_supply_it(self, web: Web) -> None:
        dead = dead_url()
        with pytest.raises(SourceUnreachable) as caught:
            source.fetch(pinning(f"{web.url}/a", dead, f"{web.url}/b"))
        for tried in (f"{web.url}/a: HTTP status 404", f"{dead}: connection refused", f"{web.url}/b: HTTP"):
            assert tried in caught.value.message
        place = paths.state() / "sources" / SHA256 / FILE
        for way in (str(place), "tarball:", "git:", "dir:", "https_proxy", SHA256):
            assert way in caught.value.hint
        assert caught.value.exit_code == 4

    def test_a_file_put_in_its_place_by_hand_is_used(self) -> None:
        place = paths.state() / "sources" / SHA256 / FILE
        place.parent.mkdir(parents=True)
        place.write_bytes(BODY)
        assert source.fetch(pinning(dead_url())).record.pinned

    def test_a_flipped_byte_in_the_kept_file_is_found_and_it_is_fetched_once_more(
        self, web: Web, capsys: pytest.CaptureFixture[str]
    ) -> None:
        p = pinning(f"{web.url}/{FILE}")
        source.fetch(p)
        kept = paths.state() / "sources" / SHA256 / FILE
        flipped = bytearray(BODY)
        flipped[5000] ^= 1
        kept.write_bytes(flipped)
        assert source.fetch(p).record.sha256 == SHA256
        assert kept.read_bytes() == BODY
        assert len(web.asked) == 2
        (aside,) = (paths.state() / "quarantine").iterdir()
        assert aside.read_bytes() == bytes(flipped)
        assert str(aside) in capsys.readouterr().err

    def test_a_byte_flipped_after_fetching_is_found_before_unpacking(self, web: Web, tmp_path: Path) -> None:
        fetched = source.fetch(pinning(f"{web.url}/{FILE}"))
        kept = paths.state() / "sources" / SHA256 / FILE
        kept.write_bytes(BODY[:-1] + b"X")
        with pytest.raises(HashMismatch, match=SHA256):
            fetched.unpack(tmp_path / "tree")
        assert not (tmp_path / "tree").exists()

    def test_available(self, web: Web) -> None:
        assert source.available(pinning(dead_url(), f"{web.url}/{FILE}"))[0]
        assert source.available(pinning(f"{web.url}/none")) == (False, f"{web.url}/none: HTTP status 404")
        ok, why = source.available(pinning(f"{web.url}/{FILE}", size=17))
        assert not ok
        assert f"a file of {len(BODY)} bytes, not 17" in why
        source.fetch(pinning(f"{web.url}/{FILE}"))
        assert source.available(pinning(dead_url())) == (True, f"{FILE} is cached")

    def test_a_server_that_never_answers_is_not_waited_for(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
            assert address.reachable([url], timeout=0.3) == (False, f"{url}: no answer in time")


class TestOverride:
    def test_the_pinned_file_from_elsewhere_is_pinned(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine.tar"
        mine.write_bytes(BODY)
        fetched = source.fetch(pinning(dead_url()), f"tarball:{mine}")
        assert fetched.record.pinned
        assert str(tmp_path) not in fetched.record.origin
        assert fetched.unpack(tmp_path / "t").name == "glibc-2.99"

    def test_another_file_is_not(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine.tar"
        mine.write_bytes(tarball({"other/version.h": b""}))
        fetched = source.fetch(pinning(dead_url()), f"tarball:{mine}")
        assert not fetched.record.pinned
        assert fetched.unpack(tmp_path / "t").name == "other"

    def test_a_file_that_is_not_what_the_user_says_is_refused_and_left(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine.tar"
        mine.write_bytes(BODY)
        with pytest.raises(HashMismatch, match=f"{SHA256}, not {'0' * 64}"):
            source.fetch(pinning(dead_url()), f"tarball:{mine}#sha256={'0' * 64}")
        assert mine.read_bytes() == BODY

    @pytest.mark.parametrize("cut", [100, 1024, len(BODY) // 2])
    def test_a_truncated_archive_is_one_clear_error(self, tmp_path: Path, cut: int) -> None:
        mine = tmp_path / "mine.tar"
        mine.write_bytes(BODY[:cut])
        fetched = source.fetch(pinning(dead_url()), f"tarball:{mine}")
        with pytest.raises(SourceUnreachable, match="truncated, damaged or no tar archive"):
            fetched.unpack(tmp_path / "t")

    def test_a_truncated_compressed_archive_too(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine.tar.gz"
        mine.write_bytes(subprocess.run(["gzip"], input=BODY, capture_output=True, check=True).stdout[:-9000])
        fetched = source.fetch(pinning(dead_url()), f"tarball:{mine}")
        with pytest.raises(SourceUnreachable, match="truncated, damaged or no tar archive"):
            fetched.unpack(tmp_path / "t")

    def test_an_archive_cannot_write_elsewhere(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine.tar"
        mine.write_bytes(tarball({"a/version.h": b"", "a/../../escaped": b"!"}))
        with pytest.raises(SourceUnreachable):
            source.fetch(pinning(dead_url()), f"tarball:{mine}").unpack(tmp_path / "deep" / "t")
        assert not list(tmp_path.rglob("escaped"))

    @pytest.mark.parametrize(
        ("names", "says"),
        [({"a/version.h": b"", "b/x": b""}, "one top directory"), ({"a/x": b""}, "no glibc source tree")],
    )
    def test_an_archive_of_something_else(self, tmp_path: Path, names: dict[str, bytes], says: str) -> None:
        mine = tmp_path / "mine.tar"
        mine.write_bytes(tarball(names))
        with pytest.raises(UsageError, match=says):
            source.fetch(pinning(dead_url()), f"tarball:{mine}").unpack(tmp_path / "t")

    def test_an_address_with_a_hash_is_verified_and_kept(self, web: Web) -> None:
        text = f"tarball:{web.url}/{FILE}#sha256={SHA256}"
        for _ in range(2):
            assert source.fetch(pinning(dead_url()), text).record.pinned
        assert len(web.asked) == 1
        wrong = f"tarball:{web.url}/{FILE}#sha256={'1' * 64}"
        with pytest.raises(HashMismatch, match=f"{SHA256}, not {'1' * 64}"):
            source.fetch(pinning(dead_url()), wrong)

    def test_an_address_without_a_hash_is_fetched_each_time_and_warned_of(
        self, web: Web, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for _ in range(2):
            fetched = source.fetch(pinning(dead_url(), sha256="0" * 64), f"tarball:{web.url}/{FILE}")
            assert not fetched.record.pinned
        assert len(web.asked) == 2
        assert f"#sha256={SHA256}" in capsys.readouterr().err

    def test_a_password_in_an_address_is_recorded_nowhere(
        self, web: Web, capsys: pytest.CaptureFixture[str]
    ) -> None:
        address = web.url.replace("http://", "http://me:geheim@")
        fetched = source.fetch(pinning(dead_url()), f"tarball:{address}/{FILE}")
        assert "geheim" not in fetched.record.origin + capsys.readouterr().err
        with pytest.raises(SourceUnreachable) as caught:
            source.fetch(pinning(dead_url()), f"tarball:{address}/none")
        assert "geheim" not in caught.value.message

    @pytest.mark.parametrize(
        "text",
        [
            *("", "tarball", "tarball:", "svn:x@1", "/some/path", "apt:glibc", "dir:/no/x"),
            *("git:/repo", "git:/repo@", "git:u@host:repo", "git:/repo@a..b", "git:/repo@main~1"),
            *("tarball:/no/such/file", "tarball:/x#sha256=12"),
        ],
    )
    def test_what_makes_no_sense_is_wrong_use(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            source.fetch(pinning(dead_url()), text)
        assert caught.value.hint


class TestGit:
    @pytest.fixture
    def repo(self, tmp_path: Path) -> Path:
        top = toy_tree(tmp_path / "repo")
        git(top, "init", "-q")
        (top / ".gitattributes").write_text("elf export-ignore\nversion.h export-subst\n")
        git(top, "add", "-A")
        git(top, "commit", "-qm", "one")
        git(top, "tag", "v1")
        (top / "elf" / "rtld.c").write_text("int two;\n")
        git(top, "commit", "-qam", "two")
        return top

    @pytest.mark.parametrize("ref", ["v1", "main", "full", "short"])
    def test_a_ref_leads_to_its_tree(self, repo: Path, tmp_path: Path, ref: str) -> None:
        name = {"full": git(repo, "rev-parse", "v1"), "short": git(repo, "rev-parse", "v1")[:12]}.get(
            ref, ref
        )
        fetched = source.fetch(pinning(dead_url()), f"git:{repo}@{name}")
        assert (fetched.record.kind, fetched.record.pinned) == ("git", False)
        commit = git(repo, "rev-parse", f"{name}^{{commit}}")
        assert commit in fetched.record.origin
        top = fetched.unpack(tmp_path / "t")
        # every file as committed, whatever the attributes for release tarballs say
        assert (top / "elf" / "rtld.c").read_text() == ("int two;\n" if ref == "main" else "int main;\n")
        assert (top / "configure").stat().st_mode & 0o111
        assert (top / "link").is_symlink()
        assert not (top / ".git").exists()

    def test_a_commit_that_was_had_needs_no_repository(self, repo: Path) -> None:
        commit = git(repo, "rev-parse", "v1")
        first = source.fetch(pinning(dead_url()), f"git:{repo}@{commit}")
        repo.rename(repo.with_name("away"))
        assert source.fetch(pinning(dead_url()), f"git:{repo}@{commit}").identity == first.identity
        with pytest.raises(SourceUnreachable, match="cannot be read"):
            source.fetch(pinning(dead_url()), f"git:{repo}@v1")

    def test_what_git_said_is_passed_on_not_its_advice(self, tmp_path: Path) -> None:
        with pytest.raises(SourceUnreachable, match="does not appear to be a git repository"):
            source.fetch(pinning(dead_url()), f"git:{tmp_path / 'none'}@v1")

    def test_a_moved_tag_is_seen(self, repo: Path) -> None:
        first = source.fetch(pinning(dead_url()), f"git:{repo}@v1")
        git(repo, "tag", "-f", "v1", "main")
        assert source.fetch(pinning(dead_url()), f"git:{repo}@v1").identity != first.identity

    def test_no_such_commit(self, repo: Path) -> None:
        with pytest.raises(UsageError, match="has no commit, tag or branch v9"):
            source.fetch(pinning(dead_url()), f"git:{repo}@v9")


class TestDirectory:
    def test_is_copied_without_its_history(self, tmp_path: Path) -> None:
        top = toy_tree(tmp_path / "mine")
        (top / ".git").mkdir()
        (top / ".git" / "config").write_text("x")
        fetched = source.fetch(pinning(dead_url()), f"dir:{top}")
        assert (fetched.record.kind, fetched.record.pinned) == ("dir", False)
        assert str(tmp_path) not in fetched.record.origin
        copy = fetched.unpack(tmp_path / "t")
        assert not (copy / ".git").exists()
        assert tree_sha256(copy) == fetched.record.sha256 == tree_sha256(top)

    @pytest.mark.parametrize(
        ("code", "error"),
        [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EACCES, CommandFailed)],
    )
    def test_a_full_disk_is_no_unreadable_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[WorldError]
    ) -> None:
        def fails(_: object, target: str, **__: object) -> None:
            raise OSError(code, os.strerror(code), target)

        fetched = source.fetch(pinning(dead_url()), f"dir:{toy_tree(tmp_path / 'mine')}")
        monkeypatch.setattr("shutil.copyfile", fails)
        with pytest.raises(error) as failed:
            fetched.unpack(tmp_path / "t")
        assert ("PIPELINE_STATE" in failed.value.hint) is (error is NoSpace)
        assert ("readable" in failed.value.hint) is (error is CommandFailed)

    def test_a_worktree_has_the_identity_of_its_files(self, tmp_path: Path) -> None:
        top = toy_tree(tmp_path / "mine")
        plain = source.fetch(pinning(dead_url()), f"dir:{top}").identity
        (top / ".git").write_text("gitdir: /elsewhere\n")
        assert source.fetch(pinning(dead_url()), f"dir:{top}").identity == plain

    def test_any_change_is_another_identity(self, tmp_path: Path) -> None:
        top = toy_tree(tmp_path / "mine")
        seen = {source.fetch(pinning(dead_url()), f"dir:{top}").record.sha256}
        (top / "elf" / "rtld.c").write_text("int Main;\n")
        seen.add(source.fetch(pinning(dead_url()), f"dir:{top}").record.sha256)
        (top / "configure").chmod(0o644)
        seen.add(source.fetch(pinning(dead_url()), f"dir:{top}").record.sha256)
        assert len(seen) == 3

    def test_a_change_between_fetch_and_unpack_is_refused(self, tmp_path: Path) -> None:
        top = toy_tree(tmp_path / "mine")
        fetched = source.fetch(pinning(dead_url()), f"dir:{top}")
        (top / "elf" / "new.c").write_text("")
        with pytest.raises(HashMismatch, match="changed while it was read"):
            fetched.unpack(tmp_path / "t")

    def test_something_else_is_wrong_use(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no version"):
            source.fetch(pinning(dead_url()), f"dir:{tmp_path}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/x.tar?token=1#f", "https://host/x.tar"),
        ("https://host:8080/x", "https://host:8080/x"),
        ("git@host:repo", "git@host:repo"),
        ("/a/path", "/a/path"),
    ],
)
def test_without_password(text: str, shown: str) -> None:
    assert address.without_password(text) == shown


def test_a_name_that_nobody_knows_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    assert address.unresolved("nowhere.invalid")
    assert not address.unresolved("127.0.0.1")
    assert not address.unresolved("me:secret@localhost:5000")
    assert not address.unresolved("[::1]:5000")
    assert address.unresolved("nowhere.invalid:5000")
    url = "https://nowhere.invalid/glibc-2.99.tar"
    assert address.reachable([url]) == (False, f"{url}: the name cannot be resolved")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # it is asked for names: this machine knows none
    assert not address.unresolved("nowhere.invalid")
    assert address.reachable([url]) == (False, f"{url}: connection refused")


def test_split_git_takes_the_last_at_sign() -> None:
    assert vcs.split_git("ssh://me@host/repo.git@release/2.34/master") == (
        "ssh://me@host/repo.git",
        "release/2.34/master",
    )
