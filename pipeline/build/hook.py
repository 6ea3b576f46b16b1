"""Stands before make in a build of a variant, as a script with Python's standard library alone.

It is called ``make`` and comes first in PATH. Before the first make it takes the objects of the kept tree
that is nearest, if make can be trusted with what differs; before ``make install`` it keeps the objects of a
build from nothing, if it is to. Then it becomes make.

make believes times: a source file that is byte for byte the kept one gets the kept one's time, any other
the present. What make cannot know by times (a makefile, a script, a file more or less, what headers are
generated from, a file of a kind that is not known here, another result of configure) starts from nothing, but
for two kinds that are told by content:

- ``Versions`` and ``dl-tunables.list``: what is generated from them is made first, by make's own rules.
  What came out as it was keeps its time; where it did not, all that was made from it is removed.
- A makefile that differs only in what is tested or which headers are installed (`meaning`): neither is kept.

Needs Python 3.9, which RHEL 9 has.
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
    r"|config\.[^/]*\.in|[^/]*\.(?:awk|py|pl|sed|sh|m4))$|^scripts/|^version\.h$"
)
#: What the compiler's lists name, and what make's rules alone install, link by or put into the manual.
KNOWN = re.compile(r"\.(?:c|h|S|map|abilist|conf|texi|po)$|(^|/)(?:NEWS|ChangeLog[^/]*|README[^/]*)$")
#: Where an assembler may be told to take in a whole file.
SOURCES = (".c", ".h", ".S", ".s", ".inc")
#: What headers in the build directory are generated from, but for what `.h.d` files name. Objects depend on
#: such a header by a relative path, which make takes for another file than the one that it has a rule for.
GENERATORS = re.compile(r"(^|/)Versions[^/]*$|\.(?:list|sym|def|tbl|in|input|gperf|y)$")
#: Those of them whose products, directly in the build directory, can be made before anything is compiled.
REMADE = re.compile(r"(^|/)(Versions|dl-tunables\.list)$")
PRODUCTS = re.compile(
    r"Versions\..*|versions\.stmp|sysd-versions|[^/]*\.map|(?:abi|first)-versions\.h|ldbl-compat-choose\.h"
    r"|dl-tunable-list\.(?:h|stmp)"
)
#: What of it to ask make for (the rest is made on the way), and what makefiles include.
GOALS = ("abi-versions.h", "first-versions.h", "dl-tunable-list.h")
INCLUDED = ("Versions.mk", "sysd-versions")
#: What a compiler makes that `outdate` may remove, for make makes it again.
OBJECT = frozenset({".o", ".os", ".oS", ".op"})
#: The compiler's lists of what an object was made from (make turns the second into the first).
LISTS = frozenset({".d", ".dt"})
#: What keeps glibc's make from reading them, which takes long: a build from nothing makes no object twice,
#: and in any other `outdate` has read them.
NO_LISTS = "no_deps=t"
#: A makefile's statement that only tests or installed headers depend on. (It names no variable, no
#: function, and no test that could be an object of a library.)
HARMLESS = re.compile(
    r"tst-[\w-]+-(?:ENV|ARGS)\s*:?=[^$]*"
    r"|(?:x?tests|tests-internal|tests-static)\s*\+=(?:\s+tst-[\w-]+)*\s*"
    r"|sysdep_headers\s*\+=(?:\s+[\w/.-]+\.h)*\s*"
)
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
    path = os.pathsep.join(d for d in os.environ["PATH"].split(os.pathsep) if Path(d) != own)
    real = shutil.which("make", path=path)
    assert real, "there is no make"
    os.chdir("..")
    asked = {"--version", "-v"}.intersection(argv)  # by configure, of a make that is not called gmake
    if not (hooks / SAID).exists() and not asked:
        options = [a for a in argv[1:] if a.startswith("-") or "=" in a]
        resume(hooks, Path(build.name), [real, *options, NO_LISTS])
    if "install" in argv and (hooks / KEEP).exists():
        keep(hooks, Path(build.name))
    os.chdir(build)
    sys.stdout.flush()
    os.execv(real, [real, *argv[1:], NO_LISTS])


def paths_below(top: Path, *, without: str = "") -> list[tuple[str, Path]]:
    """Every file below ``top`` with its name there, but for a directory directly in it."""
    found = []
    for directory, dirs, names in os.walk(top):
        here = Path(directory)
        dirs[:] = sorted(d for d in dirs if (here / d).relative_to(top).as_posix() != without)
        names += [d for d in dirs if (here / d).is_symlink()]
        found += [((here / name).relative_to(top).as_posix(), here / name) for name in names]
    return found


def described(path: Path) -> tuple[str, int]:
    """What `Files` has of a file."""
    status = path.lstat()
    if path.is_symlink():
        content = f"link {os.readlink(path)}"  # noqa: PTH115  # Python 3.9 has no other that is as plain
    else:
        content = hashlib.sha256(path.read_bytes()).hexdigest() + f" {status.st_mode & 0o111:o}"
    return content, status.st_mtime_ns


def files_below(top: Path, *, without: str = "") -> Files:
    """Every file below ``top``, but for a directory directly in it."""
    return {name: described(path) for name, path in paths_below(top, without=without)}


def meaning(makefile: str) -> str:
    """sha256 of a makefile without comments, empty lines and statements that nothing kept depends on.

    Of one that defines a variable over lines all of it counts, for what looks like a comment there is none.
    """
    if re.search(r"^ *(?:(?:override|export|private) +)*define\b", makefile, re.MULTILINE):
        return _sha256(makefile)
    logical = re.findall(r"(?:[^\\\n]|\\.|\\\n)*\n?", makefile)
    told = [x for x in logical if x.strip(" \n") and not (x[0] == "#" and "\\\n" not in x)]
    return _sha256("".join(x for x in told if not HARMLESS.fullmatch(x.replace("\\\n", " ").rstrip("\n"))))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def resume(hooks: Path, build: Path, make: list[str]) -> None:
    """Record what is here, and take kept objects if make can be trusted with the difference."""
    source = files_below(Path(), without=build.as_posix())
    made = {n: v for n, v in files_below(build).items() if n not in TALK}
    meanings = {
        n: meaning(Path(n).read_text(errors="surrogateescape")) for n in source if n.endswith("/Makefile")
    }
    here = {"directory": str(Path.cwd()), "epoch": os.environ.get("SOURCE_DATE_EPOCH", "")}
    (hooks / MANIFEST).write_text(
        json.dumps({"source": source, "configured": made, "meanings": meanings, "here": here})
    )
    said: dict[str, Any] = {"resumed": "", "why": "there is no kept tree", "changed": []}
    trees = sorted(p.parent for p in (hooks / "kept").glob(f"*/{MANIFEST}"))
    found = []
    for number, at in enumerate(trees):
        kept = json.loads((at / MANIFEST).read_text())
        changed, why = compare(source, made, kept, meanings)
        if kept["here"] != here:
            why = "its objects were made in another directory, or for another SOURCE_DATE_EPOCH"
        elif kept["at"] > time.time_ns():
            why = "the clock was set back since its objects were kept"
        found.append((bool(why), len(changed), number, why, changed, kept["source"], at))
    if found:
        wrong, _, _, why, changed, before, at = min(found, key=lambda f: f[:3])
        if not wrong:
            why = take(at / OBJECTS, build, before, set(changed), make)
        said = {"resumed": "" if why else at.name, "why": why, "changed": changed}
    (hooks / SAID).write_text(json.dumps(said))
    how = "objects of the kept tree" if said["resumed"] else said["why"]
    print(f"resume: {how}; changed: {said['changed']}", flush=True)


def compare(
    source: Files, made: Files, kept: dict[str, Any], meanings: dict[str, str]
) -> tuple[list[str], str]:
    """The source files that differ, and why nothing kept may be used ("" if it may)."""
    before = kept["source"]
    other = sorted(set(source) ^ set(before))
    changed = sorted(n for n in source if n in before and source[n][0] != before[n][0])
    if other:
        return changed, f"files were added or removed: {', '.join(other[:5])}"
    same = {n for n in changed if meanings.get(n, "") == kept["meanings"].get(n)}
    if recipes := [n for n in changed if RECIPES.search(n) and n not in same]:
        return changed, f"rules changed: {', '.join(recipes[:5])}"
    generating = set(kept["generating"])
    if generate := [n for n in changed if (GENERATORS.search(n) and not REMADE.search(n)) or n in generating]:
        return changed, f"headers are generated from {', '.join(generate[:5])}"
    known = re.compile(f"{KNOWN.pattern}|{REMADE.pattern}")
    if unknown := [n for n in changed if not known.search(n) and n not in same]:
        return changed, f"it is not known what is made from {', '.join(unknown[:5])}"
    then = kept["configured"]
    if differ := sorted(n for n in {*made, *then} if made.get(n, [""])[0] != then.get(n, [""])[0]):
        return changed, f"configure comes to another result: {', '.join(differ[:5])}"
    return changed, ""


def take(objects: Path, build: Path, kept: Files, changed: set[str], make: list[str]) -> str:
    """Unpack kept objects and make times right; why it was undone and nothing is kept ("" if it stays)."""
    configured = {p.relative_to(build) for p in build.rglob("*")}
    talk = {name: (build / name).read_bytes() for name in TALK if (build / name).is_file()}
    subprocess.run(["tar", "-xf", str(objects)], check=True)
    believe(kept, {n for n in changed if not RECIPES.search(n)})  # a makefile that changed means the same
    remade = {n for n in changed if REMADE.search(n)}
    products: set[str] = set()
    why = ""
    if remade:
        products, why = remake(build, make)
        believe({n: kept[n] for n in remade}, set())  # what is made from them is of this moment
    others = {Path(n).name for n in changed - remade if not RECIPES.search(n)}
    why = why or outdate(build, products | others)
    if why:
        for path in sorted(build.rglob("*"), reverse=True):
            if path.relative_to(build) not in configured:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, text in talk.items():
            (build / name).write_bytes(text)
    return why


def remake(build: Path, make: list[str]) -> tuple[set[str], str]:
    """Make anew what is generated from ``Versions`` and ``dl-tunables.list``.

    Returns the headers and maps that changed, and why nothing kept may be used ("" if it may).
    """

    def products() -> Files:
        return {p.name: described(p) for p in build.iterdir() if PRODUCTS.fullmatch(p.name) and p.is_file()}

    before = products()
    for name in before:
        (build / name).unlink()
    for name in GOALS:  # one at a time, for they are made on the same way
        goal = (build / name).absolute()
        if name not in before or goal.exists():
            continue
        if subprocess.run([*make, str(goal)], cwd=build, check=False).returncode:
            return set(), f"make cannot make {name} first"
    after = products()
    if other := sorted(set(before) ^ set(after)):
        return set(), f"other files are generated: {', '.join(other[:5])}"
    changed = {n for n in after if after[n][0] != before[n][0]}
    if rules := sorted(changed.intersection(INCLUDED)):
        return set(), f"rules changed: {', '.join(rules)}"
    telling = {n for n in changed if n.endswith((".h", ".map"))}
    believe({f"{build}/{n}": before[n] for n in after if n not in telling}, set())
    return telling, ""


def outdate(build: Path, changed: set[str]) -> str:
    """Remove objects made from files of these names, wherever they are, and libraries linked by these maps.

    Make would, too, if it read the lists (`NO_LISTS`), but only where it knows a file by one name alone.
    Returns why that does not do ("" if it does).
    """
    gone = []
    naming = re.compile(rf"(?<![\w.+-])(?:{'|'.join(map(re.escape, sorted(changed)))})(?![\w.+-])")
    for path in build.rglob("*") if changed else ():
        if path.suffix in LISTS:
            made, _, text = path.read_text(errors="replace").partition(":")
            if not any(name in text for name in changed) or not naming.search(text):
                continue
            files = [path.parent / re.split(r"[/)]", name)[-1] for name in made.replace("\\\n", " ").split()]
            if odd := [f for f in files if f.suffix not in OBJECT or not f.is_file()]:
                return f"what changed is in {odd[0].relative_to(build)}, which is no object"
            gone += files
        elif path.suffix == ".so" and f"{path.stem}.map" in changed:
            gone.append(path)
    for path in set(gone):
        path.unlink()
    print(f"resume: removed {len(gone)} files made from {', '.join(sorted(changed))}")
    return ""


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
    """Put the objects away, unless they began with kept ones or making them changed the source.

    (Then the source's times say nothing.) A full disk is no reason for the build to end.
    """
    if json.loads((hooks / SAID).read_text())["resumed"]:
        print("keep: nothing, for it began with kept objects", flush=True)
        return
    manifest = json.loads((hooks / MANIFEST).read_text())
    recorded = manifest["source"]
    now = dict(paths_below(Path(), without=build.as_posix()))
    odd = set(now) ^ set(recorded)
    for name in set(now) & set(recorded):
        content, then = recorded[name]
        if now[name].lstat().st_mtime_ns != then and described(now[name])[0] != content:
            odd.add(name)
    if odd:
        print(f"keep: nothing, for make changed the source itself: {', '.join(sorted(odd)[:5])}", flush=True)
        return
    if taking := [n for n in sorted(recorded) if n.endswith(SOURCES) and b".incbin" in Path(n).read_bytes()]:
        print(f"keep: nothing, for {taking[0]} takes in a file that no list names", flush=True)
        return
    told = {"generating": generating(build), "at": time.time_ns()}
    (hooks / MANIFEST).write_text(json.dumps({**manifest, **told}))
    part = hooks / f"{OBJECTS}.part"
    if subprocess.run(["tar", "--format=posix", "-cf", str(part), str(build)], check=False).returncode:
        part.unlink(missing_ok=True)
        print("keep: nothing, for they could not be written", flush=True)
        return
    part.rename(hooks / OBJECTS)
    print("keep: the objects", flush=True)


if __name__ == "__main__":
    main(sys.argv)
