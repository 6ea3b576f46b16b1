"""A release's headers as the compiler sees them: types with their layouts, macros with their definitions.

One file includes every header of the release that can be included with the others; it is compiled with debug
information, which `pipeline.elf.types` reads, and preprocessed with all definitions kept. Which headers had
to be left out is written down, too: a header that no longer compiles is a change like any other.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.build import headers
from pipeline.build.workplace import Workplace
from pipeline.core import store
from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import EvidenceError, NoSpace, WorldError, reason, says_disk_full
from pipeline.core.progress import say
from pipeline.core.store import Stored
from pipeline.elf.types import types
from pipeline.rpm.sysroot import root_sha256

KIND, HEADERS = "devel", "devel-headers"
OBJECT, DEFINITIONS, INCLUDED, LEFT_OUT, WORDS = "types.o", "macros.txt", "included", "left-out", "words"
FACTS, SEEN = "facts.json", "seen.json"
#: What programs are compiled as: languages, and what else chooses among declarations. What compiles as GNU C
#: compiles as each of these (upstream tests its installed headers so), though the C++ library is not there.
DIALECTS = {
    "C90": "-std=c90", "GNU C90": "-std=gnu90", "C99": "-std=c99", "GNU C11": "-std=gnu11 -D_GNU_SOURCE",
    "C2x": "-std=c2x", "POSIX": "-std=c99 -D_POSIX_C_SOURCE=200809L",
    "fortified": "-D_GNU_SOURCE -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2",
    "large files and times": "-D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64",
    "C++98": "-xc++ -std=c++98", "C++11": "-xc++ -std=c++11", "C++17": "-xc++ -std=c++17",
    "C++20": "-xc++ -std=c++20",
}  # fmt: skip
#: In this file, by the dialect's number, is what the compiler said.
REFUSED = "refused-{number}"
#: Raised when `pipeline.elf.types` or `pipeline.build.headers` read more, or otherwise.
READER = 3
#: Headers that are only for others to include. `#error` in most of them says so.
PRIVATE = "^bits/"
#: More headers than this that do not go together are no C library's.
MAX_LEFT_OUT = 150


#: How compilers and linkers say that the machine, not what is compiled, is the reason.
MACHINE = re.compile(r"internal compiler error|Killed|signal terminated|out of memory|cannot execute")


def script(machine: Arch, root: str, headers: str, out: str) -> str:
    """The shell script that describes the release in ``root``; everything is written below ``out``.

    Exit status 0 also where the headers cannot be compiled: then `WORDS` says why and `OBJECT` is absent.
    """
    compiler = "gcc" if machine == host_arch() else f"{machine.triplet}-gcc"
    r, k, o = shlex.quote(root), shlex.quote(headers), shlex.quote(out)
    dialects = "".join(
        f"plain {'-nostdinc++ ' * ('++' in options)}{options} -fmax-errors=1 -fsyntax-only all.c "
        f"2> {WORDS} || mv {WORDS} {REFUSED.format(number=number)}\n"
        for number, options in enumerate(DIALECTS.values())
    )
    return f"""set -eu
cd {o}
plain() {{ {compiler} -w --sysroot={r} -isystem {r}/usr/include -idirafter {k} "$@"; }}
call() {{ plain -D_GNU_SOURCE "$@"; }}
if [ ! -d {r}/usr/include ]; then echo "there are no headers (package glibc-devel)" > {WORDS}; exit 0; fi
(cd {r}/usr/include && find . -name '*.h') | sed 's,^\\./,,' | LC_ALL=C sort > all
grep -v '{PRIVATE}' all > {INCLUDED} || :
: > {LEFT_OUT}
n=0
while :; do
  sed 's,.*,#include <&>,' {INCLUDED} > all.c
  call -fmax-errors=1 -fsyntax-only all.c 2> {WORDS} && break
  line=$(sed -n 's/.*\\ball\\.c:\\([0-9]*\\)[:,].*/\\1/p' {WORDS} | head -n1)
  n=$((n + 1))
  if [ -z "$line" ] || [ $n -gt {MAX_LEFT_OUT} ]; then exit 0; fi
  sed -n "${{line}}p" {INCLUDED} >> {LEFT_OUT}
  sed -i "${{line}}d" {INCLUDED}
done
if [ ! -s {INCLUDED} ]; then echo "no header at all" > {WORDS}; exit 0; fi
call -g -gdwarf-5 -fno-eliminate-unused-debug-types -c all.c -o {OBJECT}
call -E -dD all.c -o {DEFINITIONS}
{dialects}"""


def _seen(into: Path, include: str) -> dict[str, Any]:
    """What a compiler made of headers; ``include``: where it saw the release's."""
    if not (into / OBJECT).is_file():
        words = (into / WORDS).read_text(errors="replace").strip()
        if says_disk_full(words):
            raise NoSpace(f"no space left while headers were compiled: {words[-200:]}")
        _by_itself(words)
        return {"refused": words[-600:] or "no headers"}
    return {
        "refused": "",
        "layouts": types(into / OBJECT, include),
        "definitions": headers.macros((into / DEFINITIONS).read_text(errors="replace"), include),
        "left_out": (into / LEFT_OUT).read_text().split(),
        "dialects": dict(_refusals(into, include)),
    }


def _facts(seen: dict[str, Any], root: Path) -> dict[str, Any]:
    """What `facts`, `committed` and `dialects` read."""
    links = headers.linking(root)
    if seen["refused"]:
        return {"refused": seen["refused"], "all": links, "committed": [], "dialects": {}}
    found = (seen["layouts"], seen["definitions"], seen["left_out"], links)
    return {
        "refused": "", "all": headers.all_facts(*found), "committed": headers.committed_facts(*found),
        "dialects": seen["dialects"],
    }  # fmt: skip


def _by_itself(words: str) -> None:
    """Raise `WorldError` if it was the machine that ended the compiler."""
    if MACHINE.search(words):
        raise WorldError(
            f"the compiler did not end by itself: {words[-300:]}",
            hint="see `dmesg` for why (memory may have been short), then run the same command again",
        )


def _refusals(into: Path, include: str) -> Iterator[tuple[str, str]]:
    """Each dialect in which the headers do not compile, with the compiler's error."""
    for number, dialect in enumerate(DIALECTS):
        file = into / REFUSED.format(number=number)
        if file.is_file():
            words = file.read_text(errors="replace").replace(include, "")
            _by_itself(words)
            errors = [line for line in words.splitlines() if "error" in line]
            yield dialect, (errors or [words[-300:]])[0]


def _compiled(machine: Arch, workplace: Workplace, root: Path) -> Stored:
    """What the compiler makes of a release's headers, made once for these very headers."""
    include = root / "usr" / "include"
    inputs = {
        "headers": root_sha256(include) if include.is_dir() else "",
        "workplace": workplace.identity(machine),
        "arch": machine.name,
        "script": script(machine, "R", "K", "O"),
        "reader": READER,
    }

    def make(into: Path) -> None:
        at = workplace.at("/release", root)
        kernel = workplace.kernel_headers(into, machine)
        text = script(machine, at, kernel, workplace.at("/described", into))
        workplace.run(
            ["sh", "-c", text], mounts={"/described": into}, read_only={"/release": root},
            remedy="the compiler does not work here: see its words above",
        )  # fmt: skip
        (into / SEEN).write_text(json.dumps(_seen(into, f"{at}/usr/include/")) + "\n")

    return store.produce(HEADERS, inputs, make)


def describe(machine: Arch, workplace: Workplace, root: Path) -> Path:
    """The directory with the description of a release's headers and link-time files, made once for these.

    Raises `CommandFailed` if the compiler does not work at all.
    """
    compiled = _compiled(machine, workplace, root)
    inputs = {"headers": compiled.key, "root": root_sha256(root), "reader": READER}

    def make(into: Path) -> None:
        seen = json.loads((compiled.path / SEEN).read_text())
        (into / FACTS).write_text(json.dumps(_facts(seen, root)) + "\n")

    entry = store.produce(KIND, inputs, make)
    if not entry.reused:
        say(f"described the headers of {root.parent.name} ({machine.name})")
    return entry.path


def facts(described: Path) -> dict[str, str]:
    """All facts (`pipeline.build.headers.all_facts`). Raises `NoHeaders`, `EvidenceError`."""
    found: dict[str, str] = _read(described)["all"]
    return found


def committed(described: Path) -> list[str]:
    """The lines to commit (`pipeline.build.headers.committed_facts`). Raises `NoHeaders`, `EvidenceError`."""
    found: list[str] = _read(described)["committed"]
    return found


def dialects(described: Path) -> dict[str, str]:
    """Dialect -> why the headers do not compile as that. Raises `NoHeaders`, `EvidenceError`."""
    found: dict[str, str] = _read(described)["dialects"]
    return found


@cache
def _parsed(text: str) -> dict[str, Any]:
    """A description, which several checks read."""
    data: dict[str, Any] = json.loads(text)
    return data


def _read(described: Path) -> dict[str, Any]:
    try:
        data = _parsed((described / FACTS).read_text())
    except (OSError, ValueError) as e:
        raise EvidenceError(
            f"{described / FACTS} cannot be read: {reason(e)}", hint="`nox -s verify` makes it"
        ) from None
    if data["refused"]:
        raise NoHeaders(data["refused"])
    return data


class NoHeaders(EvidenceError):
    """The headers do not compile, or there are none; the message is the compiler's."""
