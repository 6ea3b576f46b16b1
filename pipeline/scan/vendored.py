"""Libraries that come along: a program whose own library fails on a release fails there too.

Files of one input (a wheel with its ``.libs``, a directory, an RPM) are taken to be used together. A needed
library that is not glibc's is looked for among them by soname or base name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.scan.inputs import Item
from pipeline.scan.judge import Answer, Judgement

Judged = tuple[Item, Mapping[str, Judgement]]


def with_companions(found: Sequence[Judged]) -> list[dict[str, Judgement]]:
    """The judgements of files, each with what its companions' judgements bring it."""
    by_name: dict[tuple[str, str], list[int]] = {}
    for number, (item, _) in enumerate(found):
        if item.facts and not item.facts.alien:
            base = (item.member or item.file).rpartition("/")[2]
            for name in {item.facts.soname, base} - {""}:
                by_name.setdefault((item.facts.arch, name), []).append(number)
    companions: dict[int, dict[str, list[int]]] = {}
    judged = [dict(judgements) for _, judgements in found]
    for number, (item, judgements) in enumerate(found):
        wanted = {name for j in judgements.values() for name in j.elsewhere}
        arch = item.facts.arch if item.facts else ""
        own = {name: by_name[arch, name] for name in sorted(wanted) if (arch, name) in by_name}
        if own:
            companions[number] = own
            for release, j in judgements.items():
                left = tuple(n for n in j.elsewhere if n not in own)
                judged[number][release] = replace(j, elsewhere=left)
    while _carried_on(found, companions, judged):  # an answer only ever gets worse, so this ends
        pass
    return judged


def _carried_on(
    found: Sequence[Judged],
    companions: Mapping[int, Mapping[str, Sequence[int]]],
    judged: list[dict[str, Judgement]],
) -> bool:
    """Carry answers one step from libraries to those who need them; whether any answer changed."""
    changed = False
    for number, libraries in companions.items():
        for release, own in judged[number].items():
            new = own
            for name, numbers in libraries.items():
                copies = [(found[n][0].name, judged[n][release]) for n in numbers]
                new = _with_library(new, name, copies)
            if new.answer is not own.answer:
                judged[number][release] = new
                changed = True
    return changed


def _with_library(own: Judgement, name: str, copies: Sequence[tuple[str, Judgement]]) -> Judgement:
    """``copies`` are the files that may be the library ``name``, of which one will be loaded."""
    answers = {j.answer for _, j in copies} - {Answer.NOT_APPLICABLE}
    if answers == {Answer.FAILS} and own.answer in (Answer.STARTS, Answer.UNKNOWN):
        file, library = next((f, j) for f, j in copies if j.answer is Answer.FAILS)
        return replace(own, answer=Answer.FAILS, missing=library.missing, reason=f"its library {file} fails")
    if answers - {Answer.STARTS} and own.answer is Answer.STARTS:
        return replace(own, answer=Answer.UNKNOWN, reason=f"the {name} that comes along may not start")
    return own
