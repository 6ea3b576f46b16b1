"""A spec file as rpm itself expands it: which patches %prep applies, in which order, with which options.

rpm's macros (conditions, ``%patch``, ``%autosetup``, ``%autopatch``) are expanded by ``rpmspec -P``; what is
read here is the shell text that comes of them, in which every ``patch`` command stands with its options.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.core.errors import UsageError

_TAG = re.compile(r"^(Name|Version|Source\d*|Patch\d*)\s*:\s*(\S.*?)\s*$", re.IGNORECASE)
_SECTION = re.compile(r"^%(\w+)")
_PATCHES = re.compile(r"(?:^|[\s;|&(])(?:\S*/)?(?:patch|git(?:\s+-\S+)*\s+(?:apply|am))(?:\s|$)")
_UNREAD = re.compile(r"^echo 'Cannot read (.*?)'")

#: What %setup and the SCM helpers of %autosetup expand to; it unpacks, and changes nothing of the tree.
_BOILERPLATE = re.compile(
    r"^(?:(?:/usr)?/bin/)?(?:rm -rf '|STATUS=|if \[ \$STATUS|exit \$STATUS|fi$|chmod -Rf |echo |mkdir -p '"
    r"|set [+-]x$|git (?:init|config|add|commit)\b)"
)
_UNPACKS = re.compile(r"rpmuncompress -x |\btar -x")

#: A command that stands where %prep ends: rpm 4.18 leaves the line %build out of what it prints.
END_OF_PREP = "echo pipeline: here ends prep"
_AFTER_PREP = re.compile(rb"^%(build|install|check|generate_buildrequires|clean|conf|files|pre|post)\b")

#: Options of patch(1) that say nothing about what fits.
_QUIET = ("-s", "--silent", "--quiet", "-f", "--force", "--no-backup-if-mismatch")


@dataclass(frozen=True)
class Application:
    """One ``patch`` command: the patch's file name and the command's options."""

    file: str
    options: tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Whether it is ``-p1`` without fuzz, which is how our own spec applies patches."""
        return sorted(o for o in self.options if o not in _QUIET) == ["--fuzz=0", "-p1"]

    @property
    def fuzz(self) -> int:
        """Lines of context that may differ; patch(1) itself takes 2 if nothing is said."""
        for option, after in zip(self.options, (*self.options[1:], ""), strict=True):
            number = option.partition("=")[2] if option.startswith("--fuzz") else option.removeprefix("-F")
            if option.startswith(("--fuzz", "-F")):
                return int(number or after)
        return 2


@dataclass(frozen=True)
class Parsed:
    """What an expanded spec says. ``sources`` and ``patches`` are file names in the order of their tags.

    ``topdir`` is the directory %prep works in; ``further`` are the commands of %prep that are neither
    unpacking nor patching.
    """

    name: str
    version: str
    sources: tuple[str, ...]
    patches: tuple[str, ...]
    topdir: str
    applied: tuple[Application, ...]
    further: tuple[str, ...]


def mark(spec: bytes) -> bytes:
    """A spec with `END_OF_PREP` before the section that follows %prep."""
    lines = spec.split(b"\n")
    start = next((n for n, line in enumerate(lines) if re.match(rb"^%prep\b", line)), len(lines))
    end = next((n for n, line in enumerate(lines) if n > start and _AFTER_PREP.match(line)), None)
    return spec if end is None else b"\n".join([*lines[:end], END_OF_PREP.encode(), *lines[end:]])


def parse(text: str, where: str) -> Parsed:
    """Read the output of ``rpmspec -P`` on a spec that was marked; ``where`` names the spec in messages.

    Raises `UsageError`: no name, version or source; a patch that is not there; a patch command that cannot be
    followed.
    """
    tags: dict[str, list[str]] = {"name": [], "version": [], "source": [], "patch": []}
    section = ""
    prep: list[str] = []
    for line in text.splitlines():
        if (match := _SECTION.match(line)) and match[1] not in ("dir", "doc", "defattr"):
            section = match[1]
        elif line.strip() == END_OF_PREP:
            section = "after prep"
        elif section == "prep":
            prep.append(line)
        elif section in ("", "package", "description") and (tag := _TAG.match(line)):
            tags[tag[1].lower().rstrip("0123456789")].append(tag[2])
    for tag_name in ("name", "version", "source"):
        if not tags[tag_name]:
            raise UsageError(f"{where} has no {tag_name.capitalize()}", hint="name a whole spec file")
    topdir, applied, further = _prep(prep, where, _file(tags["source"][0]))
    return Parsed(
        name=tags["name"][0],
        version=tags["version"][0],
        sources=tuple(_file(s) for s in tags["source"]),
        patches=tuple(_file(p) for p in tags["patch"]),
        topdir=topdir or f"{tags['name'][0]}-{tags['version'][0]}",
        applied=applied,
        further=further,
    )


def _file(text: str) -> str:
    return PurePosixPath(text.partition("#/")[2] or text).name


def _prep(lines: list[str], where: str, archive: str) -> tuple[str, tuple[Application, ...], tuple[str, ...]]:
    topdir = elsewhere = ""
    applied: list[Application] = []
    further: list[str] = []
    for line in _commands(lines):
        if missing := _UNREAD.match(line):
            raise UsageError(
                f"{where}: patch {_file(missing[1])} is not there", hint="name a whole dist-git checkout"
            )
        if match := re.match(r"^(?:cd|pushd) '?([^/'\s][^']*?)'?$", line):
            topdir = topdir or match[1]
            elsewhere = line if match[1] != topdir else ""
        elif line.startswith(("cd /", "cd '/")) or line == "popd":  # the build directory, or back again
            elsewhere = ""
        elif found := _application(line):
            if elsewhere:
                raise _not_followed(where, f"{line} (after {elsewhere})")
            applied.append(found)
        elif _PATCHES.search(line) and not line.startswith("echo "):
            raise _not_followed(where, line)
        elif not (_boilerplate(line) or (_UNPACKS.search(line) and archive in line)):
            further.append(line)
    return topdir, tuple(applied), tuple(further)


def _boilerplate(line: str) -> bool:
    """Whether a line is one of `_BOILERPLATE`, and ends there: the text of an echo may go on for pages."""
    return bool(_BOILERPLATE.search(line)) and len(commands([line, line])) == 2


def _not_followed(where: str, line: str) -> UsageError:
    return UsageError(
        f"{where}: %prep applies a patch in a way that cannot be followed: {line}",
        hint="apply patches with %patch, %autosetup or %autopatch in the top directory",
    )


def _commands(lines: list[str]) -> Iterator[str]:
    """One command a line: continued lines and pipes joined, comments and empty lines left out."""
    pending = ""
    for raw in lines:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        pending = f"{pending} {line}".strip()
        if pending.endswith("\\"):
            pending = pending[:-1].rstrip()
        elif not pending.endswith("|"):
            yield pending
            pending = ""
    if pending:
        yield pending


def commands(lines: Sequence[str]) -> tuple[str, ...]:
    """Lines of shell as whole commands: what stands in quotes over several lines is one command.

    For people to read: an apostrophe in a comment behind a command takes what follows into that command.
    """
    found: list[str] = []
    pending: list[str] = []
    for line in lines:
        pending.append(line)
        try:
            shlex.split("\n".join(pending), comments=True)
        except ValueError:
            continue
        found.append("\n".join(pending))
        pending = []
    return (*found, *(["\n".join(pending)] if pending else []))


def _application(line: str) -> Application | None:
    """The patch a command applies: ``patch … < FILE``, ``SOMETHING FILE | patch …``, or git's own ways."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # quotes over several lines: no command that rpm writes
        return None
    pipeline: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "||", ";"):
            break
        if word == "|":
            pipeline.append([])
        else:
            pipeline[-1].append(word)
    command = pipeline[-1]
    if len(pipeline) > 2 or not command:
        return None
    piped = pipeline[0][-1] if len(pipeline) == 2 and pipeline[0] else ""
    program, *options = command
    if PurePosixPath(program).name == "patch":
        return _of_patch(options, piped)
    if PurePosixPath(program).name == "git" and (verb := {"apply", "am"} & set(options)):
        return _of_git(options[options.index(verb.pop()) + 1 :], piped)
    return None


def _of_patch(options: list[str], piped: str) -> Application | None:
    file = piped
    kept: list[str] = []
    rest = iter(options)
    for option in rest:
        if option in ("<", "-i"):
            file = next(rest, "")
        elif option in (">", ">>", ">&"):
            return None
        else:
            kept.append(option)
    return Application(PurePosixPath(file).name, tuple(kept)) if file else None


def _of_git(options: list[str], piped: str) -> Application | None:
    """git takes no fuzz, and strips one level by default."""
    file = piped or next((o for o in options if not o.startswith("-")), "")
    level = next((o for o in options if re.match(r"^-p\d+$", o)), "-p1")
    return Application(PurePosixPath(file).name, (level, "--fuzz=0", "-s")) if file else None


def patches_inc(applied: tuple[Application, ...]) -> str:
    """``PatchN:`` lines in the order of application for our own spec, each applied with its own options.

    Our spec says ``%autosetup -p1``; where that would not do, the macro it ends in is defined anew.
    """
    lines = ["%global _default_patch_fuzz 0"]
    lines += [f"Patch{number}: {a.file}" for number, a in enumerate(applied, 1)]
    if not all(a.plain for a in applied):
        lines.append("%define autopatch(vqp:m:M:) %{nil} \\")
        commands = []
        for number, a in enumerate(applied, 1):
            options = shlex.join(a.options).replace("%", "%%")
            commands.append(f"echo 'Patch #{number} ({a.file.replace('%', '%%')})' \\")
            commands.append(f"%{{__patch}} {options} < %{{PATCH{number}}} \\")
        lines += [*commands, "%{nil}"]
    return "\n".join(lines) + "\n"
