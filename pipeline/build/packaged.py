"""A Debian release's own packages as a release to judge: nothing is built, and nothing of them is changed.

They are unpacked as dpkg would unpack them. Compilers are called with the directories of RPM-based
distributions, so files that programs are made with are linked to from there, and Debian's second directory of
headers is joined with the first; what runs stays where the packages put it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path

from pipeline.build.supplied import manifest_of
from pipeline.core import store
from pipeline.core.arch import Arch
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Target
from pipeline.core.records import Built, file_record
from pipeline.core.run import run
from pipeline.debian.apt import PrivateApt
from pipeline.profile import Profile
from pipeline.rpm.payload import inside
from pipeline.rpm.sysroot import check_loader, complete

#: Raised when the root is laid out differently from the same packages.
LAYOUT = 1
#: What programs are linked with; what they are started with has other names.
LINKED_WITH = (".a", ".o", ".so")
#: The kernel's auxiliary vector: bytes of the rseq area that it uses (linux/auxvec.h; from 6.3 on).
AT_RSEQ_FEATURE_SIZE = 27


def packaged(profile: Profile, release: str, machine: Arch, suite: str, into: Path) -> Built:
    """The packages of ``profile.packages`` as ``suite`` of the Debian archive has them now, in ``into``.

    apt verifies the archive's signature and each file. Raises as `PrivateApt` and `judged` do.
    """
    profile.get(release)
    apt = PrivateApt(suite, machine.deb)
    return judged(profile, release, machine, [apt.download_package(n, into) for n in profile.packages], suite)


def judged(profile: Profile, release: str, machine: Arch, debs: Sequence[Path], suite: str) -> Built:
    """Packages (in one directory or several) as a release; ``suite`` is shown with their version.

    Raises `MalformedInput` if they are not packages of one version of glibc for ``machine``.
    """
    fields = [_fields(deb) for deb in debs]
    versions = {(f["Version"], f["Architecture"]) for f in fields}
    if len(versions) != 1 or fields[0]["Architecture"] != machine.deb:
        listed = ", ".join(f"{f['Package']} {f['Version']} {f['Architecture']}" for f in fields)
        raise MalformedInput(
            f"packages of several versions or architectures: {listed}", hint="run the same command again"
        )
    manifest = manifest_of(
        Target(profile=profile.name, release=release, arch=machine.name),
        f"glibc {fields[0]['Version']} ({suite})",
        tuple(file_record(deb) for deb in debs),
    )
    return Built(manifest=manifest, rpms=debs[0].parent, root=unpacked(debs, machine))


def _fields(deb: Path) -> dict[str, str]:
    text = run(["dpkg-deb", "-f", deb, "Package", "Version", "Architecture"]).text
    return dict(re.findall(r"^(\w+): (\S+)$", text, re.MULTILINE))


def unpacked(debs: Sequence[Path], machine: Arch) -> Path:
    """The root of these packages, made once; `MalformedInput` if they have no loader for ``machine``."""
    inputs = {"arch": machine.name, "debs": sorted(store.file_sha256(d) for d in debs), "layout": LAYOUT}

    def make(directory: Path) -> None:
        root = directory / "root"
        root.mkdir(mode=0o755)
        for deb in debs:
            run(["dpkg-deb", "-x", deb, root])
        _lay_out(root, machine)
        complete(root)
        check_loader(root, machine.name)

    return store.produce("debroot", inputs, make).path / "root"


def _lay_out(root: Path, machine: Arch) -> None:
    """Headers in one directory; links in /usr/lib64 to what programs are linked with."""
    include, own = root / "usr/include", root / "usr/include" / machine.triplet
    if own.is_dir():
        for entry in sorted(own.iterdir()):
            if (include / entry.name).exists():
                raise MalformedInput(f"/usr/include/{entry.name} is there twice")
            entry.rename(include / entry.name)
        own.rmdir()
    libraries, links = root / "usr/lib" / machine.triplet, root / "usr/lib64"
    if not libraries.is_dir():
        return
    links.mkdir(exist_ok=True)
    for entry in sorted(libraries.iterdir()):
        if entry.suffix in LINKED_WITH and inside(root, str(entry.relative_to(root))).is_file():
            (links / entry.name).symlink_to(f"../lib/{machine.triplet}/{entry.name}")


def announced_size(auxv: Path = Path("/proc/self/auxv")) -> int:
    """Bytes of the rseq area that the running kernel uses; 0 if it does not say."""
    words = struct.iter_unpack("@NN", auxv.read_bytes())
    return next((value for kind, value in words if kind == AT_RSEQ_FEATURE_SIZE), 0)
