"""A tutorial as a script: its console blocks are typed into one shell, and what it shows is what must come.

In a document a line with ``$ `` is typed, and the lines below it are shown: each must come, in that order,
its spaces aside. ``...`` stands for lines that are left out, and within a line for a part of it that differs
from run to run (a time, a digest). A fenced block with ``title="NAME"`` is a file that the reader saves.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core import paths
from pipeline.host.image import BuildImage
from tests.small_world import NOT_ASKED

_FILE = re.compile(r'```\w+ title="([^"/]+)"\n(.*?)```\n', re.DOTALL)
#: ends what one typed line printed; it keeps $? for the next
_MARK = "\x1e"
_SHELL = f"""\
__ended () {{ local status=$?; printf '\\n{_MARK}%s\\n' "$status"; return $status; }}
exec 2>&1 </dev/null
"""


@dataclass
class Typed:
    """A typed line, the lines shown below it, and after a run what really came."""

    line: str
    shown: list[str] = field(default_factory=list)
    code: int = -1
    came: list[str] = field(default_factory=list)


def steps(document: str) -> list[Typed]:
    """What a document has people type, in order. Only indented blocks are consoles."""
    found: list[Typed] = []
    current: Typed | None = None
    for line in _FILE.sub("", document).splitlines():
        assert not line.startswith("$ "), f"it would not be typed: {line}"
        if line.startswith("    $ "):
            current = Typed(line[6:])
            found.append(current)
        elif line.startswith("    ") and current is not None:
            current.shown.append(line)
        elif line:
            current = None
    return found


def files(document: str) -> list[tuple[str, str]]:
    """Name and text of each file that the reader saves."""
    return _FILE.findall(document)


def checkout(directory: Path, *, world: Path | None = None, image: str = "") -> Path:
    """A checkout to type in; with a world, its profiles, patches and baselines, and ``image`` as build image.

    ``image`` is an expression of `pipeline.host.image`.
    """
    directory.mkdir()
    for name in ("noxfile.py", "pyproject.toml"):
        shutil.copy(paths.REPO / name, directory)
    for name in ("specs", "containers", "abi-baselines", "patches", "tests"):
        (directory / name).symlink_to((world or paths.REPO) / name if name in _WORLDS else paths.REPO / name)
    if world is None:
        (directory / "pipeline").symlink_to(paths.PACKAGE)
        return directory
    left_out = shutil.ignore_patterns("__pycache__", "profiles")
    shutil.copytree(paths.PACKAGE, directory / "pipeline", ignore=left_out)
    (directory / "pipeline" / "profiles").symlink_to(world / "profiles")
    with (directory / "pipeline" / "host" / "image.py").open("a") as file:
        file.write(f"\n\ndef ensure(profile, *, reference='', machine=None):\n    return {image}\n")
    with (directory / "pipeline" / "check" / "registry.py").open("a") as file:
        for kind in ("STATIC", "WATCHED"):
            file.write(f"\n\n{kind} = tuple(c for c in {kind} if c.name not in {NOT_ASKED!r})\n")
    return directory


def expression(image: BuildImage) -> str:
    """The image as Python that `pipeline.host.image` can read."""
    return f"BuildImage({image.engine!r}, {image.name!r}, ImageRecord(**{image.record.model_dump()!r}))"


_WORLDS = ("abi-baselines", "patches")


def walk(todo: Sequence[Typed], where: Path, env: Mapping[str, str]) -> None:
    """Type all lines into one shell, to the end whatever comes, and keep what each of them printed."""
    script = _SHELL + "".join(f"{step.line}\n__ended\n" for step in todo)
    whole = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "NOX_DEFAULT_VENV_BACKEND": "none",  # the package that is tested, and nothing from an index
        "NO_COLOR": "1",
        **env,
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=where, env=whole, stdout=subprocess.PIPE, timeout=540, check=False
    )
    parts = re.split(rf"\n{_MARK}(\d+)\n", done.stdout.decode())
    assert len(parts) == 2 * len(todo) + 1, parts[-1]
    for number, step in enumerate(todo):
        step.came = parts[2 * number].splitlines()
        step.code = int(parts[2 * number + 1])


def _matches(shown: str, line: str) -> bool:
    words = [re.escape(" ".join(part.split())) for part in shown.split("...")]
    return re.fullmatch(r"\s*.*?\s*".join(words), " ".join(line.split())) is not None


def missing(step: Typed) -> list[str]:
    """Lines shown that did not come after those before them; without ``...`` between them, at once."""
    wanted = [" ".join(line.split()) for line in step.shown if line.strip()]
    came = [line for line in step.came if line.strip()]
    lost, at, anywhere = [], 0, True
    for line in wanted:
        if line == "...":
            anywhere = True
            continue
        last = len(came) if anywhere else min(at + 1, len(came))
        found = next((n for n in range(at, last) if _matches(line, came[n])), None)
        if found is None:
            lost.append(line)
        else:
            at, anywhere = found + 1, False
    return lost


def problems(todo: Sequence[Typed]) -> list[str]:
    """What does not come, and lines that end otherwise than 0 without the page asking how they ended."""
    found = []
    for step, after in zip(todo, [*todo[1:], None], strict=True):
        asked = after is not None and after.line == "echo $?"
        lost = missing(step)
        if lost or (step.code and not asked):
            found.append(f"$ {step.line}  # {step.code}\n  not shown: {lost}\n" + "\n".join(step.came))
    return found
