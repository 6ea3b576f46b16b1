"""The store: a result is there whole or not at all, made once, found again, named by all its inputs."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import clean
from pipeline.core import store
from pipeline.core.errors import ExitCode, NoSpace

INPUTS = {"b": [1, {"c": None}], "a": "ä"}


def fill(directory: Path) -> None:
    (directory / "result").write_text("whole")


def never(directory: Path) -> None:
    raise AssertionError(f"made again in {directory}")


def left_over(base: Path) -> list[str]:
    """Names that are neither a result nor a lock."""
    return [p.name for p in base.iterdir() if p.name.startswith(".") and not p.name.endswith(".lock")]


def test_made_once_then_found(state: Path) -> None:
    first = store.produce("kind", INPUTS, fill)
    again = store.produce("kind", INPUTS, never)
    assert (first.reused, again.reused) == (False, True)
    assert first.path == again.path == state / "kind" / first.key
    assert first.inputs == INPUTS
    assert (first.path / "result").read_text() == "whole"
    assert first.path.stat().st_mode & 0o777 == 0o755  # mkdtemp's 0700 would hide it from containers
    assert left_over(state / "kind") == []


def test_the_key_depends_on_kind_and_every_input_but_not_on_order() -> None:
    keys = {
        store.key_of("kind", INPUTS),
        store.key_of("other", INPUTS),
        store.key_of("kind", {**INPUTS, "a": "a"}),
        store.key_of("kind", {**INPUTS, "b": [1, {"c": 0}]}),
        store.key_of("kind", {**INPUTS, "d": ""}),
    }
    assert len(keys) == 5
    assert store.key_of("kind", dict(reversed(INPUTS.items()))) == store.key_of("kind", INPUTS)


def test_old_results_are_not_found_when_the_format_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    store.produce("kind", INPUTS, fill)
    monkeypatch.setattr(store, "FORMAT", store.FORMAT + 1)
    assert store.peek("kind", INPUTS) is None


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(1)])
def test_if_making_fails_nothing_is_there_and_it_can_be_made_again(state: Path, error: BaseException) -> None:
    def half(directory: Path) -> None:
        fill(directory)
        (directory / "read-only").mkdir()
        (directory / "read-only" / "file").touch()
        (directory / "read-only").chmod(0o555)
        raise error

    with pytest.raises(type(error)):
        store.produce("kind", INPUTS, half)
    assert store.peek("kind", INPUTS) is None
    assert left_over(state / "kind") == []
    assert not store.produce("kind", INPUTS, fill).reused


def test_the_reason_is_not_hidden_by_a_clean_up_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def stubborn(path: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))

    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "remove_tree", stubborn)
    with pytest.raises(KeyboardInterrupt):
        store.produce("kind", INPUTS, interrupted)


def test_what_a_killed_process_left_is_removed_and_never_taken_for_whole(state: Path) -> None:
    key = store.key_of("kind", INPUTS)
    stale = state / "kind" / f".{key}.tmp-killed"
    of_another = state / "kind" / f".{'0' * 32}.tmp-at-work"
    stale.mkdir(parents=True)
    of_another.mkdir()
    fill(stale)
    assert store.peek("kind", INPUTS) is None
    store.produce("kind", INPUTS, fill)
    assert left_over(state / "kind") == [of_another.name]


def test_a_directory_without_its_record_is_not_whole(state: Path) -> None:
    broken = state / "kind" / store.key_of("kind", INPUTS)
    broken.mkdir(parents=True)
    (broken / "half").touch()
    assert store.peek("kind", INPUTS) is None
    entry = store.produce("kind", INPUTS, fill)
    assert sorted(p.name for p in entry.path.iterdir()) == ["inputs.json", "result"]


def test_threads_make_it_once() -> None:
    made: list[Path] = []

    def slowly(directory: Path) -> None:
        made.append(directory)
        time.sleep(0.3)
        fill(directory)

    entries: list[store.Stored] = []
    threads = [
        threading.Thread(target=lambda: entries.append(store.produce("kind", INPUTS, slowly)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted(e.reused for e in entries) == [False] + [True] * 5


def test_processes_make_it_once_and_one_takes_over_from_a_killed_one(state: Path, tmp_path: Path) -> None:
    driver = (
        "import os, signal, sys, time; from pathlib import Path; from pipeline.core import store\n"
        "def make(directory):\n"
        "    with open(sys.argv[1], 'a') as f: print(os.getpid(), file=f)\n"
        "    if sys.argv[2] == 'die': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    time.sleep(0.5)\n"
        "store.produce('kind', {'x': 1}, make)\n"
    )
    made = tmp_path / "made"

    def start(how: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", driver, str(made), how], env=os.environ)

    assert start("die").wait(30) == -9
    assert left_over(state / "kind") != []
    assert [p.wait(30) for p in [start("live") for _ in range(3)]] == [0, 0, 0]
    assert len(made.read_text().split()) == 2
    assert left_over(state / "kind") == []


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_space(state: Path, code: int) -> None:
    def make(_: Path) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(NoSpace, match=r"no space left in .*kind") as failed:
        store.produce("kind", INPUTS, make)
    assert "PIPELINE_STATE" in failed.value.hint
    assert failed.value.exit_code is ExitCode.WORLD
    assert left_over(state / "kind") == []


@pytest.mark.parametrize("where", ["tempfile.mkdtemp", "pathlib.Path.write_text", "pathlib.Path.mkdir"])
def test_a_disk_that_is_full_for_our_own_files_is_no_space(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, full)
    with pytest.raises(NoSpace):
        store.produce("kind", INPUTS, lambda _: None)


def test_other_errors_go_on_as_they_are() -> None:
    def make(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        store.produce("kind", INPUTS, make)


def _tree(top: Path) -> Path:
    (top / "d" / "e").mkdir(parents=True)
    (top / "d" / "a").write_text("one")
    (top / "d" / "e" / "b").write_text("two")
    (top / "link").symlink_to("d/a")
    (top / "dirlink").symlink_to("d")
    (top / ".git").mkdir()
    (top / ".git" / "HEAD").write_text("x")
    return top


@pytest.mark.parametrize(
    "change",
    [
        lambda t: (t / "d" / "a").write_text("One"),
        lambda t: (t / "d" / "a").rename(t / "d" / "c"),
        lambda t: (t / "d" / "e" / "b").rename(t / "d" / "b"),
        lambda t: (t / "d" / "a").chmod(0o755),
        lambda t: (t / "d" / "a").unlink(),
        lambda t: (t / "new").touch(),
        lambda t: ((t / "link").unlink(), (t / "link").symlink_to("d/e/b")),
        lambda t: ((t / "dirlink").unlink(), (t / "dirlink").symlink_to("d/e")),
        lambda t: ((t / "link").unlink(), (t / "link").write_text("d/a")),
    ],
    ids=["bytes", "name", "place", "executable", "gone", "empty-file", "link", "dir-link", "kind"],
)
def test_a_trees_hash_sees(tmp_path: Path, change: Callable[[Path], object]) -> None:
    tree = _tree(tmp_path / "tree")
    before = store.tree_sha256(tree)
    change(tree)
    assert store.tree_sha256(tree) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda t: (t / "d" / "a").write_text("One"),
        lambda t: (t / "d" / "a").rename(t / "d" / "c"),
        lambda t: (t / "d" / "a").chmod(0o600),
        lambda t: (t / "d").chmod(0o700),
        lambda t: (t / "d" / "a").unlink(),
        lambda t: (t / "new").touch(),
        lambda t: (t / "empty").mkdir(),
        lambda t: ((t / "link").unlink(), (t / "link").symlink_to("d/e/b")),
        lambda t: (t / store.SEAL).write_text("0" * 64),
    ],
    ids=["bytes", "name", "mode", "directory-mode", "gone", "file", "directory", "link", "seal"],
)
@pytest.mark.parametrize("kind", sorted(store.SEALED))
def test_what_verdicts_rest_on_is_made_anew_if_it_was_changed(
    kind: str, change: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    def make(into: Path) -> None:
        _tree(into)

    entry = store.produce(kind, INPUTS, make)
    before = store.content_sha256(entry.path)
    store._looked_at.clear()  # as another process
    again = store.produce(kind, INPUTS, make)
    assert again.reused
    store._looked_at.clear()
    change(entry.path)
    after = store.produce(kind, INPUTS, make)
    assert not after.reused
    assert store.content_sha256(after.path) == before
    assert "was changed since it was made" in " ".join(capfd.readouterr().err.split())


def test_clean_drops_whatever_is_kept() -> None:
    assert set(clean.CHEAP) >= store.SEALED


@pytest.mark.parametrize("kind", ["build", "kernel", "observation", "sysroot"])
def test_a_result_of_other_inputs_is_not_taken_whatever_its_name(kind: str) -> None:
    """What was seen of a good release, copied to where a bad one's would lie, was not seen of that."""

    def make(into: Path) -> None:
        (into / "f").write_text("all green")

    good = store.produce(kind, INPUTS, make)
    bad = {**INPUTS, "roots": "of another release"}
    shutil.copytree(good.path, good.path.parent / store.key_of(kind, bad))
    assert store.peek(kind, bad) is None
    assert store.peek(kind, INPUTS) is not None


@pytest.mark.parametrize("record", ["", "null", "[1]", "{"])
def test_a_result_whose_inputs_cannot_be_read_is_not_whole(record: str) -> None:
    entry = store.produce("build", INPUTS, lambda into: (into / "f").touch())
    store._looked_at.clear()
    (entry.path / store.INPUTS).write_text(record)
    assert store.peek("build", INPUTS) is None


def test_without_its_seal_nothing_is_known_of_a_result() -> None:
    entry = store.produce("sysroot", INPUTS, lambda into: (into / "f").touch())
    (entry.path / store.SEAL).unlink()
    store._looked_at.clear()
    assert store.peek("sysroot", INPUTS) is None


def test_a_trees_hash_does_not_see_times_owners_or_history(tmp_path: Path) -> None:
    one, other = _tree(tmp_path / "one"), _tree(tmp_path / "other")
    os.utime(one / "d" / "a", (0, 0))
    (one / "d" / "a").chmod(0o600)
    (one / ".git" / "HEAD").write_text("y")
    assert store.tree_sha256(one) == store.tree_sha256(other)
    assert store.tree_sha256(one, ignore=()) != store.tree_sha256(other, ignore=())


def test_a_tree_that_cannot_be_read_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        store.tree_sha256(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [0, 1, store.AT_ONCE, store.AT_ONCE + 1])
def test_a_files_hash_is_of_all_its_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert store.file_sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_walk_sees_all_there_is_once_and_in_order(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree")
    seen = [entry.where for entry in store.walk(tree)]
    assert sorted(seen) == sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*"))
    assert len(seen) == len(set(seen))
    kinds = {e.where: (e.link, e.file, e.directory) for e in store.walk(tree)}
    assert kinds["dirlink"] == (True, False, False)  # and not what it leads to
    assert kinds["d"] == (False, False, True)
    assert kinds["d/a"] == (False, True, False)


def test_a_file_is_read_again_when_it_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    digest = hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        reads.append(name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    monkeypatch.setattr(store, "AT_ONCE", 0)
    file = tmp_path / "file"
    for text in ("one", "two", "one"):  # within one tick of the clock, perhaps, and of one size
        file.write_text(text)
        assert store.file_sha256(file) == hashlib.sha256(text.encode()).hexdigest()
    assert len(reads) == 3
    monkeypatch.setattr(store, "SETTLED_NS", -1)  # as if it had been there for long
    link = tmp_path / "link"
    link.hardlink_to(file)
    assert {store.file_sha256(file), store.file_sha256(link)} == {hashlib.sha256(b"one").hexdigest()}
    assert len(reads) == 4
    status = file.stat()
    time.sleep(0.02)
    file.write_text("two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # the change of the inode tells it
    assert store.file_sha256(file) == hashlib.sha256(b"two").hexdigest()


def test_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "d" / "f"
    store.write_atomically(file, "old")
    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(NoSpace, match="no space left to write"):
        store.write_atomically(file, b"new")
    assert file.read_text() == "old"
    assert [p.name for p in file.parent.iterdir()] == ["f"]
    assert file.stat().st_mode & 0o777 == 0o644


def test_remove_tree_of_what_is_not_there(tmp_path: Path) -> None:
    store.remove_tree(tmp_path / "nowhere")
