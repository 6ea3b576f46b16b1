"""Kernels out of packages made here, and images told apart by their headers."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard

from pipeline import profile
from pipeline.core import paths, store
from pipeline.core.arch import arch
from pipeline.core.errors import MalformedInput, SourceUnreachable, UsageError
from pipeline.place import kernel, kernelpackage

MODULES = "lib/modules/6.1.0-test/kernel/drivers"


def module(depends: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0retpoline=Y\0"


def tar_of(files: Mapping[str, bytes], kind: str = "xz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{kind}") as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def deb(path: Path, data: bytes, member: str = "data.tar.xz") -> Path:
    raw = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (member, data)):
        raw += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        raw += content + b"\n" * (len(content) % 2)
    path.write_bytes(raw)
    return path


def bzimage(release: str = "6.1.0-test") -> bytes:
    raw = bytearray(0x400)
    raw[0x202:0x206] = b"HdrS"
    raw[0x20E:0x210] = (0x100).to_bytes(2, "little")
    raw[0x300 : 0x300 + len(release) + 12] = f"{release} (builder)\0".encode()
    return bytes(raw)


def arm64_image(release: str = "6.1.0-test") -> bytes:
    raw = bytearray(0x200)
    raw[0x38:0x3C] = b"ARM\x64"
    return bytes(raw) + f"Linux version {release} (builder) #1 SMP\n".encode()


FILES = {
    "boot/vmlinuz-6.1.0-test": bzimage(),
    "lib/modules/6.1.0-test/modules.builtin": b"kernel/drivers/char/hw_random/rng-core.ko\n",
    f"{MODULES}/virtio/virtio.ko": module(""),
    f"{MODULES}/virtio/virtio_ring.ko": module("virtio"),
    f"{MODULES}/virtio/virtio_pci.ko.xz": lzma.compress(module("virtio,virtio-ring")),
    f"{MODULES}/char/virtio_console.ko": module("virtio_ring,rng-core"),
    f"{MODULES}/net/virtio_net.ko": module("virtio"),
}


def test_a_package_gives_image_release_and_modules_in_order(tmp_path: Path) -> None:
    kernelpackage.unpack([deb(tmp_path / "k.deb", tar_of(FILES))], tmp_path)
    assert (tmp_path / "vmlinuz").read_bytes() == bzimage()
    assert (tmp_path / "release").read_text() == "6.1.0-test\n"
    order = (tmp_path / "modules.order").read_text().split()
    assert order == ["virtio.ko", "virtio_ring.ko", "virtio_pci.ko", "virtio_console.ko"]
    assert (tmp_path / "virtio_pci.ko").read_bytes() == module("virtio,virtio-ring"), "not unpacked"


@pytest.mark.parametrize(
    ("ending", "compress"),
    [("gz", gzip.compress), ("zst", zstandard.compress), ("bz2", bz2.compress), ("", bytes)],
    ids=["gz", "zst", "bz2", "plain"],
)
def test_what_is_built_in_is_not_loaded(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    builtin = "".join(
        f"kernel/drivers/{n}.ko\n"
        for n in ("virtio/virtio", "virtio/virtio_ring", "virtio/virtio_pci", "char/virtio_console")
    )
    files = {
        "boot/vmlinuz-6.12": bzimage(),
        "usr/lib/modules/6.12/modules.builtin": builtin.encode(),
    }
    member = f"data.tar.{ending}".rstrip(".")
    kernelpackage.unpack([deb(tmp_path / "k.deb", compress(tar_of(files, "")), member)], tmp_path)
    assert (tmp_path / "modules.order").read_text() == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b"no package"), "neither a Debian package nor an RPM"),
        (lambda p: p.write_bytes(b"!<arch>\n"), "holds no data.tar"),
        (lambda p: deb(p, b"\x04\x22\x4d\x18", "data.tar.lz4"), "compressed with lz4"),
        (lambda p: deb(p, b"\x28\xb5\x2f\xfd", "data.tar.zst"), "cannot be unpacked"),
        (lambda p: deb(p, tar_of(FILES)[:200]), "cannot be decompressed"),
        (lambda p: deb(p, tar_of({"usr/share/doc/x": b""})), "holds no boot/vmlinuz"),
        (
            lambda p: deb(p, tar_of({k: v for k, v in FILES.items() if "virtio_ring" not in k})),
            "no module virtio_ring, which virtio_pci needs",
        ),
    ],
    ids=["not-ar", "no-data", "lz4", "broken-zstd", "truncated", "no-image", "module-missing"],
)
def test_a_bad_package_is_named(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "k.deb")
    with pytest.raises(MalformedInput, match=message):
        kernelpackage.unpack([tmp_path / "k.deb"], tmp_path)


@pytest.mark.parametrize(
    ("image", "machine", "release"),
    [
        (bzimage("6.1.0-9-amd64"), "x86_64", "6.1.0-9-amd64"),
        (arm64_image("6.1.0-9-arm64"), "aarch64", "6.1.0-9-arm64"),
        (gzip.compress(arm64_image("5.14.0-70.el9")), "aarch64", "5.14.0-70.el9"),
        (b"\x7fELF" + bytes(4096), "", ""),
        (b"", "", ""),
    ],
    ids=["bzImage", "Image", "Image.gz", "ELF", "empty"],
)
def test_images_tell_machine_and_release(image: bytes, machine: str, release: str) -> None:
    assert kernel.machine_of(image) == machine
    assert kernel.release_of(image) == release


def test_an_image_the_user_names(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(bzimage("6.6.6"))
    found = kernel.from_path(tmp_path / "bzImage")
    assert (found.label, found.modules, found.origin) == ("6.6.6", (), str(tmp_path / "bzImage"))
    with pytest.raises(UsageError, match="No such file"):
        kernel.from_path(tmp_path / "none")


class FakeApt:
    """Serves the package made here; ``fail`` is how often it first finds nothing."""

    fail = 0
    downloads = 0
    refreshed = 0

    def __init__(self, suite: str, deb_arch: str, *, max_age: float) -> None:
        assert (suite, deb_arch) == ("bookworm", "amd64")
        assert max_age > 86400

    def resolve_dependency(self, name: str, prefix: str) -> str:
        assert (name, prefix) == ("linux-image-cloud-amd64", "linux-image-")
        return "linux-image-6.1.0-test"

    def candidate(self, name: str) -> str:
        assert name == "linux-image-6.1.0-test"
        return "6.1.9-1"

    def dependencies(self, name: str) -> list[str]:
        assert name == "linux-image-6.1.0-test"
        return ["kmod", "linux-base"]

    def refresh(self, *, force: bool) -> None:
        assert force
        FakeApt.refreshed += 1

    def download_package(self, name: str, dest: Path, on_progress: object) -> Path:  # noqa: ARG002
        if FakeApt.fail > 0:
            FakeApt.fail -= 1
            raise SourceUnreachable("404")
        FakeApt.downloads += 1
        dest.mkdir()
        return deb(dest / "k.deb", tar_of(FILES))


@pytest.fixture
def fake_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeApt]:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path))
    monkeypatch.setattr(kernel, "PrivateApt", FakeApt)
    FakeApt.fail = FakeApt.downloads = FakeApt.refreshed = 0
    return FakeApt


def test_fetch_stores_and_finds_again(fake_apt: type[FakeApt]) -> None:
    bookworm = profile.load("bookworm")
    first = kernel.fetch(bookworm, "stable", arch("x86_64"))
    assert kernel.fetch(bookworm, "stable", arch("x86_64")) == first
    assert fake_apt.downloads == 1
    assert (first.release, first.origin) == ("6.1.0-test", "linux-image-6.1.0-test 6.1.9-1")
    assert [m.name for m in first.modules][-1] == "virtio_console.ko"
    assert all(m.is_file() for m in first.modules)


def test_fetch_asks_again_when_the_package_has_left_the_archive(fake_apt: type[FakeApt]) -> None:
    fake_apt.fail = 1
    kernel.fetch(profile.load("bookworm"), "stable", arch("x86_64"))
    assert fake_apt.refreshed == 1
    fake_apt.fail = 2
    store.remove_tree(paths.state())
    with pytest.raises(SourceUnreachable):
        kernel.fetch(profile.load("bookworm"), "stable", arch("x86_64"))


def test_a_kernel_nobody_knows_is_named(fake_apt: type[FakeApt]) -> None:
    with pytest.raises(UsageError, match="no kernel 'tomorrow'") as caught:
        kernel.fetch(profile.load("bookworm"), "tomorrow", arch("x86_64"))
    assert "stable, next" in caught.value.hint
    assert fake_apt.downloads == 0
