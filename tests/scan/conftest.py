from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core import paths
from tests.scan import kit


@pytest.fixture(autouse=True)
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile's releases: the first without the rseq node."""
    monkeypatch.setattr(paths, "BASELINES", tmp_path / "abi-baselines")
    listings = kit.host_listings()
    kit.put(kit.OLD, kit.without(listings, kit.ARCH.loader, node=kit.NODE))
    kit.put(kit.MIDDLE, listings)
    kit.put(kit.NEW, listings)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit.program(tmp_path_factory.mktemp("plain"), "plain", kit.PLAIN)


@pytest.fixture(scope="session")
def rseq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that uses one public rseq symbol."""
    return kit.program(tmp_path_factory.mktemp("rseq"), "rseq", kit.USES_RSEQ)


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path]:
    """A program that needs libfoo.so.1, and a libfoo.so.1 that fails on the oldest release."""
    library = kit.program(tmp_path / "parts", "libfoo.so.1", kit.NEWER_FOO, *kit.SHARED_FOO)
    return kit.program(tmp_path / "parts", "user", kit.FOO, str(library)), library
