"""The house: a room imports only from rooms below it, and docs/architecture.md lists them in that order."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import paths

#: From the ground up. Each is a directory.
ROOMS = (
    "core", "profile", "elf", "debian", "rpm", "abi", "source", "host", "place", "build", "check", "signoff",
    "verify", "scan", "drift", "report", "knownbad", "benchmark", "cli", "__main__",
)  # fmt: skip


def imports(file: Path) -> Iterator[str]:
    """Every module of ours that a file names in an import, wherever the import stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upwards(package: Path) -> list[str]:
    """Imports of a higher room, and relative ones, which hide where they point."""
    found = []
    for file in sorted(package.rglob("*.py")):
        where = file.relative_to(package)
        room = where.parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for name in imports(file):
            parts = name.split(".")
            if parts[0] != "pipeline" or len(parts) < 2 or parts[1].startswith("__"):
                continue
            if ROOMS.index(parts[1]) > ROOMS.index(room):
                found.append(f"{where} imports {name}")
    return found


def test_every_room_has_its_floor() -> None:
    there = {p.name.removesuffix(".py") for p in paths.PACKAGE.iterdir() if p.suffix == ".py"}
    there |= {p.parent.name for p in paths.PACKAGE.glob("*/__init__.py")}
    assert there - {"__init__"} == set(ROOMS)


def test_no_import_points_upwards() -> None:
    assert upwards(paths.PACKAGE) == []


@pytest.mark.parametrize(
    "line",
    [
        "from pipeline.build import builder",
        "from pipeline.build.builder import Builder",
        "import pipeline.build.builder",
        "from pipeline import build",
        "def f():\n    from pipeline.build import builder",
        "if TYPE_CHECKING:\n    from pipeline.build import builder",
    ],
)
def test_an_import_upwards_is_seen(tmp_path: Path, line: str) -> None:
    (tmp_path / "abi").mkdir()
    (tmp_path / "abi" / "listing.py").write_text(line + "\n")
    assert len(upwards(tmp_path)) == 1


def test_the_documents_list_the_rooms_in_their_order() -> None:
    """The listing of docs/architecture.md is the listing of the directories, from the top down."""
    text = (paths.REPO / "docs" / "architecture.md").read_text()
    listed = [
        line.split("`")[1].removeprefix("pipeline/").rstrip("/").removesuffix(".py")
        for line in text.splitlines()
        if line.startswith("| `pipeline/")
    ]
    assert listed == [room for room in reversed(ROOMS) if room != "__main__"]
