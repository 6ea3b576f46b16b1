"""What a virtual machine needs out of kernel packages: the image, its release, and the modules to load.

A Debian kernel up to 6.x is one package (``boot/vmlinuz-RELEASE``); from 7.x on it is three, whose files lie
below ``usr/lib/modules/RELEASE``. An RPM (``kernel-core``) has ``lib/modules/RELEASE/vmlinuz``; its modules
may be in ``kernel-modules-core``. Which parts of virtio are modules and which are built in is read from the
packages (``modules.builtin``), and what must be loaded, in which order, from the modules' own ``depends=``.
"""

from __future__ import annotations

import gzip
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

import zstandard

from pipeline.core import ar
from pipeline.core.errors import MalformedInput, reason
from pipeline.rpm import package as rpmpackage
from pipeline.rpm.payload import PayloadMember, decompressed

#: What init needs to reach the result port: the bus QEMU puts devices on, and the port's driver.
NEEDED_MODULES = ("virtio_pci", "virtio_console")
#: Directories of a kernel package's modules where `NEEDED_MODULES` and all they depend on lie.
MODULE_DIRECTORIES = ("kernel/drivers/virtio/", "kernel/drivers/char/")
RPM = rpmpackage.LEAD_MAGIC
#: The ending of a deb's data.tar -> rpm's name of the compressor.
COMPRESSORS = {"xz": "xz", "gz": "gzip", "bz2": "bzip2", "zst": "zstd", "": "none"}
#: Names of packages with a kernel's image (RHEL's also kernel-64k-core, kernel-rt-core), and what takes the
#: place of the first group in the names of those that may have the rest of it.
BESIDE = (
    (re.compile(r"kernel(?:-[a-z0-9]+)?-(core)-[0-9].*\.rpm"), ("modules-core",)),
    (re.compile(r"linux-(binary)-[0-9].*\.deb"), ("modules", "base")),
)


def is_package(file: Path) -> bool:
    """Whether a file is a Debian package or an RPM. Raises `OSError`."""
    with file.open("rb") as f:
        return f.read(len(ar.MAGIC)).startswith((ar.MAGIC, RPM))


def whole(package: Path) -> list[Path]:
    """The package with a kernel's image, and those with the rest of it that lie beside it."""
    for form, others in BESIDE:
        if found := form.fullmatch(package.name):
            begin, end = found.span(1)
            beside = [package.with_name(package.name[:begin] + o + package.name[end:]) for o in others]
            return [package, *(p for p in beside if p.is_file())]
    return [package]


def unpack(packages: Sequence[Path], directory: Path) -> None:
    """Take image, release and needed modules (uncompressed) out of a kernel's packages.

    Leaves ``vmlinuz``, ``release``, ``modules.order`` and the modules in ``directory``. Raises
    `MalformedInput` if the packages hold no kernel or lack a module that others need.
    """
    image, release = b"", ""
    builtin = ""
    modules: dict[str, bytes] = {}
    names = " and ".join(p.name for p in packages)
    for package in packages:
        try:
            for name, content in _files(package):
                if found := _release_in(name):
                    image, release = content.read(), found
                elif name.endswith("/modules.builtin"):
                    builtin = content.read().decode()
                elif any(f"/{d}" in name for d in MODULE_DIRECTORIES) and ".ko" in name:
                    modules[module_name(name)] = _plain_module(name, content.read())
        except (tarfile.TarError, lzma.LZMAError, zlib.error, zstandard.ZstdError, EOFError, OSError) as e:
            raise MalformedInput(
                f"{package.name} cannot be unpacked: {reason(e)}", hint="fetch it again"
            ) from e
    if not image:
        raise MalformedInput(
            f"{names} holds no boot/vmlinuz-* and no lib/modules/*/vmlinuz",
            hint="name a package with a kernel's image (Debian: linux-image-* or linux-binary-*; "
            "RPM: kernel-core)",
        )
    order = load_order(modules, {module_name(line) for line in builtin.split()}, names)
    (directory / "vmlinuz").write_bytes(_bootable(image, names))
    (directory / "release").write_text(f"{release}\n")
    for name in order:
        (directory / f"{name}.ko").write_bytes(modules[name])
    (directory / "modules.order").write_text("".join(f"{name}.ko\n" for name in order))


def _release_in(name: str) -> str:
    """The release if ``name`` is where a package has a kernel's image, else ""."""
    if name.startswith("boot/vmlinuz-"):
        return name.removeprefix("boot/vmlinuz-")
    found = re.fullmatch(r"(?:usr/)?lib/modules/([^/]+)/vmlinuz", name)
    return found[1] if found else ""


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
                hint="choose a kernel with virtio_pci and virtio_console; put "
                "kernel-modules-core of the same version beside kernel-core (Debian: linux-modules and "
                "linux-base beside linux-binary)",
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
    if name.endswith(".zst"):
        return _unzstd(content)
    return content


def _unzstd(content: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(content)


def _bootable(image: bytes, origin: str) -> bytes:
    """The image as QEMU can load it.

    Newer AArch64 kernels are EFI programs that unpack themselves (Linux, drivers/firmware/efi/libstub/
    zboot-header.S): ``MZ``, at 4 ``zimg``, then offset and size of the payload (u32 at 8 and 12) and the name
    of its compression (at 24). QEMU before 9.0 does not know them, so they are unpacked here.
    """
    if image[:2] != b"MZ" or image[4:8] != b"zimg":
        return image
    begin, size = (int.from_bytes(image[at : at + 4], "little") for at in (8, 12))
    payload, how = image[begin : begin + size], image[24:32].split(b"\0")[0].decode("ascii", "replace")
    unpackers = {"gzip": gzip.decompress, "zstd": _unzstd, "xz": lzma.decompress, "lzma": lzma.decompress}
    if how not in unpackers:
        raise MalformedInput(
            f"the kernel in {origin} is compressed with {how!r}, which is not understood here",
            hint="unpack the image and name it with --kernel ./FILE",
        )
    try:
        return unpackers[how](payload)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as e:
        raise MalformedInput(f"the kernel in {origin} cannot be unpacked: {e}", hint="fetch it again") from e


def _files(package: Path) -> Iterator[tuple[str, IO[bytes] | PayloadMember]]:
    """Name (without a leading ``./`` or ``/``) and content of each regular file."""
    with package.open("rb") as f:
        magic = f.read(len(ar.MAGIC))
    if not magic.startswith((ar.MAGIC, RPM)):
        raise MalformedInput(f"{package} is neither a Debian package nor an RPM", hint="fetch it again")
    if magic.startswith(RPM):
        with rpmpackage.payload(package) as members:
            for member in members:
                if member.mode & 0o170000 == 0o100000:
                    yield member.name.removeprefix(".").removeprefix("/"), member
        return
    with _data_tar(package) as tar:
        for entry in tar:
            source = tar.extractfile(entry) if entry.isfile() else None
            if source is not None:
                yield entry.name.removeprefix("./"), source


@contextmanager
def _data_tar(deb: Path) -> Iterator[tarfile.TarFile]:
    """``data.tar.*`` of a Debian package, as a stream."""
    with deb.open("rb") as f:
        member = next((m for m in ar.members(f, deb.name) if m.name.startswith("data.tar")), None)
        if member is None:
            raise MalformedInput(f"{deb.name} holds no data.tar", hint="fetch it again")
        kind = member.name.removeprefix("data.tar").removeprefix(".")
        if kind not in COMPRESSORS:
            raise MalformedInput(
                f"{deb.name} is compressed with {kind}, which is not understood here",
                hint="unpack it (dpkg-deb -x) and name the image with --kernel PATH",
            )
        data = cast(BinaryIO, ar.Part(f, member))
        with (
            decompressed(data, COMPRESSORS[kind], deb.name) as stream,
            tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as tar,
        ):
            yield tar
