"""Baselines come back as they were written, and a damaged one is refused where it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.abi import baseline, traits
from pipeline.abi.baseline import Baseline, Origin
from pipeline.abi.delta import delta
from pipeline.abi.files import elf_files, listings
from pipeline.abi.listing import Listing
from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Target
from pipeline.core.records import FileRecord
from tests.elf_fixtures import LD, LOADER_RSEQ, release_root

TARGET = Target(profile="el9", release="9.0", arch=host_arch().name)
ORIGIN = Origin(
    "rpm",
    "glibc-2.34-28.el9_0",
    (FileRecord(file='odd "name".rpm', sha256="0" * 64, size=12),),
    note="back\\slash and ünïcode",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release_root(tmp_path_factory.mktemp("root"), loader=LOADER_RSEQ)


@pytest.fixture
def committed(root: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "el9/9.0/x86_64"
    baseline.write(baseline.from_root(root, TARGET, ORIGIN), directory)
    return directory


def loaded(directory: Path) -> Baseline:
    found = baseline.load(directory)
    assert found is not None
    return found


def test_what_is_written_is_read(root: Path, committed: Path) -> None:
    found = loaded(committed)
    assert delta(found.listings, listings(root)).empty
    assert found.provenance == baseline.from_root(root, TARGET, ORIGIN).provenance
    assert found.provenance.inputs[0].file == 'odd "name".rpm'
    assert found.traits == traits.of_files(elf_files(root))
    assert sorted(p.name for p in committed.iterdir()) == [
        "abi.details",
        "elf.hardening",
        "gconv.abilists",
        f"{LD}.abilist",
        "libc.so.6.abilist",
        "provenance.toml",
    ]
    assert (committed / "gconv.abilists").read_text() == "[gconv/UTF-16.so]\n- gconv F\n- gconv_init F\n"


def test_a_dso_without_symbols_is_kept(tmp_path: Path) -> None:
    empty = {n: Listing(n, "", TARGET.arch, frozenset()) for n in ("a.so", "d/b.so", "d/c.so")}
    baseline.write(baseline.make(empty, TARGET, ORIGIN), tmp_path / "b")
    assert loaded(tmp_path / "b").listings == empty


def test_writing_replaces_all_of_the_old_one(committed: Path) -> None:
    (committed / "stale.so.abilist").write_text("V f F\n")
    one = {"a.so": Listing("a.so", "", TARGET.arch, frozenset())}
    baseline.write(baseline.make(one, TARGET, ORIGIN), committed)
    assert sorted(p.name for p in committed.iterdir()) == ["a.so.abilist", "provenance.toml"]
    assert [p.name for p in committed.parent.iterdir()] == ["x86_64"]


def test_absent_is_none_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BASELINES", tmp_path)
    assert baseline.load(tmp_path / "nowhere") is None
    assert baseline.load_target(TARGET) is None


def test_restricted_to_a_node(root: Path) -> None:
    found = baseline.from_root(root, TARGET, ORIGIN, ("GLIBC_2.35",))
    assert list(found.listings) == [LD]
    assert found.listings[LD].nodes == {"GLIBC_2.35"}


def test_another_architecture_is_refused(root: Path) -> None:
    with pytest.raises(MalformedInput, match=f"is for {host_arch().name}, not for riscv64"):
        baseline.from_root(root, TARGET.model_copy(update={"arch": "riscv64"}), ORIGIN)


def test_a_root_without_dsos_makes_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="has no DSO"):
        baseline.from_root(tmp_path, TARGET, ORIGIN)


LIBC = "libc.so.6.abilist"
GOOD = "GLIBC_2.2.5 printf F\nGLIBC_2.2.5 stdout D 0x8\nGLIBC_2.34 environ D 0x10\n"


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        (LIBC, GOOD.replace(" F\n", " X\n"), r"libc\.so\.6\.abilist:1: .*printf X' is not"),
        (LIBC, GOOD.replace("0x8", "8"), r"libc\.so\.6\.abilist:2: .* is not"),
        (LIBC, GOOD[:-1], r"libc\.so\.6\.abilist:3: the last line has no end"),
        (LIBC, "".join(reversed(GOOD.splitlines(True))), r"libc\.so\.6\.abilist:2: out of order, or twice"),
        (LIBC, GOOD.splitlines(True)[0] + GOOD, r"libc\.so\.6\.abilist:2: out of order, or twice"),
        (LIBC, GOOD[: GOOD.index("GLIBC_2.34")], r"libc\.so\.6 has 2 lines, provenance\.toml says 3"),
        (LIBC, "", r"libc\.so\.6 has 0 lines"),
        ("gconv.abilists", "- gconv F\n", r"gconv\.abilists:1: expected '\[gconv/NAME\]'"),
        ("gconv.abilists", "", r"gconv\.abilists:1: expected"),
        ("gconv.abilists", "[audit/x.so]\n", r"gconv\.abilists:1: expected .* not '\[audit/x\.so\]'"),
        ("gconv.abilists", "[gconv/UTF-16.so]\n- gconv F\n[gconv/UTF-16.so]\n", r"abilists:3: .* each once"),
        ("gconv.abilists", "[gconv/UTF-16.so]\n- gconv F\n- gconv D\n", r"gconv\.abilists:3: .* is not"),
        ("gconv.abilists", "[gconv/UTF-32.so]\n", r"listing of gconv/UTF-16\.so is not in it"),
        ("libm.so.6.abilist", "V f F\n", r"listing of libm\.so\.6 is not in provenance\.toml"),
        ("notes.txt", "", r"notes\.txt: not a file of a baseline"),
        ("provenance.toml", "[", r"provenance\.toml is not TOML"),
        ("provenance.toml", "schema = 1\n", r"provenance\.toml: profile: Field required"),
        ("provenance.toml", "schema = 2\n", r"provenance\.toml: schema: "),
    ],
)
def test_a_damaged_baseline_is_refused(committed: Path, file: str, text: str, says: str) -> None:
    assert (committed / LIBC).read_text() == GOOD
    (committed / file).write_text(text)
    with pytest.raises(MalformedInput, match=says) as caught:
        baseline.load(committed)
    assert "nox -s baseline" in caught.value.hint


def test_bytes_that_are_no_text_are_refused(committed: Path) -> None:
    (committed / LIBC).write_bytes(b"\xff\n")
    with pytest.raises(MalformedInput, match=r"libc\.so\.6\.abilist"):
        baseline.load(committed)


@pytest.mark.parametrize("file", [LIBC, "provenance.toml"])
def test_a_missing_file_is_refused(committed: Path, file: str) -> None:
    (committed / file).unlink()
    with pytest.raises(MalformedInput, match=r"libc\.so\.6 is not in it|provenance\.toml does not exist"):
        baseline.load(committed)


def test_a_baseline_of_another_target_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "BASELINES", tmp_path)
    other = TARGET.model_copy(update={"release": "9.1"})
    baseline.write(baseline.from_root(root, TARGET, ORIGIN), baseline.directory_of(other))
    with pytest.raises(MalformedInput, match=r"made for el9/9\.0/"):
        baseline.load_target(other)
    baseline.write(baseline.from_root(root, TARGET, ORIGIN, ("GLIBC_2.35",)), baseline.directory_of(TARGET))
    with pytest.raises(MalformedInput, match=r"restricted to GLIBC_2\.35"):
        baseline.load_target(TARGET)
