"""JSON that others wrote."""

from __future__ import annotations

import json
from typing import Any


def loads(raw: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for what is none, be it nested too deeply to be read."""
    try:
        return json.loads(raw)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
