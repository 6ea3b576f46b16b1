"""Deltas: every way two releases can differ is seen, and written as engineers write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.abi.delta import Delta, SymbolChange, changes_of, delta, parse_change, parse_changes
from pipeline.abi.files import listings
from pipeline.abi.listing import Line, Listing
from tests.elf_fixtures import LD, LOADER_RSEQ, release_root


def dso(name: str, *entries: Line, soname: str | None = None) -> dict[str, Listing]:
    return {name: Listing(name, name if soname is None else soname, "x86_64", frozenset(entries))}


F = Line("V_1", "f", "F")
D4, D8 = Line("V_1", "d", "D", 4), Line("V_1", "d", "D", 8)


def test_real_dsos_the_three_symbols_and_nothing_else(tmp_path: Path) -> None:
    before = listings(release_root(tmp_path / "before"))
    after = listings(release_root(tmp_path / "after", loader=LOADER_RSEQ))
    found = delta(before, after)
    assert found.lines() == [
        f"+ {LD}: GLIBC_2.35 __rseq_flags D 0x4",
        f"+ {LD}: GLIBC_2.35 __rseq_offset D 0x8",
        f"+ {LD}: GLIBC_2.35 __rseq_size D 0x4",
    ]
    assert found.added == parse_changes(
        [f"{LD} GLIBC_2.35 __rseq_flags D 0x4",
         f"{LD} GLIBC_2.35 __rseq_offset D 0x8",
         f"{LD} GLIBC_2.35 __rseq_size D 0x4"]
    )  # fmt: skip
    assert not found.removed
    assert not found.changed
    assert found.dsos == (LD,)
    assert delta(after, before).removed == found.added
    assert delta(before, before).empty
    assert delta(before, before).text == ""


def test_a_changed_size_is_removed_added_and_flagged() -> None:
    found = delta(dso("x", F, D4), dso("x", F, D8))
    assert found.lines() == ["- x: V_1 d D 0x4 (changed)", "+ x: V_1 d D 0x8 (changed)"]
    assert found.changed == {("x", "V_1", "d")}


def test_a_changed_kind_is_a_change() -> None:
    found = delta(dso("x", F), dso("x", Line("V_1", "f", "D", 8)))
    assert found.changed == {("x", "V_1", "f")}


def test_a_symbol_in_another_dso_is_lost_and_gained() -> None:
    found = delta(dso("a", F) | dso("b", D4), dso("a") | dso("b", D4, F))
    assert found.lines() == ["- a: V_1 f F", "+ b: V_1 f F"]
    assert not found.changed


def test_a_symbol_at_another_node_is_lost_and_gained() -> None:
    found = delta(dso("a", F), dso("a", Line("V_2", "f", "F")))
    assert found.lines() == ["- a: V_1 f F", "+ a: V_2 f F"]


def test_dsos_that_come_and_go_count_with_all_their_symbols() -> None:
    found = delta(dso("a", F, D4), dso("b", F))
    assert found.lines() == [
        "- a: the whole DSO",
        "- a: V_1 d D 0x4",
        "- a: V_1 f F",
        "+ b: the whole DSO",
        "+ b: V_1 f F",
    ]
    assert found.removed == changes_of(dso("a", F, D4)["a"])


def test_a_dso_without_symbols_still_counts() -> None:
    assert not delta({}, dso("empty")).empty
    assert delta({}, dso("empty")).lines() == ["+ empty: the whole DSO"]


def test_another_soname_is_a_difference() -> None:
    found = delta(dso("x", F, soname="x.so.1"), dso("x", F, soname=""))
    assert not found.empty
    assert found.lines() == ["- x: soname x.so.1", "+ x: soname (none)"]
    assert found.dsos == ("x",)


def test_an_empty_delta_is_empty() -> None:
    assert Delta().empty
    assert Delta().dsos == ()


def test_a_profile_line() -> None:
    assert parse_change("ld.so V_1 d D 0x4") == SymbolChange("ld.so", "V_1", "d", "D", 4)
    assert str(parse_change("ld.so V_1 f F")) == "ld.so: V_1 f F"
    for wrong in ("", "ld.so", "ld.so V_1 d D", "ld.so: V_1"):
        with pytest.raises(ValueError, match="is not"):
            parse_change(wrong)
