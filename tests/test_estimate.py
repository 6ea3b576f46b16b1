"""What is said before a build: what there is, what is to be made, how long that takes here."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.build import every
from pipeline.build.estimate import Work, plan
from pipeline.build.workplace import Workplace
from pipeline.core.outcome import Target
from pipeline.core.records import ImageRecord
from pipeline.host.engine import Engine
from pipeline.host.image import BuildImage
from tests.tiny_kit import Tiny


def targets(arch: str, *releases: str) -> list[Target]:
    return [Target(profile="p", release=r, arch=arch) for r in releases]


def test_the_plan_names_what_is_built_and_counts_what_kept_objects_make_cheap() -> None:
    one = targets("x86_64", "1", "2", "3")
    work = {one[0]: Work.NOTHING, one[1]: Work.KEPT_OBJECTS, one[2]: Work.KEPT_OBJECTS}
    assert plan(one, {}, 2) == "all 3 targets are built already"
    assert "about 7 minutes on 2 processors" in plan(one, work, 2)
    assert "about 14 minutes on 1 processor," in plan(one, work, 1)
    assert "about 2 minutes on 64 processors" in plan(one, work, 64)
    assert "(2 more are built already); about 6 minutes" in plan(one, {one[2]: Work.NOTHING}, 2)
    assert "(2 more are built already); about 1 minute on" in plan(one, {one[2]: Work.KEPT_OBJECTS}, 2)
    assert "about 2 minutes" in plan(one, {one[2]: Work.CCACHE}, 2)
    both = work | dict.fromkeys(targets("aarch64", "1"), Work.NOTHING)
    assert "about 13 minutes on 2 processors" in plan(list(both), both, 2)
    assert "p/1/aarch64" in plan(list(both), both, 2)


def test_what_a_build_begins_with(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = BuildImage(Engine("podman"), "x", ImageRecord(id="x", base="x", pinned=True))
    two = [tiny.target("1.0"), tiny.target("1.1")]
    builder = tiny.builder(image=image)
    assert list(every.work(builder, two).values()) == [Work.NOTHING, Work.KEPT_OBJECTS]
    monkeypatch.setattr("pipeline.build.trees.kept", lambda *_: [tmp_path])
    assert set(every.work(builder, two).values()) == {Work.KEPT_OBJECTS}
    monkeypatch.setenv("PIPELINE_TREES", "no")
    assert list(every.work(builder, two).values()) == [Work.NOTHING, Work.CCACHE]
    builder = tiny.builder()
    builder.workplaces.use(Workplace(None, "native"))
    assert list(every.work(builder, two).values()) == [Work.NOTHING, Work.CCACHE]
