"""Thin sessions: each installs the package and calls one verb. ``nox -s setup build verify`` is the main job.

What follows ``--`` goes to the verb: ``nox -s build verify -- --profile el9 --arch x86_64``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["setup", "build", "verify"]
nox.options.reuse_existing_virtualenvs = True  # a rerun should not spend its time on pip
nox.options.stop_on_first_error = True  # never verify what was not built

VERBS = ("setup", "build", "verify", "report", "baseline", "series", "drift", "scan", "bench", "clean")


def install(session: nox.Session, *extras: str) -> None:
    """Install the package in place, unless this virtual environment has it for this pyproject already."""
    if session.bin_paths is None:  # nox --no-venv: what runs nox has the package already
        return
    wanted = "".join(sorted(extras)) + Path("pyproject.toml").read_text()
    stamp = Path(session.virtualenv.location) / "installed-for"
    if not stamp.is_file() or stamp.read_text() != wanted:
        session.install("-q", "-e", f".[{','.join(extras)}]" if extras else ".")
        stamp.write_text(wanted)


def environment(session: nox.Session) -> dict[str, str]:
    """The user's environment with the session's changes, as `session.run` makes it.

    Depending on nox's version, ``session.env`` is all of that or only what it changes.
    """
    whole: dict[str, str | None] = {**os.environ, **session.env}
    directories = [*(session.bin_paths or []), *(whole.get("PATH") or os.defpath).split(os.pathsep)]
    whole["PATH"] = os.pathsep.join(dict.fromkeys(directories))
    return {name: value for name, value in whole.items() if value is not None}


def call(session: nox.Session, verb: str, *args: str) -> None:
    """Run one verb. A failure ends nox with the verb's own exit code, which nox itself would turn into 1.

    On ^C the verb is left the time to end what it started and to say what is kept.
    """
    session.log(f"python -m pipeline {' '.join([verb, *args, *session.posargs])}")
    python = sys.executable if session.bin_paths is None else str(Path(session.bin) / "python")
    argv = [python, "-m", "pipeline", verb, *args, *session.posargs]
    with subprocess.Popen(argv, env=environment(session)) as process:
        while True:
            try:
                status = process.wait()
                break
            except KeyboardInterrupt:
                continue
    if status:
        sys.exit(status if status > 0 else 128 - status)


def _add(verb: str) -> None:
    def run(session: nox.Session) -> None:
        install(session)
        call(session, verb)

    run.__doc__ = f"python -m pipeline {verb}"
    nox.session(name=verb)(run)


for _verb in VERBS:
    _add(_verb)


@nox.session(default=False)
def tests(session: nox.Session) -> None:
    """Every test, with the real tools they need installed first."""
    install(session, "dev")
    session.run("python", "-m", "pipeline", "setup", "--dev", "--no-image")
    session.run("pytest", *session.posargs)


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """ruff, and the patch series' own lint."""
    install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "-m", "pipeline", "series", "--lint")


@nox.session(default=False)
def typecheck(session: nox.Session) -> None:
    """mypy --strict."""
    install(session, "dev")
    session.run("mypy")
