"""Programs that hide another one, archives behind programs and scripts: nothing is passed over in silence."""

from __future__ import annotations

import gzip
import zipapp
import zipfile
from pathlib import Path

import pytest

from pipeline.core.run import run
from pipeline.scan.inputs import items
from pipeline.scan.judge import Answer
from tests import elf_edit as edits
from tests.scan import kit
from tests.scan.kit import NEW
from tests.scan.test_inputs import names, tar, troubles, wheel
from tests.scan.test_judge import the_one

BARE = "void _start (void) { for (;;); }\n"
#: PyInstaller's record: magic, length, table, its length, Python's version, Python's library
COOKIE = b"MEI\014\013\012\013\016" + b"\0" * 80


def static(directory: Path) -> Path:
    return kit.program(directory, "static", BARE, "-nostdlib", "-static")


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("linked", ["static", "dynamic"])
def test_an_appimage_is_not_said_to_start(tmp_path: Path, kind: int, linked: str) -> None:
    file = static(tmp_path) if linked == "static" else kit.program(tmp_path, "p", kit.PLAIN)
    assert the_one(file, NEW).answer is Answer.STARTS
    data = bytearray(file.read_bytes())
    data[8:11] = b"AI" + bytes([kind])
    file.write_bytes(data + b"hsqs")
    judged = the_one(file, NEW)
    assert (judged.answer, "--appimage-extract" in judged.reason) == (Answer.UNKNOWN, True)


@pytest.mark.parametrize("pie", [False, True])
def test_what_upx_packed_is_not_said_to_start(tmp_path: Path, *, pie: bool) -> None:
    file = static(tmp_path)
    edits.edit(file, edits.no_sections)
    assert the_one(file, NEW).answer is Answer.STARTS
    data = bytearray(file.read_bytes())
    at = 64 + 56 * int.from_bytes(data[56:58], "little")
    data[at + 4 : at + 8] = b"UPX!"
    data[16] = 3 if pie else 2
    file.write_bytes(data)
    judged = the_one(file, NEW)
    assert (judged.answer, "UPX" in judged.reason) == (Answer.UNKNOWN, True)


@pytest.mark.parametrize("where", ["behind", "section"])
def test_what_pyinstaller_made_is_not_said_to_start(tmp_path: Path, where: str) -> None:
    file = kit.program(tmp_path, "p", kit.PLAIN)
    if where == "behind":
        file.write_bytes(file.read_bytes() + b"archive" + COOKIE)
    else:
        (tmp_path / "archive").write_bytes(b"archive" + COOKIE)
        run(["objcopy", "--add-section", f"pydata={tmp_path / 'archive'}", file])
        (tmp_path / "archive").unlink()
    judged = the_one(file, NEW)
    assert (judged.answer, "PyInstaller" in judged.reason) == (Answer.UNKNOWN, True)


def test_but_what_fails_fails(tmp_path: Path, rseq: Path) -> None:
    file = tmp_path / "p"
    file.write_bytes(rseq.read_bytes() + COOKIE)
    assert the_one(file, kit.OLD).answer is Answer.FAILS


def test_a_zip_archive_behind_a_program_or_a_script(tmp_path: Path, plain: Path, rseq: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/rseq").write_bytes(rseq.read_bytes())
    (tmp_path / "app/__main__.py").write_text("")
    zipapp.create_archive(tmp_path / "app", tmp_path / "dist.pyz", "/usr/bin/python3")
    assert names(list(items(tmp_path / "dist.pyz"))) == ["rseq"]
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "dist.pyz").rename(top / "dist.pyz")
    whole = wheel(tmp_path / "x.zip", {"rseq": rseq.read_bytes()}).read_bytes()
    (top / "program").write_bytes(plain.read_bytes() + whole)
    (top / "script").write_text("#!/bin/sh\n")
    assert [i.name for i in items(top) if i.facts] == [
        f"{top}/dist.pyz!rseq", f"{top}/program", f"{top}/program!rseq",
    ]  # fmt: skip
    assert not troubles(list(items(top)))


def test_the_zip_behind_a_program_in_an_archive(tmp_path: Path, plain: Path, rseq: Path) -> None:
    whole = wheel(tmp_path / "x.zip", {"rseq": rseq.read_bytes()}).read_bytes()
    outer = tar(tmp_path / "x.tar", {"program": plain.read_bytes() + whole}, "w")
    assert [i.member for i in items(outer)] == ["program", "program!rseq"]


def test_a_compressed_program(tmp_path: Path, rseq: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "p.gz").write_bytes(gzip.compress(rseq.read_bytes()))
    (top / "text.gz").write_bytes(gzip.compress(b"words" * 1000))
    (only,) = items(top)
    assert (only.member, only.facts is not None) == ("decompressed", True)
    assert the_one(top, kit.OLD).answer is Answer.FAILS


@pytest.mark.parametrize("magic", [b"hsqs", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x01\x00"])
def test_an_archive_of_another_kind_is_not_passed_over(tmp_path: Path, magic: bytes) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top/x").write_bytes(magic + b"\0" * 600)
    assert "of a kind that is not read" in troubles(list(items(tmp_path / "top")))
    inside = wheel(tmp_path / "x.whl", {"x": magic + b"\0" * 600})
    assert "of a kind that is not read" in troubles(list(items(inside)))


def test_what_is_compressed_too_deep_is_not_passed_over(tmp_path: Path, rseq: Path) -> None:
    inner = tar(tmp_path / "inner.tar.gz", {"rseq": rseq.read_bytes()})
    texts = {"words.gz": gzip.compress(b"words" * 1000), "x.tar.gz": inner.read_bytes()}
    middle = wheel(tmp_path / "x.whl", texts)
    outer = tar(tmp_path / "outer.tar", {"x.whl": middle.read_bytes()}, "w")
    found = [i for i in items(outer) if i.trouble]
    assert [i.member for i in found] == ["x.whl!x.tar.gz"]
    with zipfile.ZipFile(tmp_path / "broken.whl", "w") as archive:
        archive.writestr("x.gz", b"\x1f\x8b\x08\0broken")
    outer = tar(tmp_path / "outer.tar", {"x.whl": (tmp_path / "broken.whl").read_bytes()}, "w")
    assert troubles(list(items(outer)))
