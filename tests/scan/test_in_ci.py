"""Scan in CI: the action, the pre-commit hook and the GitLab component, run as far as they can be here."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.core import paths
from tests.scan import kit

ACTION = paths.REPO / "action.yml"
HOOKS = paths.REPO / ".pre-commit-hooks.yaml"
COMPONENT = paths.REPO / "templates" / "scan" / "template.yml"
SCRIPTS = f"{Path(sys.executable).parent}:{os.defpath}"
#: The real baselines: these run as commands of their own.
NEWER = "int _dl_find_object (void *, void *);\nint f (char **v) { return _dl_find_object (v, v); }\n"


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that RHEL 9.0 to 9.6 lack a symbol for."""
    return kit.program(tmp_path_factory.mktemp("newer"), "newer.so", NEWER, "-shared", "-fPIC")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = "int f (void) { return 0; }\n"
    return kit.program(tmp_path_factory.mktemp("a good"), "good.so", source, "-shared", "-fPIC")


def action(directory: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """The action's step, with its inputs filled in as the runner does."""
    loaded = yaml.safe_load(ACTION.read_text())
    (step,) = loaded["runs"]["steps"]
    values = {name: given.get("default", "") for name, given in loaded["inputs"].items()} | inputs
    env = {
        name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: values[m[1]], text)
        for name, text in step["env"].items()
    }
    env |= {"PATH": SCRIPTS, "HOME": str(directory), "GITHUB_ACTION_PATH": str(paths.REPO),
            "RUNNER_TEMP": str(directory), "GITHUB_STEP_SUMMARY": str(directory / "summary")}  # fmt: skip
    return subprocess.run(["bash", "-e", "-o", "pipefail", "-c", step["run"]], env=env, cwd=directory,
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip


def test_the_action_fails_and_passes_as_scan_does(tmp_path: Path, newer: Path, good: Path) -> None:
    done = action(tmp_path, paths=f"{good}\n{newer}\n")
    assert done.returncode == 1, done.stderr
    assert "_dl_find_object@GLIBC_2.35" in (tmp_path / "summary").read_text()
    assert {len(json.loads((tmp_path / "glibc-scan.json").read_text())["files"])} == {2}
    assert json.loads((tmp_path / "glibc-scan.sarif").read_text())["version"] == "2.1.0"
    assert action(tmp_path, paths=str(newer), floor="el9:9.7").returncode == 0
    assert action(tmp_path, paths=str(good)).returncode == 0
    assert action(tmp_path, paths=str(tmp_path / "none")).returncode == 2


def test_the_actions_inputs_are_no_code(tmp_path: Path, good: Path) -> None:
    done = action(tmp_path, paths=f"{good}\n$(touch {tmp_path}/evil)", floor="el9:9.0")
    assert done.returncode == 2
    assert not (tmp_path / "evil").exists()
    assert "inputs." not in yaml.safe_load(ACTION.read_text())["runs"]["steps"][0]["run"]


def test_the_hook(newer: Path, good: Path) -> None:
    (hook,) = yaml.safe_load(HOOKS.read_text())
    command = [*shlex.split(hook["entry"]), *hook["args"]]
    for file, expected in ((newer, 1), (good, 0)):
        assert re.search(hook["files"], str(file))
        done = subprocess.run([*command, file], env={"PATH": SCRIPTS, "HOME": str(file.parent)},
                              capture_output=True, timeout=120, check=False)  # fmt: skip
        assert done.returncode == expected, done.stderr
    assert all(re.search(hook["files"], n) for n in ("x.so.1.2", "x-1.whl", "a.rpm", "b.deb"))
    assert not re.search(hook["files"], "x.sock")


def test_the_component(tmp_path: Path, newer: Path) -> None:
    spec, _ = yaml.safe_load_all(COMPONENT.read_text())
    inputs: dict[str, Any] = spec["spec"]["inputs"]
    values = {name: (given or {}).get("default", "") for name, given in inputs.items()} | {
        "paths": str(newer)
    }
    text = COMPONENT.read_text().partition("\n---\n")[2]
    filled = re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda m: values[m[1]], text)
    (tmp_path / "filled.gitlab-ci.yml").write_text(filled)
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci", "--data-transform",
         "gitlab-ci", tmp_path / "filled.gitlab-ci.yml"],
        capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    install, scan = yaml.safe_load(filled)["glibc-scan"]["script"]
    assert install.startswith("pip install ")
    ran = subprocess.run(["bash", "-c", scan], cwd=tmp_path, env={"PATH": SCRIPTS, "HOME": str(tmp_path)},
                         capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert (tmp_path / "glibc-scan.sarif").exists()


def test_the_script_needs_bash_and_python_alone() -> None:
    assert shutil.which("bash")
    done = subprocess.run(["bash", "-n", paths.REPO / "ci" / "scan"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
