"""Files that hardly anybody makes on purpose: what ld.so looks at before and beside symbols.

Each is a program, or a library that a program opens, and is wrong or unusual in one way.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

from pipeline import elf
from pipeline.core.arch import Arch, host_arch
from pipeline.core.run import run
from pipeline.elf.image import (
    DT_PLTREL,
    DT_RELA,
    DT_RELACOUNT,
    DT_RELAENT,
    DT_STRSZ,
    DT_VERNEEDNUM,
    DT_VERSYM,
    PT_DYNAMIC,
    PT_GNU_RELRO,
    PT_GNU_STACK,
    PT_INTERP,
    PT_LOAD,
)
from tests import elf_edit as edits

#: How ld.so itself sees a file's header (elf/dl-load.c: open_verify); the kernel looks at less.
HEADERS: Mapping[str, tuple[str, int, int]] = {
    "os-abi-gnu": ("B", 7, 3), "os-abi-freebsd": ("B", 7, 9), "abi-version": ("B", 8, 9),
    "padding": ("B", 12, 1), "e-version": ("I", 20, 2), "phentsize": ("H", 54, 57),
    "executable": ("H", 16, 2),
}  # fmt: skip
MAIN = "int f (void);\nint main (void) { return f (); }\n"
F = "int f (void) { return 77; }\n"
LINKS: Mapping[str, tuple[str, ...]] = {
    "static": ("-static",), "static-pie": ("-static-pie",), "stack": ("-Wl,-z,execstack",),
    "no-default": ("-Wl,-z,nodefaultlib",), "large-pages": ("-Wl,-z,max-page-size=0x200000",),
    "no-relro": ("-Wl,-z,norelro",), "separate": ("-Wl,-z,noseparate-code",),
    "not-needed": ("-Wl,--no-as-needed", "-lm", "-lresolv"), "audit": ("-Wl,--audit=libnowhere.so",),
    "empty-path": ("-Wl,-rpath,",), "base": ("-Wl,-Ttext-segment=0x10000000",), "one-segment": ("-Wl,-N",),
    "packed": ("-Wl,-z,pack-relative-relocs", "-Wl,-z,now"),
    "origin": ("-Wl,-rpath,${ORIGIN}:$LIB::./x:/nowhere",),
}  # fmt: skip
_UNIQUE = 'asm (".data\\n.globl u\\n.type u, %gnu_unique_object\\n.size u, 4\\nu: .long 77\\n.text\\n");\n'
_CHOOSES = "static int g (void) { return 77; }\nstatic int (*r (void)) (void) { return g; }\n"
#: name -> (library, its flags): each gives f, in a way of its own
WAYS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "unique": (f"{_UNIQUE}extern int u;\nint f (void) {{ return u; }}\n", ()),
    "ifunc": (f'{_CHOOSES}int f (void) __attribute__ ((ifunc ("r")));\n', ()),
    "tls": ("__thread int t = 77;\nint f (void) { return t; }\n", ()),
    "tls-initial": ("__thread int t = 77;\nint f (void) { return t; }\n", ("-ftls-model=initial-exec",)),
    "protected": (F.replace("int f", '__attribute__ ((visibility ("protected"))) int f'), ()),
    "symbolic": (F, ("-Wl,-Bsymbolic",)),
    "textrel": ("int x = 77, *p = &x;\nint f (void) { return *p; }\n", ("-Wl,-z,notext",)),
    "executable-stack": (F, ("-Wl,-z,execstack",)),
    "filter": (F, ("-Wl,-F,libm.so.6",)),
    "filter-nowhere": (F, ("-Wl,-F,libnowhere.so.9",)),
    "auxiliary": (F, ("-Wl,-f,libnowhere.so.9",)),
    "no-default": ("#include <stdlib.h>\nint f (void) { return abs (-77); }\n", ("-Wl,-z,nodefaultlib",)),
    "group": (F, ("-Wl,-Bgroup",)),
    "tls-no-default": ("__thread int t = 77;\nint f (void) { return t; }\n", ("-Wl,-z,nodefaultlib",)),
    "no-hash-of-it": (F, ("-Wl,--exclude-libs,ALL", "-Wl,--hash-style=both")),
    "needs-loader": (F, ("-Wl,--no-as-needed", "-ldl", "-lpthread")),
}


def made(machine: Arch, cc: str, into: Path) -> None:
    """Write all of them."""
    into.mkdir(parents=True, exist_ok=True)
    library = _compiled(
        cc, into / "odd.so", '#include <stdio.h>\nint f (void) { return puts (""); }\n', *SHARED
    )
    program = _compiled(cc, into / "odd", "int main (void) { return 77; }\n")
    for name, field in HEADERS.items():
        change = header(*field)
        _changed(library, f"header-{name}", change)
        _changed(program, f"header-{name}", change)
    for kind, file in (("library", library), ("program", program)):
        for name, shape in _loads(file).items():
            if machine == host_arch() or name != "two-interpreters":  # QEMU is not the kernel
                _changed(file, f"{kind}-{name}", shape)
    for name, value in (("fewer", 0), ("more", 9)):
        _changed(program, f"verneednum-{name}", edits.tag_value(DT_VERNEEDNUM, value))
    links = dict(LINKS)
    loaders = {"lib-loader": f"/lib/{machine.loader}", "usr-loader": f"/usr{machine.interp}",
               "slashes": f"/{machine.interp}", "dots": f"/usr/..{machine.interp}",
               "long-loader": f"/opt/a/long/way{machine.interp}"}  # fmt: skip
    links |= {name: (f"-Wl,-dynamic-linker,{where}",) for name, where in loaders.items()}
    for link, flags in links.items():
        _compiled(cc, into / f"program-{link}", "int main (void) { return 77; }\n", *flags, may_fail=True)
    _changed(into / "program-long-loader", "shortened", renamed_loader(machine.interp))
    absent = "int absent (void);\nint main (int n, char **v) { return n > 9 ? absent () : 77; }\n"
    _compiled(
        cc,
        into / "program-soname",
        absent,
        "-pie",
        "-rdynamic",
        "-Wl,-soname,p,--unresolved-symbols=ignore-all",
    )
    for name, (source, flags) in WAYS.items():
        pair(cc, into / f"way-{name}", source, flags)
    for name, edit in SYMBOLS.items():
        pair(cc, into / f"symbol-{name}", F, ())
        edits.edit(into / f"symbol-{name}" / "libf.so", edit)
    script = into / "x.map"
    script.write_text("V_1 { global: f; local: *; };\n")
    for name, edit in VERSIONS.items():
        pair(cc, into / f"version-{name}", F, (f"-Wl,--version-script={script}",))
        edits.edit(into / f"version-{name}" / "libf.so", edit)
    script.unlink()
    _chains(cc, into)
    _in_the_way(cc, into)
    _cut(library)
    _cut(program)


#: What the symbol f of a library may be; ld.so passes some of them over.
SYMBOLS: Mapping[str, edits.Edit] = {
    "internal": edits.symbol_other("f", 1), "hidden": edits.symbol_other("f", 2),
    "protected": edits.symbol_other("f", 3), "local": edits.symbol_info("f", 0, 2),
    "weak": edits.symbol_info("f", 2, 2), "unknown-binding": edits.symbol_info("f", 7, 2),
    "no-type": edits.symbol_info("f", 1, 0), "object": edits.symbol_info("f", 1, 1),
    "section": edits.symbol_info("f", 1, 3), "common": edits.symbol_info("f", 1, 5),
    "unknown-type": edits.symbol_info("f", 1, 8), "no-value": edits.symbol_value("f", 0),
}  # fmt: skip
#: What a library's versions may be that a program was linked with.
VERSIONS: Mapping[str, edits.Edit] = {
    "wrong-hash": edits.verdef_hash("V_1"), "weak": edits.verdef_flags("V_1", 2),
    "base": edits.verdef_flags("V_1", 1), "revision": edits.verdef_revision("V_1"),
    "hidden": edits.hidden_version("f"), "lost": edits.out_of_the_bloom("f"),
    "no-indexes": edits.tag_becomes(DT_VERSYM, 0x6FFFFF00),
}  # fmt: skip
SHARED = ("-shared", "-fPIC")


def unknown_relocation(data: bytearray, binary: elf.Elf) -> None:
    """The first that is not counted as relative gets a type that no ld.so knows."""
    at, _ = binary.window(binary.tags[DT_RELA], "x")
    put(data, "I", at + 24 * binary.tags.get(DT_RELACOUNT, 0) + 8, 250)


def renamed_loader(name: str) -> edits.Edit:
    """The loader's name is a shorter one, with zeros behind it."""

    def change(data: bytearray, binary: elf.Elf) -> None:
        at = data.index(binary.interp.encode() + b"\0")
        data[at : at + len(binary.interp)] = name.encode().ljust(len(binary.interp), b"\0")

    return change


def moved(data: bytearray, binary: elf.Elf) -> None:
    """The last segment is in another place of its page than in the file."""
    last = sum(s.type == PT_LOAD for s in binary.segments) - 1
    at = edits.segment_at(binary, PT_LOAD, last)
    put(data, "Q", at + 8, struct.unpack_from("<Q", data, at + 8)[0] - 16)


def header(layout: str, at: int, value: int) -> edits.Edit:
    """A field of the file's header."""
    return lambda data, _: put(data, layout, at, value)


def put(data: bytearray, layout: str, at: int, value: int) -> None:
    struct.pack_into(f"<{layout}", data, at, value)


def _loads(file: Path) -> Mapping[str, edits.Edit]:
    """Program headers, dynamic section and relocations in other shapes."""

    def all_loads(data: bytearray, binary: elf.Elf) -> None:
        for nth in range(sum(s.type == PT_LOAD for s in binary.segments)):
            edits.segment(PT_LOAD, nth=nth, type=0)(data, binary)

    def two_interpreters(data: bytearray, binary: elf.Elf) -> None:
        where = edits.segment_at(binary, PT_GNU_STACK)
        data[where : where + 56] = data[edits.segment_at(binary, PT_INTERP) :][:56]

    found: dict[str, edits.Edit] = {
        "odd-alignment": edits.segment(PT_LOAD, align=3),
        "small-alignment": edits.segment(PT_LOAD, align=16),
        "misaligned": edits.segment(PT_LOAD, nth=-1, align=1 << 30),
        "no-dynamic": edits.segment(PT_DYNAMIC, type=0),
        "no-loads": all_loads,
        "no-stack": edits.segment(PT_GNU_STACK, type=0),
        "relocation": unknown_relocation,
        "short-strings": edits.tag_value(DT_STRSZ, 1),
        "moved": moved,
        "rel": edits.tag_value(DT_PLTREL, 17),
        "rela-size": edits.tag_value(DT_RELAENT, 16),
    }
    if elf.read(file).interp:
        found["two-interpreters"] = two_interpreters
        found["relro"] = edits.segment(PT_GNU_RELRO, memsz=1 << 20)
    return found


def _cut(file: Path) -> None:
    """The file as an interrupted copy leaves it; ld.so itself looks at no length."""
    data = file.read_bytes()
    (sections,) = struct.unpack_from("<Q", data, 40)
    last = max(s.offset + s.filesz for s in elf.read(file).segments if s.type == PT_LOAD)
    for length in (100, 1000, 4096, len(data) // 2, last - 200, last - 8, last - 1, last, sections):
        if length < len(data):
            copy = file.with_name(f"{file.name}+cut-{length}")
            copy.write_bytes(data[:length])
            copy.chmod(0o755)


def pair(cc: str, top: Path, source: str, flags: tuple[str, ...]) -> None:
    """A library that gives f, and a program that takes it, side by side."""
    top.mkdir()
    library = _compiled(cc, top / "libf.so", source, *SHARED, "-Wl,-soname,libf.so", *flags, may_fail=True)
    if library.exists():
        _compiled(cc, top / "user", MAIN, str(library), "-Wl,-rpath,$ORIGIN")
    else:
        top.rmdir()


def _chains(cc: str, into: Path) -> None:
    """A program, a library that it needs, and one that this needs: whose search path finds the last one."""
    for name, mine, theirs in (
        ("rpath", ("-Wl,-rpath,$ORIGIN/x,--disable-new-dtags",), ()),
        ("runpath", ("-Wl,-rpath,$ORIGIN/x,--enable-new-dtags",), ()),
        ("both", ("-Wl,-rpath,$ORIGIN/x,--disable-new-dtags",), ("-Wl,-rpath,$ORIGIN",)),
        ("stopped", ("-Wl,-rpath,$ORIGIN/x,--disable-new-dtags",), ("-Wl,-rpath,/nowhere",)),
        ("own", ("-Wl,-rpath,$ORIGIN/x,--enable-new-dtags",), ("-Wl,-rpath,${ORIGIN}/.",)),
    ):
        top = into / f"chain-{name}"
        (top / "x").mkdir(parents=True)
        last = _compiled(cc, top / "x" / "libg.so", F.replace("f (", "g ("), *SHARED, "-Wl,-soname,libg.so")
        middle = _compiled(
            cc, top / "x" / "libf.so", "int g (void);\nint f (void) { return g (); }\n", *SHARED,
            "-Wl,-soname,libf.so", str(last), *theirs,
        )  # fmt: skip
        _compiled(cc, top / "user", MAIN, str(middle), *mine, "-Wl,--allow-shlib-undefined")
    by_path = into / "path-needed"
    pair(cc, by_path, F, ())
    _compiled(cc, by_path / "libf.so", F, *SHARED)
    run([cc, "-w", "-x", "c", "-", "-x", "none", "./libf.so", "-o", "user"], stdin=MAIN.encode(), cwd=by_path)
    program = into / "pie-needed"
    pair(cc, program, F, ())
    _compiled(cc, program / "libf.so", F + "int main (void) { return 77; }\n", "-pie", "-rdynamic")


def _in_the_way(cc: str, into: Path) -> None:
    """A library that is a link, what is no ELF file in its place, and what is loaded if it is there."""
    newer = "extern const long __rseq_offset;\nlong g (void) { return __rseq_offset; }\n"
    needs_g = "long g (void);\nint f (void) { return g () ? 77 : 77; }\n"
    for name, content in (("empty", b""), ("text", b"libf.so.1"), ("script", b"/* GNU ld script */\n" * 9)):
        pair(cc, into / f"way-{name}-file", F, ())
        (into / f"way-{name}-file" / "libf.so").write_bytes(content)
    for beside in ("link", "file", "both"):
        top = into / f"origin-{beside}"
        for place in ("link", "file"):
            (top / place).mkdir(parents=True)
            if beside in (place, "both"):
                _compiled(cc, top / place / "libg.so", newer, *SHARED, "-Wl,-soname,libg.so")
        given = ("-L", str(top / ("link" if beside == "link" else "file")), "-lg", "-Wl,-rpath,$ORIGIN")
        library = _compiled(cc, top / "file" / "libf.so", needs_g, *SHARED, "-Wl,-soname,libf.so", *given)
        (top / "link" / "libf.so").symlink_to("../file/libf.so")
        _compiled(
            cc, top / "user", MAIN, str(library), "-Wl,-rpath,$ORIGIN/link,--allow-shlib-undefined"
        )  # fmt: skip
    for name, source in (("newer", newer), ("good", F.replace("f (", "g ("))):
        top = into / f"auxiliary-{name}"
        pair(cc, top, F, ("-Wl,-f,libg.so", "-Wl,-rpath,$ORIGIN"))
        _compiled(cc, top / "libg.so", source, *SHARED, "-Wl,-soname,libg.so")


def _compiled(cc: str, file: Path, source: str, *flags: str, may_fail: bool = False) -> Path:
    run(
        [cc, "-w", "-O1", "-x", "c", "-", "-x", "none", "-o", file, *flags], stdin=source.encode(),
        timeout=120, success_codes=None if may_fail else (0,),
    )  # fmt: skip
    return file


def _changed(file: Path, name: str, change: edits.Edit) -> None:
    copy = Path(shutil.copy(file, file.with_name(f"{file.name}+{name}")))
    try:
        edits.edit(copy, change)
    except (AssertionError, KeyError, IndexError, ValueError):
        copy.unlink()  # it has not what is to be changed
