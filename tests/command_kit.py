"""Our command lines wherever they are written (documents, workflows, units), parsed and never run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import click

from pipeline.cli import VERBS, cli
from pipeline.core import paths

_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*=")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}")  # GitHub's; what it stands for is not known here
_ENDS = {"&&", "||", ";", "|", "&", "(", ")", "{", "}"}


@cache
def sessions() -> frozenset[str]:
    """The noxfile's sessions, as nox itself lists them."""
    done = subprocess.run([sys.executable, "-m", "nox", "--list"], cwd=paths.REPO, capture_output=True,
                          text=True, timeout=120, check=True)  # fmt: skip
    return frozenset(line.split()[1] for line in done.stdout.splitlines() if line[:2] in ("* ", "- "))


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;()<>")
    lexer.whitespace_split = True
    lexer.commenters = ""  # shlex would take a # inside a word for one
    return list(lexer)


def commands(script: str, *, assignments: bool = False) -> Iterator[list[str]]:
    """Each command of a shell script as words, without comments after it and assignments before it.

    ``assignments``: with them.
    """
    for text in _EXPRESSION.sub("VALUE", script.replace("\\\n", " ")).splitlines():
        line = text.strip().removeprefix("$ ")
        command: list[str] = []
        try:
            words = _words(line)
        except ValueError:  # an apostrophe, in a comment or in prose
            try:
                words = _words(_COMMENT.sub("", line))
            except ValueError:
                continue
        for word in [*words, ";"]:
            if word in _ENDS or word.startswith("#"):
                if command:
                    yield command
                command = []
                if word.startswith("#"):
                    break
            elif command or assignments or not _ASSIGNMENT.match(word):
                command.append(word)


def is_ours(command: list[str]) -> bool:
    """Whether it calls nox or the package."""
    return command[:2] == ["nox", "-s"] or (
        (command[0].startswith("python") or command[0].endswith("/python"))
        and (command[1:3] == ["-m", "pipeline"])
    )


def ours(script: str) -> list[list[str]]:
    """The commands that call nox or the package."""
    return [c for c in commands(script) if is_ours(c)]


def wrong_with(command: list[str]) -> str:
    """What nox or click would refuse of one of `ours`; "" if nothing."""
    if command[0] == "nox":
        head, dashes, options = command[2:], "", list[str]()
        if "--" in head:
            at = head.index("--")
            head, dashes, options = head[:at], "--", head[at + 1 :]
        if unknown := [name for name in head if name not in sessions()]:
            return f"nox has no session {unknown[0]}" + ("" if dashes else " (is a -- missing?)")
        verbs = [name for name in head if name in VERBS]
    else:
        verbs, options = command[3:4], command[4:]
    options = [o for o in options if o not in (">", "<", ">>")]
    for verb in verbs:
        with click.Context(cli) as context:
            found = cli.get_command(context, verb)
        if found is None:
            return f"there is no verb {verb}"
        try:
            found.make_context(verb, list(options))
        except click.exceptions.Exit:  # --help
            continue
        except click.ClickException as e:
            return f"{verb}: {e.format_message()}"
    return ""
