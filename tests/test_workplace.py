"""Where a build runs: the same call in the image and on the host, and what tells two workplaces apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.build import workplace
from pipeline.build.workplace import Workplace, host_kernel_headers, host_launcher
from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.errors import ToolMissing
from pipeline.core.records import ImageRecord
from pipeline.host.engine import Engine
from pipeline.host.image import BuildImage

FOREIGN = next(a for a in ARCHES.values() if a != host_arch())
HOST = Workplace(None, "native")


def in_image(env: dict[str, str] | None = None, **tools: str) -> Workplace:
    record = ImageRecord(id="sha256:1", base="b", pinned=True, tools=tools)
    return Workplace(BuildImage(Engine("podman"), "the-image", record, env or {}), "native")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, Any]]]:
    """What was run on the host and in containers, instead of running it."""
    seen: list[tuple[list[str], dict[str, Any]]] = []

    def record(argv: list[str], **options: Any) -> None:
        seen.append((list(argv), options))

    monkeypatch.setattr(workplace, "run", record)
    monkeypatch.setattr("pipeline.host.engine.run", record)
    return seen


def test_one_call_serves_the_image_and_the_host(
    tmp_path: Path, calls: list[tuple[list[str], dict[str, Any]]]
) -> None:
    """In the image directories are mounted under their names there; the host uses its own."""
    log = tmp_path / "log"
    for place in (in_image(), HOST):
        place.run(
            ["ls", place.at("/build", tmp_path), place.at("/src/x", tmp_path / "x")],
            mounts={"/build": tmp_path}, read_only={"/src": tmp_path}, in_memory={"/build/BUILD": 4096},
            env={"A": "b"}, log=log, remedy="mend it",
        )  # fmt: skip
    (inside, options), (outside, others) = calls
    assert inside[0] == "podman"
    assert inside[inside.index("the-image") :] == ["the-image", "ls", "/build", "/src/x"]
    words = " ".join(inside)
    assert f"--volume {tmp_path}:/build --volume {tmp_path}:/src:ro --tmpfs /build/BUILD:" in words
    assert "--env A=b" in words
    assert "--network none" in words
    assert outside == ["ls", str(tmp_path), str(tmp_path / "x")]
    assert others["env"] == {"A": "b"}
    assert (options["log"], others["log"]) == (log, log)
    assert (options["remedy"], others["remedy"]) == ("mend it", "mend it")


def test_what_an_images_programs_are_to_have_is_in_their_environment(
    calls: list[tuple[list[str], dict[str, Any]]],
) -> None:
    in_image({"QEMU_CPU": "max", "A": "c"}).run(["true"], env={"A": "b"})
    words = " ".join(calls[0][0])
    assert "--env QEMU_CPU=max --env A=b the-image true" in words


def test_only_who_asks_for_a_network_gets_one(calls: list[tuple[list[str], dict[str, Any]]]) -> None:
    in_image().run(["true"], network=True)
    assert "--network host" in " ".join(calls[0][0])


def test_what_a_build_is_given_to_compile_with(tmp_path: Path) -> None:
    assert in_image(ccache="ccache 4.8").launcher(tmp_path) == "ccache"
    assert in_image().launcher(tmp_path) == "%{nil}"  # rpm's word for nothing
    assert HOST.launcher(tmp_path) == str(tmp_path / "launcher")
    assert (tmp_path / "launcher").is_file()
    assert in_image().kernel_headers(tmp_path, FOREIGN) == f"/opt/kernel-headers/{FOREIGN.name}"
    assert HOST.kernel_headers(tmp_path, host_arch()) == str(tmp_path / "kernel-headers")


def test_kernel_headers_are_those_of_the_machine_built_for(tmp_path: Path) -> None:
    headers = host_kernel_headers(tmp_path, host_arch())
    assert sorted(p.name for p in headers.iterdir()) == ["asm", "asm-generic", "linux"]
    assert (headers / "asm" / "unistd.h").is_file()
    assert (headers / "linux" / "version.h").is_file()


def test_kernel_headers_of_another_machine_are_never_the_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = f"/usr/{FOREIGN.triplet}/include"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_dir", lambda path: str(path).startswith(there))
        headers = host_kernel_headers(tmp_path, FOREIGN)
    for name in ("linux", "asm", "asm-generic"):
        assert (headers / name).readlink() == Path(there) / name
    monkeypatch.setattr(Path, "is_dir", lambda _: False)
    (tmp_path / "x").mkdir()
    with pytest.raises(ToolMissing, match=f"no kernel headers for {FOREIGN.name}"):
        host_kernel_headers(tmp_path / "x", FOREIGN)


def test_a_workplace_is_known_by_its_image_or_its_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ImageRecord(id="sha256:1", base="b", pinned=True)
    inside = Workplace(BuildImage(Engine("podman"), "name", record), "native")
    assert inside.identity(host_arch()) == {"image": "sha256:1", "mode": "native"}
    assert (inside.name, Workplace(None, "native").name) == ("container", "host")
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    names = ("gcc", "ld", "make", "rpmbuild", f"{FOREIGN.triplet}-gcc", f"{FOREIGN.triplet}-ld")

    def identity(changed: str = "", mode: str = "native") -> str:
        for name in names:
            version = 2 if name == changed else 1
            (directory / name).write_text(f"#!/bin/sh\necho {name} {version}\necho more\n")
            (directory / name).chmod(0o755)
        machine = host_arch() if mode == "native" else FOREIGN
        return Workplace(None, "native").identity(machine)["host"]

    assert identity() == "gcc 1; ld 1; make 1; rpmbuild 1"
    assert len({identity(name) for name in ("", "gcc", "ld", "make", "rpmbuild")}) == 5
    assert identity(f"{FOREIGN.triplet}-gcc", "cross") != identity("", "cross")
    assert identity("gcc", "cross") == identity("", "cross")


def test_the_hosts_compiler_never_writes_down_where_it_ran(tmp_path: Path) -> None:
    script = host_launcher(tmp_path)
    assert os.access(script, os.X_OK)
    assert f"'-ffile-prefix-map={tmp_path}/BUILD=/usr/src/debug'" in script.read_text()
