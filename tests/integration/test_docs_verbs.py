"""Every command in docs/scan.md and docs/drift.md is run, and says what the page says it does."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.run import run
from tests.scan import kit

pytestmark = pytest.mark.integration

DOCS = paths.REPO / "docs"


def commands(page: str) -> dict[str, list[str]]:
    """``nox -s VERB -- ARGUMENTS`` -> the lines shown below it."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("    $ "):
            current = found.setdefault(line[6:], [])
        elif line.startswith("    ") and current is not None:
            current.append(line[4:])
        elif line:
            current = None
    return found


def call(line: str) -> Result:
    match = re.fullmatch(r"nox -s (\w+) -- (.*)", line)
    assert match, line
    command = import_module(f"pipeline.cli.{match[1]}").command
    result = CliRunner().invoke(command, shlex.split(match[2]), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def squeezed(lines: list[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines if line.strip()]


@pytest.mark.skipif(host_arch().name != "x86_64", reason="the page shows x86_64")
def test_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dist = tmp_path / "dist"
    kit.program(dist, "counter", kit.USES_RSEQ)
    kit.program(dist, "hello", kit.PLAIN)
    run(["python3", "-m", "zipfile", "-c", "demo-1.0-cp311-cp311-linux_x86_64.whl", "counter"], cwd=dist)
    monkeypatch.chdir(tmp_path)
    shown = commands("scan.md")
    assert len(shown) == 2
    codes = []
    for line, expected in shown.items():
        result = call(line)
        codes.append(result.return_value)
        said = squeezed((result.stdout + result.stderr).splitlines())
        assert [x for x in squeezed(expected) if x not in said] == [], result.stdout
    assert codes == [1, 0]
    assert (tmp_path / "scan.json").is_file()
    assert (tmp_path / "scan.sarif").is_file()


def test_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Debian publishes changes; the form of what is said does not. Needs the host's Debian mirror."""
    monkeypatch.chdir(tmp_path)
    codes = {}
    for line, expected in commands("drift.md").items():
        if "--accept" in line:  # after the looks at the committed baselines, and never into them
            monkeypatch.setattr(paths, "BASELINES", tmp_path / "abi-baselines")
        result = call(line)
        codes[line.partition(" -- ")[2]] = result.return_value
        said = squeezed(result.stdout.splitlines())
        if "--list" in line:
            assert squeezed(expected) == said
        elif expected:
            assert squeezed(expected)[0] == said[0]
    accepted = "--source debian-12 --accept"
    assert codes.pop("--source debian-12") in (0, 1)  # 1: Debian has updated libc6 since
    assert codes == {
        "--list": 0,
        "--source debian-13 --arch x86_64 --against source:debian-12 --json drift.json --summary drift.md": 1,
        accepted: 0,
        "--history --plot history.svg": 0,
    }
    assert (tmp_path / "drift.md").read_text().startswith("# The published glibc has drifted")
    assert (tmp_path / "history.svg").is_file()
    assert (tmp_path / "abi-baselines" / "debian" / "12" / "aarch64" / "libc.so.6.abilist").is_file()
