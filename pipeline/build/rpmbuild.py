"""One rpmbuild run: lay out SOURCES and SPECS, run it in a place, collect what came out."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.build import scratch
from pipeline.build.conditions import ORDINARY, SHIM, Conditions
from pipeline.build.workplace import Workplace
from pipeline.core import paths
from pipeline.core.arch import Arch
from pipeline.core.errors import CommandFailed, NoSpace, PrepFailed
from pipeline.core.store import file_sha256
from pipeline.profile import BuiltRelease, Profile
from pipeline.rpm import SOURCE_DATE_EPOCH

#: What makes ccache's hits sound here: the compiler is identified by content; the tree's own headers get
#: new times in each unpacking, so their times say nothing, their contents are compared all the same.
CCACHE = {
    "CCACHE_COMPILERCHECK": "content",
    "CCACHE_SLOPPINESS": "include_file_ctime,include_file_mtime,time_macros",
    "CCACHE_MAXSIZE": "2G",
    "CCACHE_COMPRESSLEVEL": "1",
    # the compiler's own dependency output (-MD, which glibc asks for) instead of a preprocessor run a file
    "CCACHE_DEPEND": "1",
    # a header is hashed once a build and not once a compilation; what is known of headers ends with the build
    "CCACHE_INODECACHE": "1",
}

#: Where an image's programs are.
IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: What rpmbuild fills in the directory of a build in a container, not needed after it.
_SCRATCH = ("BUILD", "BUILDROOT")

#: How rpmbuild announces a part of the spec: ``Executing(%install): …``.
EXECUTING = "Executing("

#: How `pipeline.build.hook` announces that a build begins with kept objects.
RESUMED = "resume: objects of the kept tree"

#: A compiler command of the build: what it writes is what we show.
_COMPILES = re.compile(r"-o \S*?/?([\w.+-]+/[\w.+-]+\.(?:o|os|so|oS))\b")


@dataclass(frozen=True)
class Ingredients:
    """All files rpmbuild reads: the archive, patches in order, and the spec with its two includes.

    A spec of another's has no includes: "" for both.
    """

    archive: Path
    patches: Sequence[Path]
    release_inc: str
    patches_inc: str
    spec: Path
    #: further files for SOURCES
    extra: Sequence[Path] = ()

    def lay_out(self, top: Path) -> None:
        """Fill ``top``/SOURCES and ``top``/SPECS.

        All of it gets one time and one mode: the source RPM records them, and every RPM records the source
        RPM. The archive is copied, for a link would give the user's own file that time.
        """
        for name in ("SOURCES", "SPECS", "BUILD", "BUILDROOT", "RPMS", "SRPMS", "tmp"):
            (top / name).mkdir(parents=True, exist_ok=True)
        sources, spec = top / "SOURCES", top / "SPECS" / "glibc.spec"
        for file in (self.archive, *self.patches, *self.extra):
            shutil.copyfile(file, sources / file.name)
        for name, text in (("release.inc", self.release_inc), ("patches.inc", self.patches_inc)):
            if text:
                (sources / name).write_text(text)
        shutil.copyfile(self.spec, spec)
        for file in (*sources.iterdir(), spec):
            file.chmod(0o644)
            os.utime(file, (int(SOURCE_DATE_EPOCH),) * 2)


def release_inc(profile: Profile, release: BuiltRelease, *, archive: str, topdir: str) -> str:
    """The macros that tell one release from another, for all architectures of the profile."""
    options = [
        f"%ifarch {name}\n"
        f"%global configure_options {' '.join(profile.configure_of(name))}\n"
        f"%global compiler_options {' '.join(profile.cflags_of(name))}\n"
        "%endif\n"
        for name in profile.arches
    ]
    return (
        f"%global profile_name {profile.name}\n"
        f"%global glibc_version {profile.glibc}\n"
        f"%global glibc_release {release.rpm_release}\n"
        f"%global glibc_archive {archive}\n"
        f"%global glibc_topdir {topdir}\n" + "".join(options)
    )


def patches_inc(names: Sequence[str]) -> str:
    """``PatchN:`` lines in the order of the series, fuzz forbidden."""
    lines = ["%global _default_patch_fuzz 0"]
    lines += [f"Patch{number}: {name}" for number, name in enumerate(names, 1)]
    return "\n".join(lines) + "\n"


#: How many jobs make runs, as the spec reads it: rpm writes what macros give into the source package, and
#: that must not depend on how many processors there are.
JOBS = "GLIBC_BUILD_JOBS"


def jobs() -> int:
    """Parallel compiler runs: one more than there are CPUs, for glibc's sub-makes often wait."""
    return len(os.sched_getaffinity(0)) + 1


def rpmbuild(
    workplace: Workplace,
    machine: Arch,
    profile_name: str,
    top: Path,
    *,
    log: Path,
    at: Callable[[str], None],
    heard: Callable[[str], object] = lambda _: None,
    own_tests: Sequence[str] | None = None,
    shared_cache: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    in_memory: bool = False,
    first_in_path: str = "",
    conditions: Conditions = ORDINARY,
) -> dict[str, int]:
    """Run ``rpmbuild -ba`` on what was laid out in ``top``; returns ccache's statistics of this run.

    ``at`` receives what is under way, ``heard`` every line of output.
    ``own_tests``: glibc's tests to run in the build (None: leave %check out); `read_own_tests` reads them.
    ``shared_cache``: ccache's settings of a remote storage (`pipeline.build.sharedcache`), for which the
    container gets a network.
    ``options``: further ones of rpmbuild. ``in_memory``: what is built lies in memory (in a container only;
    packages are written to disk all the same). ``first_in_path``: a directory whose programs come first.
    ``conditions``: what a build in a container sees of where, when and by whom it is made.

    Raises `CommandFailed` with the log's path, `NoSpace` with the remedy for where the tree lay.
    """
    cache = paths.ccache(profile_name, machine.name, shared=bool(shared_cache))
    cache.mkdir(parents=True, exist_ok=True)
    where = workplace.at(conditions.directory, top)
    launcher, headers = workplace.launcher(top), workplace.kernel_headers(top, machine)
    argv = [
        "rpmbuild", "-ba", "--nodeps", "--target", f"{machine.name}-linux",
        "--define", f"_topdir {where}",
        "--define", f"launcher {launcher}",
        "--define", f"kernel_headers {headers}", "--define", f"_dbpath {where}/rpmdb",
        "--define", f"_tmppath {where}/tmp",
        "--define", "use_source_date_epoch_as_buildtime 1",
        "--define", "clamp_mtime_to_source_date_epoch 1", "--define", "_buildhost pipeline",
        *_own_debuginfo((top / "SPECS" / "glibc.spec").read_text()),
        *([] if own_tests is None else ["--with", "check", "--define", f"own_tests {' '.join(own_tests)}"]),
        *options,
        f"{where}/SPECS/glibc.spec",
    ]  # fmt: skip
    stats = top / "ccache.stats"
    env = {**CCACHE, "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH, "CCACHE_STATSLOG": f"{where}/ccache.stats"}
    env[JOBS] = str(jobs() + conditions.more_jobs)
    env["CCACHE_DIR"] = workplace.at("/ccache", cache)
    env["CCACHE_BASEDIR"] = where
    env["CCACHE_TEMPDIR"] = f"{where}/tmp"
    env.update(shared_cache or {})
    if first_in_path:
        env["PATH"] = f"{first_in_path}:{IMAGE_PATH if workplace.image else os.environ['PATH']}"
    remedy = f"the first error is in {log}"
    shown = show(at)

    section = ""

    def line(text: str) -> None:
        nonlocal section
        if text.startswith(EXECUTING):
            section = text.removeprefix(EXECUTING).partition(")")[0].lstrip("(")
        heard(text)
        shown(text)

    env |= conditions.env
    tmpfs = None
    if workplace.image:
        shutil.copyfile(SHIM, top / SHIM.name)
        argv = conditions.command(where, argv)
        tmpfs = {f"{where}/{name}": scratch.SIZE for name in _SCRATCH} if in_memory else None
    try:
        workplace.run(
            argv, mounts={where: top, "/ccache": cache}, env=env, log=log, on_line=line, remedy=remedy,
            network=bool(shared_cache), in_memory=tmpfs, hostname=conditions.host,
        )  # fmt: skip
    except NoSpace as e:
        raise scratch.too_small(e) if tmpfs else e from None
    except CommandFailed as e:
        if section != "%prep":
            raise
        raise PrepFailed(e.message, hint=e.hint, returncode=e.returncode, log=e.log, tail=e.tail) from None
    return _ccache_counts(stats)


#: Against rpm 4.20 and newer, and against Red Hat's macros before it, which make %install a macro for this.
_NO_SECOND_DEBUGINFO = ("--define", "_enable_debug_packages 0", "--define", "install %%install")


def _own_debuginfo(spec: str) -> tuple[str, ...]:
    """Options that keep rpm from adding a debuginfo package to another's spec that asks for it itself.

    It would be the second of that name, which is an error. Debian's rpm before 4.20 adds none, and then
    neither option changes anything. (rpm forgets --undefine when it comes to a --target.)
    """
    asks = re.search(r"^%(debug_package|\{\??debug_package\})\s*$", spec, re.MULTILINE)
    return _NO_SECOND_DEBUGINFO if asks else ()


#: gcc's form of a warning. Where it stands in a file changes with every patch, so only file and words count.
_WARNING = re.compile(r"^(?P<file>[^\s:]+):\d+:(?:\d+:)? warning: (?P<words>.*)$")
_BUILD_DIRECTORY = re.compile(r"^.*/BUILD/[^/]+/")


def warning_in(line: str) -> str:
    """The compiler's warning in a line of a build's output, as ``FILE: WORDS``; "" if it has none."""
    found = _WARNING.match(line.rstrip("\r"))
    return f"{_BUILD_DIRECTORY.sub('', found['file'])}: {found['words']}" if found else ""


def show(at: Callable[[str], None]) -> Callable[[str], None]:
    """What turns lines of a build's output into words about what it is at."""

    def line(text: str) -> None:
        if found := _COMPILES.search(text):
            at(found[1])
        elif text.startswith(("Processing files:", EXECUTING, "Wrote:", RESUMED)):
            at(text)

    return line


def _ccache_counts(stats: Path) -> dict[str, int]:
    """Count each event of ccache's log (lines beginning with # name the object)."""
    counts: dict[str, int] = {}
    if stats.is_file():
        for line in stats.read_text(errors="replace").splitlines():
            if not line.startswith("#"):
                counts[line] = counts.get(line, 0) + 1
    return {k: v for k, v in sorted(counts.items()) if k.endswith(("hit", "miss"))}


def collect(top: Path, into: Path) -> tuple[list[Path], Path | None]:
    """Move the RPMs and the SRPM out of ``top`` into ``into``; raises `CommandFailed` if there are none."""
    into.mkdir(parents=True, exist_ok=True)
    rpms = []
    for rpm in sorted((top / "RPMS").glob("*/*.rpm")):
        shutil.move(rpm, into / rpm.name)
        rpms.append(into / rpm.name)
    srpm = None
    for rpm in (top / "SRPMS").glob("*.rpm"):
        srpm = into / rpm.name
        shutil.move(rpm, srpm)
    if not rpms:
        raise CommandFailed(f"rpmbuild ended well but wrote no RPM below {top}")
    return rpms, srpm


def read_own_tests(top: Path) -> dict[str, str]:
    """Test -> result word (PASS, FAIL, UNSUPPORTED, UNRESOLVED …) of a build with ``own_tests``."""
    found: dict[str, str] = {}
    summary = top / "results" / "tests.sum"
    for line in summary.read_text().splitlines() if summary.is_file() else []:
        word, colon, name = line.partition(": ")
        if colon:
            found[name.strip()] = word
    return found


def spec_sha256() -> str:
    """sha256 of the spec file."""
    return file_sha256(paths.SPECS / "glibc.spec")
