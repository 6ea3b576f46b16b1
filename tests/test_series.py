"""Series: exact application, failures with file and line, and a lint that is red for each thing."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline import profile
from pipeline.cli.series import command
from pipeline.core import paths
from pipeline.core.errors import ExitCode, UsageError
from pipeline.profile import Profile
from pipeline.source import patchfile, series

HEAD = """\
Subject: Change two lines
Why: Because the test
 says so.
Upstream:
 0123456789 first title
 abcdef0123456789abcdef0123456789abcdef01 second title
Author: tester
Signed-off-by: A Tester <tester@example.org>
Licence: LGPL-2.1-or-later
---
"""
DIFF = """\
--- a/dir/file.c
+++ b/dir/file.c
@@ -2,3 +2,3 @@
 two
-three
+THREE
 four
@@ -7,3 +7,4 @@
 seven
-eight
+EIGHT
+more
 nine
"""
SECOND = """\
--- a/dir/file.c
+++ b/dir/file.c
@@ -2,3 +2,3 @@
 two
-THREE
+3
 four
--- /dev/null
+++ b/new.c
@@ -0,0 +1,2 @@
+/* New.
+   Copyright The GNU Toolchain Authors.  */
"""
LINES = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n"


@pytest.fixture
def toy() -> Profile:
    """bookworm with the releases 1 and 2."""
    bookworm = profile.load("bookworm")
    one, two = (bookworm.release[0].model_copy(update={"name": name}) for name in ("1", "2"))
    return bookworm.model_copy(update={"release": [one, two], "step": [], "build_against": "2"})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory of patches in which nothing is wrong."""
    made = tmp_path / "patches"
    made.mkdir()
    (made / "a.patch").write_text(HEAD + DIFF)
    (made / "b.patch").write_text(HEAD.replace("two lines", "it again") + SECOND)
    (made / "1.series").write_text("# both\na.patch\n\nb.patch  # the second\n")
    (made / "2.series").write_text("# nothing\n")
    return made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "dir").mkdir(parents=True)
    (top / "dir" / "file.c").write_text(LINES)
    return top


def test_load_reads_headers_and_order(base: Path) -> None:
    loaded = series.load("toy", "1", base=base)
    first, second = loaded.patches
    assert (first.file, second.file) == ("a.patch", "b.patch")
    assert first.subject == "Change two lines"
    assert first.why == "Because the test says so."
    assert first.upstream == (
        "0123456789 first title",
        "abcdef0123456789abcdef0123456789abcdef01 second title",
    )
    assert first.sha256 == hashlib.sha256((HEAD + DIFF).encode()).hexdigest()
    assert first.diff == DIFF
    assert first.record.model_dump() == {
        "file": "a.patch",
        "sha256": first.sha256,
        "subject": "Change two lines",
        "upstream": first.upstream,
        "present": "",
    }
    assert series.load("toy", "2", base=base).patches == ()


def test_upstream_none_is_no_commit(base: Path) -> None:
    text = HEAD[: HEAD.index("Upstream")] + "Upstream: none\n" + HEAD[HEAD.index("Author") :]
    (base / "a.patch").write_text(text + DIFF)
    assert series.load("toy", "1", base=base).patches[0].upstream == ()


def test_apply_is_exact(base: Path, tree: Path) -> None:
    records = series.load("toy", "1", base=base).apply(tree)
    assert [r.file for r in records] == ["a.patch", "b.patch"]
    assert (tree / "dir" / "file.c").read_text() == LINES.replace("three", "3").replace(
        "eight", "EIGHT\nmore"
    )
    assert sorted(p.name for p in tree.rglob("*") if p.is_file()) == ["file.c", "new.c"]


@pytest.mark.parametrize("up_to", ["a.patch", "a"])
def test_up_to_stops_after_the_patch(base: Path, tree: Path, up_to: str) -> None:
    loaded = series.load("toy", "1", base=base)
    assert [r.file for r in loaded.apply(tree, up_to=up_to)] == ["a.patch"]
    assert "THREE" in (tree / "dir" / "file.c").read_text()
    with pytest.raises(UsageError, match="has no patch 'zzz'") as caught:
        loaded.apply(tree, up_to="zzz")
    assert "a.patch, b.patch" in caught.value.hint


def test_up_to_must_name_one(base: Path) -> None:
    (base / "ab.patch").write_text(HEAD + DIFF)
    (base / "1.series").write_text("a.patch\nab.patch\n")
    loaded = series.load("toy", "1", base=base)
    assert len(loaded.patches_up_to("a.patch")) == 1
    with pytest.raises(UsageError, match="more than one patch 'a'"):
        loaded.patches_up_to("a")


def test_a_bad_hunk_is_shown_with_both_files_and_lines(base: Path, tree: Path) -> None:
    (tree / "dir" / "file.c").write_text(LINES.replace("eight", "acht"))
    with pytest.raises(UsageError) as caught:
        series.load("toy", "1", base=base).apply(tree)
    message = caught.value.message
    hunk_line = (HEAD + DIFF).splitlines().index("@@ -7,3 +7,4 @@") + 1
    assert f"{base / 'a.patch'}:{hunk_line}: this hunk does not fit dir/file.c:7:" in message
    assert "    -eight\n    +EIGHT\n    +more\n" in message
    assert "-three" not in message  # the hunk that fitted
    assert caught.value.exit_code == ExitCode.WRONG_USE
    assert not list(tree.rglob("*.rej"))
    assert not list(tree.rglob("*.orig"))


def test_every_bad_hunk_is_shown(base: Path, tree: Path) -> None:
    (tree / "dir" / "file.c").write_text("quite\nanother\nfile\n")
    with pytest.raises(UsageError) as caught:
        series.load("toy", "1", base=base).apply(tree)
    assert caught.value.message.count("this hunk does not fit") == 2


def test_fuzz_is_not_enough(base: Path, tree: Path) -> None:
    (tree / "dir" / "file.c").write_text(LINES.replace("nine", "neun"))
    with pytest.raises(UsageError, match=r"does not fit dir/file\.c:7"):
        series.load("toy", "1", base=base).apply(tree)


def test_an_offset_is_warned_of(base: Path, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "dir" / "file.c").write_text("zero\n" + LINES)
    series.load("toy", "1", base=base).apply(tree)
    shown = capsys.readouterr().err
    assert "fits dir/file.c:3 only, 1 lines off; refresh the patch" in shown
    assert f"a.patch:{(HEAD + DIFF).splitlines().index('@@ -2,3 +2,3 @@') + 1}:" in shown


def test_a_patch_that_is_there_is_recognised(
    base: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = series.load("toy", "1", base=base)
    loaded.apply(tree, up_to="a.patch")
    first, second = loaded.apply(tree)
    assert (first.present, second.present) == ("every hunk of it is there, word for word", "")
    assert "a.patch is in the source already: every hunk" in capsys.readouterr().err
    assert (tree / "dir" / "file.c").read_text() == LINES.replace("three", "3").replace(
        "eight", "EIGHT\nmore"
    )


def test_a_patch_of_which_a_part_is_there_is_refused(base: Path, tree: Path) -> None:
    (tree / "dir" / "file.c").write_text(LINES.replace("three", "THREE"))
    with pytest.raises(UsageError, match="does not apply with fuzz 0"):
        series.load("toy", "1", base=base).apply(tree)


def test_a_patch_that_is_there_in_other_words(base: Path, tree: Path) -> None:
    """Every text must be there: one of two may be anybody's."""
    swap(base, "Author:", "Present: dir/file.c five\n dir/other.c a text of many words\nAuthor:")
    patch = series.load("toy", "1", base=base).patches[0]
    assert patch.present == (("dir/file.c", "five"), ("dir/other.c", "a text of many words"))
    assert series.apply_patch(patch, tree).present == ""
    (tree / "dir" / "file.c").write_text(LINES)
    (tree / "dir" / "other.c").write_text("/* a text of many words */\n")
    assert series.apply_patch(patch, tree).present == (
        "dir/file.c has 'five'; dir/other.c has 'a text of many words'"
    )
    assert (tree / "dir" / "file.c").read_text() == LINES


def test_a_missing_target_is_refused(base: Path, tree: Path) -> None:
    loaded = series.load("toy", "1", base=base)
    shutil.rmtree(tree / "dir")
    with pytest.raises(UsageError, match=r"dir/file\.c does not exist in the tree"):
        series.apply_patch(loaded.patches[0], tree)


def test_lint_is_green_where_nothing_is_wrong(base: Path, toy: Profile) -> None:
    assert series.lint(toy, base=base) == []


def swap(base: Path, old: str, new: str) -> None:
    text = (base / "a.patch").read_text()
    assert old in text
    (base / "a.patch").write_bytes(text.replace(old, new, 1).encode())


WIDE = """\
@@ -1,5 +1,5 @@
 one
 two
 three
-four
+FOUR
 five
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("Why: Because the test\n says so.\n", "", "the header has no Why"),
        ("Subject: Change two lines\n", "Subject:\n", "the header has no Subject"),
        ("Licence: LGPL-2.1-or-later\n", "", "the header has no Licence"),
        ("Licence: LGPL-2.1-or-later", "Licence: GPL-3.0-only", "Licence 'GPL-3.0-only' is not"),
        ("Author: tester\n", "Author: tester\nAuthor: another\n", "a second Author"),
        ("Author: tester\n", "Author: tester\nColour: red\n", "unknown field Colour"),
        ("Author: tester\n", "Author: tester\njust text\n", "neither 'Field: text' nor a folded line"),
        (" 0123456789 first title\n", " 0123 first title\n", "is not 'COMMIT TITLE'"),
        ("Signed-off-by: A Tester <tester@example.org>\n", "", "the header has no Signed-off-by"),
        ("A Tester <tester@example.org>", "A Tester", "is not 'NAME <ADDRESS>'"),
        ("A Tester <tester@example.org>", "<tester@example.org>", "is not 'NAME <ADDRESS>'"),
        ("Author: tester\n", "Author: tester\nPresent: dir/file.c\n", "is not 'FILE TEXT'"),
        (" 0123456789 first title\n", " 0123456789\n", "is not 'COMMIT TITLE'"),
        ("Licence: LGPL-2.1-or-later\n---\n", "Licence: LGPL-2.1-or-later\n", "no line --- ends the header"),
        ("+THREE\n", "+THREE \n", "trailing white space"),
        ("+THREE\n", "+THREE\r\n", "CR LF"),
        ("says so.\n", "says so. \n", "trailing white space"),
        ("Author: tester\n", "Author: tester\r\n", "CR LF"),
        ("@@ -2,3 +2,3 @@\n two\n-three\n+THREE\n four\n", WIDE, "more than 2 lines of context"),
        ("@@ -2,3 +2,3 @@", "@@ -2,4 +2,4 @@", "ends before it has the lines"),
        ("@@ -2,3 +2,3 @@", "@@ -2,2 +2,3 @@", "more lines than its header promises"),
        ("@@ -2,3 +2,3 @@", "@@ -2,1 +2,1 @@", "does not belong to a unified diff"),
        ("+++ b/dir/file.c\n", "", r"a line \+\+\+ must follow"),
        ("-three\n+THREE\n", " three\n", "the hunk changes nothing"),
        ("@@ -2,3 +2,3 @@\n two\n-three\n+THREE\n four\n", "@@ -2,1 +2,1 @@\n two\n", "changes nothing"),
        (DIFF, "", "the patch changes nothing"),
        ("--- a/dir/file.c\n", "surprise\n--- a/dir/file.c\n", "does not belong to a unified diff"),
    ],
)
def test_lint_is_red_for_a_patch_that_is_wrong(
    base: Path, toy: Profile, old: str, new: str, says: str
) -> None:
    swap(base, old, new)
    found = series.lint(toy, base=base)
    assert len(found) == 1, found
    assert found[0].startswith(f"{base / 'a.patch'}:")
    with pytest.raises(UsageError, match=says):
        raise UsageError(found[0])


def test_lint_is_red_for_a_new_file_without_a_copyright_line(base: Path, toy: Profile) -> None:
    text = (base / "b.patch").read_text()
    (base / "b.patch").write_text(text.replace("Copyright The GNU Toolchain Authors.", "Written by us."))
    (found,) = series.lint(toy, base=base)
    assert "new file new.c has no line 'Copyright The GNU Toolchain Authors.'" in found


def test_lint_is_red_for_what_is_unused_missing_or_strange(base: Path, toy: Profile) -> None:
    shutil.copy(base / "a.patch", base / "spare.patch")
    (base / "1.series").write_text("a.patch\nb.patch\na.patch\ngone.patch\n")
    (base / "2.series").unlink()
    (base / "3.series").write_text("")
    (base / "a.patch~").write_text("")
    found = "\n".join(series.lint(toy, base=base))
    for says in (
        f"{base}/spare.patch: no series uses it",
        f"{base}/1.series:3: a.patch is named twice",
        f"{base}/1.series:4: there is no patch gone.patch",
        f"{base}/2.series does not exist",
        f"{base}/3.series: profile bookworm has no release 3",
        f"{base}/a.patch~: neither a .patch nor a .series file",
    ):
        assert says in found
    assert len(found.splitlines()) == 6


def test_load_names_what_is_wrong(base: Path) -> None:
    with pytest.raises(UsageError, match=r"9\.series does not exist"):
        series.load("toy", "9", base=base)
    for name in ("gone.patch", "../patches/a.patch"):
        (base / "2.series").write_text(f"# x\n{name}\n")
        with pytest.raises(UsageError, match=r"2\.series:2: there is no patch"):
            series.load("toy", "2", base=base)
    (base / "2.series").write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match="is not UTF-8"):
        series.load("toy", "2", base=base)
    (base / "a.patch").write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match="is not UTF-8"):
        patchfile.read(base / "a.patch")


@pytest.mark.parametrize("name", profile.available())
def test_the_patches_that_come_with_the_pipeline_are_in_order(name: str) -> None:
    assert series.lint(profile.load(name)) == []


class TestVerb:
    """The command, on a tree and patches of the test's own."""

    @pytest.fixture(autouse=True)
    def _where(self, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
        monkeypatch.setattr(paths, "PATCHES", base.parent / "all")
        home = base.parent / "all" / "bookworm"
        shutil.copytree(base, home)
        (home / "1.series").rename(home / "12.0.series")
        (home / "2.series").rename(home / "12.0.z.series")
        (home / "12.1.series").write_text("a.patch\n")

    def call(self, *argv: str) -> Result:
        return CliRunner().invoke(command, list(argv), standalone_mode=False)

    def test_lint(self) -> None:
        assert self.call("--profile", "bookworm").return_value == ExitCode.PASS
        (paths.PATCHES / "bookworm" / "12.1.series").unlink()
        red = self.call("--profile", "bookworm", "--lint")
        assert red.return_value == ExitCode.FAILED
        assert "12.1.series does not exist" in red.output

    def test_each(self, tree: Path) -> None:
        (tree / "version.h").write_text("")
        argv = ["--profile", "bookworm", "--each", "--source", f"dir:{tree}"]
        done = self.call(*argv)
        assert done.return_value == ExitCode.PASS
        rows = [line.split() for line in done.output.splitlines() if line.startswith("bookworm/")]
        assert [(row[0], row[1], row[-1]) for row in rows] == [
            ("bookworm/12.0", "a.patch", "exactly"),
            ("bookworm/12.0", "b.patch", "exactly"),
            ("bookworm/12.0.z", "(none)", "is"),
            ("bookworm/12.1", "a.patch", "exactly"),
        ]
        (tree / "dir" / "file.c").write_text(LINES.replace("three", "THREE").replace("eight", "EIGHT\nmore"))
        there = self.call(*argv)
        assert there.return_value == ExitCode.PASS
        assert there.output.count("is there already: every hunk of it") == 2
        assert there.output.count("exactly") == 1
        (tree / "dir" / "file.c").write_text(LINES)
        short = self.call(*argv, "--release", "12.0", "--up-to", "a.patch")
        assert short.output.count("exactly") == 1
        (tree / "dir" / "file.c").write_text("\n" + LINES.replace("three", "drei"))
        red = self.call(*argv)
        assert red.return_value == ExitCode.FAILED
        assert red.output.count("does not apply") >= 2
        assert (tree / "dir" / "file.c").read_text().startswith("\none")  # only copies are patched

    def test_wrong_use(self) -> None:
        for argv in (
            ["--lint", "--each"], ["--up-to", "x"], ["--each", "--source", "dir:/"],
            ["--arch", "x86_64"], ["--each", "--place", "host"], ["--each", "--image", "x"],
        ):  # fmt: skip
            with pytest.raises(UsageError):
                CliRunner().invoke(command, argv, standalone_mode=False, catch_exceptions=False)
