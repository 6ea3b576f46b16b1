"""Where what must fit the build runs: in the build image if there is one, else on the host.

A directory may have one name in the image and another on the host. `Workplace.at` says which of them a
command line has to use, so that no caller needs to ask which of the two it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import ToolMissing
from pipeline.core.records import BuildMode
from pipeline.core.run import Completed, first_line, run
from pipeline.host.image import BuildImage


@dataclass(frozen=True)
class Workplace:
    """``image`` (in which there is no network unless it is asked for), or the host if there is none."""

    image: BuildImage | None
    mode: BuildMode

    @property
    def name(self) -> Literal["container", "host"]:
        return "container" if self.image else "host"

    def at(self, inside: str, outside: Path) -> str:
        """What ``outside`` is called here if it is mounted as ``inside``."""
        return inside if self.image else str(outside)

    def run(
        self,
        argv: Sequence[str],
        *,
        mounts: Mapping[str, Path] | None = None,
        read_only: Mapping[str, Path] | None = None,
        in_memory: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        remedy: str = "",
        network: bool = False,
        hostname: str = "",
    ) -> Completed:
        """Run ``argv`` here, which names directories as `at` does; as `pipeline.core.run.run` says.

        ``mounts``, ``read_only``, ``in_memory``, ``network`` and ``hostname`` are the image's
        (`Engine.run_argv`); the host has all its directories, its network and its name.
        """
        if self.image is None:
            return run(argv, env=env, log=log, on_line=on_line, remedy=remedy)
        return self.image.engine.run(
            self.image.name, argv, mounts=mounts, read_only=read_only, in_memory=in_memory,
            env={**self.image.env, **(env or {})}, log=log, on_line=on_line, remedy=remedy,
            network=network, hostname=hostname,
        )  # fmt: skip

    def identity(self, machine: Arch) -> dict[str, str]:
        """What of it decides what comes out (for store keys): the image, or the host's tools."""
        if self.image:
            return {"image": self.image.record.id, "mode": self.mode}
        prefix = "" if machine == host_arch() else f"{machine.triplet}-"
        tools = (f"{prefix}gcc", f"{prefix}ld", "make", "rpmbuild")
        # programs are compiled without make and rpmbuild; what needs them says so itself
        versions = [first_line((tool, "--version")) or f"no {tool}" for tool in tools]
        return {"host": "; ".join(versions), "mode": self.mode}

    def cross_compiler(self, machine: Arch) -> str:
        """The first line of ``--version`` of the cross compiler for ``machine`` here; "" if there is none."""
        script = f"{machine.triplet}-gcc --version 2>/dev/null || true"
        if self.image and (known := self.image.record.tools.get(f"{machine.triplet}-gcc")) is not None:
            return known
        return self.run(["sh", "-c", script]).text.partition("\n")[0]

    def ccache_version(self) -> str:
        """The first line of ``ccache --version`` here; "" if there is none."""
        if self.image:
            return self.image.record.tools.get("ccache", "")
        return run(["ccache", "--version"]).text.partition("\n")[0]

    def launcher(self, top: Path) -> str:
        """What runs the compiler of a build in ``top``, as rpm's macro has it."""
        if self.image is None:
            return str(host_launcher(top))
        # UBI's repositories have no ccache; such an image builds without
        return "ccache" if self.image.record.tools.get("ccache") else "%{nil}"

    def kernel_headers(self, top: Path, machine: Arch) -> str:
        """The directory of the kernel's headers for ``machine``; on the host it is made below ``top``.

        Raises `ToolMissing`.
        """
        if self.image is None:
            return str(host_kernel_headers(top, machine))
        return f"/opt/kernel-headers/{machine.name}"


def host_launcher(top: Path) -> Path:
    """What runs the compiler on the host: ccache, and the build's directory never seen in what comes out.

    In a container every build is below /build. On the host each has a directory of its own, which would be
    in debug information and build ids, and would keep ccache from finding what another build compiled. The
    names are those that debugedit gives.
    """
    script = top / "launcher"
    maps = f"'-ffile-prefix-map={top}=/build' '-ffile-prefix-map={top}/BUILD=/usr/src/debug'"
    script.write_text(f'#!/bin/sh\nexec ccache "$@" {maps}\n')
    script.chmod(0o755)
    return script


def host_kernel_headers(top: Path, machine: Arch) -> Path:
    """A directory below ``top`` with the host's linux, asm and asm-generic for ``machine`` side by side.

    Debian keeps ``asm`` in a multiarch directory, and the headers of other architectures in one of their
    own; glibc wants all three together. Raises `ToolMissing`.
    """
    if machine == host_arch():
        common = Path("/usr/include")
        own = next((d for d in (common, common / machine.triplet) if (d / "asm").is_dir()), common)
    else:
        common = own = Path(f"/usr/{machine.triplet}/include")
    headers = top / "kernel-headers"
    headers.mkdir(exist_ok=True)
    for name, where in (("linux", common), ("asm-generic", common), ("asm", own)):
        if not (where / name).is_dir():
            raise ToolMissing(
                f"there are no kernel headers for {machine.name}: {where / name} does not exist",
                hint="install linux-libc-dev (kernel-headers) for that architecture with `nox -s setup`, or "
                "build in a container",
            )
        if not (headers / name).exists():
            (headers / name).symlink_to(where / name)
    return headers
