"""Each kernel that can be named boots: old, newest and split, with large pages, and one out of an RPM."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

import pytest

from pipeline.core.arch import arch
from pipeline.core.run import run
from pipeline.place import Job, PlaceFacts
from pipeline.place.kernel import KernelImage, from_path, page_kib_of
from pipeline.place.vm import VmPlace
from tests.integration import machines

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

#: What the job says besides: __rseq_size is not 0 where the kernel has rseq.
PAGES = """
#include <stdio.h>
#include <unistd.h>
extern const unsigned int __rseq_size __attribute__ ((weak));
int main (void)
{
  printf ("{\\"pages\\": %ld, \\"registered\\": %d}\\n", sysconf (_SC_PAGESIZE), &__rseq_size && __rseq_size);
}
"""


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in ("x86_64", "aarch64"):
        made[name] = machines.compile_probes(name, tmp_path_factory.mktemp(f"probes-{name}"))
        source = tmp_path_factory.mktemp("source") / "pages.c"
        source.write_text(PAGES)
        run([machines.compiler(name), "-O2", "-static", "-o", made[name] / "pages", source])
    return made


def boot(
    name: str, kernel: KernelImage, probes: Path, tmp_path: Path
) -> tuple[PlaceFacts, dict[str, object]]:
    place = VmPlace(arch(name), kernel, log_dir=tmp_path / "logs")
    jobs = [Job("pages", "one", ("/probes/pages",))]
    batch = place.run_batch({"one": machines.empty_root(tmp_path / "root")}, {"/probes": probes}, jobs)
    assert batch.trouble == ""
    assert batch.facts is not None
    (said,) = batch.results["pages"].lines()
    return batch.facts, said


@pytest.mark.parametrize(
    ("name", "wanted", "version"),
    [
        ("x86_64", "sid", r"(7|8)\."),
        ("aarch64", "sid", r"(7|8)\."),
        ("x86_64", "bullseye", r"5\.10\."),
        ("aarch64", "bullseye", r"5\.10\."),
        ("aarch64", "pages-16k", r"6\.12\."),
    ],
)
def test_a_named_kernel_boots(
    name: str, wanted: str, version: str, probes: dict[str, Path], tmp_path: Path
) -> None:
    kib = 16 if wanted == "pages-16k" else 4
    kernel = machines.kernel_for(name, wanted)
    assert re.match(version, kernel.release)
    assert page_kib_of(kernel.image.read_bytes()) == kib
    facts, said = boot(name, kernel, probes[name], tmp_path)
    assert facts.kernel == kernel.release
    assert facts.rseq == "EINVAL"
    assert said == {"pages": kib * 1024, "registered": 1}


def test_an_rpms_kernel_boots(probes: dict[str, Path], tmp_path: Path) -> None:
    """Debian's kernel as RHEL packs one: the image in kernel-core, modules in kernel-modules-core."""
    debian = machines.kernel_for("x86_64", "stable")
    assert debian.modules, "this kernel has virtio as modules"
    root = tmp_path / "root" / "lib" / "modules" / "6.1.0-rpm"
    drivers = root / "kernel" / "drivers" / "virtio"
    drivers.mkdir(parents=True)
    (root / "vmlinuz").write_bytes(debian.image.read_bytes())
    (root / "modules.builtin").touch()
    for module in debian.modules:
        (drivers / f"{module.name}.xz").write_bytes(lzma.compress(module.read_bytes()))
    spec = tmp_path / "kernel.spec"
    spec.write_text(
        f"""Name: kernel
Version: 6.1.0
Release: 1
Summary: A kernel
License: GPL-2.0-only
%global __os_install_post %{{nil}}
%global debug_package %{{nil}}
%description
%package core
Summary: Image
%description core
%package modules-core
Summary: Modules
%description modules-core
%install
cp -a {tmp_path}/root/. %{{buildroot}}
%files core
/lib/modules/6.1.0-rpm/vmlinuz
/lib/modules/6.1.0-rpm/modules.builtin
%files modules-core
/lib/modules/6.1.0-rpm/kernel
"""
    )
    run(["rpmbuild", "-bb", "--quiet", "--target", "x86_64", "--define", f"_topdir {tmp_path}/top", spec])
    packages = tmp_path / "top" / "RPMS" / "x86_64"
    kernel = from_path(packages / "kernel-core-6.1.0-1.x86_64.rpm")
    assert kernel.release == "6.1.0-rpm"
    assert [m.name for m in kernel.modules] == [m.name for m in debian.modules]
    facts, said = boot("x86_64", kernel, probes["x86_64"], tmp_path)
    assert facts.kernel == debian.release
    assert said["registered"] == 1
