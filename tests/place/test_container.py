"""The container place: what the engine is asked for; an engine that fails is trouble, never a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.errors import CommandFailed, ToolMissing
from pipeline.core.records import ImageRecord
from pipeline.host.engine import Engine
from pipeline.host.image import BuildImage
from pipeline.place import Job
from pipeline.place import container as container_module
from pipeline.place.container import ContainerPlace

JOB = Job("a", "12.0", ("/x",), timeout=1)
DONE = (
    '{"kind":"job","id":"a","status":0,"signal":null,"timed_out":false,"ns":1,'
    '"code":"","error":"","stdout":"","stderr":""}'
)

#: finds the directory mounted at /batch, and tells what else it was asked
ENGINE = """#!/bin/sh
[ "$1" = run ] || {{ echo "$@" >> {told}; exit 0; }}
printf '%s\\n' "$@" > {told}
for a; do case $a in *:/batch) batch=${{a%:/batch}} ;; esac; done
cp "$batch/jobs" {told}.jobs
{script}
"""


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told"


def place(tmp_path: Path, script: str) -> ContainerPlace:
    program = tmp_path / "podman"
    program.write_text(ENGINE.format(told=tmp_path / "told", script=script))
    program.chmod(0o755)
    record = ImageRecord(id="sha256:0", base="test", pinned=False)
    return ContainerPlace(BuildImage(Engine(str(program)), "image", record))


def test_roots_and_probes_are_mounted_where_the_runner_looks(tmp_path: Path, told: Path) -> None:
    roots = {"12.0": Path("/a"), "12.1": Path("/b")}
    place(tmp_path, "exit 0").run_batch(roots, {"/probes": Path("/p")}, [JOB])
    said = told.read_text().splitlines()
    volumes = {said[n + 1] for n, word in enumerate(said) if word == "--volume"}
    batch = next(v for v in volumes if v.endswith(":/batch"))
    assert volumes - {batch} == {
        "/a:/roots/12.0:ro", "/b:/roots/12.1:ro", "/p:/roots/12.0/probes:ro", "/p:/roots/12.1/probes:ro",
        "/p:/runner:ro",
    }  # fmt: skip
    assert said[said.index("--network") + 1] == "none"
    assert said[said.index("image") :] == [
        "image", "/runner/runner", "--jobs", "/batch/jobs", "--out", "/batch/results", "--roots", "/roots",
    ]  # fmt: skip
    assert not Path(batch.partition(":")[0]).exists()
    assert b"job a\n" in Path(f"{told}.jobs").read_bytes()


def test_an_engine_that_fails_keeps_what_was_written(tmp_path: Path) -> None:
    script = f"echo '{DONE}' > $batch/results; echo 'OCI runtime error' ; exit 126"
    batch = place(tmp_path, script).run_batch({}, {"/probes": Path("/p")}, [JOB])
    assert set(batch.results) == {"a"}
    assert batch.facts is None
    assert "status 126" in batch.trouble
    assert "cut short after 1 jobs" in batch.trouble
    assert batch.log == paths.logs() / "container-batch.log"
    assert "OCI runtime error" in batch.log.read_text()


def test_a_container_that_hangs_is_ended_and_is_trouble(
    tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_module, "longest", lambda _: 0.3)
    monkeypatch.setattr(container_module, "SLACK_SECONDS", 0.2)
    batch = place(tmp_path, "sleep 60").run_batch({}, {"/probes": Path("/p")}, [JOB])
    assert "did not end within" in batch.trouble
    assert batch.results == {}
    said = told.read_text().splitlines()
    assert said[-1] == f"rm --force {said[said.index('--name') + 1]}"


def test_results_that_say_all_is_well_are_no_trouble_only_if_they_are_whole(tmp_path: Path) -> None:
    end = '{"kind":"end","jobs":1}'
    whole = place(tmp_path, f"printf '%s\\n' '{DONE}' '{end}' > $batch/results")
    assert whole.run_batch({}, {"/probes": Path("/p")}, [JOB]).trouble == ""
    cut = place(tmp_path, f"printf '%s\\n' '{DONE}' > $batch/results")
    assert "cut short" in cut.run_batch({}, {"/probes": Path("/p")}, [JOB]).trouble


def test_without_an_engine_the_place_cannot_be_had() -> None:
    record = ImageRecord(id="sha256:0", base="test", pinned=False)
    nowhere = ContainerPlace(BuildImage(Engine("no-such-engine"), "image", record))
    with pytest.raises(ToolMissing) as failed:
        nowhere.run_batch({}, {"/probes": Path("/p")}, [JOB])
    assert not isinstance(failed.value, CommandFailed)
