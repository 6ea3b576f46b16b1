"""Verb ``demo``: a sign-off of the host distribution's own packaged glibc, without a build."""

from __future__ import annotations

import platform
import re
import shlex
import sys
import time
from pathlib import Path

import click

from pipeline import profile as profiles
from pipeline import report
from pipeline.build import packaged, workshop
from pipeline.build.workplace import Workplace
from pipeline.check import registry
from pipeline.cli import ending
from pipeline.core import outputs, paths
from pipeline.core.arch import Arch, host_arch
from pipeline.core.errors import SourceUnreachable
from pipeline.core.progress import clock, say, step
from pipeline.host import hosttools
from pipeline.profile import Profile
from pipeline.verify.run_checks import verify
from pipeline.verify.sites import Sites

#: Suite -> the release whose packages are committed as a baseline (`profiles/packaged/debian-RELEASE.toml`).
RELEASES = {"bookworm": "12", "trixie": "13"}
#: On another Debian (testing, sid) this one's packages are judged, and the report says so.
OTHERWISE = "trixie"
#: Checks (a name, or all that begin so) that cannot be asked of such packages, and why.
NOT_ASKED = {
    "rpm.": "they read RPMs, and these are Debian packages",
    "build.": "nothing was built here",
    "glibc.tests": "nothing was built here",
    "abi.aliases": "no names of Debian's data are committed",
    "tunables.baseline": "no table of Debian's tunables is committed",
    "devel.baseline": "no baseline of Debian's headers is committed",
    "abi.delta": "there is one release",
    "devel.delta": "there is one release",
}
SIZED = {
    "rseq.announced": "from glibc 2.41 on the area grows with what the kernel announces",
    "rseq.contexts": "from glibc 2.41 on the area's place depends on the program's thread-local data",
}
#: Without the right to mount, programs are watched in a user namespace, and there is one user in it.
ONE_USER = dict.fromkeys(
    ("launch.user", "launch.credentials"),
    "this process may not mount, and where it may there is no second user",
)
CAP_SYS_ADMIN = 21
SECONDS = 180


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Where the report goes (default: ./out).")
def command(*, out: Path | None) -> int:
    """Judge this Debian's own packaged glibc, as published: nothing is built, and it takes minutes.

    The packages are fetched through the host's apt and compared with the committed baseline of that Debian;
    their programs are watched on this machine. Checks that need RPMs, a build or a second release are not
    asked, and the report names them. It is a demonstration: never release grade.
    """
    begun = time.monotonic()
    outdir = out or paths.out()
    outputs.check_writable(outdir)
    suite, instead = _suite()
    machine = host_arch()
    say(
        f"demo: Debian {RELEASES[suite]}'s own glibc for {machine.name}, judged as it is published{instead}; "
        f"nothing is built, at most {SECONDS // 60} minutes"
    )
    if lacking := hosttools.missing(("demo",)):
        hosttools.install(lacking)
    profile = _profile(suite, instead)
    report.withdraw(outdir)
    (release,) = profile.releases
    with step(f"fetch {', '.join(profile.packages)}"):
        made = packaged.packaged(profile, release, machine, suite, paths.state() / "downloads" / suite)
    built = {machine.name: {release: made}}

    def programs(of: Arch) -> Path:
        return workshop.compile_programs(profile, of, Workplace(None, "native"), built[of.name])

    checks = (*registry.STATIC, *registry.WATCHED)
    left_out = not_asked(profile)
    evidence = verify(
        profile,
        profiles.targets(profile, (), (machine.name,)),
        built,
        programs=programs,
        sites=Sites(profile, ("host",)).for_arch,
        static=registry.STATIC,
        watched=registry.WATCHED,
        command="nox -s demo" + (f" -- {shlex.join(sys.argv[2:])}" if sys.argv[2:] else ""),
        only=[c.name for c in checks if not any(c.name.startswith(name) for name in left_out)],
    )
    written = report.write_all(evidence, outdir)
    ending.tell(
        verdict=evidence.verdict.name,
        judged=made.manifest.nvr,
        not_asked=left_out,
        reports={name: str(getattr(written, name)) for name in ("html", "evidence", "junit", "markdown")},
    )
    for name, why in left_out.items():
        say(f"not asked: {name}{'*' if name.endswith('.') else ''} ({why})")
    say(f"judged: {made.manifest.nvr}, in {clock(time.monotonic() - begun)}")
    say(f"report: {written.html}")
    say("next: the main job builds patched releases and asks all of it: nox -s setup build verify")
    return evidence.verdict.exit_code


def _suite() -> tuple[str, str]:
    """The suite whose packages are judged, and words for one that is not the host's.

    Raises `SourceUnreachable` if the host is no Debian.
    """
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    if system.get("ID") != "debian":
        raise SourceUnreachable(
            f"the demo judges Debian's packages, and this is {system.get('PRETTY_NAME', 'no Debian')}",
            hint="run it on Debian (a container will do), or judge RPMs: "
            "nox -s verify -- --profile el9 --rpms 9.1=DIR",
        )
    own = system.get("VERSION_CODENAME", "")
    if own in RELEASES:
        return own, ""
    return OTHERWISE, f", in place of {own or 'this Debian'}, of which no baseline is committed"


def _profile(suite: str, instead: str) -> Profile:
    """What is expected of the suite's packages, on the running kernel."""
    profile = profiles.load_file(paths.PROFILES / "packaged" / f"debian-{RELEASES[suite]}.toml")
    left_out = ", ".join(f"{n}{'*' if n.endswith('.') else ''}" for n in not_asked(profile))
    rseq = profile.rseq
    if profile.area_grows:
        size = max(rseq.size_on, packaged.announced_size())
        rseq = rseq.model_copy(update={"size_on": size, "area_size": max(rseq.area_size, size)})
    return profile.model_copy(
        update={"stand_in": f"{profile.stand_in}{instead}; not asked: {left_out}", "rseq": rseq}
    )


def not_asked(profile: Profile) -> dict[str, str]:
    """The checks that are left out, and why."""
    return {**NOT_ASKED, **(SIZED if profile.area_grows else {}), **({} if _may_mount() else ONE_USER)}


def _may_mount(status: Path = Path("/proc/self/status")) -> bool:
    """Whether this process has CAP_SYS_ADMIN; a container's root often has not."""
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> CAP_SYS_ADMIN & 1)
