"""The public ABI in a report: deltas as engineers write them, symbols counted per DSO."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.declaration import Unit
from pipeline.core.outcome import Finding
from pipeline.report import view
from pipeline.signoff.records import Evidence

#: Lines of one delta on the page; all of them are in evidence.json.
MOST_LINES = 200
SIGNS = {"+": "added", "-": "removed", "~": "changed", "!": "changed"}


@dataclass(frozen=True)
class DeltaTable:
    """One comparison of one architecture; ``lines`` are (class of the sign, line)."""

    arch: str
    step: str
    finding: Finding
    lines: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)


def deltas(evidence: Evidence) -> list[DeltaTable]:
    """The findings of ``abi.delta``, by architecture and in the profile's order of steps."""
    steps = [f"{s.before} -> {s.after}" for s in evidence.profile.steps]
    found = [f for f in evidence.findings if f.check == "abi.delta"]
    names = view.order((f.target.release for f in found), steps)
    arches = view.arches_of(evidence)
    found.sort(key=lambda f: (arches.index(f.target.arch), names.index(f.target.release), f.case))
    return [DeltaTable(f.target.arch, f.target.release.replace("->", "→"), f, _lines(f)) for f in found]


def _lines(finding: Finding) -> tuple[tuple[str, str], ...]:
    """The whole delta where the check gives it as a figure, else what it saw."""
    whole = finding.measures.get("delta")
    lines = (whole if isinstance(whole, str) else finding.seen).splitlines() or ["no difference"]
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"… and {len(lines) - MOST_LINES} more in evidence.json"]
    return tuple((SIGNS.get(line.strip()[:1], ""), line) for line in lines)


@dataclass(frozen=True)
class SymbolCounts:
    """Public symbols per DSO and release of one architecture, as ``abi.baseline`` counted them."""

    arch: str
    releases: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def symbol_counts(evidence: Evidence) -> list[SymbolCounts]:
    """From the measures of ``abi.baseline`` that count the symbols of one DSO."""
    made = []
    for arch in view.arches_of(evidence):
        counts: dict[str, dict[str, str]] = {}
        for f in evidence.findings:
            if f.check == "abi.baseline" and f.target.arch == arch:
                declared = evidence.declared[f.check]
                for name, value in declared.of_unit(Unit.SYMBOLS, f.measures).items():
                    if (measure := declared.measure(name)) and (dso := measure.of(name)):
                        counts.setdefault(dso, {})[f.target.release] = str(value)
        if counts:
            releases = view.order((r for row in counts.values() for r in row), evidence.profile.releases)
            rows = tuple((d, tuple(row.get(r, "") for r in releases)) for d, row in sorted(counts.items()))
            made.append(SymbolCounts(arch, tuple(releases), rows))
    return made
