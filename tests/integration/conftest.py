"""Containers for tests, made here from nothing: no registry, no network, no minutes of bootstrapping."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.arch import host_arch
from pipeline.core.errors import PipelineError
from pipeline.core.records import ImageRecord
from pipeline.core.run import run
from pipeline.host import engine as engines
from pipeline.host.engine import Engine
from pipeline.host.image import BuildImage
from tests.integration import probe_bench

#: What a bare container runs in the place of every program: it prints what it sees as JSON. Run as
#: ``true`` it does nothing, as a build image's does.
WITNESS = Path(__file__).parent / "witness.c"


@pytest.fixture(scope="session")
def bare_image() -> Iterator[tuple[Engine, str]]:
    """An image that holds one static program (as /bin/true and /bin/witness), and the way to run it."""
    tag = f"localhost/glibc-pipeline-tests-{os.getpid()}:bare"
    importer = next(engines.importers())
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "root"
        for name in ("bin", "data", "etc", "proc", "dev", "sys", "tmp"):
            (root / name).mkdir(parents=True)
        run(["gcc", "-O1", "-Wall", "-Werror", "-static", "-o", root / "bin" / "witness", WITNESS])
        (root / "bin" / "true").symlink_to("witness")
        run(["tar", "-C", root, "-cf", f"{work}/root.tar", "."])
        importer.call("import", f"{work}/root.tar", tag)
    try:
        yield engines.probe(tag, importer.program), tag
    finally:
        importer.call("rmi", "--force", tag)


@pytest.fixture(scope="session")
def host_in_a_container() -> Iterator[BuildImage]:
    """An empty image with the host's /usr and /etc mounted read-only, so that the host's tools run in it."""
    tag = f"localhost/glibc-pipeline-tests-{os.getpid()}:host"
    importer = next(engines.importers())
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "root"
        for name in ("usr", "etc", "proc", "dev", "sys", "tmp", "var/tmp", "run", "build", "ccache"):
            (root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        headers = root / "opt" / "kernel-headers" / host_arch().name
        headers.mkdir(parents=True)
        own = Path("/usr/include") / host_arch().triplet / "asm"
        for where in (
            "/usr/include/linux",
            "/usr/include/asm-generic",
            own if own.is_dir() else "/usr/include/asm",
        ):
            (headers / Path(where).name).symlink_to(where)
        run(["tar", "-C", root, "-cf", f"{work}/root.tar", "."])
        importer.call("import", f"{work}/root.tar", tag)
    mounts = ("--volume", "/usr:/usr:ro", "--volume", "/etc:/etc:ro")
    said = []
    try:
        for way in engines.candidates():
            engine = Engine(way.program, way.options, (*way.limits, *mounts))
            try:
                engine.run(tag, ["true"], timeout=120)
            except PipelineError as e:
                said.append(e.message)
                continue
            found = importer.image_id(tag)
            assert found is not None
            tools = {"ccache": run(["ccache", "--version"]).text.partition("\n")[0]}
            yield BuildImage(engine, tag, ImageRecord(id=found, base="the host", pinned=False, tools=tools))
            break
        else:
            pytest.fail("no container runs here:\n" + "\n".join(said))
    finally:
        importer.call("rmi", "--force", tag)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probes, against this machine's own C library; several modules have others of this name."""
    return probe_bench.compile_all(host_arch(), tmp_path_factory.mktemp("probes"))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probe_bench.make_root(host_arch(), tmp_path_factory.mktemp("root"))
