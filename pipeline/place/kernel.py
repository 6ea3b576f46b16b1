"""Kernels for virtual machines: a Debian package's, or any image, Debian package or RPM the user names."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import progress, store
from pipeline.core.arch import Arch
from pipeline.core.errors import SourceUnreachable, UsageError
from pipeline.debian.apt import PrivateApt
from pipeline.place import kernelpackage
from pipeline.profile import Kernel, Profile

#: Packages of a kernel whose image package is empty (Debian's from 7.x on), by the beginning of their names;
#: the first has the image, the last says what is built in.
PARTS = ("linux-binary-", "linux-modules-", "linux-base-")
#: Changes with the shape of what is stored.
FORMAT = 2
#: Package lists younger than a week do: a kernel that was judged on once is found again without network.
MAX_AGE = 7 * 86400.0


@dataclass(frozen=True)
class KernelImage:
    """A kernel to boot: the image, what ``uname -r`` will say ("" if the image does not tell), where it
    came from (package and version, or a path), sha256 of the image, and modules in load order."""

    image: Path
    release: str
    origin: str
    sha256: str
    modules: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        """What the kernel is called in names of places: its release, else the file's name."""
        return self.release or self.image.name


def fetch(profile: Profile, kernel_name: str, machine: Arch) -> KernelImage:
    """The kernel that the profile calls ``kernel_name``, for ``arch``, from its Debian package.

    Raises `UsageError` if the profile names no such kernel, and what `pipeline.debian.apt` raises if the
    package cannot be had.
    """
    kernel = named(profile, kernel_name, machine)
    apt = PrivateApt(kernel.suite, machine.deb, max_age=MAX_AGE)
    try:
        return _from_apt(apt, kernel.packages[machine.name], machine)
    except SourceUnreachable:  # what old lists name may have left the archive
        apt.refresh(force=True)
        return _from_apt(apt, kernel.packages[machine.name], machine)


def _from_apt(apt: PrivateApt, name: str, machine: Arch) -> KernelImage:
    package = apt.resolve_dependency(name, "linux-image-")
    version = apt.candidate(package)
    inputs = {"format": FORMAT, "package": package, "version": version, "arch": machine.name}

    def make(directory: Path) -> None:
        with progress.step(f"kernel {package} {version}") as step:
            debs = [
                apt.download_package(part, directory / "deb", on_progress=step.at)
                for part in _parts(apt, package)
            ]
            step.at("unpacking")
            kernelpackage.unpack(debs, directory)
            store.remove_tree(directory / "deb")

    entry = store.produce("kernel", inputs, make)
    return _stored(entry.path, f"{package} {version}")


def _parts(apt: PrivateApt, package: str) -> list[str]:
    """The packages with an image package's files: itself, or what it depends on if it is empty."""
    release = package.removeprefix("linux-image-")
    wanted = [f"{part}{release}" for part in PARTS]
    there = apt.dependencies(package)
    return [p for p in wanted if p in there] if wanted[0] in there else [package]


def named(profile: Profile, name: str, machine: Arch) -> Kernel:
    """The kernel that the profile calls ``name``, for ``arch``; raises `UsageError` if there is none."""
    have = [k for k in profile.kernel if machine.name in k.packages]
    for kernel in have:
        if kernel.name == name:
            return kernel
    raise UsageError(
        f"profile {profile.name} has no kernel {name!r} for {machine.name}",
        hint=f"it has: {', '.join(k.name for k in have) or 'none'}; `--kernel ./FILE` takes any kernel image",
    )


def _stored(directory: Path, origin: str) -> KernelImage:
    image = directory / "vmlinuz"
    order = (directory / "modules.order").read_text().split()
    return KernelImage(
        image=image,
        release=(directory / "release").read_text().strip(),
        origin=origin,
        sha256=store.file_sha256(image),
        modules=tuple(directory / name for name in order),
    )


def from_path(image: Path, modules: tuple[Path, ...] = ()) -> KernelImage:
    """Any kernel image, or a package with one; ``modules`` (in load order) only for an image without virtio.

    Raises `UsageError` if it cannot be read, `MalformedInput` for a package without a kernel.
    """
    try:
        if kernelpackage.is_package(image):
            return _from_package(image)
        release = release_of(image.read_bytes())
        sha256 = store.file_sha256(image)
    except OSError as e:
        raise UsageError(
            f"kernel {image}: {e.strerror}", hint="name a kernel image that can be read"
        ) from None
    return KernelImage(image.absolute(), release, str(image), sha256, tuple(m.absolute() for m in modules))


def _from_package(package: Path) -> KernelImage:
    packages = kernelpackage.whole(package)
    inputs = {"format": FORMAT, "packages": [store.file_sha256(p) for p in packages]}
    entry = store.produce("kernel", inputs, lambda into: kernelpackage.unpack(packages, into))
    return _stored(entry.path, package.name)


def machine_of(image: bytes) -> str:
    """The architecture an image is for ("" if its header tells nothing).

    x86: ``HdrS`` at 0x202 (Documentation/arch/x86/boot.rst); arm64: ``ARM\\x64`` at 0x38
    (Documentation/arch/arm64/booting.rst), also after gunzip.
    """
    if image[:2] == b"\x1f\x8b":
        image = _gunzip_start(image)
    if image[0x202:0x206] == b"HdrS":
        return "x86_64"
    return "aarch64" if image[0x38:0x3C] == b"ARM\x64" else ""


def page_kib_of(image: bytes) -> int:
    """The size of memory pages (KiB) that an image is for; 0 if its header does not tell.

    arm64: bits 1 and 2 of the flags at 24 (Documentation/arch/arm64/booting.rst). x86 has 4 KiB pages alone.
    """
    if image[:2] == b"\x1f\x8b":
        image = _gunzip_start(image)
    if image[0x202:0x206] == b"HdrS":
        return 4
    return {1: 4, 2: 16, 3: 64}.get(image[24] >> 1 & 3, 0) if image[0x38:0x3C] == b"ARM\x64" else 0


def release_of(image: bytes) -> str:
    """``uname -r`` of an image, from the x86 header or the ``Linux version`` banner; "" if not found."""
    if image[:2] == b"\x1f\x8b":
        image = zlib.decompressobj(31).decompress(image)
    if image[0x202:0x206] == b"HdrS":
        offset = int.from_bytes(image[0x20E:0x210], "little") + 0x200
        return image[offset : offset + 256].split(b"\0")[0].split(b" ")[0].decode("ascii", "replace")
    found = re.search(rb"Linux version (\S+) \(", image)
    return found[1].decode("ascii", "replace") if found else ""


def _gunzip_start(data: bytes) -> bytes:
    return zlib.decompressobj(31).decompress(data, 0x1000)
