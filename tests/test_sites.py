"""Where programs are watched: refused before anything is built, or known by all that could change it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.errors import UsageError
from pipeline.core.records import ImageRecord
from pipeline.host import engine as engines
from pipeline.host.engine import Engine
from pipeline.host.image import BuildImage
from pipeline.place import machine
from pipeline.profile import Kernel, Profile, load
from pipeline.verify.observe import host_identity
from pipeline.verify.sites import Sites

FOREIGN = next(a for a in ARCHES.values() if a != host_arch())


@pytest.fixture
def profile() -> Profile:
    """One kernel is there for the foreign architecture alone."""
    found = load("bookworm").model_copy(deep=True)
    found.kernel = [Kernel(name="odd", suite="bookworm", packages={FOREIGN.name: "linux-image-odd"})]
    return found


def test_a_kernel_is_asked_for_only_where_one_is_booted(
    profile: Profile, capfd: pytest.CaptureFixture[str]
) -> None:
    Sites(profile, (), ("odd",)).check([host_arch(), FOREIGN])
    assert capfd.readouterr().err == ""
    Sites(profile, (), ("odd",)).check([host_arch()])
    assert "--kernel odd boots nothing here" in " ".join(capfd.readouterr().err.split())
    with pytest.raises(UsageError, match=f"has no kernel 'odd' for {host_arch().name}"):
        Sites(profile, ("vm",), ("odd",)).check([host_arch()])
    with pytest.raises(UsageError, match=f"names no kernel for {host_arch().name}"):
        Sites(profile, ("vm",)).check([FOREIGN, host_arch()])


def test_what_user_mode_qemu_showed_is_asked_anew_of_another_qemu(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = tmp_path / f"qemu-{FOREIGN.qemu}-static"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def identities(version: str) -> list[Mapping[str, Any] | None]:
        emulator.write_text(f"#!/bin/sh\necho {emulator.name} version {version}\necho Copyright\n")
        emulator.chmod(0o755)
        sites = Sites(profile, ("qemu-user", "host"))
        (user,), (host,) = sites.for_arch(FOREIGN, tmp_path), sites.for_arch(host_arch(), tmp_path)
        return [user.identity, host.identity]

    (old, host), (new, same) = identities("7.2"), identities("10.0")
    assert old == {**host_identity(), "qemu": f"{emulator.name} version 7.2"}
    assert new == {**host_identity(), "qemu": f"{emulator.name} version 10.0"}
    assert host == same == host_identity()


def test_a_containers_observation_is_bound_to_engine_and_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter that lets through what another refused is another place."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    before = engines.policy()
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers" / "seccomp.json").write_text('{"defaultAction": "SCMP_ACT_ERRNO"}')
    added = engines.policy()
    assert set(added) - set(before) == {str(tmp_path / "containers" / "seccomp.json")}
    (tmp_path / "containers" / "seccomp.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert engines.policy() != added
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "own.conf"))
    (tmp_path / "own.conf").write_text("[containers]\n")
    assert str(tmp_path / "own.conf") in engines.policy()


def test_the_machine_is_part_of_a_virtual_machines_identity(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another layout of processors and nodes shows other faults."""
    image = tmp_path / "Image"
    image.write_bytes(b"\0" * 0x38 + b"ARM\x64" + b"\0" * 64)

    def identity() -> Mapping[str, Any]:
        (site,) = Sites(profile, ("vm",), (str(image),)).for_arch(ARCHES["aarch64"], tmp_path)
        assert site.identity is not None
        return site.identity

    before = identity()
    assert identity() == before
    monkeypatch.setattr(machine, "_nodes", lambda *_: [])
    assert identity() != before


def test_the_engine_is_part_of_a_containers_identity(profile: Profile, tmp_path: Path) -> None:
    def identity(engine: Engine) -> Mapping[str, Any]:
        record = ImageRecord(id="sha256:" + "a" * 64, base="mmdebstrap bookworm", pinned=True)
        image = BuildImage(engine=engine, name="image", record=record)
        (site,) = Sites(profile, ("container",), image=image).for_arch(host_arch(), tmp_path)
        assert site.identity is not None
        return site.identity

    plain, limited = Engine("podman"), Engine("podman", ("--runtime", "runc"))
    assert identity(plain) != identity(limited)
    assert identity(plain) != identity(Engine("docker"))
    assert identity(plain) == identity(plain)


def test_a_file_that_cannot_be_read_is_refused_even_if_nothing_boots_it(
    profile: Profile, tmp_path: Path
) -> None:
    image = tmp_path / "Image.gz"
    image.write_bytes(gzip.compress(b"\0" * 0x38 + b"ARM\x64" + b"\0" * 64))
    Sites(profile, (), (str(image),)).check([host_arch()])
    with pytest.raises(UsageError, match=r"kernel .*/none: No such file"):
        Sites(profile, (), (str(tmp_path / "none"),)).check([host_arch()])
