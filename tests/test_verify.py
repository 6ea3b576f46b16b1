"""Work shared between runners: each asks about its own target, together they ask what one run would."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline import profile as profiles
from pipeline import report
from pipeline.check import registry
from pipeline.cli import report as report_verb
from pipeline.cli import verify as verify_verb
from pipeline.core import store
from pipeline.core.errors import NoSpace, UsageError, WorldError
from pipeline.core.outcome import Outcome, Target
from pipeline.core.records import BuildMode
from pipeline.place import BatchResult, Job
from pipeline.signoff.document import write
from pipeline.signoff.merge import merge
from pipeline.signoff.records import Evidence
from pipeline.verify.observe import Site
from pipeline.verify.run_checks import verify
from tests.check import probe_kit
from tests.report.factory import release_grade

ARCHES = ("x86_64", "aarch64")


@dataclass
class SilentPlace:
    """A place that comes up and whose programs say nothing; it notes what was asked."""

    name: str = "container"
    jobs: list[Job] = field(default_factory=list)

    def run_batch(
        self,
        roots: Mapping[str, Path],
        overlay: Mapping[str, Path],  # noqa: ARG002
        jobs: Sequence[Job],
    ) -> BatchResult:
        assert set(roots) == {"12.0", "12.0.z", "12.1"}
        self.jobs += jobs
        return BatchResult(probe_kit.REAL, {})


def judged(place: SilentPlace, *wanted: Target, narrow: bool = True) -> Evidence:
    """A real verify of releases that were never built, by every check there is."""
    profile = profiles.load("bookworm")
    arches = dict.fromkeys(t.arch for t in wanted)
    return verify(
        profile, wanted, {a: probe_kit.material(machine=a).built for a in arches},
        programs=lambda _: Path("/nowhere/key/probes"), sites=lambda *_: [Site(place)],
        static=registry.STATIC, watched=registry.WATCHED, command="nox -s verify", narrow=narrow,
    )  # fmt: skip


def test_the_parts_share_no_question_and_together_are_the_whole() -> None:
    targets = profiles.targets(profiles.load("bookworm"), (), ARCHES)
    at_once, in_parts = SilentPlace(), SilentPlace()
    whole = judged(at_once, *targets, narrow=False)
    parts = [judged(in_parts, target) for target in targets]
    asked = [q for part in parts for q in part.questions]
    assert len(asked) == len(set(asked)) > 100
    assert set(asked) == set(whole.questions)
    assert {j.id for j in in_parts.jobs} == {j.id for j in at_once.jobs}
    assert len(in_parts.jobs) == len(at_once.jobs)
    merged = merge(parts)
    assert key(merged.findings) == key(whole.findings)
    assert merged.targets == whole.targets
    assert merged.verdict is whole.verdict
    assert {str(f.target) for f in merged.findings if "->" in f.target.release} >= {
        "bookworm/12.0 -> 12.0.z/x86_64", "bookworm/12.0.z -> 12.1/aarch64",
    }  # fmt: skip


def key(records: Sequence[Any]) -> list[str]:
    return sorted(r.model_dump_json() for r in records)


def test_a_rebuild_of_one_release_is_of_that_one_alone() -> None:
    ours = [Target(profile="bookworm", release=r, arch="x86_64") for r in ("12.0", "12.0.z", "12.1")]
    assert verify_verb.built_again(ours, ours[1:2], narrow=True) == ours[1:2]
    # packages from elsewhere are asked everything, and so is what they are compared with
    assert verify_verb.built_again(ours[1:], ours[:1], narrow=False) == ours[1:]


def test_a_part_is_about_its_target_alone() -> None:
    place = SilentPlace()
    target = Target(profile="bookworm", release="12.0.z", arch="x86_64")
    part = judged(place, target)
    assert {f.target.release for f in part.findings} == {"12.0.z", "12.0 -> 12.0.z"}
    assert {j.root for j in place.jobs} == {"12.0.z"}
    assert "not judged for x86_64: 12.0, 12.1" in part.grade_reasons


def test_a_release_that_was_only_built_is_not_release_grade() -> None:
    made = release_grade()
    assert made.evidence().release_grade
    for name in ("findings", "questions", "not_judged"):
        kept = [x for x in getattr(made, name) if (x.target.judged, x.target.arch) != ("12.0.z", "x86_64")]
        setattr(made, name, kept)
    got = made.evidence()
    assert got.verdict is Outcome.PASS
    assert got.grade_reasons == ("not judged for x86_64: 12.0.z",)


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path]:
    """Green evidence about all targets but one, and about that one."""
    files = []
    for number, mine in enumerate((False, True)):
        made = release_grade()
        for name in ("findings", "questions", "not_judged"):
            kept = [
                x for x in getattr(made, name)
                if ((x.target.judged, x.target.arch) == ("12.1", "aarch64")) is mine
            ]  # fmt: skip
            setattr(made, name, kept)
        files.append(write(made.evidence(), tmp_path / str(number)))
    return files[0], files[1]


def test_a_runner_that_brought_nothing_is_missed(
    halves: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str | Path) -> int:
        argv = [str(a) for a in ("--merge", *arguments, "--out", tmp_path / "out")]
        return int(report_verb.command.main(argv, standalone_mode=False))

    assert run("--complete", *halves) == 0
    assert run(halves[0]) == 0
    capfd.readouterr()
    assert run("--complete", halves[0]) == 3
    assert "no runner's evidence is complete: not judged for aarch64: 12.1" in capfd.readouterr().err
    assert (tmp_path / "out" / "report.html").is_file()
    red = release_grade()
    red.spoil("abi.delta", release="12.0 -> 12.0.z", arch="x86_64")
    red.builds = [b for b in red.builds if b.target.arch == "x86_64"]
    for name in ("findings", "questions", "not_judged"):
        setattr(red, name, [x for x in getattr(red, name) if x.target.arch == "x86_64"])
    # what fails outranks what is missing
    assert run("--complete", write(red.evidence(), tmp_path / "red")) == 1


def test_complete_needs_merge(tmp_path: Path) -> None:
    store.write_atomically(tmp_path / "evidence.json", "{}")
    with pytest.raises(UsageError, match="--complete is about what --merge joins"):
        report_verb.command.main(["--complete", "--out", str(tmp_path)], standalone_mode=False)


def compiled_against(tmp_path: Path, mode: BuildMode, *, absent: str = "") -> tuple[SilentPlace, Evidence]:
    """A verify of which one program does not compile against the newest release, made in this mode."""
    profile, place = profiles.load("bookworm"), SilentPlace()
    built = {
        name: b.model_copy(update={"manifest": b.manifest.model_copy(update={"mode": mode})})
        for name, b in probe_kit.material(machine="x86_64").built.items()
    }
    fault = {"program": "launch-rseq", "release": "12.1", "words": "rseq.c:3: error: no", "absent": absent}
    (tmp_path / "faults.json").write_text(json.dumps([fault]))
    made = verify(
        profile, profiles.targets(profile, (), ("x86_64",)), {"x86_64": built},
        programs=lambda _: tmp_path / "probes", sites=lambda *_: [Site(place)],
        static=registry.STATIC, watched=registry.WATCHED, command="nox -s verify",
    )  # fmt: skip
    return place, made


@pytest.mark.parametrize("mode", ["native", "supplied"])
def test_packages_that_a_program_does_not_compile_against_are_judged_so(
    tmp_path: Path, mode: BuildMode
) -> None:
    """In every mode, and only what needs that program is red for it; all others are started."""
    place, made = compiled_against(tmp_path, mode)
    found = [f for f in made.findings if "rseq.c:3: error: no" in f.seen]
    assert {f.outcome for f in found} == {Outcome.FAIL}
    red = {(f.check, f.case) for f in found}
    assert {check for check, _ in red} >= {
        "devel.compile", "launch.matrix", "launch.needs", "rpm.requires", "rpm.transaction",
    }  # fmt: skip
    assert {case for check, case in red if check.startswith(("launch.needs", "rpm."))} == {"launch-rseq"}
    assert not [j for j in place.jobs if "/probes/launch-rseq" in j.argv]
    assert [j for j in place.jobs if "/probes/launch-plain" in j.argv]
    compiled = {f.target.release: f.outcome for f in made.findings if f.check == "devel.compile"}
    assert compiled == {"12.0": Outcome.PASS, "12.0.z": Outcome.PASS, "12.1": Outcome.FAIL}


def test_supplied_packages_without_headers_are_incomplete_not_wrong(tmp_path: Path) -> None:
    _, made = compiled_against(tmp_path, "supplied", absent="glibc-devel")
    (found,) = [f for f in made.findings if f.check == "devel.compile" and f.target.release == "12.1"]
    assert found.outcome is Outcome.MISSING
    assert "glibc-devel" in found.seen
    _, ours = compiled_against(tmp_path, "native", absent="glibc-devel")
    assert [f.outcome for f in ours.findings if f.check == "devel.compile"][-1] is Outcome.FAIL


def test_an_earlier_sign_off_does_not_stand_where_a_new_one_is_made(tmp_path: Path) -> None:
    written = report.write_all(release_grade().evidence(), tmp_path, summary=False)
    other = tmp_path / "notes.txt"
    other.touch()
    report.withdraw(tmp_path)
    assert [p for p in (written.evidence, written.junit, written.markdown, written.html) if p.exists()] == []
    assert list(tmp_path.iterdir()) == [other]


def test_a_run_that_ends_before_it_judges_leaves_no_earlier_sign_off(tmp_path: Path) -> None:
    """Else the report of yesterday is read as this run's."""
    written = report.write_all(release_grade().evidence(), tmp_path, summary=False)
    argv = [
        "--profile",
        "bookworm",
        "--source",
        "tarball:http://127.0.0.1:9/x.tar.gz",
        "--out",
        str(tmp_path),
    ]
    with pytest.raises(WorldError):
        verify_verb.command.main(argv, standalone_mode=False)
    assert not written.evidence.exists()
    assert not written.html.exists()


@pytest.mark.parametrize("argv", [["--kernel", "nope"], ["--rpms", "DIR"], ["--waivers", "/nonexistent"]])
def test_a_wrong_option_leaves_the_earlier_sign_off_alone(tmp_path: Path, argv: list[str]) -> None:
    written = report.write_all(release_grade().evidence(), tmp_path, summary=False)
    with pytest.raises(UsageError):
        verify_verb.command.main(
            ["--profile", "bookworm", *argv, "--out", str(tmp_path)], standalone_mode=False
        )
    assert written.html.exists()


class FullPlace(SilentPlace):
    """A place whose machine has no room left."""

    def run_batch(
        self,
        roots: Mapping[str, Path],  # noqa: ARG002
        overlay: Mapping[str, Path],  # noqa: ARG002
        jobs: Sequence[Job],  # noqa: ARG002
    ) -> BatchResult:
        raise NoSpace("no room")


def test_a_full_disk_is_the_worlds_fault_and_no_answer() -> None:
    with pytest.raises(NoSpace):
        judged(FullPlace(), Target(profile="bookworm", release="12.0.z", arch="x86_64"))
