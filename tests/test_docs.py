"""Every documented command, and every command in a hint of an error, exists."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.run import run
from tests.command_kit import commands, ours, sessions, wrong_with

DOCUMENTS = sorted([*paths.REPO.glob("*.md"), *(paths.REPO / "docs").glob("*.md"),
                    *paths.BASELINES.glob("*.md")])  # fmt: skip
_SPAN = re.compile(r"`((?:nox -s|python -m pipeline) [^`]+)`")
#: ``nox -s VERB -- OPTIONS`` and the like, where a word stands for any
_PLACEHOLDER = {"VERB", "OPTIONS"}


#: other programs that we have people call, between backticks
_OTHERS = re.compile(r"`((?:(?:python3|pip|git|systemctl) |\.?ci/(?!run`|[\w-]+/)[\w-]+)[^`]*)`")


def _blocks(text: str) -> Iterator[tuple[str, bool]]:
    """Lines of code blocks, and whether a prompt says that the line is to be typed."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            bare = line.strip()
            yield bare.removeprefix("# ").removeprefix("$ "), bare.startswith(("# ", "$ "))


def _spans(form: re.Pattern[str], text: str) -> list[str]:
    # a span may be folded over two lines
    return form.findall(re.sub(r"\s*\n\s*", " ", text))


def written(text: str) -> list[list[str]]:
    """Our commands in code blocks and between backticks, placeholders left out."""
    found = [c for line, _ in _blocks(text) for c in ours(line)]
    found += [c for span in _spans(_SPAN, text) for c in ours(span)]
    return [c for c in found if not _PLACEHOLDER & set(c)]


def told(text: str) -> list[str]:
    """Everything that a document has people type: other programs as well, and what is set for a command."""
    typed = [line for line, prompt in _blocks(text) if prompt or ours(line)]
    typed += [span for form in (_SPAN, _OTHERS) for span in _spans(form, text)]
    found = [c for line in typed for c in commands(line, assignments=True) if not _PLACEHOLDER & set(c)]
    return [" ".join(shlex.quote(word) if " " in word else word for word in c) for c in found]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.relative_to(paths.REPO).as_posix())
def test_every_command_of_a_document_exists(document: Path) -> None:
    problems = [(" ".join(c), wrong) for c in written(document.read_text()) if (wrong := wrong_with(c))]
    assert problems == []


def test_there_are_commands_to_look_at() -> None:
    found = [c for d in DOCUMENTS for c in written(d.read_text())]
    assert len(found) > 15
    assert ["nox", "-s", "setup", "build", "verify"] in found


def test_every_command_of_our_own_hints_exists() -> None:
    problems = []
    for file in sorted(paths.PACKAGE.rglob("*.py")):
        # f-strings' {…} stand for a value; adjacent literals are one text
        text = re.sub(r"[\"']\s*\n\s*f?[\"']", "", file.read_text())
        for command in written(re.sub(r"\{[^{}]*\}", "VALUE", text)):
            if wrong := wrong_with(command):
                problems.append((file.name, " ".join(command), wrong))
    assert problems == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("$ nox -s buidl verify", "nox has no session buidl"),
        ("$ nox -s build --profile el9", "is a -- missing"),
        ("$ nox -s build verify -- --fresh", "build: No such option"),
        ("$ nox -s verify -- --place", "requires an argument"),
        ("$ nox -s build -- --aarch64-build native", "build: Invalid value"),
        ("$ PIPELINE_STATE=/x python -m pipeline drfit", "there is no verb drfit"),
        ("$ pip install nox && nox -s verify -- --no-such   # why", "verify: No such option"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str, wrong: str) -> None:
    ((command),) = written(f"```console\n{line}\n```\n")
    assert wrong in wrong_with(command)


def test_how_commands_are_read() -> None:
    script = "A=1 B='x y' nox -s build -- --arch ${A}/b # no\n# nox -s no\nfalse || nox -s lint"
    assert list(commands(script)) == [
        ["nox", "-s", "build", "--", "--arch", "${A}/b"], ["false"], ["nox", "-s", "lint"],
    ]  # fmt: skip
    assert written("`nox -s series -- --each`, or\n`nox -s\nlint`; `nox -s VERB -- OPTIONS` is the form") == [
        ["nox", "-s", "series", "--", "--each"], ["nox", "-s", "lint"],
    ]  # fmt: skip
    assert written("```\n$ nox -s lint  # don't ask\ndon't ask\n```") == [["nox", "-s", "lint"]]
    block = "```console\n$ pip install nox && A=1 nox -s lint  # it's\nout\n```\n    # systemctl status x\n"
    assert told(block + "`nox -s tests -- -m \"not x\"`, `ci/image save`, `ci/systemd/`") == [
        "pip install nox", "A=1 nox -s lint", "systemctl status x", "nox -s tests -- -m 'not x'",
        "ci/image save",
    ]  # fmt: skip
    assert {"setup", "build", "verify", "tests"} <= sessions()


@pytest.mark.integration
def test_the_site_is_built(tmp_path: Path) -> None:
    """Strict: a link or an anchor that leads nowhere is an error. Skipped where mkdocs is not installed."""
    pytest.importorskip("material", reason="the docs extra is not installed")
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = run(argv, cwd=paths.REPO, env={"NO_MKDOCS_2_WARNING": "1"}, success_codes=None)
    assert done.returncode == 0, done.text
    assert (tmp_path / "index.html").is_file()
