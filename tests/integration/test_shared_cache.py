"""The shared compiler cache with a real Redis: one machine fills it, another finds what it needs there."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.build.options import Options
from pipeline.core.records import BuildManifest
from pipeline.core.run import run
from pipeline.host.image import BuildImage
from tests import redis_kit
from tests.tiny_kit import Tiny

pytestmark = pytest.mark.integration


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[int]:
    with redis_kit.running_redis(tmp_path) as port:
        yield port


@pytest.fixture
def image(host_in_a_container: BuildImage) -> BuildImage:
    """The host's tools in a container, its ccache known by its version as a build image's is."""
    version = run(["ccache", "--version"]).text.splitlines()[0]
    record = host_in_a_container.record.model_copy(update={"tools": {"ccache": version}})
    return replace(host_in_a_container, record=record)


def forget(state: Path) -> None:
    """What another machine has: neither results nor a compiler cache of its own."""
    for name in ("build", "ccache"):
        shutil.rmtree(state / name)


def build(tiny: Tiny, address: str, image: BuildImage | None = None) -> BuildManifest:
    options = Options(place="container" if image else "host", shared_cache=address)
    return tiny.builder(options, image=image).build(tiny.target("1.1")).manifest


def hits(manifest: BuildManifest) -> int:
    return sum(n for name, n in manifest.ccache.items() if name.endswith("cache_hit"))


def test_a_second_machine_compiles_nothing(tiny: Tiny, state: Path, redis: int) -> None:
    address = f"redis://127.0.0.1:{redis}"
    first = build(tiny, address)
    assert redis_kit.objects(redis) > 0
    assert first.ccache.get("remote_storage_hit", 0) == 0
    missed = first.ccache["cache_miss"]
    assert missed > 0
    forget(state)
    second = build(tiny, address)
    assert second.ccache["remote_storage_hit"] > 0
    assert hits(second) == hits(first) + missed
    assert second.ccache.get("cache_miss", 0) == 0

    # the control: without the shared cache an empty local one finds what it found the first time
    forget(state)
    alone = build(tiny, "")
    assert alone.ccache["cache_miss"] == missed
    assert "remote_storage_hit" not in alone.ccache
    assert alone.key != second.key


def test_in_a_container_it_costs_the_word_hermetic(
    tiny: Tiny, state: Path, redis: int, image: BuildImage
) -> None:
    address = f"redis://127.0.0.1:{redis}"
    first = build(tiny, address, image)
    assert not first.hermetic
    forget(state)
    second = build(tiny, address, image)
    assert not second.hermetic
    assert second.ccache["remote_storage_hit"] > 0
    assert second.rpms == first.rpms
    # what came from there lies in no cache and in no kept tree that a hermetic build begins with
    assert not (state / "trees").exists()
    alone = build(tiny, "", image)
    assert alone.hermetic
    assert not alone.tree
    assert hits(alone) == hits(first)
    assert alone.ccache["cache_miss"] == first.ccache["cache_miss"]
    assert alone.key != second.key


def test_a_cache_that_is_down_is_done_without(
    tiny: Tiny, image: BuildImage, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        manifest = build(tiny, f"redis://127.0.0.1:{closed.getsockname()[1]}", image)
    assert manifest.hermetic  # the container had no network
    assert "does not answer" in capfd.readouterr().err
