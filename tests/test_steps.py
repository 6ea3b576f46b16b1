"""Warnings of a build's log, and which steps are compared (really built: integration/test_steps.py)."""

from __future__ import annotations

import pytest

from pipeline.build import rpmbuild, stepwise
from pipeline.build.builder import Builder
from pipeline.build.options import NO_PATCH, Options
from pipeline.build.stepwise import PatchStep
from pipeline.core.arch import host_arch
from pipeline.core.errors import CommandFailed, SourceUnreachable, UsageError
from pipeline.core.outcome import Target
from tests.tiny_kit import Tiny

LOG = """\
gcc ../csu/libc.c -c -o libc.o
../csu/libc.c: In function 'f':
../csu/libc.c:7:12: warning: unused variable 'x' [-Wunused-variable]
/state/build/.k.tmp-abc/rpmbuild/BUILD/glibc-2.36/elf/rtld.c:9:1: warning: no return
/usr/bin/ld: warning: x.o: missing .note.GNU-stack section
../csu/libc.c:99:1: warning: unused variable 'x' [-Wunused-variable]
x.c:1:1: error: no
warning: Macro expanded in comment on line 3: %build
a.c:4: warning: old form\r
"""


def test_a_warning_is_its_file_and_words_wherever_it_stands() -> None:
    assert {rpmbuild.warning_in(line) for line in LOG.splitlines()} - {""} == {
        "../csu/libc.c: unused variable 'x' [-Wunused-variable]",
        "elf/rtld.c: no return",
        "a.c: old form",
    }


@pytest.mark.parametrize(
    ("patch", "new", "trouble", "wrong"),
    [
        ("a.patch", (), "", False),
        ("a.patch", None, "", False),
        ("a.patch", ("x.c: no",), "", True),
        ("a.patch", None, "gcc failed", True),
        (NO_PATCH, None, "gcc failed", False),
    ],
)
def test_which_steps_are_wrong(patch: str, new: tuple[str, ...] | None, trouble: str, wrong: bool) -> None:
    assert PatchStep("1.0", patch, frozenset(), new, trouble).wrong is wrong


@pytest.fixture
def tiny(tiny: Tiny) -> Tiny:
    for name, what in (("0002-two.patch", "s[1]"), ("0003-three.patch", "s[2]")):
        tiny.add("1.0", name, "csu/libc.c", "return s[0]", f"return {what}")
    # 1.1 begins as 1.0 does, and goes on otherwise
    (tiny.patches / "tiny" / "1.1.series").write_text("0001-withdraw.patch\n0003-three.patch\n")
    return tiny


def walk(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, said: dict[str, set[str] | Exception]
) -> tuple[list[PatchStep], list[str]]:
    """The steps when builds say this, by patch; and which were built, in order."""
    built: list[str] = []

    def warnings_of(builder: Builder, target: Target) -> frozenset[str]:
        built.append(f"{target.release} {builder.options.up_to}")
        answer = said.get(builder.options.up_to, set())
        if isinstance(answer, Exception):
            raise answer
        return frozenset(answer)

    monkeypatch.setattr(stepwise, "warnings_of", warnings_of)
    builder = tiny.builder(Options(place="host"))
    return list(stepwise.each(builder, ["1.0", "1.1"], host_arch().name)), built


def test_each_step_is_compared_with_the_one_before(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    found, built = walk(
        tiny, monkeypatch, {NO_PATCH: {"a"}, "0001-withdraw.patch": {"a", "b"}, "0002-two.patch": {"c", "b"}}
    )
    assert [(s.release, s.patch, s.new, s.as_in) for s in found] == [
        ("1.0", NO_PATCH, None, ""),
        ("1.0", "0001-withdraw.patch", ("b",), ""),
        ("1.0", "0002-two.patch", ("c",), ""),
        ("1.0", "0003-three.patch", (), ""),
        ("1.1", NO_PATCH, None, "1.0"),
        ("1.1", "0001-withdraw.patch", ("b",), "1.0"),
        ("1.1", "0003-three.patch", (), ""),
    ]
    assert built == [
        f"1.0 {NO_PATCH}", "1.0 0001-withdraw.patch", "1.0 0002-two.patch", "1.0 0003-three.patch",
        "1.1 0003-three.patch",
    ]  # fmt: skip


def test_a_step_that_does_not_build_is_passed_over_in_comparing(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = CommandFailed("rpmbuild ended with status 1", returncode=1)
    found, _ = walk(
        tiny, monkeypatch,
        {NO_PATCH: UsageError("no"), "0001-withdraw.patch": {"a"}, "0002-two.patch": broken,
         "0003-three.patch": {"a", "b"}},
    )  # fmt: skip
    assert [(s.trouble, s.new) for s in found[:4]] == [
        ("no", None), ("", None), ("rpmbuild ended with status 1", None), ("", ("b",)),
    ]  # fmt: skip
    assert [s.wrong for s in found[:4]] == [False, False, True, True]


@pytest.mark.parametrize(
    "error", [CommandFailed("podman ended with status 125", returncode=125), SourceUnreachable("gone")]
)
def test_what_is_no_patchs_fault_is_raised(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with pytest.raises(type(error)):
        walk(tiny, monkeypatch, {"0001-withdraw.patch": error})
