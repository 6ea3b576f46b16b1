"""bench --only scan: distinct files are made, each is scanned, and a ratio that is missed ends with 1."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline import elf, source
from pipeline.benchmark import scan
from pipeline.cli import bench as verb
from pipeline.core.errors import EvidenceError

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def test_no_two_files_are_alike_and_each_is_what_it_was(tmp_path: Path) -> None:
    real = scan.originals()[:3]
    assert len(real) == 3
    made = list(scan.copies(real, 8, tmp_path))
    assert len({p.read_bytes() for p in made}) == len(set(made)) == 8
    for copy, original in zip(made, [*real, *real, *real], strict=False):
        assert elf.read(copy).needs == elf.read(original).needs


def test_originals_are_small_and_no_links() -> None:
    for path in scan.originals():
        assert path.stat().st_size <= scan.LARGEST
        assert not path.is_symlink()
        assert path.read_bytes()[:4] == b"\x7fELF"


def test_the_sample_is_multiplied_and_nothing_is_left_behind(tmp_path: Path) -> None:
    ratio = scan.scan_ratio("bookworm", files=40, sample=10)
    assert "10 files, times 4" in ratio.meaning
    assert ratio.ratio == pytest.approx(ratio.theirs / ratio.ours)
    assert ratio.figures["files_per_second"] == pytest.approx(40 / ratio.ours)
    assert ratio.figures["cpu_seconds"] > 0
    assert list((tmp_path / "state").iterdir()) == []


def test_a_file_that_is_lost_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(files: Sequence[Path], count: int, into: Path) -> Iterator[Path]:
        made = list(real(files, count, into))
        made[-1].write_bytes(b"not ELF")
        return iter(made)

    real = scan.copies
    monkeypatch.setattr(scan, "copies", lossy)
    with pytest.raises(EvidenceError, match="20 files were made, 19 were scanned"):
        scan.scan_ratio("bookworm", files=20, sample=5)


@pytest.mark.parametrize(("least", "code"), [(0.0, 0), (1e9, 1)])
def test_the_verb_needs_no_source_and_ends_1_if_the_ratio_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    least: float, code: int,
) -> None:  # fmt: skip
    def unreachable(*_: object) -> None:
        raise AssertionError("no source is needed")

    monkeypatch.setattr(source, "fetch", unreachable)
    monkeypatch.setattr(scan, "LEAST_OVER_READELF", least)
    monkeypatch.setattr(scan.scan_ratio, "__defaults__", (40, 10))
    page = tmp_path / "performance.md"
    arguments = ["--only", "scan", "--profile", "bookworm", "--page", str(page)]
    assert verb.command.main(arguments, standalone_mode=False) == code
    whole = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert whole["machine"]["cpus"] >= 1
    (record,) = whole["ratios"]
    assert record["meaning"] in page.read_text()
    assert whole["machine"]["processor"] in page.read_text()
    assert record["holds"] is (code == 0)
    seen = capfd.readouterr()
    assert ("NO" in seen.out) is bool(code)
    assert "files_per_second" in seen.err
