"""Sources are data: what is wrong in the file is named by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import UsageError
from pipeline.drift import sources
from pipeline.drift.sources import RpmDirectory

GOOD = """schema = 1
[[source]]
name = "x"
kind = "rpms"
path = "rpms"
arches = ["x86_64"]
packages = ["glibc"]
against = "previous"
"""


def load(tmp_path: Path, text: str) -> sources.Sources:
    (tmp_path / "s.toml").write_text(text)
    return sources.load(tmp_path / "s.toml")


def test_the_shipped_sources() -> None:
    found = sources.load()
    assert [s.name for s in found.source] == [
        "debian-12", "debian-13", "centos-stream-9", "almalinux-9", "ubi-9",
    ]  # fmt: skip
    assert all(s.arches == ("x86_64", "aarch64") for s in found.source)
    ubi = found.get("ubi-9")
    compared = ["ld-linux-x86-64.so.2", "libc.so.6", "libc_malloc_debug.so.0", "libnss_files.so.2"]
    assert all(ubi.compares(n) for n in compared)
    assert not any(ubi.compares(n) for n in ("gconv/UTF-16.so", "libcrypt.so.1", "libpcprofile.so"))


def test_a_relative_path_is_below_the_file(tmp_path: Path) -> None:
    (source,) = load(tmp_path, GOOD).source
    assert isinstance(source, RpmDirectory)
    assert source.path == str(tmp_path / "rpms")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('against = "previous"', 'against = "yesterday"', "is not baseline:PROFILE/RELEASE"),
        ('against = "previous"', 'against = "source:y"', "there is no other source 'y'"),
        ('against = "previous"', 'against = "source:x"', "there is no other source 'x'"),
        ('"x86_64"', '"vax"', "unknown architecture 'vax'"),
        ('kind = "rpms"', 'kind = "ftp"', "ftp"),
        ('path = "rpms"', "", "path"),
        ('path = "rpms"', 'path = "rpms"\ncolour = 1', "colour"),
        ('kind = "rpms"\npath = "rpms"', 'kind = "dnf"', "name a baseurl, a mirrorlist or a metalink"),
        ('packages = ["glibc"]', "packages = []", "packages"),
        ("schema = 1", "schema = 2", "schema"),
        ("schema = 1", "schema = ", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert says in caught.value.message
    assert "s.toml" in caught.value.message


def test_two_of_one_name_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two sources are called 'x'"):
        load(tmp_path, GOOD + GOOD.replace("schema = 1\n", ""))
    with pytest.raises(UsageError, match="does not exist"):
        sources.load(tmp_path / "none.toml")
