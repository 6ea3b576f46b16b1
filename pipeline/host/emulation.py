"""The processor that user-mode QEMU is asked to be where a container is of another architecture."""

from __future__ import annotations

from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import CommandFailed
from pipeline.core.progress import say
from pipeline.host.engine import Engine

#: Read by user-mode QEMU: the model and what it can (qemu-user(1), ``-cpu``).
VARIABLE = "QEMU_CPU"


def environment(engine: Engine, image: str, machine: Arch) -> dict[str, str]:
    """What programs of ``machine`` in ``image`` are to have in their environment; {} where none is emulated.

    {} too, and said, for a QEMU that does not know the processor (`Arch.emulated_cpu`).
    """
    if machine == host_arch() or not machine.emulated_cpu:
        return {}
    wanted = {VARIABLE: machine.emulated_cpu}
    try:
        engine.run(image, ["true"], env=wanted, timeout=120)
    except CommandFailed:
        say(f"this QEMU is no {machine.emulated_cpu} (6.0 and newer are): emulated programs take longer")
        return {}
    return wanted
