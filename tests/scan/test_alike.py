"""Releases judged together: a file that touches what they differ in is judged for each by itself."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.elf import Import
from pipeline.elf.versions import VersionNeed as Need
from pipeline.scan import Offers
from pipeline.scan.alike import difference
from pipeline.scan.facts import Facts, Kind
from pipeline.scan.inputs import Item, all_items
from pipeline.scan.judge import Answer, judge
from pipeline.scan.loading import Scene
from pipeline.scan.release import RELR, Release
from pipeline.scan.vendored import Together

PROFILE = profiles.load_outline("el9")
LOADER = "ld-linux-x86-64.so.2"


@pytest.fixture(scope="module")
def offers() -> Offers:
    return Offers(PROFILE, PROFILE.names, ["x86_64"], {"x86_64"})


def answers(offers: Offers, items: list[Item]) -> list[dict[str, Answer]]:
    """Of each file by release; compared with what each release says when it is asked alone."""
    scene = Scene(items, [""] * len(items), offers.ours)
    together = Together(scene, {"x86_64": offers.releases("x86_64")})
    found = []
    for number, item in enumerate(items):
        if item.facts is None or item.facts.arch != "x86_64":
            continue
        made = together._judged_alone(number)
        setting = together._setting(number)[1]
        assert list(made) == list(PROFILE.names)
        assert made == {r.name: judge(item.facts, r, setting) for r in offers.releases("x86_64")}
        found.append({name: j.answer for name, j in made.items()})
    return found


def test_real_programs(offers: Offers) -> None:
    assert len(answers(offers, [i for _, i in islice(all_items([Path("/usr/bin")]), 200)])) > 20


def program(*imports: Import, needs: tuple[Need, ...] = (), relr: bool = False) -> Item:
    facts = Facts(
        Kind.PROGRAM, "x86_64", needed=("libc.so.6", LOADER), imports=imports, needs=needs, relr=relr
    )
    return Item(f"/p/{len(imports)}{needs}{relr}", facts=facts)


def test_what_touches_a_difference(offers: Offers) -> None:
    """A symbol, a symbol without version, and a version alone, of 9.1's loader and of 9.7's libc."""
    new = Import("__rseq_size", "GLIBC_2.35", LOADER, False)
    bare = Import("__rseq_size", "-", "", False)
    seven = Need("libc.so.6", ("GLIBC_2.35",), frozenset())
    made = answers(
        offers,
        [program(), program(new, needs=(Need(LOADER, ("GLIBC_2.35",), frozenset()),)), program(bare),
         program(needs=(seven,))],
    )  # fmt: skip
    starts = [[r for r, a in one.items() if a is Answer.STARTS] for one in made]
    after = [r for r in PROFILE.names if r != "9.0"]
    assert starts == [list(PROFILE.names), after, after, ["9.7"]]


def test_releases_that_differ_in_more_are_not_compared(offers: Offers) -> None:
    first = offers.releases("x86_64")[0]
    assert first.listings is not None
    fewer = {n: x for n, x in first.listings.items() if n != "libm.so.6"}
    assert difference(first, Release("x", "x86_64", fewer, first.ours)) is None
    assert difference(first, Release("x", "x86_64", None, first.ours)) is None
    same = difference(first, Release("x", "x86_64", first.listings, first.ours, first.private, first.glibc))
    assert same is not None
    assert same.empty


def test_packed_relocations_and_private_symbols(offers: Offers) -> None:
    first = offers.releases("x86_64")[0]
    assert first.listings is not None
    libc = first.listings["libc.so.6"]
    node = next(iter(libc.symbols))._replace(node=RELR, symbol=RELR, kind="A", size=None)
    more = {
        **first.listings,
        "libc.so.6": type(libc)("libc.so.6", libc.soname, libc.arch, libc.symbols | {node}),
    }
    relr = Release("relr", "x86_64", more, first.ours, first.private, first.glibc)
    private = Release(
        "private", "x86_64", first.listings, first.ours, {"libc.so.6": frozenset({"_x"})}, first.glibc
    )
    packed = program(relr=True, needs=(Need("libc.so.6", ("GLIBC_2.2.5",), frozenset()),))
    wants = program(
        Import("_x", "GLIBC_PRIVATE", "libc.so.6", False),
        needs=(Need("libc.so.6", ("GLIBC_PRIVATE",), frozenset()),),
    )
    scene = Scene([packed, wants], ["", ""], offers.ours)
    together = Together(scene, {"x86_64": [first, relr, private]})
    for number, item in enumerate(scene.items):
        assert item.facts
        setting = together._setting(number)[1]
        made = together._judged_alone(number)
        assert made == {r.name: judge(item.facts, r, setting) for r in (first, relr, private)}
        assert len({str(j) for j in made.values()}) > 1, "the difference is one"
