"""Listings: glibc's own notation, every DSO of a release, nothing that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import elf
from pipeline.abi.files import listings
from pipeline.abi.listing import (
    Line,
    Listing,
    listing_of,
    parse_line,
    render,
    stable_name,
)
from pipeline.core.arch import host_arch
from pipeline.core.errors import MalformedInput
from pipeline.core.run import run
from tests.elf_fixtures import LD, LIBC, LOADER_RSEQ, MODULE, Dso, release_root


def listed(dso: Dso, directory: Path) -> Listing:
    return listing_of(elf.read(dso.build(directory / "x.so")), "x.so")


def test_the_notation(tmp_path: Path) -> None:
    listing = listed(LOADER_RSEQ, tmp_path)
    assert listing.text == (
        "GLIBC_2.2.5 _dl_mcount F\n"
        "GLIBC_2.2.5 _r_debug D 0x28\n"
        "GLIBC_2.35 __rseq_flags D 0x4\n"
        "GLIBC_2.35 __rseq_offset D 0x8\n"
        "GLIBC_2.35 __rseq_size D 0x4\n"
    )
    assert listing.private == {Line("GLIBC_PRIVATE", "_rtld_global", "D", 4)}
    assert (listing.arch, listing.soname, listing.count) == (host_arch().name, LD, 5)
    assert listing.nodes == {"GLIBC_2.2.5", "GLIBC_2.35"}


def test_indirect_functions_thread_local_data_and_empty_objects(tmp_path: Path) -> None:
    source = """
        static int one (void) { return 1; }
        static void *choose (void) { return one; }
        int indirect (void) __attribute__ ((ifunc ("choose")));
        __thread int per_thread;
        char nothing[0];
        int weak (void) __attribute__ ((weak));
        int weak (void) { return 2; }
        __attribute__ ((visibility ("hidden"))) int hidden;
        __attribute__ ((visibility ("protected"))) int protected;
        extern int elsewhere;
        int *user (void) { return &elsewhere; }
    """
    dso = Dso("x.so", source, {"V_1": ("indirect", "per_thread", "nothing", "weak", "protected")})
    assert listed(dso, tmp_path).text.splitlines() == [
        "V_1 indirect F",
        "V_1 nothing D 0x0",
        "V_1 per_thread T 0x4",
        "V_1 protected D 0x4",
        "V_1 weak F",
    ]


def test_default_and_hidden_versions_are_both_listed(tmp_path: Path) -> None:
    source = """
        int old (void) { return 1; }
        int new (void) { return 2; }
        __asm__ (".symver old,f@V_1");
        __asm__ (".symver new,f@@V_2");
    """
    dso = Dso("x.so", source, {"V_1": ("f",), "V_2": ("f",)})
    binary = elf.read(dso.build(tmp_path / "x.so"))
    assert listing_of(binary, "x.so").text == "V_1 f F\nV_2 f F\n"
    assert {s.version: s.hidden for s in binary.defined if s.name == "f"} == {"V_1": True, "V_2": False}


def test_a_node_without_symbols_is_listed_because_packages_depend_on_nodes(tmp_path: Path) -> None:
    dso = Dso("x.so", "int f (void) { return 1; }", {"V_1": ("f",), "V_ABI": ()})
    listing = listed(dso, tmp_path)
    assert listing.text == "V_1 f F\nV_ABI V_ABI A\n"
    assert listing.count == 1


def test_the_private_node_is_no_public_node(tmp_path: Path) -> None:
    dso = Dso("x.so", "int f (void) { return 1; }", {"GLIBC_PRIVATE": ("f",)})
    listing = listed(dso, tmp_path)
    assert listing.symbols == frozenset()
    assert listing.private == {Line("GLIBC_PRIVATE", "f", "F")}


def test_an_absolute_symbol_is_not_overlooked(tmp_path: Path) -> None:
    source = '__asm__ (".globl mark\\n.set mark, 42");\nint f (void) { return 1; }'
    assert listed(Dso("x.so", source, {"V_1": ("f", "mark")}), tmp_path).text == "V_1 f F\nV_1 mark A\n"


def test_a_module_without_versions(tmp_path: Path) -> None:
    listing = listed(MODULE, tmp_path)
    assert listing.text == "- gconv F\n- gconv_init F\n"
    assert listing.soname == ""


def test_lines_sort_as_bytes() -> None:
    entries = [Line("GLIBC_2.4", "b", "F"), Line("GLIBC_2.34", "b", "D", 8), Line("GLIBC_2.34", "_b", "F"),
               Line("GLIBC_2.34", "B", "F"), Line("GLIBC_2.10", "z", "F")]  # fmt: skip
    assert render(entries).splitlines() == [
        "GLIBC_2.10 z F",
        "GLIBC_2.34 B F",
        "GLIBC_2.34 _b F",
        "GLIBC_2.34 b D 0x8",
        "GLIBC_2.4 b F",
    ]


@pytest.mark.parametrize("line", ["V_1 f F", "V_1 d D 0x0", "V_1 d D 0x1a8", "V_1 t T 0x4", "V_1 V_1 A"])
def test_a_line_comes_back_as_itself(line: str) -> None:
    assert str(parse_line(line)) == line


@pytest.mark.parametrize(
    "line",
    ["", "V_1 f", "V_1 f F 0x4", "V_1 d D", "V_1 d D 4", "V_1 d D 0x04", "V_1 d D 0xG", "V_1 f X", "V_1  f F",
     "V_1 f F ", "V_1 f A 0x1", "V_1 d D 0x", "V_1 f F\n"],
)  # fmt: skip
def test_a_wrong_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_line(line)


def test_a_name_that_would_break_a_line_is_refused(tmp_path: Path) -> None:
    data = MODULE.build(tmp_path / "x.so").read_bytes().replace(b"\0gconv_init\0", b"\0gconv init\0")
    with pytest.raises(MalformedInput, match="'gconv init' cannot be written"):
        listing_of(elf.parse(data, "x.so"), "x.so")


def test_a_symbol_of_unknown_type_is_refused(tmp_path: Path) -> None:
    file = LIBC.build(tmp_path / "libc.so.6")
    data = bytearray(file.read_bytes())
    symbol = next(s for s in elf.parse(bytes(data), "x").defined if s.name == "printf")
    at = data.index(symbol.value.to_bytes(8, "little") + symbol.size.to_bytes(8, "little")) - 8
    data[at + 4] = 1 << 4 | 13  # st_info: global, a processor's own type
    with pytest.raises(MalformedInput, match=r"printf at GLIBC_2\.2\.5 is of unknown type 13"):
        listing_of(elf.parse(bytes(data), "x"), "x")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("lib64/libc.so.6", "libc.so.6"),
        ("usr/lib64/libm.so.6", "libm.so.6"),
        ("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "ld-linux-x86-64.so.2"),
        ("lib/ld-linux-aarch64.so.1", "ld-linux-aarch64.so.1"),
        ("usr/lib/aarch64-linux-gnu/gconv/UTF-16.so", "gconv/UTF-16.so"),
        ("usr/aarch64-linux-gnu/lib/libc.so.6", "libc.so.6"),
        ("usr/lib64/gconv/UTF-16.so", "gconv/UTF-16.so"),
        ("usr/lib64/audit/sotruss-lib.so", "audit/sotruss-lib.so"),
        ("opt/x/y.so", "opt/x/y.so"),
    ],
)
def test_stable_names(path: str, name: str) -> None:
    assert stable_name(path) == name


def test_a_release_is_all_its_dsos_and_nothing_else(tmp_path: Path) -> None:
    root = release_root(tmp_path)
    lib = root / "lib64"
    (lib / "libc.so").write_text("/* GNU ld script */ GROUP ( /lib64/libc.so.6 )")
    (lib / "libcalias.so").symlink_to("libc.so.6")
    (lib / "dangling.so").symlink_to("nowhere")
    source = root / "main.c"
    source.write_text("int main (void) { return 0; }")
    (root / "usr/bin").mkdir(parents=True)
    run(["gcc", "-pie", "-fPIE", "-o", root / "usr/bin/program", source])
    run(["gcc", "-c", "-o", lib / "crt1.o", source])
    debug = root / "usr/lib/debug/lib64"
    debug.mkdir(parents=True)
    run(["objcopy", "--only-keep-debug", lib / "libc.so.6", debug / "libc.so.6.debug"])
    found = listings(root)
    assert list(found) == ["gconv/UTF-16.so", LD, "libc.so.6"]
    assert found["gconv/UTF-16.so"].path == "lib64/gconv/UTF-16.so"
    assert found["libc.so.6"].node("GLIBC_2.34") == {Line("GLIBC_2.34", "environ", "D", 16)}


def test_two_different_dsos_of_one_name_are_refused(tmp_path: Path) -> None:
    root = release_root(tmp_path)
    again = LIBC.build(root / "usr/lib64/libc.so.6")
    assert len(listings(root)) == 3  # the same DSO twice is one DSO
    LIBC.but(nodes={"GLIBC_2.2.5": ("printf",)}).build(again)
    with pytest.raises(MalformedInput, match=r"both called libc\.so\.6 and are not the same"):
        listings(root)


def test_an_unreadable_dso_is_an_error_not_an_absence(tmp_path: Path) -> None:
    root = release_root(tmp_path)
    libc = root / "lib64/libc.so.6"
    libc.write_bytes(libc.read_bytes()[:200])
    with pytest.raises(MalformedInput, match=r"libc\.so\.6: malformed ELF"):
        listings(root)
