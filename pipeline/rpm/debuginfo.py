"""Which debug file belongs to which file: by build id and by the checksum in ``.gnu_debuglink``.

A debugger looks for a file of that build id, or of that name below /usr/lib/debug, and takes one by name only
if its CRC-32 is the one that the program carries (GDB manual, "Separate Debug Files").
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, SymbolTableSection

from pipeline.core import store
from pipeline.core.errors import MalformedInput
from pipeline.elf.damaged import DAMAGED
from pipeline.rpm import package
from pipeline.rpm.coherence import DEBUG

_ELF = b"\x7fELF"
#: e_type of programs and shared objects
_LOADED = ("ET_EXEC", "ET_DYN")
#: Raised when more of a file is read.
READER = 2


@dataclass(frozen=True)
class Marks:
    """What a file says of its debug information: its build id ("" if none), name and checksum of the debug
    file ("" and 0 if it names none), how many functions its own symbol table has, its own checksum, and how
    many bytes of debug information are in it."""

    build_id: str
    link: str
    link_crc: int
    functions: int
    crc: int
    info: int


def marks(package_file: Path) -> dict[str, Marks]:
    """The marks of each program, shared object and debug file of a package, read once for each package.

    Raises `MalformedInput`.
    """

    def make(into: Path) -> None:
        found = {}
        names: dict[tuple[int, int, int], list[str]] = defaultdict(list)  # of hard links one has the data
        with package.payload(package_file) as members:
            for member in members:
                path = member.path
                mine = names[member.inode] if member.links > 1 else []
                mine.append(path)
                data = member.read()
                if data.startswith(_ELF) and (marked := _read(data, f"{package_file.name}: {path}")):
                    found[path] = (mine, asdict(marked))
        every = {name: fields for mine, fields in found.values() for name in mine}
        (into / "marks.json").write_text(json.dumps(every) + "\n")

    entry = store.produce("rpm-marks", {"rpm": store.file_sha256(package_file), "reader": READER}, make)
    read = json.loads((entry.path / "marks.json").read_text())
    return {path: Marks(**fields) for path, fields in read.items()}


def _read(data: bytes, where: str) -> Marks | None:
    try:
        elf = ELFFile(io.BytesIO(data))
        if elf["e_type"] not in _LOADED:
            return None
        build_id, link, crc, functions, info = "", "", 0, 0, 0
        for section in elf.iter_sections():
            if isinstance(section, NoteSection) and section.name == ".note.gnu.build-id":
                build_id = next((str(n["n_desc"]) for n in section.iter_notes()), "")
            elif section.name == ".gnu_debuglink":
                raw = section.data()
                link = raw[: raw.index(b"\0")].decode()
                (crc,) = struct.unpack("<I", raw[-4:])
            elif section.name == ".debug_info" and section["sh_type"] == "SHT_PROGBITS":
                info = section["sh_size"]
            elif isinstance(section, SymbolTableSection) and section["sh_type"] == "SHT_SYMTAB":
                functions = _functions(section)
        return Marks(build_id, link, crc, functions, zlib.crc32(data), info)
    except DAMAGED as e:
        raise MalformedInput(f"{where}: {e!r}", hint="build or fetch the package again") from e


def _functions(table: SymbolTableSection) -> int:
    """Functions that the table defines, counted without reading their names."""
    raw, size = table.data(), table["sh_entsize"]
    return sum(
        1
        for at in range(0, len(raw) - size + 1, size)
        if raw[at + 4] & 15 in (2, 10) and raw[at + 6 : at + 8] != b"\0\0"
    )


def faults(files: Mapping[str, Marks], debug: Mapping[str, Marks]) -> list[str]:
    """Why a debugger would find nothing, or something else, for a file of a release, a line each.

    A file carries the name that it had when it was built in that of its debug file, so one that lies in the
    place of another shows here, too: modules that export the same symbols are told apart by nothing else.

    ``files`` are the programs and shared objects by path, ``debug`` the files below /usr/lib/debug.
    """
    found = []
    by_id: dict[str, list[str]] = defaultdict(list)
    for path, marked in files.items():
        if not marked.functions:
            found.append(f"{path}: no symbol table is left in it")
        if not marked.build_id:
            found.append(f"{path}: no build id")
            continue
        by_id[marked.build_id].append(path)
        found += _match(path, marked, debug)
    found += [
        f"{', '.join(sorted(paths))}: one build id, and different files"
        for paths in by_id.values()
        if len({files[p].crc for p in paths}) > 1
    ]
    found += [
        f"{', '.join(sorted(paths))}: it is {link}, so another file's"
        for paths in by_id.values()
        if (link := files[paths[0]].link) and not any(_named(link, path) for path in paths)
    ]
    found += [
        f"{path}: of build id {marked.build_id or '(none)'}, which no file has"
        for path, marked in debug.items()
        if marked.build_id not in by_id
    ]
    found += [f"{path}: no debug information is in it" for path, marked in debug.items() if not marked.info]
    return sorted(found)


def _named(link: str, path: str) -> bool:
    """Whether a debug file is called as that of the file at ``path``: ``NAME.debug`` or ``NAME-….debug``."""
    rest = link.removeprefix(path.rpartition("/")[2])
    return rest != link and rest.startswith((".", "-")) and rest.endswith(".debug")


def _match(path: str, marked: Marks, debug: Mapping[str, Marks]) -> Iterable[str]:
    mine = {p: m for p, m in debug.items() if m.build_id == marked.build_id}
    if not mine:
        yield f"{path}: no debug file has its build id {marked.build_id}"
    elif not marked.link:
        yield f"{path}: names no debug file"
    elif not any(p.rpartition("/")[2] == marked.link and m.crc == marked.link_crc for p, m in mine.items()):
        yield f"{path}: {', '.join(sorted(mine))} is not {marked.link} of checksum {marked.link_crc:#010x}"


def split(packages: Sequence[Path]) -> tuple[dict[str, Marks], dict[str, Marks]]:
    """The programs and shared objects of packages, and their debug files. Raises `MalformedInput`."""
    files: dict[str, Marks] = {}
    debug: dict[str, Marks] = {}
    for one in packages:
        for path, marked in marks(one).items():
            (debug if path.startswith(DEBUG) else files)[path] = marked
    return files, debug
