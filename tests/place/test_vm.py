"""The virtual machine without a virtual machine: command lines, accelerators, and a QEMU that is a script.

The script stands for QEMU's ways to end; what a real one does is in tests/integration/test_vm_boot.py.
"""

from __future__ import annotations

import itertools
import os
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.core.arch import arch, host_arch
from pipeline.core.errors import ToolMissing, UsageError, WorldError
from pipeline.place import BatchResult, Job, machine
from pipeline.place import vm as vm_module
from pipeline.place.kernel import KernelImage, from_path
from pipeline.place.vm import VmPlace
from tests.place.test_kernel import arm64_image, bzimage

FACTS = (
    '{"kind":"facts","cpus":2,"kernel":"6.1","kernel_version":"#1","machine":"x86_64","cpu_model":"x",'
    '"hypervisor":"","rseq":"EINVAL","page_size":4096,"rseq_feature_size":28,"rseq_align":32}\n'
)
RESULT = (
    '{"kind":"job","id":"one","status":0,"signal":null,"timed_out":false,"stdout":"","stderr":"",'
    '"ns":1,"code":"","error":""}\n'
)
END = '{"kind":"end","jobs":1}\n'
DONE = "pipeline-init: up\npipeline-init: done\n"


@dataclass
class Bed:
    """A machine to be, its trees, and the script that stands for QEMU."""

    tmp_path: Path
    monkeypatch: pytest.MonkeyPatch

    def __post_init__(self) -> None:
        (self.tmp_path / "root").mkdir()
        (self.tmp_path / "probes").mkdir()
        for name in ("init", "runner"):
            (self.tmp_path / "probes" / name).write_bytes(b"\x7fELF")
        self.place = VmPlace(
            arch("x86_64"), self.kernel(bzimage("6.1")), accel="tcg", log_dir=self.tmp_path / "logs"
        )

    def kernel(self, image: bytes) -> KernelImage:
        (self.tmp_path / "vmlinuz").write_bytes(image)
        return from_path(self.tmp_path / "vmlinuz")

    def qemu(self, body: str) -> None:
        """A ``qemu-system-x86_64`` on the PATH: Python with ``argv``, ``results`` and ``console``."""
        script = self.tmp_path / "bin" / "qemu-system-x86_64"
        script.parent.mkdir()
        head = f"""\
            #!{sys.executable}
            import os, re, sys, time
            argv = " ".join(sys.argv)
            results = open(re.search(r"id=results,path=(\\S+)", argv)[1], "w")
            console = open(re.search(r"id=console,path=(\\S+)", argv)[1], "w")
            FACTS, RESULT, END, DONE = {FACTS!r}, {RESULT!r}, {END!r}, {DONE!r}
            """
        script.write_text(textwrap.dedent(head) + textwrap.dedent(body))
        script.chmod(0o755)
        self.monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    def run(self, place: VmPlace | None = None, timeout: float = 60.0) -> BatchResult:
        jobs = [Job("one", "r", ("/probes/one",), timeout=timeout)]
        overlay = {"/probes": self.tmp_path / "probes"}
        return (place or self.place).run_batch({"r": self.tmp_path / "root"}, overlay, jobs)


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bed:
    return Bed(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("body", "trouble", "came"),
    [
        ("results.write(FACTS + RESULT + END); print(DONE, file=console)", "", 1),
        ("sys.exit('qemu: unknown machine q35')", "ended with status 1: qemu: unknown machine q35", 0),
        ("os.abort()", "was killed by signal 6", 0),
        ("results.write(FACTS)", "the machine ended before its init began", 0),
        ("print('pipeline-init: up', file=console)", "the machine ended before its work was done", 0),
        (
            "print('pipeline-init: failed: virtio-serial port: No such device', file=console)",
            "init in the machine failed: virtio-serial port: No such device",
            0,
        ),
        (
            "results.write(FACTS + RESULT); print('Kernel panic - not syncing: Oops', file=console)",
            "the kernel panicked: Oops",
            1,
        ),
        ("results.write(FACTS + RESULT); print(DONE, file=console)", "cut short after 1 jobs", 1),
        ("results.write(FACTS + RESULT[:40]); print(DONE, file=console)", "cannot be read", 0),
        ("results.write(FACTS + END); print(DONE, file=console)", "0 results came, 1 were sent", 0),
    ],
    ids=[
        "all-well", "does-not-start", "aborts", "no-init", "no-work", "init-fails", "panic", "cut",
        "half-line", "result-missing",
    ],
)  # fmt: skip
def test_ways_to_end(bed: Bed, body: str, trouble: str, came: int) -> None:
    bed.qemu(body)
    batch = bed.run()
    assert len(batch.results) == came
    if trouble:
        assert trouble in batch.trouble
    else:
        assert batch.trouble == ""
        assert batch.facts is not None
        assert (batch.facts.place, batch.facts.emulation) == ("vm:6.1", "tcg")


@pytest.mark.parametrize(
    ("body", "boot", "limit", "trouble"),
    [
        ("time.sleep(60)", 1.0, None, "nothing came for 1 s while booting"),
        (
            "results.write(FACTS); results.flush(); time.sleep(60)",
            30.0, None, "while running one (1 of 1)",
        ),
        (
            "results.write(FACTS + RESULT + END); results.flush(); time.sleep(60)",
            30.0, None, "while shutting down",
        ),
        ("time.sleep(60)", 30.0, 0.5, "the time limit of 0.5 s was over while booting"),
    ],
    ids=["boot", "job", "shutdown", "total"],
)  # fmt: skip
def test_a_hang_is_noticed_and_ended(
    bed: Bed, body: str, boot: float, limit: float | None, trouble: str
) -> None:
    bed.monkeypatch.setattr(vm_module, "BOOT_LIMIT", {"tcg": boot})
    bed.monkeypatch.setattr(vm_module, "SHUTDOWN_LIMIT", 0.5)
    bed.qemu(body)
    start = time.monotonic()
    batch = bed.run(replace(bed.place, silence_s=0.3, timeout_s=limit), timeout=0.1)
    assert trouble in batch.trouble
    assert time.monotonic() - start < 30


def test_kvm_that_does_not_work_falls_back_and_says_so(bed: Bed, capfd: pytest.CaptureFixture[str]) -> None:
    bed.qemu("""
        if "-accel kvm" in argv:
            sys.exit("kvm: failed to set MSR 0x10a")
        results.write(FACTS + RESULT + END)
        console.write(DONE)
    """)
    bed.monkeypatch.setattr(machine, "why_no_kvm", lambda *_: "")
    batch = bed.run(replace(bed.place, accel="auto"))
    assert (batch.trouble, batch.facts and batch.facts.emulation) == ("", "tcg")
    assert "failed to set MSR 0x10a" in capfd.readouterr().err
    assert "failed to set MSR 0x10a" in bed.run(replace(bed.place, accel="kvm")).trouble


@pytest.mark.parametrize(
    ("image", "trouble"),
    [(arm64_image(), "is for aarch64, the machine is x86_64"), (b"text", "is no kernel image")],
)
def test_a_kernel_for_another_machine_is_trouble(bed: Bed, image: bytes, trouble: str) -> None:
    batch = bed.run(replace(bed.place, kernel=bed.kernel(image)))
    assert batch.facts is None
    assert not batch.results
    assert trouble in batch.trouble


def test_without_qemu_the_remedy_is_named(bed: Bed) -> None:
    nowhere = machine.Machine("qemu-system-none", "q35", "q35", "Nehalem", "ttyS0")
    bed.monkeypatch.setitem(machine.MACHINES, "x86_64", nowhere)
    with pytest.raises(ToolMissing, match="qemu-system-none is not installed") as caught:
        bed.run()
    assert "setup" in caught.value.hint


def test_without_init_nothing_is_booted(bed: Bed) -> None:
    (bed.tmp_path / "probes" / "init").unlink()
    with pytest.raises(UsageError, match="/probes/init"):
        bed.run()


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("/nonexistent/kvm", "No such file"),
        ("/dev/null", "makes no machine"),
        ("", "makes no machine"),
    ],
)
def test_kvm_is_really_tried(tmp_path: Path, device: str, reason: str) -> None:
    host = host_arch()
    path = Path(device) if device else tmp_path / "kvm"
    if not device:
        path.write_bytes(b"")
    why = machine.why_no_kvm(host, path)
    assert reason in why
    assert machine.choose(host, "auto", path) == machine.Acceleration("tcg", why)
    assert machine.choose(host, "auto", path).emulation == "tcg"
    with pytest.raises(WorldError, match="no KVM"):
        machine.choose(host, "kvm", path)


def test_a_foreign_guest_never_has_kvm() -> None:
    foreign = next(a for a in machine.MACHINES if a != host_arch().name)
    assert "the guest" in machine.why_no_kvm(arch(foreign))


def test_command_lines(tmp_path: Path) -> None:
    files = machine.MachineFiles(tmp_path / "k", tmp_path / "i", tmp_path / "a,b", tmp_path / "r")
    tcg = machine.command(
        arch("aarch64"), files, machine.Acceleration("tcg"), memory_mib=512, cpus=2, options=("x=1",)
    )
    pairs = dict(itertools.pairwise(tcg))
    assert tcg[0] == "qemu-system-aarch64"
    assert (pairs["-machine"], pairs["-cpu"], pairs["-accel"]) == ("virt", "cortex-a57", "tcg,thread=single")
    assert (pairs["-m"], pairs["-smp"]) == ("512M", "2")
    assert pairs["-append"] == "console=ttyAMA0 panic=-1 x=1"
    assert f"file,id=console,path={tmp_path}/a,,b" in tcg
    assert "-no-reboot" in tcg
    assert [w for n, w in itertools.pairwise(tcg) if n == "-numa"] == [
        "node,nodeid=0,cpus=1-1,memdev=node0", "node,nodeid=1,cpus=0-0,memdev=node1",
    ]  # fmt: skip
    assert "memory-backend-ram,id=node0,size=256M" in tcg
    kvm = machine.command(
        arch("x86_64"), files, machine.Acceleration("kvm"), memory_mib=512, cpus=2, options=()
    )
    assert (kvm[kvm.index("-cpu") + 1], kvm[kvm.index("-accel") + 1]) == ("host", "kvm")
    assert machine.Acceleration("kvm").emulation == ""
