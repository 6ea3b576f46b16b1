"""RELRO as the kernel sees it: this machine's glibc is green, and a file with one header edited is red."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import elf
from pipeline.check.relro import RseqRelro
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, Outcome
from pipeline.elf.image import PT_GNU_RELRO
from pipeline.place.host import HostPlace
from tests import elf_edit as edits
from tests.elf_fixtures import Dso
from tests.integration import probe_bench as kit

pytestmark = pytest.mark.integration
PASS, FAIL, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.ERROR


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probe in both ways of linking, and the runner."""
    into = tmp_path_factory.mktemp("probes")
    for name, flags in (("runner", ["-static"]), ("relro-pages", ["-rdynamic"])):
        kit.compile_one(host_arch(), kit.paths.PROBES / f"{name.replace('-', '_')}.c", into / name, *flags)
    static = into / f"relro-static-{kit.LIKE}"
    kit.compile_one(host_arch(), kit.paths.PROBES / "relro_pages.c", static, "-static", "-DSTATIC")
    return into


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return kit.make_root(host_arch(), tmp_path / "root")


def findings(root: Path, programs: Path, release: str = kit.LIKE, *, static: bool = False) -> list[Finding]:
    """Of the shared libraries in each state of the tunable, or of a static program."""
    on, check = kit.host_bench(root, programs, release), RseqRelro()
    batch = kit.observe(HostPlace(programs / "runner"), on, [check])
    answers = [a for a in check.judge(on, "host", batch) if isinstance(a, Finding)]
    found = [a for a in answers if a.case.startswith("static") is static]
    assert len(found) == 3
    return found


def loader(root: Path) -> Path:
    return root / host_arch().interp.lstrip("/")


def test_this_machines_glibc_is_green(root: Path, programs: Path) -> None:
    found = findings(root, programs)
    assert [f.outcome for f in found] == [PASS, PASS, PASS], found
    assert found[0].measures["objects"] == found[0].measures["with_relro"] == 2
    assert found[0].measures["pages"] >= 2
    assert "and so are __rseq_size, __rseq_offset, __rseq_flags" in found[0].seen


def test_a_symbol_beyond_the_protected_pages_is_red(root: Path, programs: Path) -> None:
    """PT_GNU_RELRO of ld.so is a page too short: its header says little of it, the kernel all."""

    def shorten(data: bytearray, binary: elf.Elf) -> None:
        (relro,) = (s for s in binary.segments if s.type == PT_GNU_RELRO)
        size = next(s for s in binary.defined if s.name == "__rseq_size")
        edits.segment(PT_GNU_RELRO, memsz=size.value // 4096 * 4096 - relro.vaddr)(data, binary)

    edits.edit(loader(root), shorten)
    found = findings(root, programs)
    assert [f.outcome for f in found] == [FAIL, FAIL, FAIL]
    assert "__rseq_size can be overwritten (the kernel's answer to a write: 0)" in found[0].seen


def test_pages_that_the_loader_did_not_protect_are_red(root: Path, programs: Path, tmp_path: Path) -> None:
    """The header promises, and the pages are writable all the same: here a constructor makes them so."""
    source = tmp_path / "extra.c"
    source.write_text("""
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdint.h>
        #include <sys/mman.h>
        __attribute__ ((constructor)) static void open_up (void)
        {
          uintptr_t at = (uintptr_t) dlsym (RTLD_DEFAULT, "__rseq_size");
          mprotect ((void *) (at & -4096ul), 4096, PROT_READ | PROT_WRITE);
        }
    """)
    probe = str(kit.paths.PROBES / "relro_pages.c")
    wrong = kit.compile_one(host_arch(), source, tmp_path / "wrong", probe, "-rdynamic")
    found = findings(root, kit.replaced(programs, "relro-pages", wrong, tmp_path / "programs"))
    assert [f.outcome for f in found] == [FAIL, FAIL, FAIL]
    assert f"{host_arch().loader}: 1 RELRO pages took a write" in found[0].seen


def test_a_library_that_does_not_load_is_missing(root: Path, programs: Path) -> None:
    """All DSOs are asked about where the tunable is not set, the loader and libc in each state."""
    lonely = Dso("libx.so.1", "extern int nowhere; int f (void) { return nowhere; }", {"V": ("f",)})
    lonely.build(root / "lib" / host_arch().triplet / "libx.so.1")
    found = findings(root, programs)
    assert [f.outcome for f in found] == [Outcome.MISSING, PASS, PASS]
    assert "libx.so.1: not loaded" in found[0].seen


def test_a_release_that_exports_what_it_must_not(root: Path, programs: Path) -> None:
    found = findings(root, programs, kit.SYMBOLLESS)
    assert [f.outcome for f in found] == [FAIL, FAIL, FAIL]
    assert "__rseq_size is exported" in found[0].seen


def test_a_file_that_cannot_be_read_is_an_error(root: Path, programs: Path) -> None:
    (root / "lib" / "broken.so").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(20))
    assert [f.outcome for f in findings(root, programs)] == [ERROR, ERROR, ERROR]


def test_symbols_of_a_static_program_are_asked_too(root: Path, programs: Path, tmp_path: Path) -> None:
    assert [f.outcome for f in findings(root, programs, static=True)] == [PASS] * 3
    source = tmp_path / "extra.c"
    source.write_text("""
        #include <stdint.h>
        #include <sys/mman.h>
        #include <sys/rseq.h>
        __attribute__ ((constructor)) static void open_up (void)
        {
          mprotect ((void *) ((uintptr_t) &__rseq_size & -4096ul), 4096, PROT_READ | PROT_WRITE);
        }
    """)
    probe = str(kit.paths.PROBES / "relro_pages.c")
    wrong = kit.compile_one(host_arch(), source, tmp_path / "wrong", probe, "-static", "-DSTATIC")
    probes = kit.replaced(programs, f"relro-static-{kit.LIKE}", wrong, tmp_path / "programs")
    found = findings(root, probes, static=True)
    assert [f.outcome for f in found] == [FAIL] * 3
    assert "__rseq_size can be overwritten" in found[0].seen
