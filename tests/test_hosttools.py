"""What the host lacks: the table, the one command, and installing with package managers that are scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.errors import ExitCode, ToolMissing, WorldError
from pipeline.host import hosttools
from pipeline.host.hosttools import INSTALLERS, Tool

DNF_INSTALL = "dnf install -y --setopt=install_weak_deps=False --setopt=strict=0 --setopt=skip_unavailable=1"
APT, DNF = INSTALLERS
GROUPS = ("run", "host-build", "vm", "dev")


def tool(name: str, probe: str = "", apt: tuple[str, ...] = (), dnf: tuple[str, ...] = ()) -> Tool:
    return Tool(name=name, probe=probe or name, group="run", apt=apt, dnf=dnf, why=f"why {name}")


@pytest.fixture
def bin_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but what the test puts there (and sh)."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(directory))

    def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
        return {"PATH": str(directory), **(extra or {})}

    monkeypatch.setattr("pipeline.core.run.clean_environment", environment)
    monkeypatch.setattr("pipeline.host.hosttools.clean_environment", environment)
    return directory


def program(directory: Path, name: str, text: str = "exit 0") -> Path:
    file = directory / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def manager(directory: Path, name: str) -> Path:
    """A package manager that writes down its calls and "installs" a program for each package name."""
    calls = directory.parent / "calls"
    install = f'for p; do case $p in -*|install) ;; *) echo "#!/bin/sh" > {directory}/$p;'
    install += f" /bin/chmod 755 {directory}/$p ;; esac; done"
    program(directory, name, f'echo "{name} $*" >> {calls}\n[ "$1" = install ] || exit 0\n{install}')
    return calls


def test_the_table_of_tools_is_complete() -> None:
    listed = hosttools.tools(GROUPS)
    assert len({t.name for t in listed}) == len(listed)
    for entry in listed:
        assert len(entry.apt) == 1, (
            f"{entry.name}: one Debian package, or its probe finds one and misses another"
        )
        assert len(entry.dnf) == 1 or entry.only == ("apt",), f"{entry.name}: one package of dnf's"
        assert entry.why
    assert {t.group for t in hosttools.tools(("vm",))} == {"vm"}
    assert hosttools.tools(()) == []


def test_a_tool_is_a_program_a_file_or_either(bin_only: Path, tmp_path: Path) -> None:
    assert tool("x").found() == ""
    program(bin_only, "x")
    assert tool("x").found() == str(bin_only / "x")
    (tmp_path / "data-7").touch()
    assert tool("d", f"{tmp_path}/data-*").found() == f"{tmp_path}/data-7"
    assert tool("d", f"{tmp_path}/none-*|nothing|x").found() == str(bin_only / "x")
    (bin_only / "y").write_text("not executable")
    assert tool("y").found() == ""


def test_a_browser_without_its_driver_is_missing_its_driver(bin_only: Path) -> None:
    program(bin_only, "chromium")
    program(bin_only, "apt-get")
    lacking = {t.name: t.apt for t in hosttools.missing(("dev",))}
    assert "chromium" not in lacking
    assert lacking["chromedriver"] == ("chromium-driver",)


def test_what_only_one_family_needs_is_not_asked_of_the_other(bin_only: Path) -> None:
    program(bin_only, "dnf")
    assert "AArch64 C library" not in {t.name for t in hosttools.tools(("dev",))}
    (bin_only / "dnf").unlink()
    program(bin_only, "apt-get")
    assert "AArch64 C library" in {t.name for t in hosttools.tools(("dev",))}


def test_the_package_manager_is_the_hosts(bin_only: Path) -> None:
    assert hosttools.installer() is None
    program(bin_only, "dnf")
    assert hosttools.installer() is DNF
    program(bin_only, "apt-get")
    assert hosttools.installer() is APT


def test_the_one_command() -> None:
    lacking = [tool("a", apt=("pa", "pb"), dnf=("da",)), tool("b", apt=("pb",), dnf=("db",))]
    assert APT.command(lacking) == "apt-get update && apt-get install -y --no-install-recommends pa pb"
    assert DNF.command(lacking) == f"{DNF_INSTALL} da db"


def test_rows_of_the_table(bin_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosttools, "tools", lambda _: [tool("x", apt=("px",), dnf=("dx", "dy")), tool("y")])
    assert hosttools.table(GROUPS) == [("x", "missing", "", "why x"), ("y", "missing", "", "why y")]
    program(bin_only, "dnf")
    program(bin_only, "y")
    assert hosttools.table(GROUPS) == [
        ("x", "missing", "dx dy", "why x"), ("y", str(bin_only / "y"), "", "why y"),
    ]  # fmt: skip
    assert [t.name for t in hosttools.missing(GROUPS)] == ["x"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("apt-get", ["apt-get update", "apt-get install -y --no-install-recommends a b"]),
        (
            "dnf",
            [f"{DNF_INSTALL} a b"],
        ),
    ],
)
def test_root_installs_with_the_hosts_manager(
    bin_only: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: list[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    calls = manager(bin_only, name)
    hosttools.install([tool("a", apt=("a",), dnf=("a",)), tool("b", apt=("b",), dnf=("b",))])
    assert calls.read_text().splitlines() == expected


def test_with_sudo_it_goes_through_sudo(bin_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    calls = manager(bin_only, "dnf")
    program(bin_only, "sudo", f'echo "sudo $*" >> {calls}; shift; [ "$1" = true ] || exec "$@"')
    hosttools.install([tool("a", dnf=("a",))])
    assert calls.read_text().splitlines()[:2] == [
        "sudo -n true", f"sudo -n {DNF_INSTALL} a",
    ]  # fmt: skip


@pytest.mark.parametrize("sudo", ["", "echo 'sudo: a password is required' >&2; exit 1"])
def test_without_root_the_one_command_is_told(
    bin_only: Path, monkeypatch: pytest.MonkeyPatch, sudo: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    calls = manager(bin_only, "apt-get")
    if sudo:
        program(bin_only, "sudo", sudo)
    with pytest.raises(ToolMissing, match="missing: a, b") as failed:
        hosttools.install([tool("a", apt=("pa",)), tool("b", apt=("pb",))])
    command = "apt-get update && apt-get install -y --no-install-recommends pa pb"
    assert failed.value.hint == f"run as root: {command}"
    assert not calls.exists()


def test_without_a_manager_it_is_done_by_hand(bin_only: Path) -> None:  # noqa: ARG001
    with pytest.raises(ToolMissing, match="neither apt-get nor dnf") as failed:
        hosttools.install([tool("a")])
    assert "--check" in failed.value.hint


def test_a_tool_this_family_has_no_package_of(bin_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    calls = manager(bin_only, "dnf")
    with pytest.raises(ToolMissing, match=r"missing: b \(why b\); dnf has no package of it"):
        hosttools.install([tool("a", dnf=("a",)), tool("b", apt=("b",))])
    assert not calls.exists()


def test_a_manager_that_fails_is_told_with_its_words(bin_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(bin_only, "apt-get", '[ "$1" = update ] || { echo "E: Unable to locate package pa"; exit 100; }')
    with pytest.raises(WorldError, match="E: Unable to locate package pa") as failed:
        hosttools.install([tool("a", apt=("pa",))])
    assert f"full log: {paths.logs() / 'setup.log'}" in failed.value.message
    assert "apt-get install" in failed.value.hint


def test_installed_but_not_found_is_not_success(bin_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(bin_only, "dnf")
    with pytest.raises(WorldError, match="still not found: a"):
        hosttools.install([tool("a", dnf=("a",))])


def test_setup_check_prints_the_table_and_changes_nothing(tmp_path: Path) -> None:
    """On a machine with nothing but dnf: exit code 4, every tool listed, one command to mend it."""
    directory = tmp_path / "bin"
    directory.mkdir()
    calls = manager(directory, "dnf")
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, "setup", "--check"],
        env={**os.environ, "PATH": str(directory), "COLUMNS": "500"}, cwd=paths.REPO,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.WORLD, done.stderr
    assert "missing" in done.stdout
    for entry in hosttools.tools(("run", "host-build", "vm")):
        assert entry.name in done.stdout
    assert "to install it, as root: dnf install -y" in done.stderr
    assert not calls.exists()


#: the directories that are added for ordinary users would bring the host's tools back
DRIVER = """
import os
from pipeline.host import hosttools
hosttools.clean_environment = lambda extra=None: {"PATH": os.environ["PATH"]}
from pipeline.cli import main
main()
"""
