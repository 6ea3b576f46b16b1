"""``--json`` of every verb and the completion of shells, as a user calls them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.cli import completion

PIPELINE = [sys.executable, "-m", "pipeline"]


def call(*args: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PIPELINE, *args], cwd=cwd, env={**os.environ, "PIPELINE_STATE": str(cwd / "state"), **env},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_every_verb_has_it() -> None:
    for verb in cli.VERBS:
        command = cli.cli.get_command(None, verb)  # type: ignore[arg-type]
        assert command is not None
        assert sum("--json" in p.opts for p in command.params) == 1, verb


def test_a_verb_tells_how_it_ended(tmp_path: Path) -> None:
    (tmp_path / "state" / "logs").mkdir(parents=True)
    assert call("clean", "--json", "x.json", cwd=tmp_path).returncode == 0
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["schema"] == 1
    assert (record["verb"], record["exit_code"], record["outcome"]) == ("clean", 0, "pass")
    assert record["error"] == record["what_to_do"] == ""
    assert isinstance(record["result"]["removed"], list)


@pytest.mark.parametrize(
    ("arguments", "code", "outcome", "words"),
    [
        (["build", "--json", "x.json", "--profile", "none"], 2, "wrong use", "none"),
        (["build", "--json", "x.json", "--nonsense"], 2, "wrong use", "--nonsense"),
        (["report", "--json", "x.json", "--evidence", "absent.json"], None, None, "absent.json"),
    ],
)
def test_an_error_is_told_and_an_older_record_is_gone(
    tmp_path: Path, arguments: list[str], code: int | None, outcome: str | None, words: str
) -> None:
    (tmp_path / "x.json").write_text('{"exit_code": 0}')
    done = call(*arguments, cwd=tmp_path)
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["exit_code"] == done.returncode != 0
    assert code is None or record["exit_code"] == code
    assert outcome is None or record["outcome"] == outcome
    assert words in record["error"]


def test_a_place_that_cannot_be_written_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = call("clean", "--json", "file/x.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "--json FILE" in done.stderr


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_script_is_one_that_the_shell_reads(tmp_path: Path, shell: str) -> None:
    done = call("completion", shell, cwd=tmp_path)
    assert completion.VARIABLE in done.stdout
    if program := shutil.which(shell):
        check = subprocess.run(
            [program, "-n"], input=done.stdout, text=True, capture_output=True, check=False
        )
        assert (check.returncode, check.stderr) == (0, "")


def test_verbs_and_options_are_completed(tmp_path: Path) -> None:
    env = {completion.VARIABLE: "bash_complete", "COMP_CWORD": "1"}
    done = call(cwd=tmp_path, COMP_WORDS="glibc-pipeline s", **env)
    assert done.stdout.split() == ["plain,setup", "plain,series", "plain,scan"]
    env["COMP_CWORD"] = "2"
    done = call(cwd=tmp_path, COMP_WORDS="glibc-pipeline scan --fl", **env)
    assert done.stdout.split() == ["plain,--floor"]
