"""The workflows: valid by their schemas, few rights, real commands, and a matrix that is the profile's."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import profile as profiles
from pipeline.core import paths
from tests.command_kit import ours, wrong_with

GITHUB = sorted((paths.REPO / ".github" / "workflows").glob("*.yml"))
GITLAB = paths.REPO / ".gitlab-ci.yml"
CI = paths.REPO / "ci"
BY_NAME = {file.stem: file for file in GITHUB}


def load(file: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(file.read_text())
    return loaded


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    """Against the schema that the package carries: nothing is fetched."""
    schema = (
        ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]
        if "gitlab" in file.name
        else ["vendor.github-workflows"]
    )
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", *schema, str(file)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def steps(workflow: dict[Any, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in workflow["jobs"].items():
        for step in job["steps"]:
            yield name, step


@pytest.mark.parametrize("file", [*GITHUB, GITLAB], ids=lambda f: f.name)
def test_valid_by_its_schema(file: Path) -> None:
    done = validate(file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", [BY_NAME["verify"], GITLAB], ids=lambda f: f.name)
def test_a_wrong_one_is_refused(file: Path, tmp_path: Path) -> None:
    broken = copy.deepcopy(load(file))
    if file is GITLAB:
        broken["build"]["script"] = 5
    else:
        broken["jobs"]["build"]["steps"] = "none"
    wrong = tmp_path / file.name
    wrong.write_text(yaml.safe_dump(broken))
    done = validate(wrong)
    assert done.returncode == 1
    assert "build" in done.stdout + done.stderr


@pytest.mark.parametrize("file", GITHUB, ids=lambda f: f.name)
def test_no_more_rights_than_needed(file: Path) -> None:
    workflow = load(file)
    granted = [
        workflow["permissions"],
        *(j["permissions"] for j in workflow["jobs"].values() if "permissions" in j),
    ]
    rights = {(scope, right) for block in granted for scope, right in block.items()}
    assert rights <= {("contents", "read"), ("issues", "write")}
    writers = {n for n, j in workflow["jobs"].items() if "write" in j.get("permissions", {}).values()}
    assert writers == ({"issue"} if file.stem == "drift" else set())
    assert "secrets." not in file.read_text()
    assert "group" in workflow["concurrency"]
    for name, job in workflow["jobs"].items():
        assert isinstance(job["timeout-minutes"], int), name
        assert "latest" not in job["runs-on"], name
    for name, step in steps(workflow):
        if action := step.get("uses"):
            assert re.fullmatch(r"actions/[a-z-]+@(v\d+|[0-9a-f]{40})", action), (name, action)
            if action.startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name
        # what others can name (a branch, a title) must not become a part of a script
        assert not re.search(
            r"\$\{\{[^}]*(github\.event\.|github\.head_ref|inputs\.)", step.get("run", "")
        ), name


def test_when_they_run() -> None:
    verify, drift = (load(BY_NAME[n])[True] for n in ("verify", "drift"))  # YAML reads `on` as true
    assert set(verify) == {"push", "pull_request", "workflow_dispatch"}
    assert set(drift) == {"schedule", "workflow_dispatch"}
    (daily,) = drift["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* \*", daily["cron"])
    assert verify["workflow_dispatch"]["inputs"]["profile"]["options"] == sorted(
        profiles.available(), reverse=True
    )


def scripts() -> list[tuple[str, str]]:
    """Everything that a workflow runs, with where it stands."""
    found = [(f"{f.name} {n}", s["run"]) for f in GITHUB for n, s in steps(load(f)) if "run" in s]
    for name, job in load(GITLAB).items():
        if isinstance(job, dict):
            for key in ("before_script", "script"):
                found += [(f"{GITLAB.name} {name}", line) for line in job.get(key, [])]
    return found


def test_every_command_exists() -> None:
    called = [(where, command) for where, script in scripts() for command in ours(script)]
    assert {c[2] for _, c in called if c[0] == "nox"} == {
        "setup", "build", "verify", "known-bad", "report", "drift", "docs",
    }  # fmt: skip
    assert {w.split()[0] for w, _ in called} == {"verify.yml", "drift.yml", ".gitlab-ci.yml"}
    assert [(where, wrong) for where, command in called if (wrong := wrong_with(command))] == []


@pytest.mark.parametrize(("where", "script"), scripts(), ids=[w for w, _ in scripts()])
def test_every_script_is_one_that_bash_reads(where: str, script: str) -> None:
    text = re.sub(r"\$\{\{.*?\}\}", "VALUE", script)
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, ""), where
    for name in re.findall(r"(?:^|[\s(])(ci/[\w-]+)", text):
        assert os.access(paths.REPO / name, os.X_OK), name


# --- spreading the work ----------------------------------------------------------------------------------


def pairs(profile: str) -> set[tuple[str, str]]:
    return {(t.release, t.arch) for t in profiles.targets(profiles.load(profile))}


@pytest.mark.parametrize("name", profiles.available())
def test_the_matrix_is_the_profiles(name: str) -> None:
    done = subprocess.run([CI / "targets", name], capture_output=True, text=True, timeout=30, check=True)
    listed = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1  # it becomes one line of GITHUB_OUTPUT
    assert {(x["release"], x["arch"]) for x in listed} == pairs(name)
    assert len(listed) == len(pairs(name))


def test_a_profile_nobody_knows_ends_the_run() -> None:
    done = subprocess.run([CI / "targets", "el99"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "bookworm, el9" in done.stderr


#: GitHub's hosted runners by architecture (its documentation of standard runners for public repositories).
HOSTED = {"ubuntu-24.04": "x86_64", "ubuntu-24.04-arm": "aarch64"}


@pytest.mark.parametrize("name", profiles.available())
def test_each_architecture_runs_on_a_runner_of_its_own(name: str) -> None:
    """What is judged on a runner of another architecture was cross-built, emulated, and not timed."""
    done = subprocess.run([CI / "targets", name], capture_output=True, text=True, timeout=30, check=True)
    assert all(HOSTED[x["runner"]] == x["arch"] for x in json.loads(done.stdout))
    listed = subprocess.run(
        [CI / "targets", "--images", name], capture_output=True, text=True, timeout=30, check=True
    )
    images = json.loads(listed.stdout)
    assert len(listed.stdout.splitlines()) == 1
    assert [x["arch"] for x in images] == profiles.load(name).arches
    assert all(HOSTED[x["runner"]] == x["arch"] for x in images)


def test_the_jobs_of_an_architecture_take_its_runner_and_its_image() -> None:
    jobs = load(BY_NAME["verify"])["jobs"]
    for job in ("image", "build", "verify"):
        assert jobs[job]["runs-on"] == "${{ matrix.runner }}", job
        with_image = [
            s["with"] for s in jobs[job]["steps"] if str(s.get("with", {}).get("name")).startswith("image")
        ]
        assert [w["name"] for w in with_image] == ["image-${{ matrix.arch }}"], job
    assert jobs["image"]["strategy"]["matrix"] == {"include": "${{ fromJSON(needs.targets.outputs.images) }}"}
    others = {n for n, j in jobs.items() if j["runs-on"] == "ubuntu-24.04"}
    assert others == set(jobs) - {"image", "build", "verify"}
    gitlab = load(GITLAB)
    assert gitlab[".targets"]["tags"] == gitlab["build-image"]["tags"] == ["$ARCH"]
    assert gitlab["build-image"]["parallel"]["matrix"] == [
        {"ARCH": gitlab[".targets"]["parallel"]["matrix"][0]["ARCH"]}
    ]
    assert gitlab["default"]["tags"] == ["x86_64"]
    assert 'ci/image save "image/$ARCH.tar.zst"' in gitlab["build-image"]["script"]
    for job in ("build", "verify"):
        assert 'ci/image load "image/$ARCH.tar.zst"' in gitlab[job]["script"]


def test_the_targets_step_writes_what_the_matrices_read(tmp_path: Path) -> None:
    (step,) = (s for s in load(BY_NAME["verify"])["jobs"]["targets"]["steps"] if "run" in s)
    output = tmp_path / "output"
    env = {**os.environ, "PROFILE": "el9", "GITHUB_OUTPUT": str(output)}
    script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    subprocess.run(script, cwd=paths.REPO, env=env, timeout=30, check=True)
    written = dict(line.partition("=")[::2] for line in output.read_text().splitlines())
    assert written.keys() == load(BY_NAME["verify"])["jobs"]["targets"]["outputs"].keys()
    assert {(x["release"], x["arch"]) for x in json.loads(written["targets"])} == pairs("el9")
    assert len(json.loads(written["images"])) == 2
    wrong = subprocess.run(script, cwd=paths.REPO, env={**env, "PROFILE": "el99"}, timeout=30, check=False)
    assert wrong.returncode == 2, "a profile that is unknown must not make an empty matrix"


def test_gitlabs_matrix_is_its_profiles() -> None:
    workflow = load(GITLAB)
    (matrix,) = workflow[".targets"]["parallel"]["matrix"]
    wanted = {(r, a) for r in matrix["RELEASE"] for a in matrix["ARCH"]}
    assert wanted == pairs(workflow["variables"]["PROFILE"])
    for job in ("build", "verify"):
        assert ".targets" in workflow[job]["extends"]
    assert workflow["sign-off"]["artifacts"]["reports"]["junit"] == "out/junit.xml"


def test_what_one_job_uploads_another_fetches() -> None:
    jobs = load(BY_NAME["verify"])["jobs"]

    def named(job: str, action: str) -> dict[str, Any]:
        found = [
            s["with"]
            for s in jobs[job]["steps"]
            if s.get("uses", "").startswith(f"actions/{action}-artifact@")
        ]
        return {w.get("name") or w["pattern"]: w for w in found}

    matrix = {"include": "${{ fromJSON(needs.targets.outputs.targets) }}"}
    assert jobs["build"]["strategy"]["matrix"] == jobs["verify"]["strategy"]["matrix"] == matrix
    built = named("build", "upload")["build-${{ matrix.arch }}-${{ matrix.release }}"]
    fetched = named("verify", "download")["build-${{ matrix.arch }}-*"]
    state = load(BY_NAME["verify"])["env"]["PIPELINE_STATE"]
    assert built["path"] == fetched["path"] == f"{state}/build"
    assert fetched["merge-multiple"] is True
    assert "evidence-${{ matrix.release }}-${{ matrix.arch }}" in named("verify", "upload")
    assert named("sign-off", "download")["evidence-*"]["merge-multiple"] is True
    assert (
        "image-${{ matrix.arch }}"
        in named("build", "download").keys()
        & named("image", "upload").keys()
        & named("verify", "download").keys()
    )
    assert "image-x86_64" in named("known-bad", "download")


@pytest.mark.parametrize("file", [BY_NAME["verify"], GITLAB], ids=lambda f: f.name)
def test_a_build_from_a_kept_tree_is_proved_in_every_run(file: Path) -> None:
    """One target, of which there is a build to compare with, and always."""
    ((where, script),) = (s for s in scripts() if s[0].startswith(file.name) and "--prove" in s[1])
    assert script.startswith('nox -s build -- --profile "$PROFILE" --release ')
    job = where.removeprefix(f"{file.name} ")
    if file is GITLAB:
        loaded = load(file)[job]
        assert loaded["extends"] == ".judging"
        (matrix,) = load(file)[".targets"]["parallel"]["matrix"]
        assert script.split("--release ")[1] in [f"{r} --arch x86_64 --prove" for r in matrix["RELEASE"]]
    else:
        loaded = load(file)["jobs"][job]
        assert "if" not in loaded
        assert not [s for s in loaded["steps"] if "--prove" in s.get("run", "") and "if" in s]
    assert "build" in loaded["needs"]


# --- drift -----------------------------------------------------------------------------------------------


def run_step(job: str, which: str, directory: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a step of drift.yml as GitHub would."""
    script = next(s["run"] for s in load(BY_NAME["drift"])["jobs"][job]["steps"] if which in s.get("run", ""))
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], cwd=directory,
        env={**os.environ, **env}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("looked", [True, False])
@pytest.mark.parametrize("status", [0, 1, 2, 3, 4, 130])
def test_the_look_always_goes_on_and_says_its_exit_code(tmp_path: Path, status: int, looked: bool) -> None:
    nox = tmp_path / "nox"
    summary = "echo drift > drift.md" if looked else ""
    nox.write_text(f'#!/bin/sh\necho "$@" > called\n{summary}\nexit {status}\n')
    nox.chmod(0o755)
    output = tmp_path / "output"
    done = run_step(
        "look", "nox -s drift", tmp_path, GITHUB_OUTPUT=str(output), PATH=f"{tmp_path}:{os.environ['PATH']}"
    )
    assert done.returncode == 0, done.stderr
    # nox ends with 1 also where it could not begin, and then there was no look
    assert output.read_text() == f"status={4 if status == 1 and not looked else status}\n"
    assert "drift" in (tmp_path / "called").read_text()


@pytest.mark.parametrize(
    ("status", "code", "title"),
    [
        ("0", 0, ""), ("1", 0, "::warning title=Drift"), ("3", 3, "::error title=Nothing to look at"),
        ("4", 4, "::error title=Could not look"), ("2", 2, "::error title=The look"),
        ("", 2, "::error title=The look"),
    ],
)  # fmt: skip
def test_could_not_look_is_red_and_drift_is_not(tmp_path: Path, status: str, code: int, title: str) -> None:
    done = run_step("result", "case", tmp_path, STATUS=status)
    assert done.returncode == code
    assert title in done.stdout


def test_only_a_whole_look_touches_the_issue() -> None:
    jobs = load(BY_NAME["drift"])["jobs"]
    assert jobs["issue"]["if"] == "needs.look.outputs.status == '0' || needs.look.outputs.status == '1'"
    assert jobs["issue"]["permissions"]["issues"] == "write"
    assert load(GITLAB)["drift"]["allow_failure"] == {"exit_codes": [1]}


# --- systemd ---------------------------------------------------------------------------------------------

UNITS = CI / "systemd"
PREFIX = "/opt/glibc-backport-pipeline"


def units(directory: Path, **replaced: str) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says of the units, their checkout being this one."""
    (directory / "bin").mkdir()
    python = directory / "bin" / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    files = []
    for unit in sorted(UNITS.iterdir()):
        text = (
            unit.read_text()
            .replace(f"{PREFIX}/.venv/bin/python", str(python))
            .replace(PREFIX, str(paths.REPO))
        )
        for old, new in replaced.items():
            text = text.replace(old, new)
        files.append(directory / unit.name)
        files[-1].write_text(text)
    return subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip


def test_the_units_are_what_systemd_takes(tmp_path: Path) -> None:
    done = units(tmp_path)
    ours_only = [line for line in done.stderr.splitlines() if "glibc-pipeline" in line]
    assert (done.returncode, ours_only) == (0, []), done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [("OnCalendar", "OnCalender"), ("Persistent=yes", "Persistent=perhaps"), ("oneshot", "onceshot")],
)
def test_a_wrong_unit_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    assert "glibc-pipeline" in units(tmp_path, **{old: new}).stderr


def test_the_timer_starts_a_command_that_exists() -> None:
    service = (UNITS / "glibc-pipeline-drift.service").read_text()
    (line,) = [x for x in service.splitlines() if x.startswith("ExecStart=")]
    (command,) = ours(line.removeprefix("ExecStart="))
    assert command[3] == "drift"
    assert wrong_with(command) == ""
    timer = (UNITS / "glibc-pipeline-drift.timer").read_text()
    assert re.search(r"(?m)^OnCalendar=\*-\*-\* \d\d:\d\d:\d\d$", timer)
