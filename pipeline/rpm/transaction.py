"""What only rpm itself can answer: which dependencies it generates, and whether it accepts a transaction.

rpm and rpmbuild run on this machine, for packages of any architecture; no scriptlet and no program of a
package is run. rpm needs no root: for an ordinary user it takes a user namespace of its own.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pipeline.core import paths, store
from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import NoSpace, WorldError, says_disk_full
from pipeline.core.run import run
from pipeline.rpm import SOURCE_DATE_EPOCH

#: Where rpm keeps its database below the root it installs into.
DATABASE = "/var/lib/rpm"
SPEC = paths.SPECS / "probe.spec"
#: What rpm says when the machine, not a package, is the reason.
_MACHINE = re.compile(
    r"unable to change root|can't create transaction lock|rpmdb|permission denied|not permitted|unshare"
    r"|read-only file system",
    re.IGNORECASE,
)
#: How rpm says, of each package, that there is no room for it, in its older and its newer words.
_NO_ROOM = re.compile(r"needs \d+(?:[A-Z]?B|)(?: more (?:space|inodes)| inodes)? on the \S+ filesystem")
_UNMET = re.compile(r"^\t(\S.*? is needed by \S+)\n?", re.MULTILINE)
_HARMLESS = re.compile(r"^(error: Failed dependencies:|warning: .*)\n?", re.MULTILINE)
#: Debian's rpm warns whoever installs packages by it.
_DEBIAN = re.compile(
    r"^rpm: (?:RPM should not be used directly|However assuming you know).*\n?", re.MULTILINE
)


@dataclass(frozen=True)
class Attempt:
    """One transaction: whether rpm ``accepted`` it, the unmet dependencies in rpm's words (``X is needed
    by PACKAGE``), everything it ``said``, and what of that is neither of these nor a warning."""

    accepted: bool
    unmet: tuple[str, ...]
    said: str
    other: str = ""


@dataclass(frozen=True)
class Transactions:
    """Into one empty root: the release's packages, tried with dependency checks first, and then each program.

    ``forced`` is the second attempt without dependency checks, None if the first was accepted. ``programs``
    is empty if neither was.
    """

    base: Attempt
    forced: Attempt | None
    programs: Mapping[str, Attempt]

    @property
    def installed(self) -> bool:
        return self.base.accepted or (self.forced is not None and self.forced.accepted)


def version() -> str:
    """``RPM version 4.18.0``; raises `ToolMissing`."""
    return run(["rpm", "--version"]).text.strip()


def probe_rpm(program: Path, machine: Arch) -> Path:
    """An RPM of one compiled program, its dependencies found by rpm's own generators.

    Raises `CommandFailed` with rpmbuild's words, `ToolMissing`.
    """
    inputs = {
        "program": store.file_sha256(program),
        "name": program.name,
        "arch": machine.name,
        "spec": store.file_sha256(SPEC),
        "rpm": version(),
    }

    def make(directory: Path) -> None:
        log = directory / "rpmbuild.log"
        with tempfile.TemporaryDirectory(prefix="probe-rpm-") as top:
            defines = {
                "_topdir": top,
                "_rpmdir": str(directory),
                "_rpmfilename": "%{NAME}.%{ARCH}.rpm",
                "_buildhost": "localhost",
                "use_source_date_epoch_as_buildtime": "1",
                "clamp_mtime_to_source_date_epoch": "1",
                "probe_name": program.name,
                "probe_file": str(program.resolve()),
            }
            run(
                ["rpmbuild", "-bb", "--target", machine.name,
                 *(a for k, v in defines.items() for a in ("--define", f"{k} {v}")), SPEC],
                # a home without the user's own macros
                env={"HOME": top, "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH},
                log=log,
                remedy="rpmbuild could not package a test program: see its words above",
            )  # fmt: skip

    return store.produce("probe-rpm", inputs, make).path / f"{program.name}.{machine.name}.rpm"


def transactions(base: Sequence[Path], programs: Mapping[str, Path], machine: Arch) -> Transactions:
    """Install ``base`` into an empty root, then each program's package into the same; keep what rpm said.

    The result is stored under the hash of the packages and rpm's version. Raises `WorldError` if the
    machine, not a package, is why rpm refused.
    """
    inputs = {
        "base": sorted(store.file_sha256(p) for p in base),
        "programs": {name: store.file_sha256(p) for name, p in programs.items()},
        "arch": machine.name,
        "host": host_arch().name,
        "rpm": version(),
        "options": list(_options(machine)),
    }

    def make(directory: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="rpm-root-") as scratch:
            done = _carry_out(Path(scratch), base, programs, machine)
        (directory / "transactions.json").write_text(json.dumps(asdict(done), indent=1) + "\n")

    entry = store.produce("rpm-transactions", inputs, make)
    return _read(json.loads((entry.path / "transactions.json").read_text()))


@dataclass(frozen=True)
class Installation:
    """All packages of a release in one transaction into an empty root.

    ``tested`` is rpm's word on dependencies, and on conflicts where those are met; ``installed`` the
    transaction that was carried out, without the check of dependencies where they were not met; ``verified``
    what ``rpm -Va`` says of the installed files, a line each, [] if all are as the packages say.
    """

    tested: Attempt
    installed: Attempt
    verified: tuple[str, ...]


def installation(packages: Sequence[Path], light: Sequence[Path], machine: Arch) -> Installation:
    """Try ``packages`` in one transaction and carry out that of ``light`` (those without debug information).

    Stored under the hash of the packages and rpm's version. Raises as `transactions`.
    """
    inputs = {
        "packages": sorted(store.file_sha256(p) for p in packages),
        "light": sorted(store.file_sha256(p) for p in light),
        "arch": machine.name,
        "host": host_arch().name,
        "rpm": version(),
        "options": list(_options(machine)),
        "as": os.geteuid() == 0,  # who is not root cannot give files to others, so less is verified
    }

    def make(directory: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="rpm-root-") as scratch:
            done = _install_all(Path(scratch), packages, light, machine)
        (directory / "installation.json").write_text(json.dumps(asdict(done), indent=1) + "\n")

    entry = store.produce("rpm-installation", inputs, make)
    data = json.loads((entry.path / "installation.json").read_text())
    return Installation(_attempt(data["tested"]), _attempt(data["installed"]), tuple(data["verified"]))


def _install_all(
    scratch: Path, packages: Sequence[Path], light: Sequence[Path], machine: Arch
) -> Installation:
    install = _installer(scratch, machine)
    tested = install(packages, test=True)
    if not tested.accepted and tested.unmet and not tested.other:
        # rpm looks for conflicts only where dependencies are met
        again = install(packages, test=True, dependencies=False)
        tested = Attempt(False, tested.unmet, f"{tested.said}\n{again.said}".strip(), again.other)
    installed = install(light, dependencies=False)
    lines: tuple[str, ...] = ()
    if installed.accepted:
        done = run(
            ["rpm", "--root", scratch / "root", "--dbpath", DATABASE, "-Va", "--nodeps", "--noscripts"],
            env={"HOME": str(scratch / "home")},
            success_codes=None,
        )
        said = _DEBIAN.sub("", (done.stderr + done.stdout).decode(errors="replace"))
        lines = tuple(line.strip() for line in said.splitlines() if line.strip())
    return Installation(tested, installed, lines)


def _attempt(fields: object) -> Attempt:
    assert isinstance(fields, dict)
    return Attempt(**{**fields, "unmet": tuple(fields["unmet"])})


def _read(data: dict[str, dict[str, object] | None]) -> Transactions:
    programs = data["programs"]
    assert programs is not None
    return Transactions(
        _attempt(data["base"]),
        _attempt(data["forced"]) if data["forced"] else None,
        {name: _attempt(fields) for name, fields in programs.items()},
    )


def _options(machine: Arch) -> Sequence[str]:
    """Signatures are not asked for: an empty root has no keys (digests are still checked)."""
    foreign = ["--ignorearch"] if machine != host_arch() else []
    return ["--dbpath", DATABASE, "--nosignature", "--noscripts", "--noplugins", *foreign]


def _carry_out(
    scratch: Path, base: Sequence[Path], programs: Mapping[str, Path], machine: Arch
) -> Transactions:
    install = _installer(scratch, machine)
    first = install(base)
    forced = None if first.accepted else install(base, dependencies=False)
    done = Transactions(first, forced, {})
    if done.installed:
        # a program that is refused leaves nothing behind, so the next one meets the same root
        done = Transactions(first, forced, {name: install([p]) for name, p in programs.items()})
    return done


class _Install(Protocol):
    def __call__(
        self, packages: Sequence[Path], *, dependencies: bool = True, test: bool = False
    ) -> Attempt: ...


def _installer(scratch: Path, machine: Arch) -> _Install:
    """What installs packages into the root below ``scratch``, which is made; raises as `transactions`."""
    root, home = scratch / "root", scratch / "home"
    root.mkdir()
    home.mkdir()

    def install(packages: Sequence[Path], *, dependencies: bool = True, test: bool = False) -> Attempt:
        done = run(
            ["rpm", "--root", root, *_options(machine), "--define", "_flush_io 0", "--install",
             *([] if dependencies else ["--nodeps"]), *(["--test"] if test else []), *packages],
            env={"HOME": str(home)},
            success_codes=None,
        )  # fmt: skip
        said = _DEBIAN.sub("", (done.stderr + done.stdout).decode(errors="replace")).strip()
        unmet = tuple(sorted(_UNMET.findall(f"{said}\n")))
        other = _HARMLESS.sub("", _UNMET.sub("", f"{said}\n")).strip()
        if done.returncode < 0:
            raise WorldError(
                f"rpm was ended by signal {-done.returncode} while it installed into an empty root",
                hint="see `dmesg` for why (memory may have been short), then run the same command again",
            )
        if done.returncode and not unmet and (_NO_ROOM.search(said) or says_disk_full(said)):
            raise NoSpace(
                f"there is no room in {root.parent} to install the packages into an empty root: {said}",
                hint="free some space there, or set TMPDIR to a larger disk, then run the same command again",
            )
        if done.returncode != 0 and not unmet and _MACHINE.search(said):
            raise WorldError(
                f"rpm cannot install into an empty root on this machine: {said}",
                hint="run it as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
            )
        return Attempt(done.returncode == 0, unmet, said, other)

    return install
