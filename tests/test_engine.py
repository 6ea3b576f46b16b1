"""The engine is found by trial: here with podman and docker that fail in chosen ways."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.errors import CommandFailed, ExitCode, NoSpace
from pipeline.core.run import run
from pipeline.host import engine as engines
from pipeline.host.engine import WAYS, Engine, NoEngine

#: Writes down how it was called, then does what the case says.
FAKE = """#!/bin/sh
echo "{name} $*" >> {calls}
case "$*" in
{cases}
esac
exit 0
"""


class Fakes:
    """Programs on a PATH of their own, and what they were called with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._calls = directory / "calls"

    def add(self, name: str, **cases: str) -> None:
        """``cases``: what to do for a verb (``run``: any call with that word), as shell text."""
        arms = "\n".join(f'*"{verb}"*) {act} ;;' for verb, act in cases.items())
        file = self.directory / name
        file.write_text(FAKE.format(name=name, calls=self._calls, cases=arms or "*) ;;"))
        file.chmod(0o755)

    def calls(self, verb: str = "") -> list[str]:
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line for line in lines if f" {verb} " in line or not verb]


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """A PATH with the fakes and the few programs a shell script needs, and no real engine."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sh", "sleep"):
        (directory / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(
        "pipeline.core.run.clean_environment", lambda extra=None: {"PATH": str(directory), **(extra or {})}
    )
    return Fakes(directory)


def test_without_any_engine_there_are_no_candidates(fakes: Fakes) -> None:  # noqa: ARG001
    assert list(engines.candidates()) == []


def test_the_plainest_way_that_works_is_taken(fakes: Fakes) -> None:
    fakes.add("podman")
    fakes.add("docker")
    found = engines.probe("image", "podman")
    assert (found.program, found.options, found.limits) == WAYS[0]
    assert len(fakes.calls()) == 1


def test_ways_are_tried_in_order_until_one_runs(fakes: Fakes) -> None:
    """What was seen on a machine with hybrid cgroups and without CAP_SYS_RESOURCE."""
    fakes.add(
        "podman",
        runc="exit 0",
        ulimit="echo 'crun: cgroups in hybrid mode not supported' >&2; exit 126",
        run="echo 'setrlimit RLIMIT_NPROC: Operation not permitted' >&2; exit 126",
    )
    found = engines.probe("image", "podman")
    assert found == Engine(*WAYS[2])
    assert str(found) == "podman --runtime runc"
    runs = fakes.calls("run")
    assert ["--ulimit" in line for line in runs] == [False, True, True]
    assert "--runtime runc" in runs[-1]


def test_the_way_that_ran_last_time_is_tried_first_and_really(fakes: Fakes) -> None:
    sad = "echo 'cgroups in hybrid mode' >&2; exit 126"
    fakes.add("podman", runc="exit 0", run=sad)
    assert engines.probe("image", "podman") == Engine(*WAYS[2])
    assert len(fakes.calls("run")) == 3
    assert engines.probe("image", "podman") == Engine(*WAYS[2])
    assert len(fakes.calls("run")) == 4
    fakes.add("podman", runc=sad)  # what ran once need not run today
    assert engines.probe("image", "podman") == Engine(*WAYS[0])
    assert ["runc" in line for line in fakes.calls("run")[4:]] == [True, False]


def test_what_ran_since_the_machine_started_is_not_tried_again_unless_something_changed(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.add("podman", runc="exit 0", run="echo 'cgroups in hybrid mode' >&2; exit 126")
    assert engines.found("image", "podman") == Engine(*WAYS[2])
    assert len(fakes.calls("run")) == 3
    assert engines.found("image", "podman") == Engine(*WAYS[2])
    assert len(fakes.calls("run")) == 3
    engines.found("another-image", "podman")
    assert len(fakes.calls("run")) == 4
    settings = tmp_path / "containers.conf"
    settings.write_text("[engine]\n")
    monkeypatch.setenv("CONTAINERS_CONF", str(settings))
    engines.found("another-image", "podman")
    assert len(fakes.calls("run")) == 5
    fakes.add("podman", runc="exit 0", run="echo 'cgroups in hybrid mode' >&2; exit 125")  # another podman
    engines.found("another-image", "podman")
    assert len(fakes.calls("run")) == 6
    engines.forget("podman")
    engines.found("another-image", "podman")
    assert len(fakes.calls("run")) == 9


def test_a_way_that_does_not_run_any_more_is_looked_for_anew(fakes: Fakes, tmp_path: Path) -> None:
    """A program's own end is no reason: of the engine's it is known that nothing ran."""
    broken = tmp_path / "broken"
    fakes.add("podman", broken="exit 3", run=f"if [ -e {broken} ]; then exit 125; fi")
    found = engines.found("image", "podman")
    with pytest.raises(CommandFailed):
        found.run("image", ["broken"])
    engines.found("image", "podman")
    assert len(fakes.calls("run")) == 2
    broken.touch()
    with pytest.raises(CommandFailed):
        found.run("image", ["true"])
    with pytest.raises(NoEngine):
        engines.found("image", "podman")


@pytest.mark.parametrize("record", ["", "Engine()", "[]", '{"way": 1}'])
def test_a_record_that_cannot_be_read_is_none(fakes: Fakes, record: str) -> None:
    fakes.add("podman")
    engines.probe("image", "podman")
    (paths.state() / "engine-podman").write_text(record)
    assert engines.found("image", "podman") == Engine(*WAYS[0])
    assert len(fakes.calls("run")) == 2


def test_if_nothing_runs_each_ways_own_words_are_told(fakes: Fakes) -> None:
    fakes.add("podman", runc="echo first line >&2; echo runc is sad >&2; exit 1",
              ulimit="echo no limits here >&2; exit 126", run="exit 125")  # fmt: skip
    with pytest.raises(NoEngine) as failed:
        engines.probe("image", "podman")
    lines = failed.value.message.splitlines()
    assert len(lines) == 5
    assert "status 125" in lines[1]
    assert lines[2] == "  podman with lower limits: no limits here"
    assert lines[3] == "  podman --runtime runc with lower limits: runc is sad"
    assert "nox -s build verify -- --place host" in failed.value.hint
    assert "nox -s setup" in failed.value.hint
    assert failed.value.exit_code is ExitCode.WORLD


def test_a_full_disk_is_not_taken_for_a_broken_engine(fakes: Fakes) -> None:
    """In Go's words, which begin with a small letter."""
    fakes.add("podman", run="echo 'write /var/lib/containers: no space left on device' >&2; exit 125")
    with pytest.raises(NoSpace):
        engines.probe("image", "podman")


def test_only_the_program_asked_for_is_tried(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.add("podman")
    fakes.add("docker")
    assert engines.probe("image", "docker").program == "docker"
    assert fakes.calls()[0].startswith("docker run")
    assert [e.program for e in engines.importers()] == ["podman", "docker"]
    monkeypatch.setenv("PIPELINE_ENGINE", "docker")
    assert [e.program for e in engines.candidates()] == ["docker"]


@pytest.mark.parametrize(("user", "handed_back"), [(0, False), (1000, True)])
def test_what_dockers_root_wrote_is_given_back(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, handed_back: bool
) -> None:
    fakes.add("docker")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    Engine("docker").run("image", ["make", "it"], mounts={"/a b": tmp_path, "/c": tmp_path})
    (call,) = fakes.calls("run") or fakes.calls()[:1]
    assert call.endswith("image make it") is not handed_back
    fakes.add("podman")
    Engine("podman").run("image", ["make", "it"], mounts={"/c": tmp_path})
    assert fakes.calls()[-1].endswith("image make it")


def test_giving_back_keeps_the_programs_status(tmp_path: Path) -> None:
    """The same script outside a container, on directories with blanks."""
    there, other = tmp_path / "a b", tmp_path / "c"
    there.mkdir()
    other.mkdir()
    script = ["sh", "-c", engines._GIVE_BACK, shlex.join([str(there), str(other)])]
    done = run([*script, "sh", "-c", 'echo x > "$1/f"; exit 7', "sh", there], success_codes=(7,))
    assert (done.returncode, (there / "f").read_text()) == (7, "x\n")
    if os.geteuid() == 0:
        os.chown(there, 12345, 12345)
        run([*script, "touch", there / "g"])
        assert (there / "g").stat().st_uid == 12345


def test_an_image_by_its_id(fakes: Fakes) -> None:
    fakes.add("podman", here="echo abc", full="echo sha256:def", gone="exit 1")
    engine = Engine("podman")
    assert engine.image_id("here") == "sha256:abc"
    assert engine.image_id("full") == "sha256:def"
    assert engine.image_id("gone") is None


def test_a_container_that_fails_is_removed_by_its_name(fakes: Fakes) -> None:
    fakes.add("podman", run="echo broken >&2; exit 3")
    with pytest.raises(CommandFailed, match="broken"):
        Engine("podman", ("--runtime", "runc")).run("image", ["make"])
    started, removed = fakes.calls()
    name = started.split("--name ")[1].split()[0]
    assert removed == f"podman --runtime runc rm --force {name}"


def test_containers_have_names_of_their_own(fakes: Fakes) -> None:
    fakes.add("podman")
    for _ in range(2):
        Engine("podman").run("image", ["true"])
    assert len({line.split("--name ")[1].split()[0] for line in fakes.calls()}) == 2


def test_the_command_line_of_a_container() -> None:
    line = Engine("podman", ("--runtime", "runc"), ("--ulimit", "nofile=1:1")).run_argv(
        "image", ["make", "-j2"], mounts={"/build": Path("/w")}, read_only={"/src": Path("/s")},
        in_memory={"/build/BUILD": 4096}, env={"A": "b c"}, workdir="/build",
    )  # fmt: skip
    assert line[:3] == ["podman", "--runtime", "runc"]
    assert line[-3:] == ["image", "make", "-j2"]
    text = " ".join(line)
    for part in ("run --rm --ulimit nofile=1:1", "--network none", "--volume /w:/build --volume /s:/src:ro",
                 "--tmpfs /build/BUILD:rw,exec,mode=755,size=4096",
                 "--env A=b c", "--workdir /build", "--http-proxy=false"):  # fmt: skip
        assert part in text
    assert "--http-proxy" not in " ".join(Engine("docker").run_argv("image", ["true"]))


def test_an_image_is_built_with_a_network_only_if_asked() -> None:
    engine = Engine("podman", (), ("--ulimit", "nofile=1:1"))
    line = engine.build_argv(Path("/c"), "tag", {"BASE": "base"}, network=False)
    assert " ".join(line) == (
        "podman build --ulimit nofile=1:1 --network none --build-arg BASE=base "
        "--tag tag --file /c/Containerfile /c"
    )
    assert "host" in engine.build_argv(Path("/c"), "tag", {}, network=True)


def test_the_fakes_do_what_they_say(fakes: Fakes) -> None:
    fakes.add("podman", run="exit 7")
    assert run(["podman", "run", "x"], success_codes=None).returncode == 7
