"""Parts of one run, judged by several runners, put together: the whole, or an error that says why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.core.errors import EvidenceError, ExitCode
from pipeline.core.outcome import Outcome
from pipeline.core.records import BuildManifest
from pipeline.signoff.merge import merge
from pipeline.signoff.records import Evidence
from pipeline.signoff.waiver import Waiver
from tests.report.factory import CREATED, Draft, draft, release_grade, with_builds


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


@pytest.mark.parametrize("troubled", [0, 1])
def test_a_place_that_went_wrong_for_one_runner_went_wrong(troubled: int) -> None:
    """The other's record of the same place, where all was well, must not stand for both."""
    parts = [draft(("x86_64",)), draft(("x86_64",))]
    for made, release in zip(parts, ("12.0", "12.1"), strict=True):
        for name in ("findings", "questions", "not_judged"):
            kept = [x for x in getattr(made, name) if x.target.judged == release]
            setattr(made, name, kept)
    lame = parts[troubled]
    lame.places[0] = lame.places[0].model_copy(update={"trouble": "it died"})
    merged = merge([made.evidence() for made in parts])
    assert merged.verdict is Outcome.MISSING
    assert "it died" in {f.seen for f in merged.findings if f.check == "evidence.places"}
    assert any("it died" in reason for reason in merged.grade_reasons)


def test_a_waiver_that_expired_before_the_last_part_is_not_taken_over() -> None:
    one, other = _part("x86_64"), _part("aarch64").evidence()
    red = one.spoil("abi.delta", release="12.0 -> 12.1", arch="x86_64")
    waiver = {"check": red.check, "target": str(red.target), "seen": red.seen, "reason": "r", "who": "w"}
    one.waivers = [Waiver.model_validate({**waiver, "expires": CREATED[:10]})]
    waived = one.evidence()
    assert merge([waived, other]).verdict is Outcome.WAIVED
    later = other.model_copy(update={"created": "2026-03-15T00:00:00Z"})
    with pytest.raises(EvidenceError, match=r"held until 2026-03-14, and the newest part is of 2026-03-15"):
        merge([waived, later])


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


def test_the_record_of_the_runner_that_rebuilt_is_the_one_that_stays() -> None:
    """With `--rebuild` each runner rebuilds its own release, and builds the others in another place."""
    one, other = draft(), draft()
    one.builds[1:] = [b.model_copy(update={"rebuild": None, "seen": {"host": "b"}}) for b in one.builds[1:]]
    other.builds[0] = other.builds[0].model_copy(update={"rebuild": None, "seen": {}, "tree": "1"})
    for made, mine in ((one, one.builds[:1]), (other, other.builds[1:])):
        targets = {b.target for b in mine}
        made.questions = [q for q in made.questions if q.check != "build.rebuild" or q.target in targets]
        made.findings = [f for f in made.findings if f.check != "build.rebuild" or f.target in targets]
    merged = merge([one.evidence(), other.evidence()])
    assert list(merged.builds) == draft().builds
    assert merged.verdict is Outcome.PASS


def test_two_rebuilds_of_one_build_are_an_error() -> None:
    one, other = draft(), draft()
    rebuild = other.builds[0].rebuild
    assert rebuild
    other.builds[0] = other.builds[0].model_copy(
        update={"rebuild": rebuild.model_copy(update={"at": "2026-03-15T00:00:00Z"})}
    )
    with pytest.raises(EvidenceError, match=r"two runners rebuilt bookworm/12\.0/x86_64"):
        merge([one.evidence(), other.evidence()])


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
