"""Writes the committed JSON Schema of evidence anew: ``python -m pipeline.report.schema``."""

from __future__ import annotations

import json

from pipeline import evidence, store


def text() -> str:
    """The schema as it is committed."""
    return json.dumps(evidence.schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    store.write_atomically(evidence.SCHEMA_FILE, text())
