"""Thin sessions: each installs the package and calls one verb. ``nox -s setup build verify`` is the main job.

What follows ``--`` goes to the verb: ``nox -s build verify -- --profile el9 --arch x86_64``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import nox
from nox.command import CommandFailed

#: The exit code of what is neither a judgement nor wrong use: the machine lacks something.
WORLD = 4

# RHEL 9's own is 3.9, and pip would only say that the package "requires another"
if sys.version_info < (3, 11):  # noqa: UP036
    print("error: Python 3.11 or later is needed, and this is", sys.version.split()[0], file=sys.stderr)
    print(
        "what to do: `dnf install python3.11 python3.11-pip`, then `python3.11 -m pip install nox` and "
        "`python3.11 -m nox -s ...`",
        file=sys.stderr,
    )
    sys.exit(WORLD)

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["setup", "build", "verify"]
nox.options.reuse_existing_virtualenvs = True  # a rerun should not spend its time on pip
nox.options.stop_on_first_error = True  # never verify what was not built

VERBS = ("setup", "build", "verify", "report", "baseline", "series", "drift", "scan", "known-bad", "bench",
         "clean")  # fmt: skip

#: never part of a plain `nox`, whatever sessions it is told
COSTLY = ("known-bad",)


def install(session: nox.Session, *extras: str) -> None:
    """Install the package in place, unless this virtual environment has it for this pyproject already."""
    if session.bin_paths is None:  # nox --no-venv: what runs nox has the package already
        return
    wanted = "".join(sorted(extras)) + Path("pyproject.toml").read_text()
    stamp = Path(session.virtualenv.location) / "installed-for"
    if not stamp.is_file() or stamp.read_text() != wanted:
        try:
            session.install("-q", "-e", f".[{','.join(extras)}]" if extras else ".")
        except CommandFailed:  # nox would end with 1, and that is a judgement
            print("error: this project's packages could not be installed", file=sys.stderr)
            print("what to do: see pip's words above; it needs a package index", file=sys.stderr)
            sys.exit(WORLD)
        if not session._runner.global_config.no_install:  # with -R nothing was installed, and nothing said so
            stamp.write_text(wanted)


def environment(session: nox.Session) -> dict[str, str]:
    """The user's environment with the session's changes, as `session.run` makes it.

    Depending on nox's version, ``session.env`` is all of that or only what it changes.
    """
    whole: dict[str, str | None] = {**os.environ, **session.env}
    directories = [*(session.bin_paths or []), *(whole.get("PATH") or os.defpath).split(os.pathsep)]
    whole["PATH"] = os.pathsep.join(dict.fromkeys(directories))
    return {name: value for name, value in whole.items() if value is not None}


@contextmanager
def relayed_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """What would end us ends ``process`` instead: whoever sends it may know nox alone, as `timeout` does."""

    def relay(signum: int, _: FrameType | None) -> None:
        process.send_signal(signum)

    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {signum: signal.signal(signum, relay) for signum in ends}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def call(session: nox.Session, verb: str, *args: str) -> None:
    """Run one verb. A failure ends nox with the verb's own exit code, which nox itself would turn into 1.

    A signal goes on to the verb, which is left the time to end what it started and to say what is kept. (A
    terminal's ^C comes to it twice so, and it takes the two for one.)
    """
    session.log(f"python -m pipeline {' '.join([verb, *args, *session.posargs])}")
    python = sys.executable if session.bin_paths is None else str(Path(session.bin) / "python")
    argv = [python, "-m", "pipeline", verb, *args, *session.posargs]
    # what follows -- goes to every session named: a verb may ignore an option that another one uses
    named = session._runner.global_config.sessions or nox.options.sessions
    env = {**environment(session), "PIPELINE_BESIDE": " ".join(str(name) for name in named)}
    with subprocess.Popen(argv, env=env) as process, relayed_to(process):
        status = process.wait()
    if status:
        sys.exit(status if status > 0 else 128 - status)


def _add(verb: str) -> None:
    def run(session: nox.Session) -> None:
        install(session)
        call(session, verb)

    run.__doc__ = f"python -m pipeline {verb}"
    nox.session(name=verb, default=verb not in COSTLY)(run)


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
