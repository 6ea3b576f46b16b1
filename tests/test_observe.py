"""Observations: asked for once, and again as soon as anything that could change the answer is another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipeline.check import Material
from pipeline.core import store
from pipeline.core.errors import NoSpace, WorldError
from pipeline.place import BatchResult, Job, JobResult, PlaceFacts
from pipeline.verify import observe as observing
from pipeline.verify.observe import Site, keep, observe, observe_all
from tests.check import rpm_bench

FACTS = PlaceFacts("fake", "6.1.0", "#1 SMP", "x86_64", 2, "a cpu", "EINVAL")
JOBS = [Job("check/one", "12.0", ("/probes/x", "1"), {"GLIBC_TUNABLES": "a=1"})]
RESULT = JobResult("check/one", 0, None, False, b'{"a": 1}\n', b"\xff\x00", 0.5)


GOOD = BatchResult(FACTS, {"check/one": RESULT})


@dataclass
class FakePlace:
    """Counts how often it was asked."""

    log: Path
    name: str = "fake"
    result: BatchResult = GOOD
    asked: list[tuple[dict[str, Path], dict[str, Path]]] = field(default_factory=list)

    def run_batch(
        self,
        roots: Mapping[str, Path],
        overlay: Mapping[str, Path],
        jobs: Sequence[Job],  # noqa: ARG002
    ) -> BatchResult:
        self.asked.append((dict(roots), dict(overlay)))
        self.log.write_text("console")
        return replace(self.result, log=self.log)


@pytest.fixture
def place(tmp_path: Path) -> FakePlace:
    return FakePlace(tmp_path / "log")


def make_bench(directory: Path, rpm: bytes = b"rpm", programs: str = "key1") -> Material:
    directory.mkdir(exist_ok=True)
    file = directory / "glibc.rpm"
    file.write_bytes(rpm)
    (directory / "root").mkdir(exist_ok=True)
    (directory / "root" / "file").write_bytes(rpm)
    made = rpm_bench.built("12.0", [file], root=directory / "root")
    return rpm_bench.material({"12.0": made}, directory / programs / "probes")


def test_asked_once_then_known_with_the_time_it_was_seen(place: FakePlace, tmp_path: Path) -> None:
    site, material = Site(place, {"kernel": "a"}), make_bench(tmp_path / "b")
    first = observe(site, material, JOBS)
    assert place.asked == [({"12.0": tmp_path / "b" / "root"}, {"/probes": material.programs})]
    keep(first)
    place.log.unlink()
    again = observe(site, material, JOBS)
    assert len(place.asked) == 1
    assert (first.reused, again.reused) == (False, True)
    assert replace(again.batch, log=None) == replace(first.batch, log=None)
    assert again.batch.log is not None
    assert again.batch.log.read_text() == "console"
    assert again.at >= first.at
    assert len(again.at) == len("2026-01-01T00:00:00Z")


def test_nothing_is_kept_unless_it_is_told_to_be(place: FakePlace, tmp_path: Path) -> None:
    site, material = Site(place, {"kernel": "a"}), make_bench(tmp_path / "b")
    observe(site, material, JOBS)
    observe(site, material, JOBS)
    assert len(place.asked) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda s, b, j, _: (replace(s, identity={"kernel": "b"}), b, j),
        lambda s, b, j, _: (replace(s, place=replace(s.place, name="other")), b, j),
        lambda s, _, j, t: (s, make_bench(t / "other", rpm=b"rpn"), j),
        lambda s, _, j, t: (s, make_bench(t / "b", programs="key2"), j),
        lambda s, b, j, _: (s, b, [replace(j[0], argv=("/probes/x", "2"))]),
        lambda s, b, j, _: (s, b, [replace(j[0], env={})]),
        lambda s, b, j, _: (s, b, [replace(j[0], timeout=61.0)]),
        lambda s, b, j, _: (s, b, [*j, replace(j[0], id="check/two")]),
        lambda s, b, j, _: (s, rpm_bench.material({"12.1": b.built["12.0"]}, b.programs), j),
    ],
    ids=["kernel", "place", "rpm", "programs", "arguments", "environment", "timeout", "more", "release"],
)
def test_whatever_could_change_the_answer_is_asked_anew(
    place: FakePlace,
    tmp_path: Path,
    change: Callable[[Site, Material, list[Job], Path], tuple[Site, Material, list[Job]]],
) -> None:
    site, material = Site(place, {"kernel": "a"}), make_bench(tmp_path / "b")
    keep(observe(site, material, JOBS))
    assert not observe(*change(site, material, JOBS, tmp_path)).reused
    assert observe(Site(place, {"kernel": "a"}), make_bench(tmp_path / "b"), JOBS).reused


def test_a_root_that_was_altered_by_hand_is_observed_anew(place: FakePlace, tmp_path: Path) -> None:
    site, material = Site(place, {"kernel": "a"}), make_bench(tmp_path / "b")
    keep(observe(site, material, JOBS))
    (tmp_path / "b" / "root" / "file").write_bytes(b"rqm")
    assert not observe(site, material, JOBS).reused


def test_packages_with_the_same_files_need_not_be_watched_twice(place: FakePlace, tmp_path: Path) -> None:
    site, material = Site(place, {"kernel": "a"}), make_bench(tmp_path / "b")
    keep(observe(site, material, JOBS))
    other = make_bench(tmp_path / "other")
    (tmp_path / "other" / "glibc.rpm").write_bytes(b"another header")
    assert observe(site, replace(other, programs=material.programs), JOBS).reused


@pytest.mark.parametrize(
    "bad",
    [
        BatchResult(FACTS, {"check/one": RESULT}, trouble="results are cut short"),
        BatchResult(None, {"check/one": RESULT}),
    ],
    ids=["trouble", "no-facts"],
)
def test_a_batch_that_is_not_whole_is_never_kept(place: FakePlace, tmp_path: Path, bad: BatchResult) -> None:
    place.result = bad
    site, material = Site(place, {"kernel": "a"}), make_bench(tmp_path / "b")
    keep(observe(site, material, JOBS))
    assert not observe(site, material, JOBS).reused


def test_a_place_nobody_can_vouch_for_is_always_asked(place: FakePlace, tmp_path: Path) -> None:
    site, material = Site(place), make_bench(tmp_path / "b")
    for _ in range(2):
        seen = observe(site, material, JOBS)
        assert seen.inputs is None
        keep(seen)
    assert len(place.asked) == 2


def test_fresh_asks_again_and_replaces_what_was_kept(place: FakePlace, tmp_path: Path) -> None:
    site, material = Site(place, {"kernel": "a"}), make_bench(tmp_path / "b")
    keep(observe(site, material, JOBS))
    place.result = BatchResult(FACTS, {"check/one": replace(RESULT, stdout=b"new")})
    fresh = observe(site, material, JOBS, fresh=True)
    assert (fresh.reused, fresh.batch.results["check/one"].stdout) == (False, b"new")
    keep(fresh)
    assert observe(site, material, JOBS).batch.results["check/one"].stdout == b"new"


def test_the_host_is_known_by_its_kernel_and_processor() -> None:
    identity = observing.host_identity()
    assert identity["kernel"] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert identity["version"] == Path("/proc/sys/kernel/version").read_text().strip()
    assert set(identity) >= {"cpu"}


def test_what_was_damaged_since_is_asked_again_and_replaced(place: FakePlace, tmp_path: Path) -> None:
    site, material = Site(place, {"kernel": "a"}), make_bench(tmp_path / "b")
    first = observe(site, material, JOBS)
    keep(first)
    assert first.inputs is not None
    kept = store.peek("observation", first.inputs)
    assert kept is not None
    (kept.path / observing.BATCH).write_bytes(b'{"facts": ')
    again = observe(site, material, JOBS)
    assert not again.reused
    keep(again)
    assert observe(site, material, JOBS).reused
    assert len(place.asked) == 2


@dataclass
class Meeting:
    """Waits until the other of two places is at work as well, ``patience`` seconds at most."""

    directory: Path
    name: str
    other: str
    patience: float = 20

    def run_batch(
        self,
        roots: Mapping[str, Path],  # noqa: ARG002
        overlay: Mapping[str, Path],  # noqa: ARG002
        jobs: Sequence[Job],  # noqa: ARG002
    ) -> BatchResult:
        (self.directory / self.name).touch()
        end = time.monotonic() + self.patience
        while not (self.directory / self.other).exists() and time.monotonic() < end:
            time.sleep(0.05)
        met = (self.directory / self.other).exists()
        return replace(GOOD, trouble="" if met else f"{self.name} was alone")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor has one lane")
def test_emulated_machines_run_side_by_side_and_come_back_in_order(tmp_path: Path) -> None:
    material = make_bench(tmp_path / "b")
    sites = [
        Site(Meeting(tmp_path, name, other), {"accelerator": "tcg", "kernel": name})
        for name, other in (("one", "two"), ("two", "one"))
    ]
    seen = observe_all(sites, material, JOBS)
    assert [o.batch.trouble for o in seen] == ["", ""]
    assert [(o.inputs or {})["place"] for o in seen] == ["one", "two"]
    assert seen[0].batch.results == {"check/one": RESULT}
    for observation in seen:
        keep(observation)
    assert [o.reused for o in observe_all(sites, material, JOBS)] == [True, True]


def test_what_is_timed_has_the_machine_for_itself(tmp_path: Path) -> None:
    material = make_bench(tmp_path / "b")
    sites = [
        Site(Meeting(tmp_path, "one", "two", patience=1), {"accelerator": "kvm"}),
        Site(Meeting(tmp_path, "two", "one", patience=1), None),
    ]
    assert [o.batch.trouble for o in observe_all(sites, material, JOBS)] == ["one was alone", ""]


@dataclass
class Broken:
    error: Exception
    name: str = "broken"

    def run_batch(
        self,
        roots: Mapping[str, Path],  # noqa: ARG002
        overlay: Mapping[str, Path],  # noqa: ARG002
        jobs: Sequence[Job],  # noqa: ARG002
    ) -> BatchResult:
        raise self.error


@pytest.mark.parametrize("accelerator", ["tcg", "kvm"])
def test_a_place_that_cannot_be_had_is_trouble_and_a_full_disk_is_not_its(
    place: FakePlace, accelerator: str, tmp_path: Path
) -> None:
    material, identity = make_bench(tmp_path / "b"), {"accelerator": accelerator}
    broken, good = Site(Broken(WorldError("no QEMU here")), identity), Site(place, identity)
    lost, seen = observe_all([broken, good], material, JOBS)
    assert (lost.batch.facts, lost.batch.trouble) == (None, "no QEMU here")
    assert seen.batch.results == {"check/one": RESULT}
    with pytest.raises(NoSpace):
        observe_all([Site(Broken(NoSpace("full")), identity), good], material, JOBS)
