"""What the host needs, what of it is missing, and how to install it. The list is data: ``hosttools.toml``."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.core import paths, tomlfile
from pipeline.core.errors import CommandFailed, ToolMissing, WorldError
from pipeline.core.outcome import Frozen
from pipeline.core.progress import step
from pipeline.core.run import clean_environment, run

Group = Literal["run", "host-build", "vm", "dev"]
DEMO = "demo"


class Tool(Frozen):
    """One thing the host needs; ``only``: in which families of packages, if not in all.

    ``demo``: `nox -s demo` needs it, too, and nothing else.
    """

    name: str
    probe: str
    group: Group
    apt: tuple[str, ...] = Field(default=())
    dnf: tuple[str, ...] = Field(default=())
    only: tuple[Literal["apt", "dnf"], ...] = ()
    demo: bool = False
    why: str

    def found(self) -> str:
        """Where it is, "" if it is missing."""
        for probe in self.probe.split("|"):
            if probe.startswith("/"):
                hits = sorted(Path("/").glob(probe.lstrip("/")))
                if hits:
                    return str(hits[0])
            elif place := shutil.which(probe, path=clean_environment()["PATH"]):
                return place
        return ""


@dataclass(frozen=True)
class Installer:
    """The host's package manager: ``field`` names the column of the tool table it goes by."""

    program: str
    field: Literal["apt", "dnf"]
    refresh: tuple[str, ...]
    install: tuple[str, ...]

    def packages(self, missing: Sequence[Tool]) -> list[str]:
        """Package names for the missing tools, each once."""
        names = [p for tool in missing for p in getattr(tool, self.field)]
        return list(dict.fromkeys(names))

    def cannot(self, missing: Sequence[Tool]) -> list[Tool]:
        """Those of the missing tools it has no package for."""
        return [tool for tool in missing if not getattr(tool, self.field)]

    def command(self, missing: Sequence[Tool]) -> str:
        """The one command a person would type; it leaves out what has no package here."""
        install = shlex.join([*self.install, *self.packages(missing)])
        return f"{shlex.join(self.refresh)} && {install}" if self.refresh else install


INSTALLERS = (
    Installer(
        "apt-get", "apt", ("apt-get", "update"), ("apt-get", "install", "-y", "--no-install-recommends")
    ),
    # without the last two (dnf 4's and dnf 5's) a package that no repository has keeps all others out
    Installer(
        "dnf",
        "dnf",
        (),
        (
            "dnf",
            "install",
            "-y",
            "--setopt=install_weak_deps=False",
            "--setopt=strict=0",
            "--setopt=skip_unavailable=1",
        ),
    ),
)


def tools(groups: Collection[str]) -> list[Tool]:
    """The tools of these groups, in the file's order; ``demo`` is one, of tools that have groups besides."""
    data = tomlfile.read(paths.PACKAGE / "hosttools.toml")
    manager = installer()
    listed = [
        t for t in map(Tool.model_validate, data["tool"]) if t.group in groups or (t.demo and DEMO in groups)
    ]
    return [t for t in listed if not (t.only and manager and manager.field not in t.only)]


def missing(groups: Collection[str]) -> list[Tool]:
    """Those of them that are not there."""
    return [tool for tool in tools(groups) if not tool.found()]


def installer() -> Installer | None:
    """The package manager of this host, None if it is none of ours."""
    return next((i for i in INSTALLERS if shutil.which(i.program)), None)


def table(groups: Collection[str]) -> list[tuple[str, str, str, str]]:
    """Rows (tool, where it is or "missing", package, what for)."""
    manager = installer()
    rows = []
    for tool in tools(groups):
        names = " ".join(getattr(tool, manager.field)) if manager else ""
        rows.append((tool.name, tool.found() or "missing", names, tool.why))
    return rows


def install(lacking: Sequence[Tool]) -> None:
    """Install the missing tools as root or through sudo without a password.

    Raises `ToolMissing` with the one command to run where neither is possible, `WorldError` if the package
    manager fails or a tool is still missing afterwards.
    """
    manager = installer()
    names = ", ".join(t.name for t in lacking)
    if manager is None:
        raise ToolMissing(
            f"missing: {names}; neither apt-get nor dnf is here to install them",
            hint="install them by hand; `nox -s setup -- --check` lists what each is for",
        )
    if alone := manager.cannot(lacking):
        raise ToolMissing(
            "\n".join(f"missing: {t.name} ({t.why}); {manager.program} has no package of it" for t in alone),
            hint="install it by hand and run the same command again",
        )
    prefix = _root_prefix()
    if prefix is None:
        raise ToolMissing(f"missing: {names}", hint=f"run as root: {manager.command(lacking)}")
    log = paths.logs() / "setup.log"
    log.unlink(missing_ok=True)
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"install {names}") as at:
        try:
            if manager.refresh:
                run([*prefix, *manager.refresh], env=env, log=log, on_line=at.at)
            run([*prefix, *manager.install, *manager.packages(lacking)], env=env, log=log, on_line=at.at)
        except CommandFailed as e:
            raise WorldError(
                f"{manager.program} could not install {names}; full log: {log}\n{e.tail}",
                hint=f"fix the package manager's trouble, then run: {manager.command(lacking)}",
            ) from None
    still = [t for t in lacking if not t.found()]
    if still:
        raise WorldError(
            "\n".join(
                f"installed, but still not found: {t.name} ({t.why}), "
                f"of package {' '.join(getattr(t, manager.field))}"
                for t in still
            ),
            hint=f"read {log}: another repository may have it (RHEL: EPEL, CRB); look at your PATH",
        )


def _root_prefix() -> tuple[str, ...] | None:
    """What makes a command run as root: nothing, sudo, or None if there is no way without a password."""
    if os.geteuid() == 0:
        return ()
    if shutil.which("sudo") and run(["sudo", "-n", "true"], success_codes=None).returncode == 0:
        return ("sudo", "-n")
    return None
