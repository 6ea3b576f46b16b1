"""ci/drift-issue with a `gh` that keeps issues in a file: one is opened, kept up to date and closed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import paths

SCRIPT = paths.REPO / "ci" / "drift-issue"

#: knows the five calls that the script makes, as gh 2 understands them; anything else fails
GH = """#!{python}
import argparse, json, os, sys
from pathlib import Path

store = Path({store!r})
issues = json.loads(store.read_text())
with Path({calls!r}).open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if os.environ.get("GH_FAILS") == " ".join(sys.argv[1:3]):
    sys.exit("gh: HTTP 502")
parser = argparse.ArgumentParser()
top = parser.add_subparsers(dest="what", required=True)
label = top.add_parser("label").add_subparsers(dest="verb", required=True).add_parser("create")
label.add_argument("name")
for option in ("--color", "--description"):
    label.add_argument(option)
label.add_argument("--force", action="store_true")
issue = top.add_parser("issue").add_subparsers(dest="verb", required=True)
listing, create, edit, close = (issue.add_parser(v) for v in ("list", "create", "edit", "close"))
for option in ("--label", "--state", "--limit", "--json", "--jq"):
    listing.add_argument(option, required=True)
for option in ("--title", "--label", "--body-file"):
    create.add_argument(option, required=True)
edit.add_argument("number", type=int)
edit.add_argument("--title")
edit.add_argument("--body-file", required=True)
close.add_argument("number", type=int)
close.add_argument("--reason", choices=["completed", "not planned"])
close.add_argument("--comment")
a = parser.parse_args()
if a.what == "label":
    sys.exit(0)
if a.verb == "list":
    assert (a.state, a.json, a.jq) == ("open", "number", "sort_by(.number) | .[].number")
    for i in sorted(issues, key=lambda i: i["number"]):
        if i["open"] and i["label"] == a.label:
            print(i["number"])
elif a.verb == "create":
    number = max([i["number"] for i in issues], default=0) + 1
    body = Path(a.body_file).read_text()
    issues.append(dict(number=number, open=True, label=a.label, title=a.title, body=body))
else:
    found = next(i for i in issues if i["number"] == a.number)
    if a.verb == "edit":
        found.update(title=a.title, body=Path(a.body_file).read_text())
    else:
        found.update(open=False, reason=a.reason, comment=a.comment)
store.write_text(json.dumps(issues))
"""


@dataclass
class GitHub:
    """Issues in a file, a `gh` that reads and writes them, and the script run with it."""

    directory: Path

    def __post_init__(self) -> None:
        self.store = self.directory / "issues.json"
        self.calls = self.directory / "calls"
        self.store.write_text("[]")
        binaries = self.directory / "bin"
        binaries.mkdir()
        gh = binaries / "gh"
        gh.write_text(GH.format(python=sys.executable, store=str(self.store), calls=str(self.calls)))
        gh.chmod(0o755)
        self.summary = self.directory / "drift.md"

    @property
    def issues(self) -> list[dict[str, Any]]:
        loaded: list[dict[str, Any]] = json.loads(self.store.read_text())
        return loaded

    def has(self, *issues: dict[str, Any]) -> None:
        self.store.write_text(json.dumps(issues))

    def run(self, status: str, text: str = "# Drifted\n", **env: str) -> subprocess.CompletedProcess[str]:
        self.summary.write_text(text)
        path = f"{self.directory / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            [SCRIPT, status, self.summary], env={**os.environ, "PATH": path, **env}, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture
def github(tmp_path: Path) -> GitHub:
    return GitHub(tmp_path)


def issue(number: int, *, is_open: bool = True, label: str = "glibc-drift") -> dict[str, Any]:
    return {"number": number, "open": is_open, "label": label, "title": "t", "body": "old"}


def test_days_of_drift_are_one_issue(github: GitHub) -> None:
    for day in ("one", "two", "three"):
        done = github.run("1", f"# Drifted on day {day}\n", RUN_URL=f"https://ci.example/{day}")
        assert done.returncode == 0, done.stderr
    (only,) = github.issues
    assert only["open"]
    assert only["label"] == "glibc-drift"
    assert "day three" in only["body"]
    assert "day two" not in only["body"]
    assert "https://ci.example/three" in only["body"]


def test_it_is_closed_when_the_drift_is_over_and_another_drift_is_another_issue(github: GitHub) -> None:
    assert github.run("1").returncode == 0
    assert github.run("0").returncode == 0
    (first,) = github.issues
    assert (first["open"], first["reason"]) == (False, "completed")
    assert github.run("0").returncode == 0
    assert github.run("1").returncode == 0
    assert [(i["number"], i["open"]) for i in github.issues] == [(1, False), (2, True)]


def test_no_drift_and_no_issue_touches_nothing(github: GitHub) -> None:
    assert github.run("0").returncode == 0
    assert github.issues == []
    assert [json.loads(c)[:2] for c in github.calls.read_text().splitlines()] == [["issue", "list"]]


@pytest.mark.parametrize("status", ["2", "3", "4", "130", "", "x"])
def test_a_look_that_saw_nothing_says_nothing(github: GitHub, status: str) -> None:
    github.has(issue(7))
    done = github.run(status)
    assert done.returncode == 2
    assert github.issues == [issue(7)]
    assert not github.calls.exists()


def test_others_issues_are_left_alone_and_duplicates_closed(github: GitHub) -> None:
    github.has(issue(9), issue(3, label="bug"), issue(5), issue(4, is_open=False))
    assert github.run("1").returncode == 0
    state = {i["number"]: (i["open"], i["body"][:9]) for i in github.issues}
    assert state == {9: (False, "old"), 3: (True, "old"), 5: (True, "# Drifted"), 4: (False, "old")}
    github.has(issue(9), issue(5))
    assert github.run("0").returncode == 0
    assert not any(i["open"] for i in github.issues)


@pytest.mark.parametrize("call", ["issue list", "issue create", "label create"])
def test_a_failing_gh_fails_the_step(github: GitHub, call: str) -> None:
    """A list that failed is not an empty list: that would open an issue a day."""
    assert github.run("1", GH_FAILS=call).returncode != 0
    assert github.issues == []


def test_an_empty_summary_is_no_news(github: GitHub) -> None:
    github.has(issue(2))
    assert github.run("1", "").returncode == 4
    assert github.issues == [issue(2)]


def test_a_long_summary_is_cut_at_a_line_and_its_code_block_closed(github: GitHub) -> None:
    lines = "".join(f"+ libc.so.6: GLIBC_2.99 symbol_{n} F\n" for n in range(5000))
    assert github.run("1", f"# Drifted\n\n```diff\n{lines}```\n").returncode == 0
    body = github.issues[0]["body"]
    assert len(body) < 65536
    assert body.count("```") == 2
    assert "cut here" in body
    whole = [line for line in body.splitlines() if line.startswith("+")]
    assert len(whole) > 1000
    assert all(line.endswith(" F") for line in whole)
