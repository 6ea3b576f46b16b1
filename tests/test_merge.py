"""Parts of one run, judged by several runners, put together: the whole, or an error that says why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.core.errors import EvidenceError, ExitCode
from pipeline.core.outcome import Outcome
from pipeline.core.records import BuildManifest
from pipeline.signoff.merge import merge
from pipeline.signoff.records import Evidence
from tests.report.factory import Draft, draft, release_grade, with_builds


@pytest.fixture
def made() -> Draft:
    return draft()


def _part(machine: str) -> Draft:
    made = release_grade()
    made.builds = [b for b in made.builds if b.target.arch == machine]
    made.places = [p for p in made.places if p.arch == machine]
    made.findings = [f for f in made.findings if f.target.arch == machine]
    made.not_judged = [n for n in made.not_judged if n.target.arch == machine]
    made.questions = [q for q in made.questions if q.target.arch == machine]
    return made


def test_merged_parts_are_the_whole() -> None:
    parts = [_part("x86_64").evidence(), _part("aarch64").evidence()]
    assert not parts[0].release_grade
    whole = merge(parts)
    at_once = release_grade().evidence()
    assert set(whole.questions) == set(at_once.questions)
    assert whole == at_once.model_copy(update={"questions": whole.questions})
    assert whole.release_grade


def test_merging_a_part_twice_changes_nothing(made: Draft) -> None:
    one = made.evidence()
    assert merge([one, one]) == one


def test_merge_keeps_what_is_missing() -> None:
    lame = _part("aarch64")
    lame.findings.pop()
    assert merge([_part("x86_64").evidence(), lame.evidence()]).verdict is Outcome.MISSING


def _conflict(change: Callable[[Draft], object]) -> tuple[Evidence, Evidence]:
    one, other = draft(), draft()
    change(other)
    return one.evidence(), other.evidence()


def _rebuild(made: Draft) -> None:
    b = made.builds[0]
    rpms = (b.rpms[0].model_copy(update={"sha256": "0" * 64}), *b.rpms[1:])
    made.builds[0] = b.model_copy(update={"rpms": rpms})


def _repatch(made: Draft) -> None:
    for i, b in enumerate(made.builds):
        patches = tuple(p.model_copy(update={"sha256": "0" * 64}) for p in b.patches)
        target = b.target.model_copy(update={"arch": "aarch64"})
        if b.target.arch == "x86_64":
            made.builds[i] = b.model_copy(update={"patches": patches, "target": target})
    made.builds = made.builds[:3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.spoil("abi.delta"), r"of the same finding: abi\.delta"),
        (_rebuild, "of the same build: bookworm/12.0/x86_64"),
        (
            lambda d: setattr(d, "profile", d.profile.model_copy(update={"glibc": "2.99"})),
            "content of profile",
        ),
        (lambda d: setattr(d, "profile", d.profile.model_copy(update={"name": "el9"})), "on the profile"),
    ],
)
def test_conflicting_parts_are_an_error(change: Callable[[Draft], object], message: str) -> None:
    with pytest.raises(EvidenceError, match=message) as e:
        merge(_conflict(change))
    assert e.value.exit_code is ExitCode.MISSING


def test_other_source_or_patch_is_an_error() -> None:
    def other_source(b: BuildManifest) -> BuildManifest:
        assert b.source
        return b.model_copy(update={"source": b.source.model_copy(update={"sha256": "0" * 64})})

    def other_patch(b: BuildManifest) -> BuildManifest:
        patches = tuple(p.model_copy(update={"sha256": "0" * 64}) for p in b.patches)
        return b.model_copy(update={"patches": patches})

    x86 = _part("x86_64").evidence()
    with pytest.raises(EvidenceError, match="was built from source"):
        merge([x86, with_builds(_part("aarch64"), other_source).evidence()])
    with pytest.raises(EvidenceError, match=r"patch 0001-\S+\.patch of bookworm/12\.0/x86_64"):
        merge([x86, with_builds(_part("aarch64"), other_patch).evidence()])
