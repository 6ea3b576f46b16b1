"""launch.programs: what a release's programs must print, and how they must end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.check.own_programs import OwnPrograms, runs
from pipeline.core.arch import arch
from pipeline.core.outcome import Finding, Outcome
from pipeline.place import BatchResult
from tests.check import probe_kit

CHECK, RELEASE = OwnPrograms(), "12.1"
LIBC = "/lib64/libc.so.6"
CONF = b"include ld.so.conf.d/*.conf\n"
GOOD = {
    "/usr/bin/getconf --version": b"getconf (GNU libc) 2.36\nCopyright\n",
    "/usr/bin/getconf GNU_LIBC_VERSION": b"glibc 2.36\n",
    "/usr/bin/iconv --version": b"iconv (bookworm) 2.36\n",
    "/usr/bin/iconv -f IBM500 -t UTF-16BE /etc/ld.so.conf": CONF.decode("cp500").encode("utf-16-be"),
    "/usr/sbin/zic --version": b"zic (GNU libc) 2.36\n",
    f"{arch('x86_64').interp} --version": b"ld.so (GNU libc) stable release version 2.36.\n",
    LIBC: b"GNU C Library (GNU libc) stable release version 2.36.\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for line in GOOD:
        file = tmp_path / line.split()[0].lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.conf").write_bytes(CONF)
    return tmp_path


def judged(root: Path, printed: dict[str, bytes | dict[str, Any] | None]) -> Finding:
    on = probe_kit.material({RELEASE: root})
    results = []
    for line, said in (GOOD | printed).items():
        job = f"launch.programs/{RELEASE}/{line}"
        if said is not None:
            over: dict[str, Any] = said if isinstance(said, dict) else {"stdout": said}
            results.append(probe_kit.said(job, **over))
    answer = probe_kit.judge(CHECK, on, probe_kit.batch(*results))[f"{RELEASE}/"]
    assert isinstance(answer, Finding)
    return answer


def test_what_is_there_is_run_and_nothing_else(root: Path) -> None:
    on = probe_kit.material({RELEASE: root})
    assert {" ".join(run.argv) for run in runs(on, RELEASE)} == set(GOOD)
    assert {" ".join(job.argv) for job in CHECK.jobs(on)} == set(GOOD)


@pytest.mark.parametrize("directory", ["lib64", "lib/x86_64-linux-gnu"])
def test_ldconfig_is_asked_about_the_directory_that_has_the_libraries(tmp_path: Path, directory: str) -> None:
    for name in ("sbin/ldconfig", "lib64/ld-linux-x86-64.so.2", f"{directory}/libc.so.6"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {" ".join(run.argv): run for run in runs(probe_kit.material({RELEASE: tmp_path}), RELEASE)}
    listed = found[f"/sbin/ldconfig -N -X -n -v /{directory}"]
    assert listed.begins.startswith(f"/{directory}:".replace("-", r"\-"))
    assert f"/{directory}/libc.so.6" in found


def test_programs_that_do_as_they_should_are_green(root: Path) -> None:
    found = judged(root, {})
    assert (found.outcome, found.measures["runs"]) == (Outcome.PASS, len(GOOD))


@pytest.mark.parametrize(
    ("line", "said", "words"),
    [
        ("/usr/sbin/zic --version", {"status": None, "signal": 4}, "/usr/sbin/zic --version ended with"),
        ("/usr/bin/iconv --version", b"iconv (GNU libc) 2.37\n", "/usr/bin/iconv --version printed 'iconv"),
        (
            "/usr/bin/iconv -f IBM500 -t UTF-16BE /etc/ld.so.conf",
            b"x",
            "UTF-16BE /etc/ld.so.conf printed 'x'",
        ),
        ("/usr/bin/getconf GNU_LIBC_VERSION", b"glibc 2.36\nmore\n", "GNU_LIBC_VERSION printed"),
        (LIBC, {"status": 127}, f"{LIBC} ended with"),
        (LIBC, b"", f"{LIBC} printed ''"),
    ],
)
def test_one_that_does_not_is_red(root: Path, line: str, said: bytes | dict[str, Any], words: str) -> None:
    found = judged(root, {line: said})
    assert found.outcome is Outcome.FAIL
    assert words in found.seen


def test_what_did_not_come_back_is_missing(root: Path, tmp_path: Path) -> None:
    assert judged(root, {LIBC: None}).outcome is Outcome.MISSING
    assert judged(root, {LIBC: {"status": None, "timed_out": True}}).outcome is Outcome.MISSING
    empty = tmp_path / "empty"
    empty.mkdir()
    answer = CHECK.judge(probe_kit.material({RELEASE: empty}), "host", probe_kit.batch())[0]
    assert isinstance(answer, Finding)
    assert answer.outcome is Outcome.MISSING
    nothing = BatchResult(facts=None, results={}, trouble="it never came up")
    answer = CHECK.judge(probe_kit.material({RELEASE: root}), "host", nothing)[0]
    assert isinstance(answer, Finding)
    assert (answer.outcome, "it never came up" in answer.seen) == (Outcome.MISSING, True)


def test_a_program_that_cannot_be_executed_is_red(root: Path) -> None:
    result: dict[str, Any] = {"status": None, "error": "exec: Exec format error", "code": "exec"}
    assert judged(root, {LIBC: result}).outcome is Outcome.FAIL
