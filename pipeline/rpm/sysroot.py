"""From a release's RPMs to its root: every package unpacked as one file system that programs run in.

Nothing of it is ever run to make it: no scriptlet, no ldconfig (ld.so finds the libraries in its default
directories without a cache).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pipeline.core import store
from pipeline.core.arch import Arch, arch
from pipeline.core.errors import EvidenceError, MalformedInput
from pipeline.rpm import coherence, package
from pipeline.rpm.payload import inside

#: what a place mounts or lays over the root, and what programs expect to be there
EMPTY = ("dev", "probes", "proc", "root", "sys", "tmp")
#: the links of a merged /usr, which a distribution's `filesystem` package has and glibc's do not
MERGED = ("lib", "lib64", "bin", "sbin")


def is_wanted(rpm: package.Rpm) -> bool:
    """Whether a package belongs in the root: debug information, debug sources and source packages do not."""
    return not rpm.is_source and not rpm.name.endswith(("-debuginfo", "-debugsource", "-debuginfo-common"))


def architecture(rpms: Sequence[package.Rpm], expected: Arch | None) -> str:
    """The one architecture of the packages (``noarch`` goes with any).

    Raises `MalformedInput` naming the packages that are not for ``expected``, or that differ.
    """
    by_arch: dict[str, list[str]] = {}
    for rpm in rpms:
        if rpm.arch != "noarch":
            by_arch.setdefault(rpm.arch, []).append(rpm.path.name)
    hint = "give the packages of one release and one architecture"
    if expected is not None:
        for name, files in by_arch.items():
            if name != expected.name:
                raise MalformedInput(
                    f"{', '.join(sorted(files))}: for {name}, expected {expected.name}", hint=hint
                )
        return expected.name
    if len(by_arch) != 1:
        listed = "; ".join(f"{a}: {', '.join(sorted(f))}" for a, f in sorted(by_arch.items()))
        raise MalformedInput(
            f"packages of several architectures in one release: {listed}"
            if by_arch
            else "no package for any architecture among: " + ", ".join(r.path.name for r in rpms),
            hint=hint,
        )
    return next(iter(by_arch))


def extract(rpms: Sequence[Path], machine: Arch | None = None, *, judged: bool = False) -> Path:
    """The directory that holds all packages of one release as one root, made once for these very files.

    ``machine`` is the architecture expected; None takes the one of the packages. ``judged``: checks look for
    what the packages disagree about (`pipeline.check.packages`); otherwise that is refused here, for what is
    unpacked would not be what rpm installs. Each package's digests
    are checked first. Where /lib64 and its like are not in the packages but /usr/lib64 is, the links of a
    merged /usr are made; where packages put files under /lib64 it stays a directory.

    Raises `MalformedInput`: a damaged package, a wrong or mixed architecture, two versions of one package,
    no loader where programs look for it, and (unless ``judged``) packages with different things at one path
    or with a payload that is not as its header says. `EvidenceError` if there is no package at all.
    """
    if not rpms:
        raise EvidenceError(
            "there are no RPMs to make a root of", hint="`nox -s build` makes them, or name others by --rpms"
        )
    read = sorted((package.verify(path) for path in rpms), key=lambda r: (r.name, r.path.name))
    wanted = [rpm for rpm in read if is_wanted(rpm)]
    name = architecture(wanted, machine)
    for one, two in pairwise(wanted):
        if one.name == two.name:
            raise MalformedInput(
                f"{one.path.name} and {two.path.name} are the same package twice",
                hint="keep the one that belongs to the release",
            )
    if not judged:
        _refuse_disagreement(wanted)
    # the package with the links of a merged /usr must come before those with files below them
    wanted.sort(key=lambda r: r.name != "filesystem")
    inputs = {
        "arch": name,
        "rpms": [[r.name, store.file_sha256(r.path)] for r in wanted],
        "layout": 1,  # raised when the root is laid out differently from the same packages
    }

    def make(directory: Path) -> None:
        root = directory / "root"
        root.mkdir(mode=0o755)
        for rpm in wanted:
            package.extract(rpm.path, root, first_stays=judged)
        complete(root)
        check_loader(root, name)

    return store.produce("sysroot", inputs, make).path / "root"


def _refuse_disagreement(rpms: Sequence[package.Rpm]) -> None:
    found = coherence.conflicts(rpms)
    found += [f"{r.path.name}: {fault}" for r in rpms for fault in coherence.payload_faults(r.path)]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise MalformedInput(
            f"rpm would not install what these packages hold: {found[0]}{more}",
            hint="give the packages of one build; `nox -s verify -- --rpms RELEASE=DIR` names every fault",
        )


def root_sha256(root: Path) -> str:
    """sha256 over every file of a root: name, kind, permissions and bytes.

    Two roots with the same one behave the same, whichever packages they came from. Of a stored root that this
    process found as it was made, it is made up once. Raises OSError.
    """
    if not store.looked_at(root.parent):
        return _sha256(root)
    if root not in _of_stored:
        _of_stored[root] = _sha256(root)
    return _of_stored[root]


_of_stored: dict[Path, str] = {}


def _sha256(root: Path) -> str:
    total = hashlib.sha256()
    for entry in store.walk(root):
        if entry.directory:
            continue
        content = ""
        if entry.link:
            content = os.readlink(entry.path)  # noqa: PTH115
        elif entry.file:
            content = store.file_sha256(entry.path)
        line = f"{entry.where}\0{entry.status.st_mode:o}\0{content}\n"
        total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest()


def complete(root: Path) -> None:
    """Make the directories that places need (`EMPTY`) and the links of a merged /usr, if absent."""
    for directory in EMPTY:
        path = root / directory
        if not path.is_symlink():
            path.mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for directory in MERGED:
        path = root / directory
        if not path.exists() and not path.is_symlink() and (root / "usr" / directory).is_dir():
            path.symlink_to(f"usr/{directory}")


def check_loader(root: Path, name: str) -> None:
    """The loader is an ELF file of the architecture, at the path that programs name in PT_INTERP.

    Raises `MalformedInput`.
    """
    machine = arch(name)
    where = inside(root, machine.interp)
    if not where.is_file():
        raise MalformedInput(
            f"no package has {machine.interp}, so no program could start on this release",
            hint="give all packages of the release, the one called glibc among them",
        )
    with where.open("rb") as file:
        head = file.read(20)
    if len(head) < 20 or not head.startswith(b"\x7fELF\x02\x01"):
        raise MalformedInput(
            f"{machine.interp} is no 64-bit little-endian ELF file", hint="fetch or build the packages again"
        )
    (found,) = struct.unpack_from("<H", head, 18)
    if found != machine.elf_machine:
        raise MalformedInput(
            f"{machine.interp} is for ELF machine {found}, the package says {name} ({machine.elf_machine})",
            hint="the build mixed architectures up; build the release again",
        )
