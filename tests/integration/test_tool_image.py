"""containers/tool/Containerfile: built from a bare Debian through this machine's mirrors, it scans."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.core import paths
from pipeline.core.run import run
from tests.integration.bare_debian import Bare, bare_debian
from tests.scan import kit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

TAG = f"localhost/glibc-pipeline-tests-{os.getpid()}:tool"


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    """The image, made as its first lines say, on a bare Debian 12, from what is committed."""
    top = tmp_path_factory.mktemp("tool") / "clone"
    run(["git", "clone", "-q", "--no-hardlinks", paths.REPO, top])
    with bare_debian("bookworm", f"{TAG}-debian") as bare:
        argv = bare.engine.build_argv(top / "containers" / "tool", TAG, {"BASE": bare.name}, network=True)
        made = [*argv[:-1], *bare.options, str(top)]  # the context is the repository
        run(made, timeout=1700)
        try:
            yield Bare(bare.engine, TAG, ())
        finally:
            bare.engine.call("rmi", "--force", TAG)


def test_it_scans_what_is_mounted(tool: Bare, tmp_path: Path) -> None:
    kit.program(tmp_path / "dist", "counter", kit.USES_RSEQ)
    kit.program(tmp_path / "dist", "hello", kit.PLAIN)
    argv = ["scan", "--json", "/dist/scan.json", "/dist/counter", "/dist/hello"]
    done = run(tool.engine.run_argv(tool.name, argv, mounts={"/dist": tmp_path / "dist"}), success_codes=None)
    assert done.returncode == 1, done.text + done.stderr.decode()
    assert re.search(r"counter +\S+ +NO +yes +yes", done.text)
    assert re.search(r"hello +\S+ +yes +yes +yes", done.text)
    assert json.loads((tmp_path / "dist" / "scan.json").read_text())["schema"]


def test_it_has_all_that_setup_installs_and_knows_what_it_is(tool: Bare) -> None:
    """In it the committed state runs, installed as a wheel, without a network."""
    assert f"version {__version__}" in run(tool.engine.run_argv(tool.name, ["--version"])).text
    run(tool.engine.run_argv(tool.name, ["setup", "--check", "--no-image"]))  # ends with 4 if one is missing
    asked = [
        "-c",
        "from pipeline.core.identity import identity; print(identity().commit, identity().changed)",
    ]
    python = ["--entrypoint", "/opt/venv/bin/python"]
    commit = run(["git", "-C", paths.REPO, "rev-parse", "HEAD"]).text.strip()
    assert run(tool.engine.run_argv(tool.name, asked, extra=python)).text == f"{commit} ()\n"


def test_the_workflow_s_own_try_ends_well(tool: Bare) -> None:
    workflow = (paths.REPO / ".github" / "workflows" / "verify.yml").read_text()
    assert "docker run --rm --network none glibc-pipeline scan /bin/true\n" in workflow
    run(tool.engine.run_argv(tool.name, ["scan", "/bin/true"]))
