"""The command line's end: one message with its remedy, and the documented exit code for each way to end."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from pipeline import cli
from pipeline.cli import build, clean, explain, main, verify
from pipeline.cli.options import Choice, choice_options
from pipeline.cli.verify import same_again
from pipeline.core import outputs, paths
from pipeline.core.errors import (
    CommandFailed,
    EvidenceError,
    ExitCode,
    HashMismatch,
    NoSpace,
    PipelineError,
    SourceUnreachable,
    ToolMissing,
    UsageError,
)  # fmt: skip
from pipeline.profile import load
from tests.command_kit import commands, wrong_with


def ends(monkeypatch: pytest.MonkeyPatch, outcome: object, *arguments: str) -> int:
    """The exit code of main() when a verb returns or raises ``outcome``."""

    @click.command()
    def verb() -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(cli._Verbs, "get_command", lambda *_: verb)
    monkeypatch.setattr(sys, "argv", ["pipeline", "build", *arguments])
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(SystemExit) as left:
            main()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize(
    ("verb", "unused"),
    [
        ("setup", {"requests", "jsonschema", "pipeline.build.builder", "pipeline.check"}),
        ("build", {"requests", "jsonschema", "jinja2", "pipeline.check.registry"}),
        ("verify", {"requests", "jsonschema", "jinja2", "matplotlib", "cryptography"}),
    ],
)
def test_a_verb_loads_nothing_that_a_rerun_has_no_use_for(verb: str, unused: set[str]) -> None:
    code = f"import sys, pipeline.cli.{verb}\nprint(sorted({unused!r} & sys.modules.keys()))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


@pytest.mark.parametrize("code", list(ExitCode))
def test_a_verbs_own_exit_code_is_passed_on(monkeypatch: pytest.MonkeyPatch, code: ExitCode) -> None:
    assert ends(monkeypatch, code) == int(code)
    assert ends(monkeypatch, None) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError, 2), (EvidenceError, 3), (ToolMissing, 4), (SourceUnreachable, 4), (HashMismatch, 4),
        (NoSpace, 4), (CommandFailed, 4),
    ],
)  # fmt: skip
def test_each_error_is_one_message_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[PipelineError], code: int
) -> None:
    assert ends(monkeypatch, error("[what] happened", hint="do [this]")) == code
    seen = capsys.readouterr()
    assert seen.err.splitlines() == ["error: [what] happened", "what to do: do [this]"]
    assert seen.out == ""


def test_without_a_remedy_there_is_no_empty_line_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    explain(UsageError("wrong"))
    assert capsys.readouterr().err == "error: wrong\n"


def test_a_traceback_only_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIPELINE_TRACEBACK", "1")
    assert ends(monkeypatch, UsageError("wrong")) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), click.exceptions.Abort()])
def test_an_interrupt_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException
) -> None:
    assert ends(monkeypatch, raised) == 130
    assert "interrupted: what was whole is kept; run the same command again" in capsys.readouterr().err


def test_wrong_options_are_wrong_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(monkeypatch, 0, "--colour") == 2
    assert "No such option" in capsys.readouterr().err


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_nobody_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    assert ends(monkeypatch, OSError(code, os.strerror(code), "/some/file")) == 4
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"error: no space left: /some/file: {os.strerror(code)}"
    assert "PIPELINE_STATE" in second


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a/file"),
         "/a/file: Permission denied", "`ls -ld` shows whose it is"),
        (OSError(errno.EROFS, "Read-only file system", "/a/file"), "/a/file: Read-only", "PIPELINE_STATE"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a/file"),
         "/a/file: No such file or directory", "put it there"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a/file"), "/a/file: Not a", "move it away"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "/a", None, "/b"), "/a -> /b: Inv", "TRACEBACK"),
        (OSError(errno.EMFILE, "Too many open files"), "a system call failed: Too", "PIPELINE_TRACEBACK"),
        (shutil.Error([("/a", "/b", "[Errno 5] Input/output error: '/a'")]),
         "/a -> /b: Input/output error", "run the same command again"),
        (OSError("a library's own words"), "a system call failed: a library's own", "PIPELINE_TRACEBACK=1"),
    ],
)  # fmt: skip
def test_a_call_that_failed_names_file_reason_and_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    error: OSError, message: str, hint: str,
) -> None:  # fmt: skip
    assert ends(monkeypatch, error) == 4
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {message}")
    assert "Errno" not in first
    assert second.startswith("what to do: ")
    assert hint in second


def test_a_bug_never_looks_like_a_judgement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python would end with 1, which means: a check failed."""
    assert ends(monkeypatch, ZeroDivisionError("oops")) == 3
    seen = capsys.readouterr().err
    assert "ZeroDivisionError" in seen
    assert "nothing was judged" in seen


def call(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments], env={**os.environ, **env}, cwd=paths.REPO,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_help_lists_every_verb_and_an_unknown_one_is_wrong_use() -> None:
    done = call("--help")
    assert done.returncode == 0, done.stderr
    for verb in cli.VERBS:
        assert re.search(rf"^  {verb} +\S", done.stdout, re.MULTILINE), verb
    unknown = call("no-such-verb")
    assert unknown.returncode == 2
    assert "No such command" in unknown.stderr
    assert call().returncode == 2


def test_every_verb_has_a_module() -> None:
    for verb in cli.VERBS:
        assert find_spec(f"pipeline.cli.{verb.replace('-', '_')}") is not None, verb


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "build", "--help"], cwd=paths.REPO,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == ExitCode.WORLD


#: a verb that waits, as all long work does, for a program
WAITING = """
import click
from pipeline import cli
from pipeline.core.run import run
@click.command()
def verb():
    run(["sh", "-c", "echo $$ > \\"$1\\"; exec sleep 300", "sh", {file!r}])
cli._Verbs.get_command = lambda *_: verb
cli.main()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_us_what_we_started_ends_too(tmp_path: Path, signum: signal.Signals) -> None:
    file = tmp_path / "pid"
    with subprocess.Popen(
        [sys.executable, "-c", WAITING.format(file=str(file)), "build"], cwd=paths.REPO,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        end = time.monotonic() + 60
        while not (file.exists() and file.read_text().strip()):
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signum)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.strip().startswith("interrupted: ")
    left = Path(f"/proc/{file.read_text().strip()}/cmdline")
    assert not left.exists() or b"sleep" not in left.read_bytes()


def test_signals_of_one_moment_are_one_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal and nox send one each; a later one is another interrupt."""
    at = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: at)
    handler = cli._once()
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)
    at += 0.5
    handler(signal.SIGINT, None)
    at += 2
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)


def test_without_standard_output_nothing_is_a_bug() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m pipeline drift --list >&-', sys.executable], cwd=paths.REPO,
        stderr=subprocess.PIPE, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def choose(*arguments: str) -> Choice:
    chosen: list[Choice] = []

    @click.command()
    @choice_options("verify")
    def verb(choice: Choice) -> None:
        chosen.append(choice)

    verb.main(list(arguments), standalone_mode=False)
    return chosen[0]


@pytest.mark.parametrize("place", ["moon", "ssh:", "ssh", "ssh:-oProxyCommand=x", "vm:x"])
def test_a_place_that_is_none_is_wrong_use_before_anything_is_built(place: str) -> None:
    with pytest.raises(UsageError, match="there is no place"):
        choose("--place", place)


def test_the_same_again_is_a_command_that_works() -> None:
    """A sign-off says how to make it again: with options that `build` has not, and words with spaces."""
    assert same_again([]) == "nox -s verify"
    ((command,),) = [list(commands(same_again(["--rpms", "9.1=my dir", "--fresh", "--waivers", "w"])))]
    assert command[-5:] == ["--rpms", "9.1=my dir", "--fresh", "--waivers", "w"]
    assert wrong_with(command) == ""


def test_the_same_again_tells_no_password() -> None:
    """It stands in the sign-off and in attestations, which are published."""
    told = same_again([
        "--ccache-remote", "redis://me:SECRET@cache.example/0", "--distgit=9.1=https://SECRET@host/glibc@c9s",
        "--source", "tarball:https://me:SECRET@host/g.tar.xz?token=SECRET",
    ])  # fmt: skip
    assert "SECRET" not in told
    assert "redis://cache.example/0" in told
    assert "--distgit=9.1=https://host/glibc@c9s" in told
    assert "tarball:https://host/g.tar.xz" in told


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("PIPELINE_ENGINE", "dokcer", ()), ("PIPELINE_SCRATCH", "ram", ()),
        ("PIPELINE_STATE", "/tmp/a:b", ()), ("PIPELINE_STATE", "/tmp/a b", ("--place", "host")),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_told_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as told:
        choose(*options)
    assert name in told.value.message + told.value.hint
    monkeypatch.delenv(name)
    choose(*options)


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", "~nosuchuser/x")
    with pytest.raises(UsageError, match="no home directory is known"):
        paths.state()


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def built(*_: object) -> None:
        raise AssertionError("something was built")

    monkeypatch.setattr(build, "make_all", built)
    monkeypatch.setattr(verify, "build_all", built)
    monkeypatch.setattr(Choice, "builder", built)


@pytest.mark.usefixtures("nothing_is_built")
def test_wrong_waivers_are_told_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no waivers file"):
        verify.command.main(
            ["--profile", "bookworm", "--waivers", str(tmp_path / "none")], standalone_mode=False
        )


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize("verb", [verify.command, build.command], ids=["verify", "build"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kernel", "nope"), "profile bookworm has no kernel 'nope' (it has: stable, next, sid, "),
        (
            ("--kernel", "stable", "--kernel", "/no/file"),
            "kernel /no/file: No such file or directory (name a",
        ),
        (("--place", "host", "--place", "container"), "exclude each other (leave --place host out"),
    ],
)
def test_an_unknown_kernel_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    verb: click.Command,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    """Also by `build`, to which nox gives the same words before `verify` sees them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_BESIDE", "build verify")
    with pytest.raises(UsageError) as wrong:
        verb.main(["--profile", "bookworm", *arguments], standalone_mode=False)
    assert said in wrong.value.explained


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize("where", ["file", "file/below", "/proc/nothing-can-be-made-here"])
@pytest.mark.parametrize("how", ["option", "default"])
def test_a_report_that_can_go_nowhere_is_told_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    how: str,
) -> None:
    def asked(_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(Choice, "profile", asked)
    (tmp_path / "file").write_text("the user's")
    out = tmp_path / where
    monkeypatch.setattr(paths, "out", lambda: out)
    with pytest.raises(UsageError, match=f"the report cannot go to {out}: ") as wrong:
        verify.command.main(["--out", str(out)] if how == "option" else [], standalone_mode=False)
    assert "--out DIR" in wrong.value.hint
    assert ("file is no directory" in wrong.value.message) is where.startswith("file")
    assert (tmp_path / "file").read_text() == "the user's"


def test_a_report_may_go_to_a_directory_that_is_there_or_not(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "new" / "below"):
        outputs.check_writable(out)
        assert [p for p in out.iterdir() if p.is_file()] == []


@pytest.mark.parametrize(
    ("verb", "arguments", "option"),
    [
        ("setup", ["--check", "--up-to", "9999"], "--up-to"),
        ("setup", ["--kernel", "nonsense"], "--kernel"),
        ("setup", ["--release", "9.1"], "--release"),
        ("build", ["--kernel", "nonsense"], "--kernel"),
        ("bench", ["--own-tests"], "--own-tests"),
        ("baseline", ["--kernel", "stable"], "--kernel"),
    ],
)
def test_an_option_that_a_verb_does_not_use_is_refused(
    verb: str, arguments: list[str], option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIPELINE_BESIDE", raising=False)
    command = import_module(f"pipeline.cli.{verb}").command
    with pytest.raises(UsageError, match=f"{verb} has no use for {option}"):
        command.main(arguments, standalone_mode=False)


def test_an_option_of_a_verb_beside_it_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nox -s setup build verify -- --kernel k` is one command line for three verbs."""
    monkeypatch.setenv("PIPELINE_BESIDE", "setup build verify")
    command = import_module("pipeline.cli.setup").command
    with pytest.raises(UsageError, match="--check prints a table in setup and runs"):
        command.main(["--check", "--kernel", "k"], standalone_mode=False)
    monkeypatch.setenv("PIPELINE_BESIDE", "setup")
    with pytest.raises(UsageError, match="setup has no use for --kernel"):
        command.main(["--check", "--kernel", "k"], standalone_mode=False)


def test_what_the_user_chooses_arrives() -> None:
    plain = choose()
    assert (plain.profile_name, plain.releases, plain.arches, plain.source) == ("auto", (), (), "")
    assert (plain.build.place, plain.build.foreign, plain.build.check) == ("container", "auto", False)
    full = choose(
        "--profile", "bookworm", "--release", "12.0", "--release", "12.1", "--arch", "x86_64",
        "--source", "dir:x", "--image", "i", "--place", "host", "--place", "ssh:me@there", "--kernel", "k",
        "--aarch64-build", "emulated", "--up-to", "0001", "--check",
    )  # fmt: skip
    assert [str(t) for t in full.targets(load("bookworm"))] == [
        "bookworm/12.0/x86_64",
        "bookworm/12.1/x86_64",
    ]
    assert (full.build.place, full.build.foreign, full.build.check) == ("host", "emulated", True)
    assert (full.build.image, full.build.up_to, full.places) == ("i", "0001", ("host", "ssh:me@there"))


@pytest.mark.parametrize(
    ("there", "arguments", "name"),
    [
        ((True, True), (), "el9"), ((False, True), (), "bookworm"), ((True, False), (), "bookworm"),
        ((True, False), ("--image", "other"), "el9"), ((True, False), ("--place", "host"), "el9"),
        ((False, False), ("--source", "dir:x"), "el9"),
    ],
)  # fmt: skip
def test_profile_auto_says_which_and_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    there: tuple[bool, bool], arguments: tuple[str, ...], name: str,
) -> None:  # fmt: skip
    """``there``: source, image. An image is asked after only where it will be needed."""
    source, image = there
    monkeypatch.setattr("pipeline.source.available", lambda _: (source, "the source's reason"))
    monkeypatch.setattr("pipeline.host.image.available", lambda _: (image, "the image's reason"))
    profile, why = choose(*arguments).profile()
    assert profile.name == name
    assert f"profile auto: {name}" in why
    assert "reason" in why or "a source was named" in why
    assert why in capsys.readouterr().err.replace("\n", " ")


def test_a_named_profile_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: object) -> tuple[bool, str]:
        raise AssertionError("asked whether another could be had")

    monkeypatch.setattr("pipeline.source.available", never)
    assert choose("--profile", "el9").profile()[0].name == "el9"
    assert choose("--source", "dir:x").profile()[0].name == "el9"


def test_clean_knows_every_kind_of_result(state: Path) -> None:
    """A kind of result that nobody cleans would fill the disk for ever."""
    kinds = {
        kind
        for file in paths.PACKAGE.rglob("*.py")
        for kind in re.findall(r'(?:produce\(\s*|state\(\) / )"([\w-]+)"', file.read_text())
    }
    assert {"build", "sysroot", "sources", "logs"} <= kinds
    assert kinds <= set(clean.ALL)
    for kind in kinds:
        (state / kind / "entry").mkdir(parents=True)
        (state / kind / "entry").chmod(0o555)
    assert clean.command.main([], standalone_mode=False) == 0
    assert {p.name for p in state.iterdir()} == kinds - set(clean.CHEAP)
    assert clean.command.main(["--all"], standalone_mode=False) == 0
    assert list(state.iterdir()) == []
