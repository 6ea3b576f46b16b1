"""What a release's packages hold and say, as committed text: files, relations, scriptlets of each package.

The text is made to be read and to be compared line by line. What differs in any two builds is left out or
has a name of its own: the package's version and release, sizes, digests and times of files, build ids, what
rpm itself must understand to read the package. Everything else is there, and a line more is as wrong as a
line less.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import MalformedInput, reason
from pipeline.rpm.header import SENSE_EQUAL, SENSE_GREATER, SENSE_LESS, Dependency
from pipeline.rpm.package import FileEntry, Rpm
from pipeline.rpm.scripts import Script

#: Stands for a package's own version and release, in which any two releases differ.
OWN = "VERSION-RELEASE"
#: rpm's file flags (rpmfiles.h)
FLAGS = {1: "config", 2: "doc", 8: "missingok", 16: "noreplace", 64: "ghost", 128: "license", 256: "readme",
         4096: "artifact"}  # fmt: skip
#: rpm's flags of a dependency: what it is needed for (rpmds.h)
PURPOSES = {1 << 6: "prereq", 1 << 7: "pretrans", 1 << 8: "interp", 1 << 9: "pre", 1 << 10: "post",
            1 << 11: "preun", 1 << 12: "postun", 1 << 13: "verify", 1 << 19: "missingok",
            1 << 5: "posttrans", 1 << 26: "keyring", 1 << 29: "meta"}  # fmt: skip
#: Bits that say how rpmbuild came to a dependency (found, rpmlib, config), not what it is.
_FOUND = (1 << 14) | (1 << 15) | (1 << 24) | (1 << 28)
#: What a package may ask of rpm because of the rpmbuild that wrote it; anything else is a fact about it.
RPMLIB = frozenset(
    f"rpmlib({name})"
    for name in (
        "CaretInVersions", "CompressedFileNames", "DynamicBuildRequires", "ExplicitPackageProvide",
        "FileDigests", "PartialHardlinkSets", "PayloadFilesHavePrefix", "PayloadIsXz", "PayloadIsZstd",
        "RichDependencies", "TildeInVersions", "VersionedDependencies",
    )
)  # fmt: skip
EVERYTHING = 0xFFFFFFFF
#: Characters of a label that is not shown as it is.
LONG = 250

Facts = Mapping[str, frozenset[str]]
_REMEDY = "make it again with `nox -s baseline`, or restore it from git"


@dataclass(frozen=True)
class Inventory:
    """Package -> its facts, a line each; ``origin`` names the release it was made from."""

    packages: Facts
    origin: str


def of(rpms: Iterable[Rpm]) -> dict[str, frozenset[str]]:
    """The facts of packages, by name. Raises `MalformedInput` if two have one name."""
    found: dict[str, frozenset[str]] = {}
    for rpm in rpms:
        if rpm.name in found:
            raise MalformedInput(f"{rpm.path} is a second package {rpm.name}", hint="keep one of them")
        found[rpm.name] = frozenset(_facts(rpm))
    return found


def _facts(rpm: Rpm) -> set[str]:
    own = _Own(rpm)
    facts = {own.dependency(kind, d) for kind, listed in _relations(rpm).items() for d in listed}
    facts |= {f"script {own.hide(own.script(s).text)}" for s in rpm.scripts}
    facts |= {own.hide(_file(f)) for f in rpm.files}
    facts |= {f"prefix {p}" for p in rpm.prefixes}
    facts |= {f"label {name} {short(own.hide(text))}" for name, text in rpm.labels}
    if rpm.arch == "noarch":
        facts.add("noarch")
    if rpm.epoch is not None:
        facts.add(f"epoch {rpm.epoch}")
    return facts - {""}


def short(text: str) -> str:
    """A text of one line as it is, a digest of a longer one."""
    if len(text) < LONG and "\n" not in text:
        return text
    return f"sha256 {hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]}"


def _relations(rpm: Rpm) -> dict[str, tuple[Dependency, ...]]:
    return {
        "provides": rpm.provides, "requires": rpm.requires, "obsoletes": rpm.obsoletes, **rpm.relations
    }  # fmt: skip


class _Own:
    """A package's own version and release, hidden wherever they are named."""

    def __init__(self, rpm: Rpm) -> None:
        self.version = f"{rpm.version}-{rpm.release}"
        self.versions = {self.version} if rpm.epoch is None else {self.version, f"{rpm.epoch}:{self.version}"}

    def hide(self, text: str) -> str:
        return text.replace(self.version, OWN)

    def script(self, script: Script) -> Script:
        return Script(script.kind, script.interpreter, self.hide(script.body), script.flags)

    def dependency(self, kind: str, found: Dependency) -> str:
        """The line of a relation; "" for what rpmbuild asks of rpm."""
        if kind == "requires" and found.name in RPMLIB:
            return ""
        version = OWN if found.version in self.versions else found.version
        words = str(Dependency(found.name, found.flags, version))
        rest = found.flags & ~(SENSE_LESS | SENSE_GREATER | SENSE_EQUAL | _FOUND)
        purposes = [word for bit, word in PURPOSES.items() if rest & bit]
        unknown = rest & ~sum(PURPOSES)
        purposes += [f"flags {unknown:#x}"] if unknown else []
        return f"{kind} {words}" + (f" ({', '.join(purposes)})" if purposes else "")


def _file(entry: FileEntry) -> str:
    """``/lib64/libc.so.6: file 0755 root:root``."""
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}.get(
        stat.S_IFMT(entry.mode), f"mode {entry.mode:o}"
    )
    # the mode of a link means nothing
    mode = "" if kind == "link" else f" {stat.S_IMODE(entry.mode):04o}"
    words = f"{kind}{mode} {entry.owner}:{entry.group}"
    flags = [word for bit, word in FLAGS.items() if entry.flags & bit]
    unknown = entry.flags & ~sum(FLAGS)
    flags += [f"flags={unknown:#x}"] if unknown else []
    words += "".join(f" {flag}" for flag in flags)
    if entry.capabilities:
        words += f" caps={entry.capabilities}"
    if entry.languages:  # with %_install_langs rpm leaves it out
        words += f" lang={entry.languages}"
    # rpmbuild itself does not look at some things of a %ghost and of a link
    if entry.verified != EVERYTHING and not entry.ghost and kind == "file":
        words += f" verified={entry.verified:#x}"
    if entry.device and kind not in ("file", "dir", "link"):
        words += f" device={entry.device:#x}"
    return f"{entry.path}: {words}" + (f" -> {entry.link}" if kind == "link" else "")


# -- as text --------------------------------------------------------------------------------------------


def render(inventory: Inventory) -> str:
    """The text; files of one directory with the same attributes stand below one line."""
    lines = [f"# packages of {inventory.origin}"]
    for name, facts in sorted(inventory.packages.items()):
        lines += ["", f"[{name}]"]
        lines += sorted(fact for fact in facts if not fact.startswith("/"))
        groups: dict[tuple[str, str], list[str]] = {}
        for fact in facts:
            if fact.startswith("/"):
                path, _, words = fact.partition(": ")
                directory, _, file = path.rpartition("/")
                attributes, arrow, target = words.partition(" -> ")
                groups.setdefault((directory, attributes), []).append(f"{file}{arrow}{target}")
        for (directory, attributes), files in sorted(groups.items()):
            lines.append(f"{directory}/: {attributes}")
            lines += [f"  {file}" for file in sorted(files)]
    return "\n".join(lines) + "\n"


def parse(text: str, where: str) -> Inventory:
    """What `render` wrote. Raises `MalformedInput` for anything else, naming ``where``."""
    lines = text.splitlines()
    origin = lines[0].removeprefix("# packages of ") if lines else ""
    packages: dict[str, set[str]] = {}
    name, group = "", ("", "")
    for line in lines[1:]:
        if line.startswith("["):
            name, group = line.strip("[]"), ("", "")
            packages[name] = set()
        elif line.startswith("  ") and name and group[0]:
            file, arrow, target = line[2:].partition(" -> ")
            packages[name].add(f"{group[0]}{file}: {group[1]}{arrow}{target}")
        elif line.startswith("/") and name:
            directory, _, attributes = line.partition(": ")
            group = (directory, attributes)
        elif line and name:
            packages[name].add(line)
    found = Inventory({n: frozenset(f) for n, f in packages.items()}, origin)
    if render(found) != text:
        raise MalformedInput(f"{where} is not an inventory of packages as it was written", hint=_REMEDY)
    return found


def load(file: Path) -> Inventory | None:
    """The committed inventory, None if there is none. Raises `MalformedInput`."""
    try:
        return parse(file.read_text(), str(file))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as e:
        raise MalformedInput(f"{file} cannot be read: {reason(e)}", hint=_REMEDY) from None


def difference(expected: Facts, found: Facts, *, files: bool) -> list[str]:
    """What is gone (``-``) and what is new (``+``), each with its package: of files, or of all the rest.

    A package that is there on one side only counts with all its facts, in one line.
    """
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            sign = "-" if name in expected else "+"
            lines.append(f"{sign} package {name}")
            continue
        gone, new = expected[name] - found[name], found[name] - expected[name]
        both = [("-", fact) for fact in gone] + [("+", fact) for fact in new]
        lines += [
            f"{sign} {name}: {fact}"
            for sign, fact in sorted(both, key=lambda x: (x[1].partition(": ")[0], x[0]))
            if fact.startswith("/") is files
        ]
    return lines


def outside(packages: Facts) -> frozenset[str]:
    """Names that packages require and that none of them provides, as a name or as a file."""
    provided: set[str] = set()
    required: set[str] = set()
    for facts in packages.values():
        for fact in facts:
            word, _, rest = fact.partition(" ")
            if fact.startswith("/"):
                provided.add(fact.partition(": ")[0])
            elif word == "provides":
                provided.add(rest.split(" ")[0])
            elif word == "requires":
                required.add(rest if rest.startswith("(") else rest.split(" ")[0])
    return frozenset(required - provided)
