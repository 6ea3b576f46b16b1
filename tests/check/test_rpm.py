"""The judgements of the RPM checks, on packages written byte by byte and on what rpm may say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.check import StaticCheck
from pipeline.check.rpm import (
    Provides,
    Requires,
    Transaction,
    capability,
    judge_base,
    judge_program,
    provides,
)  # fmt: skip
from pipeline.core.outcome import Outcome
from pipeline.core.records import Built
from pipeline.rpm.inventory import OWN
from pipeline.rpm.transaction import Attempt, Transactions
from tests.check.rpm_bench import answers, built, material, outcomes
from tests.rpmwriter import write

PASS, FAIL, ERROR, MISSING = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.MISSING
NODE = "ld-linux-x86-64.so.2(GLIBC_2.35)(64bit)"
ALWAYS = ("ld-linux-x86-64.so.2()(64bit)", "ld-linux-x86-64.so.2(GLIBC_2.3)(64bit)", "rtld(GNU_HASH)")


def release(
    directory: Path,
    name: str,
    extra: Sequence[str] = (),
    *,
    base: Sequence[str] = ALWAYS,
    node: str = "",
    machine: str = "x86_64",
) -> Built:
    here = directory / f"{name}-{machine}"
    here.mkdir()
    own = f"2.36-{name}"
    exported = [node or NODE] if name != "12.0" else []
    glibc = write(
        here, "glibc", version="2.36", release=name, arch=machine,
        provides=[f"glibc(x86-64) = {own}", f"config(glibc) = {own}", *base, *exported, *extra],
    )  # fmt: skip
    common = write(here, "glibc-common", version="2.36", release=name, arch=machine)
    debug = write(
        here, "glibc-debuginfo", version="2.36", release=name, arch=machine,
        provides=[f"debuginfo(build-id) = {name}"],
    )  # fmt: skip
    return built(name, [glibc, common, debug], machine=machine)


def three(directory: Path, **changed: Sequence[str]) -> dict[str, Built]:
    """The three releases as they should be; ``r12_1=[...]`` adds Provides to one."""
    return {
        name: release(directory, name, changed.get("r" + name.replace(".", "_"), ()))
        for name in ("12.0", "12.0.z", "12.1")
    }


STEPS = ("12.0 -> 12.0.z", "12.0 -> 12.1", "12.0.z -> 12.1")


def test_the_checks_are_checks() -> None:
    checks: list[StaticCheck] = [Provides(), Requires(), Transaction()]
    assert [c.name for c in checks] == ["rpm.provides", "rpm.requires", "rpm.transaction"]


def test_provides_of_the_right_releases(tmp_path: Path) -> None:
    workbench = material(three(tmp_path), tmp_path)
    found = Provides().run(workbench)
    assert outcomes(found) == {(s, ""): PASS for s in STEPS}
    assert answers(found)["12.0 -> 12.1", ""].seen == f"added: {NODE}; removed: nothing"
    assert answers(found)["12.0.z -> 12.1", ""].seen == "added: nothing; removed: nothing"
    assert {(q.target.release, q.case) for q in Provides().questions(workbench)} == set(outcomes(found))


def test_provides_on_aarch64(tmp_path: Path) -> None:
    node = "ld-linux-aarch64.so.1(GLIBC_2.35)(64bit)"
    good = {n: release(tmp_path, n, node=node, machine="aarch64") for n in ("12.0", "12.0.z", "12.1")}
    found = Provides().run(material(good, tmp_path, "aarch64"))
    assert outcomes(found) == {(s, ""): PASS for s in STEPS}
    (tmp_path / "bad").mkdir()
    wrong = {n: release(tmp_path / "bad", n, machine="aarch64") for n in ("12.0", "12.0.z", "12.1")}
    found = Provides().run(material(wrong, tmp_path, "aarch64"))
    assert outcomes(found)["12.0 -> 12.1", ""] is FAIL


@pytest.mark.parametrize(
    "extra",
    [
        ["libc.so.6(GLIBC_2.35)(64bit)"],
        ["libm.so.6(GLIBC_2.35)(64bit)"],
        ["ld-linux-x86-64.so.2(GLIBC_2.36)(64bit)"],
        [NODE],  # by a second package or twice
        ["bundled(gnulib) = 1"],
        ["glibc-ng = 2.36-12.1"],  # the release's own version, yet a new name
    ],
)
def test_an_extra_provide_is_red(tmp_path: Path, extra: list[str]) -> None:
    found = Provides().run(material(three(tmp_path, r12_1=extra), tmp_path))
    assert outcomes(found) == {(STEPS[0], ""): PASS, (STEPS[1], ""): FAIL, (STEPS[2], ""): FAIL}


def test_a_lost_provide_is_red(tmp_path: Path) -> None:
    found = Provides().run(material(three(tmp_path, r12_0=["libnsl.so.1(GLIBC_2.2.5)(64bit)"]), tmp_path))
    assert outcomes(found) == {(STEPS[0], ""): FAIL, (STEPS[1], ""): FAIL, (STEPS[2], ""): PASS}
    assert "removed: libnsl.so.1(GLIBC_2.2.5)(64bit)" in answers(found)[STEPS[0], ""].seen


def test_the_missing_node_is_red(tmp_path: Path) -> None:
    releases = three(tmp_path)
    (tmp_path / "without").mkdir()
    releases["12.1"] = release(tmp_path / "without", "12.1", node="rtld(OTHER)")
    found = Provides().run(material(releases, tmp_path))
    assert outcomes(found) == {(STEPS[0], ""): PASS, (STEPS[1], ""): FAIL, (STEPS[2], ""): FAIL}


def test_a_changed_version_is_red(tmp_path: Path) -> None:
    found = Provides().run(material(three(tmp_path, r12_0_z=["x = 1"], r12_1=["x = 2"]), tmp_path))
    assert outcomes(found)[STEPS[2], ""] is FAIL
    assert answers(found)[STEPS[2], ""].seen == "added: x = 2; removed: x = 1"


def test_only_the_own_version_is_taken_for_equal(tmp_path: Path) -> None:
    counted = provides(release(tmp_path, "12.1", ["x = 2.36-12.0"]))
    assert counted[f"glibc(x86-64) = {OWN}"] == 1
    assert counted["x = 2.36-12.0"] == 1
    assert not any("build-id" in name for name in counted)


def test_steps_of_releases_that_are_not_there_are_not_asked(tmp_path: Path) -> None:
    releases = three(tmp_path)
    del releases["12.0"]
    assert [q.target.release for q in Provides().questions(material(releases, tmp_path))] == [STEPS[2]]


def test_a_damaged_rpm_spoils_its_own_steps_only(tmp_path: Path) -> None:
    releases = three(tmp_path)
    rpm = next(releases["12.0"].rpms.glob("glibc-2.36*"))
    rpm.write_bytes(rpm.read_bytes()[:-3])
    found = Provides().run(material(releases, tmp_path))
    assert outcomes(found) == {(STEPS[0], ""): ERROR, (STEPS[1], ""): ERROR, (STEPS[2], ""): PASS}
    assert "cut off" in answers(found)[STEPS[0], ""].seen


def test_an_rpm_that_is_gone_is_an_error(tmp_path: Path) -> None:
    releases = three(tmp_path)
    next(releases["12.1"].rpms.glob("glibc-common*")).unlink()
    assert outcomes(Provides().run(material(releases, tmp_path)))[STEPS[1], ""] is ERROR


# -- Requires ------------------------------------------------------------------------------------------------

LIBC = "libc.so.6(GLIBC_2.34)(64bit)"


@pytest.mark.parametrize(
    ("requires", "wanted", "outcome"),
    [
        ([LIBC, NODE], {NODE}, PASS),
        ([LIBC], set(), PASS),
        ([LIBC], {NODE}, FAIL),  # the generator did not see it
        ([LIBC, NODE], set(), FAIL),  # a program that should not need it
        ([LIBC, NODE, "libc.so.6(GLIBC_2.35)(64bit)"], {NODE}, FAIL),
        ([LIBC, "libc.so.6(GLIBC_2.35)(64bit)"], {NODE}, FAIL),  # the node of another DSO
        ([], set(), FAIL),  # no generator ran
        (["/bin/sh"], set(), FAIL),
    ],
)
def test_requires(tmp_path: Path, requires: list[str], wanted: set[str], outcome: Outcome) -> None:
    package = write(tmp_path, "launch", requires=requires)
    assert Requires.judge(material({}, tmp_path), package, wanted)[0] is outcome


def test_programs_that_were_not_compiled_are_missing(tmp_path: Path) -> None:
    workbench = material(three(tmp_path), tmp_path)
    for check in (Requires(), Transaction()):
        found = check.run(workbench)
        assert len(found) == len(check.questions(workbench)) > 0
        assert {f.outcome for f in found} == {MISSING}
        assert all("was not compiled for x86_64" in f.seen for f in found)


# -- transactions --------------------------------------------------------------------------------------------

NEEDED = f"{NODE} is needed by launch-rseq-1-1.x86_64"
OTHER = "libc.so.6(GLIBC_2.36)(64bit) is needed by launch-rseq-1-1.x86_64"
ACCEPTED = Attempt(True, (), "")


def refused(*unmet: str, other: str = "") -> Attempt:
    return Attempt(False, unmet, "error: Failed dependencies:", other)


@pytest.mark.parametrize(
    ("attempt", "wanted", "outcome"),
    [
        (ACCEPTED, set(), PASS),
        (refused(NEEDED), {NEEDED}, PASS),
        (ACCEPTED, {NEEDED}, FAIL),  # accepted where it must be refused
        (refused(NEEDED), set(), FAIL),  # refused where it must be accepted
        (refused(OTHER), {NEEDED}, FAIL),  # refused for another reason
        (refused(NEEDED, OTHER), {NEEDED}, FAIL),  # and for another one as well
        (refused(NEEDED, other="file /x conflicts"), {NEEDED}, FAIL),
        (refused(other="is intended for a different architecture"), {NEEDED}, FAIL),
        (refused(), {NEEDED}, FAIL),
        (refused(), set(), FAIL),
    ],
)
def test_program_transactions(attempt: Attempt, wanted: set[str], outcome: Outcome) -> None:
    assert judge_program(attempt, wanted)[0] is outcome


@pytest.mark.parametrize(
    ("base", "forced", "foreign", "outcome"),
    [
        (ACCEPTED, None, False, PASS),
        (ACCEPTED, None, True, PASS),
        (refused("basesystem is needed by glibc-2.34-1.x86_64"), ACCEPTED, True, PASS),
        (
            refused("basesystem is needed by glibc-2.34-1.x86_64"),
            ACCEPTED,
            False,
            FAIL,
        ),  # our own: not closed
        (refused(other="file conflicts"), ACCEPTED, True, FAIL),
        (refused("x is needed by y"), refused(other="file conflicts"), True, FAIL),
    ],
)
def test_base_transactions(base: Attempt, forced: Attempt | None, foreign: bool, outcome: Outcome) -> None:
    got, seen = judge_base(Transactions(base, forced, {}), foreign=foreign)
    assert got is outcome
    if outcome is PASS and forced:
        assert "--nodeps" in seen
        assert "basesystem" in seen


def test_capability() -> None:
    assert capability("ld-linux-aarch64.so.1", "GLIBC_2.35") == "ld-linux-aarch64.so.1(GLIBC_2.35)(64bit)"
