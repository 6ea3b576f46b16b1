"""The source of a profile: where it comes from, fetched, verified, and unpacked on demand.

``--source`` overrides what the profile pins: ``tarball:PATH-or-URL[#sha256=HEX]``, ``git:REPOSITORY@REF``,
``dir:PATH``. Such a source is not pinned, unless its bytes are the profile's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.errors import PipelineError, SourceUnreachable, UsageError
from pipeline.core.progress import step, warn
from pipeline.core.records import SourceRecord
from pipeline.core.store import file_sha256
from pipeline.debian.apt import PrivateApt
from pipeline.debian.redact import MIRROR
from pipeline.profile import AptSource, Profile
from pipeline.source import address, archive, cache, vcs
from pipeline.source.address import without_password

#: What --source accepts, for messages.
FORMS = "tarball:FILE-or-URL[#sha256=HEX], git:REPOSITORY@REF, dir:PATH"


@dataclass(frozen=True)
class FetchedSource:
    """A verified source on this machine.

    ``record`` is what a sign-off says of it; ``identity`` (JSON) is what a store key needs: equal
    identities are equal trees. ``unpacker`` makes the tree below a directory.
    """

    record: SourceRecord
    identity: dict[str, Any]
    unpacker: Callable[[Path], Path]
    #: the archive itself and its top directory ("" if not known), where the source is one
    file: Path | None = None
    topdir: str = ""

    def unpack(self, into: Path) -> Path:
        """The pristine tree below ``into``; returns its top directory. Verified again before use."""
        return self.unpacker(into)


def fetch(profile: Profile, override: str | None = None) -> FetchedSource:
    """The source of ``profile``, or the one ``override`` (``--source``) names.

    Raises `SourceUnreachable`, `HashMismatch` or `UsageError`.
    """
    if override is None:
        return _pinned(profile)
    kind, colon, rest = override.partition(":")
    if colon and rest:
        match kind:
            case "tarball":
                return _tarball(profile, rest)
            case "git":
                return _git(*vcs.split_git(rest))
            case "dir":
                return _directory(rest)
            case "apt":
                raise UsageError("--source apt: only a profile can pin a file of a suite", hint=FORMS)
    raise UsageError(f"--source {override!r} is not understood", hint=f"write one of: {FORMS}")


def available(profile: Profile) -> tuple[bool, str]:
    """Whether the pinned source is cached or can be had, and why not; asks for a few seconds at most."""
    pin = profile.source
    if cache.cached(pin.sha256, pin.file):
        return True, f"{pin.file} is cached"
    if not isinstance(pin, AptSource):
        return address.reachable(pin.urls, size=pin.size)
    try:
        PrivateApt(pin.suite, host_arch().deb).probe()
    except PipelineError as e:
        return False, e.message
    return True, f"{MIRROR} answers for {pin.suite}"


def ways_to_supply(profile: Profile) -> str:
    """Each way a user can supply the pinned source, as a remedy."""
    pin = profile.source
    ways = [
        "fix the network or set http_proxy and https_proxy, and run the same command again",
        f"put the file at {cache.place(pin.sha256, pin.file)}",
        f"give it with --source tarball:PATH-or-URL (pinned if its sha256 is {pin.sha256})",
        "give another one with --source git:REPOSITORY@REF or --source dir:PATH (not release grade)",
    ]
    if isinstance(pin, AptSource):
        ways.insert(
            1, "name a Debian mirror in the host's apt sources (/etc/apt/sources.list.d/debian.sources)"
        )
    return "; or ".join(ways)


def _pinned(profile: Profile) -> FetchedSource:
    pin = profile.source
    with cache.alone(pin.sha256):
        kept = cache.cached(pin.sha256, pin.file)
        if isinstance(pin, AptSource):
            origin = f"{pin.file} of source package {pin.package}, suite {pin.suite}, {MIRROR}"
            kept = kept or _from_apt(profile, pin, origin)
            return _file("apt", origin, kept, pin.sha256, pin.topdir, pinned=True)
        if kept is None:
            part = paths.state() / "sources" / "partial" / f"{pin.sha256}-{pin.file}"
            try:
                url = _downloaded(
                    pin.urls, part, title=f"fetch {pin.file}", sha256=pin.sha256, size=pin.size,
                    hint=ways_to_supply(profile),
                )  # fmt: skip
            except SourceUnreachable as e:
                raise SourceUnreachable(f"{pin.file} cannot be had: {e.message}", hint=e.hint) from e
            kept = cache.admit(part, pin.sha256, pin.file, without_password(url))
        # any mirror's file of that hash is the same file, so the record names the first
        return _file("tarball", without_password(pin.urls[0]), kept, pin.sha256, pin.topdir, pinned=True)


def _from_apt(profile: Profile, pin: AptSource, origin: str) -> Path:
    work = paths.state() / "sources" / "partial"
    apt = PrivateApt(pin.suite, host_arch().deb)
    with step(f"fetch {pin.file}") as current:
        try:
            arrived = apt.download_source_file(pin.package, pin.file, work, on_progress=current.at)
        except SourceUnreachable as e:
            raise SourceUnreachable(e.message, hint=ways_to_supply(profile)) from e
    return cache.admit(arrived, pin.sha256, pin.file, origin)


def _file(kind: Any, origin: str, file: Path, sha256: str, topdir: str, *, pinned: bool) -> FetchedSource:
    return FetchedSource(
        record=SourceRecord(kind=kind, origin=origin, sha256=sha256, pinned=pinned),
        identity={"kind": "archive", "sha256": sha256},
        unpacker=partial(_unpack, file, sha256, topdir),
        file=file,
        topdir=topdir,
    )


def _unpack(file: Path, sha256: str, topdir: str, into: Path) -> Path:
    seen = file_sha256(file)
    if seen != sha256:
        where = "it was left where it is"
        raise cache.mismatch(file.name, sha256, seen, str(file.parent), where)
    with step(f"unpack {file.name}"):
        return archive.unpack(file, into, topdir=topdir)


def _tarball(profile: Profile, text: str) -> FetchedSource:
    location, _, fragment = text.partition("#")
    match = re.match(r"^sha256=([0-9a-f]{64})$", fragment)
    if fragment and not match:
        raise UsageError(
            f"--source tarball:…#{fragment} is no hash", hint="write #sha256= and 64 hexadecimal digits"
        )
    expected = match[1] if match else ""
    if re.match(r"^https?://", location):
        return _tarball_url(profile, location, expected)
    file = Path(location.removeprefix("file://")).expanduser()
    if not file.is_file():
        raise UsageError(f"--source tarball:{location}: there is no such file", hint=f"write one of: {FORMS}")
    file = file.resolve()
    seen = file_sha256(file)
    if expected and seen != expected:  # the user's own file is left where it is
        raise cache.mismatch(file.name, expected, seen, str(file.parent), "it was left where it is")
    return _overriding(profile, f"tarball:{file.name}", file, seen)


def _tarball_url(profile: Profile, url: str, expected: str) -> FetchedSource:
    file = Path(urlsplit(url).path).name or "source.tar"
    shown = without_password(url)
    kept = cache.cached(expected, file) if expected else None
    if kept is None:
        part = paths.state() / "sources" / "partial" / f"{expected or 'unknown'}-{file}"
        hint = f"check the address and the network (http_proxy, https_proxy), or write another of: {FORMS}"
        with cache.alone(expected or "unknown"):
            if not expected:  # what is left of another download could not be distinguished from this one's
                part.unlink(missing_ok=True)
            _downloaded([url], part, title=f"fetch {file}", sha256=expected, hint=hint)
            sha256 = expected or file_sha256(part)
            kept = cache.admit(part, sha256, file, shown)
        if not expected:
            warn(f"{file} came without a hash to hold it to; write tarball:{shown}#sha256={sha256} to pin it")
    return _overriding(profile, f"tarball:{shown}", kept, kept.parent.name)


def _downloaded(urls: Sequence[str], part: Path, **how: Any) -> str:
    """As `pipeline.source.download.download`, which is loaded for what has to be fetched."""
    from pipeline.source.download import download  # noqa: PLC0415

    return download(urls, part, **how)


def _overriding(profile: Profile, origin: str, file: Path, sha256: str) -> FetchedSource:
    pinned = sha256 == profile.source.sha256
    topdir = profile.source.topdir if pinned else ""
    return _file("tarball", origin, file, sha256, topdir, pinned=pinned)


def _git(repository: str, ref: str) -> FetchedSource:
    commit = vcs.fetch_commit(repository, ref)
    return _file("git", commit.origin, commit.archive, commit.sha256, "", pinned=False)


def _directory(text: str) -> FetchedSource:
    top, sha256 = vcs.directory(text)
    return FetchedSource(
        record=SourceRecord(kind="dir", origin=f"dir:{top.name}", sha256=sha256, pinned=False),
        identity={"kind": "tree", "sha256": sha256},
        unpacker=partial(vcs.copy_directory, top, sha256),
    )


__all__ = ["FORMS", "FetchedSource", "available", "fetch", "ways_to_supply"]
