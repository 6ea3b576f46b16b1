"""glibc's own tests as evidence: what did not run is MISSING, never green."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import profile
from pipeline.check import Material
from pipeline.check.own_tests import OwnTests
from pipeline.core.arch import arch
from pipeline.core.outcome import Outcome, Target
from pipeline.core.records import BuildManifest, Built

ABI = {"elf/check-abi-ld": "PASS", "check-abi-libc": "PASS", "math/check-abi-libm": "PASS"}
GREEN = {"nptl/tst-rseq": "PASS", **ABI}


def material(results: dict[str, str] | None) -> Material:
    chosen = profile.load("bookworm").model_copy(update={"own_tests": ["nptl/tst-rseq"]})
    manifest = BuildManifest(
        target=Target(profile="bookworm", release="12.1", arch="x86_64"),
        key="k",
        nvr="glibc-2.36-1",
        rpms=(),
        srpm=None,
        mode="native",
        place="container",
        hermetic=True,
        source=None,
        patches=(),
        image=None,
        seconds=1.0,
        own_tests=results,
    )
    built = Built(manifest=manifest, rpms=Path("/none"), root=Path("/none"))
    return Material(profile=chosen, arch=arch("x86_64"), built={"12.1": built}, programs=Path("/none"))


def outcomes(results: dict[str, str] | None) -> dict[str, Outcome]:
    check = OwnTests()
    findings = check.run(material(results))
    assert [f.case for f in findings] == [q.case for q in check.questions(material(results))]
    return {f.case: f.outcome for f in findings}


def test_all_pass() -> None:
    assert set(outcomes(GREEN).values()) == {Outcome.PASS}
    assert len(outcomes(GREEN)) == 4


def test_a_build_without_them_is_asked_nothing() -> None:
    assert outcomes(None) == {}


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("FAIL", Outcome.FAIL),
        ("XPASS", Outcome.FAIL),
        ("UNSUPPORTED", Outcome.MISSING),
        ("XFAIL", Outcome.MISSING),
        ("UNRESOLVED", Outcome.MISSING),
        ("NEW-WORD", Outcome.MISSING),
    ],
)
def test_what_is_no_pass_is_not_green(word: str, outcome: Outcome) -> None:
    assert outcomes({**GREEN, "nptl/tst-rseq": word})["nptl/tst-rseq"] is outcome


def test_a_test_without_a_result_is_missing() -> None:
    assert outcomes(ABI)["nptl/tst-rseq"] is Outcome.MISSING


def test_an_abi_check_that_did_not_run_is_missing_and_one_more_that_fails_counts() -> None:
    assert outcomes({"nptl/tst-rseq": "PASS"})["check-abi-ld"] is Outcome.MISSING
    assert (
        outcomes({**GREEN, "resolv/check-abi-libresolv": "FAIL"})["resolv/check-abi-libresolv"]
        is Outcome.FAIL
    )
