"""Is the table of tunables the same from release to release? libc.so.6 asks ld.so for them by number.

While an update runs a process may have the old one of the two and the new one of the other, and a table that
was ordered anew has made programs crash (upstream 0ea8174d62). What a backport adds is one default.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.abi.files import ElfFile
from pipeline.check import Material
from pipeline.check.abi_facts import Fact, built_files
from pipeline.check.packages import judged
from pipeline.check.updating import OURS, EachStep
from pipeline.core.declaration import Declaration, Scope, Unit, measured
from pipeline.core.errors import EvidenceError
from pipeline.elf import tunables
from pipeline.profile import Step


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
        before, after = (tunables.table(_loader(material, r).binary) for r in (step.before, step.after))
        ours = material.profile.rseq.tunable
        old, new = (material.profile.get(r).rseq_default for r in (step.before, step.after))
        faults = table_faults(before, after, ours, changes=old != new)
        return judged(self.expected, f"{len(after)} tunables, the same", faults, {"tunables": len(after)})


def table_faults(
    before: Mapping[str, bytes], after: Mapping[str, bytes], ours: str, *, changes: bool
) -> list[str]:
    """What differs between two tables; ``changes``: the default of the tunable ``ours`` must."""
    faults = [f"- {name}" for name in before if name not in after]
    faults += [f"+ {name}" for name in after if name not in before]
    if not faults and list(before) != list(after):
        moved = [name for name, was in zip(after, before, strict=True) if name != was]
        faults.append(f"numbers differ, from {moved[0]} on")
    for name in before.keys() & after.keys():
        differ = sum(a != b for a, b in zip(before[name], after[name], strict=False))
        differ += abs(len(before[name]) - len(after[name]))
        if differ != (1 if name == ours and changes else 0):
            faults.append(f"{name}: {differ} bytes of its row differ")
    return sorted(faults)


def _loader(material: Material, release: str) -> ElfFile:
    for file in built_files(material, release).values():
        if file.name == material.arch.loader:
            return file
    raise EvidenceError(f"{release} has no {material.arch.loader}", hint="build the release again")


CHECKS = (Tunables(),)
