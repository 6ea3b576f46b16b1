"""A build's line: its phase, and an estimate that follows from what is known and from its own rate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.build import course, rpmbuild
from pipeline.build.course import Course, Known
from pipeline.core import paths
from pipeline.core.outcome import Target
from pipeline.core.progress import Row, Running

TARGET = Target(profile="p", release="1", arch="x86_64")


class Told(Running):
    """What would be shown."""

    def __init__(self) -> None:
        super().__init__(Row("build"))
        self.detail = ""
        self.left: float | None = None

    def at(self, detail: str, *, left: float | None = None, done: int = 0, of: int = 0) -> None:  # noqa: ARG002
        self.detail, self.left = detail, left


class Clock:
    """`time.monotonic` as a test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    at = Clock()
    monkeypatch.setattr("pipeline.build.course.time.monotonic", at)
    yield at
    monkeypatch.undo()


@pytest.fixture
def begun(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> tuple[Course, Told]:  # noqa: ARG001
    monkeypatch.setattr("pipeline.build.course.os.sched_getaffinity", lambda _: {0, 1})
    told = Told()
    return Course(TARGET, told), told


def built(under_way: Course, clock: Clock, objects: int) -> None:
    """A build of ten objects a second, 30 s before them and 50 s after them."""
    under_way.heard("Executing(%prep): x")
    clock.now += 10
    under_way.heard("Executing(%build): x")
    clock.now += 20
    for number in range(objects):
        clock.now += 0.1
        under_way.heard(f"elf/{number}.os")
    under_way.heard("Executing(%install): x")
    clock.now += 40
    under_way.heard("elf/late.o")
    under_way.heard("Processing files: glibc-2.34-1.x86_64")
    under_way.heard("Executing(rmbuild): x")
    clock.now += 10
    under_way.ended()


def test_before_objects_come_it_is_what_the_plan_says(begun: tuple[Course, Told], clock: Clock) -> None:
    under_way, told = begun
    under_way.heard("Executing(%prep): /bin/sh -e")
    assert (told.detail, told.left) == ("unpacking and patching", 330)
    clock.now += 60
    under_way.heard("Executing(%build): /bin/sh -e")
    assert (told.detail, told.left) == ("configuring", 270)


def test_the_rate_of_the_objects_says_how_long_the_rest_takes(
    begun: tuple[Course, Told], clock: Clock
) -> None:
    under_way, told = begun
    under_way.heard("Executing(%build): x")
    for number in range(401):
        under_way.heard(f"elf/{number}.os")
        clock.now += 0.1
    assert told.detail == "compiling, 401 of about 7100 objects: elf/400.os"
    assert told.left == pytest.approx(6699 * 0.1 + Known().after, rel=0.01)


def test_the_next_build_goes_by_this_one(begun: tuple[Course, Told], clock: Clock) -> None:
    built(begun[0], clock, 1000)
    assert begun[1].left == pytest.approx(Known().after - 40)
    told = Told()
    following = Course(TARGET, told)
    following.heard("Executing(%build): x")
    for number in range(501):
        following.heard(f"elf/{number}.os")
        clock.now += 0.05
    assert told.detail.startswith("compiling, 501 of about 1001 objects")
    assert told.left == pytest.approx(25 + 50, rel=0.02)
    following.heard("Executing(%install): x")
    assert (told.detail, told.left) == ("installing", 50)


def test_with_kept_objects_only_what_differs_is_compiled(begun: tuple[Course, Told], clock: Clock) -> None:
    built(begun[0], clock, 1000)
    told = Told()
    following = Course(TARGET, told, kept=True)
    following.heard("Executing(%build): x")
    assert (told.detail, told.left) == ("configuring", 45)
    show = rpmbuild.show(following.heard)
    show("resume: removed 1 files made from a.h, and put aside 0")
    show(f"{rpmbuild.RESUMED}; changed: []")
    for _ in range(300):
        clock.now += 0.1
        show("gcc -c x.c -o /build/elf/x.os")
    assert told.detail == "compiling: elf/x.os"
    assert told.left == pytest.approx(15)
    following.heard("Executing(%install): x")
    assert (told.detail, told.left) == ("installing", 50)


def test_what_ccache_has_is_quicker(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.build.course.os.sched_getaffinity", lambda _: {0, 1})
    paths.ccache(TARGET.profile, TARGET.arch).mkdir(parents=True)
    told = Told()
    Course(TARGET, told).heard("Executing(%prep): /bin/sh -e")
    assert (told.detail, told.left) == ("unpacking and patching", 120)
    assert clock.now == 1000


def test_more_objects_than_known_and_a_damaged_file(begun: tuple[Course, Told], clock: Clock) -> None:
    built(begun[0], clock, 30)
    told = Told()
    following = Course(TARGET, told)
    following.heard("Executing(%build): x")
    for number in range(300):
        clock.now += 0.1
        following.heard(f"elf/{number}.os")
    assert told.detail.startswith("compiling, 300 of about 300 objects")
    assert told.left == 50
    (paths.state() / "course" / "p-x86_64.json").write_text("{")
    assert course._known(paths.state() / "course" / "p-x86_64.json") == Known()


def test_own_tests_are_not_estimated(begun: tuple[Course, Told]) -> None:
    under_way, told = begun
    under_way.heard("Executing(%check): x")
    assert (told.detail, told.left) == ("running glibc's own tests", None)
