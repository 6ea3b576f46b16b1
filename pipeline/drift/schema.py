"""Writes the committed JSON Schema of drift anew: ``python -m pipeline.drift.schema``."""

from __future__ import annotations

from pipeline.core import store
from pipeline.drift.record import SCHEMA_FILE, schema_text

if __name__ == "__main__":
    store.write_atomically(SCHEMA_FILE, schema_text())
