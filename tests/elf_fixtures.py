"""Small DSOs, made by the host's C compiler with version scripts, that differ in exactly one way."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pipeline.core.arch import host_arch
from pipeline.core.run import run

#: The loader's name: fixtures are compiled for the machine the tests run on.
LD = host_arch().loader

#: The three symbols where glibc has them: size and offset in RELRO data, flags in read-only data.
RSEQ_SOURCE = """
const unsigned int __rseq_flags = 0;
unsigned int __rseq_size __attribute__ ((section (".data.rel.ro"))) = 32;
long __rseq_offset __attribute__ ((section (".data.rel.ro"))) = 64;
"""


@dataclass(frozen=True)
class Dso:
    """What to build: ``source`` is C, ``nodes`` maps version nodes to their symbols, in order.

    Without ``nodes`` there is no version script, and the DSO has no versions.
    """

    soname: str
    source: str
    nodes: Mapping[str, tuple[str, ...]]
    flags: tuple[str, ...] = ()

    def but(self, **changes: object) -> Dso:
        """The same with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def build(self, file: Path) -> Path:
        """Write the DSO to ``file`` and return it; its directory is made."""
        nodes = tuple((node, tuple(symbols)) for node, symbols in self.nodes.items())
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_compiled(self.soname, self.source, nodes, self.flags))
        return file


@cache
def _compiled(
    soname: str, source: str, nodes: tuple[tuple[str, tuple[str, ...]], ...], flags: tuple[str, ...]
) -> bytes:
    """The DSO's bytes; the same one is compiled once."""
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        (work / "x.c").write_text(source)
        command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-O1", "-Wl,-z,relro", *flags]
        if nodes:
            previous, text = "", ""
            for node, symbols in nodes:
                text += f"{node} {{ " + (f"global: {'; '.join(symbols)}; " if symbols else "")
                text += ("local: *; " if not previous else "") + f"}} {previous};\n"
                previous = node
            (work / "x.map").write_text(text)
            command.append("-Wl,--version-script=x.map")
        if soname:
            command.append(f"-Wl,-soname,{soname}")
        run([*command, "-o", "x.so", "x.c"], cwd=work)
        return (work / "x.so").read_bytes()


#: A loader before the symbols became public, and after: the delta of the two is the three symbols.
LOADER = Dso(
    LD,
    RSEQ_SOURCE + "void _dl_mcount (void) {}\nlong _r_debug[5];\nint _rtld_global;\n",
    {"GLIBC_2.2.5": ("_dl_mcount", "_r_debug"), "GLIBC_PRIVATE": ("_rtld_global",)},
)
RSEQ_NODES = {
    "GLIBC_2.2.5": ("_dl_mcount", "_r_debug"),
    "GLIBC_2.35": ("__rseq_flags", "__rseq_offset", "__rseq_size"),
    "GLIBC_PRIVATE": ("_rtld_global",),
}
LOADER_RSEQ = LOADER.but(nodes=RSEQ_NODES)
LIBC = Dso(
    "libc.so.6",
    "void printf (void) {}\nvoid *stdout;\nlong environ[2];\nint __memcmpeq (void) { return 0; }\n",
    {"GLIBC_2.2.5": ("printf", "stdout"), "GLIBC_2.34": ("environ",)},
)
#: A gconv module: no soname, no versions.
MODULE = Dso("", "int gconv (void) { return 0; }\nint gconv_init (void) { return 0; }\n", {})


def release_root(
    directory: Path, loader: Dso = LOADER, libc: Dso = LIBC, module: Dso = MODULE, **more: Dso
) -> Path:
    """A release's root with a loader, a libc and a gconv module; ``more`` are further DSOs by soname."""
    lib = directory / "lib64"
    loader.build(lib / LD)
    libc.build(lib / "libc.so.6")
    module.build(lib / "gconv" / "UTF-16.so")
    for dso in more.values():
        dso.build(lib / dso.soname)
    return directory
