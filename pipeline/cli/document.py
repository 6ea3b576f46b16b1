"""``docs/cli.md``, the reference of the command line, made by ``python -m pipeline.cli.document``."""

from __future__ import annotations

import click

from pipeline.cli import BESIDES, VERBS, cli
from pipeline.core import paths, store

PAGE = paths.REPO / "docs" / "cli.md"
_HEAD = """\
# Command line

`nox -s VERB -- OPTIONS`, `python -m pipeline VERB OPTIONS` and, once installed, `glibc-pipeline VERB OPTIONS`
are the same. This page is made from the verbs, which show the same text by `--help`. Shells complete verbs
and options: `glibc-pipeline completion` prints what bash, zsh or fish reads. There are manual pages, too: a
wheel brings them (`man glibc-pipeline-scan`), and in a clone they lie in [docs/man](man/glibc-pipeline.1).
"""


def page() -> str:
    """``docs/cli.md``."""
    parts = [_HEAD]
    for verb in (*VERBS, *BESIDES):
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        context = click.Context(command, info_name=verb, max_content_width=100, terminal_width=100)
        usage = " ".join(command.collect_usage_pieces(context))
        text = command.get_help(context).partition("\n\n")[2].partition("\nOptions:\n")[0]
        words = "\n".join(line.removeprefix("  ") for line in text.splitlines()).strip()
        parts.append(f"## {verb}\n\n`{verb} {usage}`\n\n{words}\n\n| option | does |\n|---|---|")
        parts[-1] += f"\n{_rows(command, context)}"
    return "\n".join(parts)


def _rows(command: click.Command, context: click.Context) -> str:
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record:
            option, words = (part.replace("|", "\\|") for part in record)
            rows.append(f"| `{option}` | {words.replace('<', '&lt;')} |\n")
    return "".join(rows)


if __name__ == "__main__":
    store.write_atomically(PAGE, page())
