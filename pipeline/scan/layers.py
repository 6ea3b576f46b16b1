"""Container images as files: an OCI image layout (``oci:DIR``), or what ``docker save`` writes.

The latter is ``docker-archive:FILE``. An image is a stack of layers (tar archives). What a program sees is
their union: a later layer's file takes the place of an earlier one's, ``.wh.NAME`` takes NAME away and
``.wh..wh..opq`` everything that earlier layers have in its directory (OCI image specification, layer.md).
Blobs must have the sha256 they are named by, and layers the one that the image's configuration names: a layer
that was exchanged is refused.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from pipeline.core import jsontext
from pipeline.core.errors import MalformedInput
from pipeline.scan import archives
from pipeline.scan.archives import Member
from pipeline.scan.limits import CHUNK, Limits

OCI, DOCKER = "oci:", "docker-archive:"
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})$")
_REMEDY = "save the image again; nothing was said of what could not be read"
#: JSON documents of an image are small; more is none.
_MOST_JSON = 16 << 20


def is_image(named: str) -> bool:
    """Whether the user named a container image."""
    return named.startswith((OCI, DOCKER))


def path_of(named: str) -> Path:
    """The directory or file of an image."""
    return Path(named.partition(":")[2])


def members(named: str, limits: Limits) -> Iterator[Member]:
    """The files and links that a container of the image sees; of several platforms one after the other.

    Of an image for several platforms the names begin with ``OS/ARCH!``. Raises `MalformedInput`.
    """
    with _opened(named) as store:
        images = store.images()
        for platform, layers in images:
            begin = f"{platform}!" if len(images) > 1 else ""
            for member in _united(layers, store, limits):
                yield member._replace(name=f"{begin}{member.name}")


class _Store:
    """Where the blobs are: a directory, or a directory that an archive was unpacked into."""

    def __init__(self, root: Path, named: str) -> None:
        self.root, self.named = root, named

    def wrong(self, what: str) -> MalformedInput:
        return MalformedInput(f"{self.named}: {what}", hint=_REMEDY)

    def path(self, name: str) -> Path:
        """A file of the image; its name is not trusted."""
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root.resolve()) or not path.is_file():
            raise self.wrong(f"it has no file {name}")
        return path

    def json(self, path: Path) -> dict[str, Any] | list[Any]:
        try:
            if path.stat().st_size > _MOST_JSON:
                raise self.wrong(f"{path.name} is too large")
            found = jsontext.loads(path.read_bytes())
        except (ValueError, RecursionError):
            raise self.wrong(f"{path.name} is not JSON") from None
        if not isinstance(found, dict | list):
            raise self.wrong(f"{path.name} is no record")
        return found

    def blob(self, descriptor: Any) -> Path:
        """The blob of a descriptor, whose hash is looked at."""
        digest = _DIGEST.match(str(descriptor.get("digest"))) if isinstance(descriptor, dict) else None
        if digest is None:
            raise self.wrong("a blob is named by no sha256")
        path = self.path(f"blobs/sha256/{digest[1]}")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest[1]:
                raise self.wrong(f"the blob {digest[1][:12]} is not what its name says")
        return path

    def images(self) -> list[tuple[str, list[Path]]]:
        """(platform, its layers from the bottom up)."""
        try:
            return self._docker() if self.named.startswith(DOCKER) else self._oci()
        except (KeyError, TypeError, AttributeError, IndexError) as e:
            raise self.wrong(f"its records make no sense ({e})") from None

    def _oci(self) -> list[tuple[str, list[Path]]]:
        found = []
        pending = list(_record(self.json(self.path("index.json")))["manifests"])
        seen = set()
        while pending:
            blob = self.blob(pending.pop(0))
            if blob in seen:  # one image under several names
                continue
            seen.add(blob)
            manifest = _record(self.json(blob))
            if "manifests" in manifest:
                pending += manifest["manifests"]
                continue
            if _is_statement(manifest):
                continue
            config = _record(self.json(self.blob(manifest["config"])))
            if "rootfs" not in config:  # a signature
                continue
            layers = [self.blob(d) for d in manifest["layers"]]
            self._as_configured(config, layers)
            found.append((f"{config.get('os')}/{config.get('architecture')}", layers))
        if not found:
            raise self.wrong("it holds no image")
        return found

    def _docker(self) -> list[tuple[str, list[Path]]]:
        found = []
        images = self.json(self.path("manifest.json"))
        for image in images if isinstance(images, list) else ():
            config = _record(self.json(self.path(image["Config"])))
            layers = [self.path(name) for name in image["Layers"]]
            self._as_configured(config, layers)
            found.append((f"{config.get('os')}/{config.get('architecture')}", layers))
        if not found:
            raise self.wrong("it holds no image")
        return found

    def _as_configured(self, config: dict[str, Any], layers: list[Path]) -> None:
        """The layers unpacked must have the hashes that the configuration names (rootfs.diff_ids)."""
        wanted = config["rootfs"]["diff_ids"]
        if len(wanted) != len(layers):
            raise self.wrong(f"{len(layers)} layers, and its configuration names {len(wanted)}")
        for number, (layer, digest) in enumerate(zip(layers, wanted, strict=True)):
            with layer.open("rb") as file, archives.unpacked(file, f"{self.named}: layer {number}") as stream:
                made = hashlib.sha256()
                while chunk := stream.read(CHUNK):
                    made.update(chunk)
            if f"sha256:{made.hexdigest()}" != digest:
                raise self.wrong(f"layer {number} is not the one that its configuration names")


def _is_statement(manifest: dict[str, Any]) -> bool:
    """Whether a manifest is one of an attestation or another artifact: none of its layers is a tar archive.

    docker buildx adds one to each image, with a rootfs of statements in JSON.
    """
    kinds = [str(layer.get("mediaType", "tar")) for layer in manifest["layers"]]
    return bool(kinds) and not any("tar" in kind for kind in kinds)


def _record(found: dict[str, Any] | list[Any]) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise TypeError("a list is no record")
    return found


@contextmanager
def _opened(named: str) -> Iterator[_Store]:
    path = path_of(named)
    if named.startswith(OCI):
        yield _Store(path, named)
        return
    with tempfile.TemporaryDirectory(prefix="scan-image-") as top:
        try:
            with tarfile.open(path) as archive:
                for info in archive:
                    target = Path(top, info.name)
                    if not target.resolve().is_relative_to(Path(top).resolve()):
                        raise MalformedInput(f"{named}: a name leads out of it: {info.name}", hint=_REMEDY)
                    if info.issym() or info.islnk():  # older docker: one layer under two names
                        base = Path(top) if info.islnk() else target.parent
                        source = (base / info.linkname).resolve()
                        if source.is_relative_to(Path(top).resolve()) and source.is_file():
                            target.parent.mkdir(parents=True, exist_ok=True)
                            shutil.copyfile(source, target)
                    elif info.isreg():
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with target.open("wb") as file:
                            shutil.copyfileobj(cast(BinaryIO, archive.extractfile(info)), file)
        except (tarfile.TarError, EOFError) as e:
            raise MalformedInput(f"{named}: not a whole tar archive: {e}", hint=_REMEDY) from None
        yield _Store(Path(top), named)


def _united(layers: list[Path], store: _Store, limits: Limits) -> Iterator[Member]:
    """What is seen of all layers: first of which layer each name is, then those files."""
    seen: dict[str, int] = {}
    sources: dict[str, tuple[int, str]] = {}  # a hard link -> the layer and name of the file it is
    for number, layer in enumerate(layers):
        _stack(_layer(layer, number, store, limits), number, seen, sources)
    orphans = _orphans(seen, sources)
    instead = set(orphans.values())
    for number, layer in enumerate(layers):
        for member in _layer(layer, number, store, limits):
            path = _path(member)
            if seen.get(path) == number and path not in instead:
                yield member._replace(name=path)
            if not member.link and (number, path) in orphans:
                yield member._replace(name=orphans[number, path])


def _stack(
    members: Iterator[Member], number: int, seen: dict[str, int], sources: dict[str, tuple[int, str]]
) -> None:
    """Lay one more layer over what is seen."""
    names, gone, opaque = [], [], []
    same: dict[str, str] = {}
    for member in members:
        path = _path(member)
        directory, _, base = path.rpartition("/")
        if base == OPAQUE:
            opaque.append(directory)
        elif base.startswith(WHITEOUT):
            gone.append(f"{directory}/{base[len(WHITEOUT) :]}".lstrip("/"))
        else:
            names.append(path)
            if member.hard:
                same[path] = _path(Member(member.link, b""))
    _take_away(seen, [*gone, *names], opaque)
    for path in names:
        for parent in _parents(path):  # a directory where a file or link was
            seen.pop(parent, None)
        sources.pop(path, None)
    seen.update(dict.fromkeys(names, number))
    for path, target in same.items():
        if target in seen:
            sources[path] = sources.get(target, (seen[target], target))


def _orphans(seen: dict[str, int], sources: dict[str, tuple[int, str]]) -> dict[tuple[int, str], str]:
    """The files that are seen by the name of a hard link alone, for their own is gone."""
    found: dict[tuple[int, str], str] = {}
    for link, (number, name) in sources.items():
        if link in seen and seen.get(name) != number:
            found.setdefault((number, name), link)
    return found


def _path(member: Member) -> str:
    return posixpath.normpath(f"/{member.name}").lstrip("/")


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _layer(layer: Path, number: int, store: _Store, limits: Limits) -> Iterator[Member]:
    where = f"{store.named}: layer {number}"
    with layer.open("rb") as file:
        found = archives.members(file, where, limits)
        if found is None:
            raise MalformedInput(f"{where} is no tar archive", hint=_REMEDY)
        yield from found


def _take_away(seen: dict[str, int], gone: list[str], opaque: list[str]) -> None:
    """Remove from what lower layers have ``gone`` with all below, and all that is below ``opaque``."""
    directories = {parent for path in seen for parent in _parents(path)} | {""}
    whole = {path for path in gone if path in directories} | {path for path in opaque if path in directories}
    for path in gone:
        seen.pop(path, None)
    if whole:
        for name in [n for n in seen if "" in whole or any(parent in whole for parent in _parents(n))]:
            del seen[name]
