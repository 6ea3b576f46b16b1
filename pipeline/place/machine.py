"""How QEMU is started: accelerator, machine, processor, devices.

Everything that depends on the architecture of the guest is in `MACHINES`; nothing else asks for it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import CommandFailed, WorldError
from pipeline.core.run import run

Accel = Literal["auto", "kvm", "tcg"]
#: Name of the virtio-serial port for results; ``pipeline/probes/init.c`` looks for it.
PORT_NAME = "pipeline.results"
#: No device, window or setting that we did not ask for.
BARE = ("-nodefaults", "-no-user-config", "-display", "none")
KVM_DEVICE = Path("/dev/kvm")
#: ioctl numbers of linux/kvm.h, and the one API version there has ever been since 2007.
KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_API_VERSION = 0xAE00, 0xAE01, 12


@dataclass(frozen=True)
class Machine:
    """QEMU's words for one guest architecture.

    ``tcg_cpu``: for aarch64 cortex-a57, because ``max`` has pointer authentication, which costs several
    times the boot under emulation; for x86_64 Nehalem, the smallest that RHEL 9 (x86-64-v2) runs on.
    ``cpu_of_pages``: another for kernels with pages of so many KiB, which cortex-a57 does not have.
    """

    program: str
    machine: str
    kvm_machine: str
    tcg_cpu: str
    console: str
    cpu_of_pages: Mapping[int, str] = field(default_factory=dict)


MACHINES = {
    "x86_64": Machine("qemu-system-x86_64", "q35", "q35", "Nehalem", "ttyS0"),
    "aarch64": Machine(
        "qemu-system-aarch64", "virt", "virt,gic-version=host", "cortex-a57", "ttyAMA0", {16: "cortex-a76"}
    ),
}


@dataclass(frozen=True)
class Acceleration:
    """``kind`` is QEMU's option; ``reason`` says why it is not KVM ("" if it is)."""

    kind: Literal["kvm", "tcg"]
    reason: str = ""

    @property
    def emulation(self) -> str:
        """As in `pipeline.place.PlaceFacts`: "" for KVM, else ``tcg``."""
        return "" if self.kind == "kvm" else "tcg"


def why_no_kvm(guest: Arch, device: Path = KVM_DEVICE) -> str:
    """Why a guest of this architecture cannot have KVM here, or "" if it seems that it can.

    The device is really opened, a machine really made, and QEMU really started with it (its processor
    stopped, 0.1 s): a device node alone proves nothing (containers, nested virtualisation that is switched
    off or half there). Even so a guest may not run; `pipeline.place.vm` then falls back. Raises `ToolMissing`
    without QEMU.
    """
    if guest != host_arch():
        return f"the host is {host_arch().name}, the guest {guest.name}"
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        return f"{device}: {e.strerror}"
    try:
        version = fcntl.ioctl(fd, KVM_GET_API_VERSION, 0)
        if version != KVM_API_VERSION:
            return f"{device}: API version {version}, not {KVM_API_VERSION}"
        os.close(fcntl.ioctl(fd, KVM_CREATE_VM, 0))
    except OSError as e:
        return f"{device} opens, but makes no machine: {e.strerror}"
    finally:
        os.close(fd)
    return _why_qemu_does_not_start(guest)


def _why_qemu_does_not_start(guest: Arch) -> str:
    m = MACHINES[guest.name]
    argv = [
        m.program,
        *BARE,
        "-machine",
        m.kvm_machine,
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-S",
        "-monitor",
        "stdio",
    ]
    try:
        done = run(argv, stdin=b"quit\n", success_codes=None, timeout=10)
    except CommandFailed as e:
        return f"{m.program} with KVM: {e.message}"
    if done.returncode == 0:
        return ""
    said = " ".join(done.stderr.decode(errors="replace").split())
    return f"{m.program} does not start with KVM: {said or f'status {done.returncode}'}"


def choose(guest: Arch, accel: Accel, device: Path = KVM_DEVICE) -> Acceleration:
    """The accelerator to use. Raises `WorldError` if KVM was asked for and is not to be had."""
    if accel == "tcg":
        return Acceleration("tcg", "emulation was asked for")
    reason = why_no_kvm(guest, device)
    if not reason:
        return Acceleration("kvm")
    if accel == "kvm":
        raise WorldError(
            f"no KVM for an {guest.name} guest: {reason}",
            hint="leave out the accelerator to let it be emulated, or use a machine with KVM",
        )
    return Acceleration("tcg", reason)


@dataclass(frozen=True)
class MachineFiles:
    """The files of one run: what the machine starts from, and where its console and results go."""

    kernel: Path
    initrd: Path
    console: Path
    results: Path


def command(
    guest: Arch,
    files: MachineFiles,
    acceleration: Acceleration,
    *,
    memory_mib: int,
    cpus: int,
    options: Sequence[str],
    page_kib: int = 0,
) -> list[str]:
    """QEMU's command line; ``options`` are added to the kernel's, whose pages have ``page_kib`` KiB (0: any).

    ``panic=-1`` and ``-no-reboot`` make a panic end QEMU at once. The kernel is not made quiet: its
    messages cost a second of an emulated boot and are what one needs when it hangs.

    All processors of an emulated machine run in one thread of QEMU. With a thread each, they wait for one
    another at every new process and stack (TLB maintenance is broadcast), which took twice the time. Several
    machines run side by side (`pipeline.verify.observe`).
    """
    m = MACHINES[guest.name]
    kvm = acceleration.kind == "kvm"
    append = [f"console={m.console}", "panic=-1", *options]
    return [
        m.program,
        *BARE, "-no-reboot",
        "-machine", m.kvm_machine if kvm else m.machine,
        "-accel", "kvm" if kvm else "tcg,thread=single",
        "-cpu", "host" if kvm else m.cpu_of_pages.get(page_kib, m.tcg_cpu),
        "-smp", str(cpus),
        "-m", f"{memory_mib}M",
        *_nodes(memory_mib, cpus),
        "-kernel", _plain(files.kernel),
        "-initrd", _plain(files.initrd),
        "-append", " ".join(append),
        "-chardev", f"file,id=console,path={_escaped(files.console)}",
        "-serial", "chardev:console",
        "-device", "virtio-serial-pci",
        "-chardev", f"file,id=results,path={_escaped(files.results)}",
        "-device", f"virtserialport,chardev=results,name={PORT_NAME}",
    ]  # fmt: skip


def _nodes(memory_mib: int, cpus: int) -> list[str]:
    """Two NUMA nodes with half of the processors and of the memory each: with one node alone, every answer of
    getcpu(2) about the node would be 0, and so no wrong one would show. The first processors are of the
    second node: were processor 1 of node 1, who takes one number for the other would be right."""
    if cpus < 2:
        return []
    half, words = cpus // 2, []
    for node, its_cpus in enumerate((f"{half}-{cpus - 1}", f"0-{half - 1}")):
        words += ["-object", f"memory-backend-ram,id=node{node},size={memory_mib // 2}M"]
        words += ["-numa", f"node,nodeid={node},cpus={its_cpus},memdev=node{node}"]
    return words


def _plain(path: Path) -> str:
    return str(path.absolute())


def _escaped(path: Path) -> str:
    """In QEMU's option lists a comma is written twice."""
    return str(path.absolute()).replace(",", ",,")
