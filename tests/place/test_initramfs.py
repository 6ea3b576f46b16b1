"""The archive against a reader of its own, and the filter on a tree of the releases' shape."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.place import initramfs, payload


@dataclass(frozen=True)
class Entry:
    inode: int
    mode: int
    links: int
    data: bytes


def parse(raw: bytes) -> dict[str, Entry]:
    """Names and entries, in order, up to the trailer; fails on anything that is not newc."""
    entries: dict[str, Entry] = {}
    at = 0
    while True:
        header = raw[at : at + 110]
        assert header[:6] == b"070701"
        numbers = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        name_size, size = numbers[11], numbers[6]
        name = raw[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        at = (at + 110 + name_size + 3) // 4 * 4
        data = raw[at : at + size]
        assert len(data) == size
        at = (at + size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            return entries
        assert name[:-1].decode() not in entries
        entries[name[:-1].decode()] = Entry(numbers[0], numbers[1], numbers[4], data)


def release(root: Path) -> Path:
    """A root as `pipeline.rpm.sysroot` leaves it, in small."""
    for name, content in {
        "lib64/libc.so.6": b"libc",
        "lib64/libm.so.6": b"libm",
        "usr/lib64/libc.a": b"static",
        "usr/lib64/crt1.o": b"start",
        "usr/lib64/gconv/UTF-7.so": b"gconv",
        "usr/include/stdio.h": b"header",
        "usr/share/i18n/locales/C": b"locale",
        "usr/lib/debug/libc.so.6.debug": b"debug",
        "etc/ld.so.conf": b"",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "lib64/libc.so.6").chmod(0o755)
    (root / "lib").symlink_to("lib64")
    for name in ("proc", "dev", "sys", "tmp", "probes"):
        (root / name).mkdir()
    return root


def layout(tmp_path: Path, **roots: Path) -> initramfs.RootLayout:
    probes = tmp_path / "probes"
    probes.mkdir(exist_ok=True)
    for name in ("init", "hello", "empty.a"):
        (probes / name).write_bytes(name.encode())
        (probes / name).chmod(0o755)
    return initramfs.RootLayout(
        init=probes / "init",
        command=("/runner", "--out", "fd:1"),
        files={"pipeline/jobs": b"jobs 1\nend 0\n"},
        modules={"b.ko": b"B", "a.ko": b"A"},
        roots={f"roots/{name}": tree for name, tree in roots.items()},
        overlays={"overlays/0": probes},
    )


def test_archive_holds_what_jobs_need_and_nothing_else(tmp_path: Path) -> None:
    size = initramfs.write(tmp_path / "initrd", layout(tmp_path, one=release(tmp_path / "one")))
    assert size == (tmp_path / "initrd").stat().st_size
    entries = parse((tmp_path / "initrd").read_bytes())
    assert {name for name in entries if name.startswith("roots/one/")} == {
        "roots/one/lib64", "roots/one/lib64/libc.so.6", "roots/one/lib64/libm.so.6", "roots/one/lib",
        "roots/one/usr", "roots/one/usr/lib", "roots/one/usr/lib64", "roots/one/usr/lib64/gconv",
        "roots/one/usr/lib64/gconv/UTF-7.so", "roots/one/etc",
        "roots/one/etc/ld.so.conf", "roots/one/proc", "roots/one/dev", "roots/one/sys", "roots/one/tmp",
        "roots/one/probes",
    }  # fmt: skip
    assert entries["roots/one/lib"].data == b"lib64"
    assert stat.S_ISLNK(entries["roots/one/lib"].mode)
    assert entries["roots/one/lib64/libc.so.6"].mode == stat.S_IFREG | 0o755
    assert entries["pipeline/modules"].data == b"/pipeline/module/b.ko\n/pipeline/module/a.ko\n"
    assert entries["pipeline/command"].data == b"/runner\n--out\nfd:1\n"
    assert entries["pipeline/jobs"].data == b"jobs 1\nend 0\n"
    assert "overlays/0/empty.a" in entries, "an overlay is carried whole"


def test_every_directory_comes_before_what_is_in_it(tmp_path: Path) -> None:
    initramfs.write(tmp_path / "initrd", layout(tmp_path, one=release(tmp_path / "one")))
    seen: set[str] = set()
    for name in parse((tmp_path / "initrd").read_bytes()):
        parent = name.rpartition("/")[0]
        assert not parent or parent in seen, f"{name} comes before its directory"
        seen.add(name)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    tree = release(tmp_path / "one")
    initramfs.write(tmp_path / "first", layout(tmp_path, one=tree))
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.touch()
    initramfs.write(tmp_path / "second", layout(tmp_path, one=tree))
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_same_content_is_stored_once_but_not_with_other_permissions(tmp_path: Path) -> None:
    one, two = release(tmp_path / "one"), release(tmp_path / "two")
    (two / "lib64/libm.so.6").chmod(0o600)
    initramfs.write(tmp_path / "initrd", layout(tmp_path, one=one, two=two))
    entries = parse((tmp_path / "initrd").read_bytes())
    first, second = entries["roots/one/lib64/libc.so.6"], entries["roots/two/lib64/libc.so.6"]
    assert (first.inode, first.data) == (second.inode, b"libc")
    assert second.data == b""
    assert first.links == second.links == 2, "the kernel remembers an inode only if it has several names"
    assert entries["roots/two/lib64/libm.so.6"].data == b"libm"
    assert entries["roots/two/lib64/libm.so.6"].mode == stat.S_IFREG | 0o600


def test_a_name_twice_is_refused() -> None:
    cpio = initramfs.CpioWriter(io.BytesIO())
    cpio.data("a/b", b"x")
    with pytest.raises(ValueError, match="already"):
        cpio.data("a/b", b"y")


def test_sockets_and_pipes_are_not_carried(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    assert [item.name for item in payload.items(tmp_path, filtered=False)] == ["file"]
