"""Writes the committed JSON Schema of evidence anew: ``python -m pipeline.signoff.schema``."""

from __future__ import annotations

import json

from pipeline.core import store
from pipeline.signoff import document


def text() -> str:
    """The schema as it is committed."""
    return json.dumps(document.schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    store.write_atomically(document.SCHEMA_FILE, text())
