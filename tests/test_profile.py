"""Profiles: an error names file, key and what was expected; a wrong name is wrong use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.core import paths
from pipeline.core.arch import arch, host_arch
from pipeline.core.errors import ExitCode, UsageError
from pipeline.profile import load, load_file, targets
from tests.tiny_kit import PROFILE

GOOD = (
    PROFILE.format(arch=host_arch().name, zeros="0" * 64)
    + """
[[step]]
from = "1.0"
to = "1.1"
added = ["@loader GLIBC_2.35 __rseq_size D 0x4"]
"""
)


def wrong(tmp_path: Path, text: str) -> UsageError:
    file = tmp_path / "p.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as failed:
        load_file(file)
    assert str(file) in failed.value.message
    assert failed.value.hint
    return failed.value


def test_the_good_one_is_good(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(GOOD)
    profile = load_file(file)
    assert list(profile.releases) == ["1.0", "1.1"]
    assert profile.get("1.1").rseq_default == 1
    assert (profile.step[0].before, profile.step[0].after) == ("1.0", "1.1")


@pytest.mark.parametrize(
    ("old", "new", "key", "expectation"),
    [
        ('sha256 = "0', 'sha256 = "', "source.sha256", "[0-9a-f]{64}"),
        ('sha256 = "0', 'sha256 = "G', "source.sha256", "[0-9a-f]{64}"),
        ("schema = 1", "schema = 2", "schema", "1"),
        ('glibc = "2.36"', 'glibc = "2.36"\ncolour = "red"', "colour", "not permitted"),
        ('topdir = "tiny-2.36"', "", "source.topdir", "required"),
        ('kind = "tarball"', 'kind = "carrier-pigeon"', "source", "'apt', 'tarball'"),
        ("size = 1", "size = 0", "source.size", "greater than 0"),
        ("urls = [\"http://127.0.0.1:9/tiny-2.36.tar\"]", "urls = []", "source.urls", "at least 1"),
        ('suite = "bookworm"', "", "image", "needs a suite"),
        ('base = "mmdebstrap"', 'base = "registry"', "image", "needs a reference"),
        ('name = "1.0"', 'name = "one"', "release.0.name", "[0-9]"),
        ('name = "1.0"', 'name = "1.1"', "(top level)", "two have the same name"),
        ("rseq_default = 1", "rseq_default = 2", "release.1.rseq_default", "0 or 1"),
        ("exports_rseq = true", "", "release.1.exports_rseq", "required"),
        ('from = "1.0"', 'from = "0.9"', "(top level)", "step: there is no release '0.9'"),
        ('to = "1.1"', 'to = "9"', "(top level)", "step: there is no release '9'"),
        ('build_against = "1.1"', 'build_against = "2"', "(top level)", "there is no release '2'"),
        (f'arches = ["{host_arch().name}"]', 'arches = ["sparc"]', "(top level)", "known: x86_64, aarch64"),
        (f'arches = ["{host_arch().name}"]', "arches = []", "arches", "at least 1"),
        ('added = ["@loader GLIBC_2.35 __rseq_size D 0x4"]', 'added = ["__rseq_size"]', "step.0.added.0",
         "DSO NODE SYMBOL KIND [SIZE]"),
        ('symbols = ["@loader GLIBC_2.35 __rseq_size D 0x4"]', 'symbols = ["@loader G __rseq_size D 4"]',
         "rseq.symbols.0", "DSO NODE SYMBOL KIND [SIZE]"),
        ('name = "tiny"', 'name = "../tiny"', "name", "[a-z0-9]"),
        ("[rseq]", '[arch_options.sparc]\ncflags = ["-O3"]\n[rseq]', "(top level)",
         "'sparc' is not among arches"),
        ("[rseq]", "[arch_options.sparc]\nldflags = []\n[rseq]", "arch_options.sparc.ldflags",
         "not permitted"),
    ],
)  # fmt: skip
def test_each_error_names_file_key_and_expectation(
    tmp_path: Path, old: str, new: str, key: str, expectation: str
) -> None:
    assert old in GOOD
    error = wrong(tmp_path, GOOD.replace(old, new, 1))
    lines = [line for line in error.message.splitlines() if f"p.toml: {key}: " in line]
    assert len(lines) == 1, error.message
    assert expectation in lines[0]


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    error = wrong(tmp_path, GOOD.replace("schema = 1", "schema = 3").replace("size = 1", "size = -1"))
    assert len(error.message.splitlines()) == 2


def test_what_is_no_toml(tmp_path: Path) -> None:
    assert "is not TOML" in wrong(tmp_path, "schema = ").message
    assert "line 2" in wrong(tmp_path, "schema = 1\nschema = 1\n").message
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not TOML"):
        load(str(tmp_path / "b.toml"))


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load(str(tmp_path / "none.toml"))
    (tmp_path / "d.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        load(str(tmp_path / "d.toml"))


def test_names_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(GOOD)
    profile = load(str(tmp_path / "p.toml"))
    other = "aarch64" if host_arch().name == "x86_64" else "x86_64"
    with pytest.raises(UsageError, match="no profile 'el7'") as unknown:
        load("el7")
    assert "bookworm" in unknown.value.hint
    with pytest.raises(UsageError, match="no release '9'"):
        targets(profile, ("9",))
    with pytest.raises(UsageError, match="unknown architecture 'sparc'"):
        targets(profile, (), ("sparc",))
    with pytest.raises(UsageError, match=f"not built for {other}"):
        targets(profile, (), (other,))


def test_targets_are_in_the_profiles_order_whatever_was_asked_first() -> None:
    bookworm = load("bookworm")
    assert len(targets(bookworm)) == len(bookworm.release) * len(bookworm.arches)
    chosen = targets(bookworm, ("12.1", "12.0"), ("aarch64",))
    assert [str(t) for t in chosen] == ["bookworm/12.0/aarch64", "bookworm/12.1/aarch64"]


def test_every_profile_that_comes_with_the_pipeline_is_sound() -> None:
    assert "bookworm" in profiles.available()
    for name in profiles.available():
        profile = load(name)
        assert profile.name == name
        assert (paths.CONTAINERS / profile.image.directory / "Containerfile").is_file()
        gained = {r.name: r.exports_rseq for r in profile.release}
        for step in profile.step:
            assert bool(step.added) == (gained[step.after] and not gained[step.before])


def test_the_loader_takes_its_name_from_the_architecture() -> None:
    lines = ["@loader N s D 0x4", "libc.so.6 N s F"]
    assert profiles.for_arch(lines, arch("aarch64")) == ["ld-linux-aarch64.so.1 N s D 0x4", "libc.so.6 N s F"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--profile", "el7"), "there is no profile 'el7'"),
        (("--profile", "bookworm", "--release", "13.0"), "no release '13.0'"),
        (("--profile", "bookworm", "--arch", "sparc"), "unknown architecture 'sparc'"),
        (("--profile", "bookworm", "--place", "moon"), "there is no place 'moon'"),
        (("--profile", "bookworm", "--no-such-option",), "No such option"),
        (("--profile", "none.toml"), "none.toml does not exist"),
    ],
    ids=["profile", "release", "arch", "place", "option", "file"],
)  # fmt: skip
def test_wrong_use_is_exit_code_2_with_a_remedy(arguments: tuple[str, ...], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "build", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=paths.REPO,
    )  # fmt: skip
    assert done.returncode == ExitCode.WRONG_USE, done.stderr
    assert words in done.stderr
    assert "what to do:" in done.stderr or "--help" in done.stderr
    assert "Traceback" not in done.stderr
