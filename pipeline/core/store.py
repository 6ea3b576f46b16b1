"""Results under the hash of all their inputs.

A result is a directory that appears all at once (rename), beside a record of the inputs it was made from.
What is half-written has another name and is never taken for whole. One builder works on a result at a
time; a second one waits and then finds it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from pipeline.core import paths
from pipeline.core.errors import NoSpace, is_disk_full
from pipeline.core.progress import warn

#: Raised when the meaning of stored results changes, so that old ones are not taken for new ones.
FORMAT = 1
INPUTS = "inputs.json"
#: sha256 of all that is in a result, written when it is made.
SEAL = "content.sha256"
#: Kinds of results that verdicts rest on. What was changed since it was made is made anew, never judged. (A
#: build takes long and has its own record of each RPM: what is wrong with one is said, not built again.)
SEALED = frozenset(
    {
        "sysroot", "debroot", "probes", "probes-against", "observation", "probe-rpm", "image-tools",
        "rpm-transactions", "rpm-payload", "rpm-marks", "rpm-installation", "rebuild", "devel",
        "devel-headers", "present", "packed", "charsets", "archives", "drawing", "naming",
        "elf-facts",
    }
)  # fmt: skip
#: Results whose seal was looked at by this process: once is enough, for they are large.
_looked_at: set[Path] = set()


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


#: What this process read before: device, inode, size and both times of a file -> its sha256.
_read_before: dict[tuple[int, ...], str] = {}
#: A file whose times are nearer than this may be written again without another time (as in git's index).
SETTLED_NS = 2_000_000_000
#: Bytes of a file that is read at once; a larger one is read in pieces.
AT_ONCE = 1 << 20


def file_sha256(path: str | os.PathLike[str]) -> str:
    """sha256 of a file's bytes, hexadecimal.

    A file is read again only if its size or times changed since this process read it. Raises OSError.
    """
    if found := _read_before.get(identity(os.stat(path))):  # noqa: PTH116
        return found
    with open(path, "rb", buffering=0) as f:  # noqa: PTH123  # for thousands of small files
        status = os.fstat(f.fileno())
        if status.st_size <= AT_ONCE:
            found = hashlib.sha256(f.read()).hexdigest()
        else:
            found = hashlib.file_digest(f, "sha256").hexdigest()
        if key := identity(status):
            _read_before[key] = found
    return found


def identity(status: os.stat_result) -> tuple[int, ...]:
    """What tells whether a file was read before by this process; nothing if that cannot be told."""
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    if not stat.S_ISREG(status.st_mode) or time.time_ns() - changed <= SETTLED_NS:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Entry(NamedTuple):
    """Something in a directory: where it is below the top of the walk, how it is opened, what it is."""

    where: str
    path: str
    status: os.stat_result

    @property
    def link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    @property
    def directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


def walk(top: str | os.PathLike[str], *, ignore: tuple[str, ...] = (), below: str = "") -> Iterator[Entry]:
    """All that is below ``top``: what a directory has by its names in order, then what its directories have.

    ``ignore``: names that are passed over, with all below them. Raises OSError for what cannot be read.
    """
    with os.scandir(top) as found:
        there = sorted((e for e in found if e.name not in ignore), key=lambda e: e.name)
    entries = [Entry(below + e.name, e.path, e.stat(follow_symlinks=False)) for e in there]
    yield from entries
    for entry in entries:
        if entry.directory:
            yield from walk(entry.path, ignore=ignore, below=f"{entry.where}/")


def tree_sha256(root: Path, *, ignore: tuple[str, ...] = (".git",)) -> str:
    """sha256 over names, kinds, executable bits and bytes of every file and link below ``root``.

    Empty directories do not count, as git knows none. Raises OSError for what cannot be read.
    """
    total = hashlib.sha256()
    for entry in walk(root, ignore=ignore):
        if entry.link:
            total.update(f"l {entry.where} {os.readlink(entry.path)}\n".encode())  # noqa: PTH115
        elif entry.file:
            mode = "x" if entry.status.st_mode & 0o111 else "-"
            total.update(f"f{mode} {entry.where} {file_sha256(entry.path)}\n".encode())
    return total.hexdigest()


def content_sha256(root: Path) -> str:
    """sha256 over names, kinds, modes, link targets and bytes of everything in a result but its own records.

    Raises OSError for what cannot be read.
    """
    total = hashlib.sha256()
    for entry in walk(root):
        if entry.where in (INPUTS, SEAL):
            continue
        what = f"{entry.status.st_mode:o} {entry.where}"
        if entry.link:
            what += f" {os.readlink(entry.path)}"  # noqa: PTH115
        elif entry.file:
            what += f" {file_sha256(entry.path)}"
        total.update(os.fsencode(f"{what}\n"))
    return total.hexdigest()


def _seal(result: Path) -> None:
    (result / SEAL).write_text(content_sha256(result) + "\n")


def _whole(result: Path, kind: str) -> bool:
    """Whether a result is as it was made, and made of what its name says: not another's copy.

    Raises OSError, or ValueError for a record that cannot be read.
    """
    if result in _looked_at:
        return True
    if key_of(kind, json.loads((result / INPUTS).read_text())) != result.name:
        return False
    if kind not in SEALED:
        return True
    if (result / SEAL).read_text().strip() != content_sha256(result):
        return False
    _looked_at.add(result)
    return True


@dataclass(frozen=True)
class Learned:
    """What a process learned of files: sha256 of those it read, and results that are as they were made."""

    files: Mapping[tuple[int, ...], str]
    results: frozenset[Path]


def learned(before: Learned | None = None) -> Learned:
    """What this process learned, ``before`` left out."""
    known = before or Learned({}, frozenset())
    files = {key: found for key, found in _read_before.items() if key not in known.files}
    return Learned(files, frozenset(_looked_at) - known.results)


def learn(of_another: Learned) -> None:
    """Take over what a process learned that began as a copy of this one."""
    _read_before.update(of_another.files)
    _looked_at.update(of_another.results)


def looked_at(result: Path) -> bool:
    """Whether this process has compared a result with its seal, and found it as it was made."""
    return result in _looked_at


@dataclass(frozen=True)
class Stored:
    """A whole result: its directory, its key, and whether it was there already."""

    path: Path
    key: str
    reused: bool

    @property
    def inputs(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.path / INPUTS).read_text())
        return loaded


def key_of(kind: str, inputs: Mapping[str, Any]) -> str:
    """The key (32 hexadecimal digits) of what these inputs make."""
    return digest({"format": FORMAT, "kind": kind, "inputs": dict(inputs)})[:32]


def peek(kind: str, inputs: Mapping[str, Any]) -> Stored | None:
    """The result if it is there and as it was made (`SEALED`), without making it."""
    key = key_of(kind, inputs)
    final = paths.state() / kind / key
    if not (final / INPUTS).is_file():
        return None
    try:
        whole = _whole(final, kind)
    except (OSError, ValueError, TypeError):  # what cannot be read is not what was made
        whole = False
    if not whole:
        warn(f"{final} was changed since it was made, so it is not used; it is made anew")
        (final / INPUTS).unlink(missing_ok=True)  # without its record it is not whole
        return None
    return Stored(final, key, True)


def produce(kind: str, inputs: Mapping[str, Any], make: Callable[[Path], None]) -> Stored:
    """The result of ``kind`` for ``inputs``; ``make(directory)`` fills it if it is not there yet.

    If ``make`` raises, nothing appears and the error goes on. A full disk becomes `NoSpace`.
    """
    found = peek(kind, inputs)
    if found:
        return found
    key = key_of(kind, inputs)
    base = paths.state() / kind
    try:
        base.mkdir(parents=True, exist_ok=True)
        with FileLock(base / f".{key}.lock"):
            found = peek(kind, inputs)
            if found:
                return found
            for stale in base.glob(f".{key}.tmp-*"):  # we hold the lock: no process works on these
                remove_tree(stale)
            work = Path(tempfile.mkdtemp(prefix=f".{key}.tmp-", dir=base))
            try:
                work.chmod(0o755)
                make(work)
                if kind in SEALED:
                    _seal(work)
                (work / INPUTS).write_text(json.dumps(dict(inputs), indent=1, sort_keys=True) + "\n")
                final = base / key
                if final.exists():  # without its record, so not whole
                    remove_tree(final)
                work.rename(final)
                _looked_at.add(final)
            except BaseException:
                with suppress(OSError):  # what stays has a name that is never taken for a whole result
                    remove_tree(work)
                raise
    except OSError as e:
        if is_disk_full(e):
            raise NoSpace(f"no space left in {base} while making {kind}") from e
        raise
    return Stored(base / key, key, False)


def remove_tree(path: Path) -> None:
    """Remove a directory, also one whose directories are not writable; nothing if it is not there."""
    if not path.exists():
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        path.chmod(0o755)
        for directory, dirs, _ in os.walk(path):
            for name in dirs:
                below = Path(directory, name)
                if not below.is_symlink():
                    below.chmod(0o755)
        shutil.rmtree(path)


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where it can be had, for files that are only read from now on; else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = data.encode() if isinstance(data, str) else data
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as f:
            try:
                f.write(raw)
                f.flush()
                os.fchmod(f.fileno(), 0o644)
                Path(f.name).rename(path)
            except BaseException:
                Path(f.name).unlink(missing_ok=True)
                raise
    except OSError as e:
        if is_disk_full(e):
            raise NoSpace(f"no space left to write {path}", hint="free some space and run it again") from e
        raise
