"""Which functions use a symbol: compiled in every way that leads to it; stripped is unknown."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.build.workshop import compiler
from pipeline.core.arch import Arch, arch
from pipeline.core.run import run
from pipeline.elf import read
from pipeline.scan import scan
from pipeline.scan.calls import IN_DATA, users_of
from tests.scan import kit

SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <stddef.h>
extern const ptrdiff_t __rseq_offset;
__attribute__ ((noinline)) int first (void) { return puts ("a") + 1; }
__attribute__ ((noinline)) int second (void) { return (int) __rseq_offset; }
__attribute__ ((noinline)) void third (int n) { exit (n); }
int fifth (void) { return __rseq_offset == 1 || __rseq_offset == 100000; }
int (*table[]) (const char *) = { puts };
int fourth (int n) { return n > 1 ? puts ("b") : second (); }
#ifdef MAIN
int main (int n, char **v)
{
  first ();
  if (n > 3)
    third (n);
  return table[n - 1] (v[0]) + fourth (n);
}
#endif
"""
WAYS = [
    ["-DMAIN"],
    ["-DMAIN", "-no-pie"],
    ["-DMAIN", "-fno-plt"],
    ["-DMAIN", "-O2", "-Wl,-z,now"],
    ["-DMAIN", "-O2", "-Wl,-z,norelro"],
    ["-fPIC", "-shared"],
    ["-fPIC", "-shared", "-fno-plt", "-s"],
]


def made(machine: Arch, directory: Path, flags: list[str]) -> Path:
    (directory / "a.c").write_text(SOURCE)
    run([compiler(machine, cxx=False), "-O1", *flags, "-o", directory / "a", directory / "a.c"])
    return directory / "a"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("flags", WAYS, ids=" ".join)
def test_the_functions_that_use_a_symbol(tmp_path: Path, machine: str, flags: list[str]) -> None:
    binary = read(made(arch(machine), tmp_path, flags))
    versions = {i.name: i.version for i in binary.imports}
    found = {name: users for (name, _), users in users_of(binary, versions.items()).items()}
    assert found["exit"] == ("third",)
    assert (
        {"second", "fifth"} <= set(found["__rseq_offset"]) <= {"second", "fourth", "fifth"}
    )  # one is inlined
    functions = set(found["puts"])
    assert functions - {IN_DATA} >= {"first"}
    assert functions <= {"first", "fourth", "main", IN_DATA}
    if "-no-pie" not in flags:
        assert IN_DATA in functions


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_stripped_program_tells_nothing(tmp_path: Path, machine: str) -> None:
    binary = read(made(arch(machine), tmp_path, ["-DMAIN", "-s"]))
    assert users_of(binary, {(i.name, i.version) for i in binary.imports}) == {}


def test_scan_names_them_in_files_and_in_wheels(tmp_path: Path) -> None:
    program = made(kit.ARCH, tmp_path, ["-DMAIN"])
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        wheel.write(program, "pkg/a")
    profile = profiles.load("bookworm")
    result = scan(profile, profile.names, (kit.ARCH.name,), [program, tmp_path / "x.whl"])
    assert len(result.files) == 2
    for file in result.files:
        assert file.users == {("__rseq_offset", kit.NODE): ("second", "fifth")}
