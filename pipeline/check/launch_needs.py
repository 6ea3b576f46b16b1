"""The programs of the launch matrix, and what they need of the rseq symbols' version node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline import elf
from pipeline.check import Material, StaticCheck
from pipeline.core.declaration import Declaration, Scope
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Finding, Outcome, Question
from pipeline.profile import for_arch

RSEQ, STATIC = "launch-rseq", "launch-static-pie"
#: What each program prints (pipeline/probes/launch/); that of the rseq program depends on the release.
PRINTS: Mapping[str, Mapping[str, Any]] = {
    "launch-plain": {"ordered": True, "sum": 21424971118696, "text": "250.000 .", "locale": "C"},
    RSEQ: {"flags": 0, "aligned": True},
    "launch-threads": {"threads": 8, "counter": 80000, "in_threads": 80000, "in_main": 0, "turns": 8},
    "launch-cxx": {"caught": "thrown in a thread", "words": {"one": 1, "two": 2, "three": 3}},
    STATIC: {"twice": 42, "square": 49, "text": "self-relocated", "in_thread": 21, "in_main": 1},
}

Pairs = frozenset[tuple[str, str]]


def rseq_pairs(material: Material) -> Pairs:
    """(DSO, node) of the public rseq symbols."""
    lines = for_arch(material.profile.rseq.symbols, material.arch)
    return frozenset((dso, node) for dso, node, *_ in (line.split() for line in lines))


def needed_pairs(material: Material, program: str) -> Pairs | None:
    """(DSO, node) that a compiled program requires, None if it was not compiled.

    A weak need is none: ld.so starts the program without it (elf/dl-version.c).
    Raises `MalformedInput` if it is no ELF file.
    """
    path = material.programs / program
    if not path.is_file():
        return None
    needs = elf.read(path).needs
    return frozenset((need.file, v) for need in needs for v in need.versions if v not in need.weak)


def _named(pairs: Pairs) -> str:
    return ", ".join(f"{node} of {dso}" for dso, node in sorted(pairs)) or "none"


class Needs(StaticCheck):
    """Only the program that uses the rseq symbols needs their node, and of ld.so alone."""

    declared = Declaration(
        name="launch.needs",
        question="Does only the rseq program need the new node?",
        scope=Scope.NEWEST,
    )

    def questions(self, material: Material) -> list[Question]:
        target = material.target(material.profile.build_against)
        return [Question(check=self.name, target=target, case=program) for program in PRINTS]

    def run(self, material: Material) -> list[Finding]:
        return [self._judge(material, question) for question in self.questions(material)]

    def _judge(self, material: Material, question: Question) -> Finding:
        program, node = question.case, material.profile.rseq.node
        wanted = rseq_pairs(material) if program == RSEQ else frozenset()
        outcome, seen = material.not_compiled(program) or (Outcome.MISSING, "it was not compiled")
        try:
            needs = needed_pairs(material, program)
            if needs is not None:
                named = frozenset(p for p in needs if p[1] == node)
                outcome = Outcome.PASS if named == wanted else Outcome.FAIL
                seen = f"needs {node}: {_named(named)}"
                if program == STATIC and (interp := elf.read(material.programs / program).interp):
                    outcome, seen = Outcome.FAIL, f"{seen}; not static: it names the loader {interp}"
        except MalformedInput as e:
            outcome, seen = Outcome.ERROR, e.message
        return Finding(
            **question.model_dump(), outcome=outcome, expected=f"needs {node}: {_named(wanted)}", seen=seen
        )


CHECKS = (Needs(),)
