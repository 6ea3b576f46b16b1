"""A compiler cache that several machines share: ccache's remote storage (Redis, HTTP), as an option.

Whoever can write there decides what ends up in a package, and a container that asks it has a network. A
build that used one is therefore recorded as not hermetic, and its results are stored apart from others'.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from pipeline.core.errors import UsageError
from pipeline.core.progress import warn

#: Where the address is read from; ``--ccache-remote`` is the same.
VARIABLE = "PIPELINE_CCACHE_REMOTE"
#: Schemes of ccache's that need nothing but a network, and their ports.
PORTS = {"redis": 6379, "http": 80}
#: ccache's name of the setting changed with 4.7; before 4.4 there was none (doc/NEWS.adoc).
RENAMED, FIRST = (4, 7), (4, 4)
ANSWER_SECONDS = 3.0


@dataclass(frozen=True)
class SharedCache:
    """``address`` as ccache takes it: ``redis://HOST[:PORT]``, ``http://HOST[:PORT]/PATH``."""

    address: str

    @property
    def _url(self) -> SplitResult:
        return urlsplit(self.address.partition("|")[0])

    @property
    def host(self) -> tuple[str, int]:
        """Host and port."""
        return self._url.hostname or "", self._url.port or PORTS[self._url.scheme]

    def __str__(self) -> str:
        """For people: without user and password."""
        return f"{self._url.scheme}://{self.host[0]}:{self.host[1]}{self._url.path}"

    def answers(self) -> bool:
        """Whether somebody accepts a connection there."""
        try:
            socket.create_connection(self.host, timeout=ANSWER_SECONDS).close()
        except OSError:
            return False
        return True


def parse(address: str) -> SharedCache:
    """The shared cache at an address; raises `UsageError` for what ccache would not take."""
    hint = "redis://[USER:PASSWORD@]HOST[:PORT] or http://HOST[:PORT]/PATH, then |KEY=VALUE as in ccache"
    cache = SharedCache(address)
    try:
        scheme, host = cache._url.scheme, cache._url.hostname
        good = scheme in PORTS and bool(host) and not re.search(r"\s", address) and cache.host[1] > 0
    except ValueError:  # a port that is no number
        good = False
    if not good:
        raise UsageError("the address of the shared compiler cache is not understood", hint=hint)
    return cache


def setting(ccache: str) -> str:
    """The environment variable by which a ccache takes the address; "" if it has no remote storage.

    ``ccache`` is the first line of ``ccache --version``; "" if there is none.
    """
    found = re.search(r"(\d+)\.(\d+)", ccache)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < FIRST:
        return ""
    return "CCACHE_REMOTE_STORAGE" if version >= RENAMED else "CCACHE_SECONDARY_STORAGE"


def usable(address: str, version: Callable[[], str]) -> dict[str, str]:
    """What a build's environment gains; nothing, and a warning, where the cache cannot be used now.

    A build does not fail for want of it: it is only slower. ``version`` gives the first line of
    ``ccache --version``. Raises `UsageError` for a malformed address.
    """
    if not address:
        return {}
    cache = parse(address)
    ccache = version()
    name = setting(ccache)
    if not name:
        warn(f"{ccache or 'no ccache here'}: it has no remote storage, so {cache} is not used")
        return {}
    if not cache.answers():
        warn(f"the shared compiler cache {cache} does not answer and is not used for this build")
        return {}
    return {name: address}
