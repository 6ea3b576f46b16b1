"""The verb ``scan``: table, JSON, SARIF and exit codes, as a user calls it."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from pipeline.cli.scan import command
from pipeline.core.errors import UsageError
from pipeline.scan import record, sarif
from pipeline.scan.table import WIDTH, shortened
from tests.scan import kit

CHOSEN = ("--profile", "bookworm")
SAYS = f"__rseq_offset@GLIBC_2.35 in {kit.ARCH.loader}"


def call(*args: str | Path) -> Result:
    result = CliRunner().invoke(command, [str(a) for a in args], standalone_mode=False)
    if result.exception and not isinstance(result.exception, UsageError):
        raise result.exception
    return result


def test_the_table_says_which_release_and_which_symbol(plain: Path, rseq: Path) -> None:
    result = call(*CHOSEN, plain, rseq)
    assert result.return_value == 1
    line = next(x for x in result.stdout.splitlines() if x.split()[2:] == ["NO", "yes", "yes"])
    assert line.split() == [shortened(str(rseq), len(line.split()[0])), kit.ARCH.name, "NO", "yes", "yes"]
    assert f"12.0: no {SAYS} (since glibc 2.35)" in result.stdout
    assert call(*CHOSEN, plain).return_value == 0
    assert str(plain) not in call(*CHOSEN, "--failing", plain, rseq).stdout
    assert call(*CHOSEN, "--release", "12.1", rseq).return_value == 0


def test_unreadable_input_is_not_a_start(tmp_path: Path, plain: Path) -> None:
    (tmp_path / "cut").write_bytes(plain.read_bytes()[:700])
    result = call(*CHOSEN, tmp_path / "cut", plain)
    assert result.return_value == 3
    assert [x.split()[2:] for x in result.stdout.splitlines()][2:4] == [["?"] * 3, ["yes"] * 3]
    assert "malformed ELF file" in result.stdout


def test_json_follows_its_committed_schema(tmp_path: Path, plain: Path, rseq: Path) -> None:
    (tmp_path / "cut").write_bytes(plain.read_bytes()[:700])
    out = tmp_path / "out.json"
    assert call(*CHOSEN, "--json", out, tmp_path / "cut", plain, rseq).return_value == 1
    data = json.loads(out.read_text())
    schema = json.loads(record.SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(data)
    assert data["exit_code"] == 1
    assert data["counts"] == {"fails": 1, "starts": 5, "unknown": 3}
    cut, good, bad = data["files"]
    assert {j["answer"] for j in cut["judgements"]} == {"unknown"}
    assert {j["answer"] for j in good["judgements"]} == {"starts"}
    assert bad["judgements"][0]["missing"] == [
        {
            "dso": kit.ARCH.loader,
            "node": "GLIBC_2.35",
            "symbol": "__rseq_offset",
            "text": SAYS,
            "used_by": ["main"],
        }
    ]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({**data, "more": 1})


def test_the_committed_schema_is_current() -> None:
    assert record.SCHEMA_FILE.read_text() == record.schema_text(), "run python -m pipeline.scan.record"


def test_sarif(tmp_path: Path, plain: Path, rseq: Path) -> None:
    (tmp_path / "cut file").write_bytes(plain.read_bytes()[:700])
    out = tmp_path / "out.sarif"
    call(*CHOSEN, "--sarif", out, tmp_path / "cut file", plain, rseq)
    log = json.loads(out.read_text())
    assert log["version"] == "2.1.0"
    assert log["$schema"] == sarif.SCHEMA
    (run,) = log["runs"]
    rules = [r["id"] for r in run["tool"]["driver"]["rules"]]
    assert all(rules[r["ruleIndex"]] == r["ruleId"] for r in run["results"])
    unknown, missing = run["results"]
    assert (unknown["ruleId"], unknown["level"]) == ("unknown", "warning")
    assert (missing["ruleId"], missing["level"]) == ("missing-symbol", "error")
    assert f"{SAYS} is missing on bookworm 12.0" in missing["message"]["text"]
    uris = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in run["results"]]
    assert uris == [f"file://{tmp_path}/cut%20file", f"file://{rseq}"]


def needing(directory: Path, name: str, source: str, *libraries: str) -> Path:
    """A program that needs libraries of nobody's, which are gone when it is scanned."""
    flags = []
    for library in libraries:
        made = kit.program(directory, f"lib{library}", f"int {library} (void) {{ return 0; }}\n", "-shared",
                           f"-Wl,-soname,lib{library}.so.1")  # fmt: skip
        made.rename(directory / f"lib{library}.so")
        flags.append(f"-l{library}")
    file = kit.program(directory, name, source, f"-L{directory}", "-Wl,--no-as-needed", *flags)
    for library in libraries:
        (directory / f"lib{library}.so").unlink()
    return file


def test_what_needs_others_libraries_is_not_said_to_start_outright(tmp_path: Path, plain: Path) -> None:
    one = needing(tmp_path, "one", kit.PLAIN, "foo")
    two = needing(tmp_path, "two", kit.PLAIN, "foo", "bar")
    bad = needing(tmp_path, "bad", kit.USES_RSEQ, "foo")
    result = call(*CHOSEN, one, two, bad, plain)
    lines = [x.split()[2:] for x in result.stdout.splitlines() if len(x.split()) == 5]
    assert lines[2:] == [["if"] * 3, ["if"] * 3, ["NO", "if", "if"], ["yes"] * 3]
    assert "  libfoo.so.1 (3 files), libbar.so.1\n" in result.stdout
    assert "12.0: needs libfoo.so.1 from elsewhere, which was not judged" in result.stdout
    said = (
        "4 files: 3 start on every release (2 of them if libraries that are not glibc's are there), 1 fails"
    )
    assert said in result.stderr
    assert call(*CHOSEN, one).return_value == 0


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "1 file: 1 starts on every release, 0 fail on some, 0 could not be judged, 0 do not apply"),
        (2, "2 files: 2 start on every release, 0 fail on some, 0 could not be judged, 0 do not apply"),
    ],
)
def test_one_is_not_counted_as_many(tmp_path: Path, plain: Path, count: int, said: str) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for number in range(count):
        (top / str(number)).write_bytes(plain.read_bytes())
    words = call(*CHOSEN, top).stderr
    assert said in words
    assert ("1 files" in words) is False
    assert re.search(rf"scan \d+:\d\d {said.partition(':')[0]}\n", words)


def test_wrong_use(tmp_path: Path, plain: Path) -> None:
    for args, says in (
        (CHOSEN, "name what to scan"),
        ((*CHOSEN, tmp_path / "nothing"), "does not exist"),
        ((*CHOSEN, "--release", "7", plain), "no release '7'"),
        ((*CHOSEN, "--arch", "vax", plain), "unknown architecture"),
        (("--profile", "none", plain), "there is no profile"),
        ((*CHOSEN, "--json", "x", "--sarif", "x", plain), "both name x"),
        ((*CHOSEN, "--json", plain / "x", plain), "the result cannot go to"),
    ):
        result = call(*args)
        assert isinstance(result.exception, UsageError)
        assert says in result.exception.message


def test_a_floor_is_a_gate(plain: Path, rseq: Path) -> None:
    assert call("--floor", "bookworm:12.0.z", plain, rseq).return_value == 0
    assert call("--floor", "bookworm:12.0", plain, rseq).return_value == 1
    assert "12.0 " not in call("--floor", "bookworm:12.0.z", rseq).stdout
    for args, says in (
        (("--floor", "12.0"), "is no PROFILE:RELEASE"),
        (("--floor", "bookworm:7"), "no release '7'"),
        (("--floor", "none:7"), "there is no profile"),
        (("--floor", "bookworm:12.0", "--release", "12.1"), "names profile and releases itself"),
    ):
        result = call(*args, plain)
        assert isinstance(result.exception, UsageError)
        assert says in result.exception.message


def test_the_text_fits_a_terminal_and_gathers_causes(tmp_path: Path, rseq: Path) -> None:
    top = tmp_path / ("long" * 30) / ("name" * 30)
    top.mkdir(parents=True)
    for name in ("one", "two"):
        (top / name).write_bytes(rseq.read_bytes())
    out = tmp_path / "out.json"
    result = call(*CHOSEN, "--json", out, top)
    assert max(len(line) for line in result.stdout.splitlines()) <= WIDTH
    assert [x.split()[0][-4:] for x in result.stdout.splitlines() if "NO" in x.split()] == ["/one", "/two"]
    assert f"{kit.NODE} of {kit.ARCH.loader}, new in glibc 2.35: __rseq_offset (2 files; not on 12.0)" in (
        " ".join(result.stdout.split())
    )
    (cause,) = json.loads(out.read_text())["causes"]
    assert (cause["since"], cause["symbols"], len(cause["files"])) == ("2.35", ["__rseq_offset"], 2)


def test_a_wheels_tag_that_lies(tmp_path: Path, rseq: Path) -> None:
    for tag, lies in (("manylinux_2_34", True), ("manylinux_2_35", False), ("manylinux2014", True)):
        file = tmp_path / f"x-1-py3-none-{tag}_{kit.ARCH.name}.whl"
        with zipfile.ZipFile(file, "w") as wheel:
            wheel.write(rseq, "x/rseq")
        said = " ".join(call(*CHOSEN, "--release", "12.1", file).stdout.split())
        assert ("the wheel's tag promises glibc 2." in said) is lies, tag


def test_names_that_are_no_text(tmp_path: Path, plain: Path) -> None:
    odd = tmp_path / "top"
    odd.mkdir()
    (odd / "x\udcff\n").write_bytes(plain.read_bytes())
    out, log = tmp_path / "out.json", tmp_path / "out.sarif"
    result = call(*CHOSEN, "--json", out, "--sarif", log, odd)
    assert result.return_value == 0
    assert "\\udcff\\n" in result.stdout
    assert json.loads(out.read_text())["files"][0]["file"].startswith(str(odd))
    json.loads(log.read_text())
