"""What of a release no other check looks into: its packages of debug information and of debug sources.

They are left out of the root, of file lists and of relations, for their files and what they provide differ in
each build. So they may hold nothing that such a package is not for.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterator

from pipeline.check import Material, StaticCheck
from pipeline.check.abi_facts import Fact
from pipeline.check.packages import EachPackaging, judged, together
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.rpm.header import Dependency
from pipeline.rpm.inventory import RPMLIB
from pipeline.rpm.package import FileEntry, Rpm
from pipeline.rpm.sysroot import is_wanted

#: Where debuggers look for debug files and for sources.
DIRECTORIES = ("/usr/lib/debug", "/usr/src/debug")
#: How files of debug information are called, and where links to them and what several share are. A debugger
#: runs scripts that lie beside them (GDB manual, "Auto-loading Extensions"): NAME-gdb.py and its like.
_ENDS, _ASIDE = ".debug", re.compile(r"/usr/lib/debug/(.*/)?\.(build-id|dwz)/.*")
#: Packages of their own kind, which they may name: with an architecture, or without.
_THEIRS = re.compile(r"\S+-(debuginfo|debugsource|debuginfo-common)(\(\S+\))?")


class DebugPackages(EachPackaging):
    """Packages of debug information and sources hold these alone, run nothing, and replace no other."""

    declared = Declaration(
        name="rpm.debug-packages",
        measures=measured(Unit.COUNT, "files", "packages"),
        question="Do the packages of debug information hold that alone, run nothing, and stand for no other?",
    )
    expected = (
        f"files below {' and '.join(DIRECTORIES)}, no scripts, and relations among packages of that kind"
    )

    def ask(self, material: Material, release: str) -> Fact:
        rpms = together(material.built[release])
        theirs = [rpm for rpm in rpms if not is_wanted(rpm)]
        wanted = [rpm for rpm in rpms if is_wanted(rpm)]
        named = {d.name for rpm in wanted for d in (*rpm.requires, *rpm.provides)}
        faults = [f"{rpm.name}: {fault}" for rpm in theirs for fault in _faults(rpm, named)]
        files = sum(len(rpm.files) for rpm in theirs)
        seen = f"{len(theirs)} packages with {files} files"
        return judged(self.expected, seen, faults, {"packages": len(theirs), "files": files})


def _faults(rpm: Rpm, named: Collection[str]) -> Iterator[str]:
    """What such a package must not have; ``named``: what packages that are installed require and provide."""
    for script in rpm.scripts:
        yield f"runs {script.text}"
    for entry in rpm.files:
        if not entry.path.startswith(tuple(f"{d}/" for d in DIRECTORIES)) and entry.path not in DIRECTORIES:
            yield f"{entry.path}: not a debug file"
        elif _beside(entry):
            yield f"{entry.path}: not a debug file, where debuggers look for scripts"
        elif _odd(entry):
            yield f"{entry.path}: mode {entry.mode:o}, {entry.owner}:{entry.group} {entry.capabilities}"
    for kind, found in {"requires": rpm.requires, "obsoletes": rpm.obsoletes, **rpm.relations}.items():
        yield from (f"{kind} {d}" for d in found if d.name not in RPMLIB and not _of_its_kind(d))
    yield from (f"provides {d}, as installed packages do or require" for d in rpm.provides if d.name in named)


def _of_its_kind(dependency: Dependency) -> bool:
    return _THEIRS.fullmatch(dependency.name) is not None


def _beside(entry: FileEntry) -> bool:
    """Whether a file or link lies among debug files and is called otherwise."""
    mine = entry.path.startswith(DIRECTORIES[0]) and not stat.S_ISDIR(entry.mode)
    named = entry.path.endswith(_ENDS) or _ASIDE.fullmatch(entry.path)
    return mine and not named


def _odd(entry: FileEntry) -> bool:
    """Whether a debugger has no use for a file with these rights: all may read it, not all may write."""
    plain = stat.S_ISREG(entry.mode) or stat.S_ISDIR(entry.mode) or stat.S_ISLNK(entry.mode)
    special = stat.S_ISREG(entry.mode) and entry.mode & (stat.S_ISUID | stat.S_ISGID)
    readable = 0o555 if stat.S_ISDIR(entry.mode) else 0o444
    usual = stat.S_ISLNK(entry.mode) or (entry.mode & readable == readable and not entry.mode & 0o002)
    # of a package without these columns nothing is known
    foreign = (entry.owner or "root", entry.group or "root") != ("root", "root")
    return not plain or bool(special) or not usual or foreign or bool(entry.capabilities)


CHECKS: tuple[StaticCheck, ...] = (DebugPackages(),)
