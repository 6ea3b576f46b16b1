"""Are the tunables those of the base, and from release to release the same?

libc.so.6 asks ld.so for them by number. While an update runs a process may have the old one of the two and
the new one of the other, and a table that was ordered anew has made programs crash (upstream 0ea8174d62).
What a backport adds is one default. That releases agree says nothing of a table that is wrong alike in all:
so each is compared with the committed one, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.abi import traits
from pipeline.abi.files import ElfFile
from pipeline.check import Material
from pipeline.check.abi_details import absent
from pipeline.check.abi_facts import EachRelease, Fact, baseline_path, built_files, shown
from pipeline.check.packages import judged
from pipeline.check.rpm import is_foreign
from pipeline.check.updating import OURS, EachStep
from pipeline.core import ar
from pipeline.core.declaration import Declaration, Scope, Unit, measured
from pipeline.core.errors import EvidenceError, MalformedInput
from pipeline.core.outcome import Outcome
from pipeline.elf import tunables
from pipeline.elf.tunables import Tunable
from pipeline.profile import Step
from pipeline.rpm.payload import inside

ARCHIVE, MEMBER = "usr/lib64/libc.a", "dl-tunables.o"


class Tunables(EachStep):
    """Same tunables, numbers, bounds, aliases and security levels; rseq's default alone may differ."""

    declared = Declaration(
        name="abi.tunables",
        measures=measured(Unit.COUNT, "tunables"),
        question=(
            "From release to release, are all tunables the same, with their numbers, bounds, aliases and "
            "defaults, but for the default of rseq's?"
        ),
        scope=Scope.STEP,
        when=OURS,
    )
    expected = "the same table, row by row; of rseq's tunable the default as the releases have it"

    def ask(self, material: Material, step: Step) -> Fact:
        before, after = (_table(_loader(material, r)) for r in (step.before, step.after))
        ours = material.profile.rseq.tunable
        faults = step_faults(before, after, ours, material.profile.get(step.after).rseq_default)
        return judged(self.expected, f"{len(after)} tunables, the same", faults, {"tunables": len(after)})


def step_faults(
    before: Mapping[str, Tunable], after: Mapping[str, Tunable], ours: str, default: int
) -> list[str]:
    """What differs between two tables, where the tunable ``ours`` must have the later release's default."""
    expected = {n: t._replace(default=default) if n == ours else t for n, t in before.items()}
    return tunables.difference(expected, after)


class TunablesBaseline(EachRelease):
    """Every tunable of the committed table is there as it was, in the loader and in libc.a.

    Of our own series the tables are equal. Another maker's series may bring tunables of its own, which are
    shown: whether they may be there is that maker's to say, and no program of the base knows them. It may not
    change or take away one of the base's, which users set. Numbers are between that maker's own releases.
    """

    declared = Declaration(
        name="tunables.baseline",
        measures=measured(Unit.COUNT, "tunables", "more"),
        question=(
            "Is every tunable of the committed table there, with its type, bounds, default, security level "
            "and older variable, in the loader and in libc.a?"
        ),
    )
    about = "a committed table of tunables that can be read"

    def ask(self, material: Material, release: str) -> Fact:
        loader = _loader(material, release)
        found = _table(loader)
        base = material.committed(release)
        if base is None or traits.TUNABLES not in base.traits:
            return absent(material, release, traits.TUNABLES, {"tunables": len(found)})
        known = base.traits[traits.TUNABLES].get(loader.name, ())
        lines = tuple(tunable.line for tunable in found.values())
        foreign = is_foreign(material.built[release])
        names = {line.partition(" ")[0] for line in known}
        more = [line for line in lines if foreign and line.partition(" ")[0] not in names]
        faults = traits.difference(
            {loader.name: _in_order(known, foreign=foreign)},
            {loader.name: _in_order([x for x in lines if x not in more], foreign=foreign)},
        )
        faults += [f"libc.a: {fault}" for fault in _archive_faults(material, release, found)]
        words = [shown(faults) or f"{len(lines)} tunables, no difference"]
        return Fact(
            Outcome.FAIL if faults else Outcome.PASS,
            f"{len(known)} tunables as committed (made from {base.provenance.origin}), the same in libc.a",
            "\n".join([*words, *(f"the series has one more: {line}" for line in more)]),
            (f"{baseline_path(material.target(release))}/{traits.TUNABLES}",),
            {"tunables": len(lines), "more": len(more)},
        )


def _in_order(lines: Sequence[str], *, foreign: bool) -> tuple[str, ...]:
    """The lines in the table's order, which is that of numbers; sorted where those are not compared."""
    return tuple(sorted(lines)) if foreign else tuple(lines)


def _archive_faults(material: Material, release: str, loader: Mapping[str, Tunable]) -> list[str]:
    """What libc.a, if there is one, says otherwise than the loader: a static program has its own table."""
    file = inside(material.built[release].root, ARCHIVE)
    if not file.is_file():
        return []
    with file.open("rb") as archive:
        member = next((m for m in ar.members(archive, ARCHIVE) if m.name == MEMBER), None)
        if member is None:
            return [f"it has no {MEMBER}"]
        data = ar.Part(archive, member).read()
    try:
        return tunables.difference(loader, tunables.tunables(data, f"{ARCHIVE}({MEMBER})"))
    except MalformedInput as e:
        return [e.message]


def _table(loader: ElfFile) -> dict[str, Tunable]:
    return tunables.tunables(bytes(loader.binary.data), loader.path)


def _loader(material: Material, release: str) -> ElfFile:
    for file in built_files(material, release).values():
        if file.name == material.arch.loader:
            return file
    raise EvidenceError(f"{release} has no {material.arch.loader}", hint="build the release again")


CHECKS = (Tunables(), TunablesBaseline())
