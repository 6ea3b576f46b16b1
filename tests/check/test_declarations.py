"""A check is declared once: whatever else is said of it anywhere is made from its declaration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from markupsafe import escape
from pydantic import ValidationError

from pipeline import profile as profiles
from pipeline.check import Material, StaticCheck, document, registry
from pipeline.core.declaration import Declaration, Need, Scope, Unit, by_name, measured
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question, Target
from pipeline.report import html, markdown, terminal
from pipeline.signoff.completeness import may_decline
from pipeline.verify.run_checks import typed, verify
from tests.check import probe_kit
from tests.report.factory import draft, place, release_grade


class NewCheck(StaticCheck):
    """A check that no other part of the pipeline knows."""

    declared = Declaration(name="test.new", question="Is this check found everywhere?")

    def questions(self, material: Material) -> list[Question]:
        return [Question(check=self.name, target=material.target(r)) for r in material.built]

    def run(self, material: Material) -> list[Finding]:
        return [
            Finding(**q.model_dump(), outcome=Outcome.PASS, expected="yes", seen="yes")
            for q in self.questions(material)
        ]


@pytest.mark.parametrize("file", list(document.documents()), ids=lambda p: p.name)
def test_documents_are_made_from_the_declarations(file: Path) -> None:
    assert file.read_text() == document.documents()[file], "run `python -m pipeline.check.document`"


def test_a_check_added_to_the_registry_is_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "STATIC", (*registry.STATIC, NewCheck()))
    question = NewCheck.declared.question
    # documents
    assert all(question in text for text in document.documents().values())
    # evidence and reports
    profile = profiles.load("bookworm")
    built = probe_kit.material(machine="x86_64").built
    made = verify(
        profile, profiles.targets(profile, (), ("x86_64",)), {"x86_64": built},
        programs=lambda _: Path("/nonexistent"), sites=lambda *_: [],
        static=(NewCheck(),), watched=(), command="nox -s verify",
    )  # fmt: skip
    assert made.declared["test.new"] == NewCheck.declared
    assert [f.outcome for f in made.findings if f.check == "test.new"] == [Outcome.PASS] * 3
    for text in (html.render(made), markdown.render(made), terminal.render(made)):
        assert "test.new" in text
    # completeness and release grade: a complete draft has it, one without an answer of it lacks it
    whole = release_grade()
    assert whole.evidence().release_grade
    without = release_grade()
    without.findings = [f for f in without.findings if f.check != "test.new"]
    assert without.evidence().verdict is Outcome.MISSING
    without.questions = [q for q in without.questions if q.check != "test.new"]
    assert without.evidence().grade_reasons == (
        "not asked for x86_64: test.new", "not asked for aarch64: test.new",
    )  # fmt: skip


def test_the_title_on_the_page_is_the_question() -> None:
    text = html.render(draft().evidence())
    asked = {f.check for f in draft().findings}
    for check in registry.declarations():
        if check.name in asked:
            assert escape(check.question) in text


def test_two_checks_of_one_name_are_refused() -> None:
    one = Declaration(name="a.b", question="Is it?")
    with pytest.raises(ValueError, match=r"two checks are called a\.b"):
        by_name([one, one])


@pytest.mark.parametrize("wrong", [{"name": "nodot"}, {"question": "Not a question"}, {"name": "A.b"}])
def test_a_declaration_is_checked(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Declaration.model_validate({"name": "a.b", "question": "Is it?", **wrong})


@pytest.mark.parametrize(
    ("needs", "emulation", "declines"),
    [
        ((), "user", False), ((), "tcg", False), ((), "", False),
        ((Need.RSEQ,), "user", True), ((Need.RSEQ,), "tcg", False), ((Need.RSEQ,), "", False),
        ((Need.TIME,), "user", True), ((Need.TIME,), "tcg", True), ((Need.TIME,), "", False),
        ((Need.TWO_CPUS,), "user", False),
    ],
)  # fmt: skip
def test_only_what_a_check_needs_may_be_declined(
    needs: tuple[Need, ...], emulation: str, declines: bool
) -> None:
    check = Declaration(name="a.b", question="Is it?", needs=needs)
    assert may_decline(place("p", "aarch64", "6.1", emulation), check) is declines
    assert not may_decline(place("p", "aarch64", "6.1", emulation), None)


TIMES = Declaration(
    name="a.b",
    question="Is it?",
    measures=(
        *measured(Unit.NANOSECONDS, "*_ns"), *measured(Unit.SYMBOLS, "*_symbols"),
        *measured(Unit.TEXT, "delta"), *measured(Unit.COUNT, "files"),
    ),
)  # fmt: skip


def test_a_measure_has_the_unit_that_its_check_declares() -> None:
    carried = {"on_ns": [1.0, 2], "libc.so.6_symbols": 3, "delta": "+ x", "files": 4, "else_ns": 5, "_ns": 6}
    assert TIMES.of_unit(Unit.NANOSECONDS, carried) == {"on_ns": [1.0, 2], "else_ns": 5}
    assert TIMES.of_unit(Unit.BYTES, carried) == {}
    symbols = TIMES.measure("libc.so.6_symbols")
    assert symbols is not None
    assert symbols.of("libc.so.6_symbols") == "libc.so.6"
    assert TIMES.undeclared(carried) == ["_ns"]


@pytest.mark.parametrize(
    "carried",
    [{"files": "4"}, {"files": True}, {"on_ns": [1, "2"]}, {"delta": 3}, {"delta": ["x"]}, {"new": 1}],
)
def test_a_measure_of_another_type_is_not_as_declared(carried: dict[str, object]) -> None:
    assert TIMES.undeclared(carried) == sorted(carried)
    finding = Finding(
        check="a.b", target=Target(profile="p", release="r", arch="x86_64"), outcome=Outcome.PASS,
        expected="e", seen="s", measures=carried,
    )  # fmt: skip
    judged = typed(TIMES, finding)
    assert judged.outcome is Outcome.ERROR
    assert judged.seen.startswith(f"{next(iter(carried))}: not as a.b declares its measures")
    assert typed(TIMES, finding.model_copy(update={"measures": {"files": 4}})).outcome is Outcome.PASS


@pytest.mark.parametrize("name", ["a-b", "*x*", "a b"])
def test_a_measures_name_is_plain(name: str) -> None:
    with pytest.raises(ValidationError):
        measured(Unit.COUNT, name)


AGREED = [
    line.split(" | ")
    for line in Path(__file__).with_name("declared.txt").read_text().splitlines()
    if not line.startswith("#")
]


def facts(check: Declaration) -> list[str]:
    """The facts of a check in the form of ``declared.txt``."""
    return [
        check.name, ", ".join(check.needs) or "-", check.scope.name.lower(),
        "grade" if check.release_grade else "no grade", check.only_at or "-", check.when or "-",
    ]  # fmt: skip


def test_the_declared_facts_are_the_agreed_ones() -> None:
    """Documents are made from the declarations; a fact changed by mistake would only be documented."""
    assert [facts(check) for check in registry.declarations()] == AGREED, "see tests/check/declared.txt"


def mutants(check: Declaration) -> Iterator[tuple[str, Declaration]]:
    """The declaration with one fact of it changed, and which."""
    for need in Need:
        yield f"needs {need}", check.model_copy(update={"needs": tuple({*check.needs} ^ {need})})
    for scope in set(Scope) - {check.scope}:
        yield f"scope {scope}", check.model_copy(update={"scope": scope})
    yield "release_grade", check.model_copy(update={"release_grade": not check.release_grade})
    yield "only_at", check.model_copy(update={"only_at": "" if check.only_at else "vm"})
    yield "when", check.model_copy(update={"when": "" if check.when else "asked"})
    yield "name", check.model_copy(update={"name": f"{check.name}x"})


@pytest.mark.parametrize("number", range(len(AGREED)), ids=[row[0] for row in AGREED])
def test_a_mutant_of_any_fact_is_killed(number: int) -> None:
    """By the agreed table; a title (which is prose, and not in it) by the committed documents."""
    check = registry.declarations()[number]
    assert [fact for fact, mutant in mutants(check) if facts(mutant) == AGREED[number]] == []
    declared = list(registry.declarations())
    declared[number] = check.model_copy(update={"question": f"Not {check.question}"})
    assert document.page(declared) != document.PAGE.read_text()


@pytest.mark.parametrize("check", registry.declarations(), ids=lambda d: d.name)
def test_every_fact_of_a_declaration_counts(check: Declaration) -> None:
    """Were a fact another one, a probe check's refusals or the grade of a green draft would be others."""
    made = draft(hardware=True)
    answers: list[Finding | NotJudged] = [*made.findings, *made.not_judged]
    of = {a.target.release for a in answers if a.check == check.name}
    if check.release_grade:
        assert of == set(made.evidence().profile.asked(check.scope))
    else:
        assert check.when or check.only_at, "asked always, and yet no release needs it"
    assert check.scope in Scope
