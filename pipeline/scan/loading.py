"""Which files ld.so would map for a file: its libraries as far as they are scanned too.

A library comes along only if the loader finds it for that very program (glibc's elf/dl-load.c:
_dl_map_object): by DT_RPATH of the file and of those that loaded it, by DT_RUNPATH, and by the default
directories of the package, image or tree. What is found in none of these is the system's: the release's, if
it is one of glibc's own, or somebody else's, which is not known.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline import elf
from pipeline.core.arch import ARCHES
from pipeline.core.errors import MalformedInput
from pipeline.scan import readers
from pipeline.scan.facts import Exports, Facts, Kind, exports_of
from pipeline.scan.inputs import INSIDE, Item

#: Where a name leads that is no scanned file: glibc's own of the release, a library of somebody else, or
#: nowhere, for it would be found in a default directory, and who needs it has none searched.
SYSTEM, ELSEWHERE, NOWHERE = -1, -2, -3
LIBC, LIBM, LIBMVEC = "libc.so.6", "libm.so.6", "libmvec.so.1"
#: Links followed on the way to one file, as in Linux (MAXSYMLINKS).
_MAX_LINKS = 40
#: What a wheel's ``*.data`` directories become when it is installed (binary distribution format, PEP 427).
_SITE = "/prefix/lib/python/site-packages"
_WHEEL_DATA = re.compile(r"^/[^/]+\.data/(purelib|platlib|data|scripts)/(.*)$")
#: Archives whose members' paths are where they are installed; of others that is known if they have a /usr.
_PACKAGE = re.compile(rf"\.(rpm|deb){INSIDE}")
_WHEEL_LOCATIONS = {"purelib": _SITE, "platlib": _SITE, "data": "/prefix", "scripts": "/prefix/bin"}


@dataclass(frozen=True)
class Location:
    """Where a file lies: ``tree`` is the archive it is in ("" on disk), ``path`` absolute therein.

    ``root`` is the directory that was named ("" for none), which may be a root of its own.
    """

    tree: str
    path: str
    root: str = ""

    @property
    def directory(self) -> str:
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Loaded:
    """What is mapped for one file.

    ``files``: numbers of scanned files, itself first, in the loader's order. ``names``: every name a library
    goes by -> its number, or SYSTEM or ELSEWHERE.
    """

    files: tuple[int, ...]
    names: dict[str, int]

    @property
    def system(self) -> frozenset[str]:
        """glibc's own DSOs that are taken from the release."""
        return frozenset(name for name, number in self.names.items() if number == SYSTEM)

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Needed libraries that are neither scanned nor glibc's."""
        return tuple(name for name, number in self.names.items() if number == ELSEWHERE)


def location_of(item: Item, root: str) -> Location:
    """Where an item lies, as an installed wheel, package or image would have it."""
    if not item.member:
        return Location("", os.path.abspath(item.file), root)  # noqa: PTH100  # a link stays one
    outer, _, inner = item.member.rpartition(INSIDE)
    tree = f"{item.file}{INSIDE}{outer}"
    path = posixpath.normpath(f"/{inner}")
    if (outer or item.file).endswith(".whl"):
        data = _WHEEL_DATA.match(path)
        path = f"{_WHEEL_LOCATIONS[data[1]]}/{data[2]}" if data else f"{_SITE}{path}"
    return Location(tree, path)


@dataclass
class Scene:
    """All items of a scan, and who loads whom. ``roots``: for each item the directory that was named.

    ``ours``: architecture -> names of glibc's own DSOs.
    """

    items: Sequence[Item]
    roots: Sequence[str]
    ours: dict[str, frozenset[str]]
    _exports: dict[int, Exports | None] = field(default_factory=dict)
    _loaded: dict[int, Loaded] = field(default_factory=dict)
    _real: dict[str, str] = field(default_factory=dict)
    _defaults: dict[tuple[str, str, str], tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.locations = [location_of(i, r) for i, r in zip(self.items, self.roots, strict=True)]
        self._at: dict[tuple[str, str], int] = {}
        self._links: dict[tuple[str, str], str] = {}
        self._directories: set[tuple[str, str]] = set()
        for number, (item, location) in enumerate(zip(self.items, self.locations, strict=True)):
            if item.link:
                self._links[location.tree, location.path] = item.link
            elif not item.foreign:
                self._at[location.tree, location.path] = number
                self._directories.add((location.tree, location.directory))
        for tree, path in self._links:
            self._directories.add((tree, path.rpartition("/")[0]))
        self._systems = {tree for tree, path in self._at if tree and path.startswith("/usr/")}

    def facts(self, number: int) -> Facts:
        """The facts of a file that can be read."""
        facts = self.items[number].facts
        assert facts is not None
        return facts

    def exports(self, number: int) -> Exports | None:
        """What others find in a file; None if that cannot be read any more."""
        if number not in self._exports:
            item = self.items[number]
            found = item.facts.exports if item.facts else None
            if found is None and item.facts and not item.member:
                found = _exports_in(item.file)
            self._exports[number] = found
        return self._exports[number]

    def read_exports(self) -> None:
        """Read the files that `exports` will need, on all processors if there are many."""
        wanted: dict[int, None] = {}
        for number, item in enumerate(self.items):
            if item.facts is not None:
                wanted.update(dict.fromkeys(self.loaded(number).files[1:]))
        unread = [
            n for n in wanted if (f := self.items[n].facts) and not f.exports and not self.items[n].member
        ]
        found = readers.spread(_exports_in, [self.items[n].file for n in unread], _size)
        self._exports.update(zip(unread, found, strict=True))

    # -- searching --------------------------------------------------------------------------------------

    def loaded(self, number: int) -> Loaded:
        """What ld.so maps for a file, breadth first."""
        if number not in self._loaded:
            self._loaded[number] = self._found(number)
        return self._loaded[number]

    def _found(self, number: int) -> Loaded:
        own = self.facts(number)
        ours = self.ours.get(own.arch, frozenset())
        files, names = [number], {}
        parents: dict[int, int | None] = {number: None}
        at = 0
        while at < len(files):
            current = files[at]
            at += 1
            facts = self.items[current].facts
            for name in facts.needed if facts else ():
                if name in names:
                    continue
                same = next((n for n in files if (f := self.items[n].facts) and f.soname == name), None)
                target = same if same is not None else self._find(name, current, parents, ours)
                if facts and facts.no_default and target == SYSTEM and not _there_before(own, name):
                    target = NOWHERE
                names[name] = target
                if target >= 0 and target not in parents:
                    parents[target] = current
                    files.append(target)
        self._implied(own, names, lambda name: self._find(name, number, {number: None}, ours))
        for target in names.values():
            if target >= 0 and target not in parents:
                parents[target] = number
                files.append(target)
        return Loaded(tuple(files), names)

    def _implied(self, own: Facts, names: dict[str, int], find: Callable[[str], int]) -> None:
        """glibc's DSOs that others of glibc's, or libraries from elsewhere, bring."""
        machine = ARCHES.get(own.arch)
        if machine is None:
            return
        if names.get(LIBMVEC) == SYSTEM:
            names.setdefault(LIBM, find(LIBM))
        others = [n for n, target in names.items() if target != SYSTEM or n != machine.loader]
        if own.kind is Kind.LIBRARY or any(names[n] < 0 for n in others):
            names.setdefault(LIBC, find(LIBC))
        names.setdefault(machine.loader, SYSTEM)

    def _find(self, name: str, by: int, parents: dict[int, int | None], ours: frozenset[str]) -> int:
        """Number of the file ``name`` as ``by`` needs it, or SYSTEM or ELSEWHERE."""
        location = self.locations[by]
        if "/" in name:
            found = self._file(location, _expanded(name, location), self.facts(by).arch)
            return ELSEWHERE if found is None else found
        for directory in self._search_path(by, parents):
            found = self._file(location, f"{directory}/{name}", self.facts(by).arch)
            if found is not None:
                return found
        if name in ours:
            return SYSTEM
        for directory in self._default_directories(location, self.facts(by).arch):
            found = self._file(location, f"{directory}/{name}", self.facts(by).arch)
            if found is not None:
                return found
        return ELSEWHERE

    def _search_path(self, by: int, parents: dict[int, int | None]) -> Iterator[str]:
        """Directories of DT_RPATH (of the file and all that loaded it) and of DT_RUNPATH (its own)."""
        runpath = self.facts(by).runpath
        if not runpath:
            link: int | None = by
            while link is not None:
                facts = self.items[link].facts
                if facts and facts.rpath:
                    yield from _directories(facts.rpath, self.locations[link])
                link = parents[link]
        yield from _directories(runpath, self.locations[by])

    def _default_directories(self, location: Location, arch: str) -> tuple[str, ...]:
        """The default directories in which any scanned file lies."""
        key = (location.tree, location.root, arch)
        if key not in self._defaults:
            triplet = ARCHES[arch].triplet if arch in ARCHES else ""
            names = [f"{top}/{d}" for d in ("lib64", "lib", f"lib/{triplet}") for top in ("", "/usr")]
            tops = ["", location.root] if location.root else [""]
            if location.tree and location.tree not in self._systems and not _PACKAGE.search(location.tree):
                tops = []
            self._defaults[key] = tuple(
                top + n for top in tops for n in names if (location.tree, top + n) in self._directories
            )
        return self._defaults[key]

    def _file(self, location: Location, path: str, arch: str) -> int | None:
        """Number of the scanned file of this architecture at ``path`` in the tree of ``location``."""
        path = posixpath.normpath(path)
        tops = ["", location.root] if location.root and not path.startswith(f"{location.root}/") else [""]
        for top in tops:
            for way in (path, f"/usr{path}") if path.startswith("/lib") else (path,):
                number = self._at_end(location.tree, top + way)
                if number is None:
                    continue
                facts = self.items[number].facts
                if facts is None or (facts.arch == arch and not facts.alien and _mapped(facts)):
                    return number
        return None

    def _at_end(self, tree: str, path: str) -> int | None:
        """The file at ``path``, links followed."""
        for _ in range(_MAX_LINKS):
            number = self._at.get((tree, path))
            if number is not None:
                return number
            target = self._links.get((tree, path))
            if target is None:
                break
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if tree:
            return None
        if path not in self._real:
            self._real[path] = os.path.realpath(path)
        return self._at.get(("", self._real[path]))


def _mapped(facts: Facts) -> bool:
    """Whether ld.so takes a file that it finds for the library: a program too, and then it stops."""
    return facts.kind is Kind.LIBRARY or bool(facts.no_library)


def _there_before(own: Facts, name: str) -> bool:
    """Whether glibc's library is loaded before a library that names it: whoever loads that has it."""
    return own.kind is Kind.LIBRARY and (name == LIBC or name.startswith("ld-linux"))


def _exports_in(path: str) -> Exports | None:
    try:
        return exports_of(elf.read(path))
    except (MalformedInput, OSError):
        return None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # a string all along
    except OSError:
        return 0


def _expanded(text: str, location: Location) -> str:
    """``$ORIGIN`` and ``$LIB`` replaced (elf/dl-load.c: _dl_dst_substitute; RHEL's $LIB is lib64)."""
    for name, value in (("ORIGIN", location.directory or "/"), ("LIB", "lib64")):
        text = text.replace(f"${{{name}}}", value)
        text = re.sub(rf"\${name}(?![A-Za-z0-9_])", value.replace("\\", r"\\"), text)
    return text


def _directories(path: str, location: Location) -> Iterator[str]:
    """The absolute directories of a search path; others depend on where the program is started."""
    for part in path.split(":"):
        directory = _expanded(part, location)
        if directory.startswith("/") and "$" not in directory:
            yield directory
