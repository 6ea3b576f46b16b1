"""The names of mirrors and proxies are the host's own business: they are taken out of messages."""

from __future__ import annotations

import re

MIRROR = "the host's Debian mirror"


def redact(text: str, uris: list[str]) -> str:
    """``text`` without the addresses ``uris``, their hosts, or any other address with a scheme or number."""
    for uri in sorted(uris, key=len, reverse=True):
        text = text.replace(uri.rstrip("/"), MIRROR)
    for uri in uris:
        match = re.match(r"^[^:]+://(?:[^@/]*@)?([^/:]+)", uri)
        if match:
            text = text.replace(match[1], MIRROR)
    text = re.sub(r"\b[a-z0-9+.-]+://[^\s/'\"]+", MIRROR, text)
    text = re.sub(r"(connect(?:ion)? to|resolv(?:e|ing)) '?[\w.-]+'?(:\d+)?", r"\1 (a host)", text)
    return re.sub(r"\[?IP: [0-9a-fA-F.: ]+\]?|\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+)?", "(address)", text)
