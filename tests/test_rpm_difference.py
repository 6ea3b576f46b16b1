"""Where two packages first differ, in words that lead to the cause."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.core.errors import MalformedInput
from pipeline.rpm.difference import first_difference
from tests import rpmwriter
from tests.rpmwriter import REG, Item


def library(directory: Path, name: str, body: str) -> bytes:
    source = directory / f"{name}.c"
    source.write_text(body)
    out = directory / f"{name}.so"
    subprocess.run(["gcc", "-O1", "-shared", "-nostdlib", "-fPIC", "-o", out, source], check=True)
    return out.read_bytes()


def pair(tmp_path: Path, one: dict[str, object], other: dict[str, object]) -> str:
    paths = []
    for name, arguments in (("a", one), ("b", other)):
        (tmp_path / name).mkdir()
        paths.append(rpmwriter.write(tmp_path / name, "x", **arguments))  # type: ignore[arg-type]
    return first_difference(*paths)


def test_the_same_bytes_have_none(tmp_path: Path) -> None:
    items = [Item("/etc/a", REG | 0o644, b"one")]
    assert pair(tmp_path, {"items": items}, {"items": items}) == ""


def test_code_is_named_by_its_function_and_before_what_follows_from_it(tmp_path: Path) -> None:
    body = (
        "int first (void) {{ return 1; }}\nint second (int x) {{ return x * {}; }}\nint table[] = {{ {} }};\n"
    )
    ours, theirs = (library(tmp_path, n, body.format(k, k)) for n, k in (("one", 3), ("two", 1001)))
    words = pair(
        tmp_path, {"items": [Item("/lib/x.so", data=ours)]}, {"items": [Item("/lib/x.so", data=theirs)]}
    )
    assert words.startswith("./lib/x.so: section .text, second+")


def test_data_is_named_by_its_symbol(tmp_path: Path) -> None:
    ours, theirs = (
        library(tmp_path, n, f"int zero;\nint table[] = {{ 1, {k} }};\n") for n, k in (("one", 3), ("two", 4))
    )
    words = pair(
        tmp_path, {"items": [Item("/lib/x.so", data=ours)]}, {"items": [Item("/lib/x.so", data=theirs)]}
    )
    assert words.startswith("./lib/x.so: section .data, table+4, byte ")


def test_a_text_is_named_by_its_byte(tmp_path: Path) -> None:
    words = pair(
        tmp_path, {"items": [Item("/etc/a", data=b"built 1")]}, {"items": [Item("/etc/a", data=b"built 2")]}
    )
    assert words == "./etc/a: byte 6: b'1' and b'2'"


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"requires": ["a"]}, {"requires": ["b"]}, "requires: "),
        ({"tags": {1006: (1,)}}, {"tags": {1006: (2,)}}, "made: 1 at "),
        ({"tags": {5099: "make -j2"}}, {"tags": {5099: "make -j3"}}, "the header, in tag 5099"),
        ({"signature": {1004: "x"}}, {"signature": {1004: "y"}}, "the signature header"),
        (
            {"items": [Item("/etc/a")]},
            {"items": [Item("/etc/a"), Item("/etc/b")]},
            "./etc/b is in one of them only",
        ),
        (
            {"items": [Item("/etc/a")]},
            {"items": [Item("/etc/c")]},
            "./etc/a stands where the other has ./etc/c",
        ),
    ],
    ids=["requires", "time", "spec", "signature", "more", "other"],
)
def test_metadata_is_named_by_its_field(
    tmp_path: Path, one: dict[str, object], other: dict[str, object], words: str
) -> None:
    assert pair(tmp_path, one, other).startswith(words)


def test_modes_are_named_by_the_file(tmp_path: Path) -> None:
    words = pair(tmp_path, {"items": [Item("/etc/a", REG | 0o644)]}, {"items": [Item("/etc/a", REG | 0o600)]})
    assert words.startswith("/etc/a: mode is ")


def test_what_is_no_package_is_malformed(tmp_path: Path) -> None:
    (tmp_path / "x.rpm").write_bytes(b"no package")
    (tmp_path / "y.rpm").write_bytes(b"nor this")
    with pytest.raises(MalformedInput):
        first_difference(tmp_path / "x.rpm", tmp_path / "y.rpm")
