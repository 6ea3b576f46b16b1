"""A world in which what the documents tell can be done in seconds: small profiles named as the real ones.

``el9`` and ``bookworm`` are here a tree that "builds" the host's own C library into RPMs, with the real
rpmbuild in a real container. Both releases of a profile are that library, so that every question can be
answered.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.build import workshop
from pipeline.check import registry
from pipeline.core import paths
from pipeline.core.arch import Arch, host_arch
from pipeline.core.run import run
from pipeline.host import image
from pipeline.host.image import BuildImage
from pipeline.profile import Profile
from tests import webserver
from tests.distgit_kit import TARBALL, TOP, DistGitKit, patch_text
from tests.integration.probe_bench import NEWER, size_when_on
from tests.tiny_kit import HEADER, TREE

MACHINE = host_arch()

PROFILE = """\
schema = 1
name = "{name}"
title = "the host's own C library"
glibc = "2.36"
stand_in = "a test's"
arches = ["{machine}"]
build_against = "{new}"
configure = ["--prefix=/usr"]
[source]
kind = "tarball"
urls = ["{url}/{tarball}"]
file = "{tarball}"
size = {size}
sha256 = "{sha256}"
topdir = "{top}"
[image]
base = "registry"
reference = "{image}"
directory = "bookworm"
[rseq]
tunable = "glibc.pthread.rseq"
size_on = {size_on}
node = "GLIBC_2.35"
symbols = ["@loader GLIBC_2.35 __rseq_size D 0x4"]
[speed]  # whatever it takes here: nothing is judged by it
max_over_direct_read = 1e6
max_on_over_off = 1e6
[[release]]
name = "{old}"
rpm_release = "1"
exports_rseq = true
rseq_default = 1
[[release]]
name = "{new}"
rpm_release = "2"
exports_rseq = true
rseq_default = 1
[[step]]
from = "{old}"
to = "{new}"
added = []
"""
RELEASES = {"el9": ("9.0", "9.1"), "bookworm": ("12.0", "12.1")}
#: what programs are linked with, besides the libraries themselves
DEVELOP = (
    "libc.a", "libc_nonshared.a", "libpthread.a", "libdl.a", "librt.a", "libutil.a", "libanl.a",
    "libresolv.a", "crt1.o", "Scrt1.o", "rcrt1.o", "gcrt1.o", "grcrt1.o", "crti.o", "crtn.o",
)  # fmt: skip
PATCH = "0001-more.patch"


def _headers(machine: Arch) -> dict[Path, Path]:
    """The C library's headers that the probes include, and all beside those in its own directories (other
    dialects of C include others): place below /usr/include -> file.
    """
    found: dict[Path, Path] = {}
    prefix = re.compile(rf"^/usr/include/(?:{machine.triplet}/)?(?!linux/|asm/|asm-generic/|c\+\+/)(.*)$")
    for program in workshop.programs():
        compiler = workshop.compiler(machine, cxx=program.cxx)
        for word in run([compiler, "-M", "-O2", "-pthread", paths.PROBES / program.source]).text.split():
            if (header := prefix.match(word)) and "/c++/" not in word:
                found[Path(header[1])] = Path(word)
    for file in ("bits/types.h", "sys/types.h", "gnu/stubs.h"):
        place, directory = Path(file).parent, found[Path(file)].parent
        found |= {place / header.relative_to(directory): header for header in directory.rglob("*.h")}
    return found


def tree(directory: Path) -> Path:
    """The tree tests/tiny_glibc, which installs the host's own C library over what it made."""
    top = directory / TOP
    shutil.copytree(TREE, top)
    libraries, develop = top / "host" / "lib64", top / "host" / "usr" / "lib64"
    loader = top / "host" / MACHINE.interp.lstrip("/")
    for where in (libraries, develop, loader.parent):
        where.mkdir(parents=True, exist_ok=True)

    def copy(name: str, to: Path) -> None:
        shutil.copy2(Path(run(["gcc", f"-print-file-name={name}"]).text.strip()).resolve(), to)

    copy(MACHINE.loader, loader)
    for name in ("libc.so.6", "libm.so.6", "libresolv.so.2", "libthread_db.so.1"):
        copy(name, libraries / name)
    where = Path(run(["gcc", "-print-file-name=libc.so.6"]).text.strip()).parent.resolve()
    if MACHINE.triplet in where.parts:  # where Debian's loader looks, and not in /lib64
        own = top / "host" / "lib" / MACHINE.triplet
        own.parent.mkdir(exist_ok=True)
        own.symlink_to("../lib64")
    (develop / "libm.so").symlink_to("../../lib64/libm.so.6")
    (develop / "libresolv.so").symlink_to("../../lib64/libresolv.so.2")
    # where there is a libmvec, libm.a is a script that names both archives by where they are installed
    copy(next((a.name for a in where.glob("libm-*.a")), "libm.a"), develop / "libm.a")
    for name in DEVELOP:
        copy(name, develop / name)
    for place, header in _headers(MACHINE).items():
        to = top / "host" / "usr" / "include" / place
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(header, to)
    rules = top / "Makerules"
    text = rules.read_text()
    last = ".PHONY: all install"
    assert text.count(last) == 1
    rules.write_text(text.replace(last, f"\tcp -a $(srcdir)/host/. $(root)/\n{last}"))
    return top


#: The host's libraries are stripped, and their debug files are elsewhere; the tree's programs only look like
#: programs: these are not asked.
STRIPPED = {"rpm.debuginfo", "launch.programs", "launch.loading"}
#: Of a host's glibc 2.41 or later these checks, which know the releases that are made here, say that it is
#: none of them: the area has a place and a size of its own, and the library names its version. There they are
#: not asked.
OF_OLDER = {
    "devel.link", "launch.user", "rseq.announced", "rseq.contexts", "rseq.registered", "rseq.secure",
    "rseq.threads",
}  # fmt: skip
NOT_ASKED = STRIPPED | (OF_OLDER if NEWER else set())


@dataclass
class World:
    """Where everything is; ``asked``: the bases that were named for build images."""

    directory: Path
    image: BuildImage
    tree: Path
    distgit: DistGitKit
    asked: list[str] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """The directory that commands are run in."""
        return self.directory / "work"

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def baselines(self) -> Path:
        return self.directory / "abi-baselines"

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Let the pipeline see this world and nothing of the real one."""

        def ensure(profile: Profile, *, reference: str = "", machine: Arch | None = None) -> BuildImage:  # noqa: ARG001
            self.asked.append(reference or profile.image.reference)
            return self.image

        for name in ("work", "home"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
            (self.directory / name).mkdir()
        patch.setattr(image, "ensure", ensure)
        for kind in ("STATIC", "WATCHED"):
            kept = tuple(c for c in getattr(registry, kind) if c.name not in NOT_ASKED)
            patch.setattr(registry, kind, kept)
        patch.setattr(paths, "PROFILES", self.directory / "profiles")
        patch.setattr(paths, "PATCHES", self.directory / "patches")
        patch.setattr(paths, "BASELINES", self.baselines)
        patch.setenv("PIPELINE_STATE", str(self.directory / "state"))
        patch.setenv("HOME", str(self.home))
        patch.chdir(self.work)
        self.asked.clear()


@contextmanager
def lay_out(directory: Path, host_image: BuildImage) -> Iterator[World]:
    """The world in a directory, its sources on a web server for the time of the block."""
    for name in ("profiles", "abi-baselines"):
        (directory / name).mkdir()
    source = tree(directory / "src")
    world = World(directory, host_image, source, DistGitKit.lay_out(directory / "distgit", tree=source))
    tarball = world.distgit.tarball.read_bytes()
    with webserver.serve() as web:
        web.pages[f"/{TARBALL}"] = webserver.Page(tarball)
        for name, (old, new) in RELEASES.items():
            text = PROFILE.format(
                name=name, machine=MACHINE.name, old=old, new=new, url=web.url, tarball=TARBALL, top=TOP,
                size=len(tarball), sha256=hashlib.sha256(tarball).hexdigest(), image=host_image.name,
                size_on=size_when_on(),
            )  # fmt: skip
            (directory / "profiles" / f"{name}.toml").write_text(text)
            patches = directory / "patches" / name
            patches.mkdir(parents=True)
            (patches / f"{old}.series").write_text("# as it is\n")
            (patches / f"{new}.series").write_text(f"{PATCH}\n")
            change = patch_text("csu/libc.c", "return s[0]", "return s[1]", head="")
            (patches / PATCH).write_text(HEADER.format(name=PATCH) + change)
        yield world


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said (``out`` and ``err``, one after the other)."""

    code: int
    text: str


def call(argv: Sequence[str], patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Said:
    """``python -m pipeline ARGV`` in this process, from the command line to the exit code."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    patch.setattr("sys.argv", ["pipeline", *argv])
    capfd.readouterr()
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    said = capfd.readouterr()
    assert isinstance(ended.value.code, int)
    return Said(ended.value.code, said.out + said.err)
