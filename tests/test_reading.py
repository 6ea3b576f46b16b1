"""Facts of a release's ELF files: kept under all that decides them, and as they are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.abi import reading, traits
from pipeline.abi.files import elf_files, listings
from pipeline.abi.findable import file_faults
from pipeline.abi.reading import KIND, Reading
from pipeline.abi.scopes import Scopes, needs
from pipeline.core import paths, store
from pipeline.core.errors import MalformedInput
from tests.elf_fixtures import LIBC, LOADER_RSEQ, release_root


def _not_found(root: Path) -> tuple[list[str], dict[str, int]]:
    counts = Counter(symbols=0, lookups=0)
    wrong = [f"{f.name}: {fault}" for f in elf_files(root).values() for fault in file_faults(f, counts)]
    return wrong, dict(counts)


#: Every fact, and what it is without any keeping.
FACTS: dict[str, Callable[[Path], Any]] = {
    "paths": lambda root: list(elf_files(root)),
    "listings": listings,
    "details": lambda root: traits.details(elf_files(root)),
    "hardening": lambda root: traits.hardening(elf_files(root)),
    "aliases": lambda root: traits.aliases(elf_files(root)),
    "versions_of_code": lambda root: traits.versions_of_code(elf_files(root)),
    "not_found": _not_found,
    "needs": lambda root: [needs(f, Scopes.of(elf_files(root))) for f in elf_files(root).values()],
}


def stored(**changed: Any) -> Path:
    """A small release as a stored root; ``changed``: files to make otherwise."""

    def make(into: Path) -> None:
        root = release_root(into / "made", loader=LOADER_RSEQ)
        root.rename(into / "root")
        for name, dso in changed.items():
            dso.build(into / "root" / "lib64" / f"{name}.so.6")

    return store.produce("sysroot", {"of": sorted(changed)}, make).path / "root"


def plain(value: Any) -> Any:
    """Tuples and lists alike: JSON has one of them."""
    return json.loads(json.dumps(value)) if isinstance(value, list) else value


@pytest.mark.parametrize("fact", FACTS)
def test_a_kept_fact_is_what_the_files_say(fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = stored()
    wanted = plain(FACTS[fact](root))
    assert plain(getattr(Reading(root), fact)) == wanted
    monkeypatch.setattr(reading, "elf_files", _never)
    assert plain(getattr(Reading(root), fact)) == wanted  # of the second run, which reads no file


def _never(_: Path) -> Any:
    raise AssertionError("a file was read")


def test_all_facts_are_looked_at_here() -> None:
    kept = {name for name in vars(Reading) if not name.startswith("_")} - {"files"}
    assert kept == FACTS.keys()


def test_another_release_has_its_own_facts() -> None:
    before = Reading(stored()).listings
    after = Reading(stored(libc=LIBC.but(nodes={"GLIBC_2.2.5": ("printf",)}))).listings
    assert before["libc.so.6"] != after["libc.so.6"]


def test_other_code_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    root = stored()
    assert Reading(root).paths
    monkeypatch.setattr(reading, "code", lambda: "of another commit")
    monkeypatch.setattr(reading, "elf_files", _never)
    with pytest.raises(AssertionError, match="a file was read"):
        _ = Reading(root).paths


def test_every_file_of_the_package_is_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elf").mkdir()
    (tmp_path / "elf" / "lookup.py").write_text("one")
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)
    reading.code.cache_clear()
    before = reading.code()
    (tmp_path / "elf" / "lookup.py").write_text("two")
    reading.code.cache_clear()
    try:
        assert reading.code() != before
    finally:
        reading.code.cache_clear()


def test_facts_that_were_changed_are_read_anew(capfd: pytest.CaptureFixture[str]) -> None:
    root = stored()
    wanted = Reading(root).listings
    for file in (paths.state() / KIND).glob("*/facts.json"):
        file.write_text("[]\n")
    store._looked_at.difference_update([f.parent for f in (paths.state() / KIND).glob("*/facts.json")])
    assert Reading(root).listings == wanted
    assert "was changed since it was made" in " ".join(capfd.readouterr().err.split())


def test_a_root_that_is_not_stored_keeps_nothing(tmp_path: Path) -> None:
    root = release_root(tmp_path)
    assert Reading(root).paths
    assert not (paths.state() / KIND).exists()


def test_what_cannot_be_read_is_said_each_time() -> None:
    def make(into: Path) -> None:
        release_root(into / "made").rename(into / "root")
        libc = into / "root" / "lib64" / "libc.so.6"
        libc.write_bytes(libc.read_bytes()[:200])

    root = store.produce("sysroot", {"of": "a damaged one"}, make).path / "root"
    for _ in range(2):
        with pytest.raises(MalformedInput, match=r"libc\.so\.6: malformed ELF"):
            _ = Reading(root).listings
