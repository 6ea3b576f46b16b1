"""Thin sessions: each calls one verb, in one environment. ``nox -s setup build verify`` is the main job.

What follows ``--`` goes to the verb: ``nox -s build verify -- --profile el9 --arch x86_64``.
"""

from __future__ import annotations

import os
import shutil
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
nox.options.stop_on_first_error = True  # never verify what was not built

VERBS = ("setup", "build", "verify", "report", "baseline", "series", "drift", "scan", "demo", "known-bad",
         "bench", "clean")  # fmt: skip

#: never part of a plain `nox`, whatever sessions it is given
COSTLY = ("known-bad",)


#: Sessions share an environment, so that a bare machine installs once and not once a session. nox makes
#: one for each and has no option for this: all sessions have the backend "none", and `install` makes these.
ENVIRONMENTS = {"verbs": "", "dev": "[dev]", "docs": "[docs]"}


def install(session: nox.Session, name: str) -> Path | None:
    """The directory of the programs of environment ``name``, with the package installed in place.

    Nothing is done if it was installed for this pyproject before. None with ``--no-venv``: what runs nox
    has the package already.
    """
    options = session._runner.global_config
    if "none" in (options.force_venv_backend, options.default_venv_backend):
        return None
    location = Path(options.envdir).resolve() / name
    programs = location / "bin"
    stamp = location / "installed-for"
    wanted = ENVIRONMENTS[name] + Path("pyproject.toml").read_text()
    if options.no_install or (
        stamp.is_file() and stamp.read_text() == wanted and (programs / "python").exists()
    ):
        return programs
    if not stamp.is_file() or not (programs / "python").exists():  # none yet, or one that was interrupted
        shutil.rmtree(location, ignore_errors=True)
        # not `venv`: Debian's Python lacks ensurepip; virtualenv comes with nox and carries pip
        _must(session, sys.executable, "-m", "virtualenv", "-q", "--no-periodic-update", str(location))
    stamp.unlink(missing_ok=True)
    _must(session, str(programs / "python"), "-m", "pip", "install", "-q", "-e", f".{ENVIRONMENTS[name]}")
    stamp.write_text(wanted)
    return programs


def _must(session: nox.Session, *command: str) -> None:
    try:
        session.run(*command, external=True, silent=False)
    except CommandFailed:  # nox would end with 1, and that is a judgement
        print("error: this project's packages could not be installed", file=sys.stderr)
        print("what to do: see the messages above; it needs a package index", file=sys.stderr)
        sys.exit(WORLD)


def environment(session: nox.Session, programs: Path | None) -> dict[str, str]:
    """The user's environment with the session's changes, and the session's programs first on PATH.

    Depending on nox's version, ``session.env`` is all of that or only what it changes.
    """
    whole: dict[str, str | None] = {**os.environ, **session.env}
    first = [] if programs is None else [str(programs)]
    whole["PATH"] = os.pathsep.join(
        dict.fromkeys([*first, *(whole.get("PATH") or os.defpath).split(os.pathsep)])
    )
    # images of Python set it to stay small; here each of three verbs would compile all of the pipeline again
    whole["PYTHONDONTWRITEBYTECODE"] = None
    return {name: value for name, value in whole.items() if value is not None}


def run(session: nox.Session, programs: Path | None, program: str, *arguments: str) -> None:
    """Run a program of the environment."""
    path = program if programs is None else str(programs / program)
    session.run(path, *arguments, external=True, env=environment(session, programs))


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


def call(session: nox.Session, verb: str) -> None:
    """Run one verb. A failure ends nox with the verb's own exit code, which nox itself would turn into 1.

    A signal goes on to the verb, which is left the time to end what it started and to say what is kept. (A
    terminal's ^C comes to it twice so, and it takes the two for one.)
    """
    programs = install(session, "verbs")
    session.log(f"python -m pipeline {' '.join([verb, *session.posargs])}")
    python = sys.executable if programs is None else str(programs / "python")
    # what follows -- goes to every session named: a verb may ignore an option that another one uses
    named = session._runner.global_config.sessions or nox.options.sessions
    env = {**environment(session, programs), "PIPELINE_BESIDE": " ".join(str(name) for name in named)}
    argv = [python, "-m", "pipeline", verb, *session.posargs]
    with subprocess.Popen(argv, env=env) as process, relayed_to(process):
        status = process.wait()
    if status:
        sys.exit(status if status > 0 else 128 - status)


def _add(verb: str) -> None:
    def run_verb(session: nox.Session) -> None:
        call(session, verb)

    run_verb.__doc__ = f"python -m pipeline {verb}"
    nox.session(name=verb, default=verb not in COSTLY, venv_backend="none")(run_verb)


for _verb in VERBS:
    _add(_verb)


@nox.session(default=False, venv_backend="none")
def tests(session: nox.Session) -> None:
    """Every test, with the real tools they need installed first."""
    programs = install(session, "dev")
    run(session, programs, "python", "-m", "pipeline", "setup", "--dev", "--no-image")
    run(session, programs, "pytest", *session.posargs)


#: What no change may break, in less than a minute: rooms, declarations, documents, commands, profiles.
QUICK = (
    "tests/test_rooms.py",
    "tests/check/test_declarations.py::test_documents_are_made_from_the_declarations",
    "tests/test_docs.py",
    "tests/test_profile.py",
)


@nox.session(default=False, venv_backend="none")
def quick(session: nox.Session) -> None:
    """The tests that a commit hook has the time for."""
    run(session, install(session, "dev"), "pytest", "-q", "-m", "not integration", *QUICK, *session.posargs)


@nox.session(default=False, venv_backend="none")
def docs(session: nox.Session) -> None:
    """The documents as a site in out/site; a link that leads nowhere is an error."""
    run(session, install(session, "docs"), "mkdocs", "build", "--strict", "--quiet", *session.posargs)


@nox.session(default=False, venv_backend="none")
def lint(session: nox.Session) -> None:
    """ruff, and the patch series' own lint."""
    programs = install(session, "dev")
    run(session, programs, "ruff", "check", ".")
    run(session, programs, "ruff", "format", "--check", ".")
    run(session, programs, "python", "-m", "pipeline", "series", "--lint")


@nox.session(default=False, venv_backend="none")
def typecheck(session: nox.Session) -> None:
    """mypy --strict."""
    run(session, install(session, "dev"), "mypy")
