"""Every command that a document tells is run, as a new user would from the page alone.

`RUN` has each command of this project with what it must come to. Commands are run as they are written, in the
world of tests/small_world.py: its profiles have the names of the real ones and take seconds. Where a word
stands for something, or names another machine, `Run.swap` shows what is there in its place.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline import evidence as ev
from pipeline import paths
from pipeline.build import read_manifest
from pipeline.evidence import Evidence
from pipeline.image import BuildImage
from pipeline.outcome import Outcome
from pipeline.run import run
from tests import redis_kit, small_world, webserver
from tests.distgit_kit import APPLIED
from tests.integration import test_docs_verbs
from tests.small_world import MACHINE, PATCH, Said, World
from tests.test_docs import DOCUMENTS, told

pytestmark = pytest.mark.integration

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
        return ev.read(self.world.work / out / ev.FILE)


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
        assert {"abi.baseline", "rpm.transaction", "rseq.registered", "getcpu.path", "launch.matrix"} <= asked


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
    (cause,) = set(re.findall(r"cause: +([0-9a-f]{16})", red.text))
    (scene.world.work / "waivers.toml").write_text(
        f'[[waiver]]\ncheck = "abi.baseline"\ntarget = "el9/9.1/{ARCH}"\ncase = ""\ncause = "{cause}"\n'
        'reason = "it is a test"\nwho = "name@example.org"\nexpires = 2099-03-31\n'
    )


def waived(scene: Scene) -> None:
    (finding,) = [f for f in scene.evidence().findings if f.outcome is not Outcome.PASS]
    assert (finding.check, finding.outcome) == ("abi.baseline", Outcome.WAIVED)


def watched_again(scene: Scene) -> None:
    assert "jobs in a container" in scene.said[-1].text
    assert "nothing changed since" not in scene.said[-1].text


def parts(scene: Scene) -> None:
    """Each runner's evidence, named as the workflow names it."""
    for release in ("9.0", "9.1"):
        scene.pipeline("verify", "--release", release, "--arch", ARCH, "--out", "out")
        shutil.move(f"out/{ev.FILE}", f"evidence-{release}-{ARCH}.json")
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


R_AND_A = {"R": "9.1", "A": ARCH}
THIS_ARCH = {"x86_64": ARCH}
THIS_DEB = {"libc6_2.36-9+deb12u14_amd64.deb": DEB}
#: the project's commands, as the documents write them
RUN: dict[str, Run] = {
    # README.md
    "nox -s setup -- --check": Run(said("tool", "rpmbuild", "podman")),
    "nox -s setup build verify": Run(both(signed_off, said("profile auto: el9"))),
    "nox -s build verify -- --profile el9": Run(signed_off),
    "nox -s build verify -- --profile el9 --image bookworm": Run(both(signed_off, in_the_image("bookworm"))),
    "nox -s build verify -- --profile el9 --source dir:/src/glibc-2.34": Run(
        from_a_directory, swap={"dir:/src/glibc-2.34": "dir:{TREE}"}
    ),
    "nox -s verify -- --profile el9 --release 9.1 --rpms ./koji/": Run(supplied, rpms_at("./koji/")),
    "nox -s build verify -- --profile el9 --distgit 9.1=./rpms/glibc@c9s": Run(
        with_distgit(3), distgit_at("./rpms/glibc")
    ),
    "nox -s report -- --attest --sign-key private.pem": Run(one_for_each_rpm, keys),
    "nox -s report -- --verify --key public.pem --rpms rpms": Run(one_bit_is_noticed, attested),
    "nox -s verify -- --fresh": Run(both(signed_off, watched_again), verified),
    # CONTRIBUTING.md
    "nox -s baseline -- --profile NAME": Run(
        baseline_of("el9/9.0", "el9/9.1"), no_baselines, swap={"NAME": "el9"}
    ),
    "nox -s series -- --each": Run(
        applied("el9/9.0 (none) the source as it is", f"el9/9.1 {PATCH} {PATCH} exactly",
                f"bookworm/12.1 {PATCH} {PATCH} exactly"),
    ),
    "nox -s verify -- --waivers FILE": Run(
        waived, a_red_finding_and_its_waiver, swap={"FILE": "waivers.toml"}
    ),
    # docs/ci.md
    "nox -s build -- --release R --arch A": Run(row_of("9.1"), swap=R_AND_A),
    "nox -s verify -- --release R --arch A --out out": Run(one_part, swap=R_AND_A),
    "nox -s report -- --merge --complete evidence-*.json": Run(signed_off, parts),
    "PIPELINE_CCACHE_REMOTE=redis://cache.example nox -s build -- --profile el9": Run(
        in_the_cache, a_redis, swap={"redis://cache.example": "redis://127.0.0.1:{PORT}"}
    ),
    "nox -s build -- --profile el9 --ccache-remote http://cache.example/ccache": Run(
        in_the_cache, a_web_cache, swap={"http://cache.example/ccache": "http://127.0.0.1:{PORT}/ccache"}
    ),
    # docs/distgit.md
    "nox -s build -- --profile el9 --release 9.1 --distgit ~/src/glibc": Run(
        row_of("9.1"), distgit_at("~/src/glibc")
    ),
    f"nox -s build verify -- --profile el9 --distgit 9.1={DISTGIT}@c9s": Run(
        with_distgit(3), distgit_behind_its_address
    ),
    f"nox -s build verify -- --profile el9 --release 9.1 --distgit ~/src/glibc --up-to {UP_TO}": Run(
        with_distgit(2), distgit_at("~/src/glibc"), swap={UP_TO: APPLIED[1]}
    ),
    "nox -s verify -- --profile el9 --rpms 9.1=~/koji/glibc-2.34-40.el9": Run(
        supplied, rpms_at("~/koji/glibc-2.34-40.el9")
    ),
    "nox -s series -- --each --profile el9": Run(applied(f"el9/9.1 {PATCH} {PATCH} exactly")),
    "nox -s series -- --each --build --profile el9 --release 9.1": Run(
        applied(f"el9/9.1/ARCH {PATCH} yes none")
    ),
    # docs/drift.md
    "nox -s baseline": Run(baseline_of("el9/9.0", "el9/9.1"), no_baselines),
    # abi-baselines/README.md
    "nox -s baseline -- --profile bookworm": Run(baseline_of("bookworm/12.0", "bookworm/12.1"), no_baselines),
    f"nox -s baseline -- --profile el9 --release 9.0 --arch x86_64 --from-rpm {RPM}.x86_64.rpm": Run(
        baseline_of("el9/9.0"), an_rpm, swap=THIS_ARCH
    ),
    "nox -s baseline -- --upstream 2.35 --arch x86_64 --from-deb libc6_2.36-9+deb12u14_amd64.deb": Run(
        baseline_of("upstream/2.35"), a_deb, swap={"x86_64": ARCH, **THIS_DEB}
    ),
}  # fmt: skip

#: commands of docs/scan.md and docs/drift.md, which test_docs_verbs runs and holds to what the pages show
SHOWN = {line for page in ("scan.md", "drift.md") for line in test_docs_verbs.commands(page)}

#: what cannot run inside a test runs on each change of this repository: (file, the line in it)
GATE = {
    "pip install nox": (".ci/run", '"$venv/bin/python" -m pip install -q nox'),
    "python3 -m venv .venv": (".ci/run", 'python3 -m venv "$venv"'),
    "python3 -m venv --without-pip .venv": (".ci/run", 'python3 -m venv --without-pip "$venv"'),
    "pip --python .venv install nox": (".ci/run", 'pip --python "$venv/bin/python" install -q nox'),
    ". .venv/bin/activate": (".ci/run", "PATH=$venv/bin:$PATH"),
    ".venv/bin/pip install -e .": ("noxfile.py", 'session.install("-q", "-e",'),
    "nox -s lint typecheck tests": (".ci/run", "nox -s lint typecheck\n"),
    "nox -s lint": (".ci/run", "nox -s lint typecheck\n"),
    "nox -s tests": (".ci/run", "nox -s tests\n"),
}

#: run by tests of their own: (file, function)
ELSEWHERE = {
    "nox -s tests -- -m 'not integration'": ("tests/test_noxfile.py", "test_the_quick_half_of_the_tests"),
    "ci/image save": ("tests/integration/test_ci_image.py", "test_saved_and_loaded_it_is_the_same_image"),
    "ci/image load": ("tests/integration/test_ci_image.py", "test_saved_and_loaded_it_is_the_same_image"),
    "ci/drift-issue": ("tests/test_drift_issue.py", "test_days_of_drift_are_one_issue"),
}

#: docs/ci.md's timer, below another root, where no systemd runs: nothing is started there
TIMER = {
    "git clone REPOSITORY /opt/glibc-backport-pipeline":
        "git clone -q {REPOSITORY} {ROOT}/opt/glibc-backport-pipeline",
    "cd /opt/glibc-backport-pipeline": "cd {ROOT}/opt/glibc-backport-pipeline",
    "cp ci/systemd/glibc-pipeline-drift.* /etc/systemd/system/":
        "cp ci/systemd/glibc-pipeline-drift.* {ROOT}/etc/systemd/system/",
    "systemctl enable --now glibc-pipeline-drift.timer":
        "systemctl --root={ROOT} enable glibc-pipeline-drift.timer",
}  # fmt: skip

#: what takes a machine that systemd runs; docs/ci.md says that it was not tried
NOT_RUN = {"systemctl daemon-reload", "systemctl status glibc-pipeline-drift"}


REGISTERS = [set(r) for r in (RUN, SHOWN, GATE, ELSEWHERE, TIMER, NOT_RUN)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, host_in_a_container: BuildImage) -> Iterator[World]:
    with small_world.lay_out(tmp_path_factory.mktemp("world"), host_in_a_container) as laid_out:
        yield laid_out


@pytest.fixture
def scene(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Scene]:
    world.enter(monkeypatch)
    found = Scene(world, monkeypatch, capfd, {"TREE": str(world.tree)})
    if not (world.baselines / "el9").exists():
        found.pipeline("baseline", "--profile", "el9")
        world.asked.clear()
    with found.after:
        yield found


def as_the_shell_has_it(word: str) -> list[str]:
    """A word with ~ and * replaced."""
    if word.startswith("~/"):
        word = str(Path(word).expanduser())
    return sorted(map(str, Path().glob(word))) if "*" in word else [word]


@pytest.mark.parametrize("command", RUN, ids=str)
def test_a_command_of_the_documents(scene: Scene, command: str) -> None:
    how = RUN[command]
    if how.before is not None:
        how.before(scene)
    for old, new in how.swap.items():
        assert old in command
        command = re.sub(rf"(?<![\w-]){re.escape(old)}(?!\w)", new.format(**scene.values), command)
    words = shlex.split(command)
    while "=" in words[0]:
        scene.patch.setenv(*words.pop(0).split("=", 1))
    assert words[:2] == ["nox", "-s"]
    dashes = words.index("--") if "--" in words else len(words)
    options = [a for word in words[dashes + 1 :] for a in as_the_shell_has_it(word)]
    for verb in words[2:dashes]:  # test_noxfile shows that each session hands over what follows --
        scene.said.append(scene.call(verb, *options))
        assert scene.said[-1].code == 0, scene.said[-1].text
    how.check(scene)


def not_in_both(documents: str) -> set[str]:
    """Commands that are told and run by nothing, and those listed here that are not told."""
    return set(told(documents)) ^ set().union(*REGISTERS)


def test_the_register_is_the_documents() -> None:
    documents = "\n".join(d.read_text() for d in DOCUMENTS)
    assert not_in_both(documents) == set()
    assert sum(map(len, REGISTERS)) == len(set(told(documents))), "a command has one way of being run"
    # and it is noticed if one is added or taken away
    added = "\n\n    $ nox -s build -- --profile el9 --check  # it's new\n"
    assert not_in_both(documents + added) == {"nox -s build -- --profile el9 --check"}
    gone = documents.replace("--distgit 9.1=./rpms/glibc@c9s", "--distgit 9.1=./rpms/glibc@c8s")
    assert len(not_in_both(gone)) == 2


@pytest.mark.parametrize("command", GATE)
def test_what_each_change_runs(command: str) -> None:
    file, line = GATE[command]
    assert line in (paths.REPO / file).read_text()


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_another_test_runs(command: str) -> None:
    file, function = ELSEWHERE[command]
    assert f"def {function}(" in (paths.REPO / file).read_text()


def test_the_timer(tmp_path: Path) -> None:
    repository, root = tmp_path / "repository", tmp_path / "root"
    shutil.copytree(paths.REPO / "ci", repository / "ci")
    who = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    for argv in (["init", "-q"], ["add", "--all"], [*who, "commit", "-q", "-m", "tests"]):
        run(["git", "-C", repository, *argv])
    (root / "etc/systemd/system").mkdir(parents=True)
    script = "\n".join(TIMER.values()).format(REPOSITORY=repository, ROOT=root)
    run(["sh", "-e", "-c", script])
    link = root / "etc/systemd/system/timers.target.wants/glibc-pipeline-drift.timer"
    assert link.is_symlink()
    assert "systemd-analyze" in (paths.REPO / "docs" / "ci.md").read_text()
    assert "not been started by a systemd" in (paths.REPO / "docs" / "ci.md").read_text()
