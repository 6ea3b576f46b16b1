"""``--json FILE`` of the verbs that write no record of their own: how it ended, and what it made.

A verb tells its results by `tell` as it goes on; the record is written when it has ended, also if it ended
with an error. So a scheduler needs no words of the terminal.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from pipeline import __version__
from pipeline.core import store
from pipeline.core.errors import ExitCode, PipelineError
from pipeline.core.outputs import check_files

SCHEMA_VERSION = 1
OPTION, _NAME = "--json", "json_of_the_run"


class Ending:
    """What is known of a run so far. ``file`` is None until ``--json`` was seen."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.verb = ""
        self.ours = False
        self.result: dict[str, Any] = {}
        self.start = time.monotonic()

    def not_parsed(self, arguments: Sequence[str]) -> None:
        """The command line was refused before its options were taken: the record goes where they say."""
        named = [after for option, after in pairwise(arguments) if option == OPTION]
        if self.ours and self.file is None and named:
            self.file = Path(named[-1])

    def write(self, status: int, error: Exception | None) -> None:
        """Write the record, if one was asked for.

        ``outcome`` is the exit code's name, ``result`` differs from verb to verb.
        """
        if self.file is None:
            return
        known = {int(code): code.name.lower().replace("_", " ") for code in ExitCode}
        told = error.message if isinstance(error, PipelineError) else str(error) if error else ""
        record = {
            "schema": SCHEMA_VERSION,
            "tool": f"glibc-backport-pipeline {__version__}",
            "verb": self.verb,
            "exit_code": status,
            "outcome": known.get(status, "unknown"),
            "error": told,
            "what_to_do": error.hint if isinstance(error, PipelineError) else "",
            "seconds": round(time.monotonic() - self.start, 1),
            "result": self.result,
        }
        file, self.file = self.file, None
        store.write_atomically(file, json.dumps(record, indent=1) + "\n")


#: Of this process: one command line is one run.
current = Ending()


def begin() -> Ending:
    """A run begins."""
    global current  # noqa: PLW0603
    current = Ending()
    return current


def tell(**result: Any) -> None:
    """Add to the result what is JSON already: text, numbers, lists, tables of them."""
    current.result.update(result)


def with_option(verb: str, command: click.Command) -> click.Command:
    """The command with ``--json FILE``, unless it has one of its own."""
    current.verb = verb
    current.ours = not any(OPTION in p.opts for p in command.params)
    current.ours |= any(p.name == _NAME for p in command.params)
    if not any(OPTION in p.opts for p in command.params):
        command.params.append(
            click.Option(
                [OPTION, _NAME],
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                expose_value=False,
                is_eager=True,
                callback=_seen,
                help="Write how it ended, and its result, as JSON.",
            )
        )
    return command


def _seen(_: click.Context, __: click.Parameter, file: Path | None) -> Path | None:
    if file is not None:
        check_files({"--json FILE": file})
        file.unlink(missing_ok=True)  # an older one must not be taken for this run's
        current.file = file
    return file
