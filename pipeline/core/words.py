"""Lists in sentences: cut to what one reads, without making two different lists look the same."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.core.store import digest


def several(items: Iterable[str], shown: int, *, separator: str = ", ") -> str:
    """The items joined, "" for none; of more than ``shown`` the first ones, a count and a digest of all.

    A waiver is for one cause, which it knows by such a text: what is cut must still tell two causes apart.
    """
    listed = list(items)
    if len(listed) <= shown:
        return separator.join(listed)
    rest = f"… and {len(listed) - shown} more (sha256 of all: {digest(listed)[:16]})"
    return separator.join([*listed[:shown], rest])
