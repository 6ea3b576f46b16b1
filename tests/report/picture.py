"""docs/report.png: the top of the page of made-up evidence, with the text of that page in the file itself.

``python -m tests.report.picture`` writes it anew; tests/integration/test_report_browser.py compares its text
with the page's.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from selenium import webdriver

from pipeline.core import paths
from pipeline.report import html
from tests.report.browser_kit import emulate, started
from tests.report.factory import Draft, draft

FILE = paths.REPO / "docs" / "report.png"
WIDTH, HEIGHT = 1200, 1080
#: the PNG's text chunk
KEY = "page"


def made_up() -> Draft:
    """A backport that also brings a function of upstream's node, which no release of RHEL 9 had then."""
    made = draft()
    for check, release, seen in (
        ("abi.delta", "12.0 -> 12.0.z", "not expected:\n+ libc.so.6: GLIBC_2.35 epoll_pwait2 F"),
        ("abi.node-whole", "12.0.z", "libc.so.6 gained GLIBC_2.35, which it must not have: epoll_pwait2"),
    ):
        made.spoil(check, seen=seen, arch="x86_64", release=release)
    return made


def text_of(browser: webdriver.Chrome, directory: Path) -> str:
    """Open the page, and what it says and how it is drawn (its style sheet)."""
    path = directory / "report.html"
    path.write_text(html.render(made_up().evidence()))
    emulate(browser, "light")
    browser.get(path.as_uri())
    styles = "[...document.querySelectorAll('style')].map(s => s.textContent)"
    return str(browser.execute_script(f"return document.body.innerText + {styles}"))


def recorded() -> str:
    """The text of the page that the committed picture was made from."""
    with Image.open(FILE) as picture:
        assert picture.size == (WIDTH, HEIGHT)
        return str(picture.info[KEY])


def main() -> None:
    with tempfile.TemporaryDirectory() as work, started(Path(work) / "chromium") as browser:
        text = text_of(browser, Path(work))
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
        taken = browser.execute_cdp_cmd(
            "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
        )
        info = PngInfo()
        info.add_itxt(KEY, text, zip=True)
        with Image.open(io.BytesIO(base64.b64decode(taken["data"]))) as picture:
            picture.convert("P", palette=Image.Palette.ADAPTIVE).save(FILE, pnginfo=info, optimize=True)


if __name__ == "__main__":
    main()
