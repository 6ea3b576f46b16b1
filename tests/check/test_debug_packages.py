"""rpm.debug-packages: what must not be in packages that no other check looks into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.check.debug_packages import DebugPackages
from pipeline.core.outcome import Finding, Outcome
from tests.check.rpm_bench import built, material
from tests.rpmwriter import DIR, REG, Item, write

FILES = (
    Item("/usr/lib/debug", DIR | 0o755),
    Item("/usr/lib/debug/lib64/libc.so.6.debug", data=b"debug"),
    Item("/usr/src/debug/glibc/a.c", data=b"int a;"),
)
NAMES = {"provides": ["debuginfo(build-id) = 00ff"], "requires": ["glibc-debugsource(x86-64) = 2.36-1"]}


def ask(directory: Path, **over: Any) -> Finding:
    """What is said of a release whose debug package is made with ``over``."""
    one = write(
        directory, "glibc", version="2.36", release="12.0", provides=["libc.so.6"], requires=["basesystem"]
    )
    made = {"version": "2.36", "release": "12.0", "items": FILES} | NAMES | over
    two = write(directory, "glibc-debuginfo", **made)
    (finding,) = DebugPackages().run(material({"12.0": built("12.0", [one, two])}, Path("/nowhere")))
    return finding


def test_debug_files_and_sources_are_all_right(tmp_path: Path) -> None:
    said = ask(tmp_path)
    assert (said.outcome, said.measures) == (Outcome.PASS, {"packages": 1, "files": 3}), said.seen


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (
            {"items": (*FILES, Item("/etc/ld.so.preload", data=b"/tmp/x.so"))},
            "/etc/ld.so.preload: not a debug file",
        ),
        ({"items": (*FILES, Item("/usr/lib/debugger", data=b"x"))}, "/usr/lib/debugger: not a debug file"),
        (
            {"items": (*FILES, Item("/usr/lib/debug/sh.debug", REG | 0o4755, b"x"))},
            "/usr/lib/debug/sh.debug: mode 104755",
        ),
        ({"tags": {1040: ["wheel"] * 3}}, "root:wheel"),
        (
            {"items": (*FILES, Item("/usr/lib/debug/lib64/libc.so.6-gdb.py", data=b"x"))},
            "libc.so.6-gdb.py: not a debug file, where debuggers look for scripts",
        ),
        ({"items": (*FILES, Item("/usr/lib/debug/a.debug", REG | 0o666, b"x"))}, "a.debug: mode 100666"),
        ({"items": (*FILES, Item("/usr/lib/debug/a.debug", REG | 0o600, b"x"))}, "a.debug: mode 100600"),
        ({"items": (*FILES, Item("/usr/lib/debug/a", DIR | 0o777))}, "/usr/lib/debug/a: mode 40777"),
        ({"tags": {1024: "true", 1086: "/bin/sh"}}, "runs post /bin/sh"),
        ({"tags": {1090: ["glibc-common"], 1114: (0,), 1115: [""]}}, "obsoletes glibc-common"),
        ({"tags": {1054: ["bash"], 1053: (0,), 1055: [""]}}, "conflicts bash"),
        ({"requires": ["telnet-server"]}, "requires telnet-server"),
        ({"provides": ["basesystem"]}, "provides basesystem, as installed packages do or require"),
        ({"provides": ["libc.so.6"]}, "provides libc.so.6, as installed packages do or require"),
    ],
)
def test_anything_else_is_red(tmp_path: Path, over: dict[str, Any], words: str) -> None:
    said = ask(tmp_path, **over)
    assert said.outcome is Outcome.FAIL
    assert words in said.seen


def test_a_release_without_them_has_nothing_wrong_in_them(tmp_path: Path) -> None:
    one = write(tmp_path, "glibc", version="2.36", release="12.0")
    (said,) = DebugPackages().run(material({"12.0": built("12.0", [one])}, Path("/nowhere")))
    assert (said.outcome, said.measures["packages"]) == (Outcome.PASS, 0)
