"""The tree tests/tiny_glibc as a profile with patches of its own, and the command line run on it."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import source
from pipeline.build.builder import Builder
from pipeline.build.options import Options
from pipeline.build.workplace import Workplace
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Target
from pipeline.host.image import BuildImage
from pipeline.profile import Profile, load_file

TREE = Path(__file__).parent / "tiny_glibc"

PROFILE = """
schema = 1
name = "tiny"
title = "A tree that only looks like glibc"
glibc = "2.36"
stand_in = "nothing of it works"
arches = ["{arch}"]
build_against = "1.1"
configure = ["--prefix=/usr", "--disable-werror"]
[source]
kind = "tarball"
urls = ["http://127.0.0.1:9/tiny-2.36.tar"]
file = "tiny-2.36.tar"
size = 1
sha256 = "{zeros}"
topdir = "tiny-2.36"
[image]
base = "mmdebstrap"
suite = "bookworm"
directory = "bookworm"
[rseq]
tunable = "glibc.pthread.rseq"
size_on = 32
node = "GLIBC_2.35"
symbols = ["@loader GLIBC_2.35 __rseq_size D 0x4"]
[[release]]
name = "1.0"
rpm_release = "1.t1_0"
exports_rseq = false
rseq_default = 0
[[release]]
name = "1.1"
rpm_release = "2.t1_1"
exports_rseq = true
rseq_default = 1
"""

#: 1.0 is the tree without its public rseq symbols
RSEQ_NODE = """\
GLIBC_2.35 {
  global:
    __rseq_flags;
    __rseq_offset;
    __rseq_size;
} GLIBC_2.3;
"""

HEADER = """\
Subject: {name}
Why: A test wants it.
Upstream: none
Author: tests
Signed-off-by: A Tester <tester@example.org>
Licence: LGPL-2.1-or-later
---
"""

DRIVER = """
import sys
from pathlib import Path
from pipeline.core import paths
paths.PATCHES = Path(sys.argv.pop(1))
from pipeline.cli import main
main()
"""


@dataclass(frozen=True)
class Tiny:
    """A profile file and a directory of patches; ``patches`` takes the place of `paths.PATCHES`."""

    file: Path
    patches: Path

    @classmethod
    def lay_out(cls, directory: Path) -> Tiny:
        """Write profile, patches and series: 1.0 withdraws the symbols, 1.1 is the tree as it is."""
        file = directory / "tiny.toml"
        file.write_text(PROFILE.format(arch=host_arch().name, zeros="0" * 64))
        patches = directory / "patches" / "tiny"
        patches.mkdir(parents=True)
        (patches / "1.1.series").write_text("# as it is\n")
        tiny = cls(file, patches.parent)
        tiny.add("1.0", "0001-withdraw.patch", "elf/ld.map", RSEQ_NODE, "")
        return tiny

    def add(self, release: str, name: str, target: str, before: str, after: str) -> Path:
        """A patch that replaces text in one file of the tree, at the end of a release's series."""
        old = (TREE / target).read_text()
        assert before in old
        diff = difflib.unified_diff(
            old.splitlines(keepends=True), old.replace(before, after).splitlines(keepends=True),
            f"a/{target}", f"b/{target}", n=1,
        )  # fmt: skip
        patch = self.patches / "tiny" / name
        patch.write_text(HEADER.format(name=name) + "".join(diff))
        with (self.patches / "tiny" / f"{release}.series").open("a") as series:
            series.write(f"{name}\n")
        return patch

    @property
    def profile(self) -> Profile:
        return load_file(self.file)

    def builder(
        self, options: Options | None = None, *, tree: Path = TREE, image: BuildImage | None = None
    ) -> Builder:
        """A builder on the host, or in ``image`` in the place of the profile's own."""
        profile = self.profile
        builder = Builder(profile, source.fetch(profile, f"dir:{tree}"), options or Options(place="host"))
        if image is not None:
            builder.workplaces.use(Workplace(image, "native"))
        return builder

    def target(self, release: str) -> Target:
        return Target(profile="tiny", release=release, arch=host_arch().name)

    def argv(self, verb: str, *arguments: str) -> list[str]:
        """The command line of a verb, run in a process of its own."""
        argv = [sys.executable, "-c", DRIVER, str(self.patches), verb, "--profile", str(self.file)]
        where = () if "--place" in arguments else ("--place", "host")
        return [*argv, "--source", f"dir:{TREE}", *where, *arguments]

    def call(
        self, verb: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end; its output is text."""
        return subprocess.run(
            self.argv(verb, *arguments), env={**os.environ, **(env or {})},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
