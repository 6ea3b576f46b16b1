"""Container images: what a program sees of all layers, and no layer that is not the one that is named."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pipeline import profile as profiles
from pipeline.scan import Scan, scan
from pipeline.scan.judge import Answer
from tests.scan import kit


class Hard(str):
    """The name that a hard link is to."""


#: name -> content, or where a link points; None: a directory
Layer = Mapping[str, bytes | str | None]


def tar(layer: Layer) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in layer.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type = tarfile.LNKTYPE if isinstance(content, Hard) else tarfile.SYMTYPE
                info.linkname = content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return raw.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Image:
    """An OCI image layout under construction."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "blobs" / "sha256").mkdir(parents=True)
        self.manifests: list[dict[str, Any]] = []

    def blob(self, data: bytes) -> dict[str, Any]:
        name = digest(data)
        (self.directory / "blobs" / "sha256" / name.partition(":")[2]).write_bytes(data)
        return {"digest": name, "size": len(data)}

    def add(self, layers: Sequence[Layer], machine: str = "amd64") -> Image:
        plain = [tar(layer) for layer in layers]
        packed = [
            zstandard.compress(p) if n % 3 == 2 else gzip.compress(p) if n % 3 else p
            for n, p in enumerate(plain)
        ]
        config = {"os": "linux", "architecture": machine, "rootfs": {"diff_ids": [digest(p) for p in plain]}}
        return self.manifest(config, [self.blob(p) for p in packed])

    def manifest(self, config: Mapping[str, Any], layers: list[dict[str, Any]]) -> Image:
        manifest = {"config": self.blob(json.dumps(config).encode()), "layers": layers}
        self.manifests.append(self.blob(json.dumps(manifest).encode()))
        (self.directory / "index.json").write_text(json.dumps({"manifests": self.manifests}))
        return self

    def as_docker(self, file: Path) -> Path:
        """The same as ``docker save`` writes it."""
        manifest = json.loads(self._blob(self.manifests[0]["digest"]))
        with tarfile.open(file, "w") as archive:
            names = []
            for part in (manifest["config"], *manifest["layers"]):
                names.append(part["digest"].partition(":")[2])
                self._put(archive, names[-1], self._blob(part["digest"]))
            record = [{"Config": names[0], "Layers": names[1:]}]
            self._put(archive, "manifest.json", json.dumps(record).encode())
        return file

    def _blob(self, name: str) -> bytes:
        return (self.directory / "blobs" / "sha256" / name.partition(":")[2]).read_bytes()

    @staticmethod
    def _put(archive: tarfile.TarFile, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


def scanned(named: str) -> Scan:
    profile = profiles.load("bookworm")
    return scan(profile, profile.names, (kit.ARCH.name,), [Path(named)])


def answers(named: str) -> dict[str, list[Answer]]:
    return {f.item.member: [j.answer for j in f.judgements.values()] for f in scanned(named).files}


GOOD, BAD = [Answer.STARTS] * 3, [Answer.FAILS, Answer.STARTS, Answer.STARTS]


@pytest.fixture
def stack(tmp_path: Path, plain: Path, rseq: Path) -> Image:
    good, bad = plain.read_bytes(), rseq.read_bytes()
    return Image(tmp_path / "image").add(
        [
            {
                "usr/bin/kept": good,
                "usr/bin/gone": bad,
                "usr/bin/mended": bad,
                "usr/bin/spoilt": good,
                "opt/old/a": bad,
                "opt/old/deep/b": bad,
                "srv/x/c": bad,
                "var/file": bad,
                "var/way/d": bad,
            },
            {"usr/bin/.wh.gone": b"", "./usr/bin/mended": good, "usr/bin/spoilt": bad, "srv/.wh.x": b""},
            {"opt/old/new": good, "opt/old/.wh..wh..opq": b"", "var/file/in": good, "var/way": "/usr/bin"},
        ]
    )


@pytest.mark.parametrize("kind", ["oci", "docker-archive"])
def test_a_container_sees_the_last_of_each(stack: Image, tmp_path: Path, kind: str) -> None:
    where = stack.directory if kind == "oci" else stack.as_docker(tmp_path / "image.tar")
    assert answers(f"{kind}:{where}") == {
        "usr/bin/kept": GOOD,
        "usr/bin/mended": GOOD,
        "usr/bin/spoilt": BAD,
        "opt/old/new": GOOD,
        "var/file/in": GOOD,
    }


def test_what_was_taken_away_may_come_again(tmp_path: Path, rseq: Path) -> None:
    layers: list[Layer] = [{"bin/a": rseq.read_bytes()}, {"bin/.wh.a": b""}, {"bin/a": rseq.read_bytes()}]
    image = Image(tmp_path / "image").add(layers)
    assert answers(f"oci:{image.directory}") == {"bin/a": BAD}


def test_libraries_of_other_layers_come_along(tmp_path: Path) -> None:
    kit.program(tmp_path, "libx.so", kit.USES_RSEQ.replace("main", "x"), "-shared", "-fPIC")
    user = kit.program(
        tmp_path, "user", "int x (void);\nint main (void) { return x (); }\n", f"-L{tmp_path}", "-lx"
    )
    layers: list[Layer] = [{"usr/lib/libx.so": (tmp_path / "libx.so").read_bytes()}]
    layers.append({"usr/bin/user": user.read_bytes()})
    image = Image(tmp_path / "image").add(layers)
    assert answers(f"oci:{image.directory}")["usr/bin/user"] == BAD


def test_each_platform_for_itself(tmp_path: Path, plain: Path, rseq: Path) -> None:
    image = Image(tmp_path / "image").add([{"bin/a": plain.read_bytes()}])
    image.add([{"bin/a": rseq.read_bytes()}], "arm64")
    assert answers(f"oci:{image.directory}") == {"linux/amd64!bin/a": GOOD, "linux/arm64!bin/a": BAD}


def test_attestations_and_further_names_are_no_images(tmp_path: Path, plain: Path) -> None:
    """As docker buildx writes it: an index of the image and of statements about it."""
    image = Image(tmp_path / "image").add([{"bin/a": plain.read_bytes()}])
    statement = b'{"_type": "https://in-toto.io/Statement/v0.1"}'
    layer = {"mediaType": "application/vnd.in-toto+json", **image.blob(statement)}
    unknown = {"os": "unknown", "architecture": "unknown", "rootfs": {"diff_ids": [digest(statement)]}}
    image.manifest(unknown, [layer])
    index = image.blob(json.dumps({"manifests": image.manifests}).encode())
    named = {"manifests": [index, {**index, "annotations": {"org.opencontainers.image.ref.name": "latest"}}]}
    (image.directory / "index.json").write_text(json.dumps(named))
    assert answers(f"oci:{image.directory}") == {"bin/a": GOOD}


def test_a_file_is_seen_by_the_name_of_its_hard_link(tmp_path: Path, plain: Path, rseq: Path) -> None:
    """Its own name was taken away, or is another file now: the link still is what it was."""
    good, bad = plain.read_bytes(), rseq.read_bytes()
    first: Layer = {
        "bin/a": bad,
        "bin/b": Hard("bin/a"),
        "bin/c": bad,
        "bin/d": Hard("bin/c"),
        "bin/e": Hard("bin/d"),
    }
    layers: list[Layer] = [first, {"bin/.wh.a": b"", "bin/c": good}]
    image = Image(tmp_path / "image").add(layers)
    assert answers(f"oci:{image.directory}") == {"bin/b": BAD, "bin/c": GOOD, "bin/d": BAD}
    three: list[Layer] = [{"bin/a": bad}, {"bin/b": Hard("bin/a")}, {"bin/.wh.a": b""}]
    other = Image(tmp_path / "other").add(three)
    assert answers(f"oci:{other.directory}") == {"bin/b": BAD}
    whole = Image(tmp_path / "whole").add([first])
    assert answers(f"oci:{whole.directory}") == {"bin/a": BAD, "bin/c": BAD}


def blob_of(image: Image, number: int) -> Path:
    manifest = json.loads(image._blob(image.manifests[0]["digest"]))
    name = manifest["layers"][number]["digest"].partition(":")[2]
    return image.directory / "blobs" / "sha256" / str(name)


def test_an_exchanged_layer_is_no_answer(stack: Image, tmp_path: Path, plain: Path) -> None:
    other = stack.as_docker(tmp_path / "image.tar")
    blob_of(stack, 0).write_bytes(tar({"usr/bin/kept": plain.read_bytes()}))
    (only,) = scanned(f"oci:{stack.directory}").files
    assert "is not what its name says" in only.item.trouble
    assert {j.answer for j in only.judgements.values()} == {Answer.UNKNOWN}
    with tarfile.open(other) as archive:
        parts = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    first = json.loads(parts["manifest.json"])[0]["Layers"][0]
    parts[first] = tar({"usr/bin/kept": plain.read_bytes()})
    with tarfile.open(other, "w") as archive:
        for name, data in parts.items():
            stack._put(archive, name, data)
    (only,) = scanned(f"docker-archive:{other}").files
    assert "layer 0 is not the one that its configuration names" in only.item.trouble


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"manifests": []}', '{"manifests": [{"digest": "sha256:../x"}]}']
)
def test_what_is_no_image_is_no_answer(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    (only,) = scanned(f"oci:{tmp_path}").files
    assert only.item.trouble
    (tmp_path / "x.tar").write_bytes(text.encode())
    (only,) = scanned(f"docker-archive:{tmp_path / 'x.tar'}").files
    assert only.item.trouble
