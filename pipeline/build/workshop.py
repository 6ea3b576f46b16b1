"""The workshop compiles the probe programs for one architecture, as ``probes/programs.toml`` lists them.

``against`` says whose headers and libraries a program sees: ``image`` the build image's own (static tools
that must not depend on what is tested), ``oldest`` the profile's first release (starts everywhere),
``newest`` the release named by ``build_against``, ``each`` every release, which makes as many programs.
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from pipeline.build.workplace import Workplace
from pipeline.core import paths, store
from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import UsageError
from pipeline.core.outcome import Frozen
from pipeline.core.progress import step
from pipeline.core.records import Built
from pipeline.profile import Profile

WARNINGS = ("-O2", "-g", "-Wall", "-Wextra", "-Werror")


class Program(Frozen):
    """One program: ``source`` and further ``flags``; C++ if the source ends in .cc."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    source: str
    against: Literal["image", "oldest", "newest", "each"]
    flags: tuple[str, ...] = ()

    @property
    def cxx(self) -> bool:
        return self.source.endswith(".cc")


def programs() -> list[Program]:
    """All programs; raises `UsageError` naming the entry that is wrong."""
    file = paths.PROBES / "programs.toml"
    try:
        listed = [Program.model_validate(p) for p in tomllib.loads(file.read_text()).get("program", [])]
    except (tomllib.TOMLDecodeError, ValidationError) as e:
        raise UsageError(f"{file}: {e}", hint="mend the file") from None
    for program in listed:
        if not (paths.PROBES / program.source).is_file():
            raise UsageError(f"{file}: {program.name}: there is no {program.source}", hint="mend the file")
    return listed


def compiler(machine: Arch, *, cxx: bool) -> str:
    """The compiler's name where programs for ``machine`` are made."""
    name = "g++" if cxx else "gcc"
    return name if machine == host_arch() else f"{machine.triplet}-{name}"


def script(
    machine: Arch,
    listed: list[Program],
    roots: Mapping[str, str],
    releases: Mapping[str, str],
    *,
    headers: str,
    probes: str,
    out: str,
) -> str:
    """The shell script that compiles everything; stops at the first error.

    ``roots`` maps ``oldest`` and ``newest`` to the release's root, ``releases`` each release's name to its;
    ``headers`` are kernel headers.
    """
    lines = ["set -eu", f"cd {shlex.quote(probes)}"]
    # The C++ library's headers belong to the compiler, not to the C library under test; with --sysroot the
    # compiler would look for them in the release's root.
    lines += [
        "cxxdirs=$(" + compiler(machine, cxx=True) + " -xc++ -E -v /dev/null 2>&1"
        " | sed -n 's,^ \\(/.*c++.*\\)$,-isystem \\1,p')",
    ]
    # a program, its name and the root it is compiled against
    made: list[tuple[Program, str, str]] = []
    for program in listed:
        if program.against == "each":
            made += [(program, f"{program.name}-{release}", root) for release, root in releases.items()]
        else:
            made.append((program, program.name, roots.get(program.against, "")))
    for program, name, root in made:
        flags: list[str] = [*WARNINGS]
        if root:
            libraries = f"{root}/usr/lib64"
            flags += [f"--sysroot={root}", f"-B{libraries}/", f"-L{libraries}", f"-L{root}/lib64"]
            flags += [] if program.cxx else ["-isystem", f"{root}/usr/include"]
            flags += ["-idirafter", headers]
        quoted = " ".join(shlex.quote(f) for f in flags)
        dirs = " $cxxdirs" if program.cxx and root else ""
        own = " ".join(shlex.quote(f) for f in program.flags)
        target = shlex.quote(f"{out}/{name}")
        lines.append(f"echo compiling {name}")
        call = f"{compiler(machine, cxx=program.cxx)} {quoted}{dirs}"
        call += f" -o {target} {shlex.quote(program.source)} {own}"
        if program.against == "each":  # packages from elsewhere may come without glibc-static
            call = f"if [ -f {shlex.quote(f'{root}/usr/lib64/libc.a')} ]; then {call}; fi"
        lines.append(call)
    return "\n".join(lines) + "\n"


def compile_programs(
    profile: Profile, machine: Arch, workplace: Workplace, built: Mapping[str, Built]
) -> Path:
    """The directory with all programs for ``machine``, compiled if need be.

    Raises `CommandFailed` with the compiler's words.
    """
    oldest, newest = built[profile.release[0].name], built[profile.build_against]
    listed = programs()
    stand_ins = {name: name for name in built}
    inputs = {
        "probes": store.tree_sha256(paths.PROBES),
        "oldest": [r.sha256 for r in oldest.manifest.rpms],
        "newest": [r.sha256 for r in newest.manifest.rpms],
        "each": {name: [r.sha256 for r in b.manifest.rpms] for name, b in built.items()},
        "workplace": workplace.identity(machine),
        "arch": machine.name,
        "script": script(
            machine, listed, {"oldest": "O", "newest": "N"}, stand_ins, headers="H", probes="P", out="D"
        ),
    }

    def make(into: Path) -> None:
        out = into / "probes"
        out.mkdir()
        # not below `into`, which is gone when an error names the log
        log = paths.logs() / f"probes-{profile.name}-{machine.name}-{into.name.strip('.')[:12]}.log"
        log.unlink(missing_ok=True)
        remedy = (
            "a probe does not compile: see the compiler's words above; a header or library that is not found "
            f"should be in the packages of {oldest.manifest.nvr} or {newest.manifest.nvr} (glibc-devel, "
            "glibc-static)"
        )
        where = {"/oldest": oldest.root, "/newest": newest.root, "/src": paths.PROBES}
        each = {f"/release/{name}": b.root for name, b in built.items()}
        here = {inside: workplace.at(inside, outside) for inside, outside in (where | each).items()}
        text = script(
            machine, listed, {"oldest": here["/oldest"], "newest": here["/newest"]},
            {name: here[f"/release/{name}"] for name in built},
            headers=workplace.kernel_headers(into, machine), probes=here["/src"],
            out=workplace.at("/probes", out),
        )  # fmt: skip
        workplace.run(
            ["sh", "-c", text], mounts={"/probes": out}, read_only=where | each, log=log, remedy=remedy
        )

    with step(f"compile the probes ({machine.name})") as at:
        entry = store.produce("probes", inputs, make)
        at.done(f"{len(listed)} programs" + (", unchanged" if entry.reused else ""))
    return entry.path / "probes"
