"""The command line: one verb a module, errors shown once with their remedy, exit codes as documented."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import FrameType

import click
from click.shell_completion import CompletionItem
from rich.markup import escape

from pipeline import __version__
from pipeline.cli import completion, ending
from pipeline.core.errors import ExitCode, PipelineError, of_system_call
from pipeline.core.progress import console

#: verb -> module below pipeline.cli that defines a click command called ``command``
VERBS = ("setup", "build", "verify", "report", "baseline", "series", "drift", "scan", "demo", "known-bad",
         "bench", "clean")  # fmt: skip

#: verbs that are no session of nox
BESIDES = ("completion",)

#: Seconds within which several signals are one.
SAME_MOMENT = 1.0

#: New objects after which Python looks for circles among them. Its 700 cost a tenth of a run, for we read
#: much, and hardly any of it refers to itself.
OBJECTS = 50_000


class _Verbs(click.Group):
    """Verbs are imported when called, so that one verb's dependencies do not slow another."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*VERBS, *BESIDES]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in (*VERBS, *BESIDES):
            return None
        command = import_module(f"pipeline.cli.{name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command if name in BESIDES else ending.with_option(name, command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Verbs by their names: click would import each for its help."""
        verbs = [CompletionItem(n) for n in self.list_commands(ctx) if n.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Build patched glibc as RPMs and decide from evidence whether they may ship."""


def main() -> None:
    """Entry point: runs a verb and turns every failure into one message and an exit code."""
    gc.set_threshold(OBJECTS)
    # What we started must end with us, whoever ends us; a shell's background job would ignore ^C.
    interrupt = _once()
    before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        status = _outcome()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    sys.exit(int(status or 0))


def _outcome() -> int | None:
    """Runs the verb; its exit code."""
    if completion.VARIABLE in os.environ:
        cli.main(prog_name=completion.PROGRAM, complete_var=completion.VARIABLE)
    run = ending.begin()
    status, error = _ended()
    try:
        run.write(int(status or 0), error)
    except (PipelineError, OSError) as e:
        explain(e if isinstance(e, PipelineError) else of_system_call(e))
        status = status or ExitCode.WORLD
    return status


def _ended() -> tuple[int | None, Exception | None]:
    """Runs the verb and explains what it could not do; its exit code, and the error that ended it."""
    status: int | None
    error: Exception | None = None
    try:
        status = cli.main(prog_name="pipeline", standalone_mode=False)
        if sys.stdout:  # None if it was closed before we began
            sys.stdout.flush()
    except (KeyboardInterrupt, click.exceptions.Abort):  # click makes the one of the other
        console.print("[red]interrupted[/]: what was whole is kept; run the same command again to go on")
        status = ExitCode.INTERRUPTED
    except click.ClickException as e:
        error = e
        ending.current.not_parsed(sys.argv)
        e.show()
        status = ExitCode.WRONG_USE
    except PipelineError as e:
        error = e
        explain(e)
        status = e.exit_code
    except OSError as e:
        error = e
        status = _world_failed(e)
    except SystemExit:  # click's answer to a reader that has seen enough, with 1, which is a judgement
        status = ExitCode.WORLD
    except Exception as e:  # noqa: BLE001  # Python's own exit code would be 1, and that is a judgement
        error = e
        console.print_exception()
        console.print("[bold red]error:[/] this is a bug of the pipeline, and nothing was judged")
        console.print("[bold]what to do:[/] report it with the lines above and the command you ran")
        status = ExitCode.MISSING
    return status, error


def _once() -> Callable[[int, FrameType | None], None]:
    """A handler that interrupts us, and takes what comes at the same moment for the same interrupt.

    ^C goes to all who belong to the terminal, and nox hands on what it gets: a second one, in the middle of
    ending what was started, would leave that behind.
    """
    last = -SAME_MOMENT

    def handler(_: int, __: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= SAME_MOMENT:
            raise KeyboardInterrupt

    return handler


def _world_failed(error: OSError) -> ExitCode:
    """A system call that failed and was not handled where it was made."""
    if isinstance(error, BrokenPipeError):  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        explain(of_system_call(error))
    return ExitCode.WORLD


def explain(error: PipelineError) -> None:
    """The message, and what to do next."""
    console.print(f"[bold red]error:[/] {escape(error.message)}")
    if error.hint:
        console.print(f"[bold]what to do:[/] {escape(error.hint)}")
    if os.environ.get("PIPELINE_TRACEBACK"):
        console.print_exception()
