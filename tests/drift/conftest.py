from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core import paths


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Baselines of this test alone."""
    monkeypatch.setattr(paths, "BASELINES", tmp_path / "abi-baselines")
