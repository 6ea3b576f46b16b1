"""Stands before make in a build of a variant, as a script with Python's standard library alone.

It is called ``make`` and comes first in PATH. Before the first make it takes the objects of a kept tree,
if make can be trusted with what differs; before ``make install`` it keeps the objects, if it is to. Then
it becomes make.

make believes times: a source file that is byte for byte the kept one gets the kept one's time, any other
the present. What make cannot know by times (a makefile, a script, a file more or less, what headers are
generated from, another result of configure) starts from nothing. Needs Python 3.9, which RHEL 9 has.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: What writes rules or is run by them: make does not make anew what such a file would make differently.
RECIPES = re.compile(
    r"(^|/)(Make[^/]*|Rules|[^/]*\.mk|[^/]*\.make|(?:pre)?configure(?:\.ac)?|Implies|Depend|Subdirs"
    r"|config\.[^/]*\.in|[^/]*\.(?:awk|py|pl|sed|sh|m4))$|^scripts/"
)
#: What headers in the build directory are generated from, but for what `.h.d` files name. Objects depend on
#: such a header by a relative path, which make takes for another file than the one that it has a rule for.
GENERATORS = re.compile(r"(^|/)Versions[^/]*$|\.(?:list|sym|def|tbl|in|input|gperf|y)$")
#: A source file in a list of what a generated header depends on.
NAMED = re.compile(r"\$\(\.\.\)([^\s:\\]+)")
#: What configure writes anew each time, in other words of the same meaning.
TALK = frozenset({"config.log", "config.status"})
MANIFEST, OBJECTS, SAID, KEEP = "manifest.json", "objects.tar", "said.json", "keep"

#: path -> (sha256 and executable bits, or the target of a link; time in nanoseconds)
Files = dict[str, tuple[str, int]]


def main(argv: list[str]) -> None:
    """Do what is to be done before this make, and become it."""
    own = Path(argv[0]).absolute().parent
    hooks = own.parent
    build = Path.cwd()
    os.chdir("..")
    if not (hooks / SAID).exists():
        resume(hooks, Path(build.name))
    if "install" in argv and (hooks / KEEP).exists():
        keep(hooks, Path(build.name))
    os.chdir(build)
    path = os.pathsep.join(d for d in os.environ["PATH"].split(os.pathsep) if Path(d) != own)
    real = shutil.which("make", path=path)
    assert real, "there is no make"
    sys.stdout.flush()
    os.execv(real, [real, *argv[1:]])


def files_below(top: Path, *, without: str = "") -> Files:
    """Every file below ``top``, but for a directory directly in it."""
    found: Files = {}
    for directory, dirs, names in os.walk(top):
        here = Path(directory)
        dirs[:] = sorted(d for d in dirs if (here / d).relative_to(top).as_posix() != without)
        for name in names:
            path = here / name
            status = path.lstat()
            if path.is_symlink():
                content = f"link {os.readlink(path)}"  # noqa: PTH115  # Python 3.9 has no other that is as plain
            else:
                content = hashlib.sha256(path.read_bytes()).hexdigest() + f" {status.st_mode & 0o111:o}"
            found[path.relative_to(top).as_posix()] = (content, status.st_mtime_ns)
    return found


def resume(hooks: Path, build: Path) -> None:
    """Record what is here, and take the kept objects if make can be trusted with the difference."""
    source = files_below(Path(), without=build.as_posix())
    made = {n: v for n, v in files_below(build).items() if n not in TALK}
    (hooks / MANIFEST).write_text(json.dumps({"source": source, "configured": made}))
    at = hooks / "kept"
    said: dict[str, Any] = {"resumed": False, "why": "there is no kept tree", "changed": []}
    if (at / MANIFEST).is_file():
        kept = json.loads((at / MANIFEST).read_text())
        changed, why = compare(source, made, kept)
        said = {"resumed": not why, "why": why, "changed": changed}
        if not why:
            subprocess.run(["tar", "-xf", str(at / OBJECTS)], check=True)
            believe(kept["source"], set(changed))
    (hooks / SAID).write_text(json.dumps(said))
    how = "objects of the kept tree" if said["resumed"] else said["why"]
    print(f"resume: {how}; changed: {said['changed']}")


def compare(source: Files, made: Files, kept: dict[str, Any]) -> tuple[list[str], str]:
    """The source files that differ, and why nothing kept may be used ("" if it may)."""
    before = kept["source"]
    other = sorted(set(source) ^ set(before))
    changed = sorted(n for n in source if n in before and source[n][0] != before[n][0])
    if other:
        return changed, f"files were added or removed: {', '.join(other[:5])}"
    if recipes := [n for n in changed if RECIPES.search(n)]:
        return changed, f"rules changed: {', '.join(recipes[:5])}"
    generating = set(kept["generating"])
    if generate := [n for n in changed if GENERATORS.search(n) or n in generating]:
        return changed, f"headers are generated from {', '.join(generate[:5])}"
    then = kept["configured"]
    if differ := sorted(n for n in {*made, *then} if made.get(n, [""])[0] != then.get(n, [""])[0]):
        return changed, f"configure comes to another result: {', '.join(differ[:5])}"
    return changed, ""


def believe(kept: Files, changed: set[str]) -> None:
    """Give every source file the time that makes make right about it."""
    now = time.time_ns()
    for name, (_, then) in kept.items():
        at = now if name in changed else then
        os.utime(name, ns=(at, at), follow_symlinks=False)


def generating(build: Path) -> list[str]:
    """The source files that headers in the build directory were made from, as make wrote them down."""
    lists = [p.read_text(errors="replace") for p in build.rglob("*.h.d")]
    return sorted({name for text in lists for name in NAMED.findall(text)})


def keep(hooks: Path, build: Path) -> None:
    """Put the objects away, unless making them changed the source (then its times say nothing)."""
    manifest = json.loads((hooks / MANIFEST).read_text())
    recorded = manifest["source"]
    now = files_below(Path(), without=build.as_posix())
    if odd := sorted(n for n in {*now, *recorded} if now.get(n, [""])[0] != recorded.get(n, [""])[0]):
        print(f"keep: make changed the source itself, so nothing is kept: {', '.join(odd[:5])}")
        return
    (hooks / MANIFEST).write_text(json.dumps({**manifest, "generating": generating(build)}))
    part = hooks / f"{OBJECTS}.part"
    subprocess.run(["tar", "--format=posix", "-cf", str(part), str(build)], check=True)
    part.rename(hooks / OBJECTS)


if __name__ == "__main__":
    main(sys.argv)
