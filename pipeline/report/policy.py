"""What the page may do: its own style sheet and its own script, each named by its hash, and nothing else.

Drawings come with style attributes, which a hash cannot allow; they become classes of the style sheet.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re

_STYLE = re.compile(r'style="([^"]*)"')
_ELEMENT = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)


class Drawings:
    """Takes the styles out of drawings; the same style has the same class on the whole page."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}
        self._of_all: dict[str, None] = {}

    def without_styles(self, svg: str) -> str:
        """The drawing with classes in place of style attributes and elements."""
        for found in _ELEMENT.findall(svg):
            self._of_all[found.strip().replace("*{", ".plot *{")] = None
        return _STYLE.sub(self._classed, _ELEMENT.sub("", svg))

    def _classed(self, found: re.Match[str]) -> str:
        style = html.unescape(found[1])
        return f'class="{self._classes.setdefault(style, f"d{len(self._classes)}")}"'

    @property
    def css(self) -> str:
        """The rules that the classes stand for."""
        own = [f".plot .{name} {{ {style} }}" for style, name in self._classes.items()]
        return "\n".join([*self._of_all, *own])


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy of a page with this style sheet and this script (CSP level 2, hashes)."""
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
