"""A tutorial whose command stops working, or that shows what does not come, is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tutorial_kit
from tests.tutorial_kit import Typed, files, missing, steps, walk

PAGE = 'Save:\n\n```text title="a.txt"\n    $ not typed\n```\n\n    $ cat a.txt\n        $ not typed\n'


def test_what_is_typed_and_what_is_shown() -> None:
    assert files(PAGE) == [("a.txt", "    $ not typed\n")]
    assert [(t.line, t.shown) for t in steps(PAGE)] == [("cat a.txt", ["        $ not typed"])]
    typed = steps("Say\n\n    $ a\n    x\n\n      y\n\nwords\n\n    not shown\n    $ b\n")
    assert [(t.line, [s.strip() for s in t.shown]) for t in typed] == [("a", ["x", "y"]), ("b", [])]


def test_lines_are_typed_into_one_shell(tmp_path: Path) -> None:
    todo = [Typed("x=5; cd /"), Typed("echo $x $PWD; echo bad >&2; false"), Typed("echo $?")]
    walk(todo, tmp_path, {})
    assert [(t.code, t.came) for t in todo] == [(0, []), (1, ["5 /", "bad"]), (0, ["1"])]


@pytest.mark.parametrize(
    ("shown", "lost"),
    [
        (["one", "two"], []),
        (["two", "three 4"], []),
        (["one", "...", "three   4"], []),
        (["one", "three 4"], ["three 4"]),  # something came between
        (["two", "...", "one"], ["one"]),  # another order
        (["thre", "three 5"], ["thre", "three 5"]),
        (["three ..."], []),
        (["... 4", "more"], ["more"]),
        (["o...e", "two..."], []),
    ],
)
def test_what_is_shown_must_come(shown: list[str], lost: list[str]) -> None:
    assert missing(Typed("x", shown, 0, ["one", "", "two", "three  4"])) == lost


def test_a_line_that_fails_unasked_is_a_problem() -> None:
    failed, asked = Typed("false", [], 1, ["why"]), Typed("echo $?", ["1"], 0, ["1"])
    assert tutorial_kit.problems([failed, asked]) == []
    (said,) = tutorial_kit.problems([failed, Typed("true", [], 0)])
    assert said.startswith("$ false  # 1\n")
    assert "why" in said
    assert len(tutorial_kit.problems([Typed("true", ["word"], 0)])) == 1
