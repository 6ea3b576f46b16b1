"""Files linked for small pages are red where the architecture has larger ones, each for its own reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import elf
from pipeline.check.pages import Pages, faults
from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.outcome import Outcome
from pipeline.elf.image import PT_GNU_RELRO
from tests import elf_edit as edits
from tests.check.release_kit import AFTER, make_stage
from tests.elf_fixtures import LIBC, LOADER_RSEQ, Dso

LARGE = 65536
#: A DSO with code, constants, RELRO and data.
SOURCE = """
void f (void) {}
static const int c = 1;
const int *const relocated __attribute__ ((section (".data.rel.ro"))) = &c;
int data = 1;
"""


def dso(page: int) -> Dso:
    return Dso("liba.so.1", SOURCE, {}, (f"-Wl,-z,max-page-size={page},-z,common-page-size={page}",))


def test_a_file_for_the_largest_pages_is_right_with_all(tmp_path: Path) -> None:
    binary = elf.read(dso(LARGE).build(tmp_path / "a.so"))
    assert not faults(binary, LARGE)
    assert not faults(binary, 16384)
    assert not faults(binary, 4096)


def test_a_file_for_small_pages_is_wrong_with_large_ones(tmp_path: Path) -> None:
    binary = elf.read(dso(4096).build(tmp_path / "a.so"))
    assert not faults(binary, 4096)
    found = faults(binary, LARGE)
    assert any("is aligned to 0x1000, not to 0x10000" in f for f in found)
    assert any("share a page, and not their access" in f for f in found)


def test_relro_that_ends_within_a_page_is_not_protected_whole(tmp_path: Path) -> None:
    file = dso(LARGE).build(tmp_path / "a.so")
    size = next(s.memsz for s in elf.read(file).segments if s.type == PT_GNU_RELRO)
    edits.edit(file, edits.segment(PT_GNU_RELRO, memsz=size - 8))
    (found,) = faults(elf.read(file), LARGE)
    assert found.startswith("RELRO ends at ")
    assert "its last 0xfff8 bytes stay writable" in found


def test_each_architecture_says_its_largest_page() -> None:
    assert {a.name: a.largest_page for a in ARCHES.values()} == {"x86_64": 4096, "aarch64": LARGE}


@pytest.mark.parametrize("small", [False, True])
def test_the_check_reads_every_file_of_a_release(
    small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(tmp_path, monkeypatch)
    options = dso(LARGE).flags

    def with_pages(made: Dso) -> Dso:
        return made.but(flags=(*made.flags, *options))

    libc = with_pages(LIBC)
    stage.release(AFTER, with_pages(LOADER_RSEQ), libc, dso(4096 if small else LARGE).but(soname="UTF-16.so"))
    material = replace(stage.material, arch=replace(host_arch(), largest_page=LARGE))
    (finding,) = Pages().run(material)
    assert finding.outcome is (Outcome.FAIL if small else Outcome.PASS), finding.seen
    if small:
        assert all("UTF-16.so" in line for line in finding.seen.splitlines())
    (here,) = Pages().run(stage.material)
    assert here.outcome is Outcome.PASS or host_arch().largest_page == LARGE
