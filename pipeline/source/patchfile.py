"""One patch file: a header that says what, why and after whom, a line ``---``, and a unified diff."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipeline.core.errors import UsageError
from pipeline.core.records import PatchRecord
from pipeline.core.store import file_sha256

FIELDS = ("Subject", "Why", "Upstream", "Author", "Signed-off-by", "Licence")
#: Text by which a patch is recognised in a source that has it in another form: ``FILE TEXT`` a line
PRESENT = "Present"
#: A new file says who holds its copyright: the GNU Toolchain Authors, as contributions under the DCO do.
COPYRIGHT = "Copyright The GNU Toolchain Authors."
LICENCES = ("LGPL-2.1-or-later",)
#: lines of unchanged text around a change: enough to place it, little of another's text
CONTEXT = 2
_FIELD = re.compile(r"^([A-Z][A-Za-z-]*):(?:[ \t]+(.*))?$")
_PERSON = re.compile(r"^\S.* <[^<>\s@]+@[^<>\s@]+>$")
_UPSTREAM = re.compile(r"^[0-9a-f]{10,40} \S.*$")
_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True)
class Hunk:
    """One change: its line in the patch file, the target, its first line there, and its lines as written."""

    line: int
    target: str
    start: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Patch:
    """A patch as read. ``upstream`` holds ``COMMIT TITLE`` each, and is empty for ``none``.

    ``present`` holds (file, text) pairs; a source that has all of them has the patch in another form.
    ``diff`` is everything behind the line ``---``, whose first line is line ``diff_line`` of the file.
    """

    path: Path
    sha256: str
    subject: str
    why: str
    upstream: tuple[str, ...]
    present: tuple[tuple[str, str], ...]
    author: str
    signed_off_by: str
    licence: str
    diff: str
    diff_line: int

    @property
    def file(self) -> str:
        return self.path.name

    @property
    def record(self) -> PatchRecord:
        return PatchRecord(file=self.file, sha256=self.sha256, subject=self.subject, upstream=self.upstream)

    def hunks(self) -> tuple[Hunk, ...]:
        """The hunks in order; raises `UsageError` naming the line that is no unified diff."""
        return _hunks(self.path, self.diff, self.diff_line)


def read(path: Path) -> Patch:
    """Read a patch file; raises `UsageError` naming file, line and what was expected."""
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist", hint="correct the series that names it") from None
    except UnicodeDecodeError as e:
        raise UsageError(f"{path} is not UTF-8: {e}", hint="save it as UTF-8") from None
    head, diff, diff_line = _split(path, text)
    fields = _fields(path, head)
    missing = [name for name in FIELDS if not fields.get(name)]
    if missing:
        raise _wrong(path, 1, f"the header has no {', '.join(missing)}")
    unknown = [name for name in fields if name not in (*FIELDS, PRESENT)]
    if unknown:
        raise _wrong(path, 1, f"the header has an unknown field {', '.join(unknown)}")
    return Patch(
        path=path,
        sha256=file_sha256(path),
        subject=" ".join(fields["Subject"]),
        why=" ".join(fields["Why"]),
        upstream=_upstream(path, fields["Upstream"]),
        present=_present(path, fields.get(PRESENT, [])),
        author=" ".join(fields["Author"]),
        signed_off_by=" ".join(fields["Signed-off-by"]),
        licence=" ".join(fields["Licence"]),
        diff=diff,
        diff_line=diff_line,
    )


def _wrong(path: Path, line: int, what: str) -> UsageError:
    return UsageError(
        f"{path}:{line}: {what}",
        hint=f"a patch begins with the fields {', '.join(FIELDS)} and a line ---; see CONTRIBUTING.md",
    )


def _split(path: Path, text: str) -> tuple[list[str], str, int]:
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.rstrip("\r") == "---":
            return lines[:number], "\n".join(lines[number + 1 :]), number + 2
    raise _wrong(path, 1, "no line --- ends the header")


def _fields(path: Path, head: list[str]) -> dict[str, list[str]]:
    """Field -> its lines, folded ones each on their own."""
    fields: dict[str, list[str]] = {}
    name = ""
    for number, raw in enumerate(head, 1):
        line = raw.rstrip("\r")
        match = _FIELD.match(line)
        if line[:1] in (" ", "\t") and line.strip() and name:
            fields[name].append(line.strip())
        elif match and match[1] not in fields:
            name = match[1]
            fields[name] = [match[2].strip()] if match[2] and match[2].strip() else []
        elif match:
            raise _wrong(path, number, f"a second {match[1]}")
        else:
            raise _wrong(path, number, f"{line[:60]!r} is neither 'Field: text' nor a folded line")
    return fields


def _upstream(path: Path, lines: list[str]) -> tuple[str, ...]:
    if lines == ["none"]:
        return ()
    for line in lines:
        if not _UPSTREAM.match(line):
            raise _wrong(
                path,
                1,
                f"Upstream: {line[:60]!r} is not 'COMMIT TITLE' (10 to 40 hexadecimal digits) nor none",
            )
    return tuple(lines)


def _present(path: Path, lines: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for line in lines:
        file, _, text = line.partition(" ")
        if not text.strip():
            raise _wrong(path, 1, f"Present: {line[:60]!r} is not 'FILE TEXT'")
        pairs.append((file, text.strip()))
    return tuple(pairs)


def _hunks(path: Path, diff: str, first: int) -> tuple[Hunk, ...]:
    lines = diff.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    found: list[Hunk] = []
    target = ""
    at = 0
    while at < len(lines):
        line = lines[at]
        match = _HUNK.match(line)
        if line.startswith("--- "):
            old, new = line[4:].split("\t")[0], lines[at + 1] if at + 1 < len(lines) else ""
            if not new.startswith("+++ "):
                raise _wrong(path, first + at + 1, "a line +++ must follow the line ---")
            new = new[4:].split("\t")[0]
            target = (old if new == "/dev/null" else new).partition("/")[2]
            at += 2
        elif match and target:
            sizes = (int(match[2] or 1), int(match[4] or 1))
            end = _end_of_hunk(path, lines, at, first=first, sizes=sizes)
            found.append(Hunk(first + at, target, int(match[1]), tuple(lines[at + 1 : end])))
            at = end
        elif line.startswith(("diff ", "index ", "new file mode ", "deleted file mode ")):
            at += 1
        else:
            raise _wrong(path, first + at, f"{line[:60]!r} does not belong to a unified diff")
    if not found:
        raise _wrong(path, first, "the patch changes nothing")
    return tuple(found)


def _end_of_hunk(path: Path, lines: list[str], at: int, *, first: int, sizes: tuple[int, int]) -> int:
    """The index behind the hunk at ``at``, whose header promises ``sizes`` lines, old and new."""
    old, new = sizes
    here = at + 1
    while old > 0 or new > 0:
        sign = lines[here][:1] if here < len(lines) else ""
        if sign not in (" ", "-", "+", "\\") or not sign:
            raise _wrong(path, first + here, "the hunk ends before it has the lines its header promises")
        old -= sign in " -"
        new -= sign in " +"
        here += 1
    if old or new:
        raise _wrong(path, first + here - 1, "the hunk has more lines than its header promises")
    while here < len(lines) and lines[here].startswith("\\"):  # "\ No newline at end of file"
        here += 1
    return here


def blemishes(patch: Patch) -> list[str]:
    """What is wrong with the form of a patch that could be read: ``FILE:LINE: what``, all of it."""
    found = []
    for number, line in enumerate(patch.path.read_bytes().decode().split("\n"), 1):
        own = number < patch.diff_line or line.startswith("+")
        if line.endswith("\r") and own:
            found.append(f"{patch.path}:{number}: the line ends in CR LF")
        elif own and line != line.rstrip() and not line.startswith("+++ "):
            found.append(f"{patch.path}:{number}: trailing white space")
    if patch.licence not in LICENCES:
        found.append(f"{patch.path}:1: Licence {patch.licence!r} is not {' or '.join(LICENCES)}")
    if not _PERSON.match(patch.signed_off_by):
        found.append(f"{patch.path}:1: Signed-off-by {patch.signed_off_by!r} is not 'NAME <ADDRESS>'")
    for hunk in patch.hunks():
        changed = [n for n, line in enumerate(hunk.lines) if line[:1] in ("+", "-")]
        if not changed:
            found.append(f"{patch.path}:{hunk.line}: the hunk changes nothing")
            continue
        new = hunk.start == 0 and hunk.target.endswith((".c", ".h", ".S"))
        if new and not any(COPYRIGHT in line for line in hunk.lines):
            found.append(f"{patch.path}:{hunk.line}: new file {hunk.target} has no line {COPYRIGHT!r}")
        between = max((b - a - 1 for a, b in pairwise(changed)), default=0)
        after = sum(line[:1] == " " for line in hunk.lines[changed[-1] + 1 :])
        if max(changed[0], after) > CONTEXT or between > 2 * CONTEXT:
            found.append(
                f"{patch.path}:{hunk.line}: more than {CONTEXT} lines of context "
                f"(make it with `diff -U{CONTEXT}`)"
            )
    return found


def count_up_to(names: Sequence[str], up_to: str | None, where: str) -> int:
    """How many of the patches called ``names`` are applied up to and with ``up_to`` (None: all).

    ``up_to`` is a file name, or its beginning. Raises `UsageError` if no patch or more than one has it;
    ``where`` is what error messages call the list.
    """
    if up_to is None:
        return len(names)
    exact = [n for n, name in enumerate(names) if name == up_to]
    found = exact or [n for n, name in enumerate(names) if name.startswith(up_to)]
    if len(found) != 1:
        raise UsageError(
            f"{where} has {'no' if not found else 'more than one'} patch {up_to!r}",
            hint="it has: " + (", ".join(names) or "none"),
        )
    return found[0] + 1
