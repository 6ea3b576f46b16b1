"""What a release gives to those who compile and link against it, as facts that can be compared.

A fact is a line of text; the layout of a type and the definition of a macro are facts about a header. All
facts are compared from release to release; those that a change of compiler or kernel headers cannot touch
are committed, layouts as digests.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from pipeline.core import ar
from pipeline.core.errors import MalformedInput
from pipeline.elf.damaged import DAMAGED
from pipeline.elf.relocatable import Relocatable
from pipeline.rpm.payload import inside

#: Where linkers look for what programs are made with.
DIRECTORIES = ("usr/lib64", "usr/lib", "lib64")
#: Archives that go into every program; larger ones hold the library itself.
SMALL = 64 << 10
#: How the fact about a symbol of a large archive begins; its type, binding and visibility follow.
DEFINED = "defined "
#: Macros whose value becomes part of a program's data.
INITIALIZER = re.compile(r"INITIALIZER|_INIT$")
#: Macros that name the release, or the compiler that reads them.
VERSIONS = frozenset({"__GLIBC_MINOR__", "__GLIBC__"})

Facts = Mapping[str, str]


def linking(root: Path) -> dict[str, str]:
    """Linker scripts with their text, start files and archives with their symbols.

    Of the members of large archives only what they define for others, as the archive's index has it, and how.
    """
    found: dict[str, str] = {}
    for directory in DIRECTORIES:
        base = inside(root, directory)
        if not base.is_dir() or (directory != "usr/lib64" and base == inside(root, "usr/lib64")):
            continue
        for file in sorted(base.iterdir()):
            if file.is_symlink() or not file.is_file() or file.suffix not in (".so", ".a", ".o"):
                continue
            name = f"{directory}/{file.name}"
            data = file.read_bytes()
            if data.startswith(ar.MAGIC):
                if len(data) <= SMALL:
                    for member, content in members(data, name):
                        found[f"{name}({member})"] = symbols(content, f"{name}({member})")
                else:
                    how = _definitions(data, name)
                    index = ar.index(io.BytesIO(data), name)
                    found |= {f"{name}: {s}": DEFINED + how.get(s, "by no member") for s in index}
                found[name] = "archive"
            elif not data.startswith(b"\x7fELF"):
                text = re.sub(r"/\*.*?\*/", " ", data.decode(errors="replace"), flags=re.DOTALL)
                found[name] = "script " + " ".join(text.split())
            elif file.suffix == ".o":
                found[name] = symbols(data, name)
    return found


def _definitions(data: bytes, where: str) -> dict[str, str]:
    """How the members of an archive define each symbol. Raises `MalformedInput`."""
    found: dict[str, set[str]] = {}
    for member, content in members(data, where):
        for symbol in Relocatable(content, f"{where}({member})").defined:
            found.setdefault(symbol.name, set()).add(symbol.words)
    return {name: ", ".join(sorted(words)) for name, words in found.items()}


def members(data: bytes, where: str) -> Iterator[tuple[str, bytes]]:
    """The members of an ``ar`` archive. Raises `MalformedInput`."""
    for member in ar.members(io.BytesIO(data), where):
        yield member.name, data[member.at : member.at + member.size]


def symbols(data: bytes, where: str) -> str:
    """The global symbols of an object: defined ones with type, binding and visibility, then undefined ones.

    Raises `MalformedInput`.
    """
    try:
        table = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
        listed = list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []
    except DAMAGED as e:
        raise MalformedInput(f"{where}: {e!r}", hint="build or fetch the package again") from e
    defined, needed = [], []
    for symbol in listed:
        binding = str(symbol["st_info"]["bind"]).removeprefix("STB_").lower()
        if binding == "local" or not symbol.name:
            continue
        if symbol["st_shndx"] == "SHN_UNDEF":
            needed.append(symbol.name + (" (weak)" if binding == "weak" else ""))
            continue
        kind = str(symbol["st_info"]["type"]).removeprefix("STT_").lower()
        seen = str(symbol["st_other"]["visibility"]).removeprefix("STV_").lower()
        words = [w for w in (kind, binding, seen) if w not in ("global", "default")]
        defined.append(f"{symbol.name} ({' '.join(words)})" if words else symbol.name)
    return (
        f"defines {', '.join(sorted(defined)) or 'nothing'}; needs {', '.join(sorted(needed)) or 'nothing'}"
    )


_MARKER = re.compile(r'^# \d+ "([^"]*)"')
_DEFINE = re.compile(r"^#define (\w+)(.*)$")
_UNDEF = re.compile(r"^#undef (\w+)$")


def macros(text: str, include: str) -> dict[str, str]:
    """``HEADER: NAME`` -> what follows the name in its definition, of what ``-E -dD`` printed.

    For headers below ``include``. One that is defined anew counts with its last definition, one that is
    undefined not at all.
    """
    found: dict[str, tuple[str, str]] = {}
    header = ""
    for line in text.splitlines():
        if marker := _MARKER.match(line):
            path = marker[1]
            header = path.removeprefix(include) if path.startswith(include) else ""
        elif define := _DEFINE.match(line):
            found[define[1]] = (header, " ".join(define[2].split()))
        elif undef := _UNDEF.match(line):
            found.pop(undef[1], None)
    return {f"{header}: {name}": text for name, (header, text) in found.items() if header}


def initializers(macros: Facts) -> dict[str, str]:
    """The macros that initialise objects."""
    return {key: text for key, text in macros.items() if INITIALIZER.search(key.partition(": ")[2])}


def all_facts(layouts: Facts, definitions: Facts, left_out: list[str], links: Facts) -> dict[str, str]:
    """Everything that is compared from release to release."""
    found = {key.replace(": ", ": macro ", 1): text for key, text in definitions.items()}
    found = {k: v for k, v in found.items() if k.rpartition(" ")[2] not in VERSIONS}
    missing = {f"{header}: header": "does not compile with the others" for header in left_out}
    return {**layouts, **found, **missing, **links}


def committed_facts(layouts: Facts, definitions: Facts, left_out: list[str], links: Facts) -> list[str]:
    """The lines that are committed: layouts as size and digest, initialisers and scripts as they are.

    What objects need of others is the compiler's choice, and is not committed. Of the symbols of a large
    archive (libc.a has some 4,500) the number and a digest.
    """
    lines = [f"{key}: {digested(text)}" for key, text in layouts.items()]
    lines += [f"{k.replace(': ', ': macro ', 1)}: {v}" for k, v in initializers(definitions).items()]
    lines += [f"{header}: does not compile with the others" for header in left_out]
    large: dict[str, list[str]] = {}
    for key, text in links.items():
        if text.startswith(DEFINED):
            archive, _, symbol = key.partition(": ")
            large.setdefault(archive, []).append(symbol)
        else:
            lines.append(f"{key}: {text.partition('; needs ')[0]}")
    lines += [f"{k}: {len(s)} symbols {digested(' '.join(sorted(s)))}" for k, s in large.items()]
    return sorted(lines)


def digested(layout: str) -> str:
    """The size of a type, where it says one, and a digest of its layout."""
    digest = hashlib.sha256(layout.encode()).hexdigest()[:12]
    size = re.match(r"\d+ bytes", layout)
    return f"{size[0]} {digest}" if size else (layout if len(layout) < 40 else digest)
