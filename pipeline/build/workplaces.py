"""Where the targets of a profile are built, and how: an image or the host, native, cross or emulated."""

from __future__ import annotations

from pipeline.build.options import Options
from pipeline.build.workplace import Workplace
from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import UsageError
from pipeline.core.progress import say
from pipeline.core.records import BuildMode
from pipeline.host import image as images
from pipeline.host.image import BuildImage
from pipeline.profile import Profile


class Workplaces:
    """The workplaces of one profile's targets; images are made when first needed."""

    def __init__(self, profile: Profile, options: Options) -> None:
        self._profile = profile
        self._options = options
        self._made: dict[BuildMode, Workplace] = {}
        self._modes: dict[str, BuildMode] = {}

    def use(self, workplace: Workplace) -> None:
        """Build the targets of ``workplace``'s mode in it, and not in one made from the profile."""
        self._made[workplace.mode] = workplace

    def of(self, machine: Arch) -> Workplace:
        """Where targets of ``machine`` are built."""
        mode = self.mode(machine)
        if mode not in self._made:
            image: BuildImage | None = None
            if self._options.place == "container":
                runs_on = machine if mode == "emulated" else host_arch()
                image = images.ensure(self._profile, reference=self._options.image, machine=runs_on)
            elif mode == "emulated":
                raise UsageError(
                    "an emulated build needs a container of that architecture",
                    hint="use `--aarch64-build cross` with `--place host`",
                )
            self._made[mode] = Workplace(image, mode)
        return self._made[mode]

    def mode(self, machine: Arch) -> BuildMode:
        """How targets of ``machine`` are built; the workplace says whether it has a cross compiler.

        Raises `UsageError` where a cross build was asked for by name and there is no compiler for it.
        """
        if machine.name not in self._modes:
            self._modes[machine.name] = self._mode(machine)
        return self._modes[machine.name]

    def _mode(self, machine: Arch) -> BuildMode:
        if machine == host_arch():
            return "native"
        if self._options.foreign == "emulated":
            return "emulated"
        host = self.of(host_arch())
        if host.cross_compiler(machine):
            return "cross"
        where = f"build image ({host.image.record.base})" if host.image else "host"
        lacks = f"the {where} has no compiler for {machine.name} ({machine.triplet}-gcc)"
        if self._options.foreign == "cross" or not host.image:
            raise UsageError(
                f"{lacks}, so nothing can be cross-built there",
                hint="leave --aarch64-build out or say `--aarch64-build emulated` (hours, in a container), "
                f"or `--image bookworm` (has one), or build on a machine of {machine.name}",
            )
        say(
            f"{lacks}: {machine.name} is built emulated by QEMU, which takes hours for each release (2 h "
            "47 min were seen on two cores, less where the compiler cache has objects). Alternatives: "
            f"--image bookworm (cross-built in minutes), --arch {host_arch().name}, or a machine of "
            f"{machine.name} for its part and `nox -s report -- --merge`"
        )
        return "emulated"
