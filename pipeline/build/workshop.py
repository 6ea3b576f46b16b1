"""The workshop compiles the probe programs for one architecture, as ``probes/programs.toml`` lists them.

``against`` says whose headers and libraries a program sees: ``image`` the build image's own (static tools
that must not depend on what is tested), ``oldest`` the profile's first release (starts everywhere),
``newest`` the release named by ``build_against``, ``each`` every release, which makes as many programs,
``exporting`` those that export the rseq symbols.

A program that does not compile or link is either the packages' fault or the tool chain's. The same source
with the same options is then compiled against the image's own C library: if that works, and the release
fails once more, the release's packages are at fault (`Fault`), which is for the checks to say. If that
fails too, nothing can be said of any package: `CommandFailed`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter

from pipeline.build import described
from pipeline.build.workplace import Workplace
from pipeline.core import paths, store, tomlfile
from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import NoSpace, UsageError, WorldError, says_disk_full
from pipeline.core.outcome import Frozen
from pipeline.core.progress import step, warn
from pipeline.core.records import Built
from pipeline.core.store import Stored
from pipeline.profile import Profile
from pipeline.rpm.sysroot import root_sha256

WARNINGS = ("-O2", "-g", "-Wall", "-Wextra", "-Werror")


class Program(Frozen):
    """One program: ``source`` and further ``flags``; C++ if the source ends in .cc.

    ``kernel``: whether the kernel's headers are there beside the release's. ``needs``: libraries among the
    programs before it that it is linked with.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    source: str
    against: Literal["image", "oldest", "newest", "each", "exporting"]
    flags: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    kernel: bool = True

    @property
    def static(self) -> bool:
        return bool({"-static", "-static-pie"} & set(self.flags))

    @property
    def cxx(self) -> bool:
        return self.source.endswith(".cc")


class _Programs(Frozen):
    program: tuple[Program, ...] = ()


def programs() -> tuple[Program, ...]:
    """All programs; raises `UsageError` naming the entry that is wrong."""
    file = paths.PROBES / "programs.toml"
    listed = tomlfile.checked(_Programs, tomlfile.read(file), file).program
    there: dict[str, Program] = {}
    for program in listed:
        if not (paths.PROBES / program.source).is_file():
            raise UsageError(f"{file}: {program.name}: there is no {program.source}", hint="fix the file")
        for name in program.needs:
            if name not in there or {program.against, there[name].against} != {"image"}:
                words = f"{program.name}: {name} is no library before it, both made against the image"
                raise UsageError(f"{file}: {words}", hint="fix the file")
        there[program.name] = program
    return listed


def compiler(machine: Arch, *, cxx: bool) -> str:
    """The compiler's name where programs for ``machine`` are made."""
    name = "g++" if cxx else "gcc"
    return name if machine == host_arch() else f"{machine.triplet}-{name}"


class Fault(Frozen):
    """A program that the packages of ``release`` do not let compile or link, with the compiler's ``words``.

    ``absent``: the package that holds what the release has nothing of (all headers, or libc.a), so that in
    packages from elsewhere it is missing rather than wrong; "" if there is no such.
    """

    program: str
    release: str
    words: str
    absent: Literal["", "glibc-devel", "glibc-static"] = ""


def description(programs: Path, release: str) -> Path:
    """The description of a release's headers (`pipeline.build.described`); need not exist."""
    return programs.parent / described.KIND / release


#: Said of a static program where the release has nothing to link it with.
NO_ARCHIVE = "error: there is no libc.a"
FAULTS = "faults.json"
#: No program's name, beside which it lies.
SCRIPT = "compile.sh"
_FAULTS = TypeAdapter(tuple[Fault, ...])


def faults(programs: Path) -> dict[str, Fault]:
    """Program -> why it could not be compiled, for a directory that `compile_programs` returned."""
    file = programs.parent / FAULTS
    if not file.is_file():
        return {}
    return {fault.program: fault for fault in _FAULTS.validate_json(file.read_bytes())}


@dataclass(frozen=True)
class Made:
    """One program to compile: under which name, against which release ("" for the image's own library)."""

    program: Program
    name: str
    release: str


def made_of(listed: Sequence[Program], profile: Profile, releases: Iterable[str]) -> list[Made]:
    """All that is compiled for the ``releases`` that are there."""
    there = list(releases)
    one = {"image": "", "oldest": profile.release[0].name, "newest": profile.build_against}
    found: list[Made] = []
    for program in listed:
        if program.against in one:
            found.append(Made(program, program.name, one[program.against]))
            continue
        wanted = [r for r in there if program.against == "each" or profile.get(r).exports_rseq]
        found += [Made(program, f"{program.name}-{release}", release) for release in wanted]
    return found


def script(
    machine: Arch, made: Sequence[Made], roots: Mapping[str, str], *, headers: str, probes: str, out: str,
    words: str,
) -> str:  # fmt: skip
    """The shell script that compiles everything; it stops at what does not compile for the image.

    ``roots`` maps each release's name to its root, ``headers`` are kernel headers. What is said of a program
    that its release's packages do not let compile goes into a file of its name in the directory ``words``.
    """
    lines = ["set -eu", f"cd {shlex.quote(probes)}"]
    # The C++ library's headers belong to the compiler, not to the C library under test; with --sysroot the
    # compiler would look for them in the release's root.
    lines += [
        "cxxdirs=$(" + compiler(machine, cxx=True) + " -xc++ -E -v /dev/null 2>&1"
        " | sed -n 's,^ \\(/.*c++.*\\)$,-isystem \\1,p')",
    ]
    for one in made:
        program, target = one.program, shlex.quote(f"{out}/{one.name}")
        root = roots[one.release] if one.release else ""
        lines.append(f"echo compiling {one.name}")
        call = compile_call(machine, program, root, headers, target)
        if not root:
            needs = "".join(f" {shlex.quote(f'{out}/{name}')}" for name in program.needs)
            lines.append(f"{call}{needs}" + (f" {shlex.quote(f'-Wl,-rpath-link,{out}')}" if needs else ""))
            continue
        said = shlex.quote(f"{words}/{one.name}")
        control = compile_call(machine, program, "", headers, "/dev/null")
        judged = (
            f"{call} 2>{said} && rm -f {said} || {{ {control} && {{ {call} 2>{said} && rm -f {said} || "
            f"{{ rm -f {target}; cat {said}; }}; }} || {{ cat {said} >&2; exit 1; }}; }}"
        )
        if program.static:  # packages from elsewhere may come without glibc-static
            archive = shlex.quote(f"{root}/usr/lib64/libc.a")
            judged = f"if [ -f {archive} ]; then {judged}; else echo {shlex.quote(NO_ARCHIVE)} > {said}; fi"
        lines.append(judged)
    return "\n".join(lines) + "\n"


def compile_call(machine: Arch, program: Program, root: str, headers: str, target: str) -> str:
    """The compiler's command line; ``root`` "" is the image's own C library."""
    flags: list[str] = [*WARNINGS]
    if root:
        libraries = f"{root}/usr/lib64"
        flags += [f"--sysroot={root}", f"-B{libraries}/", f"-L{libraries}", f"-L{root}/lib64"]
        flags += [] if program.cxx else ["-isystem", f"{root}/usr/include"]
        flags += ["-idirafter", headers] if program.kernel else []
    quoted = " ".join(shlex.quote(f) for f in flags)
    dirs = " $cxxdirs" if program.cxx and root else ""
    own = " ".join(shlex.quote(f) for f in program.flags)
    call = f"{compiler(machine, cxx=program.cxx)} {quoted}{dirs}"
    return f"{call} -o {target} {shlex.quote(program.source)} {own}".rstrip()


def compile_programs(
    profile: Profile, machine: Arch, workplace: Workplace, built: Mapping[str, Built]
) -> Path:
    """The directory with all programs for ``machine``, compiled if need be; `faults` says which are not.

    What is compiled against one release is kept by itself, so that another release beside it costs nothing.
    Raises `CommandFailed` with the compiler's words if a program does not compile against the image's own C
    library either.
    """
    made = made_of(programs(), profile, built)
    with step(f"compile the probes ({machine.name})") as at:
        headers_of = {name: described.describe(machine, workplace, b.root) for name, b in built.items()}
        parts = [
            _against(release, [one for one in made if one.release == release], machine, workplace, built)
            for release in dict.fromkeys(one.release for one in made)
        ]

        def together(into: Path) -> None:
            (into / "probes").mkdir()
            for part in parts:
                for program in sorted((part.path / "probes").iterdir()):
                    store.link_or_copy(program, into / "probes" / program.name)
            found = [fault for part in parts for fault in faults(part.path / "probes").values()]
            (into / FAULTS).write_bytes(_FAULTS.dump_json(tuple(found)))
            (into / described.KIND).mkdir()
            for name, directory in headers_of.items():
                (into / described.KIND / name).symlink_to(f"../../../{described.KIND}/{directory.name}")

        inputs = {
            "parts": [part.key for part in parts],
            "described": {name: directory.name for name, directory in headers_of.items()},
        }
        entry = store.produce("probes", inputs, together)
        new = sum(not part.reused for part in parts)
        at.done(f"{len(made)} programs" + ("" if new else ", unchanged"))
    found = faults(entry.path / "probes")
    if found:
        names = ", ".join(sorted(found))
        warn(f"{names}: not compiled, and the packages are at fault, not the compiler; the report says why")
    return entry.path / "probes"


def _against(
    release: str, made: Sequence[Made], machine: Arch, workplace: Workplace, built: Mapping[str, Built]
) -> Stored:
    """What is compiled against one release ("" for the image's own C library), compiled if need be."""
    root = built[release].root if release else None
    inputs = {
        "probes": store.tree_sha256(paths.PROBES),
        "root": root_sha256(root) if root else "",
        "workplace": workplace.identity(machine),
        "arch": machine.name,
        "script": script(machine, made, {release: "R"}, headers="H", probes="P", out="D", words="W"),
    }  # fmt: skip

    def make(into: Path) -> None:
        out, words = into / "probes", into / "words"
        out.mkdir()
        words.mkdir()
        # not below `into`, which is gone when an error names the log
        log = paths.logs() / f"probes-{machine.name}-{release or 'image'}-{into.name.strip('.')[:12]}.log"
        log.unlink(missing_ok=True)
        remedy = (
            "a probe does not compile against the build image's own C library either, so the packages are "
            "not to blame: see the compiler's words above; `nox -s setup` makes the image again"
        )
        where = {"/src": paths.PROBES} | ({"/release": root} if root else {})
        here = {inside: workplace.at(inside, outside) for inside, outside in where.items()}
        text = script(
            machine, made, {release: here.get("/release", "")},
            headers=workplace.kernel_headers(into, machine), probes=here["/src"],
            out=workplace.at("/probes", out), words=workplace.at("/words", words),
        )  # fmt: skip
        (words / SCRIPT).write_text(text)  # as one argument it would be longer than Linux takes (128 KiB)
        workplace.run(
            ["sh", f"{workplace.at('/words', words)}/{SCRIPT}"], mounts={"/probes": out, "/words": words},
            read_only=where, log=log, remedy=remedy,
        )  # fmt: skip
        found = tuple(_fault(one, words / one.name, built) for one in made if (words / one.name).exists())
        (into / FAULTS).write_bytes(_FAULTS.dump_json(found))
        store.remove_tree(words)

    return store.produce("probes-against", inputs, make)


def _fault(one: Made, file: Path, built: Mapping[str, Built]) -> Fault:
    """What was said of one program. Raises `WorldError` if the machine was the reason."""
    words = file.read_text(errors="replace").strip()
    if says_disk_full(words):
        raise NoSpace(f"no space left while {one.name} was compiled")
    if described.MACHINE.search(words):
        raise WorldError(
            f"the compiler did not end by itself while it made {one.name}: {words[-300:]}",
            hint="see `dmesg` for why (memory may have been short), then run the same command again",
        )
    headers = (built[one.release].root / "usr" / "include" / "stdio.h").is_file()
    absent = "glibc-devel" if not headers else "glibc-static" if words == NO_ARCHIVE else ""
    first = [line for line in words.splitlines() if re.search(r"error|undefined|cannot find|\bld: ", line)]
    return Fault(
        program=one.name, release=one.release, absent=absent,
        words="\n".join(first[:6]) or words[-600:] or "the compiler said nothing",
    )  # fmt: skip
