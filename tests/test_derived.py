"""Published releases: their ABI is derived from what is known, said to be, and replaced by what is read."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from pipeline import profile as profiles
from pipeline.abi import baseline, derived
from pipeline.abi.baseline import Baseline, Origin
from pipeline.abi.delta import delta
from pipeline.cli.scan import command
from pipeline.core import paths
from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.errors import ExitCode, UsageError
from pipeline.core.outcome import Target
from pipeline.core.run import run
from pipeline.profile import Outline
from pipeline.scan import record, sarif, scan

#: What RHEL 9 has from release/2.34/master and the 2.34 release has not.
PLACEHOLDER = "__rtld_version_placeholder"


def known(profile: str, release: str, machine: str) -> Baseline:
    made = derived.known(profiles.load_outline(profile), release, machine)
    assert made is not None
    return made


def added(before: Baseline, after: Baseline) -> set[str]:
    difference = delta(before.listings, after.listings)
    assert not difference.removed
    return {str(c) for c in difference.added}


@pytest.mark.parametrize("machine", ARCHES)
def test_el9_after_9_1(machine: str) -> None:
    first = known("el9", "9.1", machine)
    start = f"derived from el9/9.1 ({first.provenance.origin})"
    for release in ("9.2", "9.3", "9.4", "9.5", "9.6"):
        later = known("el9", release, machine)
        assert later.provenance.kind == "derived"
        assert later.provenance.origin == start
        assert not added(first, later)
    last = known("el9", "9.7", machine)
    assert added(first, last) == {
        f"libc.so.6: GLIBC_2.35 {symbol} F"
        for symbol in (
            "__memcmpeq", "_dl_find_object", "epoll_pwait2", "posix_spawn_file_actions_addtcsetpgrp_np",
        )
    }  # fmt: skip
    assert last.provenance.origin == f"{start} + libc.so.6 GLIBC_2.35"


@pytest.mark.parametrize("machine", ARCHES)
def test_a_derived_listing_is_what_packages_of_that_version_have(machine: str, tmp_path: Path) -> None:
    """The oracle is Debian 12's libc6, glibc 2.36: RHEL's 2.34 with upstream's nodes is equal."""
    text = f"""
schema = 1
name = "toy"
title = "2.36"
glibc = "2.36"
arches = ["{machine}"]
[[release]]
name = "1"
derived_from = "el9/9.1"
nodes = ["* GLIBC_2.35", "* GLIBC_2.36", "* GLIBC_ABI_DT_RELR"]
"""
    (tmp_path / "toy.toml").write_text(text)
    mine = derived.known(profiles.load_outline(str(tmp_path / "toy.toml")), "1", machine)
    theirs = baseline.load_target(Target(profile="debian", release="12", arch=machine))
    assert mine is not None
    assert theirs is not None
    shared = [n for n in theirs.listings if n in mine.listings and "/" not in n and n != "libcrypt.so.1"]
    assert {"libc.so.6", "libm.so.6", ARCHES[machine].loader, "libresolv.so.2"} <= set(shared)
    difference = delta({n: mine.listings[n] for n in shared}, {n: theirs.listings[n] for n in shared})
    assert not [str(c) for c in difference.removed]
    assert {c.symbol for c in difference.added} <= {PLACEHOLDER}


def test_el10_has_what_no_base_has() -> None:
    """AArch64's libmvec came with 2.38, so it is upstream's alone; x86_64's was there before."""
    arm = known("el10", "10.0", "aarch64").listings["libmvec.so.1"]
    assert (arm.soname, sorted(arm.nodes)) == ("libmvec.so.1", ["GLIBC_2.38", "GLIBC_2.39"])
    assert "GLIBC_2.35" in known("el10", "10.0", "x86_64").listings["libmvec.so.1"].nodes
    for machine in ARCHES:
        gained = added(known("el10", "10.1", machine), known("el10", "10.2", machine))
        assert {line.split()[0] for line in gained} == {"libm.so.6:"}
        assert len(gained) == 40


def outline(tmp_path: Path, releases: str, name: str = "toy") -> Outline:
    head = f'schema = 1\nname = "{name}"\ntitle = "t"\nglibc = "2.34"\narches = ["x86_64"]\n'
    (tmp_path / f"{name}.toml").write_text(head + releases)
    return profiles.load_outline(str(tmp_path / f"{name}.toml"))


@pytest.mark.parametrize(
    ("nodes", "says", "remedy"),
    [
        ('["* GLIBC_2.99"]', "no upstream list of it is committed for x86_64", "--upstream 2.99"),
        ('["libdl.so.2 GLIBC_2.35"]', "where upstream has no such node", "libc.so.6"),
    ],
)
def test_a_node_that_is_not_known_is_never_left_out(
    tmp_path: Path, nodes: str, says: str, remedy: str
) -> None:
    toy = outline(tmp_path, f'[[release]]\nname = "1"\nderived_from = "el9/9.1"\nnodes = {nodes}\n')
    with pytest.raises(UsageError, match=re.escape(says)) as failed:
        derived.known(toy, "1", "x86_64")
    assert remedy in failed.value.hint


def test_releases_that_cannot_be_derived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no release '2' before it"):
        outline(tmp_path, '[[release]]\nname = "1"\nderived_from = "2"\n[[release]]\nname = "2"\n'
                'derived_from = "el9/9.1"\n')  # fmt: skip
    with pytest.raises(UsageError, match="there is no such release"):
        derived.known(outline(tmp_path, '[[release]]\nname = "1"\nderived_from = "el9/7.7"\n'), "1", "x86_64")
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    one = outline(tmp_path, '[[release]]\nname = "1"\nderived_from = "two/1"\n', "one")
    outline(tmp_path, '[[release]]\nname = "1"\nderived_from = "one/1"\n', "two")
    with pytest.raises(UsageError, match="one/1 from two/1 from one/1: releases derived from each other"):
        derived.known(one, "1", "x86_64")
    toy = outline(tmp_path, '[[release]]\nname = "1"\nderived_from = "two/7"\n')
    outline(tmp_path, '[[release]]\nname = "7"\nderived_from = "nowhere/1"\n', "two")
    with pytest.raises(UsageError, match="no profile 'nowhere'"):
        derived.known(toy, "1", "x86_64")


def test_what_was_read_of_packages_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A committed baseline counts for the release, and for those derived from it."""
    committed = tmp_path / "baselines"
    for name in ("el9/9.1/x86_64", "upstream"):
        shutil.copytree(paths.BASELINES / name, committed / name)
    monkeypatch.setattr(paths, "BASELINES", committed)
    el9 = profiles.load_outline("el9")
    listings = dict(known("el9", "9.4", "x86_64").listings)
    lost = listings.pop("libdl.so.2")
    target = Target(profile="el9", release="9.4", arch="x86_64")
    baseline.write(
        baseline.make(listings, target, Origin("rpm", "glibc-2.34-100.el9_4")), baseline.directory_of(target)
    )
    for release, kind in (("9.3", "derived"), ("9.4", "rpm"), ("9.5", "derived"), ("9.7", "derived")):
        made = derived.known(el9, release, "x86_64")
        assert made is not None
        assert made.provenance.kind == kind
        assert (lost.name in made.listings) == (release == "9.3")
    assert "el9/9.4 (glibc-2.34-100.el9_4)" in known("el9", "9.7", "x86_64").provenance.origin


def test_scan_answers_for_published_releases_and_says_so(tmp_path: Path) -> None:
    """A release and a line of nodes are all it takes: here 9.8 with a node of libm."""
    program = tmp_path / "waits"
    source = "#define _GNU_SOURCE\n#include <sys/epoll.h>\nint main (void) "
    (tmp_path / "a.c").write_text(source + "{ return epoll_pwait2 (0, 0, 0, 0, 0) == 0; }\n")
    run(["gcc", "-o", program, tmp_path / "a.c"])
    machine = host_arch().name
    text = (paths.PROFILES / "el9.toml").read_text()
    more = '[[release]]\nname = "9.8"\nderived_from = "9.7"\nnodes = ["libm.so.6 GLIBC_2.35"]\n\n[[step]]'
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace("[[step]]", more, 1))
    out = tmp_path / "out.json"
    arguments = ["--profile", str(mine), "--arch", machine, "--json", str(out), str(program)]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.return_value == ExitCode.FAILED, result.exception
    data = json.loads(out.read_text())
    jsonschema.Draft202012Validator(json.loads(record.SCHEMA_FILE.read_text())).validate(data)
    answers = {j["release"]: j["answer"] for j in data["files"][0]["judgements"]}
    starts = {r: a for r, a in answers.items() if a == "starts"}
    assert list(starts) == ["9.7", "9.8"]
    assert list(answers) == ["9.0", "9.0.z", "9.1", "9.2", "9.3", "9.4", "9.5", "9.6", "9.7", "9.8"]
    assert set(list(answers)[3:]) <= data["derived"].keys()
    assert data["derived"]["9.8"].endswith(" + libc.so.6 GLIBC_2.35 + libm.so.6 GLIBC_2.35")
    assert " 9.7*" in result.stdout
    said = " ".join(result.output.split())
    assert "* no package of 9.2, 9.3, 9.4, 9.5, 9.6 was read: derived from el9/9.1" in said
    log = json.loads(sarif.to_sarif(scan(profiles.load_outline(str(mine)), ["9.7"], [machine], [program])))
    assert list(log["runs"][0]["properties"]["derivedReleases"]) == ["9.7"]
    refused = CliRunner().invoke(command, ["--profile", "el10", "--release", "9.7", str(program)])
    assert isinstance(refused.exception, UsageError)
    assert refused.exception.hint == "it has: 10.0, 10.1, 10.2"


def test_without_a_base_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BASELINES", tmp_path)
    assert derived.known(profiles.load_outline("el9"), "9.7", "x86_64") is None
    assert derived.all_known(profiles.load_outline("el9"), "x86_64") == {}


def test_a_published_release_is_never_built() -> None:
    el9 = profiles.load("el9")
    assert [r.name for r in el9.release] == list(el9.releases) == ["9.0", "9.0.z", "9.1"]
    assert {t.release for t in profiles.targets(el9)} == {"9.0", "9.0.z", "9.1"}
    with pytest.raises(UsageError, match=r"9\.7 of profile el9 is published, and never built") as failed:
        profiles.targets(el9, ("9.7",))
    assert "scan" in failed.value.hint
    with pytest.raises(UsageError, match="nothing of profile el10 is built"):
        profiles.load("el10")
    assert "el10" not in profiles.available()
    assert "el10" in profiles.outlines()
