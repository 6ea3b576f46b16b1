"""Addresses on the network: how they are shown, and whether somebody answers there."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from threading import Thread
from urllib.parse import urlsplit, urlunsplit


def without_password(url: str) -> str:
    """The address as it may be shown and recorded."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def reachable(urls: Sequence[str], *, size: int = 0, timeout: float = 3.0) -> tuple[bool, str]:
    """Whether one of ``urls`` answers for the file within ``timeout`` seconds; else what each said."""
    said: dict[str, str] = {}

    def ask(url: str) -> None:
        said[url] = _refusal(url, size, timeout)

    # daemons: a name server that does not answer must not hold us up, nor the end of the process
    threads = [Thread(target=ask, args=(url,), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout + 1.0
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    answers = {url: said.get(url, "no answer in time") for url in urls}
    for url, trouble in answers.items():
        if not trouble:
            return True, f"{without_password(url)} answers"
    return False, "; ".join(f"{without_password(url)}: {trouble}" for url, trouble in answers.items())


def _refusal(url: str, size: int, timeout: float) -> str:
    """Why the server does not give the file; empty if it does. No HTTP is spoken with nobody."""
    if unresolved(urlsplit(url).netloc):
        return "the name cannot be resolved"
    from pipeline.source import download  # noqa: PLC0415  # what speaks HTTP takes a tenth of a second to load

    return download.refusal(url, size, timeout)


def unresolved(place: str) -> bool:
    """Whether this machine knows no address of the host in ``[USER@]HOST[:PORT]``.

    Where there is a proxy, it is the one who knows.
    """
    if any(name.lower().endswith("_proxy") for name in os.environ):
        return False
    try:
        socket.getaddrinfo(urlsplit(f"//{place}").hostname, None)
    except (OSError, UnicodeError, ValueError):
        return True
    return False
