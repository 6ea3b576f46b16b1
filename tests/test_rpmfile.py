"""RPM files read without rpm: whole ones, damaged ones, and ones that mean harm."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core import store
from pipeline.core.errors import EvidenceError, MalformedInput, UsageError
from pipeline.rpm import package as rpmfile
from pipeline.rpm.payload import inside
from tests.rpmwriter import DIR, LNK, REG, Item, stripped, write

ITEMS = (
    Item("/usr/bin", DIR | 0o755),
    Item("/usr/bin/tool", REG | 0o755, b"#!tool\n" * 300),
    Item("/usr/bin/alias", LNK | 0o777, b"tool"),
    Item("/etc/tool.conf", REG | 0o640, b"x"),
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write(
        tmp_path,
        "tool",
        provides=["libtool.so(V_1)(64bit)", "tool(x) = 1.0"],
        requires=["b = 2"],
        items=ITEMS,
    )


def test_metadata(package: Path) -> None:
    rpm = rpmfile.verify(package)
    assert (rpm.name, rpm.version, rpm.release, rpm.arch, rpm.epoch) == ("tool", "1.0", "1", "x86_64", None)
    assert rpm.source_rpm == "tool-1.0-1.src.rpm"
    assert not rpm.is_source
    assert [str(p) for p in rpm.provides] == ["tool = 1.0-1", "libtool.so(V_1)(64bit)", "tool(x) = 1.0"]
    assert [str(r) for r in rpm.requires] == ["b = 2"]
    assert [(f.path, f.mode, f.size, f.link) for f in rpm.files] == [
        ("/usr/bin", 0o40755, 0, ""),
        ("/usr/bin/tool", 0o100755, 2100, ""),
        ("/usr/bin/alias", 0o120777, 4, "tool"),
        ("/etc/tool.conf", 0o100640, 1, ""),
    ]
    assert rpm.size == package.stat().st_size


def test_epoch_and_source_package(tmp_path: Path) -> None:
    rpm = rpmfile.read(write(tmp_path, "tool", source=True, tags={1003: 7}))
    assert rpm.epoch == 7
    assert rpm.is_source
    assert rpm.nvra == "tool-1.0-1.src"


@pytest.mark.parametrize("compressor", ["gzip", "xz", "zstd", "none"])
def test_extract(tmp_path: Path, compressor: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    rpmfile.extract(write(tmp_path, "tool", items=ITEMS, compressor=compressor), root)
    assert (root / "usr/bin/tool").read_bytes() == b"#!tool\n" * 300
    assert (root / "usr/bin/tool").stat().st_mode == 0o100755
    assert (root / "etc/tool.conf").stat().st_mode == 0o100640
    assert (root / "usr/bin/alias").readlink() == Path("tool")


def test_members_can_be_read_one_by_one(package: Path) -> None:
    with rpmfile.payload(package) as members:
        read = {m.name: m.read(6) for m in members}
    assert read["./usr/bin/tool"] == b"#!tool"
    assert read["./etc/tool.conf"] == b"x"


@pytest.mark.parametrize("data_at", [0, 1, 2, None])
def test_hard_links_share_one_file_wherever_its_data_comes(tmp_path: Path, data_at: int | None) -> None:
    items = [
        Item(f"/f{n}", REG | 0o600, b"data" if n == data_at else b"", inode=5, links=3) for n in range(3)
    ]
    root = tmp_path / "root"
    root.mkdir()
    rpmfile.extract(write(tmp_path, "links", items=items), root)
    assert len({(root / f"f{n}").stat().st_ino for n in range(3)}) == 1
    assert (root / "f1").read_bytes() == (b"" if data_at is None else b"data")
    assert (root / "f1").stat().st_mode == 0o100600


def test_the_archive_that_names_files_by_number(tmp_path: Path) -> None:
    links = [Item("/hard1", REG | 0o600, b"", inode=5), Item("/hard2", REG | 0o600, b"data", inode=5)]
    items = [*ITEMS, *links]
    package = write(tmp_path, "six", items=items, compressor="none", payload=stripped(items),
                    tags={1028: tuple(len(i.data) or 4 * (i.inode == 5) for i in items)})  # fmt: skip
    root = tmp_path / "root"
    root.mkdir()
    rpmfile.extract(package, root)
    assert (root / "usr/bin/tool").read_bytes() == b"#!tool\n" * 300
    assert (root / "usr/bin/alias").readlink() == Path("tool")
    assert (root / "hard1").samefile(root / "hard2")
    assert (root / "hard1").read_bytes() == b"data"
    short = write(tmp_path, "short", items=items[:2], compressor="none", payload=stripped(items))
    with pytest.raises(MalformedInput, match="not in the file list"):
        rpmfile.extract(short, root)


def test_a_directory_without_write_permission_can_be_filled(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    rpmfile.extract(write(tmp_path, "ro", items=[Item("/d", DIR | 0o555), Item("/d/f")]), root)
    assert (root / "d/f").is_file()
    assert (root / "d").stat().st_mode & 0o777 == 0o755


def test_files_go_through_a_link_of_the_root_not_of_the_host(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/lib64").mkdir(parents=True)
    (root / "lib64").symlink_to("/usr/lib64")
    rpmfile.extract(write(tmp_path, "lib", items=[Item("/lib64", DIR | 0o755), Item("/lib64/libx")]), root)
    assert (root / "usr/lib64/libx").is_file()
    assert (root / "lib64").is_symlink()


def test_links_that_point_out_are_taken_within_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    items = [
        Item("/a", LNK | 0o777, str(outside).encode()),
        Item("/a/evil", data=b"1"),
        Item("/b", LNK | 0o777, b"../../../../outside"),
        Item("/b/evil", data=b"1"),
    ]
    rpmfile.extract(write(tmp_path, "evil", items=items), root)
    assert list(outside.iterdir()) == []
    assert (root / str(outside)[1:] / "evil").is_file()
    assert (root / "outside/evil").is_file()


def test_a_mode_that_no_file_has_is_refused(tmp_path: Path) -> None:
    """Seen by a fuzzer: modes are as wide as the header says, and stat takes no more than 32 bits."""
    with pytest.raises(MalformedInput, match="no file has the mode 4100644"):
        rpmfile.read(write(tmp_path, "odd", items=[Item("/x", 1 << 20 | 0o100644)]))


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([Item("./../evil")], "leads out of the root"),
        ([Item("/a/../../evil")], "leads out of the root"),
        ([Item("/l", LNK | 0o777, b"l"), Item("/l/x")], "loop of links"),
        ([Item("/f"), Item("/f/x")], "no directory"),
        ([Item("/l", LNK | 0o777, b"d"), Item("/l/x"), Item("/l"), Item("/l/y")], "no directory"),
        ([Item("/d", DIR | 0o755), Item("/d")], "would replace a directory"),
        ([Item("/d"), Item("/d", DIR | 0o755)], "is a directory where a file is"),
        ([Item("/dev/null", 0o020666)], "of a kind that is not unpacked"),
        ([Item("/l", LNK | 0o777)], "link to nowhere"),
    ],
)
def test_harmful_archives_are_refused(tmp_path: Path, items: list[Item], says: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(MalformedInput, match=says):
        rpmfile.extract(write(tmp_path, "evil", items=items), root)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("compressor", "payload", "says"),
    [
        ("gzip", b"not compressed", "cannot be decompressed"),
        ("xz", b"not compressed", "cannot be decompressed"),
        ("zstd", b"not compressed", "cannot be decompressed"),
        ("bzip2", b"not compressed", "cannot be decompressed"),
        ("none", b"0" * 200, "no cpio archive"),
        ("none", b"070701" + b"z" * 200, "broken cpio member header"),
        ("none", b"070701" + b"F" * 200, "member name of"),
        ("none", b"", "ends too early"),
        ("lz77", b"", "compressor 'lz77' is not known"),
    ],
)
def test_broken_payloads(tmp_path: Path, compressor: str, payload: bytes, says: str) -> None:
    package = write(tmp_path, "bad", compressor=compressor, payload=payload)
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(MalformedInput, match=says):
        rpmfile.extract(package, root)


def test_a_truncated_package_is_named(package: Path) -> None:
    whole = package.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        package.write_bytes(whole[:length])
        with pytest.raises(MalformedInput, match=package.name):
            rpmfile.verify(package)


def test_a_package_with_something_added(package: Path) -> None:
    package.write_bytes(package.read_bytes() + b"more")
    with pytest.raises(MalformedInput, match="something was added"):
        rpmfile.verify(package)


def test_every_flipped_byte_of_header_and_payload_is_found(package: Path) -> None:
    whole = package.read_bytes()
    begin = whole.index(b"\x8e\xad\xe8\x01", 97)  # the main header; the signature itself is not signed
    for position in random.Random(1).sample(range(begin, len(whole)), 400):
        package.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        with pytest.raises(MalformedInput):
            rpmfile.verify(package)


def test_a_package_that_was_whole_is_looked_at_again_once_it_changed(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SETTLED_NS", -1)  # as if it had been there for long
    assert rpmfile.verify(package) is rpmfile.verify(package)
    data = bytearray(package.read_bytes())
    data[-1] ^= 1
    before = package.stat()
    time.sleep(0.02)
    package.write_bytes(data)
    os.utime(package, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(MalformedInput, match="payload"):
        rpmfile.verify(package)


def test_what_differs_is_said(package: Path) -> None:
    whole = package.read_bytes()
    package.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(MalformedInput, match=r"payload has sha256 .* the header says"):
        rpmfile.verify(package)
    package.write_bytes(whole.replace(b"tool-1.0-1.src.rpm", b"tool-1.0-2.src.rpm"))
    with pytest.raises(MalformedInput, match=r"header has sha256 .* signature header says"):
        rpmfile.verify(package)


@pytest.mark.parametrize(("tags", "signature"), [({5092: None}, {}), ({}, {273: None})])
def test_a_package_without_digests_is_not_called_whole(
    tmp_path: Path, tags: dict[int, object], signature: dict[int, object]
) -> None:
    with pytest.raises(MalformedInput, match="carries no sha256"):
        rpmfile.verify(write(tmp_path, "old", tags=tags, signature=signature))


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({1000: None}, "tag 1000 is missing"),
        ({1000: (1,)}, "tag 1000 makes no sense"),
        ({1003: "seven"}, "tag 1003 makes no sense"),
        ({1112: (0,)}, "tag 1047 makes no sense"),
        ({1116: (0, 0, 0, 9)}, "columns of the file list"),
        ({1124: "drpm"}, "payload format 'drpm'"),
        ({5093: 99}, "digest algorithm 99"),
    ],
)
def test_nonsense_in_headers(tmp_path: Path, tags: dict[int, object], says: str) -> None:
    with pytest.raises(MalformedInput, match=says):
        rpmfile.read(write(tmp_path, "bad", provides=["x"], items=ITEMS, tags=tags))


def test_not_an_rpm_and_not_there(tmp_path: Path) -> None:
    text = tmp_path / "x.rpm"
    text.write_bytes(b"hello" * 100)
    with pytest.raises(MalformedInput, match="is not an RPM package"):
        rpmfile.read(text)
    with pytest.raises(EvidenceError, match=r"cannot read .*No such file"):
        rpmfile.read(tmp_path / "none.rpm")


def test_extract_needs_a_directory(package: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a directory"):
        rpmfile.extract(package, tmp_path / "none")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_makes_it_crash(package: Path, data: st.DataObject) -> None:
    whole = bytearray(package.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = package.with_name("damaged.rpm")
    damaged.write_bytes(whole)
    root = package.with_name("damaged")
    root.mkdir(exist_ok=True)
    try:
        rpmfile.read(damaged)
    except MalformedInput:
        pass
    else:
        try:
            rpmfile.verify(damaged)
        except MalformedInput:
            return
        rpmfile.extract(damaged, root)  # only lead or signature were hit: the rest must be whole


def test_inside_follows_links_as_chroot_would(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "usr/lib/so").symlink_to("../../../../lib/so.1")
    assert inside(tmp_path, "/lib/so") == tmp_path / "usr/lib/so.1"
    assert inside(tmp_path, "/lib/so", follow_last=False) == tmp_path / "usr/lib/so"
    assert inside(tmp_path, "/../../x") == tmp_path / "x"
