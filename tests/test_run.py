"""run(): a scrubbed environment, whole groups ended, logs kept, failures named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import run as running
from pipeline.core.errors import CommandFailed, ExitCode, NoSpace, ToolMissing, WorldError
from pipeline.core.run import run

#: Starts a grandchild that ignores SIGTERM, writes its process id to $1 and waits for it.
WITH_GRANDCHILD = "sh -c \"trap '' TERM; echo \\$\\$ > $1; sleep 300 & wait\" & wait"


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def pid_in(file: Path) -> int:
    end = time.monotonic() + 20
    while not (file.exists() and file.read_text().endswith("\n")):
        assert time.monotonic() < end, "the grandchild never started"
        time.sleep(0.02)
    return int(file.read_text())


def test_nothing_that_changes_how_programs_work_leaks_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "GLIBC_TUNABLES",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "CFLAGS",
        "MAKEFLAGS",
        "LANG",
        "BASH_ENV",
    ):
        monkeypatch.setenv(name, "/leaked")
    monkeypatch.setenv("https_proxy", "proxy.example")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/the/agent")
    monkeypatch.setenv("DOCKER_HOST", "tcp://there")
    seen = dict(line.split("=", 1) for line in run(["env"], env={"OWN": "1"}).text.splitlines())
    assert set(seen) <= {*running.PASSED_ON, "LC_ALL", "OWN"}
    assert (seen["https_proxy"], seen["OWN"], seen["LC_ALL"]) == ("proxy.example", "1", "C.UTF-8")
    assert (seen["SSH_AUTH_SOCK"], seen["DOCKER_HOST"]) == ("/the/agent", "tcp://there")


def test_system_directories_are_on_the_path_of_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert running.clean_environment()["PATH"] == "/usr/bin:/bin:/usr/sbin:/sbin"


def test_output_and_status() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"], success_codes=(0, 3))
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_standard_input_is_empty_unless_given() -> None:
    assert run(["cat"], timeout=10).stdout == b""
    assert run(["cat"], stdin=b"given", timeout=10).stdout == b"given"


def test_standard_input_reaches_a_program_that_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    big = b"x" * 500_000
    run(["cat"], stdin=big, log=log, timeout=20)
    assert log.read_bytes() == big


def test_log_is_kept_appended_to_and_named_in_the_error(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "log"
    lines: list[str] = []
    run(["sh", "-c", "echo first"], log=log)
    with pytest.raises(CommandFailed) as failed:
        run(
            ["sh", "-c", "seq 100; echo to-stderr >&2; printf unfinished; exit 7"],
            log=log, on_line=lines.append, remedy="do this",
        )  # fmt: skip
    error = failed.value
    assert log.read_text().startswith("first\n1\n2\n")
    assert log.read_text().endswith("to-stderr\nunfinished")
    assert (error.returncode, error.log, error.hint) == (7, str(log), "do this")
    assert f"status 7; full log: {log}" in error.message
    assert error.tail.splitlines()[-2:] == ["to-stderr", "unfinished"]
    assert len(error.tail.splitlines()) <= running.TAIL_LINES + 1
    assert lines[0] == "1"
    assert lines[-1] == "to-stderr"


def test_a_program_ended_by_a_signal_is_said_to_be() -> None:
    with pytest.raises(CommandFailed, match="signal 11") as failed:
        run(["sh", "-c", "kill -SEGV $$"])
    assert failed.value.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("logged", [False, True])
def test_timeout_ends_grandchildren_that_do_not_listen(
    tmp_path: Path, logged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "GRACE_SECONDS", 0.5)
    pid_file = tmp_path / "pid"
    with pytest.raises(CommandFailed, match="did not end within 1 s"):
        run(
            ["sh", "-c", WITH_GRANDCHILD, "sh", pid_file],
            timeout=1, log=tmp_path / "log" if logged else None,
        )  # fmt: skip
    assert gone_within(pid_in(pid_file), 2)


def test_a_program_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(CommandFailed):
        run(["sh", "-c", f"sleep 300 >/dev/null 2>&1 & echo $! > {pid_file}; exit 1"])
    assert gone_within(pid_in(pid_file), 2)


def test_an_exception_in_our_own_code_ends_the_program(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def fail(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="go"):
        run(
            ["sh", "-c", f"echo $$ > {pid_file}; echo go; exec sleep 300"],
            log=tmp_path / "log", on_line=fail,
        )  # fmt: skip
    assert not alive(pid_in(pid_file))


@pytest.mark.parametrize("presses", [1, 2])
def test_interrupt_ends_the_whole_group(tmp_path: Path, presses: int) -> None:
    """A second, impatient ^C during the grace period must not leave anything behind either."""
    pid_file = tmp_path / "pid"
    driver = (
        "import sys; from pipeline.core import run\n"
        f"run.GRACE_SECONDS = {0.5 if presses == 1 else 60}\n"
        "run.run(['sh', '-c', sys.argv[1], 'sh', sys.argv[2]])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", driver, WITH_GRANDCHILD, str(pid_file)],
        stderr=subprocess.PIPE, start_new_session=True,
    ) as ours:  # fmt: skip
        pid = pid_in(pid_file)
        for _ in range(presses):
            os.kill(ours.pid, signal.SIGINT)
            time.sleep(1)
        _, stderr = ours.communicate(timeout=20)
    assert b"KeyboardInterrupt" in stderr
    assert gone_within(pid, 2)


def test_a_signal_while_the_program_is_being_started_loses_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be raised inside Popen, whose caller then never learns of the child."""
    started: list[int] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self.pid)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("subprocess.Popen", Interrupted)
    before = signal.getsignal(signal.SIGINT)
    for start in (lambda: run(["sleep", "300"]), lambda: running.running(["sleep", "300"]).__enter__()):
        with pytest.raises(KeyboardInterrupt):
            start()
    assert len(started) == 2
    assert not any(map(alive, started))
    assert signal.getsignal(signal.SIGINT) is before


def test_running_ends_its_group_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "GRACE_SECONDS", 0.5)
    pid_file = tmp_path / "pid"
    with running.running(["sh", "-c", WITH_GRANDCHILD, "sh", pid_file]) as process:
        pid = pid_in(pid_file)
        assert alive(pid)
    assert not alive(process.pid)
    assert gone_within(pid, 2)


@pytest.mark.parametrize(
    "words", ["No space left on device", "Disk quota exceeded", "no space left on device", "ENOSPC: write"]
)
def test_a_full_disk_is_recognised_in_a_programs_words(words: str) -> None:
    with pytest.raises(NoSpace) as failed:
        run(["sh", "-c", f"echo 'cc1: error: x.s: {words}' >&2; exit 1"])
    assert "clean" in failed.value.hint
    assert "PIPELINE_STATE" in failed.value.hint
    assert failed.value.exit_code is ExitCode.WORLD


def test_a_full_disk_is_no_answer_even_where_any_status_is_one() -> None:
    """A patch that could not be written would be told as one that does not fit."""
    with pytest.raises(NoSpace):
        run(["sh", "-c", "echo 'write error: No space left on device' >&2; seq 500 >&2; exit 1"],
            success_codes=None)  # fmt: skip
    for harmless in ("echo 'No space left on device' >&2", "echo 'No space left on device'; exit 1"):
        run(["sh", "-c", harmless], success_codes=None)


def test_a_full_disk_is_recognised_though_much_is_said_after_it(tmp_path: Path) -> None:
    script_text = "echo 'as: x.o: No space left on device'; seq 500; exit 2"
    with pytest.raises(NoSpace, match=r"full log: .*\nas: x.o: No space left on device\n"):
        run(["sh", "-c", script_text], log=tmp_path / "log")


def test_a_program_that_copes_with_a_full_disk_is_not_failed(tmp_path: Path) -> None:
    run(["sh", "-c", "echo No space left on device"], log=tmp_path / "log")


def test_missing_and_unusable_programs(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="no-such-program is not installed") as missing:
        run(["no-such-program"])
    assert "nox -s setup" in missing.value.hint
    plain = tmp_path / "plain"
    plain.write_text("not executable")
    with pytest.raises(ToolMissing, match="cannot be run: Permission denied"):
        run([plain])
    with pytest.raises(ToolMissing), running.running(["no-such-program"]):
        pass


def test_a_missing_directory_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"sh cannot run in .*nowhere: there is no such directory") as wrong:
        run(["sh"], cwd=tmp_path / "nowhere")
    assert not isinstance(wrong.value, ToolMissing)


def test_endless_lines_are_cut_in_the_message_and_whole_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = "printf 'gcc %0999d -o the-end\\n' 1; echo 'x.c:1: error: no'; exit 2"
    with pytest.raises(CommandFailed) as e:
        run(["sh", "-c", words], log=log)
    shown = e.value.message.splitlines()
    assert max(len(line) for line in shown) < 350
    assert any(line.startswith("gcc 0000") and line.endswith("-o the-end") for line in shown)
    assert "x.c:1: error: no" in shown
    assert len(log.read_text().splitlines()[0]) > 1000
