"""`series --each --build`: a series really built patch by patch, on a tree that builds in a second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.build import stepwise
from pipeline.build.options import NO_PATCH
from pipeline.build.stored import WARNINGS
from pipeline.core.arch import host_arch
from pipeline.core.errors import ExitCode
from tests.tiny_kit import DRIVER, TREE, Tiny

pytestmark = pytest.mark.integration

DECLARES = "return s[0]"


def call(tiny: Tiny, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", DRIVER, str(tiny.patches), "series", "--profile", str(tiny.file)]
    argv += ["--source", f"dir:{TREE}", "--each", "--build", "--place", "host", *arguments]
    return subprocess.run(
        argv, env=dict(os.environ), capture_output=True, text=True, timeout=300, check=False
    )


def row(output: str, patch: str) -> str:
    """The rest of the line of a patch in the second table."""
    (line,) = [line for line in output.split("builds")[1].splitlines() if f" {patch} " in line]
    return " ".join(line.split(patch)[1].split())


def test_a_patch_that_brings_a_warning_is_named_and_a_rerun_builds_nothing(tiny: Tiny) -> None:
    tiny.add("1.0", "0002-warns.patch", "csu/libc.c", DECLARES, '#warning "tell me"\n  return s[0]')
    tiny.add("1.0", "0003-good.patch", "elf/rtld.c", "/*", "/* and")
    done = call(tiny, "--release", "1.0")
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert row(done.stdout, NO_PATCH) == "yes (nothing to compare with; has 0)"
    assert row(done.stdout, "0001-withdraw.patch") == "yes none"
    assert row(done.stdout, "0002-warns.patch") == "yes 1"
    assert row(done.stdout, "0003-good.patch") == "yes none"
    said = " ".join(done.stderr.split())
    assert f"tiny/1.0/{host_arch().name}: 0002-warns.patch: new warning: ../csu/libc.c: #warning" in said
    again = call(tiny, "--release", "1.0", "--up-to", "0002")
    assert again.returncode == ExitCode.FAILED
    assert "build tiny" not in again.stderr
    assert row(again.stdout, "0002-warns.patch") == "yes 1"
    assert "0003-good.patch" not in again.stdout


def test_a_patch_that_breaks_the_build_is_named_and_the_next_one_may_mend_it(tiny: Tiny) -> None:
    tiny.add("1.0", "0002-breaks.patch", "csu/libc.c", DECLARES, "return no_such_thing")
    mend = tiny.add("1.0", "0003-mends.patch", "csu/libc.c", DECLARES, "return s[1]")
    mend.write_text(mend.read_text().replace("-  return s[0]", "-  return no_such_thing"))
    done = call(tiny, "--release", "1.0")
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert row(done.stdout, "0001-withdraw.patch") == "yes none"
    assert row(done.stdout, "0002-breaks.patch") == "does not build"
    assert row(done.stdout, "0003-mends.patch") == "yes none"
    assert "0002-breaks.patch does not build" in " ".join(done.stderr.split())
    assert "no_such_thing" in done.stderr
    assert f"build tiny/1.0/{host_arch().name} up to 0001-withdraw.patch" in " ".join(done.stderr.split())
    assert f"build-tiny-1.0-{host_arch().name}-" in done.stderr.replace("\n", "")


def test_warnings_of_a_build_of_earlier_are_found_by_making_it_again(
    tiny: Tiny, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.add("1.0", "0002-warns.patch", "csu/libc.c", DECLARES, '#warning "tell me"\n  return s[0]')
    builder = tiny.builder()
    made = builder.make(tiny.target("1.0"))
    for log in (state / "logs").iterdir():  # another build of the target may be writing it
        log.write_text("x.c:1: warning: of another build\n")
    heard = stepwise.warnings_of(builder, tiny.target("1.0"))
    assert any('#warning "tell me"' in w for w in heard)
    assert not any("of another build" in w for w in heard)
    assert "once again" not in capsys.readouterr().err
    (made.path / WARNINGS).unlink()  # as the results of before
    found = stepwise.warnings_of(builder, tiny.target("1.0"))
    assert found == heard, "ccache repeats what the compiler said"
    assert "once again" in capsys.readouterr().err
    assert not list(state.glob("again-*"))
    assert stepwise.warnings_of(builder, tiny.target("1.0")) == found
    assert "once again" not in capsys.readouterr().err


def test_wrong_use(tiny: Tiny) -> None:
    argv = [sys.executable, "-c", DRIVER, str(tiny.patches), "series", "--profile", str(tiny.file), "--build"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.WRONG_USE
    assert "--build is for --each" in done.stderr
