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
from click.testing import CliRunner

from pipeline.cli.report import command
from pipeline.core.errors import EvidenceError, MalformedInput, UsageError
from pipeline.core.outcome import Finding, Outcome, Target
from pipeline.core.records import BuildManifest
from pipeline.report import figures, html, junit, markdown, plot, terminal, view, write_all
from pipeline.signoff.document import read, write
from pipeline.signoff.records import Evidence
from pipeline.signoff.waiver import Waiver
from tests.report.factory import Draft, draft, release_grade, with_builds

HOSTILE = "</pre><script>alert('x')</script>\x1b[31m & \"quoted\" `tick` | pipe \x00 ]]> $\\frac{1}{0}$"


@pytest.fixture(scope="module")
def green() -> Evidence:
    return draft().evidence()


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


# --- figures ---------------------------------------------------------------------------------------------


def test_emulated_times_never_appear_as_nanoseconds(green: Evidence) -> None:
    groups = figures.speeds(green)
    assert {(g.arch, g.where.place, bool(g.declined)) for g in groups} == {
        ("x86_64", "host", False), ("x86_64", "vm:stable", True),
        ("aarch64", "vm:stable", True), ("aarch64", "vm:cloud", True),
    }  # fmt: skip
    for g in groups:
        svg = plot.speed_svg(g, "p")
        assert ("ns per call" in svg) is not bool(g.declined)
        assert ("not judged" in svg) is bool(g.declined)
    # what the emulated calls took is nowhere on the page
    medians = {
        figures.number(x.median) for g in groups if g.declined for s in g.speeds for x in s.series.values()
    }
    medians -= {
        figures.number(x.median)
        for g in groups
        if not g.declined
        for s in g.speeds
        for x in s.series.values()
    }
    assert len(medians) > 10
    page = Page(html.render(green)).text
    for text in (page, markdown.render(green), terminal.render(green)):
        words = set(re.split(r"[ \n|()]+", text))
        assert not words & {m for m in medians if len(m) > 3}


def on_arm(target: Target) -> Target:
    return target.model_copy(update={"arch": "aarch64"})


def test_real_aarch64_is_judged_on_a_log_scale() -> None:
    made = draft(("x86_64",))
    made.findings = [f.model_copy(update={"target": on_arm(f.target)}) for f in made.findings]
    made.not_judged = [n.model_copy(update={"target": on_arm(n.target)}) for n in made.not_judged]
    made.questions = [q.model_copy(update={"target": on_arm(q.target)}) for q in made.questions]
    made.places = [p.model_copy(update={"arch": "aarch64"}) for p in made.places]
    evidence = made.evidence()
    assert evidence.verdict is Outcome.PASS
    (group, *_) = figures.speeds(evidence)
    assert group.declined == ""
    assert "ns per call (log scale)" in plot.speed_svg(group, "p")


def test_steps_are_counted_per_release_and_case(green: Evidence) -> None:
    x86, arm = figures.steps(green)
    assert arm.cases == ("tunable unset", "tunable=0", "tunable=1")
    assert dict(arm.rows)["12.0"] == (("29", "1"), ("29", "1"), ("11", "0"))
    assert dict(arm.rows)["12.1"][0] == ("11", "0")
    assert dict(x86.rows)["12.0"][0] == ("34", "0")


def test_steps_that_differ_between_places_are_a_range() -> None:
    made = draft()
    i = made.find("getcpu.steps", release="12.0", case="tunable=0", arch="aarch64", place="vm:cloud")
    made.findings[i] = made.findings[i].model_copy(
        update={"measures": {"instructions": 31, "system_calls": 1}}
    )
    assert dict(figures.steps(made.evidence())[1].rows)["12.0"][1] == ("29-31", "1")


@pytest.mark.parametrize("value", [0, -3, [], [0.0, -1.0], "nan", None, True, [1e14, 1e-12], [5.0], 3, ["x"]])
def test_odd_times_do_not_break_the_page(value: object) -> None:
    made = draft(("x86_64",))
    for i, f in enumerate(made.findings):
        if f.check == "getcpu.speed":
            made.findings[i] = f.model_copy(
                update={"measures": {**f.measures, "on_ns": value, "new_ns": value}}
            )
    text = html.render(made.evidence())
    assert 'class="plot"' in text
    assert "NaN" not in text


def test_many_samples_are_thinned_keeping_both_ends() -> None:
    values = [float(i) for i in range(1000)]
    kept = plot._thin(values)
    assert len(kept) == plot.MOST_DOTS
    assert (kept[0], kept[-1]) == (0.0, 999.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7.049, "7.05"),
        (0.0, "0"),
        (12.34, "12.3"),
        (205.4, "205"),
        (33100.0, "33\u202f100"),
        (0.0012, "1.20e-03"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert figures.number(value) == text


# --- command ---------------------------------------------------------------------------------------------


def run(*args: str | Path) -> tuple[int, str]:
    got = CliRunner().invoke(command, [str(a) for a in args], standalone_mode=False)
    if got.exception is not None:
        raise got.exception
    return int(got.return_value), got.output


def test_report_renders_again_and_gives_the_verdict(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    made = draft()
    made.spoil("abi.delta")
    write(made.evidence(), kept)
    out = tmp_path / "out"
    code, output = run("--evidence", kept / "evidence.json", "--out", out)
    assert code == 1
    assert "FAIL  abi.delta" in output
    assert sorted(p.name for p in out.iterdir()) == ["evidence.json", "junit.xml", "report.html", "report.md"]
    assert (out / "evidence.json").read_bytes() == (kept / "evidence.json").read_bytes()
    assert run("--out", out)[0] == 1


def test_report_merges_runners(tmp_path: Path) -> None:
    files = []
    for machine in ("x86_64", "aarch64"):
        files.append(write(draft((machine,)).evidence(), tmp_path / machine))
    code, output = run("--merge", *files, "--out", tmp_path / "out")
    assert code == 0
    assert "x86_64" in output
    assert "aarch64" in output
    whole = read(tmp_path / "out" / "evidence.json")
    assert len(whole.targets) == 6
    other = draft(("x86_64",))
    other.spoil("abi.delta")
    clash = write(other.evidence(), tmp_path / "clash")
    with pytest.raises(EvidenceError, match="two runners"):
        run("--merge", files[0], clash, "--out", tmp_path / "out2")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["x.json"], "what is x.json for"),
        (["--merge"], "--merge takes evidence files"),
        (["--verify"], "needs --key"),
        (["--verify", "--key", "k", "--rpms", ".", "--attest"], "only looks"),
        (["--sign-key", "k"], "signs what --attest"),
        ([], "no evidence at"),
    ],
)
def test_wrong_use_is_said(tmp_path: Path, args: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(*args, "--out", tmp_path)


def test_malformed_evidence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_text("{}")
    with pytest.raises(MalformedInput):
        run("--out", tmp_path)
