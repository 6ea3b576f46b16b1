"""A documented command under way in tests/small_world.py's world: what is there before, what must come."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.build.stored import read_manifest
from pipeline.core import paths
from pipeline.core.outcome import Outcome
from pipeline.core.run import run
from pipeline.signoff.document import FILE, read
from pipeline.signoff.records import Evidence
from pipeline.signoff.waiver import cause_of
from tests import redis_kit, small_world, webserver
from tests.distgit_kit import APPLIED
from tests.small_world import MACHINE, Said, World

ARCH = MACHINE.name
DEB = f"libc6_2.36-9+deb12u14_{MACHINE.deb}.deb"
UP_TO = "glibc-rh2085529-3.patch"
RPM = "glibc-2.34-28.el9_0"
DISTGIT = "https://gitlab.com/redhat/centos-stream/rpms/glibc.git"


def rpms_of(said: Said) -> dict[str, Path]:
    """Target -> the directory of its RPMs, as the table of `build` has them."""
    return {m[1]: Path(m[2]) for m in re.finditer(r"(?m)^(el9/\S+) .* (/\S+/RPMS)$", said.text)}


@dataclass
class Scene:
    """One command under way: the world, what a test has for it, and what it did so far."""

    world: World
    patch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]
    values: dict[str, str]
    after: ExitStack = field(default_factory=ExitStack)
    said: list[Said] = field(default_factory=list)
    held: Callable[[], int] = int

    def call(self, *argv: str) -> Said:
        return small_world.call(argv, self.patch, self.capfd)

    def pipeline(self, *argv: str) -> Said:
        """What must have been done before."""
        done = self.call(*argv)
        assert done.code == 0, done.text
        return done

    def rpms(self, release: str) -> Path:
        """The directory of a release's RPMs, built here."""
        (directory,) = rpms_of(self.pipeline("build", "--profile", "el9", "--release", release)).values()
        return directory

    def evidence(self, out: str = "out") -> Evidence:
        return read(self.world.work / out / FILE)


Check = Callable[[Scene], None]


@dataclass(frozen=True)
class Run:
    """How a command is run, to end with 0: what must come of it, what is there before, what is replaced."""

    check: Check
    before: Check | None = None
    swap: Mapping[str, str] = field(default_factory=dict)


# --- what there must be ----------------------------------------------------------------------------------


def said(*texts: str) -> Check:
    def check(scene: Scene) -> None:
        for text in texts:
            assert text.replace("ARCH", ARCH) in scene.said[-1].text

    return check


def judged(evidence: Evidence, releases: set[str]) -> None:
    """These releases were asked about everything, and nothing was red."""
    assert {(f.check, str(f.target), f.outcome) for f in evidence.findings if not f.outcome.green} == set()
    assert {f.target.judged for f in evidence.findings} == releases
    for release in releases:
        asked = {f.check for f in evidence.findings if f.target.judged == release}
        assert {"abi.baseline", "rpm.transaction", "rseq.tunable", "getcpu.path", "launch.matrix"} <= asked
        assert asked >= small_world.OF_OLDER - small_world.NOT_ASKED


def signed_off(scene: Scene) -> None:
    judged(scene.evidence(), {"9.0", "9.1"})
    assert "PASS  the host's own C library" in scene.said[-1].text
    for name in ("report.html", "report.md", "junit.xml"):
        assert (scene.world.work / "out" / name).stat().st_size > 1000


def from_a_directory(scene: Scene) -> None:
    signed_off(scene)
    assert {b.source.kind for b in scene.evidence().builds if b.source} == {"dir"}


def supplied(scene: Scene) -> None:
    signed_off(scene)
    assert {b.target.release: b.mode for b in scene.evidence().builds} == {"9.0": "native", "9.1": "supplied"}


def with_distgit(count: int) -> Check:
    def check(scene: Scene) -> None:
        signed_off(scene)
        (theirs,) = [b for b in scene.evidence().builds if b.target.release == "9.1"]
        assert theirs.source is not None
        assert theirs.source.kind == "distgit"
        assert [p.file for p in theirs.patches] == list(APPLIED[:count])

    return check


def both(*checks: Check) -> Check:
    def check(scene: Scene) -> None:
        for one in checks:
            one(scene)

    return check


def in_the_image(name: str) -> Check:
    def check(scene: Scene) -> None:
        assert set(scene.world.asked) == {name}

    return check


def baseline_of(*names: str) -> Check:
    """These baselines and no others were written."""

    def check(_: Scene) -> None:
        found = [p.parent.relative_to(paths.BASELINES) for p in paths.BASELINES.rglob("provenance.toml")]
        assert {p.as_posix() for p in found} == {f"{name}/{ARCH}" for name in names}
        for name in names:
            listing = (paths.BASELINES / name / ARCH / f"{MACHINE.loader}.abilist").read_text()
            assert "GLIBC_2.35 __rseq_size D 0x4\n" in listing

    return check


def applied(*rows: str) -> Check:
    def check(scene: Scene) -> None:
        lines = [" ".join(line.split()) for line in scene.said[-1].text.splitlines()]
        assert [row for row in rows if row.replace("ARCH", ARCH) not in lines] == [], lines

    return check


# --- what there must be before ---------------------------------------------------------------------------


def no_baselines(scene: Scene) -> None:
    """Baselines are made here, and not into the world's."""
    empty = scene.world.directory / "other-baselines"
    shutil.rmtree(empty, ignore_errors=True)
    scene.patch.setattr(paths, "BASELINES", empty)


def rpms_at(where: str) -> Check:
    """A directory (below the home for ~) with RPMs of 9.1 that somebody else built."""

    def before(scene: Scene) -> None:
        shutil.copytree(scene.rpms("9.1"), Path(where).expanduser())

    return before


def distgit_at(where: str) -> Check:
    def before(scene: Scene) -> None:
        shutil.copytree(scene.world.distgit.directory, Path(where).expanduser(), symlinks=True)

    return before


def distgit_behind_its_address(scene: Scene) -> None:
    """git itself is told where the repository of that address is."""
    config = f'[url "file://{scene.world.distgit.directory}"]\n\tinsteadOf = {DISTGIT}\n'
    (scene.world.home / ".gitconfig").write_text(config)


def an_rpm(scene: Scene) -> None:
    no_baselines(scene)
    (rpm,) = scene.rpms("9.0").glob(f"glibc-2.36-*.{ARCH}.rpm")
    shutil.copy(rpm, f"{RPM}.{ARCH}.rpm")


def a_deb(scene: Scene) -> None:
    no_baselines(scene)
    root = scene.world.directory / "deb"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(scene.world.tree / "host", root, symlinks=True)
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_text(
        f"Package: libc6\nVersion: 2.36-9\nArchitecture: {MACHINE.deb}\n"
        "Maintainer: x <x@example.org>\nDescription: x\n"
    )
    run(["dpkg-deb", "-Znone", "-b", root, DEB])


def a_red_finding_and_its_waiver(scene: Scene) -> None:
    """9.1 has no baseline, so the answer is missing; the waiver names the cause the report shows."""
    elsewhere = scene.world.directory / "other-baselines"
    shutil.rmtree(elsewhere, ignore_errors=True)
    shutil.copytree(scene.world.baselines, elsewhere)
    shutil.rmtree(elsewhere / "el9" / "9.1")
    scene.patch.setattr(paths, "BASELINES", elsewhere)
    red = scene.call("verify")
    assert red.code == 3, red.text
    found = [f for f in scene.evidence().findings if f.outcome is not Outcome.PASS]
    assert "abi.baseline" in {f.check for f in found}
    (scene.world.work / "waivers.toml").write_text(
        "".join(
            f'[[waiver]]\ncheck = "{f.check}"\ntarget = "{f.target}"\ncase = "{f.case}"\n'
            f'cause = "{cause_of(f)[:16]}"\nreason = "it is a test"\nwho = "name@example.org"\n'
            "expires = 2099-03-31\n"
            for f in found
        )
    )


def waived(scene: Scene) -> None:
    found = {f.check: f.outcome for f in scene.evidence().findings if f.outcome is not Outcome.PASS}
    assert found["abi.baseline"] is Outcome.WAIVED
    assert set(found.values()) == {Outcome.WAIVED}


def watched_again(scene: Scene) -> None:
    assert "jobs in a container" in scene.said[-1].text
    assert "nothing changed since" not in scene.said[-1].text


def parts(scene: Scene) -> None:
    """Each runner's evidence, named as the workflow names it."""
    for release in ("9.0", "9.1"):
        scene.pipeline("verify", "--release", release, "--arch", ARCH, "--out", "out")
        shutil.move(f"out/{FILE}", f"evidence-{release}-{ARCH}.json")
    shutil.rmtree("out")


def verified(scene: Scene) -> None:
    scene.pipeline("verify")


def keys(scene: Scene) -> None:
    verified(scene)
    run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "private.pem"])
    run(["openssl", "pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"])


def attested(scene: Scene) -> None:
    keys(scene)
    scene.pipeline("report", "--attest", "--sign-key", "private.pem")
    for release in ("9.0", "9.1"):
        shutil.copytree(scene.rpms(release), Path("rpms") / release)


def one_for_each_rpm(scene: Scene) -> None:
    rpms = [rpm for b in scene.evidence().builds for rpm in (*b.rpms, b.srpm)]
    assert len(list((scene.world.work / "out" / "attestations").iterdir())) == len(rpms) == 14


def one_bit_is_noticed(scene: Scene) -> None:
    """The other half of the promise: the same command on an RPM that was altered ends with 1."""
    assert "evidence and statements are as signed" in scene.said[-1].text
    rpm = next((scene.world.work / "rpms").rglob("glibc-common*.rpm"))
    data = bytearray(rpm.read_bytes())
    data[-9] ^= 1
    rpm.write_bytes(data)
    assert scene.call("report", "--verify", "--key", "public.pem", "--rpms", "rpms").code == 1


def row_of(release: str) -> Check:
    """One target was built, and where its row says that the RPMs are they are."""

    def check(scene: Scene) -> None:
        ((target, rpms),) = rpms_of(scene.said[0]).items()
        assert target == f"el9/{release}/{ARCH}"
        assert len(list(rpms.glob(f"*.{ARCH}.rpm"))) == 6

    return check


def one_part(scene: Scene) -> None:
    """What is asked of one release, and no release grade for it."""
    judged(scene.evidence(), {"9.1"})
    assert any(reason.startswith("not judged for") for reason in scene.evidence().grade_reasons)


def in_the_cache(scene: Scene) -> None:
    """Both releases were built anew, and the cache holds what was compiled."""
    manifests = [read_manifest(rpms.parent) for rpms in rpms_of(scene.said[0]).values()]
    assert [m.hermetic for m in manifests] == [False, False]
    assert scene.held() > 0


def nothing_compiled(scene: Scene) -> None:
    """ccache puts nothing into a shared cache that this machine's has, and nothing stored is built anew."""
    state = scene.world.directory / "state"
    shutil.rmtree(state / "ccache", ignore_errors=True)
    for build in (state / "build").glob("[!.]*"):
        if not read_manifest(build).hermetic:
            shutil.rmtree(build)


def a_redis(scene: Scene) -> None:
    nothing_compiled(scene)
    port = scene.after.enter_context(redis_kit.running_redis(scene.world.home))
    scene.values["PORT"] = str(port)
    scene.held = lambda: redis_kit.objects(port)


def a_web_cache(scene: Scene) -> None:
    nothing_compiled(scene)
    web = scene.after.enter_context(webserver.serve())
    scene.values["PORT"] = web.url.rpartition(":")[2]
    scene.held = lambda: sum(path.startswith("/ccache/") for path in web.pages)
