"""``docs/man``, a manual page a verb, made from click by click-man (``python -m pipeline.cli.manual``).

click-man finds commands in a dictionary, and ours are imported when called; so pages are filled in here. What
it does not have is added: how the process ends, and what the environment decides.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import click
from click_man.man import ManPage

from pipeline import __version__
from pipeline.cli import BESIDES, VERBS, cli
from pipeline.cli.completion import PROGRAM
from pipeline.core import paths, store

DIRECTORY = paths.REPO / "docs" / "man"
_END = r"""
.SH EXIT STATUS
0 pass; 1 a check failed, or drift; 2 wrong use; 3 evidence missing or inconclusive; 4 the world failed (a
source that cannot be reached, a tool that is missing, no space); 130 interrupted.
.SH ENVIRONMENT
.TP
\fBPIPELINE_STATE\fP
where results are kept (~/.cache/glibc\-backport\-pipeline)
.TP
\fBPIPELINE_ENGINE\fP
which container engine is tried: podman or docker
.TP
\fBPIPELINE_SCRATCH\fP
where a build's tree lies: memory or disk
.TP
\fBPIPELINE_TREES\fP
whether builds may begin with the objects of another one: yes or no
.TP
\fBPIPELINE_CCACHE_REMOTE\fP
a compiler cache to share
.TP
\fBPIPELINE_TRACEBACK\fP
if set, an error shows where in the pipeline it arose
.SH SEE ALSO
"""


def pages() -> Mapping[str, str]:
    """File name -> text."""
    top = click.Context(cli, info_name=PROGRAM)
    verbs = [(name, cli.get_command(top, name)) for name in (*VERBS, *BESIDES)]
    commands = [(name, _short(command)) for name, command in verbs if command is not None]
    made = {f"{PROGRAM}.1": _page(cli, top, [f"{PROGRAM}-{name}" for name, _ in verbs], commands)}
    for name, command in verbs:
        assert command is not None
        context = click.Context(command, info_name=name, parent=top)
        made[f"{PROGRAM}-{name}.1"] = _page(command, context, [PROGRAM])
    return made


def _short(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").partition("\n\n")[0].replace("\n", " ")


def _page(
    command: click.Command,
    context: click.Context,
    see: list[str],
    commands: list[tuple[str, str]] | None = None,
) -> str:
    page = ManPage(context.command_path)
    page.version, page.date = __version__, ""  # of the same verbs comes the same page
    page.short_help = _short(command).partition(". ")[0].removesuffix(".")
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    page.description = inspect.cleandoc(command.help or "").replace("\b\n", "")
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    page.options = [record for p in options if (record := p.get_help_record(context))]
    page.commands = commands or []
    also = ", ".join(rf"\fB{name}\fP(1)".replace("-", r"\-") for name in sorted(see))
    name, title = context.command_path, context.command_path.replace(" ", "-")
    text = (
        str(page)
        .replace(f'.TH "{name.upper()}"', f'.TH "{title.upper()}"')
        .replace(f'"{name} M', f'"{title} M')
    )
    return f"{text}{_END.lstrip()}{also}\n"


def main() -> None:
    for name, text in pages().items():
        store.write_atomically(DIRECTORY / name, text)


if __name__ == "__main__":
    main()
