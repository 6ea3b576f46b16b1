"""Lists that are cut still tell two lists apart: a waiver is for one cause."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.check.probing import verdict
from pipeline.core.words import several

NAMES = st.lists(st.text(alphabet="abc", min_size=1, max_size=3), max_size=9)


@given(NAMES, NAMES, st.integers(1, 4))
def test_two_lists_never_share_a_text(one: list[str], other: list[str], shown: int) -> None:
    assert (several(one, shown) == several(other, shown)) == (one == other)


@given(NAMES.filter(bool), NAMES.filter(bool))
def test_two_causes_of_a_watched_check_never_share_a_text(one: list[str], other: list[str]) -> None:
    assert (verdict("e", "s", one).seen == verdict("e", "s", other).seen) == (one == other)


def test_what_is_short_is_whole() -> None:
    assert several([], 3) == ""
    assert several(["a", "b"], 2) == "a, b"
    assert several(["a", "b", "c"], 2, separator="; ").startswith("a; b; … and 1 more (sha256 of all: ")
