"""Edits of built packages: from a good release's RPMs to the RPMs of one that is wrong in one way."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.core import ar
from pipeline.core.arch import Arch
from pipeline.core.errors import UsageError
from pipeline.core.records import Built
from pipeline.core.store import write_atomically
from pipeline.knownbad.elfedit import EDITS as ELF_EDITS
from pipeline.knownbad.elfedit import ElfEdit
from pipeline.knownbad.entry import Edit
from pipeline.knownbad.rpmfile import CAPABILITIES, COLORS, FLAGS, GROUPS, LANGUAGES, USERS, RpmFile
from pipeline.rpm import package
from pipeline.rpm.writing import INT32, STRING

#: what an entry writes for ld.so, whose path differs by architecture
LOADER = "@loader"
#: what an entry writes for the source package
SOURCE = "@source"

#: rpm's names of scriptlets, and the tags of text and interpreter.
_SCRIPTS = {"pre": (1023, 1085), "post": (1024, 1086), "preun": (1025, 1087), "postun": (1026, 1088)}
_FILE_FLAGS = {"config": 1, "doc": 2, "noreplace": 16, "ghost": 64}


def _text(rpm: RpmFile, file: str, find: str, replace: str, count: int = 1) -> None:
    """Replace text in a file; it must be there ``count`` times."""
    old = rpm.read(file)
    if old.count(find.encode()) != count:
        raise UsageError(
            f"{file} has {old.count(find.encode())} times {find!r}, not {count}", hint="correct the entry"
        )
    rpm.write(file, old.replace(find.encode(), replace.encode()))


def _late(rpm: RpmFile, file: str, add: str) -> None:
    """The payload has other bytes than the list's digest says, as many."""
    data = rpm.read(file)
    raw = add.encode()
    rpm.late[file] = data[: -len(raw)] + raw


def _file_flags(rpm: RpmFile, file: str, flags: Sequence[str]) -> None:
    rpm.column(FLAGS, file, sum(_FILE_FLAGS[f] for f in flags))


def _owner(rpm: RpmFile, file: str, user: str = "root", group: str = "root") -> None:
    rpm.column(USERS, file, user)
    rpm.column(GROUPS, file, group)


def _script(rpm: RpmFile, file: str, when: str, text: str, program: str = "/bin/sh") -> None:  # noqa: ARG001
    text_tag, program_tag = _SCRIPTS[when]
    rpm.header.set(text_tag, [text] if text else [], 6)
    rpm.header.set(program_tag, [program] if program else [], 6)


def _trigger(rpm: RpmFile, file: str, on: str, text: str, program: str = "/bin/sh") -> None:  # noqa: ARG001
    """A scriptlet that is run when another package is installed."""
    for tag, values, kind in (
        (1065, [text], 8), (1066, [on], 8), (1067, [""], 8), (1068, [1 << 16], 4), (1069, [0], 4),
        (1092, [program], 8),
    ):  # fmt: skip
        rpm.header.set(tag, values, kind)


def _depend(rpm: RpmFile, file: str, kind: str, add: str = "", remove: str = "") -> None:  # noqa: ARG001
    if remove:
        rpm.depend(kind, remove, remove=True)
    if add:
        rpm.depend(kind, add)


def _add(rpm: RpmFile, file: str, text: str, like: str) -> None:
    rpm.add(file, text.encode(), like=like)


def _exchange(rpm: RpmFile, file: str, other: str) -> None:
    """Each of two files has what the other had."""
    one, two = rpm.read(file), rpm.read(other)
    rpm.write(file, two)
    rpm.write(other, one)


def _member_binding(rpm: RpmFile, file: str, member: str, symbol: str, to: str) -> None:
    """A symbol that a member of an archive defines has another binding, and the index is as it was."""
    data = bytearray(rpm.read(file))
    found = [m for m in ar.members(io.BytesIO(data), file) if m.name == member]
    if len(found) != 1:
        raise UsageError(f"{file} has {len(found)} members {member}", hint="correct the entry")
    at, size = found[0].at, found[0].size
    content = ElfEdit(bytes(data[at : at + size]), f"{file}({member})")
    content.symbol_binding(symbol, to, ".symtab")
    data[at : at + size] = content.data
    rpm.write(file, bytes(data))


#: Edits of a package: (package, file, the edit's own keys).
RPM_EDITS: dict[str, Callable[..., None]] = {
    "text": _text,
    "payload": _late,
    "digests-md5": lambda rpm, file: rpm.md5(),  # noqa: ARG005
    "file-flags": _file_flags,
    "file-owner": _owner,
    "file-mode": lambda rpm, file, mode: rpm.mode(file, int(mode, 8)),
    "file-color": lambda rpm, file, color: rpm.column(COLORS, file, color),
    "file-capabilities": lambda rpm, file, capabilities: rpm.optional(CAPABILITIES, file, capabilities),
    "number-tag": lambda rpm, file, tag, value: rpm.header.set(tag, [value], INT32),  # noqa: ARG005
    "text-tag": lambda rpm, file, tag, value: rpm.header.set(  # noqa: ARG005
        tag, [value], rpm.header.values.get(tag, (STRING,))[0]
    ),
    "release": lambda rpm, file, to: rpm.release(to),  # noqa: ARG005
    "file-link": lambda rpm, file, to: rpm.link(file, to),
    "file-remove": lambda rpm, file: rpm.remove(file),
    "file-add": _add,
    "member-binding": _member_binding,
    "file-exchange": _exchange,
    "file-language": lambda rpm, file, language: rpm.optional(LANGUAGES, file, language),
    "script": _script,
    "trigger": _trigger,
    "depend": _depend,
}


def check(edit: Edit) -> None:
    """Raise `UsageError` unless the edit is known and its keys are the ones it takes."""
    function = RPM_EDITS.get(edit.do) or ELF_EDITS.get(edit.do)
    if function is None:
        known = ", ".join(sorted((*RPM_EDITS, *ELF_EDITS)))
        raise UsageError(f"there is no edit {edit.do!r}", hint=f"edits: {known}")
    given: list[Any] = ["rpm", "file"] if edit.do in RPM_EDITS else ["elf"]
    try:
        inspect.signature(function).bind(*given, **edit.details)
    except TypeError as e:
        raise UsageError(f"edit {edit.do}: {e}", hint="correct the entry's keys") from None


def apply(edits: Sequence[Edit], good: Built, machine: Arch, into: Path) -> None:
    """Write the release's RPMs to ``into``, the edited packages in the place of the good ones.

    A good package that no edit touches is linked. Raises `UsageError` for an edit that does not fit.
    """
    chosen = [e for e in edits if not e.arches or machine.name in e.arches]
    if not chosen:
        raise UsageError(f"no edit of the entry is for {machine.name}", hint="correct the entry's arches")
    opened: dict[str, RpmFile] = {}
    for edit in chosen:
        check(edit)
        rpm = opened.setdefault(edit.package, RpmFile(_package(good, edit.package)))
        file = _loader(rpm, machine) if edit.file == LOADER else edit.file
        if edit.do in RPM_EDITS:
            RPM_EDITS[edit.do](rpm, file, **edit.details)
            continue
        elf = ElfEdit(rpm.read(file), file)
        ELF_EDITS[edit.do](elf, **edit.details)
        rpm.write(file, bytes(elf.data))
    for record in (*good.manifest.rpms, *([good.manifest.srpm] if good.manifest.srpm else [])):
        read = package.read(good.rpms / record.file)
        name = SOURCE if read.is_source else read.name
        if name in opened:
            opened[name].save(into / record.file)
        else:
            write_atomically(into / record.file, (good.rpms / record.file).read_bytes())


def _package(good: Built, name: str) -> Path:
    if name != SOURCE:
        return good.rpm(name)
    if good.manifest.srpm is None:
        raise UsageError(f"{good.target} has no source package", hint="`nox -s build` makes one")
    return good.rpms / good.manifest.srpm.file


def _loader(rpm: RpmFile, machine: Arch) -> str:
    """The path of ld.so in a package: a regular file, in whichever directory the profile puts it."""
    found = [
        m.path for m in rpm.members if m.path.endswith(f"/{machine.loader}") and m.data.startswith(b"\x7fELF")
    ]
    if not found:
        raise UsageError(f"{rpm.name} has no {machine.loader}", hint="name the package that has it")
    return found[0]
