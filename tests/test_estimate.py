"""What is said before a build: what there is, what is to be made, how long that takes here."""

from __future__ import annotations

from pipeline.build.estimate import plan
from pipeline.core.outcome import Target


def targets(arch: str, *releases: str) -> list[Target]:
    return [Target(profile="p", release=r, arch=arch) for r in releases]


def test_the_plan_names_what_is_built_and_counts_what_ccache_makes_cheap() -> None:
    one = targets("x86_64", "1", "2", "3")
    assert plan(one, [], 2) == "all 3 targets are built already"
    assert "about 16 minutes on 2 processors" in plan(one, one, 2)
    assert "about 32 minutes on 1 processor," in plan(one, one, 1)
    assert "(2 more are built already); about 9 minutes" in plan(one, one[2:], 2)
    both = [*one, *targets("aarch64", "1")]
    assert "about 25 minutes on 2 processors" in plan(both, both, 2)
    assert "p/1/aarch64" in plan(both, both, 2)
