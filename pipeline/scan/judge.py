"""On which releases a file starts, by the loader's rules (glibc's elf/dl-version.c and elf/dl-lookup.c).

- A required version node that the DSO named with it does not define refuses the program, unless the
  requirement itself is marked weak (VER_FLG_WEAK in vna_flags; whether references are weak is not asked). A
  DSO without any versions refuses no program.
- A requirement of a DSO that nothing loads stops ld.so at an assertion.
- Packed relative relocations (DT_RELR) ask for ``GLIBC_ABI_DT_RELR``: a loader that knows them refuses a file
  without, and one that does not leaves them out.
- A symbol bound to a version is looked up in all DSOs that are loaded, at that version. (So programs of
  before glibc 2.34 find ``pthread_create@GLIBC_2.2.5`` in libc.so.6, though they name libpthread.so.0.)
- Only symbols that relocations name are looked up, and only those are found that the hash table leads to.
- A missing symbol that is not weak is fatal, at the start or, if bound lazily, at the first call. Here both
  are "fails".
- A needed DSO that is not there is fatal. Judged are glibc's own and those scanned with the file that the
  loader finds for it (`pipeline.scan.loading`): where others come from is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from pipeline.abi.listing import PRIVATE
from pipeline.elf import Import
from pipeline.elf.versions import UNVERSIONED
from pipeline.scan.facts import Exports, Facts, Kind
from pipeline.scan.loading import ELSEWHERE, LIBC, NOWHERE, SYSTEM
from pipeline.scan.release import RELR, Release

_UNSEARCHED = "in a default directory, and none is searched for what needs it (DF_1_NODEFLIB)"


class Answer(StrEnum):
    """One file on one release."""

    STARTS = "starts"
    FAILS = "fails"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, order=True)
class Missing:
    """What a release lacks: a symbol at a node, a node itself (``symbol`` ""), or a DSO (``node`` "" too).

    A symbol without a version has the node ``-``, and may be missing from any DSO (``dso`` ""). ``says`` is
    the whole sentence for what is refused for another reason.
    """

    dso: str
    node: str = ""
    symbol: str = ""
    says: str = ""

    @property
    def sentence(self) -> str:
        """What is wrong, in words."""
        return self.says or f"no {self}"

    def __str__(self) -> str:
        if self.says:
            return self.says
        where = f" in {self.dso}" if self.dso else ""
        if not self.node:
            return f"the library {self.dso} itself"
        if not self.symbol:
            return f"the version {self.node} itself{where}"
        version = "" if self.node == UNVERSIONED else f"@{self.node}"
        return f"{self.symbol}{version}{where}"


@dataclass(frozen=True)
class Judgement:
    """The answer for one file on one release; ``notes`` do not change it.

    ``elsewhere`` are the libraries it needs that are neither glibc's nor scanned with it. ``borrowed`` are
    the symbols a library wants without a version, and finds only if whoever loads it has them.
    """

    answer: Answer
    missing: tuple[Missing, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    borrowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Companion:
    """A scanned file that is loaded too: its name in answers, and what it exports (None: unknown)."""

    name: str
    exports: Exports | None


@dataclass(frozen=True)
class Setting:
    """What is loaded with a file, the same for all releases.

    ``names``: name of a library -> its companion, SYSTEM (the release's) or ELSEWHERE (unknown whose).
    ``own_loader``: the loader in a place of its own that the file names was scanned with it.
    """

    names: Mapping[str, Companion | int]
    companions: tuple[Companion, ...] = ()
    own_loader: bool = False
    _wanted: dict[int, tuple[Facts, list[Import], frozenset[tuple[str, str]]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def wanted(self, facts: Facts) -> tuple[list[Import], frozenset[tuple[str, str]]]:
        """The imports of a file that a release must have, and their (version, name).

        A weak one need not be there. What is bound to a version in a library of which nothing is known is not
        among them.
        """
        found = self._wanted.get(id(facts))
        if found is None:
            known = {name for name, where in self.names.items() if where not in (ELSEWHERE, NOWHERE)}
            asked = [i for i in facts.imports if not i[3] and (i[1] == UNVERSIONED or i[2] in known)]
            found = self._wanted[id(facts)] = facts, asked, frozenset((i[1], i[0]) for i in asked)
        return found[1], found[2]

    @cached_property
    def system(self) -> frozenset[str]:
        return frozenset(name for name, where in self.names.items() if where == SYSTEM)

    @cached_property
    def nowhere(self) -> tuple[str, ...]:
        return tuple(name for name, where in self.names.items() if where == NOWHERE)

    @cached_property
    def elsewhere(self) -> tuple[str, ...]:
        return tuple(name for name, where in self.names.items() if where == ELSEWHERE)

    def brought(self, name: str, node: str, file: str) -> bool:
        """Whether a companion has the symbol that is wanted of ``file``.

        ld.so stops at an assertion if ``file`` has no versions at all.
        """
        for c in self.companions:
            if c.exports is not None and c.exports.has(name, node):
                return c.exports.versioned or node == UNVERSIONED or self.names.get(file) is not c
        return False

    @property
    def unreadable(self) -> bool:
        return any(c.exports is None for c in self.companions)


def judge(facts: Facts, release: Release, setting: Setting, *, closed: bool | None = None) -> Judgement:
    """The answer for a file, as far as it, glibc's own DSOs and its companions' symbols decide.

    ``closed``: a symbol without version that nothing loaded has is missing (by default for a program none of
    whose libraries is unknown); a library may find it in whoever loads it.
    """
    if sure := _without_release(facts, setting):
        return sure
    if release.listings is None:
        return Judgement(
            Answer.UNKNOWN, reason=f"there is no baseline of release {release.name} for {facts.arch}"
        )
    elsewhere = setting.elsewhere
    if closed is None:
        closed = facts.kind is Kind.PROGRAM and not elsewhere and not setting.unreadable
    missing = {Missing(n) for n in facts.needed if n in setting.system and n not in release.listings}
    missing |= {Missing(n, says=f"{n} is {_UNSEARCHED}") for n in setting.nowhere}
    doubts: list[str] = []
    if facts.refused:
        missing.add(Missing("", says=f"every ld.so refuses it: {facts.refused}"))
    for version, why in facts.refused_before:
        if release.glibc < version and not facts.refused:
            says = f"ld.so before glibc {version[0]}.{version[1]} refuses it: {why}"
            missing.add(Missing("", says=says))
    if facts.doubt:
        doubts.append(facts.doubt)
    _packed_relocations(facts, release, missing)
    private = _missing_nodes(facts, release, setting, missing, doubts)
    borrowed = _missing_symbols(facts, release, setting, missing, closed=closed)
    notes = (*_own_copies(setting, release), *_smaller_copies(facts, release))
    if private:
        doubts.insert(0, f"uses {PRIVATE} of {', '.join(private)}, which no release guarantees")
    if missing:
        return Judgement(Answer.FAILS, tuple(sorted(missing)), "", notes, elsewhere, borrowed)
    answer = Answer.UNKNOWN if doubts else Answer.STARTS
    return Judgement(answer, (), "; ".join(doubts), notes, elsewhere, borrowed)


def _without_release(facts: Facts, setting: Setting) -> Judgement | None:
    """The answer for a file of which no release decides."""
    if facts.own_loader and not setting.own_loader:
        why = f"{facts.alien}: it starts only where that is, and with the glibc that it belongs to"
        return Judgement(Answer.UNKNOWN, reason=why)
    if facts.kind is Kind.OTHER or facts.alien:
        return Judgement(Answer.NOT_APPLICABLE, reason=facts.alien)
    if facts.kind is Kind.STATIC and facts.doubt:
        return Judgement(Answer.UNKNOWN, reason=facts.doubt)
    if facts.kind is Kind.STATIC:
        return Judgement(Answer.STARTS, notes=("static: no loader is asked",))
    return None


def _packed_relocations(facts: Facts, release: Release, missing: set[Missing]) -> None:
    """elf/dl-version.c of glibc 2.36: DT_RELR without the requirement is refused, if libc.so.6 is needed."""
    if not facts.relr or any(RELR in need.versions for need in facts.needs):
        return  # the requirement itself is judged as any other
    if not release.applies_relr:
        says = "packed relative relocations (DT_RELR), which that loader leaves out"
        missing.add(Missing(LIBC, RELR, says=says))
    elif facts.needs and any(n.startswith("libc.so.") for n in facts.needed):
        says = f"packed relative relocations (DT_RELR) without the requirement of {RELR}"
        missing.add(Missing(LIBC, RELR, says=says))


def _missing_nodes(
    facts: Facts, release: Release, setting: Setting, missing: set[Missing], doubts: list[str]
) -> list[str]:
    """Add the required nodes that are not there; returns the DSOs whose private symbols are wanted."""
    private = []
    for need in facts.needs:
        where = setting.names.get(need.file)
        if where is None:
            says = f"requires versions of {need.file}, which is not needed (DT_NEEDED)"
            if setting.elsewhere:
                doubts.append(f"{says}: ld.so stops unless another library loads it")
            else:
                missing.add(Missing(need.file, says=f"{says}: ld.so stops"))
            continue
        if where in (ELSEWHERE, NOWHERE):
            continue
        for version in need.versions:
            if (need.file, version) in facts.misnamed and version not in need.weak:
                says = f"requires the version {version} of {need.file} with a wrong hash"
                missing.add(Missing(need.file, version, says=says))
        if isinstance(where, Companion):
            nodes = where.exports.nodes if where.exports else None
            lost = [v for v in need.versions if nodes is not None and v not in nodes and v not in need.weak]
            missing.update(Missing(need.file, version) for version in lost)
            continue
        defined = release.nodes.get(need.file)
        if defined is None:
            missing.add(Missing(need.file))
            continue
        for version in need.versions:
            if version == PRIVATE:
                private.append(need.file)
            elif defined and version not in defined and version not in need.weak and version != need.file:
                missing.add(Missing(need.file, version))
    return private


def _missing_symbols(
    facts: Facts, release: Release, setting: Setting, missing: set[Missing], *, closed: bool
) -> tuple[str, ...]:
    """Add the symbols that are not there; returns those that whoever loads a library must have."""
    wanted, keys = setting.wanted(facts)
    scope = release.scope(setting.system)
    left = keys - scope
    lone = set(missing)
    borrowed = []
    for name, version, file, _, _ in wanted if left else ():
        if (version, name) not in left:
            continue
        where = setting.names.get(file) if file else None
        if version == PRIVATE and where == SYSTEM:
            if name not in release.private.get(file, {name}):  # an own copy of another build's library
                missing.add(Missing(file, version, name))
            continue
        if setting.companions and setting.brought(name, version, file):
            continue
        if version == UNVERSIONED:
            if closed:
                missing.add(Missing("", UNVERSIONED, name))
            else:
                borrowed.append(name)
        elif where == SYSTEM:
            if Missing(file) in lone:  # the whole DSO is named already
                continue
            if release.nodes.get(file) or (UNVERSIONED, name) not in scope:
                missing.add(Missing(file, version, name))
                missing.discard(Missing(file, version))  # the symbol tells more than its node
        elif isinstance(where, Companion) and where.exports is not None:
            missing.add(_of_companion(where.exports, file, version, name))
            missing.discard(Missing(file, version))
    return tuple(borrowed)


def _of_companion(exports: Exports, file: str, version: str, name: str) -> Missing:
    """Why a companion does not give a symbol: ld.so stops at one that has no versions though it is named."""
    if not exports.versioned and exports.has(name, UNVERSIONED):
        return Missing(file, version, name, f"{name}@{version} is wanted of {file}, which has no versions")
    return Missing(file, version, name)


def _own_copies(setting: Setting, release: Release) -> list[str]:
    """Libraries of glibc that the program brings itself: they fit one build of ld.so."""
    return [
        f"brings its own {name} ({where.name})"
        for name, where in setting.names.items()
        if isinstance(where, Companion) and name in release.ours
    ]


def _smaller_copies(facts: Facts, release: Release) -> list[str]:
    """Data of which the program's copy has another size: the loader warns, and copies what fits."""
    found: list[str] = []
    for symbol in facts.copied:
        size = release.sizes.get((symbol.version, symbol.name))
        if size is not None and size != symbol.copied:
            found.append(
                f"{symbol.name}@{symbol.version} has {size} bytes there and {symbol.copied} in the program"
            )
    return found
