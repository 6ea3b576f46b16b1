"""`report` renders evidence again, joins that of several runners, and refuses what is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.report import command
from pipeline.core.errors import EvidenceError, MalformedInput, UsageError
from pipeline.signoff.document import read, write
from tests.report.factory import draft, of_this_pipeline


def run(*args: str | Path) -> tuple[int, str]:
    got = CliRunner().invoke(command, [str(a) for a in args], standalone_mode=False)
    if got.exception is not None:
        raise got.exception
    return int(got.return_value), got.output


def test_report_renders_again_and_gives_the_verdict(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    made = draft()
    made.spoil("abi.delta")
    write(made.evidence(), kept)
    out = tmp_path / "out"
    code, output = run("--evidence", kept / "evidence.json", "--out", out)
    assert code == 1
    assert "FAIL  abi.delta" in output
    assert sorted(p.name for p in out.iterdir()) == ["evidence.json", "junit.xml", "report.html", "report.md"]
    assert (out / "evidence.json").read_bytes() == (kept / "evidence.json").read_bytes()
    assert run("--out", out)[0] == 1


def test_report_merges_runners(tmp_path: Path) -> None:
    files = []
    for machine in ("x86_64", "aarch64"):
        files.append(write(draft((machine,)).evidence(), tmp_path / machine))
    code, output = run("--merge", *files, "--out", tmp_path / "out")
    assert code == 0
    assert "x86_64" in output
    assert "aarch64" in output
    whole = read(tmp_path / "out" / "evidence.json")
    assert len(whole.targets) == 6
    other = draft(("x86_64",))
    other.spoil("abi.delta")
    clash = write(other.evidence(), tmp_path / "clash")
    with pytest.raises(EvidenceError, match="two runners"):
        run("--merge", files[0], clash, "--out", tmp_path / "out2")


def test_what_cannot_be_merged_leaves_no_older_page(tmp_path: Path) -> None:
    """A green page of the day before beside an exit code of today; the parts themselves stay."""
    out = tmp_path / "out"
    green = write(draft(("x86_64",)).evidence(), out)
    assert run("--out", out)[0] == 0
    other = draft(("x86_64",))
    other.spoil("abi.delta")
    clash = write(other.evidence(), tmp_path / "clash")
    with pytest.raises(EvidenceError, match="two runners"):
        run("--merge", green, clash, "--out", out)
    assert [p.name for p in out.iterdir()] == ["evidence.json"]
    run("--out", out)
    with pytest.raises(EvidenceError, match="two runners"):
        run("--merge", write(read(green), tmp_path / "elsewhere"), clash, "--out", out)
    assert list(out.iterdir()) == []


def test_that_another_pipeline_judged_is_said(tmp_path: Path) -> None:
    for made, said in ((draft(("x86_64",)), True), (of_this_pipeline(draft(("x86_64",))), False)):
        kept = write(made.evidence(), tmp_path / "kept")
        _, output = run("--evidence", kept, "--out", tmp_path / "out")
        assert ("judged by pipeline" in output) is said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["x.json"], "what is x.json for"),
        (["--merge"], "--merge takes evidence files"),
        (["--verify"], "needs --key"),
        (["--verify", "--key", "k", "--rpms", ".", "--attest"], "only looks"),
        (["--sign-key", "k"], "signs what --attest"),
        ([], "no evidence at"),
    ],
)
def test_wrong_use_is_said(tmp_path: Path, args: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(*args, "--out", tmp_path)


def test_malformed_evidence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_text("{}")
    with pytest.raises(MalformedInput):
        run("--out", tmp_path)
