"""Where the programs of an architecture are watched: which places, and with which kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import paths
from pipeline.arch import Arch, host_arch
from pipeline.errors import UsageError
from pipeline.image import BuildImage
from pipeline.observe import Site, host_identity
from pipeline.place import kernel as images
from pipeline.place.container import ContainerPlace
from pipeline.place.host import HostPlace
from pipeline.place.qemu_user import QemuUserPlace
from pipeline.place.ssh import SshPlace
from pipeline.place.vm import VmPlace
from pipeline.profile import Profile
from pipeline.progress import warn
from pipeline.run import first_line

KNOWN = "container, host, vm, qemu-user, ssh:USER@HOST"


@dataclass(frozen=True)
class Sites:
    """What the user asked for (``places``, ``kernels``: empty means the usual) and what there is.

    ``image`` is the build image of this host's architecture, None without a container engine.
    """

    profile: Profile
    places: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    image: BuildImage | None = None

    def usual(self, machine: Arch) -> tuple[str, ...]:
        """Programs of this host's architecture run in a container, others in a virtual machine."""
        if machine == host_arch():
            return ("container" if self.image else "host",)
        return ("vm",)

    def for_arch(self, machine: Arch, programs: Path) -> list[Site]:
        """The places for ``machine``; raises `UsageError` for a place nobody knows or that cannot serve."""
        chosen = [p for p in self.places if self._fits(p, machine)] or list(self.usual(machine))
        if left_out := [p for p in self.places if p not in chosen]:
            warn(
                f"{', '.join(left_out)} cannot run {machine.name} programs here; "
                f"they are watched at: {', '.join(chosen)}"
            )
        sites: list[Site] = []
        for name in dict.fromkeys(chosen):
            sites += self._sites(name, machine, programs)
        return sites

    def _fits(self, name: str, machine: Arch) -> bool:
        """Whether a place that was asked for can run programs of ``machine`` at all."""
        if name in ("host", "container"):
            return machine == host_arch()
        if name == "qemu-user":
            return machine != host_arch()
        if name == "vm" or name.startswith("ssh:"):
            return True
        raise UsageError(f"there is no place {name!r}", hint=f"places: {KNOWN}")

    def _sites(self, name: str, machine: Arch, programs: Path) -> Sequence[Site]:
        if name == "host":
            log = paths.logs() / "host-batch.jsonl"
            return [Site(HostPlace(programs / "runner", log=log), host_identity())]
        if name == "container":
            if self.image is None:
                raise UsageError(
                    "--place container and --place host exclude each other",
                    hint="leave --place host out to build and run in containers",
                )
            return [Site(ContainerPlace(self.image), {**host_identity(), "image": self.image.record.id})]
        if name == "qemu-user":
            return [Site(QemuUserPlace(machine), host_identity())]
        if name == "vm":
            return [self._vm(machine, k) for k in self._kernels(machine)]
        return [Site(SshPlace(name.removeprefix("ssh:")))]

    def _vm(self, machine: Arch, kernel: images.KernelImage) -> Site:
        qemu = (f"qemu-system-{machine.qemu}", "--version")
        identity = {**host_identity(), "kernel_image": kernel.sha256, "qemu": first_line(qemu)}
        return Site(VmPlace(machine, kernel), identity, kernel.image)

    def _kernels(self, machine: Arch) -> list[images.KernelImage]:
        named = [k.name for k in self.profile.kernel if machine.name in k.packages]
        found = []
        for wanted in self.kernels or tuple(named):
            if "/" in wanted:
                image = images.from_path(Path(wanted))
                if images.machine_of(image.image.read_bytes()) == machine.name or len(self.kernels) == 1:
                    found.append(image)
            else:
                found.append(images.fetch(self.profile, wanted, machine))
        if not found:
            raise UsageError(
                f"profile {self.profile.name} names no kernel for {machine.name}",
                hint="give one with `--kernel PATH`",
            )
        return found
