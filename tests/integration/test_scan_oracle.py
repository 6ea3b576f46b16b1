"""The oracle: for each file of a corpus scan's answer is what the real loader says when it is started.

Two releases with this machine's own C library; of the older one ld.so and libc.so.6 have lost a node each. A
program that reaches its own code ends with `corpus.REACHED`; a library is opened by a program that needs
nothing else. Everything is bound at the start (LD_BIND_NOW), as scan promises. User-mode QEMU is honest for
this: it is the foreign ld.so itself that runs.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.abi.listing import Listing, listing_of
from pipeline.build.workshop import compiler
from pipeline.core import paths
from pipeline.core.arch import Arch, arch, host_arch
from pipeline.core.run import run
from pipeline.elf import read
from pipeline.place import Job, JobResult, Place
from pipeline.place.host import HostPlace
from pipeline.place.qemu_user import QemuUserPlace
from pipeline.scan import Scanned, scan
from pipeline.scan.facts import Kind
from pipeline.scan.judge import Answer, Judgement
from tests.integration import probe_bench
from tests.integration.test_launch_matrix import withdraw, withdraw_of_libc
from tests.scan import corpus, kit, odd_files

pytestmark = pytest.mark.integration

OLD, NEW = "12.0", "12.1"
DLOPEN = """
#include <dlfcn.h>
#include <stdio.h>
int main (int n, char **v)
{
  if (n > 1 && dlopen (v[1], RTLD_NOW))
    return 77;
  fprintf (stderr, "%s\\n", dlerror ());
  return 1;
}
"""
LIBRARIES = ("libm.so.6", "libpthread.so.0", "libresolv.so.2", "libdl.so.2", "librt.so.1")


def releases(machine: Arch, directory: Path) -> tuple[dict[str, Path], dict[str, Listing]]:
    """The two roots, and what the newer one lists."""
    roots = {name: probe_bench.make_root(machine, directory / name) for name in (OLD, NEW)}
    cc = compiler(machine, cxx=False)
    listings = {}
    for root in roots.values():
        (beside,) = (p.parent for p in root.rglob("libc.so.6"))
        for name in LIBRARIES:
            shutil.copy2(Path(run([cc, f"-print-file-name={name}"]).text.strip()).resolve(), beside / name)
        (root / "corpus").mkdir()
        (root / "usr").mkdir(exist_ok=True)
        for name in ("lib", "lib64"):  # a system of today has its libraries below /usr
            if (root / name).is_dir() and not (root / "usr" / name).exists():
                (root / "usr" / name).symlink_to(f"../{name}")
    for path in roots[NEW].rglob("*.so.*"):
        listings[path.name] = listing_of(read(path), path.name)
    withdraw(machine, roots[OLD])
    withdraw_of_libc(roots[OLD], "GLIBC_2.35")
    return roots, listings


def commit(machine: Arch, listings: dict[str, Listing]) -> None:
    """The releases' baselines."""
    old = kit.without(listings, machine.loader, node=kit.NODE)
    kit.put(OLD, kit.without(old, "libc.so.6", node=kit.NODE), machine.name)
    kit.put(NEW, listings, machine.name)


#: What a loader of glibc 2.41 or later (a host's, no release's that scan knows) does otherwise than theirs:
#: it takes an unversioned symbol for a versioned one, and opens no library that wants an executable stack.
NEWER = "GLIBC_2.41"


def newer_ways(judgement: Judgement, words: str) -> bool:
    """Whether the answer is the one of loaders before 2.41, and that is all there is to it."""
    unversioned = [m for m in judgement.missing if m.says.endswith("which has no versions")]
    if judgement.answer is Answer.FAILS:
        return len(unversioned) == len(judgement.missing) and "no version information available" in words
    return "cannot enable executable stack" in words


def agrees(judgement: Judgement, result: JobResult, *, newer: bool) -> str:
    """ "" if the loader says what scan says, else what it says."""
    started = result.status == corpus.REACHED
    words = result.stderr.decode(errors="replace").strip() or result.ending()
    if newer and newer_ways(judgement, words):
        return ""
    if judgement.answer is Answer.UNKNOWN:
        return ""  # counted apart
    if judgement.answer is Answer.STARTS and not started:
        absent = re.search(r"(\S+): cannot open shared object file", words)
        wanted = re.search(r"undefined symbol: (\w+)", words)
        if absent and absent[1] in judgement.elsewhere:
            return ""  # it starts if that is there, and here it is not
        return "" if wanted and wanted[1] in judgement.borrowed else words
    return "" if started == (judgement.answer is Answer.STARTS) else words


def judge_all(machine: Arch, top: Path, work: Path, place: Place, probes: Path) -> tuple[int, Counter[str]]:
    """Compare all answers; returns how many files there were, and the answers' counts."""
    roots, listings = releases(machine, work / "roots")
    commit(machine, listings)
    newer = NEWER in listings["libc.so.6"].nodes
    profile = profiles.load("bookworm")
    found = scan(profile, (OLD, NEW), (machine.name,), [top]).files
    jobs = []
    for number, file in enumerate(found):
        inside = f"/corpus/{Path(file.item.file).relative_to(top)}"
        library = file.item.facts is not None and file.item.facts.kind is Kind.LIBRARY
        argv = ("/probes/opens", inside) if library else (inside,)
        # a root has no /proc, where ld.so finds what $ORIGIN is
        env = {"LD_BIND_NOW": "1", "LD_ORIGIN_PATH": str(Path(inside).parent)}
        jobs += [Job(f"{r}/{number}", r, argv, env, 30.0) for r in (OLD, NEW)]
    batch = place.run_batch(roots, {"/probes": probes, "/corpus": top}, jobs)
    assert batch.trouble == ""
    wrong, counts = [], Counter[str]()
    for number, file in enumerate(found):
        for release in (OLD, NEW):
            judgement = file.judgements[release]
            counts[judgement.answer.value] += 1
            said = agrees(judgement, batch.results[f"{release}/{number}"], newer=newer)
            if said:
                why = [str(m) for m in judgement.missing]
                wrong.append(
                    f"{file.item.file} on {release}: {judgement.answer.value} {why}, and ld.so: {said}"
                )
            unknown_must_be_known(file, judgement)
    assert not wrong, "\n".join(wrong)
    return len(found), counts


def unknown_must_be_known(file: Scanned, judgement: Judgement) -> None:
    """What is not answered is so for a reason of this short list."""
    if judgement.answer is Answer.UNKNOWN:
        allowed = (
            "32-bit|big-endian|machine-75|GLIBC_PRIVATE|unless another library|unknown|malformed"
            "|only where that is"
        )
        assert re.search(allowed, judgement.reason), f"{file.item.file}: {judgement.reason}"


@pytest.fixture(autouse=True)
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BASELINES", tmp_path / "abi-baselines")
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))


def probes_of(machine: Arch, into: Path) -> Path:
    probe_bench.compile_one(machine, paths.PROBES / "runner.c", into / "runner", "-static", "-pthread")
    (into / "opens.c").write_text(DLOPEN)
    run([compiler(machine, cxx=False), "-o", into / "opens", into / "opens.c"])
    return into


def test_scan_says_what_the_loader_says(tmp_path: Path) -> None:
    machine = host_arch()
    corpus.made(machine, tmp_path / "corpus")
    corpus.crowd(compiler(machine, cxx=False), tmp_path / "corpus" / "crowd", 500_000)
    odd_files.made(machine, compiler(machine, cxx=False), tmp_path / "corpus" / "odd")
    corpus.own_programs(tmp_path / "corpus" / "own", 100)
    probes = probes_of(machine, tmp_path / "probes")
    number, counts = judge_all(machine, tmp_path / "corpus", tmp_path, HostPlace(probes / "runner"), probes)
    assert number >= 300
    assert counts["starts"] > 200
    assert counts["fails"] > 100
    assert counts["unknown"] < number / 4


@pytest.mark.skipif(host_arch().name == "aarch64", reason="here AArch64 is the host, not emulated")
def test_and_so_on_the_other_architecture(tmp_path: Path) -> None:
    machine = arch("aarch64")
    corpus.made(machine, tmp_path / "corpus")
    odd_files.made(machine, compiler(machine, cxx=False), tmp_path / "corpus" / "odd")
    probes = probes_of(machine, tmp_path / "probes")
    number, counts = judge_all(machine, tmp_path / "corpus", tmp_path, QemuUserPlace(machine), probes)
    assert number >= 200
    assert counts["fails"] > 60
