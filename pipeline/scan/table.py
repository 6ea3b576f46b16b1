"""What a person reads in a terminal of 100 columns: one line a file, reasons below, a summary by cause."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from pipeline.scan import Scan, Scanned
from pipeline.scan.causes import aggravations, broken_promise, causes_of, since_of, ways_out
from pipeline.scan.judge import Answer, Judgement

WIDTH = 100
_SHORT = {
    Answer.STARTS: "yes",
    Answer.FAILS: "NO",
    Answer.UNKNOWN: "?",
    Answer.NOT_APPLICABLE: "-",
}
LEGEND = "yes: starts; if: starts if the libraries named below are there; NO: fails; ?: not judged"
#: Lines of reasons for one file, and lines of causes; JSON and SARIF have them all.
MOST_LINES, MOST_CAUSES, MOST_NAMES = 8, 12, 6


def text_of(scan: Scan, *, failing: bool) -> str:
    """The whole text, "" if nothing is to be shown."""
    shown = [f for f in scan.files if not failing or f.answers - {Answer.STARTS, Answer.NOT_APPLICABLE}]
    if not shown:
        return "\n".join(_requires(scan))
    parts = [_table(scan, shown), LEGEND, *_reasons(shown), *_elsewhere(shown), *_causes(scan)]
    parts += _requires(scan)
    return "\n".join(parts)


def shortened(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns: the middle is left out, more of the end is kept."""
    if len(text) <= width:
        return text
    start = (width - 3) // 3
    return f"{text[:start]}...{text[len(text) - (width - 3 - start) :]}"


def _table(scan: Scan, shown: list[Scanned]) -> str:
    heads = [f"{r}{'*' * (r in scan.derived)}" for r in scan.releases]
    widths = [max(len(h), 3) for h in heads]
    arches = [f.item.facts.arch if f.item.facts else "?" for f in shown]
    arch_width = max(len(a) for a in [*arches, "arch"])
    rest = arch_width + 2 + sum(w + 1 for w in widths)
    file_width = min(max(len(f.item.name) for f in shown), max(WIDTH - rest, 24))
    file_width = max(file_width, len(scan.profile) + 5)

    def line(file: str, arch: str, cells: list[str]) -> str:
        padded = " ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True))
        return f"{file.ljust(file_width)} {arch.ljust(arch_width)} {padded}".rstrip()

    lines = [line("file", "arch", heads), line("-" * file_width, "-" * arch_width, ["-" * w for w in widths])]
    for file, arch in zip(shown, arches, strict=True):
        cells = [_word(file.judgements[r]) for r in scan.releases]
        lines.append(line(shortened(file.item.name, file_width), arch, cells))
    return "\n".join(lines)


def _word(judgement: Judgement) -> str:
    """The answer in a word; glibc does not decide alone where other libraries are needed."""
    if judgement.answer is Answer.STARTS and judgement.elsewhere:
        return "if"
    return _SHORT[judgement.answer]


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip


def _reasons(shown: list[Scanned]) -> Iterator[str]:
    first = True
    for file in shown:
        lines = why(file)
        if not lines:
            continue
        if first:
            yield "\nwhy:"
            first = False
        yield f"  {shortened(file.item.name, WIDTH - 2)}"
        for line in lines:
            yield _wrapped(line, "    ")


def why(scanned: Scanned) -> list[str]:
    """The reasons in few lines; what is the same on several releases is said once."""
    lines: dict[str, list[str]] = {}
    for release, judgement in scanned.judgements.items():
        for line in _lines(scanned, judgement):
            lines.setdefault(line, []).append(release)
    every = len(scanned.judgements)
    told = [line if len(names) == every else f"{', '.join(names)}: {line}" for line, names in lines.items()]
    promise = broken_promise(scanned.item)
    if promise:
        told.insert(0, promise)
    if scanned.answers - {Answer.STARTS, Answer.NOT_APPLICABLE} and scanned.item.facts:
        told += [f"remark: it {remark}" for remark in scanned.item.facts.remarks]
    if len(told) > MOST_LINES:
        told = [*told[: MOST_LINES - 1], f"... and {len(told) - MOST_LINES + 1} more (see --json)"]
    return told


def _lines(scanned: Scanned, judgement: Judgement) -> Iterator[str]:
    nodes: dict[tuple[str, str], list[str]] = {}
    for missing in judgement.missing:
        if missing.symbol and not missing.says:
            nodes.setdefault((missing.dso, missing.node), []).append(missing.symbol)
        else:
            yield missing.sentence + _since(missing.node if not missing.says else "")
    for (dso, node), symbols in nodes.items():
        version = "" if node == "-" else f"@{node}"
        where = f" in {dso}" if dso else ""
        more = f" and {len(symbols) - MOST_NAMES} more" if len(symbols) > MOST_NAMES else ""
        yield f"no {', '.join(f'{s}{version}' for s in symbols[:MOST_NAMES])}{more}{where}{_since(node)}"
        yield from _users(scanned, node, symbols)
    if judgement.reason:
        yield judgement.reason
    if judgement.answer is Answer.FAILS:
        if scanned.item.facts:
            yield from aggravations(scanned.item.facts, judgement.missing)
        if judgement.elsewhere:
            yield f"needs {', '.join(judgement.elsewhere)} from elsewhere, which was not judged"
    yield from judgement.notes


def _users(scanned: Scanned, node: str, symbols: list[str]) -> Iterator[str]:
    """Which functions use the symbols; a library's symbols are explained at the library."""
    facts = scanned.item.facts
    own = [s for s in symbols if facts and (node, s) in facts.wanted]
    known = {s: scanned.users[s, node] for s in own if (s, node) in scanned.users}
    for symbol, names in list(known.items())[:MOST_NAMES]:
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        yield f"{symbol} is used by {', '.join(names[:MOST_NAMES])}{more}"
    if own and not known:
        yield "which functions use it is unknown (no symbol table names them)"


def _requires(scan: Scan) -> Iterator[str]:
    """Each versioned Requires of the RPMs with its causes."""
    package = ""
    for one in scan.requires:
        if one.package != package:
            package = one.package
            yield f"\nrequires of {shortened(package, WIDTH - 12)}:"
        yield f"  {one.requirement}{_since(one.node)}"
        for cause in one.causes[:MOST_LINES]:
            names = ", ".join(cause.symbols[:MOST_NAMES]) or "no symbol, only the version itself"
            more = f" and {len(cause.symbols) - MOST_NAMES} more" if len(cause.symbols) > MOST_NAMES else ""
            weak = " (all weak)" if cause.weak else ""
            yield _wrapped(f"{cause.file}: {names}{more}{weak}", "    ")
        if len(one.causes) > MOST_LINES:
            yield f"    ... and {len(one.causes) - MOST_LINES} more files (see --json)"
        if not one.causes:
            yield "    no file that is read asks for it: the spec or another generator wrote it"


def _since(node: str) -> str:
    since = since_of(node)
    return f" (since glibc {since})" if since else ""


def _elsewhere(shown: list[Scanned]) -> Iterator[str]:
    """The libraries that are neither scanned nor glibc's, with how many files want each."""
    wanted: dict[str, int] = {}
    for file in shown:
        conditions = [j.elsewhere for j in file.judgements.values() if j.answer is Answer.STARTS]
        for name in dict.fromkeys(n for names in conditions for n in names):
            wanted[name] = wanted.get(name, 0) + 1
    if not wanted:
        return
    most = sorted(wanted, key=lambda n: (-wanted[n], n))
    yield "\nif these are there, which are neither glibc's nor scanned:"
    named = [f"{n} ({wanted[n]} files)" if wanted[n] > 1 else n for n in most[:20]]
    more = f" and {len(most) - 20} more" if len(most) > 20 else ""
    yield _wrapped(", ".join(named) + more, "  ")


def _causes(scan: Scan) -> Iterator[str]:
    causes = causes_of((f.item, f.judgements) for f in scan.files)
    if not causes:
        return
    yield "\ncauses:"
    for cause in causes[:MOST_CAUSES]:
        names = sorted(cause.symbols)
        symbols = f": {', '.join(names[:MOST_NAMES])}" if names else ""
        symbols += f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        files = f"{len(cause.files)} file{'s' * (len(cause.files) != 1)}"
        yield _wrapped(f"{cause.title}{symbols} ({files}; not on {', '.join(cause.releases)})", "  ")
    if len(causes) > MOST_CAUSES:
        yield f"  ... and {len(causes) - MOST_CAUSES} more (see --json)"
    ways = ways_out(causes)
    if ways:
        yield "\nwhat usually helps:"
        yield from (_wrapped(f"- {way}", "  ") for way in ways)
