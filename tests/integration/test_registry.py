"""Base images from a real registry (Debian's docker-registry) on loopback: by tag and by digest.

What must not be taken for the image: another digest, other bytes, another architecture, half of it.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from pipeline.core import paths
from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.errors import ExitCode, SourceUnreachable
from pipeline.core.run import run
from pipeline.host import engine as engines
from pipeline.host import image as images
from pipeline.host.engine import Engine
from pipeline.profile import Profile, load_file
from tests.tiny_kit import PROFILE

pytestmark = pytest.mark.integration

FOREIGN = next(a for a in ARCHES.values() if a != host_arch())
CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
MADE = "made=by-a-test"
#: podman speaks plain HTTP to a loopback address only if it is told to
INSECURE = '[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n'


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Registry:
    """A registry and its files; ``digest`` is that of the list of both architectures' images."""

    port: int
    root: Path
    engine: Engine
    digest: str = ""

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}/base"

    def forget(self, *more: str) -> None:
        """Remove what was pulled, so that the next pull asks the registry."""
        for name in (f"{self.name}:1", f"{self.name}@{self.digest}", *more):
            run([self.engine.program, "rmi", "--force", name], success_codes=None)


def configured(home: Path, *ports: int) -> None:
    directory = home / ".config" / "containers"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "registries.conf").write_text(
        "".join(INSECURE.replace("127.0.0.1", f"127.0.0.1:{port}") for port in ports)
    )


@pytest.fixture
def registry(
    bare_image: tuple[Engine, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Registry]:
    """A registry that has ``base:1`` for both architectures, with a megabyte that does not compress."""
    program = shutil.which("docker-registry")
    assert program, "docker-registry is not installed: `nox -s setup` installs what tests need"
    assert next(engines.importers()).program == "podman", "docker takes no HOME for its registries"
    port = free_port()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    configured(tmp_path / "home", port)
    (tmp_path / "config.yml").write_text(CONFIG.format(root=tmp_path / "registry", port=port))
    engine = Engine("podman")
    with subprocess.Popen(
        [program, "serve", tmp_path / "config.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_for(port)
            made = Registry(port, tmp_path / "registry", engine)
            made.digest = fill(made, bare_image[1], tmp_path)
            yield made
            made.forget()
            engine.call("image", "prune", "--force", "--filter", f"label={MADE}")
        finally:
            server.terminate()


def wait_for(port: int) -> None:
    end = time.monotonic() + 30
    while True:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"http://127.0.0.1:{port}/v2/", timeout=5).ok:
                return
        assert time.monotonic() < end, "the registry does not answer"
        time.sleep(0.1)


def fill(made: Registry, bare: str, work: Path) -> str:
    """Push ``base:1`` for both architectures; the digest of the list."""
    engine, names = made.engine, []
    script = (
        f"mkdir {work}/root && cd {work}/root && "
        f"podman save --format docker-archive {bare} | tar -xO --wildcards '*.tar' | tar -x && "
        "ln -s witness bin/sh && head -c 1000000 /dev/urandom > data/noise"
    )
    run(["sh", "-c", script])
    for machine in ARCHES.values():
        (work / "root" / "data" / "arch").write_text(machine.name)
        run(["tar", "-C", work / "root", "-cf", work / "root.tar", "."])
        names.append(f"localhost/glibc-pipeline-tests-registry:{machine.deb}-{made.port}")
        label = ("--change", f"LABEL {MADE}")
        engine.call("import", "--arch", machine.deb, "--os", "linux", *label, work / "root.tar", names[-1])
    both = f"localhost/glibc-pipeline-tests-list:{made.port}"
    engine.call("manifest", "create", both)
    for name in names:
        engine.call("manifest", "add", both, f"containers-storage:{name}")
    engine.call("manifest", "push", "--all", both, f"docker://{made.name}:1")
    engine.call("manifest", "rm", both)
    engine.call("rmi", "--force", *names)
    head = requests.head(
        f"http://127.0.0.1:{made.port}/v2/base/manifests/1", timeout=10,
        headers={"Accept": "application/vnd.docker.distribution.manifest.list.v2+json, "
                 "application/vnd.oci.image.index.v1+json"},
    )  # fmt: skip
    return str(head.headers["Docker-Content-Digest"])


@pytest.fixture
def containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe that adds nothing to its base."""
    directory = tmp_path / "containers"
    (directory / "bare").mkdir(parents=True)
    (directory / "bare" / "Containerfile").write_text(f"ARG BASE\nFROM ${{BASE}}\nLABEL {MADE}\n")
    (directory / "bare" / "packages.txt").write_text("")
    monkeypatch.setattr(paths, "CONTAINERS", directory)
    return directory


def profile(tmp_path: Path, reference: str) -> Profile:
    text = PROFILE.format(arch=host_arch().name, zeros="0" * 64)
    image = f'[image]\nbase = "registry"\nreference = "{reference}"\ndirectory = "bare"\n'
    start, _, rest = text.partition("[image]")
    file = tmp_path / "p.toml"
    file.write_text(start + image + "\n[" + rest.partition("\n[")[2])
    return load_file(file)


def arch_in(registry: Registry, name: str) -> str:
    """Which architecture's image a local name is, by what is in it."""
    made = registry.engine.call("create", "--platform", f"linux/{FOREIGN.deb}", name, "true")
    container = made.text.strip()
    try:
        tar = subprocess.run(["podman", "export", container], capture_output=True, check=True).stdout
    finally:
        registry.engine.call("rm", "--force", container)
    listed = subprocess.run(["tar", "-xO", "./data/arch"], input=tar, capture_output=True, check=False)
    plain = subprocess.run(["tar", "-xO", "data/arch"], input=tar, capture_output=True, check=False)
    return (listed.stdout or plain.stdout).decode()


def remove(registry: Registry, made: images.BuildImage) -> None:
    registry.forget(made.name, f"{made.name}-base")


@pytest.mark.usefixtures("containers")
def test_by_tag_and_by_digest(registry: Registry, tmp_path: Path) -> None:
    """What is recorded names the digest in both cases: a tag may be moved tomorrow."""
    by_tag = images.ensure(profile(tmp_path, f"{registry.name}:1"))
    assert by_tag.record.pinned
    assert by_tag.record.base.startswith(f"{registry.name}:1 (sha256:")
    remove(registry, by_tag)
    by_digest = images.ensure(profile(tmp_path, f"{registry.name}@{registry.digest}"))
    assert by_digest.record.base == f"{registry.name}@{registry.digest}"
    before = by_digest.record.id
    (registry.root / "docker").rename(registry.root / "gone")  # it is here now, and nobody is asked
    assert images.ensure(profile(tmp_path, f"{registry.name}@{registry.digest}")).record.id == before
    remove(registry, by_digest)


@pytest.mark.usefixtures("containers")
def test_a_digest_that_the_registry_does_not_have(registry: Registry, tmp_path: Path) -> None:
    wrong = registry.digest[:-4] + ("0000" if registry.digest[-4:] != "0000" else "1111")
    with pytest.raises(SourceUnreachable, match="cannot be pulled") as failed:
        images.ensure(profile(tmp_path, f"{registry.name}@{wrong}"))
    assert failed.value.exit_code == ExitCode.WORLD
    assert "--image" in failed.value.hint


@pytest.mark.usefixtures("containers")
def test_other_bytes_under_the_digest_are_refused(registry: Registry, tmp_path: Path) -> None:
    """The registry gives a layer that is not the one its manifest names."""
    layers = [p for p in registry.root.rglob("data") if p.is_file() and p.stat().st_size > 500_000]
    assert layers
    for layer in layers:
        data = bytearray(layer.read_bytes())
        data[len(data) // 2] ^= 1
        layer.write_bytes(data)
    with pytest.raises(SourceUnreachable, match="cannot be pulled"):
        images.ensure(profile(tmp_path, f"{registry.name}@{registry.digest}"))


def test_each_architecture_gets_its_own_image(registry: Registry) -> None:
    """One name, one digest, two images; and what is in local storage already is looked at, not taken."""
    name = f"{registry.name}@{registry.digest}"
    for machine in (host_arch(), FOREIGN, host_arch()):
        images._pull(name, machine, registry.engine)
        assert registry.engine.architecture(name) == machine.deb
    images._pull(name, FOREIGN, registry.engine)
    assert arch_in(registry, name) == FOREIGN.name


def test_a_name_that_is_there_for_one_architecture_only(registry: Registry) -> None:
    name = f"{registry.name}:1"
    images._pull(name, host_arch(), registry.engine)
    single = f"{registry.name}:single"
    registry.engine.call("tag", name, single)
    registry.engine.call("push", single)
    with pytest.raises(SourceUnreachable, match=f"not for {FOREIGN.deb}|cannot be pulled"):
        images._pull(single, FOREIGN, registry.engine)
    registry.forget(single)


class Failing:
    """A way to the registry that breaks after ``limit`` bytes of answers, until the limit is lifted."""

    def __init__(self, target: int, limit: int) -> None:
        self.target, self.limit, self.passed = target, limit, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.server.getsockname()[1])
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.server.accept()
                threading.Thread(target=self.forward, args=(client,), daemon=True).start()

    def forward(self, client: socket.socket) -> None:
        if self.passed >= self.limit:
            client.close()
            return
        with client, socket.create_connection(("127.0.0.1", self.target)) as upstream:
            threading.Thread(target=self.copy, args=(client, upstream, False), daemon=True).start()
            self.copy(upstream, client, True)

    def copy(self, source: socket.socket, to: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                if answers:
                    self.passed += len(data)
                    if self.passed >= self.limit:
                        to.sendall(data[:100])
                        break
                to.sendall(data)
        for end in (source, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.usefixtures("containers")
def test_a_registry_that_dies_half_way(registry: Registry, tmp_path: Path) -> None:
    """Half an image is no image; the next try, when it is back, has it whole."""
    failing = Failing(registry.port, 400_000)
    configured(tmp_path / "home", registry.port, failing.port)
    reference = f"127.0.0.1:{failing.port}/base@{registry.digest}"
    with pytest.raises(SourceUnreachable, match="cannot be pulled"):
        images.ensure(profile(tmp_path, reference))
    assert failing.passed >= failing.limit, "it never came half way"
    assert registry.engine.image_id(reference) is None
    failing.limit = 1 << 40
    made = images.ensure(profile(tmp_path, reference))
    assert made.record.base == reference
    failing.server.close()
    registry.forget(made.name, f"{made.name}-base", reference)
