"""The el9 patches: whole, used, and in the shape the three releases promise. No source tree is needed."""

from __future__ import annotations

import re

import pytest

from pipeline import profile
from pipeline.profile import Profile
from pipeline.source import series
from pipeline.source.series import Series

SYMBOLS = {"__rseq_flags", "__rseq_offset", "__rseq_size"}


@pytest.fixture(scope="module")
def el9() -> Profile:
    return profile.load("el9")


def added_to(release: Series, target: str) -> list[str]:
    """The lines a release's patches add to one file of the tree, less those a later patch takes away."""
    lines: list[str] = []
    for patch in release.patches:
        for hunk in patch.hunks():
            if hunk.target == target:
                for line in hunk.lines:
                    if line.startswith("-") and line[1:] in lines:
                        lines.remove(line[1:])
                    elif line.startswith("+"):
                        lines.append(line[1:])
    return lines


def test_nothing_is_wrong_with_the_patches(el9: Profile) -> None:
    assert series.lint(el9) == []


def test_every_patch_tells_its_upstream_or_is_the_default(el9: Profile) -> None:
    silent = {p.file for r in el9.releases for p in series.load("el9", r).patches if not p.upstream}
    assert silent == {"0012-nptl-rseq-off-by-default.patch"}


def test_fixes_that_need_each_other_are_both_named(el9: Profile) -> None:
    """2.34-74.el9 took 2c6b4b272e without 7a76f21867, and sched_getcpu lost rseq (RHEL-28119)."""
    for release in el9.releases:
        named = {u.split()[0] for p in series.load("el9", release).patches for u in p.upstream}
        assert {"2c6b4b272e", "7a76f21867"} <= named


@pytest.mark.parametrize("release", ["9.0", "9.0.z", "9.1"])
def test_symbols_and_default_are_those_of_the_profile(el9: Profile, release: str) -> None:
    wanted = el9.get(release)
    patches = series.load("el9", release)
    exported = {
        line.strip().rstrip(";")
        for line in added_to(patches, "sysdeps/unix/sysv/linux/Versions")
        if line.strip().startswith("__")
    }
    assert exported == (SYMBOLS if wanted.exports_rseq else set())
    tunable = "\n".join(added_to(patches, "sysdeps/nptl/dl-tunables.list"))
    assert re.findall(r"default: (\d)", tunable) == [str(wanted.rseq_default)]


@pytest.mark.parametrize(("port", "machine"), [("x86_64/64", "x86_64"), ("aarch64", "aarch64")])
def test_abilists_say_what_the_profile_says(el9: Profile, port: str, machine: str) -> None:
    assert machine in el9.arches
    expected = [line.split(" ", 1)[1] for line in el9.rseq.symbols]
    for release in el9.releases.values():
        lines = added_to(series.load("el9", release.name), f"sysdeps/unix/sysv/linux/{port}/ld.abilist")
        assert lines == (expected if release.exports_rseq else [])


def test_the_node_is_in_no_other_dso(el9: Profile) -> None:
    for release in el9.releases:
        for patch in series.load("el9", release).patches:
            for hunk in patch.hunks():
                if any(line.startswith("+") and "GLIBC_2.35" in line for line in hunk.lines):
                    assert hunk.target == "sysdeps/unix/sysv/linux/Versions" or hunk.target.endswith(
                        "/ld.abilist"
                    )


def test_sched_getcpu_does_not_depend_on_a_macro(el9: Profile) -> None:
    """The cause of RHEL-28119 was a condition on RSEQ_SIG around the read of the area."""
    for release in el9.releases:
        added = added_to(series.load("el9", release), "sysdeps/unix/sysv/linux/sched_getcpu.c")
        assert any("rseq_area.cpu_id" in line for line in added)
        assert not [line for line in added if line.startswith(("#if", "# if"))]
