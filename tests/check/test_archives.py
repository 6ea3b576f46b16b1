"""devel.archives: archives that a linker would stumble over, made by a real compiler."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.check import Material
from pipeline.check.archives import Archives
from pipeline.core.arch import arch, host_arch
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.run import run
from pipeline.elf.relocatable import Relocatable
from tests.check import probe_kit

PASS, FAIL, MISSING, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.MISSING, Outcome.ERROR
#: an archive's members, and the library that has the same symbols
MEMBERS = {
    "one": "extern int _two (void); extern int _start (void); int one (void) { return _two () + _start (); }",
    "two": "int _two (void) { return 2; } __attribute__ ((weak)) int index (void) { return 3; }",
    "long_double": "extern void _Unwind_Resume (void *); void raise (void) { _Unwind_Resume (0); }",
}
LIBC = "int one (void) { return 1; } __attribute__ ((weak)) int index (void) { return 3; }"


def release(root: Path, members: dict[str, str], *flags: str) -> Path:
    """A root with libc.so.6, a start file, and libc.a of ``members``."""
    lib, slib = root / "usr" / "lib64", root / "lib64"
    lib.mkdir(parents=True)
    slib.mkdir()
    (root / "c.c").write_text(LIBC)
    run(["gcc", "-shared", "-nostdlib", "-fPIC", "-Wl,-soname,libc.so.6", "c.c", "-o", slib / "libc.so.6"],
        cwd=root)  # fmt: skip
    for name, source in (members | {"crt1": "int _start (void) { return 0; }"}).items():
        (lib / "x.c").write_text(source)
        run(["gcc", "-w", "-fno-builtin", *flags, "-c", "x.c", "-o", f"{name}.o"], cwd=lib)
    archive(lib, *members)
    return root


def archive(lib: Path, *members: str) -> None:
    (lib / "libc.a").unlink(missing_ok=True)
    run(["ar", "rc", "libc.a", *(f"{name}.o" for name in members)], cwd=lib)
    for name in members:
        (lib / f"{name}.o").unlink()


def material(root: Path, mode: str = "native") -> Material:
    made = probe_kit.material({"12.0": root}, machine=host_arch().name)
    one = made.built["12.0"]
    manifest = one.manifest.model_copy(update={"mode": mode})
    return replace(made, built={"12.0": one.model_copy(update={"manifest": manifest})})


def ask(on: Material) -> Finding:
    (finding,) = Archives().run(on)
    assert [finding.target] == [q.target for q in Archives().questions(on)]
    return finding


def test_archives_that_hold_together(tmp_path: Path) -> None:
    said = ask(material(release(tmp_path, MEMBERS)))
    assert (said.outcome, said.measures) == (PASS, {"archives": 1, "members": 3}), said.seen


@pytest.mark.parametrize(
    ("member", "old", "new", "words"),
    [
        ("two", "int _two", "int _too", "usr/lib64/libc.a(one.o) needs _two, which no archive defines"),
        ("two", "int _two", "static int _two", "usr/lib64/libc.a(one.o) needs _two"),
        ("two", "__attribute__ ((weak))", "", "usr/lib64/libc.a: index is weak in libc.so.6 and not here"),
        ("one", "int one", "int index (void) { return 0; } int one", "index is weak in libc.so.6"),
        ("one", "int one", "int raise (void) { return 0; } int one", "raise is defined twice: one.o, long_"),
    ],
)
def test_a_member_that_is_wrong(tmp_path: Path, member: str, old: str, new: str, words: str) -> None:
    assert old in MEMBERS[member]
    said = ask(material(release(tmp_path, MEMBERS | {member: MEMBERS[member].replace(old, new)})))
    assert said.outcome is FAIL
    assert words in said.seen


def test_members_that_make_the_stack_executable(tmp_path: Path) -> None:
    said = ask(material(release(tmp_path, MEMBERS, "-Wa,--execstack")))
    assert said.outcome is FAIL
    assert "usr/lib64/crt1.o makes the stack executable" in said.seen
    assert "usr/lib64/libc.a: one.o makes the stack executable" in said.seen


def test_an_index_that_is_not_of_its_members(tmp_path: Path) -> None:
    file = release(tmp_path, MEMBERS) / "usr" / "lib64" / "libc.a"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"\0_two\0", b"\0_too\0", 1))
    said = ask(material(tmp_path))
    assert said.outcome is FAIL
    assert "_two is defined, and not in the index" in said.seen
    assert "_too is in the index, and no member defines it" in said.seen
    file.write_bytes(whole[:-9])
    assert ask(material(tmp_path)).outcome is ERROR


def test_objects_of_another_machine(tmp_path: Path) -> None:
    other = arch("aarch64" if host_arch().name == "x86_64" else "x86_64")
    said = ask(replace(material(release(tmp_path, MEMBERS)), arch=other))
    assert said.outcome is FAIL
    assert "usr/lib64/crt1.o is for ELF machine" in said.seen
    assert "usr/lib64/libc.a: one.o is for ELF machine" in said.seen


def test_what_is_kept_of_archives_is_of_these_very_ones(tmp_path: Path) -> None:
    on = material(release(tmp_path, MEMBERS))
    assert ask(on).outcome is PASS
    assert ask(on).outcome is PASS
    file = tmp_path / "usr" / "lib64" / "libc.a"
    file.write_bytes(file.read_bytes().replace(b"\0_two\0", b"\0_too\0", 1))
    assert ask(on).outcome is FAIL


def test_archives_that_are_links_are_read(tmp_path: Path) -> None:
    one = "void lost (void); void one (void) { lost (); }"
    lib = release(tmp_path, MEMBERS | {"one": one}) / "usr" / "lib64"
    (lib / "libc.a").rename(tmp_path / "usr" / "libc.a")
    (lib / "libc.a").symlink_to("../libc.a")
    said = ask(material(tmp_path))
    assert said.outcome is FAIL
    assert "needs lost" in said.seen


def test_without_libc_a(tmp_path: Path) -> None:
    (release(tmp_path, MEMBERS) / "usr" / "lib64" / "libc.a").unlink()
    assert ask(material(tmp_path)).outcome is FAIL
    assert ask(material(tmp_path, "supplied")).outcome is MISSING


def test_a_damaged_object_is_malformed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text(MEMBERS["one"])
    run(["gcc", "-c", "x.c", "-o", "x.o"], cwd=tmp_path)
    whole = (tmp_path / "x.o").read_bytes()
    assert {s.name for s in Relocatable(whole, "x").symbols} >= {"one", "_two"}
    sections = int.from_bytes(whole[40:48], "little")
    for at in (*range(64), *range(sections, len(whole), 3)):
        for value in (0, 0x7F, 0xFF):
            data = whole[:at] + bytes([value]) + whole[at + 1 :]
            with suppress(MalformedInput):
                one = Relocatable(data, "x")
                assert isinstance(one.symbols, tuple)
                assert one.executable_stack in (True, False)
    with pytest.raises(MalformedInput, match="x"):
        Relocatable(whole[:40], "x")
