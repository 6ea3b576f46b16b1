"""Verb ``completion``: what a shell reads so that it completes verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

#: The program that is completed, and the variable by which a shell asks it.
PROGRAM, VARIABLE = "glibc-pipeline", "_GLIBC_PIPELINE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> int:
    """Print the completion script of a SHELL.

    bash: eval "$(glibc-pipeline completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish:
    glibc-pipeline completion fish > ~/.config/fish/completions/glibc-pipeline.fish
    """
    from pipeline.cli import cli  # noqa: PLC0415  # which imports verbs when they are called

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, PROGRAM, VARIABLE).source())
    return 0
