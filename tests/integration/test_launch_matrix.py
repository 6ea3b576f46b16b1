"""The launch matrix for real: programs compiled here, on roots with this machine's own C library.

A root that does not export the rseq symbols' node is made from it by giving that node another hash in ld.so
(and in libc, which uses it too): whoever else asks for the node is then refused by a real loader.
"""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.build.workshop import WARNINGS, compiler, programs
from pipeline.check import Material
from pipeline.check.launch import CONTROL, LaunchMatrix
from pipeline.check.launch_needs import PRINTS, RSEQ, STATIC, Needs
from pipeline.core import paths
from pipeline.core.arch import Arch, arch, host_arch
from pipeline.core.outcome import Outcome
from pipeline.core.run import run
from pipeline.place import BatchResult, Place
from pipeline.place.host import HostPlace
from pipeline.place.qemu_user import QemuUserPlace
from tests.check import probe_kit
from tests.integration import probe_bench as kit

pytestmark = pytest.mark.integration

PASS, FAIL, ERROR, MISSING = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.MISSING
STATES = ("tunable unset", "tunable=0", "tunable=1")
RSEQ_ON_12_0 = {f"12.0/rseq on 12.0, {s}" for s in STATES}
CONTROL_ON_12_0 = f"12.0/{CONTROL}"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))


def compile_into(machine: Arch, directory: Path) -> Path:
    """The matrix' programs and the runner, as programs.toml says, against this machine's C library."""
    for program in programs():
        if program.name in (*PRINTS, "runner"):
            source = paths.PROBES / program.source
            tool = compiler(machine, cxx=program.cxx)
            run([tool, *WARNINGS, "-o", directory / program.name, source, *program.flags], timeout=120)
    return directory


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_into(host_arch(), tmp_path_factory.mktemp("probes"))


def elf_hash(name: str) -> int:
    """The System V hash of a version's name (gABI, chapter 5)."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return value


def withdraw(machine: Arch, root: Path, node: str = "GLIBC_2.35") -> None:
    """Give a node of ld.so another hash, for the definition and for libc's own requirement of it."""
    real = struct.pack("<I", elf_hash(node))
    other = struct.pack("<I", elf_hash(node) ^ 1)
    loader = root / machine.interp[1:]
    data = loader.read_bytes()
    definition = struct.pack("<I", 20)  # vd_aux follows vd_hash
    assert data.count(real + definition) == 1
    loader.write_bytes(data.replace(real + definition, other + definition))
    (libc,) = root.rglob("libc.so.6")
    no_flags = b"\0\0"  # vna_flags follows vna_hash
    libc.write_bytes(libc.read_bytes().replace(real + no_flags, other + no_flags))


def withdraw_of_libc(root: Path, node: str) -> None:
    """Give a node that libc defines another hash."""
    (libc,) = root.rglob("libc.so.6")
    data = libc.read_bytes()
    old = struct.pack("<II", elf_hash(node), 20)
    assert data.count(old) == 1
    libc.write_bytes(data.replace(old, struct.pack("<II", elf_hash(node) ^ 1, 20)))


def workbench(machine: Arch, programs_at: Path, directory: Path, size: int) -> Material:
    """12.0 does not export the node; 12.1 is this machine's own C library."""
    roots = {name: kit.make_root(machine, directory / name) for name in ("12.0", "12.1")}
    withdraw(machine, roots["12.0"])
    return probe_kit.material(
        roots, machine=machine.name, of=probe_kit.profile(size_on=size), programs=programs_at
    )


def observe(material: Material, place: Place) -> BatchResult:
    roots = {name: b.root for name, b in material.built.items()}
    return place.run_batch(roots, {"/probes": material.programs}, LaunchMatrix().jobs(material))


def judged(material: Material, batch: BatchResult) -> dict[str, Outcome]:
    answers = probe_kit.judge(LaunchMatrix(), material, batch)
    return {key: probe_kit.outcome(answer) for key, answer in answers.items()}


def on_host(material: Material, runner: Path) -> dict[str, Outcome]:
    batch = observe(material, HostPlace(runner / "runner"))
    assert batch.trouble == ""
    return judged(material, batch)


def not_passed(answers: dict[str, Outcome]) -> dict[str, Outcome]:
    return {key: outcome for key, outcome in answers.items() if outcome is not PASS}


def test_right_releases(compiled: Path, tmp_path: Path) -> None:
    material = workbench(host_arch(), compiled, tmp_path, kit.size_when_on())
    answers = on_host(material, compiled)
    assert not_passed(answers) == {}
    assert len(answers) == 2 * (len(PRINTS) + 2) + 1
    assert {f.case: f.outcome for f in Needs().run(material)} == dict.fromkeys(PRINTS, PASS)


@pytest.mark.skipif(host_arch().name == "aarch64", reason="here AArch64 is the host, not emulated")
def test_under_user_mode_qemu_programs_start_and_are_refused(tmp_path: Path) -> None:
    machine = arch("aarch64")
    (tmp_path / "probes").mkdir()
    material = workbench(machine, compile_into(machine, tmp_path / "probes"), tmp_path, 20)
    batch = observe(material, QemuUserPlace(machine))
    assert batch.trouble == ""
    assert not_passed(judged(material, batch)) == {}
    assert {f.case: f.outcome for f in Needs().run(material)} == dict.fromkeys(PRINTS, PASS)


def test_a_release_that_exports_what_it_must_not(compiled: Path, tmp_path: Path) -> None:
    material = workbench(host_arch(), compiled, tmp_path, kit.size_when_on())
    shutil.rmtree(material.built["12.0"].root)
    kit.make_root(host_arch(), material.built["12.0"].root)
    answers = on_host(material, compiled)
    assert not_passed(answers) == dict.fromkeys(RSEQ_ON_12_0, FAIL) | {CONTROL_ON_12_0: MISSING}


def test_a_release_that_lost_the_node(compiled: Path, tmp_path: Path) -> None:
    material = workbench(host_arch(), compiled, tmp_path, kit.size_when_on())
    withdraw(host_arch(), material.built["12.1"].root)
    assert not_passed(on_host(material, compiled)) == {f"12.1/rseq on 12.1, {s}": FAIL for s in STATES}


def test_a_release_that_refuses_for_another_reason(compiled: Path, tmp_path: Path) -> None:
    material = workbench(host_arch(), compiled, tmp_path, kit.size_when_on())
    withdraw_of_libc(material.built["12.0"].root, "GLIBC_2.34")
    red = not_passed(on_host(material, compiled))
    assert {k: v for k, v in red.items() if k in RSEQ_ON_12_0} == dict.fromkeys(RSEQ_ON_12_0, FAIL)
    assert red[CONTROL_ON_12_0] is MISSING
    assert red["12.0/plain on 12.0"] is FAIL
    assert "12.0/static-pie on 12.0" not in red


def test_a_release_without_a_loader(compiled: Path, tmp_path: Path) -> None:
    material = workbench(host_arch(), compiled, tmp_path, kit.size_when_on())
    (material.built["12.0"].root / host_arch().interp[1:]).unlink()
    red = not_passed(on_host(material, compiled))
    assert {k: v for k, v in red.items() if k in RSEQ_ON_12_0} == dict.fromkeys(RSEQ_ON_12_0, FAIL)
    assert red["12.0/cxx on 12.0"] is FAIL


@pytest.mark.parametrize(("program", "body"), [
    (STATIC, "__builtin_trap();"),
    ("launch-plain", 'puts("{}"); return 0;'),
    ("launch-threads", "for (;;);"),
])  # fmt: skip
def test_a_program_that_crashes_lies_or_hangs(
    compiled: Path, tmp_path: Path, program: str, body: str
) -> None:
    probes = tmp_path / "probes"
    shutil.copytree(compiled, probes)
    source = tmp_path / "wrong.c"
    source.write_text(f"#include <stdio.h>\nint main(void) {{ {body} }}\n")
    kind = ["-static-pie"] if program == STATIC else []
    run(["gcc", *kind, "-o", probes / program, source])
    material = workbench(host_arch(), probes, tmp_path, kit.size_when_on())

    outcome = MISSING if "for" in body else FAIL
    jobs = [replace(j, timeout=2.0 if program in j.id else j.timeout) for j in LaunchMatrix().jobs(material)]
    batch = HostPlace(probes / "runner").run_batch(
        {n: b.root for n, b in material.built.items()}, {"/probes": probes}, jobs
    )
    name = program.removeprefix("launch-")
    assert not_passed(judged(material, batch)) == {f"{r}/{name} on {r}": outcome for r in ("12.0", "12.1")}


def test_the_control_that_was_not_compiled(compiled: Path, tmp_path: Path) -> None:
    probes = tmp_path / "probes"
    shutil.copytree(compiled, probes)
    (probes / RSEQ).unlink()
    material = workbench(host_arch(), probes, tmp_path, kit.size_when_on())
    red = not_passed(on_host(material, compiled))
    assert red == dict.fromkeys(
        [*RSEQ_ON_12_0, *(f"12.1/rseq on 12.1, {s}" for s in STATES), CONTROL_ON_12_0], MISSING
    )
