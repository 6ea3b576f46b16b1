"""The shared compiler cache: its address, ccache's name for it, and what happens where there is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.build import sharedcache
from pipeline.build.options import Options
from pipeline.build.sharedcache import SharedCache, parse, setting, usable
from pipeline.build.workplace import Workplace
from pipeline.cli import cli
from pipeline.cli.options import Choice
from pipeline.core.errors import UsageError
from pipeline.core.store import key_of
from tests.tiny_kit import Tiny


@pytest.fixture
def port() -> Iterator[int]:
    """A port of ours that somebody accepts connections at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "host", "shown"),
    [
        ("redis://cache", ("cache", 6379), "redis://cache:6379"),
        ("redis://u:secret@10.0.0.1:7000/2", ("10.0.0.1", 7000), "redis://10.0.0.1:7000/2"),
        ("http://cache/ccache|layout=bazel", ("cache", 80), "http://cache:80/ccache"),
    ],
)
def test_addresses(address: str, host: tuple[str, int], shown: str) -> None:
    cache = parse(address)
    assert (cache.host, str(cache), cache.address) == (host, shown, address)


@pytest.mark.parametrize(
    "address",
    ["cache:6379", "https://cache", "file:///cache", "redis://", "redis://cache:no", "redis://cache:99999",
     "redis://cache redis://other", "redis://u:secret@cache:x"],
)  # fmt: skip
def test_what_ccache_would_not_take_is_refused_and_no_password_shown(address: str) -> None:
    with pytest.raises(UsageError, match="not understood") as failed:
        parse(address)
    assert "secret" not in failed.value.message + failed.value.hint


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("ccache version 4.7.5", "CCACHE_REMOTE_STORAGE"),
        ("ccache version 4.10", "CCACHE_REMOTE_STORAGE"),
        ("ccache version 5.0", "CCACHE_REMOTE_STORAGE"),
        ("ccache version 4.5.1", "CCACHE_SECONDARY_STORAGE"),
        ("ccache version 4.3", ""),
        ("ccache version 3.7.7", ""),
        ("", ""),
    ],
)
def test_ccaches_name_of_the_setting(version: str, name: str) -> None:
    assert setting(version) == name


def test_only_a_cache_that_answers_is_used(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    address = f"redis://u:secret@127.0.0.1:{port}"
    assert usable(address, lambda: "ccache version 4.7.5") == {"CCACHE_REMOTE_STORAGE": address}
    assert capfd.readouterr().err == ""
    assert usable(address, lambda: "") == {}
    assert "no ccache here" in capfd.readouterr().err
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        dead = SharedCache(f"redis://u:secret@127.0.0.1:{closed.getsockname()[1]}")
        assert usable(dead.address, lambda: "ccache version 4.7.5") == {}
    said = capfd.readouterr().err
    assert "does not answer" in said
    assert "secret" not in said


def test_without_one_nothing_is_asked() -> None:
    def never() -> str:
        raise AssertionError

    assert usable("", never) == {}


def test_builds_without_it_keep_their_key_and_those_with_it_have_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Tiny.lay_out(tmp_path)
    monkeypatch.setattr("pipeline.core.paths.PATCHES", tiny.patches)
    monkeypatch.setattr(Workplace, "identity", lambda *_: {"host": "tools"})
    target = tiny.target("1.0")
    plain = tiny.builder().inputs(target)
    assert "shared_cache" not in plain
    one, other = (
        tiny.builder(Options(place="host", shared_cache=f"redis://{name}")).inputs(target)
        for name in ("one", "other")
    )
    assert key_of("build", one) == key_of("build", other) != key_of("build", plain)


@pytest.mark.parametrize("how", ["option", "variable"])
def test_it_is_chosen_by_option_or_variable(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    seen: list[Choice] = []

    def profile(choice: Choice) -> None:
        seen.append(choice)
        raise UsageError("enough")

    monkeypatch.setattr(Choice, "profile", profile)
    if how == "variable":
        monkeypatch.setenv(sharedcache.VARIABLE, "redis://cache")
    with pytest.raises(UsageError, match="enough"):
        cli.main(
            ["build", *(["--ccache-remote", "redis://cache"] if how == "option" else [])],
            standalone_mode=False,
        )
    assert seen[0].build.shared_cache == "redis://cache"
    monkeypatch.setenv(sharedcache.VARIABLE, "https://cache")
    with pytest.raises(UsageError, match="not understood"):
        cli.main(["build"], standalone_mode=False)
