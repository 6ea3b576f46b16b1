from __future__ import annotations

import pytest

from pipeline.signoff.records import Evidence
from tests.report.factory import draft


@pytest.fixture(scope="session")
def green() -> Evidence:
    return draft().evidence()
