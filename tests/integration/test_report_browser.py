"""The page in a real browser: nothing is loaded, no accessibility rule is broken, keyboard and print work."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pipeline.report import html
from tests.report import picture
from tests.report.browser_kit import emulate, started
from tests.report.factory import Draft, release_grade
from tests.report.test_renderings import hostile_draft, red_draft

pytestmark = pytest.mark.integration

#: Requirements that axe-core checks: WCAG 2.1 A and AA, and its best practices.
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
    "resultTypes": ["violations"],
}
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with started(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@cache
def page(made: Callable[[], Draft]) -> str:
    return html.render(made().evidence())


def shown(
    browser: webdriver.Chrome, made: Callable[[], Draft], directory: Path, theme: str = "light"
) -> None:
    """Open the page of some evidence in a theme."""
    path = directory / "report.html"
    path.write_text(page(made))
    emulate(browser, theme)
    browser.get(path.as_uri())


def complaints(browser: webdriver.Chrome) -> list[dict[str, Any]]:
    """What the browser wrote to its console since it was last asked."""
    return cast(list[dict[str, Any]], browser.get_log("browser"))  # type: ignore[no-untyped-call]


def violations(browser: webdriver.Chrome) -> list[str]:
    # two lists of findings stand for all: axe looks at every cell of what is open. The drawings are hidden
    # from screen readers (a table has their figures); their colours have a test of their own.
    browser.execute_script(
        "[...document.querySelectorAll('details')].slice(0, 2).forEach(d => d.open = true)"
    )
    browser.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text())
    found: dict[str, Any] = browser.execute_async_script(
        "const done = arguments[1];axe.run(document, arguments[0]).then(done, e => done({error: String(e)}))",
        RULES,
    )
    assert "error" not in found, found
    assert len(found["passes"]) > 20, "axe checked next to nothing"
    return [
        f"{v['id']}: {v['help']}: {n['target']} {n.get('failureSummary', '')}"
        for v in found["violations"]
        for n in v["nodes"]
    ]


@pytest.mark.parametrize(
    ("made", "theme"),
    [(release_grade, "light"), (red_draft, "light"), (red_draft, "dark"), (hostile_draft, "dark")],
)
def test_no_accessibility_rule_is_broken(
    browser: webdriver.Chrome, tmp_path: Path, made: Callable[[], Draft], theme: str
) -> None:
    shown(browser, made, tmp_path, theme)
    assert violations(browser) == []


def test_the_accessibility_check_can_fail(browser: webdriver.Chrome, tmp_path: Path) -> None:
    shown(browser, release_grade, tmp_path)
    browser.execute_script("document.querySelector('p').style.color = '#ddd'; document.body.lang = 'zz'")
    assert violations(browser)


def test_nothing_is_requested_and_nothing_complains(browser: webdriver.Chrome, tmp_path: Path) -> None:
    complaints(browser)
    browser.execute_cdp_cmd("Network.enable", {})
    shown(browser, hostile_draft, tmp_path)
    entries = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [e for e in entries if not e.startswith("data:")] == []
    assert complaints(browser) == []
    assert browser.execute_script("return document.scripts.length") == 1


def test_the_policy_forbids_what_the_page_does_not_do(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """An image from elsewhere put into the page by whatever means is blocked by its own policy."""
    shown(browser, release_grade, tmp_path)
    blocked = browser.execute_async_script(
        """
        const done = arguments[0], image = new Image();
        document.addEventListener('securitypolicyviolation', e => done(e.violatedDirective));
        image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image);
        """
    )
    assert blocked == "img-src"


@pytest.mark.parametrize(
    ("does", "directive"),
    [
        (
            "const s = document.createElement('script'); s.textContent = '1'; document.body.append(s)",
            "script-src",
        ),
        ("document.body.setAttribute('onclick', '1'); document.body.click()", "script-src"),
        (
            "const s = document.createElement('style'); s.textContent = 'p{}'; document.body.append(s)",
            "style-src",
        ),
        ("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')", "style-src"),
    ],
)
def test_no_other_script_or_style_runs(
    browser: webdriver.Chrome, tmp_path: Path, does: str, directive: str
) -> None:
    shown(browser, release_grade, tmp_path)
    blocked = browser.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', e => done(e.violatedDirective));"
        "setTimeout(() => done('nothing'), 20000);" + does
    )
    complaints(browser)
    assert blocked.startswith(directive)


def rows(browser: webdriver.Chrome) -> list[str]:
    """What is shown of the findings: check and outcome."""
    return cast(
        list[str],
        browser.execute_script(
            "return [...document.querySelectorAll('#findings tbody tr')].filter(r => r.checkVisibility())"
            ".map(r => r.closest('details').dataset.check + ' ' + r.dataset.outcome)"
        ),
    )


def choose(browser: webdriver.Chrome, name: str, value: str) -> None:
    browser.execute_script(
        "const f = document.getElementById(arguments[0]); f.value = arguments[1];"
        "f.dispatchEvent(new Event('change')); f.dispatchEvent(new Event('input'));",
        name,
        value,
    )


def test_findings_are_filtered_and_searched_without_a_server(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    shown(browser, red_draft, tmp_path)
    evidence = red_draft().evidence()
    choose(browser, "by-outcome", "FAIL")
    assert rows(browser) == [f"{f.check} FAIL" for f in evidence.findings if f.outcome.name == "FAIL"]
    choose(browser, "by-outcome", "")
    newest, check = evidence.profile.releases[-1], evidence.findings[0].check
    choose(browser, "by-check", check)
    choose(browser, "by-release", newest)
    wanted = [f for f in evidence.findings if f.check == check and f.target.release.endswith(newest)]
    assert len(rows(browser)) == len(wanted) > 0
    choose(browser, "by-text", "no such words anywhere")
    assert rows(browser) == []
    assert browser.find_element(By.ID, "shown").text.startswith("0 of ")
    browser.find_element(By.ID, "clear").click()
    assert browser.find_element(By.ID, "shown").text == f"{len(evidence.findings)} findings"


def test_a_link_opens_its_finding(browser: webdriver.Chrome, tmp_path: Path) -> None:
    shown(browser, red_draft, tmp_path)
    finding = red_draft().evidence().problems[0]
    choose(browser, "by-outcome", "PASS")
    browser.find_element(By.CSS_SELECTOR, f"#p-{html.permalink(finding)} a").click()
    row = browser.find_element(By.ID, html.permalink(finding))
    assert row.is_displayed()
    assert finding.outcome.name in row.text
    browser.get("about:blank")
    browser.get(f"{(tmp_path / 'report.html').as_uri()}#{html.permalink(finding)}")
    assert browser.find_element(By.ID, html.permalink(finding)).is_displayed()


def test_without_scripts_the_filter_is_not_shown(browser: webdriver.Chrome, tmp_path: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        shown(browser, red_draft, tmp_path)
        assert not browser.find_element(By.ID, "filter").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_keyboard_reaches_the_verdict_and_every_wide_table(browser: webdriver.Chrome, tmp_path: Path) -> None:
    shown(browser, release_grade, tmp_path)
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the verdict"
    assert skip.location["x"] >= 0
    skip.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "verdict"
    reachable = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')]"
        ".every(e => e.tabIndex === 0 && e.getAttribute('role') === 'group')"
    )
    assert reachable


@pytest.mark.parametrize("theme", THEMES)
def test_plots_take_the_colours_of_the_theme(browser: webdriver.Chrome, tmp_path: Path, theme: str) -> None:
    shown(browser, release_grade, tmp_path, theme)
    script = "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])"
    ink = browser.execute_script(script, ".plot text", "fill")
    assert ink == browser.execute_script(script, "body", "color")
    assert sum(int(x) for x in ink[4:-1].split(",")) > 600 or theme == "light"
    fixed = browser.execute_script(
        "return [...document.querySelectorAll('.plot [style]')].map(e => e.getAttribute('style'))"
        ".filter(s => /#[0-9a-f]{3}|rgb|black|white/i.test(s))"
    )
    assert fixed == []
    assert browser.execute_script("return document.querySelectorAll('.plot text').length") > 20
    background = browser.execute_script(script, "body", "background-color")
    assert background == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 23, 27)")


def test_columns_stay_under_their_headings_on_a_phone(browser: webdriver.Chrome, tmp_path: Path) -> None:
    shown(browser, release_grade, tmp_path)
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        lefts = browser.execute_script(
            "return [...document.querySelectorAll('.matrix')].map(t => ["
            "[...t.querySelectorAll('thead tr:last-child th')],"
            "[...t.querySelectorAll('tbody tr:first-child .state')]]"
            ".map(cells => cells.map(c => Math.round(c.getBoundingClientRect().left))))"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert lefts
    assert all(heads == cells for heads, cells in lefts)


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_itself_never_scrolls_sideways(
    browser: webdriver.Chrome, tmp_path: Path, width: int
) -> None:
    shown(browser, hostile_draft, tmp_path)
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        culprits = browser.execute_script(
            "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') &&"
            " e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className)"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= width, culprits


def test_it_prints_light_and_whole_also_from_a_dark_screen(browser: webdriver.Chrome, tmp_path: Path) -> None:
    shown(browser, red_draft, tmp_path, "dark")
    emulate(browser, "dark", "print")
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(255, 255, 255)"
    assert not browser.find_element(By.TAG_NAME, "nav").is_displayed()
    hidden = browser.execute_script(
        "return [...document.querySelectorAll('details table')].filter(t => t.offsetHeight === 0).length"
    )
    assert hidden == 0
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")


def test_the_picture_of_the_documents_is_of_this_page(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """Otherwise: ``python -m tests.report.picture``."""
    assert picture.recorded() == picture.text_of(browser, tmp_path)
