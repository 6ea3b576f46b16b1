"""What each rendering must say, and that none of them is driven by what it renders."""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.core.outcome import Finding, Outcome, Target
from pipeline.core.records import BuildManifest
from pipeline.report import html, junit, markdown, terminal, view, write_all
from pipeline.signoff.document import read
from pipeline.signoff.records import Evidence
from pipeline.signoff.waiver import Waiver
from tests.report.factory import Draft, draft, release_grade, with_builds

HOSTILE = "</pre><script>alert('x')</script>\x1b[31m & \"quoted\" `tick` | pipe \x00 ]]> $\\frac{1}{0}$"


def red_draft() -> Draft:
    made = draft()
    made.spoil("abi.delta", seen="+ libc.so.6: GLIBC_2.35 epoll_pwait2 F", release="12.0 -> 12.0.z")
    made.spoil("rpm.provides", Outcome.ERROR, seen="the RPM is cut")
    made.findings.pop(made.find("rseq.own", case="tunable=1"))
    waived = made.spoil("rpm.requires", seen="another Requires")
    made.waivers = [
        Waiver.model_validate(
            {
                "check": waived.check, "target": str(waived.target), "seen": waived.seen, "reason": "known",
                "who": "R. Engineer", "expires": "2027-01-01",
            }
        )
    ]  # fmt: skip
    return made


def hostile_draft() -> Draft:
    made = draft()
    made.command = f"nox {HOSTILE}"
    made.spoil("abi.delta", seen=HOSTILE)
    made.spoil("launch.matrix", seen=HOSTILE)
    target = Target(profile="bookworm", release=HOSTILE, arch=HOSTILE)
    made.findings.append(
        Finding(
            check=HOSTILE, target=target, case=HOSTILE, place=HOSTILE, kernel=HOSTILE, outcome=Outcome.FAIL,
            expected=HOSTILE, seen=HOSTILE, evidence=(HOSTILE,),
            measures={"on_ns": [1.0, 2.0], HOSTILE: HOSTILE, "instructions": 3},
        )
    )  # fmt: skip
    return made


class Page(HTMLParser):
    """The page's elements, texts and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# --- all of them -----------------------------------------------------------------------------------------


def test_same_evidence_same_bytes(green: Evidence, tmp_path: Path) -> None:
    one, two = (
        write_all(green, tmp_path / "1", summary=False),
        write_all(green, tmp_path / "2", summary=False),
    )
    for name in ("evidence", "junit", "markdown", "html"):
        assert getattr(one, name).read_bytes() == getattr(two, name).read_bytes(), name
    again = read(one.evidence)
    assert html.render(again) == one.html.read_text()


def test_reports_name_the_evidence_they_show(green: Evidence) -> None:
    for text in (html.render(green), markdown.render(green), junit.render(green)):
        assert green.sha256 in text


@pytest.mark.parametrize("render", [html.render, markdown.render, terminal.render])
def test_every_problem_is_in_every_report(render: object) -> None:
    evidence = red_draft().evidence()
    assert callable(render)
    text = render(evidence)
    assert "ERROR" in text
    for f in evidence.problems:
        assert f.check in text
        assert f.seen in text
    for reason in evidence.grade_reasons:
        assert reason.split("'")[0] in " ".join(text.replace("\\", "").split())


def test_unknown_checks_are_shown_by_name(green: Evidence) -> None:
    made = draft()
    i = made.find("rseq.own")
    strange = made.findings[i].model_copy(update={"check": "zeta.omega", "outcome": Outcome.FAIL})
    made.findings.append(strange)
    evidence = made.evidence()
    for text in (html.render(evidence), markdown.render(evidence), terminal.render(evidence)):
        assert "zeta.omega" in text
    assert "zeta.omega" not in html.render(green)


def test_empty_evidence_is_rendered_as_missing() -> None:
    made = draft()
    made.findings, made.not_judged, made.questions, made.builds, made.places = [], [], [], [], []
    evidence = made.evidence()
    for text in (html.render(evidence), markdown.render(evidence), terminal.render(evidence)):
        assert "MISSING" in text
        assert "Nothing was judged" in text
    assert "Verdict" in html.render(evidence)


# --- hostile words ---------------------------------------------------------------------------------------


def test_html_escapes_everything() -> None:
    text = html.render(hostile_draft().evidence())
    page = Page(text)
    assert not [t for t, _ in page.tags if t in ("iframe", "object", "embed", "base", "form")]
    assert [t for t, _ in page.tags].count("script") == 1  # the page's own, whose hash the policy names
    assert "alert('x')" in page.text
    assert not [a for _, attrs in page.tags for a in attrs if a == "style"]
    assert "\x1b" not in text
    assert "\x00" not in text
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]


def test_the_policy_names_the_style_sheet_and_the_script_by_their_hashes() -> None:
    text = html.render(hostile_draft().evidence())
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert "unsafe" not in policy
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_each_finding_has_a_link_of_its_own_and_a_red_one_says_how_to_ask_it_again() -> None:
    evidence = red_draft().evidence()
    text = html.render(evidence)
    names = [html.permalink(f) for f in evidence.findings]
    assert len(set(names)) == len(names)
    for name in names:
        assert text.count(f'id="{name}"') == 1
        assert text.count(f'href="#{name}"') >= 1
    for finding in evidence.problems:
        command = html.again(evidence.command, finding)
        assert command.startswith("nox -s verify -- ")
        assert f"--only {finding.check}" in command
        assert command.endswith("--fresh --out out/again")


def test_what_was_asked_alone_is_not_release_grade() -> None:
    made = release_grade()
    assert made.evidence().release_grade
    asked = made.findings[0].check
    made.findings = [f for f in made.findings if f.check == asked]
    made.questions = [q for q in made.questions if q.check == asked]
    made.not_judged = []
    alone = made.evidence()
    assert not alone.release_grade


def test_markdown_escapes_tables_fences_and_html() -> None:
    text = markdown.render(hostile_draft().evidence())
    outside = re.sub(r"(?ms)^(`{3,})\w*$.*?^\1$", "", text)
    outside = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", outside)
    assert "<script>" not in outside
    assert "\x1b" not in text
    for block in re.findall(r"(?m)(?:^\|.*\n)+", outside):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block[:300]


def test_junit_and_terminal_hold_no_control_characters() -> None:
    evidence = hostile_draft().evidence()
    ET.fromstring(junit.render(evidence))
    assert "\x1b" not in terminal.render(evidence)


@pytest.mark.parametrize(
    "value",
    ["\x00", "\x1b[2J", "\ufffe", "\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace")],
)
def test_xml_survives_unsayable_text(value: str) -> None:
    made = draft(("x86_64",))
    made.spoil("abi.delta", seen=f"a{value}b")
    ET.fromstring(junit.render(made.evidence()))


# --- JUnit -----------------------------------------------------------------------------------------------


def test_junit_maps_outcomes() -> None:
    evidence = red_draft().evidence()
    root = ET.fromstring(junit.render(evidence))
    cases = root.findall(".//testcase")
    counts = {o: sum(f.outcome is o for f in evidence.findings) for o in Outcome}
    assert len(cases) == len(evidence.findings) + len(evidence.not_judged)
    assert len(root.findall(".//failure")) == counts[Outcome.FAIL] == 1
    assert len(root.findall(".//error")) == counts[Outcome.ERROR] + counts[Outcome.MISSING] == 2
    assert len(root.findall(".//skipped")) == counts[Outcome.WAIVED] + len(evidence.not_judged)
    assert all(s.get("message") for s in root.findall(".//skipped"))
    plain = [c for c in cases if not list(c)]
    assert len(plain) == counts[Outcome.PASS]
    for key in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(key, "-1")) == sum(int(s.get(key, "-1")) for s in root.findall("testsuite"))
    names = [(s.get("name"), c.get("classname"), c.get("name")) for s in root for c in s.findall("testcase")]
    assert len(set(names)) == len(names)


# --- terminal --------------------------------------------------------------------------------------------


def test_terminal_is_compact_and_ends_with_the_verdict(green: Evidence) -> None:
    text = terminal.render(green)
    assert max(len(line) for line in text.splitlines()) <= 130
    assert "PASS  Debian 12 glibc 2.36" in text
    assert "not release grade" in text
    assert "\x1b" not in text
    assert "\x1b[" in terminal.render(green, colour=True)


def test_terminal_counts_what_is_not_good() -> None:
    made = draft()
    made.spoil("rseq.own", release="12.0.z", arch="x86_64")
    line = next(x for x in terminal.render(made.evidence()).splitlines() if x.startswith("rseq.own"))
    assert re.search(r"pass 6\s+✗ fail 5/6\s+✓ pass 6", line)


# --- page ------------------------------------------------------------------------------------------------


def test_page_loads_nothing(green: Evidence) -> None:
    text = html.render(green)
    page = Page(text)
    assert "default-src 'none'" in text
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attrs.get(name) or ""
            assert value.startswith(("#", "data:")) or not value, (tag, name, value)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style


def test_page_has_landmarks_captions_and_scopes(green: Evidence) -> None:
    page = Page(html.render(green))
    tags = [t for t, _ in page.tags]
    for landmark in ("main", "header", "footer", "nav"):
        assert tags.count(landmark) == 1, landmark
    assert tags.count("caption") == tags.count("table") > 10
    assert all(a.get("scope") for t, a in page.tags if t == "th")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {(a.get("href") or "")[1:] for _, a in page.tags if (a.get("href") or "").startswith("#")}
    wanted |= {x for _, a in page.tags for x in (a.get("aria-labelledby") or "").split()}
    assert wanted <= set(ids)


def test_page_says_what_it_was_made_from(green: Evidence) -> None:
    text = html.render(green)
    for b in green.builds:
        assert b.source
        assert b.image
        assert b.srpm
        digests = [r.sha256 for r in b.rpms] + [p.sha256 for p in b.patches]
        digests += [b.srpm.sha256, b.source.sha256, b.image.id.removeprefix("sha256:")]
        assert all(d in text for d in digests)
    for p in green.places:
        assert p.kernel_image is None or p.kernel_image.sha256 in text
    assert "nox -s setup build verify -- --profile bookworm" in text
    assert "gcc" in text


def test_what_the_vendors_build_has_and_ours_has_not_is_said() -> None:
    made = draft()
    made.claims = {"differences": ("annobin's <notes>",)}
    for text in (html.render(made.evidence()), markdown.render(made.evidence())):
        assert "What the vendor's build has and these builds have not:" in unescape(text)
        assert "annobin's <notes>" in unescape(text)
    supplied = with_builds(made, lambda b: b.model_copy(update={"mode": "supplied"})).evidence()
    assert "annobin" not in html.render(supplied) + markdown.render(supplied)


def test_a_patch_that_the_source_has_is_said() -> None:
    def had(build: BuildManifest) -> BuildManifest:
        first = build.patches[0].model_copy(update={"present": "csu/a has 'b'"})
        return build.model_copy(update={"patches": (first, *build.patches[1:])})

    evidence = with_builds(draft(), had).evidence()
    assert "not applied, the source has it: csu/a has 'b'" in unescape(html.render(evidence))
    assert "| patch (the source has it) |" in markdown.render(evidence)


def test_grade_is_said_at_the_top() -> None:
    graded, plain = html.render(release_grade().evidence()), html.render(draft().evidence())
    top = slice(0, graded.index('id="releases"'))
    assert "Release grade</p>" in graded[top]
    assert "Not release grade</p>" in plain
    assert plain.index("Not release grade") < plain.index('id="releases"')


def test_negative_control_is_marked_only_where_refusal_is_due(green: Evidence) -> None:
    (host, *_) = view.launches(green)
    cells = {(program, r): c for program, row in host.rows for r, c in zip(host.releases, row, strict=True)}
    controls = {(f"rseq, tunable {state}", "12.0") for state in ("unset", "0", "1")}
    assert {key for key, c in cells.items() if c.control} == controls
    assert {cells[key].word for key in controls} == {"refused"}
    assert cells["rseq, tunable 1", "12.1"].word == "starts"


def test_a_control_that_starts_is_a_fail_on_the_page() -> None:
    made = draft()
    made.spoil("launch.matrix", case="rseq on 12.0, tunable=0", place="host", seen="starts, exit status 0")
    (host, *_) = view.launches(made.evidence())
    row = dict(host.rows)["rseq, tunable 0"]
    assert (row[0].word, row[0].css) == ("FAIL", "fail")
