"""Kernels for virtual machines: a Debian package's, or any image the user names.

A Debian kernel has parts of virtio as modules (6.1) or built in (6.12); which is which is read from the
package (``modules.builtin``), and what must be loaded, in which order, from the modules' own ``depends=``.
"""

from __future__ import annotations

import gzip
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.core import progress, store
from pipeline.core.arch import Arch
from pipeline.core.errors import MalformedInput, SourceUnreachable, UsageError, reason
from pipeline.debian.apt import PrivateApt
from pipeline.profile import Kernel, Profile

#: What init needs to reach the result port: the bus QEMU puts devices on, and the port's driver.
NEEDED_MODULES = ("virtio_pci", "virtio_console")
#: Directories of a kernel package's modules where `NEEDED_MODULES` and all they depend on lie.
MODULE_DIRECTORIES = ("kernel/drivers/virtio/", "kernel/drivers/char/")
#: Changes with the shape of what is stored.
FORMAT = 1
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


def fetch(profile: Profile, kernel_name: str, arch: Arch) -> KernelImage:
    """The kernel that the profile calls ``kernel_name``, for ``arch``, from its Debian package.

    Raises `UsageError` if the profile names no such kernel, and what `pipeline.debian.apt` raises if the
    package cannot be had.
    """
    kernel = named(profile, kernel_name, arch)
    apt = PrivateApt(kernel.suite, arch.deb, max_age=MAX_AGE)
    try:
        return _from_apt(apt, kernel.packages[arch.name], arch)
    except SourceUnreachable:  # what old lists name may have left the archive
        apt.refresh(force=True)
        return _from_apt(apt, kernel.packages[arch.name], arch)


def _from_apt(apt: PrivateApt, name: str, arch: Arch) -> KernelImage:
    package = apt.resolve_dependency(name, "linux-image-")
    version = apt.candidate(package)
    inputs = {"format": FORMAT, "package": package, "version": version, "arch": arch.name}

    def make(directory: Path) -> None:
        with progress.step(f"kernel {package} {version}") as step:
            deb = apt.download_package(package, directory / "deb", on_progress=step.at)
            step.at("unpacking")
            unpack(deb, directory)
            store.remove_tree(directory / "deb")

    entry = store.produce("kernel", inputs, make)
    return _stored(entry.path, f"{package} {version}")


def named(profile: Profile, name: str, arch: Arch) -> Kernel:
    """The kernel that the profile calls ``name``, for ``arch``; raises `UsageError` if there is none."""
    have = [k for k in profile.kernel if arch.name in k.packages]
    for kernel in have:
        if kernel.name == name:
            return kernel
    raise UsageError(
        f"profile {profile.name} has no kernel {name!r} for {arch.name}",
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
    """Any kernel image; ``modules`` (in load order) only if it has virtio not built in.

    Raises `UsageError` if it cannot be read.
    """
    try:
        release = release_of(image.read_bytes())
        sha256 = store.file_sha256(image)
    except OSError as e:
        raise UsageError(
            f"kernel {image}: {e.strerror}", hint="name a kernel image that can be read"
        ) from None
    return KernelImage(image.absolute(), release, str(image), sha256, tuple(m.absolute() for m in modules))


def unpack(deb: Path, directory: Path) -> None:
    """Take image, release and needed modules (uncompressed) out of a Debian kernel package.

    Leaves ``vmlinuz``, ``release``, ``modules.order`` and the modules in ``directory``. Raises
    `MalformedInput` if the package holds no kernel or lacks a module that others need.
    """
    image, release = b"", ""
    builtin = ""
    modules: dict[str, bytes] = {}
    try:
        with _data_tar(deb) as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                source = tar.extractfile(member) if member.isfile() else None
                if source is None:
                    continue
                if name.startswith("boot/vmlinuz-"):
                    image, release = source.read(), name.removeprefix("boot/vmlinuz-")
                elif name.endswith("/modules.builtin"):
                    builtin = source.read().decode()
                elif any(f"/{d}" in name for d in MODULE_DIRECTORIES) and ".ko" in name:
                    modules[module_name(name)] = _plain_module(name, source.read())
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as e:
        raise MalformedInput(f"{deb.name} cannot be unpacked: {reason(e)}", hint="fetch it again") from e
    if not image:
        raise MalformedInput(f"{deb.name} holds no boot/vmlinuz-*", hint="name a kernel image package")
    order = load_order(modules, {module_name(line) for line in builtin.split()}, deb.name)
    (directory / "vmlinuz").write_bytes(image)
    (directory / "release").write_text(f"{release}\n")
    for name in order:
        (directory / f"{name}.ko").write_bytes(modules[name])
    (directory / "modules.order").write_text("".join(f"{name}.ko\n" for name in order))


def module_name(path: str) -> str:
    """``kernel/drivers/char/virtio-console.ko.xz`` -> ``virtio_console`` (the kernel takes - as _)."""
    return path.rsplit("/", 1)[-1].split(".ko", maxsplit=1)[0].replace("-", "_")


def load_order(modules: Mapping[str, bytes], builtin: set[str], origin: str) -> list[str]:
    """`NEEDED_MODULES` that are not built in, each after all it depends on.

    ``modules``: name -> content. Raises `MalformedInput` if one is neither there nor built in.
    """
    order: list[str] = []

    def add(name: str, wanted_by: str) -> None:
        if name in builtin or name in order:
            return
        if name not in modules:
            raise MalformedInput(
                f"{origin} has no module {name}, which {wanted_by} needs",
                hint="choose a kernel with virtio_pci and virtio_console",
            )
        for dependency in depends(modules[name]):
            add(dependency, name)
        order.append(name)

    for needed in NEEDED_MODULES:
        add(needed, "the virtual machine")
    return order


def depends(module: bytes) -> list[str]:
    """Names of the modules that a module's ``.modinfo`` section says it depends on."""
    found = re.search(rb"(?:^|\0)depends=([^\0]*)\0", module)
    return [n.replace("-", "_") for n in found[1].decode().split(",") if n] if found else []


def _plain_module(name: str, content: bytes) -> bytes:
    if name.endswith(".xz"):
        return lzma.decompress(content)
    if name.endswith(".gz"):
        return gzip.decompress(content)
    return content


@contextmanager
def _data_tar(deb: Path) -> Iterator[tarfile.TarFile]:
    """``data.tar.*`` of a Debian package, as a stream."""
    with deb.open("rb") as f:
        name = _seek_member(f, "data.tar")
        kind = name.removeprefix("data.tar").removeprefix(".")
        if kind not in ("xz", "gz", "bz2", ""):
            raise MalformedInput(
                f"{deb.name} is compressed with {kind}, which is not understood here",
                hint="unpack it (dpkg-deb -x) and name the image with --kernel PATH",
            )
        with tarfile.open(fileobj=f, mode="r|*") as tar:
            yield tar


def _seek_member(f: IO[bytes], prefix: str) -> str:
    """Go to the data of the first member of an ar archive whose name begins so; return that name.

    The form (man 5 ar): ``!<arch>\\n``, then members, each with a header of 60 bytes: name (16), time,
    owner, group, mode (32 together), size (10, decimal), and a backtick with a newline; members begin at
    even offsets.
    """
    if f.read(8) != b"!<arch>\n":
        raise MalformedInput(f"{f.name} is no Debian package", hint="fetch it again")
    while len(header := f.read(60)) == 60 and header[58:] == b"`\n":
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        if name.startswith(prefix):
            return name
        size = int(header[48:58])
        f.seek(size + size % 2, 1)
    raise MalformedInput(f"{f.name} holds no {prefix}", hint="fetch it again")


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
