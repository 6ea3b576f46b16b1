"""Where scanned files lie, and which of them a path leads to.

A tree is the disk, or an archive, whose members lie where an installer puts them. Links are followed as in
the system that the tree is or becomes: an absolute link of a root leads into that root.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.core.arch import ARCHES
from pipeline.scan.inputs import INSIDE, Item

#: Links followed on the way to one file, as in Linux (MAXSYMLINKS).
_MAX_LINKS = 40
#: What a wheel's ``*.data`` directories become when it is installed (binary distribution format, PEP 427).
_SITE = "/prefix/lib/python/site-packages"
_WHEEL_DATA = re.compile(r"^/[^/]+\.data/(purelib|platlib|data|scripts)/(.*)$")
_WHEEL_LOCATIONS = {"purelib": _SITE, "platlib": _SITE, "data": "/prefix", "scripts": "/prefix/bin"}
#: Archives whose members' paths are where they are installed; of others that is known if they have a /usr.
_PACKAGE = re.compile(rf"\.(rpm|deb){INSIDE}")


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


class Trees:
    """All items by where they lie. ``roots``: for each item the directory that was named, if it is a root."""

    def __init__(self, items: Sequence[Item], roots: Sequence[str]) -> None:
        self.locations = [location_of(i, r) for i, r in zip(items, roots, strict=True)]
        self._at: dict[tuple[str, str], int] = {}
        self._links: dict[tuple[str, str], str] = {}
        self._directories: set[tuple[str, str]] = set()
        self._real: dict[tuple[str, str], str] = {}
        self._defaults: dict[tuple[str, str, str], tuple[str, ...]] = {}
        for number, (item, location) in enumerate(zip(items, self.locations, strict=True)):
            if item.link:
                self._links[location.tree, location.path] = item.link
            elif not item.foreign:
                self._at[location.tree, location.path] = number
                self._directories.add((location.tree, location.directory))
        for tree, path in self._links:
            self._directories.add((tree, path.rpartition("/")[0]))
        self._linked = {tree for tree, _ in self._links}
        self._systems = {tree for tree, path in self._at if tree and path.startswith("/usr/")}

    def at(self, location: Location, path: str) -> Iterator[tuple[int, str]]:
        """Numbers of the files that ``path`` may mean for a program at ``location``, and by which path."""
        path = posixpath.normpath(path)
        if path.startswith("//"):  # which POSIX lets mean something, and Linux does not
            path = path[1:]
        tops = ["", location.root] if location.root and not path.startswith(f"{location.root}/") else [""]
        for top in tops:
            for way in (path, f"/usr{path}") if path.startswith("/lib") else (path,):
                number = self._at_end(location, top + way)
                if number is not None:
                    yield number, top + way

    def default_directories(self, location: Location, arch: str) -> tuple[str, ...]:
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

    def below_default(self, number: int, arch: str) -> list[str]:
        """The names of a file below default directories (``libc.so.6``, ``gconv/UTF-16.so``)."""
        location = self.locations[number]
        directories = (f"{d}/" for d in self.default_directories(location, arch))
        return [location.path[len(d) :] for d in directories if location.path.startswith(d)]

    def _at_end(self, location: Location, path: str) -> int | None:
        """The file at ``path``, links followed."""
        tree = location.tree
        number = self._at.get((tree, path))
        if number is not None or (tree and tree not in self._linked):
            return number
        if tree:
            return self._at.get((tree, self._followed(tree, path)))
        root = location.root if location.root and path.startswith(f"{location.root}/") else ""
        if (root, path) not in self._real:
            self._real[root, path] = _real_path(root, path) if root else os.path.realpath(path)
        real = self._real[root, path]
        number = self._at.get(("", real))
        return number if number is not None else self._by_real_path.get(real)

    def _followed(self, tree: str, path: str) -> str:
        """``path`` in an archive with all links on the way followed."""
        for _ in range(_MAX_LINKS):
            parts = path.split("/")
            ways = ("/".join(parts[: n + 1]) for n in range(1, len(parts)))
            way = next((w for w in ways if (tree, w) in self._links), None)
            if way is None:
                break
            there = posixpath.join(posixpath.dirname(way), self._links[tree, way])
            path = posixpath.normpath(there + path[len(way) :])
        return path

    @cached_property
    def _by_real_path(self) -> dict[str, int]:
        """The files on disk by their real paths: what was named may lie behind a link."""
        directories: dict[str, str] = {}
        found = {}
        for (tree, path), number in self._at.items():
            if not tree:
                directory, _, name = path.rpartition("/")
                if directory not in directories:
                    directories[directory] = os.path.realpath(directory or "/")
                found[f"{directories[directory]}/{name}"] = number
        return found


def _real_path(root: str, path: str) -> str:
    """``path`` below ``root``, links followed as in a system whose root that is."""
    done, left, links = root, path[len(root) :].split("/")[::-1], 0
    while left and links <= _MAX_LINKS:
        part = left.pop()
        if part == "..":
            done = done if done == root else posixpath.dirname(done)
        elif part not in ("", "."):
            try:
                target = os.readlink(f"{done}/{part}")  # noqa: PTH115  # a string all along
            except OSError:
                done = f"{done}/{part}"
                continue
            links += 1
            done = root if target.startswith("/") else done
            left += target.split("/")[::-1]
    return done
