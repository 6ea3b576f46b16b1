"""A dist-git of the tree tests/tiny_glibc: a spec as RHEL writes it, patches of several kinds, a tarball."""

from __future__ import annotations

import difflib
import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.run import run
from tests.tiny_kit import RSEQ_NODE, TREE

FOREIGN = next(a for a in ARCHES.values() if a != host_arch())
TOP = "glibc-2.36"
TARBALL = f"{TOP}.tar.xz"

#: Patches in an order of their own, one for another architecture, one that no condition lets in.
SPEC = """\
%define glibcversion 2.36
%global debug_package %{nil}
Summary: The GNU libc libraries
Name: glibc
Version: %{glibcversion}
Release: 7%{?dist}
License: LGPLv2+
Source0: %{?glibc_release_url}glibc-%{version}.tar.xz
Source1: nsswitch.conf
Patch9: glibc-rhel-first.patch
Patch2: glibc-rhel-level0.patch
%if 0%{?rhel} > 40
Patch3: glibc-rhel-never.patch
%endif
%ifarch @FOREIGN@
Patch4: glibc-rhel-foreign.patch
%endif
Patch5: glibc-rhel-withdraw.patch
BuildRequires: gcc >= 4, make

%description
The C library.

%prep
@PREP@
# scripts must be executable
chmod +x scripts/ldd

%build
printf 'from its own spec\\n' > its-own

%install
mkdir -p %{buildroot}/etc
install -m 644 its-own %{SOURCE1} %{buildroot}/etc/

%check
echo its own check must not run; exit 1

%files
/etc/its-own
/etc/nsswitch.conf
"""


def _as_this_rpm_reads_it(prep: str) -> str:
    """From 4.20 on, rpm does not read %patchN any more."""
    version = tuple(map(int, run(["rpm", "--version"]).text.split()[-1].split(".")[:2]))
    return re.sub(r"%patch(\d+)", r"%patch -P \1", prep) if version >= (4, 20) else prep


AUTOSETUP = _as_this_rpm_reads_it(
    "%autosetup -n glibc-%{version} -p1 -N\n%autopatch -p1 -m 5\n%patch2 -p0 -F1 -b .level0"
)
BY_HAND = _as_this_rpm_reads_it("%setup -q\n%patch -P 5 -p1\n%patch2 -p0 -F1 -b .level0\n%patch9 -p1")

#: in the order in which BY_HAND applies them, on any host
APPLIED = ("glibc-rhel-withdraw.patch", "glibc-rhel-level0.patch", "glibc-rhel-first.patch")

#: name -> (file, before, after, strip level it is made for)
CHANGES = {
    "glibc-rhel-first.patch": ("csu/libc.c", "return s[0]", "return s[1]", 1),
    "glibc-rhel-level0.patch": ("scripts/mtrace", 'print "mtrace"', 'print "level 0"', 0),
    "glibc-rhel-withdraw.patch": ("elf/ld.map", RSEQ_NODE, "", 1),
    "glibc-rhel-never.patch": ("elf/ld.map", "GLIBC_2.35", "GLIBC_2.99", 1),
    "glibc-rhel-foreign.patch": ("elf/ld.map", "GLIBC_2.35", "GLIBC_2.98", 1),
}

HEAD = """\
commit 0123456789abcdef0123456789abcdef01234567
Author: Somebody <somebody@example.org>
Date:   Mon Jan 1 00:00:00 2024 +0000

    {title}

"""


def patch_text(
    target: str, before: str, after: str, level: int = 1, *, title: str = "", head: str = HEAD
) -> str:
    """A patch of one file of the tree, for that strip level, with a head as `git show` writes it."""
    old = (TREE / target).read_text()
    assert before in old
    names = (f"a/{target}", f"b/{target}") if level else (target, target)
    new = old.replace(before, after).splitlines(keepends=True)
    diff = difflib.unified_diff(old.splitlines(keepends=True), new, *names, n=1)
    return head.format(title=title or f"{target}: change it") + "".join(diff)


@dataclass(frozen=True)
class DistGitKit:
    """A git repository with a dist-git in it."""

    directory: Path

    @classmethod
    def lay_out(cls, directory: Path, prep: str = BY_HAND, tree: Path = TREE) -> DistGitKit:
        """The repository, with the tarball beside the spec and named in ``sources`` (not committed)."""
        directory.mkdir(parents=True)
        kit = cls(directory)
        kit.write("glibc.spec", SPEC.replace("@PREP@", prep).replace("@FOREIGN@", FOREIGN.name))
        kit.write("nsswitch.conf", "hosts: files\n")
        for name, (target, before, after, level) in CHANGES.items():
            kit.write(name, patch_text(target, before, after, level))
        order = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]
        form = ["--transform", f"s,^{tree.name},{TOP},", "-I", "xz -0"]
        run(["tar", "-C", tree.parent, *order, *form, "-cf", directory / TARBALL, tree.name])
        kit.name_tarball()
        kit.write(".gitignore", f"{TARBALL}\n")
        kit.git("init", "--quiet", "--initial-branch=c9s")
        kit.commit()
        return kit

    @property
    def tarball(self) -> Path:
        return self.directory / TARBALL

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def name_tarball(self) -> None:
        """Write ``sources`` for the tarball that is there."""
        sha512 = hashlib.sha512(self.tarball.read_bytes()).hexdigest()
        self.write("sources", f"SHA512 ({TARBALL}) = {sha512}\n")

    def git(self, *argv: str) -> str:
        who = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
        done = subprocess.run(
            ["git", "-C", self.directory, *who, *argv], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self) -> str:
        """Commit everything; the commit's id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=tests")
        return self.git("rev-parse", "HEAD")


def split(kit: DistGitKit, into: Path, algorithm: str = "") -> Path:
    """The kit's files in SPECS/ and SOURCES/, with .glibc.metadata if there is an algorithm."""
    for name in ("SPECS", "SOURCES"):
        (into / name).mkdir(parents=True)
    for file in kit.directory.iterdir():
        if file.is_file() and file.name not in ("sources", ".gitignore"):
            shutil.copy(file, into / ("SPECS" if file.suffix == ".spec" else "SOURCES"))
    if algorithm:
        digest = hashlib.new(algorithm, kit.tarball.read_bytes()).hexdigest()
        (into / ".glibc.metadata").write_text(f"{digest} SOURCES/{TARBALL}\n")
    return into


def source_rpm(kit: DistGitKit, work: Path) -> Path:
    """A real source RPM of the kit, made by rpmbuild."""
    spec = re.sub(r"^Patch3.*$", "", (kit.directory / "glibc.spec").read_text(), flags=re.MULTILINE)
    kit.write("glibc.spec", spec)
    run(
        ["rpmbuild", "-bs", "--nodeps", "--define", f"_topdir {work}", "--define",
         f"_sourcedir {kit.directory}", kit.directory / "glibc.spec"]
    )  # fmt: skip
    return next((work / "SRPMS").glob("*.src.rpm"))


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
