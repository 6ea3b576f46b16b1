"""Downloads that survive a bad network: resumed, retried, and taken from the next mirror if one is dead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import requests
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from pipeline.core.errors import HashMismatch, NoMirror
from pipeline.core.progress import Running, step, warn
from pipeline.core.store import file_sha256
from pipeline.source import cache
from pipeline.source.address import without_password

#: seconds to connect, and between two bytes
TIMEOUT = (10.0, 30.0)
ATTEMPTS = 4
#: seconds before the second attempt; doubled for each one after it
PAUSE = 0.5
#: bytes a read; what a breaking connection may cost
CHUNK = 1 << 14
HEADERS = {"Accept-Encoding": "identity"}  # a length and an offset must mean bytes of the file


class _TryAgain(Exception):
    """Something that may be over the next time: a broken connection, a busy server."""


class _Hopeless(Exception):
    """This mirror does not have it."""


def download(
    urls: Sequence[str],
    part: Path,
    *,
    title: str,
    sha256: str = "",
    size: int = 0,
    hint: str = "",
) -> str:
    """Fetch one file to ``part`` from the first of ``urls`` that gives it; returns that address.

    What an earlier run left in ``part`` is gone on with. With ``sha256`` the bytes are verified; a mirror
    that gives other bytes is named, the bytes are put aside, and the next one is asked. ``size`` (bytes, 0
    if unknown) bounds what is taken.

    Raises `SourceUnreachable` naming every address and what was wrong with it, or `HashMismatch` if
    something came but nothing right.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    troubles: list[str] = []
    wrong: HashMismatch | None = None
    with step(title) as current:
        for url in urls:
            for again in (True, False):
                resumed = part.exists()
                try:
                    _from_one(url, part, size, current)
                except _Hopeless as e:
                    troubles.append(f"{without_password(url)}: {e}")
                    break
                seen = file_sha256(part)
                if not sha256 or seen == sha256:
                    current.done(f"{part.stat().st_size / 1e6:.1f} MB")
                    return url
                wrong = cache.quarantine(part, sha256, seen, without_password(url))
                troubles.append(wrong.message)
                if not (resumed and again):  # put together of two downloads it deserves a second try
                    break
            if url is not urls[-1]:
                warn(f"{troubles[-1]}; trying the next mirror")
        if wrong is not None:
            raise HashMismatch("; ".join(troubles), hint=wrong.hint)
        message = "no mirror gave the file:\n  " + "\n  ".join(troubles)
        raise NoMirror(message, hint=hint, troubles=troubles)


def _from_one(url: str, part: Path, size: int, current: Running) -> None:
    """All bytes of ``url`` in ``part``, however often the connection breaks. Raises `_Hopeless`."""
    try:
        for attempt in Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(multiplier=PAUSE, max=10),
            retry=retry_if_exception_type(_TryAgain),
        ):
            with attempt:
                _transfer(url, part, size, current)
    except RetryError as e:
        raise _Hopeless(f"{e.last_attempt.exception()} ({ATTEMPTS} attempts)") from None


def _transfer(url: str, part: Path, size: int, current: Running) -> None:
    """One request, from where ``part`` ends."""
    have = part.stat().st_size if part.exists() else 0
    headers = {**HEADERS, **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            total = _total(answer, have, part)
            if total is None:
                return
            start = have if answer.status_code == 206 else 0
            _write(answer, part, start, size or total, current)
    except requests.RequestException as e:
        if isinstance(e, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            raise _Hopeless(f"no usable address: {e}") from None
        if isinstance(e, requests.exceptions.TooManyRedirects):
            raise _Hopeless("it redirects without end") from None
        raise _TryAgain(_why(e)) from None
    got = part.stat().st_size
    if total and got < min(total, size or total):
        raise _TryAgain(f"the transfer broke off at {got} of {total} bytes")


def _total(answer: requests.Response, have: int, part: Path) -> int | None:
    """Length of the whole file as the server tells it (0: it does not); None if ``part`` is all of it."""
    code = answer.status_code
    if code == 416:  # nothing after what we have: it is whole, or of another file
        known = re.match(r"^bytes \*/(\d+)$", answer.headers.get("Content-Range", ""))
        if known and int(known[1]) == have:
            return None
        part.unlink(missing_ok=True)
        raise _TryAgain("the partial download was not of this file")
    if code in (408, 425, 429) or code >= 500:
        raise _TryAgain(f"HTTP status {code}")
    if code not in (200, 206):
        raise _Hopeless(f"HTTP status {code} {answer.reason}")
    if code == 206:
        span = re.match(r"^bytes (\d+)-\d+/(\d+|\*)$", answer.headers.get("Content-Range", ""))
        if not span or int(span[1]) != have:
            part.unlink(missing_ok=True)
            raise _TryAgain("the server gave another range than was asked for")
        return 0 if span[2] == "*" else int(span[2])
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else 0


def _write(answer: requests.Response, part: Path, start: int, size: int, current: Running) -> None:
    """The body behind the first ``start`` bytes of ``part``; at most one chunk more than ``size`` bytes."""
    got = start
    with part.open("r+b" if start else "wb") as f:
        f.seek(start)
        for block in answer.iter_content(CHUNK):
            f.write(block)
            got += len(block)
            current.at(f"{got / 1e6:.1f} of {size / 1e6:.1f} MB" if size else f"{got / 1e6:.1f} MB")
            if size and got > size:  # not the file that was asked for: its hash will say so
                break


def _why(error: requests.RequestException) -> str:
    """The cause in few words; requests' own text repeats addresses and object names."""
    text = str(error)
    for sign, words in (
        ("NameResolutionError", "the name cannot be resolved"),
        ("Connection refused", "connection refused"),
        ("Network is unreachable", "the network is unreachable"),
        ("IncompleteRead", "the transfer broke off"),
        ("Connection reset", "the connection was reset"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate cannot be verified"),
        ("ProxyError", "the proxy does not answer"),
        ("Tunnel connection failed", "the proxy refused"),
    ):
        if sign in text:
            return words
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    return type(error).__name__


def refusal(url: str, size: int, timeout: float) -> str:
    """Why the server does not give the file; empty if it does."""
    try:
        with requests.get(url, headers=HEADERS, stream=True, timeout=(timeout, timeout)) as answer:
            if answer.status_code != 200:
                return f"HTTP status {answer.status_code}"
            length = answer.headers.get("Content-Length", "")
            if size and length.isdigit() and int(length) != size:
                return f"a file of {length} bytes, not {size}"
            return ""
    except requests.RequestException as e:
        return _why(e)
