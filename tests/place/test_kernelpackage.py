"""Kernels whose files are in several packages, in RPMs, or compressed in themselves."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
import zstandard

from pipeline import profile
from pipeline.core.arch import arch
from pipeline.core.errors import MalformedInput
from pipeline.place import kernel, kernelpackage
from tests import rpmwriter
from tests.place.test_kernel import arm64_image, bzimage, deb, module, tar_of

RELEASE = "7.2-test"
HERE = f"usr/lib/modules/{RELEASE}"
#: name -> files, as Debian splits a kernel from 7.x on
SPLIT = {
    "linux-binary": {f"{HERE}/vmlinuz": bzimage(RELEASE)},
    "linux-modules": {
        f"{HERE}/kernel/drivers/virtio/virtio.ko.xz": lzma.compress(module("")),
        f"{HERE}/kernel/drivers/char/virtio_console.ko.zst": zstandard.compress(module("virtio")),
    },
    "linux-base": {f"{HERE}/modules.builtin": b"kernel/drivers/virtio/virtio_pci.ko\n"},
}
CORE = "kernel-core-5.14.0-70.el9.x86_64.rpm"
IN_RPM = "/lib/modules/5.14.0-70.el9.x86_64"
IMAGE = rpmwriter.Item(f"{IN_RPM}/vmlinuz", data=bzimage("5.14.0-70.el9.x86_64"))
BUILTIN = rpmwriter.Item(f"{IN_RPM}/modules.builtin", data=b"kernel/drivers/virtio/virtio_pci.ko\n")
CONSOLE = rpmwriter.Item(f"{IN_RPM}/kernel/drivers/char/virtio_console.ko.xz", data=lzma.compress(module("")))


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))


def split(directory: Path) -> list[Path]:
    return [
        deb(directory / f"{name}-{RELEASE}_7.2-1_amd64.deb", tar_of(files)) for name, files in SPLIT.items()
    ]


def rpm(directory: Path, name: str, *items: rpmwriter.Item, compressor: str = "zstd") -> Path:
    return rpmwriter.write(
        directory, name, version="5.14.0", release="70.el9", items=items, compressor=compressor
    )


def order(directory: Path) -> list[str]:
    return (directory / "modules.order").read_text().split()


def test_a_split_kernel_is_one(tmp_path: Path) -> None:
    kernelpackage.unpack(split(tmp_path), tmp_path)
    assert (tmp_path / "vmlinuz").read_bytes() == bzimage(RELEASE)
    assert (tmp_path / "release").read_text() == f"{RELEASE}\n"
    assert order(tmp_path) == ["virtio.ko", "virtio_console.ko"]
    assert (tmp_path / "virtio_console.ko").read_bytes() == module("virtio"), "not unpacked"


def test_a_part_of_a_split_kernel_names_the_others(tmp_path: Path) -> None:
    binary, modules, _ = split(tmp_path)
    with pytest.raises(MalformedInput, match="has no module virtio_pci") as caught:
        kernelpackage.unpack([binary], tmp_path)
    assert "linux-modules" in caught.value.hint
    with pytest.raises(MalformedInput, match="holds no boot/vmlinuz"):
        kernelpackage.unpack([modules], tmp_path)


def test_packages_beside_the_one_that_is_named_are_taken(tmp_path: Path) -> None:
    binary, *_ = split(tmp_path)
    found = kernel.from_path(binary)
    assert (found.release, found.origin) == (RELEASE, binary.name)
    assert [m.name for m in found.modules] == ["virtio.ko", "virtio_console.ko"]
    assert kernel.from_path(binary) == found


@pytest.mark.parametrize("compressor", ["zstd", "xz", "gzip"])
def test_an_rpm_gives_a_kernel(tmp_path: Path, compressor: str) -> None:
    one = rpm(tmp_path, "kernel-core", IMAGE, BUILTIN, CONSOLE, compressor=compressor)
    found = kernel.from_path(one)
    assert (found.release, found.origin) == ("5.14.0-70.el9.x86_64", CORE)
    assert [m.name for m in found.modules] == ["virtio_console.ko"]
    assert kernel.machine_of(found.image.read_bytes()) == "x86_64"


def test_an_rpm_has_its_modules_in_another(tmp_path: Path) -> None:
    core = rpm(tmp_path, "kernel-core", IMAGE, BUILTIN)
    with pytest.raises(MalformedInput, match="no module virtio_console") as caught:
        kernel.from_path(core)
    assert "kernel-modules-core of the same version" in caught.value.hint
    rpm(tmp_path, "kernel-modules-core", CONSOLE)
    assert [m.name for m in kernel.from_path(core).modules] == ["virtio_console.ko"]


def test_an_rpm_without_a_kernel_is_none(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="holds no boot/vmlinuz"):
        kernel.from_path(rpm(tmp_path, "kernel", BUILTIN))


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("kernel-core-5.14.0-1.el9.aarch64.rpm", ["kernel-modules-core-5.14.0-1.el9.aarch64.rpm"]),
        ("kernel-64k-core-5.14.0-1.el9.aarch64.rpm", ["kernel-64k-modules-core-5.14.0-1.el9.aarch64.rpm"]),
        ("kernel-modules-core-5.14.0-1.el9.aarch64.rpm", []),
        ("linux-image-6.1.0-9-arm64_6.1.27-1_arm64.deb", []),
    ],
)
def test_which_packages_belong_together(tmp_path: Path, name: str, beside: list[str]) -> None:
    for other in (name, *beside, "kernel-modules-core-9-1.rpm"):
        (tmp_path / other).touch()
    assert [p.name for p in kernelpackage.whole(tmp_path / name)] == [name, *beside]


VIRTIO = {f"lib/modules/6.12/kernel/drivers/virtio/{m}.ko": module("") for m in kernelpackage.NEEDED_MODULES}


def zboot(payload: bytes, how: bytes) -> bytes:
    head = b"MZ\0\0zimg" + (64).to_bytes(4, "little") + len(payload).to_bytes(4, "little")
    return (head + bytes(8) + how).ljust(64, b"\0") + payload + b"signature"


@pytest.mark.parametrize(
    ("how", "compress"), [(b"gzip", gzip.compress), (b"zstd", zstandard.compress), (b"xz", lzma.compress)]
)
def test_a_kernel_that_unpacks_itself_is_unpacked(tmp_path: Path, how: bytes, compress: object) -> None:
    assert callable(compress)
    files = {
        "boot/vmlinuz-6.12": zboot(compress(arm64_image()), how),
        "lib/modules/6.12/modules.builtin": b"",
    }
    files |= {
        f"lib/modules/6.12/kernel/drivers/virtio/{m}.ko": module("") for m in kernelpackage.NEEDED_MODULES
    }
    kernelpackage.unpack([deb(tmp_path / "k.deb", tar_of(files))], tmp_path)
    assert (tmp_path / "vmlinuz").read_bytes() == arm64_image()


@pytest.mark.parametrize(
    ("image", "message"),
    [(zboot(b"x", b"lzo"), "compressed with 'lzo'"), (zboot(b"no gzip", b"gzip"), "cannot be unpacked")],
)
def test_one_that_does_not_unpack_is_named(tmp_path: Path, image: bytes, message: str) -> None:
    files = {"boot/vmlinuz-6.12": image}
    files |= {
        f"lib/modules/6.12/kernel/drivers/virtio/{m}.ko": module("") for m in kernelpackage.NEEDED_MODULES
    }
    with pytest.raises(MalformedInput, match=message):
        kernelpackage.unpack([deb(tmp_path / "k.deb", tar_of(files))], tmp_path)


@pytest.mark.parametrize(("bits", "kib"), [(0, 0), (1, 4), (2, 16), (3, 64)])
def test_an_image_tells_the_size_of_its_pages(bits: int, kib: int) -> None:
    image = bytearray(arm64_image())
    image[24] = bits << 1 | 1  # the lowest bit is the byte order
    assert kernel.page_kib_of(bytes(image)) == kib
    assert kernel.page_kib_of(gzip.compress(bytes(image))) == kib
    assert kernel.page_kib_of(bzimage()) == 4
    assert kernel.page_kib_of(b"") == 0


@pytest.mark.parametrize("name", ["bookworm", "el9"])
def test_kernels_one_can_name_are_not_all_booted(name: str) -> None:
    kernels = {k.name: k for k in profile.load(name).kernel}
    assert {k for k, v in kernels.items() if v.usual} == {"stable", "next"}
    assert {"sid", "bullseye", "pages-16k"} <= kernels.keys()
    assert "x86_64" not in kernels["pages-16k"].packages
    assert kernel.named(profile.load(name), "sid", arch("aarch64")).suite == "sid"
