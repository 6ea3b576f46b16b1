"""The workshop: its list of programs, and the script that compiles each against the right release."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.build import workshop
from pipeline.build.workplace import Workplace
from pipeline.build.workshop import Program, compile_programs, compiler, programs
from pipeline.check import Material
from pipeline.check.devel import Compile
from pipeline.core import paths
from pipeline.core.arch import ARCHES, Arch, host_arch
from pipeline.core.errors import CommandFailed, NoSpace, UsageError, WorldError
from pipeline.core.outcome import Outcome
from pipeline.core.records import Built
from pipeline.profile import load
from tests.check.rpm_bench import built

FOREIGN = next(a for a in ARCHES.values() if a != host_arch())
ROOTS = {"12.0": "/old", "12.0.z": "/update", "12.1": "/new x"}


def script(machine: Arch, *listed: Program) -> list[str]:
    """The script's lines; 12.0 is the oldest release and 12.1 the newest."""
    made = workshop.made_of(listed, load("bookworm"), ROOTS)
    text = workshop.script(machine, made, ROOTS, headers="/h", probes="/p", out="/out", words="/words")
    return text.splitlines()


def command(machine: Arch, program: Program) -> list[str]:
    """The compiler's command line of the only program, without what follows if it fails."""
    words = shlex.split(script(machine, program)[-1])
    return words[: next((n for n, word in enumerate(words) if word.startswith("2>")), len(words))]


def test_the_list_that_comes_with_the_pipeline() -> None:
    listed = programs()
    assert len({p.name for p in listed}) == len(listed)
    assert {p.against for p in listed} == {"image", "oldest", "newest", "each", "exporting"}
    runner = next(p for p in listed if p.name == "runner")
    assert runner.against == "image"
    assert "-static" in runner.flags


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[program]]\nname = "a"\nsource = "none.c"\nagainst = "image"\n', "a: there is no none.c"),
        ('[[program]]\nname = "a"\nsource = "a.c"\nagainst = "middle"\n', "against"),
        ('[[program]]\nname = "A B"\nsource = "a.c"\nagainst = "image"\n', "name"),
        ("[[program", "programs.toml"),
    ],
)
def test_a_wrong_entry_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    (tmp_path / "programs.toml").write_text(text)
    monkeypatch.setattr(paths, "PROBES", tmp_path)
    with pytest.raises(UsageError) as failed:
        programs()
    assert words in failed.value.message
    assert "programs.toml" in failed.value.message


def test_a_static_tool_sees_nothing_of_what_is_tested() -> None:
    line = command(host_arch(), Program(name="t", source="t.c", against="image", flags=("-static",)))
    assert line == ["gcc", *workshop.WARNINGS, "-o", "/out/t", "t.c", "-static"]


def test_a_program_is_linked_with_the_libraries_it_needs() -> None:
    program = Program(name="t", source="t.c", against="image", needs=("a", "b"))
    line = command(host_arch(), program)
    assert line[-4:] == ["t.c", "/out/a", "/out/b", "-Wl,-rpath-link,/out"]


@pytest.mark.parametrize(("against", "root"), [("oldest", "/old"), ("newest", "/new x")])
def test_a_program_is_built_against_its_release_alone(against: str, root: str) -> None:
    program = Program.model_validate({"name": "t", "source": "t.c", "against": against})
    line = command(host_arch(), program)
    assert f"--sysroot={root}" in line
    assert f"-L{root}/usr/lib64" in line
    assert line[line.index("-isystem") + 1] == f"{root}/usr/include"
    assert line[line.index("-idirafter") + 1] == "/h"
    for other in set(ROOTS.values()) - {root}:
        assert not any(other in word for word in line)


def test_a_program_for_each_release_is_built_against_each_one_that_has_libc_a() -> None:
    program = Program(name="t", source="t.c", against="each", flags=("-static",))
    lines = [shlex.split(line) for line in script(host_arch(), program) if "t.c" in line]
    assert len(lines) == len(ROOTS)
    for line, (release, root) in zip(lines, ROOTS.items(), strict=True):
        assert line[:6] == ["if", "[", "-f", f"{root}/usr/lib64/libc.a", "];", "then"]
        assert f"--sysroot={root}" in line
        assert f"/out/t-{release}" in line


def test_a_program_that_uses_the_symbols_is_built_where_they_are() -> None:
    made = workshop.made_of([Program(name="t", source="t.c", against="exporting")], load("bookworm"), ROOTS)
    assert [(one.name, one.release) for one in made] == [("t-12.0.z", "12.0.z"), ("t-12.1", "12.1")]


def test_cxx_takes_its_headers_from_the_compiler() -> None:
    program = Program(name="t", source="t.cc", against="newest")
    assert compiler(host_arch(), cxx=program.cxx) == "g++"
    last = script(host_arch(), program)[-1]
    assert last.startswith("g++ ")
    assert " $cxxdirs " in last
    assert "-isystem '/new x/usr/include'" not in last


def test_another_machine_has_a_compiler_of_its_own() -> None:
    assert compiler(FOREIGN, cxx=False) == f"{FOREIGN.triplet}-gcc"
    program = Program(name="t", source="t.c", against="image")
    assert command(FOREIGN, program)[0] == f"{FOREIGN.triplet}-gcc"


def releases(tmp_path: Path) -> Mapping[str, Built]:
    made = {}
    for name in ("12.0", "12.1"):
        (tmp_path / name).mkdir()
        rpm = tmp_path / name / "glibc.rpm"
        rpm.write_text(name)
        root = tmp_path / name / "root"
        root.mkdir(parents=True)
        made[name] = built(name, [rpm], root=root)
    return made


@pytest.mark.integration
def test_a_release_without_libc_a_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = tmp_path / "probes"
    probes.mkdir()
    (probes / "programs.toml").write_text(
        '[[program]]\nname = "t"\nsource = "t.c"\nagainst = "each"\nflags = ["-static"]\n'
    )
    (probes / "t.c").write_text("int main (void) { return 0; }\n")
    monkeypatch.setattr(paths, "PROBES", probes)
    monkeypatch.setattr(Workplace, "identity", lambda *_: {"host": "tools"})
    fake = tmp_path / "compiler"
    fake.write_text(
        '#!/bin/sh\nwhile [ $# -gt 0 ] && [ "$1" != -o ]; do shift; done\n[ -z "$2" ] || : >"$2"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setattr(workshop, "compiler", lambda *_, **__: str(fake))
    made = releases(tmp_path)
    archive = made["12.1"].root / "usr" / "lib64" / "libc.a"
    archive.parent.mkdir(parents=True)
    archive.touch()
    out = compile_programs(load("bookworm"), host_arch(), Workplace(None, "native"), made)
    assert [p.name for p in out.iterdir()] == ["t-12.1"]


@pytest.mark.integration
def test_compiled_once_and_again_when_a_probe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = tmp_path / "probes"
    probes.mkdir()
    (probes / "programs.toml").write_text('[[program]]\nname = "t"\nsource = "t.c"\nagainst = "image"\n')
    (probes / "t.c").write_text("int main (void) { return 0; }\n")
    monkeypatch.setattr(paths, "PROBES", probes)
    monkeypatch.setattr(Workplace, "identity", lambda *_: {"host": "tools"})
    made, place = releases(tmp_path), Workplace(None, "native")
    first = compile_programs(load("bookworm"), host_arch(), place, made)
    assert (first / "t").is_file()
    assert compile_programs(load("bookworm"), host_arch(), place, made) == first
    (probes / "t.c").write_text("int main (void) { return 1; }\n")
    assert compile_programs(load("bookworm"), host_arch(), place, made) != first
    (probes / "t.c").write_text("int main (void) { return nothing; }\n")
    with pytest.raises(CommandFailed, match="nothing") as failed:
        compile_programs(load("bookworm"), host_arch(), place, made)
    assert "nothing" in Path(failed.value.log).read_text()


RSEQ = """#include <stdint.h>
#include <stddef.h>
struct rseq { uint32_t cpu_id_start; uint32_t cpu_id; uint64_t rseq_cs; uint32_t flags; }
  __attribute__ ((aligned (32)));
extern const ptrdiff_t __rseq_offset;
"""
USES_IT = """#include <sys/rseq.h>
_Static_assert (sizeof (struct rseq) == 32, "size");
_Static_assert (sizeof __rseq_offset == sizeof (void *), "offset");
"""


def with_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, source: str, flags: Sequence[str] = ("-c",)
) -> Path:
    """A program compiled against a release that has this header and no other."""
    probes = tmp_path / "probes"
    probes.mkdir()
    (probes / "programs.toml").write_text(
        f'[[program]]\nname = "t"\nsource = "t.c"\nagainst = "newest"\nflags = {json.dumps(list(flags))}\n'
    )
    (probes / "t.c").write_text(source)
    monkeypatch.setattr(paths, "PROBES", probes)
    monkeypatch.setattr(Workplace, "identity", lambda *_: {"host": "tools"})
    made = releases(tmp_path)
    include = made["12.1"].root / "usr" / "include"
    (include / "sys").mkdir(parents=True)
    for name in ("stdio.h", "stdint.h"):
        (include / name).write_text("typedef unsigned int uint32_t;\ntypedef unsigned long uint64_t;\n")
    (include / "sys" / "rseq.h").write_text(header)
    return compile_programs(load("bookworm"), host_arch(), Workplace(None, "native"), made)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("header", "words"),
    [
        (RSEQ.replace("ptrdiff_t __rseq", "int __rseq"), "offset"),
        (RSEQ.replace("aligned (32)", "aligned (64)"), "size"),
        ("#error no\n", "#error no"),
        ("", "rseq"),
    ],
)
def test_a_header_that_is_wrong_is_the_packages_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, words: str
) -> None:
    out = with_header(tmp_path, monkeypatch, header, USES_IT)
    (fault,) = workshop.faults(out).values()
    assert (fault.program, fault.release, fault.absent) == ("t", "12.1", "")
    assert words in fault.words
    assert not (out / "t").exists()


@pytest.mark.integration
def test_a_header_that_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = with_header(tmp_path, monkeypatch, RSEQ, USES_IT)
    assert workshop.faults(out) == {}
    assert (out / "t").is_file()


@pytest.mark.integration
def test_a_static_program_without_libc_a_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was left out without a word, and what every program compiles with stayed green."""
    out = with_header(tmp_path, monkeypatch, RSEQ, USES_IT, flags=("-static",))
    assert not (out / "t").exists()
    (fault,) = workshop.faults(out).values()
    assert (fault.absent, fault.words) == ("glibc-static", workshop.NO_ARCHIVE)
    (tmp_path / "again").mkdir()
    made = releases(tmp_path / "again")
    programs = out
    for mode, outcome in (("native", Outcome.FAIL), ("supplied", Outcome.MISSING)):
        manifest = made["12.1"].manifest.model_copy(update={"mode": mode})
        built = {**made, "12.1": made["12.1"].model_copy(update={"manifest": manifest})}
        on = Material(load("bookworm"), host_arch(), built, programs, workshop.faults(out))
        said = {f.target.release: f for f in Compile().run(on)}
        assert said["12.1"].outcome is outcome
        assert "libc.a" in said["12.1"].seen or "glibc-static" in said["12.1"].seen


@pytest.mark.integration
def test_a_program_that_compiles_nowhere_says_nothing_of_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandFailed, match="nothing") as failed:
        with_header(tmp_path, monkeypatch, RSEQ, "int x = nothing;\n")
    assert "not to blame" in failed.value.hint


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "error"), [("No space left on device", NoSpace), ("cc1: Killed", WorldError)]
)
def test_a_machine_in_trouble_is_not_the_packages_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, error: type[WorldError]
) -> None:
    """The compiler fails for the release alone, and says that the machine is why."""
    fake = tmp_path / "compiler"
    fake.write_text(f'#!/bin/sh\ncase "$*" in *--sysroot*) echo "{words}" >&2; exit 1; esac\n')
    fake.chmod(0o755)
    monkeypatch.setattr(workshop, "compiler", lambda *_, **__: str(fake))
    with pytest.raises(error):
        with_header(tmp_path, monkeypatch, RSEQ, USES_IT)


def included(file: Path) -> set[str]:
    """The names of our headers that a probe includes, and of those that these include."""
    found = [(file.parent / name).resolve() for name in re.findall(r'# *include "([^"]+)"', file.read_text())]
    return {header.name for header in found}.union(*(included(header) for header in found))


def test_static_programs_of_a_release_bring_what_the_unwinder_calls() -> None:
    """GCC 12's libgcc_eh.a calls a function of glibc 2.35; a red on 2.34 would be the compiler's fault."""
    of_releases = [p for p in workshop.programs() if p.static and p.against != "image"]
    assert len(of_releases) >= 10
    for program in of_releases:
        assert "find_object.h" in included(paths.PROBES / program.source), program.name
        assert program.name == "launch-static-pie" or "-DSTATIC" in program.flags, program.name
