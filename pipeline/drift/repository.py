"""dnf repositories: repomd.xml, primary.xml and packages, every one held to the checksum that names it.

The chain is metalink (if there is one) -> repomd.xml -> primary -> package. Mirrors are tried in order; one
that is dead or gives other bytes is named and the next is asked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote, urljoin, urlsplit
from xml.etree import ElementTree

from pipeline.core.errors import HashMismatch, MalformedInput, NoMirror, PipelineError, SourceUnreachable
from pipeline.core.progress import warn
from pipeline.drift.errors import NothingThere
from pipeline.drift.sources import DnfSource
from pipeline.rpm.evr import Evr
from pipeline.rpm.payload import decompressed
from pipeline.source.address import without_password
from pipeline.source.download import download

REPOMD = "repodata/repomd.xml"
#: Bounds in bytes: of what has no stated size, of an unpacked primary, of one package.
MAX_LIST, MAX_PRIMARY, MAX_PACKAGE = 16 << 20, 1 << 30, 1 << 30
#: Checksums that are good enough to rest on; sha1 and md5 are not.
STRONG = {"sha256": "sha256", "sha384": "sha384", "sha512": "sha512"}
_COMPRESSORS = {".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bzip2", ".xml": "none"}
_RELEASE = re.compile(r"\$(basearch|arch)\b")
_HINT = (
    "check the network (http_proxy, https_proxy) and the addresses of the source; other sources still count"
)


@dataclass(frozen=True)
class Sum:
    """A checksum: algorithm and hexadecimal digest. ``size`` in bytes, 0 if not stated."""

    algorithm: str
    digest: str
    size: int = 0

    def check(self, file: Path, what: str) -> None:
        """Raises `HashMismatch` naming the file, or `MalformedInput` for a checksum too weak to rest on."""
        if self.algorithm not in STRONG:
            raise MalformedInput(f"{what} is announced by a {self.algorithm} checksum, which proves nothing")
        with file.open("rb") as f:
            seen = hashlib.file_digest(f, STRONG[self.algorithm]).hexdigest()
        if seen != self.digest.lower():
            raise HashMismatch(f"{what} has {self.algorithm} {seen}, announced was {self.digest}: altered")


@dataclass(frozen=True)
class Offered:
    """A package in the index: where it is below the repository, and what it must be."""

    name: str
    evr: Evr
    href: str
    sum: Sum


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element | None:
    return next((c for c in element if _tag(c) == name), None)


def _xml(text: bytes, what: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as e:
        raise MalformedInput(f"{what} is not XML: {e}") from None


def _sum(element: ElementTree.Element, what: str) -> Sum:
    checksum, size = _child(element, "checksum"), _child(element, "size")
    if checksum is None or not (checksum.text or "").strip():
        raise MalformedInput(f"{what} has no checksum")
    stated = "0" if size is None else size.get("package", size.text or "0")
    return Sum(
        checksum.get("type", ""), (checksum.text or "").strip(), int(stated) if stated.isdigit() else 0
    )


class Repository:
    """One repository for one architecture; files go to ``scratch``."""

    def __init__(self, source: DnfSource, arch: str, scratch: Path) -> None:
        self.source, self.arch, self.scratch = source, arch, scratch
        self._number = 0

    def newest(self, names: Sequence[str]) -> dict[str, Path]:
        """The newest package of each name, fetched and verified.

        Raises `NothingThere` if the repository has no such package; `SourceUnreachable`, `HashMismatch` or
        `MalformedInput` if no mirror gives a whole and consistent answer, with what was wrong with each.
        """
        troubles: list[PipelineError] = []
        bases, vouched = self._bases(troubles)
        for base in bases:
            try:
                return self._from(base, vouched, names)
            except NothingThere:
                raise
            except PipelineError as e:
                troubles.append(e)
                if base is not bases[-1]:
                    warn(f"{self.source.name}: {e.message}; trying the next mirror")
        said = "; ".join(_of_one_mirror(e) for e in troubles)
        worst = next((e for e in troubles if not isinstance(e, SourceUnreachable)), None)
        kind = type(worst) if worst else SourceUnreachable
        raise kind(f"{self.source.name} ({self.arch}): no mirror gave what was asked for: {said}", hint=_HINT)

    # -- mirrors ----------------------------------------------------------------------------------------

    def _bases(self, troubles: list[PipelineError]) -> tuple[list[str], tuple[Sum, ...]]:
        """Directories of the repository, and what repomd.xml may be by the metalink (nothing: anything)."""
        source = self.source
        found: list[str] = []
        vouched: tuple[Sum, ...] = ()
        if source.metalink:
            try:
                text = self._small(self._filled(source.metalink), "metalink")
                found, vouched = _metalink(text, f"the metalink of {source.name}")
            except PipelineError as e:
                troubles.append(e)
        if source.mirrorlist:
            try:
                text = self._small(self._filled(source.mirrorlist), "mirrorlist")
                lines = (line.strip() for line in text.decode(errors="replace").splitlines())
                found += [self._filled(x) for x in lines if x.startswith(("http://", "https://"))]
            except PipelineError as e:
                troubles.append(e)
        found += [self._filled(url) for url in source.baseurl]
        return list(dict.fromkeys(f"{url.rstrip('/')}/" for url in found)), vouched

    def _filled(self, url: str) -> str:
        return _RELEASE.sub(self.arch, url.replace("{arch}", self.arch))

    def _small(self, url: str, what: str) -> bytes:
        return self._fetch(url, f"{what} of {self.source.name}", MAX_LIST).read_bytes()

    def _fetch(self, url: str, title: str, limit: int, name: str = "") -> Path:
        """One address, afresh: an index is another one the next day."""
        self._number += 1
        file = self.scratch / f"{self._number}" / (name or "file")
        download([url], file, title=f"fetch {title}", size=limit, hint=_HINT)
        if file.stat().st_size > limit:
            raise MalformedInput(f"{without_password(url)} has more than {limit} bytes")
        return file

    # -- from one mirror --------------------------------------------------------------------------------

    def _from(self, base: str, vouched: Sequence[Sum], names: Sequence[str]) -> dict[str, Path]:
        shown = without_password(base)
        repomd = self._fetch(urljoin(base, REPOMD), f"repomd.xml of {self.source.name}", MAX_LIST)
        if vouched:
            _any(vouched, repomd, f"{shown}{REPOMD}")
        href, total = _primary(repomd.read_bytes(), f"{shown}{REPOMD}")
        what = f"{shown}{href}"
        primary = self._fetch(_joined(base, href, what), f"primary of {self.source.name}",
                              total.size or MAX_PRIMARY)  # fmt: skip
        total.check(primary, what)
        offered = list(self._offered(primary, href, what, frozenset(names)))
        files: dict[str, Path] = {}
        for name in names:
            of_name = [o for o in offered if o.name == name]
            if not of_name:
                raise NothingThere(
                    f"{shown} has no package {name} for {self.arch}",
                    hint="check `packages` of the source; the repository itself answered",
                )
            best = max(of_name, key=lambda o: o.evr)
            files[name] = self._package(base, shown, best)
        return files

    def _package(self, base: str, shown: str, offered: Offered) -> Path:
        what = f"{shown}{offered.href}"
        name = Path(urlsplit(offered.href).path).name
        if not name.endswith(".rpm"):
            raise MalformedInput(f"{what}: not the name of an RPM")
        size = offered.sum.size or MAX_PACKAGE
        file = self._fetch(_joined(base, offered.href, what), name, size, name)
        offered.sum.check(file, what)
        return file

    def _offered(self, primary: Path, href: str, what: str, names: frozenset[str]) -> Iterator[Offered]:
        """Packages of these names for our architecture."""
        compressor = _COMPRESSORS.get(Path(href).suffix)
        if compressor is None:
            raise MalformedInput(f"{what}: compressed in a way that is not known")
        with primary.open("rb") as file, decompressed(file, compressor, what) as stream:
            bounded = cast(BinaryIO, _Bounded(stream.read, what))
            try:
                depth = 0
                for event, element in ElementTree.iterparse(bounded, ("start", "end")):
                    depth += 1 if event == "start" else -1
                    if event == "end" and depth == 1:
                        if _tag(element) == "package":
                            yield from self._if_wanted(element, what, names)
                        element.clear()
            except ElementTree.ParseError as e:
                raise MalformedInput(f"{what} is not XML: {e}") from None

    def _if_wanted(self, element: ElementTree.Element, what: str, names: frozenset[str]) -> Iterator[Offered]:
        name, arch = _child(element, "name"), _child(element, "arch")
        if name is None or arch is None or arch.text != self.arch or name.text not in names:
            return
        version, location = _child(element, "version"), _child(element, "location")
        href = "" if location is None else location.get("href", "")
        epoch = "0" if version is None else version.get("epoch", "0")
        if version is None or not href or not epoch.isdigit():
            raise MalformedInput(f"{what}: package {name.text} has no version or no location")
        evr = Evr(int(epoch), version.get("ver", ""), version.get("rel", ""))
        yield Offered(name.text or "", evr, href, _sum(element, f"{what}: package {name.text}"))


def _of_one_mirror(error: PipelineError) -> str:
    """What is wrong with one mirror, in one line; `download`'s list of one needs no heading."""
    return "; ".join(error.troubles) if isinstance(error, NoMirror) else " ".join(error.message.split())


class _Bounded:
    """A stream that may not become longer than a primary can be."""

    def __init__(self, read: object, what: str) -> None:
        self._read, self._what, self._left = read, what, MAX_PRIMARY

    def read(self, size: int = -1) -> bytes:
        assert callable(self._read)
        data: bytes = self._read(1 << 16 if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise MalformedInput(f"{self._what} expands to more than {MAX_PRIMARY} bytes")
        return data


def _joined(base: str, href: str, what: str) -> str:
    """An address below the repository; an index may not send us elsewhere."""
    parts = href.split("/")
    if "://" in href or href.startswith("/") or ".." in parts:
        raise MalformedInput(f"{what}: leads out of the repository")
    return urljoin(base, quote(href, safe="/+~^%"))


def _any(sums: Iterable[Sum], file: Path, what: str) -> None:
    """One of the sums (newest and older generations that mirrors may still have) must fit."""
    strong = [s for s in sums if s.algorithm in STRONG]
    if not strong:
        raise MalformedInput(f"{what}: the metalink has no checksum to rest on")
    trouble: HashMismatch | None = None
    for one in strong:
        try:
            one.check(file, what)
        except HashMismatch as e:
            trouble = trouble or e
        else:
            return
    assert trouble is not None
    raise trouble


def _primary(text: bytes, what: str) -> tuple[str, Sum]:
    """Where the primary index is, and its checksum."""
    for data in _xml(text, what):
        if _tag(data) == "data" and data.get("type") == "primary":
            location = _child(data, "location")
            if location is not None and location.get("href"):
                return location.get("href", ""), _sum(data, f"{what}: primary")
    raise MalformedInput(f"{what} names no primary index")


def _metalink(text: bytes, what: str) -> tuple[list[str], tuple[Sum, ...]]:
    """Directories in the order of preference, and the checksums repomd.xml may have (Metalink 3)."""
    urls: list[tuple[int, str]] = []
    sums: list[Sum] = []
    for element in _xml(text, what).iter():
        value = (element.text or "").strip()
        if _tag(element) == "url" and value.endswith(REPOMD) and value.startswith(("http://", "https://")):
            preference = element.get("preference", "0")
            urls.append((-int(preference) if preference.isdigit() else 0, value.removesuffix(REPOMD)))
        elif _tag(element) == "hash":
            sums.append(Sum(element.get("type", ""), value))
    if not urls or not sums:
        raise MalformedInput(f"{what} names no mirror or no checksum of repomd.xml")
    return [url for _, url in sorted(urls, key=lambda u: u[0])], tuple(sums)
