"""The museum's entries, its edits of ELF files, and when an entry counts as caught."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.known_bad import chosen, table
from pipeline.core.arch import arch, host_arch
from pipeline.core.errors import EvidenceError, UsageError
from pipeline.core.outcome import Finding, Outcome, Target
from pipeline.elf import read as read_elf
from pipeline.knownbad import edits, entry
from pipeline.knownbad.elfedit import EDITS, ElfEdit
from pipeline.knownbad.entry import REFUSED, Change, Edit, Entry, Record
from pipeline.knownbad.judge import Seen, answered, expected_here, judge_record, red, unanswered
from pipeline.profile import load
from tests.report.factory import draft, of_this_pipeline

LOADER = Path(host_arch().interp)


def test_every_entry_can_be_read_and_names_checks_that_exist() -> None:
    found = entry.load()
    assert len({e.name for e in found}) == len(found)
    assert chosen(found, (), only_edits=False, waiting=True) == found
    assert any(e.good for e in found), "a good release runs beside the bad ones"
    for one in found:
        for profile in one.profiles:
            assert one.releases_of(load(profile))


def test_the_table_of_kinds_has_each_entry_once() -> None:
    table = (entry.DIRECTORY / "README.md").read_text().partition("## What goes wrong, by kind")[2]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = [name for line in lines for name in re.findall(r"`([a-z0-9-]+)`", line.split(" | ")[-1])]
    assert sorted(named) == sorted(e.name for e in entry.load())


def test_an_entry_that_waits_is_judged_once_its_check_is_there() -> None:
    late = Entry(title="x", edit=(Edit(do="nothing"),), expect=("no.such",), waits="no.such")
    ready = late.model_copy(update={"waits": "abi.delta", "expect": ("abi.delta",)})
    assert chosen([late, ready], (), only_edits=False, waiting=False) == [ready]
    assert chosen([late, ready], (), only_edits=False, waiting=True) == [late, ready]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = 1", "title"),
        ('title = "x"\n', "either"),
        ('title = "x"\nunknown = 1\n[[edit]]\ndo = "nothing"\n', "unknown"),
        ('title = "x"\nexpect = ["b", "a"]\n[[edit]]\ndo = "nothing"\n', "in order"),
        ('title = "x"\n[[change]]\nfile = "a"\n', "exactly one"),
        ("title = ", "is not TOML"),
    ],
)
def test_a_wrong_entry_is_wrong_use(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(UsageError, match=words):
        entry.load(tmp_path)


def test_an_entry_that_names_no_check_or_edit_is_refused() -> None:
    def one(**keys: Any) -> Entry:
        return Entry(title="x", edit=(Edit(do=keys.pop("do", "nothing"), **keys.pop("more", {})),), **keys)

    with pytest.raises(UsageError, match="there is no check"):
        chosen([one(expect=("no.such",))], (), only_edits=False, waiting=False)
    assert chosen([one(expect=("no.such",), waits="no.such")], (), only_edits=False, waiting=False) == []
    with pytest.raises(UsageError, match="there is no edit"):
        chosen([one(do="no-such")], (), only_edits=False, waiting=False)
    with pytest.raises(UsageError, match="symbol-size"):
        chosen([one(do="symbol-size", more={"symbol": "x"})], (), only_edits=False, waiting=False)
    with pytest.raises(UsageError, match="there is no entry"):
        chosen([one()], ("other",), only_edits=False, waiting=False)


def test_source_entries_are_left_out_where_only_edits_are_asked_for() -> None:
    source = Entry(title="x", change=(Change(file="a", remove=True),))
    assert chosen([source], (), only_edits=True, waiting=False) == []
    assert chosen([source], (), only_edits=False, waiting=False) == [source]


def finding(check: str, outcome: Outcome, case: str = "") -> Finding:
    target = Target(profile="bookworm", release="12.1", arch="x86_64")
    return Finding(check=check, target=target, case=case, outcome=outcome, expected="e", seen="s")


def test_what_the_good_release_does_not_answer_says_nothing_of_a_bad_one() -> None:
    known = unanswered([finding("a", Outcome.PASS), finding("b", Outcome.MISSING)])
    bad = [finding("a", Outcome.FAIL), finding("b", Outcome.MISSING), finding("c", Outcome.MISSING)]
    assert set(red(bad, known)) == {"a", "c"}
    with pytest.raises(EvidenceError, match="a good release is red"):
        unanswered([finding("a", Outcome.ERROR)])


def test_an_entry_is_caught_by_exactly_the_checks_it_names() -> None:
    assert Seen("x", ("a", "b"), {"a": "", "b": ""}).holds
    assert Seen("x", ("a", "b"), {"a": ""}).missed == ("b",)
    assert Seen("x", ("a",), {"a": "", "b": ""}).more == ("b",)
    assert not Seen("x", (), {}, trouble="no space").holds
    assert Seen("x", (), {}).holds
    shown = table([Seen("one", ("a", "b"), {"a": "w", "c": "w"})])
    assert "missed: b" in shown
    assert "more: c" in shown


def test_a_check_that_answers_nothing_here_is_not_expected_unless_no_other_can_see_it() -> None:
    assert expected_here(("a", "b"), frozenset({"a", "b", "c"})) == (("a", "b"), "")
    here, note = expected_here(("a", "b"), frozenset({"a"}))
    assert here == ("a",)
    assert "b" in note
    assert expected_here(("a", "b"), frozenset({"c"})) == (("a", "b"), "")
    assert answered([finding("a", Outcome.PASS), finding("b", Outcome.MISSING)]) == {"a"}


def test_an_architecture_may_be_red_in_more() -> None:
    one = Entry(title="x", edit=(Edit(do="nothing"),), expect=("b",), also_on={"aarch64": ("a",)})
    assert one.expected_on(arch("aarch64")) == ("a", "b")
    assert one.expected_on(arch("x86_64")) == ("b",)


def readelf(path: Path, *options: str) -> str:
    return subprocess.run(
        ["readelf", "-W", *options, path], capture_output=True, text=True, check=True, timeout=60
    ).stdout


#: an edit, its keys, readelf's option, and what it says of the edited file and of no other
SEEN: list[tuple[str, dict[str, Any], str, str]] = [
    ("symbol-size", {"symbol": "__rseq_offset", "size": 77}, "--dyn-syms", " 77 OBJECT  GLOBAL"),
    ("symbol-type", {"symbol": "__tls_get_addr", "to": "IFUNC"}, "--dyn-syms", "IFUNC   GLOBAL DEFAULT"),
    ("symbol-binding", {"symbol": "__rseq_size", "to": "WEAK"}, "--dyn-syms", "OBJECT  WEAK   DEFAULT"),
    ("symbol-visibility", {"symbol": "__rseq_size", "to": "PROTECTED"}, "--dyn-syms", "PROTECTED"),
    ("symbol-rename", {"symbol": "__rseq_size", "to": "__rseq_sizf"}, "--dyn-syms", "__rseq_sizf"),
    ("symbol-version", {"symbol": "__rseq_size", "hidden": True}, "--dyn-syms", "__rseq_size@GLIBC_2.35"),
    ("symbol-version", {"symbol": "__rseq_size", "to": "GLIBC_2.34"}, "--dyn-syms", "_size@@GLIBC_2.34"),
    ("node-flags", {"node": "GLIBC_2.35", "flags": 2}, "-V", "Flags: WEAK"),
    ("node-orphan", {"node": "GLIBC_2.35"}, "-V", "Cnt: 1  Name: GLIBC_2.35"),
    ("segment-flags", {"segment": "GNU_STACK", "flags": 7}, "-l", "RWE"),
    ("segment-type", {"segment": "GNU_RELRO", "to": "NULL"}, "-l", "NULL "),
    ("dynamic-tag", {"tag": "SONAME", "to": "RPATH"}, "-d", "(RPATH)"),
    ("dynamic-add", {"tag": "TEXTREL"}, "-d", "(TEXTREL)"),
    ("header-flags", {"flags": 5}, "-h", "0x5"),
    ("section-type", {"section": ".dynsym", "to": "NULL"}, "-S", ".dynsym NULL"),
]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the loader of a Linux system is edited")
@pytest.mark.parametrize(("do", "keys", "option", "words"), SEEN, ids=[s[0] for s in SEEN])
def test_an_edit_is_seen_by_readelf(
    tmp_path: Path, do: str, keys: dict[str, Any], option: str, words: str
) -> None:
    before = LOADER.read_bytes()
    edits.check(Edit(do=do, **keys))
    elf = ElfEdit(before, "ld.so")
    EDITS[do](elf, **keys)
    after = tmp_path / "ld.so"
    after.write_bytes(elf.data)
    assert len(elf.data) == len(before)

    def squeezed(text: str) -> str:
        return " ".join(text.split())

    assert squeezed(words) in squeezed(readelf(after, option))
    assert squeezed(words) not in squeezed(readelf(LOADER, option))


@pytest.mark.parametrize("do", ["gnu-hash-entry", "bloom-filter", "node-hash"])
def test_an_edit_that_only_a_lookup_sees_changes_a_few_bytes(do: str) -> None:
    before = LOADER.read_bytes()
    elf = ElfEdit(before, "ld.so")
    keys = {"gnu-hash-entry": {"symbol": "__rseq_size"}, "node-hash": {"node": "GLIBC_2.35"}}.get(do, {})
    EDITS[do](elf, **keys)
    changed = sum(a != b for a, b in zip(before, elf.data, strict=True))
    assert 0 < changed <= 64
    names = {s.name for s in read_elf(LOADER).defined}
    assert "__rseq_size" in names


def test_nothing_changes_nothing() -> None:
    elf = ElfEdit(LOADER.read_bytes(), "ld.so")
    EDITS["nothing"](elf)
    assert elf.data == LOADER.read_bytes()


@pytest.mark.parametrize(
    ("do", "keys"),
    [
        ("symbol-size", {"symbol": "no_such", "size": 1}),
        ("node-hash", {"node": "NO_SUCH"}),
        ("segment-flags", {"segment": "INTERP", "flags": 1, "number": 3}),
        ("dynamic-tag", {"tag": "TEXTREL", "to": "NULL"}),
        ("symbol-rename", {"symbol": "__rseq_size", "to": "longer_than_that"}),
        ("bytes-in", {"section": ".text", "find": "00112233445566778899", "put": "00112233445566778899"}),
        ("string", {"old": "no-such-string", "new": "x"}),
    ],
)
def test_an_edit_that_does_not_fit_is_wrong_use(do: str, keys: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"ld\.so|longer"):
        EDITS[do](ElfEdit(LOADER.read_bytes(), "ld.so"), **keys)


def test_an_entry_is_for_the_profiles_and_arches_it_names() -> None:
    one = Entry(title="x", edit=(Edit(do="nothing"),), profiles=("el9",), arches=("aarch64",))
    assert one.fits(load("el9"), arch("aarch64"))
    assert not one.fits(load("el9"), arch("x86_64"))
    assert not one.fits(load("bookworm"), arch("aarch64"))
    roles = {
        r: one.model_copy(update={"release": r}).releases_of(load("el9"))
        for r in ("oldest", "update", "newest", "all")
    }
    each = ("9.0", "9.0.z", "9.1")
    assert roles == {"oldest": each[:1], "update": each[1:2], "newest": each[2:], "all": each}


@pytest.mark.parametrize("one", [e for e in entry.load() if e.record], ids=lambda e: e.name)
def test_evidence_of_each_entry_is_refused_and_no_other(one: Entry) -> None:
    assert judge_record(one, of_this_pipeline(draft()).evidence().text).holds


def test_evidence_that_was_changed_is_refused_and_a_harmless_change_is_not() -> None:
    good = draft().evidence().text
    for name, rows in (
        ("verdict", [Record(at="findings.0.outcome", value="FAIL")]),
        ("dropped", [Record(at="findings.0", drop=True)]),
        ("every", [Record(at="findings.*.outcome", value="WAIVED")]),
    ):
        one = Entry(title="x", record=rows, expect=(REFUSED,), path=Path(f"{name}.toml"))
        assert judge_record(one, good).holds, name
    same = Entry(title="x", record=[Record(at="command", value="another")], path=Path("same.toml"))
    assert judge_record(same, good).holds
    assert (
        "nothing there"
        in judge_record(same.model_copy(update={"record": (Record(at="no.such"),)}), good).trouble
    )
