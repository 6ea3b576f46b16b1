"""Every documented command is run, as a new user would from the page alone.

`RUN` has each command of this project with what it must come to. Commands are run as they are written, in the
world of tests/small_world.py: its profiles have the names of the real ones and take seconds. Where a word
stands for something, or names another machine, `Run.swap` shows what is there in its place.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.run import run
from pipeline.host.image import BuildImage
from tests import small_world
from tests.distgit_kit import APPLIED
from tests.integration import test_docs_verbs
from tests.scene_kit import (
    ARCH,
    DEB,
    DISTGIT,
    RPM,
    UP_TO,
    Run,
    Scene,
    a_deb,
    a_red_finding_and_its_waiver,
    a_redis,
    a_web_cache,
    an_rpm,
    applied,
    attested,
    baseline_of,
    both,
    distgit_at,
    distgit_behind_its_address,
    from_a_directory,
    in_the_cache,
    in_the_image,
    keys,
    no_baselines,
    one_bit_is_noticed,
    one_for_each_rpm,
    one_part,
    parts,
    row_of,
    rpms_at,
    said,
    signed_off,
    supplied,
    verified,
    waived,
    watched_again,
    with_distgit,
)
from tests.small_world import PATCH, World
from tests.test_docs import DOCUMENTS, told

pytestmark = pytest.mark.integration

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
    ".venv/bin/pip install -e .": ("noxfile.py", '"pip", "install", "-q", "-e"'),
    "nox -s lint typecheck tests": (".ci/run", "nox -s lint typecheck\n"),
    "nox -s lint": (".ci/run", "nox -s lint typecheck\n"),
    "nox -s lint typecheck": (".ci/run", "nox -s lint typecheck\n"),
    "nox -s tests": (".ci/run", "nox -s tests\n"),
}

#: run by tests of their own: (file, function)
ELSEWHERE = {
    "nox -s tests -- -m 'not integration'": ("tests/test_noxfile.py", "test_the_quick_half_of_the_tests"),
    "nox -s quick": ("tests/integration/test_precommit.py", "test_a_commit_is_checked"),
    "nox -s demo": ("tests/integration/test_demo.py", "test_the_host_s_own_glibc_is_judged"),
    "nox -s docs": ("tests/test_docs.py", "test_the_site_is_built"),
    "ci/image save": ("tests/integration/test_ci_image.py", "test_saved_and_loaded_it_is_the_same_image"),
    "ci/image load": ("tests/integration/test_ci_image.py", "test_saved_and_loaded_it_is_the_same_image"),
    "ci/drift-issue": ("tests/test_drift_issue.py", "test_days_of_drift_are_one_issue"),
    "nox -s bench -- --page docs/performance.md": (
        "tests/test_benchscan.py",
        "test_the_verb_needs_no_source_and_ends_1_if_the_ratio_is_missed",
    ),
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
NOT_RUN = {
    "systemctl daemon-reload", "systemctl status glibc-pipeline-drift",
    # tests of their own run these forms: test_distgit, test_ci, test_baseline_verb, test_derived
    "nox -s build verify -- --profile el9 --distgit 9.1=~/koji/glibc-2.34-40.el9.src.rpm",
    "nox -s build verify -- --profile el9 --distgit 9.1=~/src/glibc.git@glibc-2.34..rhel-9.1",
    "nox -s baseline -- --profile el9 --force", "nox -s baseline -- --upstream VERSION",
    "nox -s drift -- --accept", "ci/targets",
}  # fmt: skip

#: commands of the tutorials alone, which test_tutorials types from the page
TYPED = {
    c for d in DOCUMENTS if d.name.startswith("tutorial-") for c in told(d.read_text())
}.difference(RUN, SHOWN, GATE, ELSEWHERE, TIMER, NOT_RUN)  # fmt: skip

REGISTERS = [set(r) for r in (RUN, SHOWN, GATE, ELSEWHERE, TIMER, NOT_RUN, TYPED)]


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
