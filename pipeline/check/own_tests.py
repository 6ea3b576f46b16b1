"""glibc's own tests, where the build ran them (``build --check``): UNSUPPORTED counts as MISSING.

A wrapper that maps "unsupported" to success once hid that the rseq tests had stopped testing anything.
"""

from __future__ import annotations

from pipeline.check import Material, StaticCheck
from pipeline.core.declaration import Declaration
from pipeline.core.outcome import Finding, Outcome, Question
from pipeline.core.records import Built

#: What glibc's test wrapper writes -> what it means here. An expected failure (XFAIL) is still no answer.
WORDS = {"PASS": Outcome.PASS, "FAIL": Outcome.FAIL, "XPASS": Outcome.FAIL}
#: The ABI check leaves one result a library; at least these libraries must have one.
ABI = ("check-abi-ld", "check-abi-libc", "check-abi-libm")


class OwnTests(StaticCheck):
    """One question for each test the profile names and each library's ABI check."""

    declared = Declaration(
        name="glibc.tests",
        question="Do glibc's own rseq and sched tests and its ABI check pass in the build?",
        release_grade=False,
        when="the build ran them (`--check`)",
    )

    def questions(self, material: Material) -> list[Question]:
        return [
            Question(check=self.name, target=material.target(release), case=test)
            for release, built in material.built.items()
            for test in self._tests(material, release, built)
        ]

    def run(self, material: Material) -> list[Finding]:
        return [
            self._finding(material, release, test, built.manifest.own_tests or {})
            for release, built in material.built.items()
            for test in self._tests(material, release, built)
        ]

    def _tests(self, material: Material, release: str, built: Built) -> list[str]:
        """All tests asked for, and whatever else left a result; none if the build left them out."""
        results = built.manifest.own_tests
        if results is None:
            return []
        return list(dict.fromkeys((*material.profile.tests_of(release), *_abi(results), *results)))

    def _finding(self, material: Material, release: str, test: str, results: dict[str, str]) -> Finding:
        word = results.get(test)
        return Finding(
            check=self.name,
            target=material.target(release),
            case=test,
            outcome=Outcome.MISSING if word is None else WORDS.get(word, Outcome.MISSING),
            expected="PASS",
            seen=word or "no result",
            evidence=(f"build {material.built[release].manifest.key}: results/tests.sum",),
        )


def _abi(results: dict[str, str]) -> list[str]:
    """The ABI checks that must have left a result, by the names glibc gives them (``elf/check-abi-ld``)."""
    return [next((r for r in results if r.rpartition("/")[2] == name), name) for name in ABI]
