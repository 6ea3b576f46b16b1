"""Archives, also hostile ones: each is read, or said not to have been; nothing is ever written."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard

from pipeline.core.errors import ExitCode
from pipeline.core.run import run
from pipeline.scan.inputs import Item, items
from pipeline.scan.judge import Answer
from pipeline.scan.limits import Limits
from tests import rpmwriter
from tests.scan import kit
from tests.scan.test_judge import scanned


def names(found: list[Item]) -> list[str]:
    return [i.name.rpartition("!")[2] for i in found if i.facts]


def troubles(found: list[Item]) -> str:
    return "; ".join(i.trouble for i in found if i.trouble)


def tar(file: Path, files: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def wheel(file: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file


def deb(directory: Path, files: Mapping[str, Path], compressor: str) -> Path:
    tree = directory / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: N <n@example.org>\nDescription: x\n"
    )
    for name, source in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(source.read_bytes())
    file = directory / f"x-{compressor}.deb"
    run(["dpkg-deb", f"-Z{compressor}", "--root-owner-group", "-b", tree, file])
    return file


@pytest.fixture(scope="session")
def files(plain: Path, rseq: Path) -> dict[str, bytes]:
    return {"bin/plain": plain.read_bytes(), "lib/rseq": rseq.read_bytes(), "README": b"words\n"}


BOTH = ["bin/plain", "lib/rseq"]


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_archives(tmp_path: Path, files: dict[str, bytes], mode: str, form: int) -> None:
    long = {f"{'d' * 90}/{n}" if form != tarfile.USTAR_FORMAT else n: d for n, d in files.items()}
    file = tmp_path / "x.tar"
    with tarfile.open(file, mode, format=form) as archive:  # type: ignore[call-overload]
        for name, data in long.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    found = list(items(file))
    assert [n[-len(b) :] for n, b in zip(names(found), BOTH, strict=True)] == BOTH
    assert not troubles(found)


def test_tar_zstd(tmp_path: Path, files: dict[str, bytes]) -> None:
    whole = tar(tmp_path / "x.tar", files, "w:").read_bytes()
    (tmp_path / "x.tar.zst").write_bytes(zstandard.compress(whole))
    assert names(list(items(tmp_path / "x.tar.zst"))) == BOTH
    packed = (tmp_path / "x.tar.zst").read_bytes()
    for cut in range(5, len(packed) - 4, len(packed) // 9):
        (tmp_path / "cut").write_bytes(packed[:cut])
        assert troubles(list(items(tmp_path / "cut"))), f"{cut} of {len(packed)} bytes"


def test_a_wheel_names_the_file_and_the_symbol(tmp_path: Path, files: dict[str, bytes]) -> None:
    file = wheel(tmp_path / "x-1-py3-none-any.whl", files)
    result = scanned(file)
    assert [f.item.member for f in result.files] == BOTH
    assert [str(m) for m in result.files[1].judgements[kit.OLD].missing] == [
        f"__rseq_offset@GLIBC_2.35 in {kit.ARCH.loader}"
    ]
    assert result.exit_code == ExitCode.FAILED


@pytest.mark.parametrize("compressor", ["gzip", "xz", "zstd", "none"])
def test_debs(tmp_path: Path, plain: Path, rseq: Path, compressor: str) -> None:
    file = deb(tmp_path, {"usr/bin/plain": plain, "usr/lib/rseq": rseq}, compressor)
    found = list(items(file))
    assert names(found) == ["./usr/bin/plain", "./usr/lib/rseq"]
    file.write_bytes(file.read_bytes()[:-2000])
    cut = list(items(file))
    assert "not a whole" in troubles(cut) or "cannot be decompressed" in troubles(cut)
    assert scanned(file).files[-1].answers == {Answer.UNKNOWN}


@pytest.mark.parametrize("compressor", ["gzip", "xz", "zstd"])
def test_rpms(tmp_path: Path, plain: Path, rseq: Path, compressor: str) -> None:
    content = [
        rpmwriter.Item("/usr/bin/plain", rpmwriter.REG | 0o755, plain.read_bytes()),
        rpmwriter.Item("/usr/bin/rseq", rpmwriter.REG | 0o755, rseq.read_bytes()),
        rpmwriter.Item("/usr/bin/link", rpmwriter.LNK | 0o777, b"rseq"),
    ]
    file = rpmwriter.write(tmp_path, "x", items=content, compressor=compressor)
    assert names(list(items(file))) == ["/usr/bin/plain", "/usr/bin/rseq"]
    inner = list(items(tar(tmp_path / "x.tar", {file.name: file.read_bytes()})))
    assert [i.name for i in inner if not i.link] == [
        f"{tmp_path}/x.tar!{file.name}!/usr/bin/plain",
        f"{tmp_path}/x.tar!{file.name}!/usr/bin/rseq",
    ]
    data = bytearray(file.read_bytes())
    data[-30] ^= 1
    file.write_bytes(data)
    assert names(list(items(file))) == []
    assert "altered" in troubles(list(items(file)))


def test_a_directory_with_everything(tmp_path: Path, files: dict[str, bytes], plain: Path) -> None:
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    wheel(top / "a.whl", files)
    tar(top / "sub" / "b.tar.gz", files)
    (top / "sub" / "plain").write_bytes(plain.read_bytes())
    (top / "notes.gz").write_bytes(gzip.compress(b"no archive of files\n"))
    (top / "words").write_text("words\n")
    (top / "link").symlink_to("/usr/bin/env")
    (top / "libx.a").write_bytes(b"!<arch>\nx.o/            0           0     0     644     0         `\n")
    found = list(items(top))
    assert len(names(found)) == 5
    assert not troubles(found)


def test_a_wheel_in_a_tar_is_looked_into_and_no_deeper(tmp_path: Path, files: dict[str, bytes]) -> None:
    inner = wheel(tmp_path / "in.whl", {"x.so": files["lib/rseq"]}).read_bytes()
    middle = wheel(tmp_path / "mid.zip", {"in.whl": inner}).read_bytes()
    assert names(list(items(tar(tmp_path / "a.tar", {"in.whl": inner})))) == ["x.so"]
    deep = list(items(tar(tmp_path / "b.tar", {"mid.zip": middle})))
    assert names(deep) == []
    assert "is not looked into" in troubles(deep)
    assert scanned(tmp_path / "b.tar").exit_code == ExitCode.MISSING


# -- hostile --------------------------------------------------------------------------------------------


def test_names_that_lead_out_write_nothing(tmp_path: Path, files: dict[str, bytes]) -> None:
    evil = {
        "../../evil": files["lib/rseq"],
        "/abs/evil": files["lib/rseq"],
        "a\x1b[31m\nb": files["lib/rseq"],
    }
    before = sorted(tmp_path.rglob("*"))
    for number, make in enumerate((tar, wheel)):
        file = make(tmp_path / f"{number}.x", evil)
        found = list(items(file))
        assert len(names(found)) == 3
        assert all(i.name.isprintable() for i in found)
        file.unlink()
    assert sorted(tmp_path.rglob("*")) == before


SMALL = Limits(member=1 << 20, total=1 << 22, members=50, ratio=100, free=1 << 16)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"big": bytes(2 << 20)}, "more than 1048576"),
        ({f"z{n}": bytes(90_000) for n in range(40)}, "times its size"),
        ({f"r{n}": os.urandom(400_000) for n in range(12)}, "more than 4194304 bytes"),
        ({f"n{n}": b"x" for n in range(60)}, "more than 50 members"),
    ],
)
@pytest.mark.parametrize("make", [tar, wheel])
def test_bombs_are_refused(tmp_path: Path, content: dict[str, bytes], says: str, make: object) -> None:
    assert callable(make)
    found = list(items(make(tmp_path / "bomb", content), SMALL))
    assert says in troubles(found)


def test_a_header_that_lies_about_its_size(tmp_path: Path, files: dict[str, bytes]) -> None:
    """A member said to have exabytes: refused before any memory is taken."""
    file = tar(tmp_path / "x.tar", files, "w:")
    data = bytearray(file.read_bytes())
    data[124:136] = b"\x80" + b"\0" * 3 + (1 << 60).to_bytes(8, "big")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    file.write_bytes(data)
    assert "1152921504606846976 bytes" in troubles(list(items(file)))


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:xz", "w:bz2"])
def test_truncated_tar_archives_are_never_whole(tmp_path: Path, files: dict[str, bytes], mode: str) -> None:
    whole = tar(tmp_path / "whole", files, mode).read_bytes()
    ends = len(whole) if mode != "w:" else len(whole.rstrip(b"\0"))
    cuts = {1, 3, 100, 512, 600, ends // 2, ends // 2 // 512 * 512, ends - 3} | set(range(0, ends, ends // 9))
    for cut in sorted(cuts):
        (tmp_path / "cut").write_bytes(whole[:cut])
        assert troubles(list(items(tmp_path / "cut"))), f"{cut} of {len(whole)} bytes"


def test_a_tar_cut_between_two_members(tmp_path: Path, files: dict[str, bytes]) -> None:
    whole = tar(tmp_path / "whole", files, "w:").read_bytes()
    first = 512 + -(-len(files["bin/plain"]) // 512) * 512
    assert whole[first : first + 8] == b"lib/rseq"
    (tmp_path / "cut").write_bytes(whole[:first])
    assert "the end of the archive is missing" in troubles(list(items(tmp_path / "cut")))
    broken = bytearray(whole)
    broken[first + 10] ^= 0x55
    (tmp_path / "broken").write_bytes(broken)
    assert "a header makes no sense" in troubles(list(items(tmp_path / "broken")))


def test_truncated_wheels_and_wrong_bytes(tmp_path: Path, files: dict[str, bytes]) -> None:
    whole = wheel(tmp_path / "x.whl", files).read_bytes()
    for cut in range(4, len(whole), len(whole) // 9):
        (tmp_path / "cut").write_bytes(whole[:cut])
        assert troubles(list(items(tmp_path / "cut"))), f"{cut} of {len(whole)} bytes"
    at = whole.index(b"bin/plain") + 200
    (tmp_path / "flip").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    assert "not a whole zip archive" in troubles(list(items(tmp_path / "flip")))


def test_an_encrypted_wheel(tmp_path: Path, files: dict[str, bytes]) -> None:
    data = bytearray(wheel(tmp_path / "x.whl", files).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.whl").write_bytes(data)
    assert "encrypted" in troubles(list(items(tmp_path / "x.whl")))


def test_what_was_named_must_be_something(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("words\n")
    os.mkfifo(tmp_path / "pipe")
    assert "neither an ELF file" in troubles(list(items(tmp_path / "words")))
    assert "neither a file" in troubles(list(items(tmp_path / "pipe")))
    assert list(items(tmp_path)) == []
    assert scanned(tmp_path).exit_code == ExitCode.MISSING
