"""binfmt_misc: lets the kernel start another architecture's programs through user-mode QEMU.

Needed for emulated builds only. The handler is registered with the flag F, so that the emulator is opened
now and works inside every container and root.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.core.arch import Arch
from pipeline.core.errors import PipelineError, ToolMissing, WorldError
from pipeline.core.run import run

MISC = Path("/proc/sys/fs/binfmt_misc")
#: What distributions' QEMU packages leave for systemd-binfmt; one line in the kernel's own format.
RULES = (Path("/usr/lib/binfmt.d"), Path("/etc/binfmt.d"))


def enabled(machine: Arch, misc: Path = MISC) -> bool:
    """Whether a handler for ``machine`` is registered, switched on, and works inside a chroot (flag F)."""
    for entry in misc.glob(f"qemu-{machine.qemu}*"):
        text = entry.read_text()
        if text.startswith("enabled") and "flags:" in text and "F" in text.partition("flags:")[2].split()[0]:
            return True
    return False


def ensure(machine: Arch, misc: Path = MISC) -> None:
    """Register the handler if it is not there.

    Raises `ToolMissing` without static QEMU, `WorldError` where the kernel or our rights do not allow it.
    """
    if enabled(machine, misc):
        return
    rule = next((r for d in RULES for r in sorted(d.glob(f"qemu-{machine.qemu}*.conf"))), None)
    if rule is None:
        raise ToolMissing(
            f"there is no static user-mode QEMU for {machine.name}", hint="`nox -s setup` installs it"
        )
    remedy = f"as root: systemctl restart systemd-binfmt, or cat {rule} > {MISC}/register"
    if os.geteuid() != 0:
        raise WorldError(f"the kernel does not start {machine.name} programs yet", hint=remedy)
    if not (misc / "register").exists():
        try:
            run(["mount", "-t", "binfmt_misc", "binfmt_misc", misc])
        except PipelineError as e:
            raise WorldError(
                f"this kernel has no binfmt_misc: {e.message}",
                hint="use an image with a cross compiler (`--image bookworm`)",
            ) from e
    line = next(text for text in rule.read_text().splitlines() if text.startswith(":"))
    head, _, flags = line.rpartition(":")
    try:
        (misc / "register").write_text(f"{head}:{flags if 'F' in flags else flags + 'F'}")
    except OSError as e:
        raise WorldError(f"binfmt_misc refused {rule}: {e.strerror}", hint=remedy) from None
    if not enabled(machine, misc):
        raise WorldError(f"the handler for {machine.name} was registered but is not enabled", hint=remedy)
