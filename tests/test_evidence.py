"""Evidence keeps greens honest: each test here is one way in which a verdict could be green unearned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.check import registry
from pipeline.core.declaration import by_name
from pipeline.core.errors import EvidenceError, ExitCode
from pipeline.core.identity import Identity
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question, Target
from pipeline.core.records import BuildManifest
from pipeline.core.store import file_sha256
from pipeline.signoff.completeness import OWN, OWN_CHECK, complete, may_decline
from pipeline.signoff.document import read, write
from pipeline.signoff.records import PlaceRecord, ProfileRecord
from pipeline.signoff.verdict import not_covered
from tests.report.factory import Draft, draft, place, release_grade, with_builds

DECLARED = by_name((*registry.declarations(), *OWN))


@pytest.fixture
def made() -> Draft:
    return draft()


def test_all_green_is_pass_and_exit_0(made: Draft) -> None:
    got = made.evidence()
    assert got.verdict is Outcome.PASS
    assert got.verdict.exit_code is ExitCode.PASS
    assert got.problems == ()


@pytest.mark.parametrize("check", sorted({f.check for f in draft().findings}))
def test_one_fail_of_any_check_turns_the_verdict(made: Draft, check: str) -> None:
    made.spoil(check)
    got = made.evidence()
    assert got.verdict is Outcome.FAIL
    assert got.verdict.exit_code is ExitCode.FAILED
    assert [f.check for f in got.problems] == [check]


def test_unanswered_question_is_missing(made: Draft) -> None:
    lost = made.findings.pop(made.find("rseq.registered", case="tunable=1"))
    got = made.evidence()
    assert got.verdict is Outcome.MISSING
    assert got.verdict.exit_code is ExitCode.MISSING
    (problem,) = got.problems
    assert problem.key == lost.key


def test_error_outranks_fail_and_exits_3(made: Draft) -> None:
    made.spoil("abi.delta")
    made.spoil("rpm.provides", Outcome.ERROR)
    got = made.evidence()
    assert got.verdict is Outcome.ERROR
    assert got.verdict.exit_code is ExitCode.MISSING
    assert [f.outcome for f in got.problems] == [Outcome.ERROR, Outcome.FAIL]


def test_no_findings_at_all_is_missing(made: Draft) -> None:
    made.findings, made.not_judged, made.questions = [], [], []
    assert made.evidence().verdict is Outcome.MISSING


def test_only_not_judged_is_missing(made: Draft) -> None:
    made.findings = []
    made.questions = [q for q in made.questions if q.check == "getcpu.speed" and q.place != "host"]
    assert made.not_judged
    assert made.evidence().verdict is Outcome.MISSING


def test_an_answer_nobody_asked_for_is_error(made: Draft) -> None:
    made.questions.pop(0)
    got = made.evidence()
    assert got.verdict is Outcome.ERROR
    assert got.problems[0].check == OWN_CHECK
    assert "nobody asked" in got.problems[0].seen


def test_two_answers_to_one_question_are_error(made: Draft) -> None:
    made.findings.append(made.findings[0].model_copy(update={"seen": "something else"}))
    got = made.evidence()
    assert got.verdict is Outcome.ERROR
    assert "2 answers" in got.problems[0].seen


def _decline(made: Draft, index: int) -> NotJudged:
    f = made.findings.pop(index)
    n = NotJudged(check=f.check, target=f.target, case=f.case, place=f.place, kernel=f.kernel, reason="no")
    made.not_judged.append(n)
    return n


@pytest.mark.parametrize(
    ("check", "where"),
    [
        ("getcpu.speed", "host"),  # a real machine judges time
        ("rseq.registered", "host"),
        ("rseq.registered", "vm:stable"),  # a machine emulated as a whole has rseq
        ("getcpu.steps", "vm:stable"),
        ("abi.delta", ""),  # no place at all
    ],
)
def test_declined_by_a_place_that_can_judge_is_missing(made: Draft, check: str, where: str) -> None:
    declined = _decline(made, made.find(check, place=where))
    got = made.evidence()
    assert got.verdict is Outcome.MISSING
    (problem,) = got.problems
    assert (problem.check, problem.place, problem.outcome) == (check, where, Outcome.MISSING)
    assert declined not in got.not_judged


def test_declined_by_a_place_that_never_came_up_is_missing(made: Draft) -> None:
    made.places = [
        PlaceRecord(place=p.place, arch=p.arch, came_up=False, trouble="panic") if p.emulation else p
        for p in made.places
    ]
    assert made.evidence().verdict is Outcome.MISSING


def test_user_mode_may_decline_rseq_but_not_launching() -> None:
    user = place("qemu-user", "aarch64", "6.18.5", "user")
    assert may_decline(user, DECLARED["rseq.registered"])
    assert may_decline(user, DECLARED["getcpu.speed"])
    assert not may_decline(user, DECLARED["launch.matrix"])
    assert not may_decline(user, DECLARED["abi.delta"])


def test_what_every_place_declined_is_missing() -> None:
    """Registration under user-mode QEMU alone: each refusal is right, and yet nobody has judged it."""
    target = Target(profile="bookworm", release="12.1", arch="aarch64")
    n = NotJudged(check="rseq.registered", target=target, place="qemu-user", reason="user-mode QEMU")
    question = Question(check=n.check, target=target, place="qemu-user")
    findings, declined = complete(
        [question], [], [n], [place("qemu-user", "aarch64", "6.18.5", "user")], checks=DECLARED
    )
    assert declined == [n]
    assert [(f.check, f.outcome) for f in findings] == [(OWN_CHECK, Outcome.MISSING)]


def test_a_copy_with_something_else_in_it_has_a_digest_of_its_own(made: Draft, tmp_path: Path) -> None:
    got = made.evidence()
    assert got.sha256 == file_sha256(write(got, tmp_path))
    other = got.model_copy(update={"command": "another"})
    assert other.sha256 == file_sha256(write(other, tmp_path))
    assert other.sha256 != got.sha256
    assert len(got.declared) > 1
    assert len(got.model_copy(update={"checks": got.checks[:1]}).declared) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, 10**400, [1.0, float("nan")]])
def test_a_figure_that_is_none_is_error_and_still_json(made: Draft, value: object, tmp_path: Path) -> None:
    i = made.find("getcpu.speed")
    measures = {**made.findings[i].measures, "on_ns": value}
    made.findings[i] = made.findings[i].model_copy(update={"measures": measures})
    got = made.evidence()
    assert got.verdict is Outcome.ERROR
    assert "on_ns: not a measurement" in got.problems[0].seen
    assert read(write(got, tmp_path)) == got


def test_a_check_cannot_waive_itself(made: Draft) -> None:
    made.spoil("abi.delta", Outcome.WAIVED)
    with pytest.raises(EvidenceError, match=r"abi\.delta answered WAIVED by itself"):
        made.evidence()


def test_completing_twice_changes_nothing(made: Draft) -> None:
    made.findings.pop(3)
    made.findings.append(made.findings[0])
    _decline(made, made.find("rseq.own"))
    once = complete(made.questions, made.findings, made.not_judged, made.places, checks=DECLARED)
    assert complete(made.questions, *once, made.places, checks=DECLARED) == once


# --- release grade ---------------------------------------------------------------------------------------


def test_release_grade_of_the_mission_itself() -> None:
    got = release_grade().evidence()
    assert got.grade_reasons == ()
    assert got.release_grade


def test_a_profile_of_ones_own_under_a_known_name_is_not_release_grade() -> None:
    """Without this a file called el9 with other limits signs off what el9 would not."""
    made = release_grade()
    made.claims = {}
    assert made.evidence().grade_reasons == ("profile bookworm is not the one that comes with the pipeline",)
    shipped = ProfileRecord.of(profiles.load("el9"))
    assert shipped.shipped
    for name in ("el9", "mine"):
        other = profiles.load("el9").model_copy(
            update={"name": name, "speed": profiles.SpeedLimits(max_on_over_off=9)}
        )
        assert not ProfileRecord.of(other).shipped


def test_a_stand_in_is_never_release_grade() -> None:
    made = draft(hardware=True)
    got = made.evidence()
    assert not got.release_grade
    assert got.grade_reasons == (made.profile.stand_in,)


def test_speed_judged_at_no_place_is_not_release_grade() -> None:
    """Each emulated machine declines it rightly, and yet nobody has judged it."""
    made = release_grade()
    made.places = [p for p in made.places if p.place != "ssh:root@board"]
    for name in ("findings", "questions", "not_judged"):
        setattr(made, name, [x for x in getattr(made, name) if x.place != "ssh:root@board"])
    got = made.evidence()
    assert got.verdict is Outcome.PASS
    assert got.grade_reasons == ("judged at no place for aarch64: getcpu.speed",)


def test_one_of_two_kernels_is_not_release_grade() -> None:
    made = release_grade()
    made.places = [p for p in made.places if (p.arch, p.kernel_name) != ("aarch64", "next")]
    for name in ("findings", "questions", "not_judged"):
        kept = [x for x in getattr(made, name) if (x.target.arch, x.place) != ("aarch64", "vm:cloud")]
        setattr(made, name, kept)
    got = made.evidence()
    assert got.verdict is Outcome.PASS
    assert got.grade_reasons == ("not watched on every kernel for aarch64: next of the profile",)


def test_a_kernel_that_one_release_was_not_watched_on_is_named() -> None:
    """Runners that boot different kernels for different releases do not make up for one another."""
    made = release_grade()
    for name in ("findings", "questions", "not_judged"):
        kept = [
            x
            for x in getattr(made, name)
            if (x.target.release, x.target.arch, x.place) != ("12.0", "aarch64", "vm:cloud")
        ]
        setattr(made, name, kept)
    got = made.evidence()
    assert got.verdict is Outcome.PASS
    assert got.grade_reasons == ("not watched on every kernel for aarch64: next of the profile (12.0)",)


@pytest.mark.parametrize("check", sorted(d.name for d in registry.declarations() if d.release_grade))
def test_a_check_not_asked_of_one_release_is_not_release_grade(check: str) -> None:
    """Counted release by release: that the other releases were asked makes up for nothing."""
    made = release_grade()
    of = next(f.target.release for f in made.findings if f.check == check and f.target.arch == "aarch64")
    for name in ("findings", "questions", "not_judged"):
        kept = [
            x for x in getattr(made, name)
            if (x.check, x.target.release, x.target.arch) != (check, of, "aarch64")
        ]  # fmt: skip
        setattr(made, name, kept)
    got = made.evidence()
    assert got.verdict is Outcome.PASS
    (reason,) = got.grade_reasons
    assert reason.startswith("not asked")
    assert reason.endswith(f"for aarch64: {check}")


def test_a_check_that_is_not_declared_turns_the_verdict(made: Draft) -> None:
    made.questions = [
        q.model_copy(update={"check": "rseq.other"}) if q.check == "rseq.own" else q for q in made.questions
    ]
    made.findings = [
        f.model_copy(update={"check": "rseq.other"}) if f.check == "rseq.own" else f for f in made.findings
    ]
    got = made.evidence()
    assert got.verdict is Outcome.ERROR
    assert got.problems[0].seen == "no check is called rseq.other"


def test_a_place_that_went_wrong_is_missing_though_all_came_back(made: Draft) -> None:
    made.places[0] = made.places[0].model_copy(update={"trouble": "the runner ended with status 3"})
    got = made.evidence()
    assert got.verdict is Outcome.MISSING
    assert {(f.check, f.place, f.seen) for f in got.problems} == {
        ("evidence.places", made.places[0].place, "the runner ended with status 3")
    }
    assert {f.target.release for f in got.problems} == set(got.profile.releases)


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (Identity(version="1.0.0"), "the commit of the pipeline is unknown"),
        (
            Identity(version="1.0.0", commit="a" * 40, changed=("pipeline/profiles/el9.toml",)),
            "the pipeline has uncommitted changes on top of aaaaaaaaaaaa: pipeline/profiles/el9.toml",
        ),
    ],
)
def test_who_judged_must_be_known(identity: Identity, reason: str) -> None:
    made = release_grade()
    made.pipeline = identity
    (said,) = made.evidence().grade_reasons
    assert said.startswith(reason)


def test_baselines_are_bound_by_content() -> None:
    made = release_grade()
    made.baselines.pop(0)
    (said,) = made.evidence().grade_reasons
    assert said == "no committed baseline of 12.0/x86_64 is bound to it"


def _unpinned(b: BuildManifest) -> BuildManifest:
    assert b.source
    return b.model_copy(update={"source": b.source.model_copy(update={"pinned": False})})


def _other_image(b: BuildManifest) -> BuildManifest:
    assert b.image
    return b.model_copy(update={"image": b.image.model_copy(update={"pinned": False})})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_unpinned, "the source is not the pinned one"),
        (_other_image, "the build image is not the pinned one"),
        (lambda b: b.model_copy(update={"hermetic": False}), "the build was not hermetic"),
        (lambda b: b.model_copy(update={"patches": b.patches[:2]}), "12.0/x86_64 has 2 of the 3 patches"),
        (lambda b: b.model_copy(update={"place": "host", "image": None}), "built on the host, not in a"),
        (lambda b: b.model_copy(update={"source": None, "place": "elsewhere"}), "RPMs were supplied"),
    ],
)
def test_how_it_was_made_counts(change: Callable[[BuildManifest], BuildManifest], reason: str) -> None:
    got = with_builds(release_grade(), change).evidence()
    assert not got.release_grade
    assert any(r.startswith(reason) for r in got.grade_reasons), got.grade_reasons


def test_an_image_an_architecture_is_release_grade_and_two_within_one_are_not() -> None:
    """Runners of each architecture make their own; releases are compared within an architecture."""

    def other(b: BuildManifest, **change: str) -> BuildManifest:
        assert b.image
        return b.model_copy(update={"image": b.image.model_copy(update=change)})

    made = release_grade()
    made.builds = [other(b, id="sha256:arm") if b.target.arch == "aarch64" else b for b in made.builds]
    assert made.evidence().grade_reasons == ()
    first = made.builds[0]
    made.builds[0] = other(first, id="sha256:another")
    (said,) = made.evidence().grade_reasons
    assert said == f"the releases of {first.target.arch} were built in 2 different images"
    made.builds[0] = first
    made.builds = [other(b, base="alma:9") if b.target.arch == "aarch64" else b for b in made.builds]
    (said,) = made.evidence().grade_reasons
    assert said.startswith("the build images have different bases: alma:9, ")


def test_absent_arch_release_and_check_are_named() -> None:
    made = release_grade()
    made.builds = [b for b in made.builds if b.target.arch == "x86_64" and b.target.release != "12.1"]
    made.findings = [f for f in made.findings if f.target.arch == "x86_64" and f.check != "rseq.critical"]
    made.questions = [q for q in made.questions if q.target.arch == "x86_64" and q.check != "rseq.critical"]
    made.not_judged = [n for n in made.not_judged if n.target.arch == "x86_64"]
    got = made.evidence()
    assert got.verdict is Outcome.PASS
    assert got.grade_reasons == (
        "not judged for x86_64: 12.1",
        "architecture aarch64 was not judged",
        "not asked for x86_64: rseq.critical",
    )


def test_a_finding_is_an_answer() -> None:
    """The key of a finding and of the question it answers are built from the same fields."""
    f = Finding(
        check="abi.baseline",
        target=Target(profile="p", release="1", arch="x86_64"),
        outcome=Outcome.PASS,
        expected="",
        seen="",
    )
    q = Question(check=f.check, target=f.target, case=f.case, place=f.place)
    assert complete([q], [f], [], checks=DECLARED)[0] == [f]


def test_what_is_asked_on_request_is_needed_for_a_release_and_not_for_a_whole_merge() -> None:
    made = release_grade()
    made.questions = [q for q in made.questions if q.check != "build.rebuild"]
    made.findings = [f for f in made.findings if f.check != "build.rebuild"]
    evidence = made.evidence()
    assert [r for r in evidence.grade_reasons if "build.rebuild" in r]
    assert not_covered(evidence, on_request=False) == []
    made.questions = [q for q in made.questions if q.check != "build.paths" or q.target.arch == "x86_64"]
    made.findings = [f for f in made.findings if f.check != "build.paths" or f.target.arch == "x86_64"]
    assert not_covered(made.evidence(), on_request=False) == ["not asked for aarch64: build.paths"]
