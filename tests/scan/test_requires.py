"""Each versioned Requires of an RPM and the files and symbols that cause it; also one that nothing causes."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from pipeline.cli.scan import command
from pipeline.core.run import run
from tests import rpmwriter
from tests.scan import kit

WEAK = """
#include <stddef.h>
extern const ptrdiff_t __rseq_offset __attribute__ ((weak));
int main (void) { return &__rseq_offset != NULL; }
"""
LOADER = f"{kit.ARCH.loader}({kit.NODE})(64bit)"


def test_files_and_symbols_behind_each_requires(tmp_path: Path, plain: Path, rseq: Path) -> None:
    loader = run(["gcc", f"-print-file-name={kit.ARCH.loader}"]).text.strip()
    weak = kit.program(tmp_path, "weak", WEAK, "-Wl,--no-as-needed", loader)
    item = rpmwriter.Item
    content = [
        item("/usr/bin/plain", rpmwriter.REG | 0o755, plain.read_bytes()),
        item("/usr/bin/rseq", rpmwriter.REG | 0o755, rseq.read_bytes()),
        item("/usr/bin/weak", rpmwriter.REG | 0o755, weak.read_bytes()),
    ]
    asks = [LOADER, f"libc.so.6({kit.BASE_NODE})(64bit)", "libc.so.6(GLIBC_9.9)(64bit)", "libc.so.6()(64bit)"]
    package = rpmwriter.write(tmp_path, "x", items=content, requires=asks)
    out = tmp_path / "out.json"
    arguments = ["--profile", "bookworm", "--requires", "--json", str(out), str(package), str(plain)]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.return_value == 1
    found = {r["requirement"]: r["causes"] for r in json.loads(out.read_text())["requires"]}
    assert list(found) == asks[:3]
    assert found[LOADER] == [
        {"file": "/usr/bin/rseq", "symbols": ["__rseq_offset"], "weak": False},
        {"file": "/usr/bin/weak", "symbols": ["__rseq_offset"], "weak": True},
    ]
    assert {"file": "/usr/bin/plain", "symbols": ["__cxa_finalize", "puts"], "weak": False} in found[asks[1]]
    assert found[asks[2]] == []
    assert f"  {LOADER} (since glibc 2.35)" in result.stdout
    assert "/usr/bin/weak: __rseq_offset (all weak)" in result.stdout
    assert "no file that is read asks for it" in result.stdout


def test_without_the_option_nothing_is_said_of_it(tmp_path: Path, rseq: Path) -> None:
    content = [rpmwriter.Item("/usr/bin/rseq", rpmwriter.REG | 0o755, rseq.read_bytes())]
    package = rpmwriter.write(tmp_path, "x", items=content, requires=[LOADER])
    result = CliRunner().invoke(command, ["--profile", "bookworm", str(package)], standalone_mode=False)
    assert "requires of" not in result.stdout
