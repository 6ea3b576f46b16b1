"""The reference and the manual pages are those of the verbs, and a manual page can be read by man."""

from __future__ import annotations

import re

import click
import pytest

from pipeline.cli import BESIDES, VERBS, cli, document, manual
from pipeline.cli.completion import PROGRAM
from pipeline.core.run import run


def test_the_reference_is_that_of_the_verbs() -> None:
    assert document.page() == document.PAGE.read_text(), "run python -m pipeline.cli.document"


def test_the_pages_are_those_of_the_verbs() -> None:
    there = {p.name: p.read_text() for p in manual.DIRECTORY.iterdir()}
    assert there == manual.pages(), "run python -m pipeline.cli.manual"


@pytest.mark.parametrize("verb", [*VERBS, *BESIDES])
def test_a_page_has_every_option_of_its_verb(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    text = (manual.DIRECTORY / f"{PROGRAM}-{verb}.1").read_text().replace("\\-", "-")
    options = [p for p in command.get_params(click.Context(command)) if isinstance(p, click.Option)]
    assert options
    assert set(re.findall(r"(?m)^\\fB(--[\w-]+)", text)) == {p.opts[0] for p in options if not p.hidden}
    assert [p.help for p in options if p.help and p.help.replace("\n", " ") not in text] == []
    assert re.search(rf"(?m)^\\fB{verb}\\fP$", (manual.DIRECTORY / f"{PROGRAM}.1").read_text())


@pytest.mark.integration
@pytest.mark.parametrize("name", sorted(manual.pages()))
def test_man_reads_it_without_a_warning(name: str) -> None:
    done = run(["groff", "-man", "-Tutf8", "-ww", manual.DIRECTORY / name])
    assert done.stderr == b""
    assert "--help" in re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout.decode())
