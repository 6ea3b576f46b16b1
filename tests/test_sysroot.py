"""Roots made of packages."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pipeline.core.arch import arch
from pipeline.core.errors import EvidenceError, MalformedInput
from pipeline.rpm import sysroot
from tests.rpmwriter import DIR, LNK, REG, Item, cpio, write

X86, ARM = arch("x86_64"), arch("aarch64")


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))


def elf(machine: int, *, bits: int = 2) -> bytes:
    return b"\x7fELF" + bytes([bits, 1, 1]) + b"\0" * 9 + struct.pack("<HH", 3, machine) + b"\0" * 40


def glibc(directory: Path, *, machine: str = "x86_64", where: str = "/lib64", release: str = "1") -> Path:
    target = arch(machine)
    loader = f"{where}/{target.loader}"
    items = [Item(where, DIR | 0o755), Item(loader, REG | 0o755, elf(target.elf_machine))]
    return write(directory, "glibc", arch=machine, release=release, items=items)


def test_packages_become_one_root(tmp_path: Path) -> None:
    devel = write(tmp_path, "glibc-devel", items=[Item("/usr/include/stdio.h", data=b"int puts();")])
    root = sysroot.extract([devel, glibc(tmp_path)], X86)
    assert (root / "lib64/ld-linux-x86-64.so.2").is_file()
    assert not (root / "lib64").is_symlink()
    assert (root / "usr/include/stdio.h").read_text() == "int puts();"
    for name in ("proc", "dev", "sys", "tmp", "probes", "root"):
        assert list((root / name).iterdir()) == []
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_made_once_for_the_same_files(tmp_path: Path) -> None:
    rpm = glibc(tmp_path)
    first = sysroot.extract([rpm], X86)
    made = first.stat().st_ino
    assert sysroot.extract([rpm], X86) == first
    assert first.stat().st_ino == made
    (tmp_path / "other").mkdir()
    assert sysroot.extract([glibc(tmp_path / "other", release="2")], X86) != first


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_merged_usr_gets_its_links(tmp_path: Path, machine: str) -> None:
    target = arch(machine)
    where = "/usr" + target.interp.rpartition("/")[0]
    root = sysroot.extract([glibc(tmp_path, machine=machine, where=where)], target)
    link = root / target.interp.split("/")[1]
    assert link.readlink() == Path("usr") / link.name
    assert (root / target.interp[1:]).is_file()


def test_the_filesystem_package_comes_first(tmp_path: Path) -> None:
    links = [Item("/usr/lib64", DIR | 0o755), Item("/lib64", LNK | 0o777, b"usr/lib64")]
    root = sysroot.extract([glibc(tmp_path), write(tmp_path, "filesystem", items=links)], X86, judged=True)
    assert (root / "lib64").is_symlink()
    assert (root / "usr/lib64/ld-linux-x86-64.so.2").is_file()


def test_debug_and_source_packages_are_left_out(tmp_path: Path) -> None:
    extra = [
        write(tmp_path, name, items=[Item("/debug")], source=name == "src")
        for name in ("glibc-debuginfo", "glibc-debugsource", "src")
    ]
    root = sysroot.extract([glibc(tmp_path), *extra], X86)
    assert not (root / "debug").exists()


def test_wrong_architecture(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match=r"glibc-1\.0-1\.aarch64\.rpm: for aarch64, expected x86_64"):
        sysroot.extract([glibc(tmp_path, machine="aarch64")], X86)


def test_one_stray_package_of_another_architecture(tmp_path: Path) -> None:
    stray = write(tmp_path, "glibc-devel", arch="i686")
    with pytest.raises(MalformedInput, match=r"glibc-devel-1\.0-1\.i686\.rpm: for i686, expected x86_64"):
        sysroot.extract([glibc(tmp_path), stray], X86)
    with pytest.raises(MalformedInput, match="several architectures"):
        sysroot.extract([glibc(tmp_path), stray])


def test_noarch_goes_with_any(tmp_path: Path) -> None:
    doc = write(tmp_path, "glibc-doc", arch="noarch", items=[Item("/usr/share/doc/glibc")])
    assert (sysroot.extract([doc, glibc(tmp_path)]) / "usr/share/doc/glibc").is_file()


def test_a_loader_of_another_machine_than_the_package_says(tmp_path: Path) -> None:
    items = [Item("/lib64/ld-linux-x86-64.so.2", REG | 0o755, elf(183))]
    with pytest.raises(MalformedInput, match=r"is for ELF machine 183, the package says x86_64 \(62\)"):
        sysroot.extract([write(tmp_path, "glibc", items=items)], X86)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n" * 9, elf(62, bits=1)])
def test_a_loader_that_is_no_elf_file_of_ours(tmp_path: Path, content: bytes) -> None:
    items = [Item("/lib64/ld-linux-x86-64.so.2", REG | 0o755, content)]
    with pytest.raises(MalformedInput, match="no 64-bit little-endian ELF file"):
        sysroot.extract([write(tmp_path, "glibc", items=items)], X86)


def test_no_loader(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="no package has /lib64/ld-linux-x86-64"):
        sysroot.extract([write(tmp_path, "glibc", items=[Item("/lib64/libc.so.6")])], X86)


def test_the_same_package_twice(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="same package twice"):
        sysroot.extract([glibc(tmp_path), glibc(tmp_path, release="2")], X86)


def test_packages_that_disagree_are_refused_unless_a_check_judges_them(tmp_path: Path) -> None:
    other = write(tmp_path, "glibc-evil", items=[Item("/usr/lib64/libc.so.6", data=b"evil")])
    one = write(tmp_path, "glibc-libs", items=[Item("/lib64/libc.so.6", data=b"good")])
    with pytest.raises(
        MalformedInput, match=r"/usr/lib64/libc\.so\.6: different contents \(.*\) in glibc-evil and"
    ):
        sysroot.extract([glibc(tmp_path), one, other], X86)
    assert sysroot.extract([glibc(tmp_path), one, other], X86, judged=True).is_dir()


def test_a_payload_that_is_not_as_listed_is_refused(tmp_path: Path) -> None:
    payload = cpio([Item("/lib64/libc.so.6", data=b"evil")])
    listed = [Item("/lib64/libc.so.6", data=b"good")]
    lies = write(tmp_path, "glibc-libs", items=listed, payload=payload, compressor="none")
    with pytest.raises(MalformedInput, match=r"glibc-libs.*: /lib64/libc\.so\.6: sha256 .* in the payload"):
        sysroot.extract([glibc(tmp_path), lies], X86)


def test_no_package(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="no RPMs"):
        sysroot.extract([], X86)
    assert not (tmp_path / "state/sysroot").exists()


def test_a_damaged_package_makes_no_root(tmp_path: Path) -> None:
    rpm = glibc(tmp_path)
    rpm.write_bytes(rpm.read_bytes()[:-5])
    with pytest.raises(MalformedInput, match="cut off"):
        sysroot.extract([rpm], X86)
    assert not (tmp_path / "state/sysroot").exists()


def test_aarch64(tmp_path: Path) -> None:
    root = sysroot.extract([glibc(tmp_path, machine="aarch64", where="/lib")], ARM)
    assert (root / "lib/ld-linux-aarch64.so.1").is_file()


def test_a_roots_content_counts_and_not_where_it_came_from(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for root in (one, two):
        (root / "lib").mkdir(parents=True)
        (root / "lib" / "a").write_bytes(b"a")
        (root / "lib" / "b").symlink_to("a")
    same = sysroot.root_sha256(one)
    assert sysroot.root_sha256(two) == same
    seen = {same}
    (two / "lib" / "a").write_bytes(b"b")
    seen.add(sysroot.root_sha256(two))
    (two / "lib" / "a").chmod(0o600)
    seen.add(sysroot.root_sha256(two))
    (two / "lib" / "b").unlink()
    seen.add(sysroot.root_sha256(two))
    (two / "lib" / "b").symlink_to("c")
    seen.add(sysroot.root_sha256(two))
    assert len(seen) == 5
