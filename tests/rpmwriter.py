"""Writes small RPM packages byte by byte, so that tests can make ones that rpmbuild never would."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import stat
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

REG, DIR, LNK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "none": bytes,
}


@dataclass(frozen=True)
class Item:
    """One archive member; members with the same ``inode`` are hard links of each other."""

    path: str
    mode: int = REG | 0o644
    data: bytes = b""
    inode: int = 0
    links: int = 1


def cpio(items: Sequence[Item]) -> bytes:
    """An archive of format newc."""
    out = b""
    for number, item in enumerate([*items, Item("TRAILER!!!", 0)], 1):
        name = item.path if item.path == "TRAILER!!!" or item.path.startswith(".") else f".{item.path}"
        raw = name.encode() + b"\0"
        fields = (item.inode or 1000 + number, item.mode, 0, 0, item.links, 0, len(item.data),
                  0, 0, 0, 0, len(raw), 0)  # fmt: skip
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        out += b"\0" * (-len(out) % 4) + item.data
        out += b"\0" * (-len(out) % 4)
    return out


def stripped(items: Sequence[Item]) -> bytes:
    """An archive in rpm's own variant, whose members are numbers in the file list."""
    out = b""
    for number, item in enumerate(items):
        out += b"07070X%08x" % number
        out += b"\0" * (-len(out) % 4) + item.data
        out += b"\0" * (-len(out) % 4)
    return out + cpio([])


def header(tags: dict[int, object]) -> bytes:
    """An RPM header: str -> STRING, list of str -> STRING_ARRAY, bytes -> BIN, (tuple of) int -> INT32."""
    index = store = b""
    for tag, value in sorted(tags.items()):
        if isinstance(value, str):
            kind, count, data = 6, 1, value.encode() + b"\0"
        elif isinstance(value, bytes):
            kind, count, data = 7, len(value), value
        elif isinstance(value, list):
            kind, count, data = 8, len(value), b"".join(v.encode() + b"\0" for v in value)
        else:
            numbers = value if isinstance(value, tuple) else (value,)
            store += b"\0" * (-len(store) % 4)
            kind, count, data = 4, len(numbers), struct.pack(f">{len(numbers)}I", *numbers)
        index += struct.pack(">IIII", tag, kind, len(store), count)
        store += data
    return b"\x8e\xad\xe8\x01\0\0\0\0" + struct.pack(">II", len(tags), len(store)) + index + store


def write(
    directory: Path,
    name: str,
    *,
    version: str = "1.0",
    release: str = "1",
    arch: str = "x86_64",
    provides: Sequence[str] = (),
    requires: Sequence[str] = (),
    items: Sequence[Item] = (),
    compressor: str = "gzip",
    source: bool = False,
    payload: bytes | None = None,
    tags: dict[int, object] | None = None,
    signature: dict[int, object] | None = None,
) -> Path:
    """Write a package and return its path. A dependency is ``NAME`` or ``NAME = VERSION``.

    ``payload`` replaces the compressed archive; ``tags`` and ``signature`` add to or replace header tags
    (None removes one).
    """

    def columns(lines: Sequence[str], tag_name: int, tag_flags: int, tag_version: int) -> dict[int, object]:
        parts = [line.partition(" = ") for line in lines]
        return {
            tag_name: [p[0] for p in parts],
            tag_flags: tuple(8 if p[1] else 0 for p in parts),
            tag_version: [p[2] for p in parts],
        }

    if payload is None:
        payload = COMPRESSORS[compressor](cpio(items))
    listed = [i for i in items if i.path.startswith("/")]
    dirs = sorted({i.path.rpartition("/")[0] + "/" for i in listed})
    main: dict[int, object] = {
        1000: name, 1001: version, 1002: release, 1022: arch, 1124: "cpio", 1125: compressor,
        5092: [hashlib.sha256(payload).hexdigest()], 5093: 8,
        **columns([f"{name} = {version}-{release}", *provides], 1047, 1112, 1113),
    }  # fmt: skip
    if requires:
        main |= columns(requires, 1049, 1048, 1050)
    if not source:
        main[1044] = f"{name}-{version}-{release}.src.rpm"
    if listed:
        main |= {
            1117: [i.path.rpartition("/")[2] for i in listed],
            1118: dirs,
            1116: tuple(dirs.index(i.path.rpartition("/")[0] + "/") for i in listed),
            1028: tuple(len(i.data) for i in listed),
            1030: tuple(i.mode for i in listed),
            1035: [hashlib.sha256(i.data).hexdigest() if stat.S_ISREG(i.mode) else "" for i in listed],
            1036: [i.data.decode() if stat.S_ISLNK(i.mode) else "" for i in listed],
            1037: (0,) * len(listed),
            1039: ["root"] * len(listed),
            1040: ["root"] * len(listed),
            5011: 8,
            1096: tuple(i.inode or 1000 + n for n, i in enumerate(listed)),
        }
    main |= tags or {}
    raw = header({k: v for k, v in main.items() if v is not None})
    signed: dict[int, object] = {273: hashlib.sha256(raw).hexdigest(), 1000: len(raw) + len(payload)}
    signed |= signature or {}
    sig = header({k: v for k, v in signed.items() if v is not None})
    lead = struct.pack(">4sBBHH66sHH16x", b"\xed\xab\xee\xdb", 3, 0, 0, 1, name.encode(), 1, 5)
    file = directory / f"{name}-{version}-{release}.{'src' if source else arch}.rpm"
    file.write_bytes(lead + sig + b"\0" * (-len(sig) % 8) + raw + payload)
    return file
