"""Where the programs of an architecture are watched: which places, and with which kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths
from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import UsageError
from pipeline.core.progress import warn
from pipeline.core.run import first_line
from pipeline.host import engine as engines
from pipeline.host.image import BuildImage
from pipeline.place import kernel as images
from pipeline.place.container import ContainerPlace
from pipeline.place.host import HostPlace
from pipeline.place.machine import MachineFiles, choose
from pipeline.place.qemu_user import QemuUserPlace
from pipeline.place.ssh import SshPlace
from pipeline.place.vm import VmPlace
from pipeline.profile import Profile
from pipeline.verify.observe import Site, host_identity

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

    def check(self, machines: Sequence[Arch]) -> None:
        """Refuse before anything is built what `for_arch` would refuse afterwards; raises `UsageError`.

        Kernels are looked at also if nothing boots them; none is fetched.
        """
        known = [k.name for k in self.profile.kernel]
        for wanted in self.kernels:
            if "/" in wanted:
                images.from_path(Path(wanted))
            elif wanted not in known:
                raise UsageError(
                    f"profile {self.profile.name} has no kernel {wanted!r}",
                    hint=f"it has: {', '.join(known) or 'none'}; `--kernel ./FILE` takes any kernel image",
                )
        if {"host", "container"} <= set(self.places):
            raise _exclusive()
        for machine in machines:
            chosen = self._chosen(machine)
            if left_out := [p for p in self.places if p not in chosen]:
                warn(
                    f"{', '.join(left_out)} cannot run {machine.name} programs here; "
                    f"they are watched at: {', '.join(chosen)}"
                )
        booting = [m for m in machines if "vm" in self._chosen(m)]
        for machine in booting:
            self._wanted_kernels(machine)
        if self.kernels and machines and not booting:
            warn(f"--kernel {self.kernels[0]} boots nothing here: it is for virtual machines, add --place vm")

    def _chosen(self, machine: Arch) -> list[str]:
        return [p for p in self.places if self._fits(p, machine)] or list(self.usual(machine))

    def for_arch(self, machine: Arch, programs: Path) -> list[Site]:
        """The places for ``machine``; raises `UsageError` for an unknown place or one that cannot serve."""
        sites: list[Site] = []
        for name in dict.fromkeys(self._chosen(machine)):
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
                raise _exclusive()
            identity = {
                **host_identity(),
                "image": self.image.record.id,
                "engine": [self.image.engine.program, *self.image.engine.options, *self.image.engine.limits],
                "engine_version": first_line((self.image.engine.program, "--version")),
                "policy": engines.policy(),
            }
            return [Site(ContainerPlace(self.image), identity)]
        if name == "qemu-user":
            user = QemuUserPlace(machine)
            qemu = first_line((user.emulator, "--version"))
            return [Site(user, {**host_identity(), "qemu": qemu})]
        if name == "vm":
            return [self._vm(machine, *k) for k in self._kernels(machine)]
        return [Site(SshPlace(name.removeprefix("ssh:")))]

    def _vm(self, machine: Arch, kernel: images.KernelImage, name: str) -> Site:
        place, acceleration = VmPlace(machine, kernel), choose(machine, "auto")
        files = MachineFiles(*(Path("/", name) for name in ("kernel", "initrd", "console", "results")))
        qemu, *arguments = place.argv(files, acceleration)
        identity = {
            **host_identity(),
            "kernel_image": kernel.sha256,
            "qemu": first_line((qemu, "--version")),
            "machine": arguments,
            "accelerator": acceleration.kind,
        }
        return Site(place, identity, kernel.image, name)

    def _kernels(self, machine: Arch) -> list[tuple[images.KernelImage, str]]:
        """The kernels to boot, each with the profile's name for it ("": it is the user's own)."""
        return [
            (images.fetch(self.profile, k, machine), k) if isinstance(k, str) else (k, "")
            for k in self._wanted_kernels(machine)
        ]

    def _wanted_kernels(self, machine: Arch) -> list[images.KernelImage | str]:
        """The files, and the profile's names, of the kernels to boot; raises `UsageError`."""
        usual = [k.name for k in self.profile.kernel if k.usual and machine.name in k.packages]
        found: list[images.KernelImage | str] = []
        for wanted in self.kernels or usual:
            if "/" in wanted:
                image = images.from_path(Path(wanted))
                if images.machine_of(image.image.read_bytes()) == machine.name or len(self.kernels) == 1:
                    found.append(image)
            else:
                found.append(images.named(self.profile, wanted, machine).name)
        if not found:
            raise UsageError(
                f"profile {self.profile.name} names no kernel for {machine.name}",
                hint="give one with `--kernel PATH`",
            )
        return found


def _exclusive() -> UsageError:
    return UsageError(
        "--place container and --place host exclude each other",
        hint="leave --place host out to build and run in containers",
    )
