"""rpm.update, rpm.contents, rpm.debuginfo: what a later release may change, and what not."""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import profile as profiles
from pipeline.check import StaticCheck
from pipeline.check.packages import Payload
from pipeline.check.texts import CommittedTexts, Contents, texts_of, texts_path
from pipeline.check.updating import DebugInfo, Update
from pipeline.core import paths
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.records import Built
from pipeline.rpm import debuginfo, texts
from pipeline.rpm.debuginfo import Marks
from tests.check.rpm_bench import answers, built, material
from tests.rpmwriter import REG, Item, write

PASS, FAIL = Outcome.PASS, Outcome.FAIL
HEADERS = (Item("/usr/include/sys/rseq.h", data=b"extern"), Item("/usr/include/bits/rseq.h", data=b"#define"))
TEXTS = (
    Item("/etc/ld.so.conf", data=b"include ld.so.conf.d/*.conf\n"),
    Item("/usr/bin/ldd", REG | 0o755, b"#!/bin/sh\n"),
    Item("/usr/lib64/gconv/gconv-modules", data=b"module A B\nmodule C D\n"),
)
RELEASES = {"12.0": "9.a", "12.0.z": "9.a.1", "12.1": "40.a"}


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))


def release(directory: Path, name: str, items: tuple[Item, ...], **over: Any) -> Built:
    directory.mkdir()
    made = {"version": "2.36", "release": RELEASES[name], "items": items} | over
    return built(name, [write(directory, "glibc", **made)])


def good(tmp_path: Path, **over: tuple[Item, ...]) -> dict[str, Built]:
    contents = {"r0": TEXTS, "rz": TEXTS + HEADERS, "r1": TEXTS + HEADERS} | over
    return {
        name: release(tmp_path / name, name, items)
        for name, items in zip(RELEASES, contents.values(), strict=True)
    }


def ask(check: StaticCheck, of: dict[str, Built]) -> dict[str, Finding]:
    on = material(of, Path("/nowhere"))
    found = check.run(on)
    assert [f.target for f in found] == [q.target for q in check.questions(on)]
    return {release: finding for (release, _), finding in answers(found).items()}


def test_good_releases_are_updates_that_change_nothing_else(tmp_path: Path) -> None:
    of = good(tmp_path)
    for check in (Update(), Contents()):
        assert [f.outcome for f in ask(check, of).values()] == [PASS] * 3


def test_a_release_that_rpm_takes_for_an_older_one_is_red(tmp_path: Path) -> None:
    of = good(tmp_path)
    of["12.1"] = release(tmp_path / "old", "12.1", TEXTS, release="8.a")
    found = ask(Update(), of)
    assert [f.outcome for f in found.values()] == [PASS, FAIL, FAIL]
    assert "glibc-2.36-8.a is no update of glibc-2.36-9.a.1" in found["12.0.z -> 12.1"].seen
    of["12.1"] = release(tmp_path / "same", "12.1", TEXTS, release="9.a.1")
    assert ask(Update(), of)["12.0.z -> 12.1"].outcome is FAIL
    of["12.0"] = release(tmp_path / "epoch", "12.0", TEXTS, tags={1003: 1})
    assert ask(Update(), of)["12.0 -> 12.0.z"].outcome is FAIL


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (Item("/etc/ld.so.conf", data=b"/tmp/lib\n"), "/etc/ld.so.conf: another content"),
        (Item("/usr/lib64/gconv/gconv-modules", data=b"module A B\n"), "gconv-modules: another content"),
        (Item("/usr/bin/more", data=b"x"), "+ /usr/bin/more"),
    ],
)
def test_a_text_that_changes_is_red(tmp_path: Path, changed: Item, words: str) -> None:
    items = tuple(i for i in (*TEXTS, *HEADERS) if i.path != changed.path)
    found = ask(Contents(), good(tmp_path, r1=(*items, changed)))
    assert [f.outcome for f in found.values()] == [PASS, FAIL, FAIL]
    assert words in found["12.0 -> 12.1"].seen


def test_what_is_said_of_one_content_is_not_said_of_another(tmp_path: Path) -> None:
    """A waiver names what was seen: it must not cover the next change of the same file."""
    seen = set()
    for number, data in enumerate((b"one", b"two")):
        for path in ("/etc/ld.so.conf", "/etc/new.conf"):
            items = tuple(i for i in (*TEXTS, *HEADERS) if i.path != path)
            where = tmp_path / f"{number}-{path.rpartition('/')[2]}"
            where.mkdir()
            of = good(where, r1=(*items, Item(path, data=data)))
            seen.add(ask(Contents(), of)["12.0 -> 12.1"].seen)
    assert len(seen) == 4


def test_headers_come_with_the_symbols_and_not_later(tmp_path: Path) -> None:
    found = ask(Contents(), good(tmp_path, rz=TEXTS))
    assert {r: f.outcome for r, f in found.items()} == {
        "12.0 -> 12.0.z": PASS, "12.0 -> 12.1": PASS, "12.0.z -> 12.1": FAIL
    }  # fmt: skip
    assert "+ /usr/include/sys/rseq.h" in found["12.0.z -> 12.1"].seen


def committed(monkeypatch: pytest.MonkeyPatch, where: Path, of: Built, **over: Any) -> Path:
    """The texts of a release, committed as those of its profile."""
    monkeypatch.setattr(paths, "BASELINES", where / "abi-baselines")
    file = texts_path(profiles.load("bookworm"), "x86_64")
    file.parent.mkdir(parents=True)
    file.write_text(texts.render(replace(texts_of(of), **over)))
    return file


def test_the_committed_texts_are_green(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = good(tmp_path)
    file = committed(monkeypatch, tmp_path, of["12.1"])
    assert file.name == "x86_64.texts"
    assert file.parent.name == "12.1"
    assert {f.outcome for f in ask(CommittedTexts(), of).values()} == {PASS}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (Item("/etc/ld.so.conf", data=b"/tmp/lib\n"), "/etc/ld.so.conf: another content"),
        (Item("/usr/bin/more", data=b"x"), "+ /usr/bin/more"),
        (Item("/etc/ld.so.conf", REG | 0o755, b"\x7fELF"), "/etc/ld.so.conf: another content"),
        (None, "- /etc/ld.so.conf"),
    ],
)
def test_texts_that_are_wrong_alike_in_all_releases_are_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: Item | None, words: str
) -> None:
    (tmp_path / "right").mkdir()
    committed(monkeypatch, tmp_path, good(tmp_path / "right")["12.1"])
    gone = changed.path if changed else "/etc/ld.so.conf"
    items = tuple(i for i in TEXTS if i.path != gone) + ((changed,) if changed else ())
    of = good(tmp_path, r0=items, rz=items + HEADERS, r1=items + HEADERS)
    assert {f.outcome for f in ask(Contents(), of).values()} == {PASS}
    found = ask(CommittedTexts(), of)
    assert {f.outcome for f in found.values()} == {FAIL}
    assert all(words in f.seen for f in found.values())


def test_headers_of_the_symbols_are_there_where_those_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = good(tmp_path, r0=TEXTS + HEADERS, rz=TEXTS)
    committed(monkeypatch, tmp_path, of["12.1"])
    found = ask(CommittedTexts(), of)
    assert [f.outcome for f in found.values()] == [FAIL, FAIL, PASS]
    assert "+ /usr/include/sys/rseq.h" in found["12.0"].seen
    assert "- /usr/include/sys/rseq.h" in found["12.0.z"].seen


def test_what_tools_of_another_image_wrote_counts_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Item("/usr/share/i18n/charmaps/UTF-8.gz", data=b"one")
    (tmp_path / "right").mkdir()
    theirs = good(tmp_path / "right", r1=(*TEXTS, *HEADERS, table))["12.1"]
    file = committed(monkeypatch, tmp_path, theirs, image="mmdebstrap bookworm")
    other = replace(table, data=b"two")
    of = good(tmp_path, r0=(*TEXTS, other), rz=(*TEXTS, *HEADERS, other))
    found = ask(CommittedTexts(), of)
    assert [f.outcome for f in found.values()] == [PASS, PASS, FAIL]
    assert "of 1 that tools of another image wrote, the names alone" in found["12.0"].seen
    assert f"- {table.path}" in found["12.1"].seen
    file.write_text(texts.render(replace(texts_of(theirs), image="")))
    assert f"{table.path}: another content" in ask(CommittedTexts(), of)["12.0"].seen


def test_texts_that_are_not_committed_are_missing_and_cut_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = good(tmp_path)
    file = committed(monkeypatch, tmp_path, of["12.1"])
    whole = file.read_text()
    for text in (whole[:-3], whole.replace("# texts", "# text"), whole.splitlines()[0] + "\n", ""):
        file.write_text(text)
        assert {f.outcome for f in ask(CommittedTexts(), of).values()} == {Outcome.ERROR}
    file.unlink()
    found = ask(CommittedTexts(), of)["12.0"]
    assert found.outcome is Outcome.MISSING
    assert "nox -s baseline -- --profile bookworm --release 12.1 --arch x86_64" in found.seen


def test_another_makers_packages_are_not_asked(tmp_path: Path) -> None:
    of = good(tmp_path)
    supplied = of["12.1"].manifest.model_copy(update={"mode": "supplied"})
    of["12.1"] = of["12.1"].model_copy(update={"manifest": supplied})
    for check in (Update(), Contents()):  # steps
        assert list(ask(check, of)) == ["12.0 -> 12.0.z"]
    for one in (DebugInfo(), CommittedTexts()):
        assert "12.1" not in [q.target.release for q in one.questions(material(of, Path("/nowhere")))]


def test_a_damaged_file_is_malformed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int main (void) { return 0; }\n")
    subprocess.run(["gcc", "-Wl,--build-id", "-o", "a", "a.c"], cwd=tmp_path, check=True, timeout=60)
    whole = (tmp_path / "a").read_bytes()
    note = whole.index(b"GNU\0", whole.index(b"GNU\0") + 1)
    some = random.Random(1)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(some.choice((1, 4))):
            places = (some.randrange(64), note - some.randrange(1, 13), len(data) - 1 - some.randrange(2000))
            data[some.choice(places)] = some.choice((0, 1, 0x7F, 0xFF))
        with contextlib.suppress(MalformedInput):
            debuginfo._read(bytes(data), "a")


def marks(number: int, **over: Any) -> Marks:
    one = Marks(f"{number:040x}", f"{number}.debug", number, 5, 1000 + number, 100)
    return replace(one, **over)


FILES = {"/lib64/1": marks(1), "/lib64/2": marks(2)}
DEBUG = {f"/usr/lib/debug/lib64/{n}.debug": marks(n, crc=n, link="", link_crc=0, functions=0) for n in (1, 2)}


def test_debug_files_that_match_are_green() -> None:
    assert debuginfo.faults(FILES, DEBUG) == []
    hard_linked = {**FILES, "/usr/bin/1": marks(1)}
    assert debuginfo.faults(hard_linked, DEBUG) == []


@pytest.mark.parametrize(
    ("files", "debug", "words"),
    [
        ({"/lib64/1": marks(1, build_id="f" * 40)}, {}, f"no debug file has its build id {'f' * 40}"),
        ({"/lib64/1": marks(1, build_id="f" * 40)}, {}, "which no file has"),
        ({"/lib64/1": marks(1, build_id="")}, {}, "/lib64/1: no build id"),
        ({"/lib64/1": marks(1, functions=0)}, {}, "/lib64/1: no symbol table is left in it"),
        ({"/lib64/1": marks(1, link="", link_crc=0)}, {}, "/lib64/1: names no debug file"),
        ({"/lib64/1": marks(1, link="3.debug")}, {}, "is not 3.debug of checksum 0x00000001"),
        ({"/lib64/2": marks(1, crc=7)}, {}, "/lib64/1, /lib64/2: one build id, and different files"),
        ({"/lib64/1": marks(2), "/lib64/2": marks(1)}, {}, "/lib64/1: it is 2.debug, so another file's"),
        ({}, {"/usr/lib/debug/lib64/1.debug": marks(1, crc=9)}, "is not 1.debug of checksum 0x00000001"),
        ({}, {"/usr/lib/debug/lib64/3.debug": marks(3)}, "which no file has"),
        ({}, {"/usr/lib/debug/lib64/1.debug": marks(1, crc=1, info=0)}, "no debug information is in it"),
    ],
)
def test_a_debug_file_that_does_not_match_is_red(
    files: dict[str, Marks], debug: dict[str, Marks], words: str
) -> None:
    assert any(words in fault for fault in debuginfo.faults(FILES | files, DEBUG | debug))


@pytest.mark.skipif(not Path("/usr/bin/objcopy").exists(), reason="binutils split the debug information off")
def test_what_find_debuginfo_does_is_green_and_a_stripped_file_is_red(tmp_path: Path) -> None:
    source, program, debug = (tmp_path / n for n in ("a.c", "a", "a.debug"))
    source.write_text("int main (void) { return 0; }\n")

    def run(*argv: str | Path) -> None:
        subprocess.run(argv, check=True, timeout=60)

    run("gcc", "-g", "-Wl,--build-id", "-o", program, source)
    run("objcopy", "--only-keep-debug", program, debug)
    run("objcopy", "-g", f"--add-gnu-debuglink={debug}", program)

    def asked() -> Finding:
        where = tmp_path / f"rpms-{program.stat().st_size}"
        where.mkdir()
        one = write(where, "glibc", items=[Item("/usr/bin/a", REG | 0o755, program.read_bytes())])
        items = [Item("/usr/lib/debug/usr/bin/a.debug", data=debug.read_bytes())]
        two = write(where, "glibc-debuginfo", items=items)
        return ask(DebugInfo(), {"12.0": built("12.0", [one, two])})["12.0"]

    assert asked().outcome is PASS
    run("strip", program)
    assert "no symbol table is left in it" in asked().seen


@pytest.mark.parametrize(("color", "outcome"), [(2, PASS), (1, FAIL), (0, FAIL)])
def test_a_wrong_color_is_red(tmp_path: Path, color: int, outcome: Outcome) -> None:
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, 62)
    items = [
        Item("/lib64/a", REG | 0o755, head),
        Item("/lib64/b", REG | 0o755, head),
        Item("/etc/c", data=b""),
    ]
    one = write(tmp_path, "glibc", items=items, tags={1140: (color, 2, 0)})
    finding = ask(Payload(), {"12.0": built("12.0", [one])})["12.0"]
    assert finding.outcome is outcome
    if outcome is FAIL:
        assert f"/lib64/a: color 2 by its content, {color} in the file list" in finding.seen
