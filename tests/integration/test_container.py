"""The engine on real containers: found by trial, no network, mounts as asked for, nothing left running."""

from __future__ import annotations

import platform
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.build.workplace import Workplace
from pipeline.check.secure import RseqSecure
from pipeline.check.static import RseqStatic
from pipeline.core import paths
from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.errors import CommandFailed
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.records import ImageRecord
from pipeline.core.run import run
from pipeline.host import engine as engines
from pipeline.host.engine import Engine
from pipeline.host.image import BuildImage
from pipeline.place import Job
from pipeline.place.container import ContainerPlace
from tests.integration import probe_bench as kit
from tests.integration.conftest import WITNESS

FOREIGN = next(a for a in ARCHES.values() if a != host_arch())

pytestmark = pytest.mark.integration

Bare = tuple[Engine, str]


def lines(text: str, kind: str) -> list[str]:
    return [line.partition(" ")[2] for line in text.splitlines() if line.startswith(f"{kind} ")]


def test_the_way_that_was_found_runs_containers(bare_image: Bare) -> None:
    engine, tag = bare_image
    assert engine in list(engines.candidates())
    assert engine.run(tag, ["true"]).returncode == 0
    found = engine.image_id(tag)
    assert found is not None
    assert found.startswith("sha256:")
    assert engine.image_id("localhost/no-such-image:none") is None


def test_there_is_no_network_and_no_variable_of_ours(
    bare_image: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, tag = bare_image
    for name in ("GLIBC_TUNABLES", "LD_PRELOAD", "CFLAGS", "https_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "leaked")
    seen = engine.run(tag, ["witness"], env={"OWN": "a b=c"}).text
    assert lines(seen, "interface") == ["lo"]
    assert lines(seen, "network") == ["Network is unreachable"]
    variables = dict(line.split("=", 1) for line in lines(seen, "env"))
    assert variables.pop("OWN") == "a b=c"
    assert "leaked" not in variables.values()
    assert set(variables) <= {"PATH", "HOME", "HOSTNAME", "TERM", "container"}


def test_a_network_only_when_it_is_asked_for(bare_image: Bare) -> None:
    engine, tag = bare_image
    assert "--network none" in " ".join(engine.run_argv(tag, ["witness"]))
    assert "--network host" in " ".join(engine.run_argv(tag, ["witness"], network=True))


def test_mounts_are_writable_and_read_only_ones_are_not(bare_image: Bare, tmp_path: Path) -> None:
    engine, tag = bare_image
    for name in ("rw", "ro"):
        (tmp_path / name).mkdir()
    mounts, read_only = {"/data/rw": tmp_path / "rw"}, {"/data/ro": tmp_path / "ro"}
    said = [
        engine.run(tag, ["witness", "write", f"/data/{name}/f"], mounts=mounts, read_only=read_only).text
        for name in ("rw", "ro")
    ]
    assert said == ["write /data/rw/f: done\n", "write /data/ro/f: Read-only file system\n"]
    assert (tmp_path / "rw" / "f").read_text() == "written\n"
    assert list((tmp_path / "ro").iterdir()) == []


def test_a_time_limit_ends_the_container_too(bare_image: Bare) -> None:
    """Its first process has no handler for SIGTERM, so ending the client alone would leave it running."""
    engine, tag = bare_image
    with pytest.raises(CommandFailed, match="did not end within 3 s"):
        engine.run(tag, ["witness", "sleep"], timeout=3)
    assert engine.call("ps", "--all", "--quiet", "--filter", f"ancestor={tag}").text == ""


def test_a_container_that_runs_is_seen_by_that_very_question(bare_image: Bare) -> None:
    engine, tag = bare_image

    def wait() -> None:
        with pytest.raises(CommandFailed):
            engine.run(tag, ["witness", "sleep"], timeout=6)

    thread = threading.Thread(target=wait)
    thread.start()
    end = time.monotonic() + 6
    seen = ""
    while not seen and time.monotonic() < end:
        seen = engine.call("ps", "--all", "--quiet", "--filter", f"ancestor={tag}").text
    thread.join()
    assert seen != ""


def test_an_image_that_runs_nothing_is_told_with_what_each_way_said() -> None:
    program = next(engines.candidates()).program
    with pytest.raises(engines.NoEngine) as failed:
        engines.probe("localhost/no-such-image:none", program)
    ways = [e for e in engines.candidates() if e.program == program]
    said = failed.value.message.splitlines()
    assert len(said) == 1 + len(ways)
    assert "--place host" in failed.value.hint


def test_the_container_place_runs_jobs_in_each_root(bare_image: Bare, tmp_path: Path) -> None:
    """The real runner in a real container: roots read-only, probes over each, no network."""
    engine, tag = bare_image
    programs = tmp_path / "probes"
    programs.mkdir()
    run(["gcc", "-O1", "-static", "-o", programs / "runner", paths.PROBES / "runner.c"])
    run(["gcc", "-O1", "-static", "-o", programs / "witness", WITNESS])
    roots = {}
    for name in ("1.0", "1.1"):
        roots[name] = tmp_path / name
        for directory in ("probes", "proc", "dev", "sys", "tmp", "etc", "usr"):
            (roots[name] / directory).mkdir(parents=True)
    jobs = [
        Job("see", "1.0", ("/probes/witness",), {"ONLY": "this"}),
        Job("write", "1.1", ("/probes/witness", "write", "/usr/new")),
        Job("own", "1.1", ("/probes/witness", "write", "/etc/new")),
        Job("missing", "1.1", ("/probes/none",)),
        Job("slow", "1.0", ("/probes/witness", "sleep"), timeout=1),
    ]
    image = BuildImage(engine, tag, ImageRecord(id="sha256:0", base="test", pinned=False))
    batch = ContainerPlace(image).run_batch(roots, {"/probes": programs}, jobs)
    assert batch.trouble == "", batch.log and batch.log.read_text()
    assert batch.facts is not None
    assert (batch.facts.place, batch.facts.kernel) == ("container", platform.release())
    seen = batch.results["see"].stdout.decode()
    assert lines(seen, "env") == ["ONLY=this"]
    assert lines(seen, "interface") == ["lo"]
    assert batch.results["write"].stdout == b"write /usr/new: Read-only file system\n"
    assert batch.results["own"].stdout == b"write /etc/new: done\n"  # to a copy
    assert batch.results["missing"].error != ""
    assert batch.results["slow"].timed_out
    assert list((roots["1.1"] / "etc").iterdir()) == []


@kit.AS_RELEASED
def test_a_container_lets_static_and_secure_programs_be_watched(bare_image: Bare, tmp_path: Path) -> None:
    """Where a set-user-ID bit would not be honoured, and root may not trace whom it likes."""
    engine, tag = bare_image
    image = BuildImage(engine, tag, ImageRecord(id="sha256:0", base="test", pinned=False))
    programs = kit.compile_all(host_arch(), tmp_path / "probes")
    on = kit.host_bench(kit.make_root(host_arch(), tmp_path / "root"), programs)
    checks = (RseqStatic(), RseqSecure())
    batch = kit.observe(ContainerPlace(image), on, checks)
    assert batch.trouble == ""
    found = kit.answers(on, "container", batch, checks)
    assert {case: a.outcome for case, a in found.items() if isinstance(a, Finding)} == dict.fromkeys(
        found, Outcome.PASS
    )
    assert len(found) == 12


def test_an_image_says_which_cross_compilers_it_has(host_in_a_container: BuildImage) -> None:
    there = Workplace(host_in_a_container, "native")
    assert "(" in there.cross_compiler(FOREIGN)
    assert there.cross_compiler(FOREIGN) == Workplace(None, "native").cross_compiler(FOREIGN)
    assert there.cross_compiler(replace(FOREIGN, triplet="sparc-none-elf")) == ""
