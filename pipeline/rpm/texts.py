"""The texts of a release (headers, scripts, tables, configuration, locales), each by the digest of its bytes.

Committed as text: a first line that says what they were made from and in which image, then a line for each
file, its path and the first half of its sha256.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import MalformedInput, reason
from pipeline.rpm.package import Rpm

#: What is not text: archives and start files, which `devel.baseline` reads.
_LINKED = (".a", ".o")
#: What documents a release may say something new.
_DOCUMENTS = ("/usr/share/info/", "/usr/share/doc/", "/usr/share/man/")
#: Written by gettext and gzip, another version of which may write other bytes for the same.
TOOL_MADE = (".mo", ".gz")
_HEAD = re.compile(r"# texts of (\S+), made in (.+)")
_LINE = re.compile(r"(/.+) ([0-9a-f]{32})")
_REMEDY = "make it again with `nox -s baseline`, or restore it from git"

#: Path -> digest.
Digests = Mapping[str, str]


@dataclass(frozen=True)
class Texts:
    """``files`` by path; ``origin``: the release they are of; ``image``: the base of what it was built in."""

    files: Digests
    origin: str
    image: str


def of(rpms: Iterable[Rpm]) -> dict[str, str]:
    """Path -> digest of each text of the packages. rpm's color says what is an ELF file."""
    return {
        entry.path: entry.digest[:32]
        for rpm in rpms
        for entry in rpm.files
        if entry.is_regular and not entry.ghost and not entry.color
        if not entry.path.endswith(_LINKED) and not entry.path.startswith(_DOCUMENTS)
    }


def render(texts: Texts) -> str:
    """The text."""
    lines = [f"# texts of {texts.origin}, made in {texts.image or 'no image'}"]
    return "\n".join([*lines, *(f"{path} {digest}" for path, digest in sorted(texts.files.items()))]) + "\n"


def load(file: Path) -> Texts | None:
    """The committed texts, None if there are none. Raises `MalformedInput` for what `render` never writes."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as e:
        raise MalformedInput(f"{file} cannot be read: {reason(e)}", hint=_REMEDY) from None
    head, *lines = text.splitlines() or [""]
    begins, matches = _HEAD.fullmatch(head), [_LINE.fullmatch(line) for line in lines]
    found = {m[1]: m[2] for m in matches if m}
    made = Texts(found, begins[1], begins[2].replace("no image", "")) if begins else None
    if made is None or not found or render(made) != text:
        raise MalformedInput(f"{file} is not a list of texts as it was written", hint=_REMEDY)
    return made
