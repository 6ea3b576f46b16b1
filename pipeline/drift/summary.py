"""A run of drift as a table for the terminal, and as Markdown that an issue can be opened with."""

from __future__ import annotations

from collections.abc import Iterable

from tabulate import tabulate

from pipeline.drift.record import ChangeRecord, DriftRecord, LookRecord, Sight

#: Symbols that an issue lists of one look; the JSON has them all. An issue's body is bounded.
MOST = 200
_BACKTICK = str.maketrans({"`": "'", "\n": " ", "|": "/"})


def _size(size: int | None) -> str:
    return "" if size is None else f" {size:#x}"


def symbol_line(change: ChangeRecord) -> str:
    """``+ ld-linux-x86-64.so.2: GLIBC_2.35 __rseq_size D 0x4 (glibc-2.34-40.el9)``."""
    mark = " (changed)" if change.changed else ""
    package = f" ({change.package})" if change.package else ""
    what = f"{change.dso}: {change.node} {change.symbol} {change.kind}{_size(change.size)}"
    return f"{change.sign} {what}{mark}{package}"


def dso_lines(look: LookRecord) -> list[str]:
    """DSOs that came, went, or have another soname."""
    lines = []
    for change in look.whole_dsos:
        package = f" ({change.package})" if change.package else ""
        if change.what == "soname":
            lines.append(
                f"! {change.dso}: soname {change.before or '(none)'} -> {change.after or '(none)'}{package}"
            )
        else:
            sign = "+" if change.what == "appeared" else "-"
            lines.append(f"{sign} {change.dso}: the whole DSO{package}")
    return lines


def lines_of(look: LookRecord) -> list[str]:
    """All differences of a look; the symbols of a DSO that came or went as a whole are not repeated."""
    whole = {d.dso for d in look.whole_dsos if d.what != "soname"}
    return dso_lines(look) + [symbol_line(c) for c in look.changes if c.dso not in whole]


def counts(look: LookRecord) -> str:
    """``+3 -0 symbols``, or the reason there is none."""
    if look.sight in (Sight.COULD_NOT_LOOK.value, Sight.NOTHING.value):
        return look.message
    if look.sight == Sight.NO_DRIFT.value:
        return f"{look.symbols} symbols in {look.dsos} DSOs are the same"
    plus = sum(c.sign == "+" for c in look.changes)
    dsos = f", {len(look.whole_dsos)} whole DSOs" if look.whole_dsos else ""
    return f"+{plus} -{len(look.changes) - plus} symbols{dsos}"


def table(drift: DriftRecord) -> str:
    """One row a look."""
    rows = [[x.source, x.arch, x.nvr or "-", x.sight, x.against, counts(x)] for x in drift.looks]
    headers = ["source", "arch", "published", "outcome", "compared with", "what"]
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True,
                    maxcolwidths=[None, None, None, None, 40, 60])  # fmt: skip


def markdown(drift: DriftRecord) -> str:
    """The run for people who read it later; it begins with what they should do."""
    drifting = [x for x in drift.looks if x.sight == Sight.DRIFT.value]
    blind = [x for x in drift.looks if x.sight == Sight.COULD_NOT_LOOK.value]
    if drifting:
        title = "The published glibc has drifted: " + ", ".join(f"{x.source} {x.arch}" for x in drifting)
    elif blind:
        title = "Drift could not be looked for everywhere"
    else:
        title = "No drift found"
    rows = [
        [x.source, x.arch, _cell(x.nvr or "-"), f"**{x.sight}**", _cell(x.against), _cell(counts(x))]
        for x in drift.looks
    ]
    headers = ["source", "arch", "published", "outcome", "compared with", "what"]
    parts = [f"# {title}", tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)]
    for look in drifting:
        parts += list(_drifting(look))
    for look in blind:
        parts.append(
            f"`{look.source}` for {look.arch} could not be looked at. What to do: {_cell(look.hint)}"
        )
    parts.append(f"Looked at {drift.at} by {drift.tool}; exit code {drift.exit_code}.")
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.translate(_BACKTICK)


def _drifting(look: LookRecord) -> Iterable[str]:
    yield f"## {look.source} {look.arch}: {_cell(look.nvr)}"
    yield f"Compared with {_cell(look.against)}. `+` is new, `-` is gone, `(changed)`: another kind or size."
    lines = lines_of(look)
    shown = "\n".join(line.replace("`", "'") for line in lines[:MOST])
    yield f"```diff\n{shown}\n```"
    if len(lines) > MOST:
        yield f"... and {len(lines) - MOST} more lines, which the JSON has (`drift --json FILE`)."
    packages = "\n".join(f"- `{_cell(p.file)}` sha256 `{p.sha256}`" for p in look.packages)
    yield f"Packages:\n{packages}"
    yield (
        "If this is meant, refresh the baseline (see `abi-baselines/README.md`); if not, a release that is "
        "held to that baseline is not what the distribution ships."
    )
