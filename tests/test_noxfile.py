"""The noxfile: one thin session a verb, the verb's own exit code, an interrupt that is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.core import paths


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The real noxfile beside a package ``pipeline`` whose verbs do what the test says."""
    (tmp_path / "noxfile.py").write_text((paths.REPO / "noxfile.py").read_text())
    (tmp_path / "pyproject.toml").write_text("")
    package = tmp_path / "pipeline"
    package.mkdir()
    (package / "__init__.py").touch()
    return tmp_path


def nox(
    project: Path, main: str, *arguments: str, venv: bool = False, **variables: str
) -> subprocess.Popen[str]:
    """A session in this very environment, or in the virtual environment that it has."""
    (project / "pipeline" / "__main__.py").write_text(main)
    return subprocess.Popen(
        [sys.executable, "-m", "nox", *([] if venv else ["--no-venv"]), *arguments],
        cwd=project, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(project), **variables},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_every_verb_has_a_session_and_the_main_job_is_the_default() -> None:
    done = subprocess.run([sys.executable, "-m", "nox", "--list"], cwd=paths.REPO, capture_output=True,
                          text=True, timeout=60, check=True)  # fmt: skip
    sessions = {line.split()[1]: line[0] for line in done.stdout.splitlines() if line[:2] in ("* ", "- ")}
    assert {name for name, mark in sessions.items() if mark == "*"} == {"setup", "build", "verify"}
    assert set(cli.VERBS) | {"tests", "quick", "lint", "typecheck", "docs"} == set(sessions)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 130])
def test_the_verbs_exit_code_is_noxs(project: Path, code: int) -> None:
    main = f"import sys; print('VERB', sys.argv[1:]); sys.exit({code})"
    with nox(project, main, "-s", "build", "--", "--profile", "el9") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "VERB ['build', '--profile', 'el9']" in output


@pytest.mark.parametrize("venv", [False, True])
def test_a_verb_has_the_users_environment(project: Path, venv: bool) -> None:
    """Without it PIPELINE_STATE, a proxy and NO_COLOR would have been set for nobody."""
    directory = project / ".nox" / "verbs"
    if venv:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=60)
        (directory / "installed-for").touch()  # of this pyproject, so that nothing is installed
    main = (
        "import os, sys\n"
        "print('VERB', os.environ['PIPELINE_STATE'], os.environ['HOME'], sys.prefix)\n"
        "print('PATH', os.environ['PATH'])\n"
    )
    with nox(project, main, "-s", "build", venv=venv, PIPELINE_STATE="/a/state", HOME="/a/home") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert f"VERB /a/state /a/home {directory if venv else sys.prefix}" in output
    path = next(line for line in output.splitlines() if line.startswith("PATH ")).removeprefix("PATH ")
    assert set(os.environ["PATH"].split(":")) <= set(path.split(":"))
    assert not venv or path.startswith(f"{directory}/bin:")


def test_a_verb_may_keep_what_python_compiled(project: Path) -> None:
    main = "import sys; print('VERB', sys.dont_write_bytecode)"
    with nox(project, main, "-s", "build", PYTHONDONTWRITEBYTECODE="1") as process:
        output, _ = process.communicate(timeout=60)
    assert "VERB False" in output


def test_every_session_hands_over_what_follows_the_dashes(project: Path) -> None:
    main = "import sys; print('VERB', sys.argv[1:])"
    options = ["--profile", "el9", "--distgit", "9.1=~/x y", "--", "-m"]
    with nox(project, main, "-s", *cli.VERBS, "--", *options) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert [line for line in output.splitlines() if line.startswith("VERB")] == [
        f"VERB {[verb, *options]}" for verb in cli.VERBS
    ]


def test_the_quick_half_of_the_tests(project: Path) -> None:
    """`nox -s tests -- -m "not integration"` in a project with one test of each half."""
    (project / "pyproject.toml").write_text((paths.REPO / "pyproject.toml").read_text())
    (project / "tests").mkdir()
    (project / "tests" / "test_halves.py").write_text(
        "import pytest\n\ndef test_quick():\n    pass\n\n"
        "@pytest.mark.integration\ndef test_real():\n    raise AssertionError\n"
    )
    main = "import sys; print('VERB', sys.argv[1:])"
    with nox(project, main, "-s", "tests", "--", "-m", "not integration") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "VERB ['setup', '--dev', '--no-image']" in output
    assert "1 passed, 1 deselected" in output


def test_nothing_is_verified_that_was_not_built(project: Path) -> None:
    main = "import sys; print('VERB', sys.argv[1]); sys.exit(4 if sys.argv[1] == 'build' else 0)"
    with nox(project, main, "-s", "setup", "build", "verify") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 4
    assert [line for line in output.splitlines() if line.startswith("VERB")] == ["VERB setup", "VERB build"]


@pytest.mark.parametrize("whole_group", [True, False])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_verb_to_say_what_is_kept(
    project: Path, signum: signal.Signals, whole_group: bool
) -> None:
    """A terminal sends ^C to all; `timeout` and a supervisor send their signal to nox alone."""
    main = (
        "import pathlib, signal, sys, time\n"
        "def once(*_):\n"
        "    for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, lambda *_: None)\n"
        "    raise KeyboardInterrupt\n"
        "for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, once)\n"
        "try:\n"
        "    pathlib.Path('ready').touch(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(1); print('KEPT', flush=True); sys.exit(130)\n"
    )
    with nox(project, main, "-s", "build") as process:
        end = time.monotonic() + 60
        while not (project / "ready").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.2)
        if whole_group:
            os.killpg(process.pid, signum)
        else:
            process.send_signal(signum)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "KEPT" in output
    assert "Traceback" not in output


def test_packages_that_cannot_be_had_are_no_judgement(project: Path) -> None:
    """nox itself ends with 1, and that would be a failed check, or drift."""
    (project / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "0"\ndependencies = ["no-such-x"]\n'
    )
    variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    with nox(project, "", "-s", "build", venv=True, **variables) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 4, output
    assert "what to do" in output
    assert not (project / ".nox" / "verbs" / "installed-for").exists()


def test_what_was_not_installed_is_not_taken_for_installed(project: Path) -> None:
    """``nox -R`` installs nothing; a later run without it has to."""
    directory = project / ".nox" / "verbs"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=60)
    with nox(project, "print('VERB')", "-R", "-s", "build", venv=True) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert not (directory / "installed-for").exists()


BACKEND = """\
import zipfile
def build_editable(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(directory + "/x-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("x-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: x\\nVersion: 1\\n")
        wheel.writestr("x-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("x-1.dist-info/RECORD", "")
    return "x-1-py3-none-any.whl"
"""


@pytest.mark.integration
def test_all_verbs_share_one_environment_that_is_installed_once(project: Path) -> None:
    """From an environment that an interrupted run left behind; then as it is; then for another pyproject."""
    half = project / ".nox" / "verbs" / "bin"
    half.mkdir(parents=True)
    (half / "python").symlink_to(sys.executable)  # no pip beside it, no stamp
    (project / "backend.py").write_text(BACKEND)  # so that no package index is asked
    main = "import sys; print('VERB', sys.argv[1], sys.prefix)"
    installs = []
    for comment in ("first", "first", "second"):
        (project / "pyproject.toml").write_text(
            f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]  # {comment}\n'
        )
        with nox(project, main, "-s", "setup", "build", "verify", venv=True) as process:
            output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        verbs = [line for line in output.splitlines() if line.startswith("VERB")]
        assert verbs == [f"VERB {verb} {project / '.nox' / 'verbs'}" for verb in ("setup", "build", "verify")]
        installs.append((output.count("-m virtualenv"), output.count("-m pip install")))
    assert installs == [(1, 1), (0, 0), (0, 1)]
    assert [path.name for path in (project / ".nox").iterdir() if path.is_dir()] == ["verbs"]


def test_an_old_python_is_told_so() -> None:
    """RHEL 9's own is 3.9; nothing newer than it may stand before the check."""
    text = (paths.REPO / "noxfile.py").read_text().replace("sys.version_info < (3, 11)", "True")
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 4
    assert "dnf install python3.11" in done.stderr


def test_a_python_without_the_packages_is_no_judgement(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "pipeline", "drift"], cwd=paths.REPO, capture_output=True, text=True,
        check=False, timeout=60, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "is not installed for this Python" in done.stderr
    assert "Traceback" not in done.stderr
