"""rpm.update, rpm.contents, rpm.debuginfo, abi.tunables: what a later release may change, and what not."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import elf
from pipeline.check import StaticCheck
from pipeline.check.abi_tunables import table_faults
from pipeline.check.packages import Payload
from pipeline.check.updating import Contents, DebugInfo, Update
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.records import Built
from pipeline.elf import tunables
from pipeline.rpm import debuginfo
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


def test_headers_come_with_the_symbols_and_not_later(tmp_path: Path) -> None:
    found = ask(Contents(), good(tmp_path, rz=TEXTS))
    assert {r: f.outcome for r, f in found.items()} == {
        "12.0 -> 12.0.z": PASS, "12.0 -> 12.1": PASS, "12.0.z -> 12.1": FAIL
    }  # fmt: skip
    assert "+ /usr/include/sys/rseq.h" in found["12.0.z -> 12.1"].seen


def test_another_makers_packages_are_not_asked(tmp_path: Path) -> None:
    of = good(tmp_path)
    supplied = of["12.1"].manifest.model_copy(update={"mode": "supplied"})
    of["12.1"] = of["12.1"].model_copy(update={"manifest": supplied})
    for check in (Update(), Contents()):
        assert list(ask(check, of)) == ["12.0 -> 12.0.z"]
    assert "12.1" not in [q.target.release for q in DebugInfo().questions(material(of, Path("/nowhere")))]


def marks(number: int, **over: Any) -> Marks:
    one = Marks(f"{number:040x}", f"{number}.debug", number, 5, 1000 + number)
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
        ({}, {"/usr/lib/debug/lib64/1.debug": marks(1, crc=9)}, "is not 1.debug of checksum 0x00000001"),
        ({}, {"/usr/lib/debug/lib64/3.debug": marks(3)}, "which no file has"),
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


ROW = bytes(8)
TABLE = {"glibc.a.b": b"\1" + ROW, "glibc.pthread.rseq": b"\2\0" + ROW[1:], "glibc.z.z": b"\3" + ROW}
OURS = "glibc.pthread.rseq"


def test_a_table_of_tunables_that_differs_is_red() -> None:
    on = TABLE | {OURS: b"\2\1" + ROW[1:]}
    assert table_faults(TABLE, TABLE, OURS, changes=False) == []
    assert table_faults(TABLE, on, OURS, changes=True) == []
    assert table_faults(TABLE, on, OURS, changes=False) == [f"{OURS}: 1 bytes of its row differ"]
    assert table_faults(TABLE, TABLE, OURS, changes=True) == [f"{OURS}: 0 bytes of its row differ"]
    assert table_faults(TABLE, on | {OURS: b"\2\1\1" + ROW[2:]}, OURS, changes=True)
    assert table_faults(TABLE, TABLE | {"glibc.z.z": b"\4" + ROW}, OURS, changes=False)
    assert table_faults(TABLE, dict(reversed(TABLE.items())), OURS, changes=False) == [
        "numbers differ, from glibc.z.z on"
    ]
    more = {**TABLE, "glibc.y.y": ROW}
    assert table_faults(TABLE, more, OURS, changes=False) == ["+ glibc.y.y"]
    assert table_faults(more, TABLE, OURS, changes=False) == ["- glibc.y.y"]


def test_the_table_of_this_machines_loader_is_what_it_lists() -> None:
    loader = Path(host_arch().interp)
    said = subprocess.run([loader, "--list-tunables"], capture_output=True, text=True, check=True, timeout=60)
    listed = [line.partition(":")[0] for line in said.stdout.splitlines()]
    assert list(tunables.table(elf.read(loader))) == listed
