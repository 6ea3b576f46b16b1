"""`nox -s demo` on this Debian: real packages through the host's apt, and a wrong one is red."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.build import packaged, workshop
from pipeline.build.workplace import Workplace
from pipeline.check import registry
from pipeline.cli import demo
from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Outcome
from pipeline.core.run import run
from pipeline.report import html, junit, markdown
from pipeline.signoff.records import Evidence
from pipeline.verify.run_checks import verify
from pipeline.verify.sites import Sites
from tests.integration.probe_bench import NEWER

pytestmark = pytest.mark.integration


def test_the_host_s_own_glibc_is_judged(tmp_path: Path) -> None:
    """All that applies is asked and answered; what does not is named, and never a pass."""
    done = run(
        [sys.executable, "-m", "pipeline", "demo", "--out", tmp_path, "--json", tmp_path / "run.json"],
        success_codes=None,
    )
    record = json.loads((tmp_path / "run.json").read_text())["result"]
    evidence = json.loads((tmp_path / "evidence.json").read_text())
    assert done.returncode == Outcome[record["verdict"]].exit_code, done.stderr.decode()
    # glibc 2.41 and later leave in the area where rseq is off what lay there: Debian 13's is rightly red
    assert record["verdict"] in (("PASS", "FAIL") if NEWER else ("PASS",))
    assert not [f for f in evidence["findings"] if f["outcome"] in ("MISSING", "ERROR")]
    asked = {f["check"] for f in evidence["findings"]}
    left_out = tuple(record["not_asked"])
    assert {"abi.baseline", "abi.details", "rseq.registered", "getcpu.path", "launch.matrix"} <= asked
    assert not [name for name in asked if name.startswith(left_out)]
    assert not evidence["release_grade"]
    assert "rpm.*" in evidence["profile"]["stand_in"]
    assert any("rpm.payload" in reason for reason in evidence["grade_reasons"])
    assert f"report: {tmp_path / 'report.html'}" in done.stderr.decode()
    installed = run(["dpkg-query", "-W", "-f", "${Version}", f"libc6:{host_arch().deb}"]).text
    assert record["judged"].startswith("glibc ")
    assert installed.partition("-")[0] in record["judged"]


@pytest.fixture(scope="module")
def debs() -> list[Path]:
    suite, instead = demo._suite()
    profile = demo._profile(suite, instead)
    (release,) = profile.releases
    made = packaged.packaged(profile, release, host_arch(), suite, paths.state() / "downloads" / suite)
    return [made.rpms / r.file for r in made.manifest.rpms]


def test_a_package_that_is_not_debian_s_is_red(debs: list[Path], tmp_path: Path) -> None:
    """libm.so.6 is libdl.so.2's file: the listing of the real one is missed."""
    tree = tmp_path / "tree"
    libc6 = next(d for d in debs if d.name.startswith("libc6_"))
    run(["dpkg-deb", "-R", libc6, tree])
    (libm,) = tree.glob(f"**/{host_arch().triplet}/libm.so.6")
    libm.write_bytes((libm.parent / "libdl.so.2").read_bytes())
    wrong = tmp_path / libc6.name
    run(["dpkg-deb", "-Znone", "-b", tree, wrong])
    shutil.rmtree(tree)
    machine = host_arch()
    suite, instead = demo._suite()
    profile = demo._profile(suite, instead)
    (release,) = profile.releases
    made = packaged.judged(profile, release, machine, [*(d for d in debs if d != libc6), wrong], suite)
    built = {machine.name: {release: made}}
    evidence = verify(
        profile,
        profiles.targets(profile, (), (machine.name,)),
        built,
        programs=lambda a: workshop.compile_programs(profile, a, Workplace(None, "native"), built[a.name]),
        sites=Sites(profile, ("host",)).for_arch,
        static=[c for c in registry.STATIC if c.name.startswith("abi.")],
        watched=[],
        command="test",
        only=["abi.baseline", "abi.private"],
    )
    assert evidence.verdict is Outcome.FAIL
    (seen,) = [f.seen for f in evidence.findings if f.check == "abi.baseline"]
    assert "libm.so.6" in seen


def settled(evidence: Evidence) -> Evidence:
    """The evidence without what differs from run to run: times, what was measured, a machine's log."""
    places = [p.model_copy(update={"observed": "", "log": None}) for p in evidence.places]
    findings = [f.model_copy(update={"measures": {}}) for f in evidence.findings]
    return evidence.model_copy(
        update={
            "created": "2026-01-01T00:00:00+00:00",
            "places": tuple(places),
            # what getcpu.speed sees are its measures
            "findings": tuple(
                f.model_copy(update={"seen": ""}) if f.check == "getcpu.speed" else f for f in findings
            ),
        }
    )


def test_the_same_packages_judged_twice_give_the_same_report(debs: list[Path]) -> None:
    machine = host_arch()
    suite, instead = demo._suite()
    profile = demo._profile(suite, instead)
    (release,) = profile.releases
    made = packaged.judged(profile, release, machine, debs, suite)
    built = {machine.name: {release: made}}
    checks = (*registry.STATIC, *registry.WATCHED)

    def judged() -> Evidence:
        return verify(
            profile,
            profiles.targets(profile, (), (machine.name,)),
            built,
            programs=lambda a: workshop.compile_programs(
                profile, a, Workplace(None, "native"), built[a.name]
            ),
            sites=Sites(profile, ("host",)).for_arch,
            static=registry.STATIC,
            watched=registry.WATCHED,
            command="test",
            only=[c.name for c in checks if not c.name.startswith(tuple(demo.not_asked(profile)))],
            fresh=True,
        )

    one, other = judged(), judged()
    assert one.created != other.created
    assert len(one.findings) > 100
    one, other = settled(one), settled(other)
    pairs = zip(one.findings, other.findings, strict=True)
    assert [(a.check, a.case, a.seen, b.seen) for a, b in pairs if a != b] == []
    assert one == other
    for render in (html.render, markdown.render, junit.render):
        assert render(one) == render(other)


def test_packages_of_two_versions_are_refused(debs: list[Path], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    run(["dpkg-deb", "-R", debs[1], tree])
    control = tree / "DEBIAN" / "control"
    lines = [
        line + "+x" if line.startswith("Version:") else line for line in control.read_text().splitlines()
    ]
    control.write_text("\n".join(lines) + "\n")
    run(["dpkg-deb", "-Znone", "-b", tree, tmp_path / "other.deb"])
    profile = demo._profile(*demo._suite())
    with pytest.raises(MalformedInput, match="several versions"):
        packaged.judged(
            profile, next(iter(profile.releases)), host_arch(), [debs[0], tmp_path / "other.deb"], "x"
        )
