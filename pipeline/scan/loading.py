"""Which files ld.so would map for a file: its libraries as far as they are scanned too.

A library comes along only if the loader finds it for that very program (glibc's elf/dl-load.c:
_dl_map_object): by DT_RPATH of the file and of those that loaded it, by DT_RUNPATH, and by the default
directories of the package, image or tree. What is found in none of these is the system's: the release's, if
it is one of glibc's own, or somebody else's, which is not known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pipeline import elf
from pipeline.core.arch import ARCHES
from pipeline.core.errors import MalformedInput
from pipeline.scan import readers
from pipeline.scan.facts import Exports, Facts, Kind, exports_of
from pipeline.scan.inputs import Item
from pipeline.scan.trees import Location, Trees

#: Where a name leads that is no scanned file: glibc's own of the release, a library of somebody else, or
#: nowhere, for it would be found in a default directory, and who needs it has none searched.
SYSTEM, ELSEWHERE, NOWHERE = -1, -2, -3
LIBC, LIBM, LIBMVEC = "libc.so.6", "libm.so.6", "libmvec.so.1"


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

    def __post_init__(self) -> None:
        self.trees = Trees(self.items, self.roots)

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

    def has_own_loader(self, number: int) -> bool:
        """Whether the loader in a place of its own that a file names was scanned with it."""
        named = self.facts(number).own_loader
        return bool(named) and any(self.trees.at(self.trees.locations[number], named))

    def _found(self, number: int) -> Loaded:
        own = self.facts(number)
        ours = self.ours.get(own.arch, frozenset())
        files, names = [number], {}
        #: of what is mapped: who loaded it, and where it was found, which is its $ORIGIN
        parents: dict[int, int | None] = {number: None}
        found_at = {number: self.trees.locations[number]}
        search = _Search(self, parents, found_at, ours)
        at = 0
        while at < len(files):
            current = files[at]
            at += 1
            facts = self.items[current].facts
            optional = facts.auxiliaries if facts else ()
            for name in (*optional, *facts.needed) if facts else ():
                if name in names:
                    continue
                same = next((n for n in files if (f := self.items[n].facts) and f.soname == name), None)
                target, where = (same, None) if same is not None else search.find(name, current)
                if name in optional and (target < SYSTEM or (target >= 0 and not self.items[target].facts)):
                    continue  # without one the loader goes on
                if facts and facts.no_default and target == SYSTEM and not _there_before(own, name):
                    target = NOWHERE
                names[name] = target
                if target >= 0 and target not in parents:
                    parents[target] = current
                    found_at[target] = where or self.trees.locations[target]
                    files.append(target)
        self._implied(own, names, lambda name: search.find(name, number)[0])
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


@dataclass
class _Search:
    """The loader's search for one program's libraries (elf/dl-load.c: _dl_map_object)."""

    scene: Scene
    parents: dict[int, int | None]
    found_at: dict[int, Location]
    ours: frozenset[str]

    def find(self, name: str, by: int) -> tuple[int, Location | None]:
        """Number of the file ``name`` as ``by`` needs it and where it is found, or SYSTEM or ELSEWHERE."""
        location, arch = self.found_at[by], self.scene.facts(by).arch
        if "/" in name:
            return self._file(location, _expanded(name, location), arch) or (ELSEWHERE, None)
        for directory in self._search_path(by):
            found = self._file(location, f"{directory}/{name}", arch)
            if found is not None and name in self.ours and self.scene.trees.below_default(found[0], arch):
                return SYSTEM, None  # the root's own glibc, in whose place the release has its own
            if found is not None:
                return found
        if name in self.ours:
            return SYSTEM, None
        for directory in self.scene.trees.default_directories(location, arch):
            found = self._file(location, f"{directory}/{name}", arch)
            if found is not None:
                return found
        return ELSEWHERE, None

    def _search_path(self, by: int) -> Iterator[str]:
        """Directories of DT_RPATH (of the file and all that loaded it) and of DT_RUNPATH (its own)."""
        runpath = self.scene.facts(by).runpath
        if not runpath:
            link: int | None = by
            while link is not None:
                facts = self.scene.items[link].facts
                if facts and facts.rpath:
                    yield from _directories(facts.rpath, self.found_at[link])
                link = self.parents[link]
        yield from _directories(runpath, self.found_at[by])

    def _file(self, location: Location, path: str, arch: str) -> tuple[int, Location] | None:
        """The scanned file of this architecture at ``path`` in the tree of ``location``."""
        for number, where in self.scene.trees.at(location, path):
            facts = self.scene.items[number].facts
            if facts is None or (facts.arch == arch and not facts.alien and _mapped(facts)):
                return number, replace(location, path=where)
        return None


def _mapped(facts: Facts) -> bool:
    """Whether ld.so takes a file that it finds for the library: a program too, and then it stops."""
    return facts.kind is Kind.LIBRARY or bool(facts.no_library)


def _there_before(own: Facts, name: str) -> bool:
    """Whether glibc's library is there before it is named: ld.so, and of a library its user's libc.so.6."""
    return name.startswith("ld-linux") or (own.kind is Kind.LIBRARY and name == LIBC)


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
