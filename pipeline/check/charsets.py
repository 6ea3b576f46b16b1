"""Do conversions of character sets say what the release's own tables say?

Modules of gconv export the same symbols, whatever they convert: their code is told apart by nothing but what
comes of it. What must come is in the charmaps that localedef reads, which are texts of the release
(`rpm.texts`) and are made into no module.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from pipeline.check import Material
from pipeline.check.probing import PROBES, Answers, Case, ProbeCheck, Unanswered, Verdict, verdict
from pipeline.core import store
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Outcome
from pipeline.rpm.payload import inside

#: Raised when `_read` finds more in charmaps, or otherwise.
READER = 1
CHARMAPS, GCONV = "usr/share/i18n/charmaps", "usr/lib64/gconv"
#: Where what charmaps say is kept, and the file.
KIND, SETS = "charsets", "charsets.json"
#: Of a set of more than 256 codes so many are asked about.
SAMPLE = 400
#: Tables that say something else than modules, in upstream's 2.34 and 2.36 alike: accents that alone are no
#: character, a sign that was exchanged for another, a table of another edition.
OTHERS = frozenset({"ANSI_X3.110-1983", "IBM1133", "ISO-IR-90", "ISO_6937", "MAC-CYRILLIC", "T.61-8BIT"})
#: The answer of the probe to a code that is none.
NONE = "x"
#: No range of a charmap is longer.
LONGEST = 0x10000
_LINE = re.compile(
    r"^(%IRREVERSIBLE%)?<U([0-9A-F]{4,8})>(?:\.\.<U([0-9A-F]{4,8})>)?\s+((?:/x[0-9a-f]{2})+)\s", re.M | re.I
)
_NAME = re.compile(r'<code_set_name>\s+"?([^\s"]+)')


@dataclass(frozen=True)
class Charset:
    """A set's name and, for each code that is asked about, the answers that are right."""

    name: str
    codes: Mapping[bytes, frozenset[str]]

    @cached_property
    def argument(self) -> str:
        """As the probe takes it."""
        if len(self.codes) == 256 and all(len(code) == 1 for code in self.codes):
            return self.name
        return f"{self.name}={','.join(code.hex() for code in self.codes)}"


def charset(text: str, name: str) -> Charset:
    """The set called ``name`` of the text of a charmap."""
    lines = _LINE.findall(text)
    written = sorted({line[3].lower() for line in lines})
    some = set(written[:: max(1, len(written) // SAMPLE)])  # to take all apart takes seconds
    meant: dict[bytes, list[str]] = {}
    one_way: dict[bytes, list[str]] = {}
    codes_of: Counter[str] = Counter()
    for irreversible, first, last, code_written in lines:
        character = int(first, 16)
        count = min(int(last, 16) - character + 1, LONGEST) if last else 1
        for n in range(count):
            codes_of[f"{character + n:x}"] += 1
        if code_written.lower() not in some:
            continue
        code, which = bytes.fromhex(code_written.replace("/x", "")), one_way if irreversible else meant
        # of a range with longer codes the first: what the next are each set says for itself
        for n in range(min(count, 0x100 - code[-1]) if len(code) == 1 else 1):
            which.setdefault(bytes([*code[:-1], code[-1] + n]), []).append(f"{character + n:x}")
    found = meant.keys() | one_way.keys()
    single = all(len(code) == 1 for code in found)
    asked = [bytes([n]) for n in range(256)] if single else sorted(found)
    right = {code: frozenset(_right(meant.get(code, []), one_way.get(code, []), codes_of)) for code in asked}
    return Charset(name, right if found else {})


def unpacked(file: Path) -> str:
    """The text of a charmap. Raises `MalformedInput`."""
    try:
        return gzip.decompress(file.read_bytes()).decode("latin-1")
    except (OSError, EOFError, zlib.error) as e:
        raise MalformedInput(f"charmap {file.stem}: {e}", hint="build the release again") from None


def _right(meant: Sequence[str], one_way: Sequence[str], codes_of: Mapping[str, int]) -> Iterator[str]:
    """The answers that are right for a code; one of several codes may come back as another of them."""
    yield from meant
    yield from (f"{c}!" for c in meant if codes_of[c] > 1)
    if not meant:
        yield from (word for c in one_way for word in (c, f"{c}!"))
    if not meant and not one_way:
        yield NONE


def charsets(root: Path) -> tuple[Charset, ...]:
    """The sets of a release that have a charmap, and a module in gconv's list. Raises `MalformedInput`.

    Charmaps take seconds to read and are the same in most releases, so what they say is kept.
    """
    maps = sorted(inside(root, CHARMAPS).glob("*.gz"))
    more = sorted(inside(root, f"{GCONV}/gconv-modules.d").glob("*.conf"))
    modules = [file for file in (inside(root, f"{GCONV}/gconv-modules"), *more) if file.is_file()]
    inputs = {
        "maps": {file.stem: store.file_sha256(file) for file in maps},
        "modules": [store.file_sha256(file) for file in modules],
        "reader": READER,
    }

    def make(into: Path) -> None:
        found = [
            (one.name, {code.hex(): sorted(right) for code, right in one.codes.items()})
            for one in _read(maps, modules)
        ]
        (into / SETS).write_text(json.dumps(found) + "\n")

    return _of(store.produce(KIND, inputs, make).path)


def _read(maps: Sequence[Path], modules: Sequence[Path]) -> Iterator[Charset]:
    known = set[str]()
    for file in modules:
        for line in file.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) > 2 and words[0] in ("alias", "module"):
                known.add(words[1].rstrip("/").upper())
    for file in maps:
        text = unpacked(file)
        said = _NAME.search(text)
        name = (said[1] if said else file.stem).upper()
        if name in known - OTHERS and (one := charset(text, name)).codes:
            yield one


@cache
def _of(kept: Path) -> tuple[Charset, ...]:
    found: list[tuple[str, dict[str, list[str]]]] = json.loads((kept / SETS).read_text())
    return tuple(
        Charset(name, {bytes.fromhex(code): frozenset(right) for code, right in codes.items()})
        for name, codes in found
    )


class Charsets(ProbeCheck):
    """Each code of each set becomes its character, and comes back as the code."""

    declared = Declaration(
        name="launch.charsets",
        measures=measured(Unit.COUNT, "charsets", "codes"),
        question="Does iconv turn each charset's codes into what the release's own tables say, and back?",
        when="the packages have charmaps",
    )

    def program(self, material: Material) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def cases(self, material: Material) -> Sequence[Case]:
        return [
            Case(material.profile.get(release), None)
            for release, built in material.built.items()
            if any(inside(built.root, CHARMAPS).glob("*.gz"))
        ]

    def argv(self, material: Material, case: Case) -> tuple[str, ...]:
        wanted: Sequence[Charset] = ()
        with suppress(MalformedInput):  # `verdict` says so
            wanted = charsets(material.built[case.release.name].root)
        return (f"{PROBES}/charsets", *(one.argument for one in wanted))

    def asks(self, case: Case) -> str:  # noqa: ARG002
        return "each code becomes the character of the charmap, and comes back as the code"

    def verdict(self, material: Material, case: Case, answers: Answers) -> Verdict:
        wanted = charsets(material.built[case.release.name].root)
        if not wanted:
            raise Unanswered(Outcome.MISSING, "no set has both a charmap and a module")
        said = {line["charset"]: line["answers"] for line in answers.lines(case.job(self.name))}
        faults, codes = [], 0
        for one in wanted:
            if one.name not in said:
                raise Unanswered(Outcome.ERROR, f"no answer about {one.name}")
            words = said[one.name].split()
            codes += len(one.codes)
            if len(words) != len(one.codes):
                faults.append(f"{one.name}: {said[one.name][:80]}")
                continue
            wrong = [
                f"{code.hex()} is {word}, not {' or '.join(sorted(right))}"
                for (code, right), word in zip(one.codes.items(), words, strict=True)
                if word not in right
            ]
            faults += [f"{one.name}: {', '.join(wrong)}"] if wrong else []
        measures = {"charsets": len(wanted), "codes": codes}
        return verdict(self.asks(case), f"{len(wanted)} sets, {codes} codes", faults, measures)


CHECKS = (Charsets(),)
