"""Measures as drawings and tables: what is emulated is never a time, and odd values break nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.core.outcome import Outcome, Target
from pipeline.report import drawing, figures, html, markdown, plot, terminal
from pipeline.signoff.records import Evidence
from tests.report.factory import draft
from tests.report.test_renderings import Page


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


def test_what_was_drawn_is_not_drawn_again_and_other_times_are(
    green: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, other, *_ = figures.speeds(green)
    first = drawing.speed_svg(group, "p")
    assert first == plot.speed_svg(group, "p")
    monkeypatch.setattr(plot, "speed_svg", lambda _, ident: f"drawn as {ident}")
    assert drawing.speed_svg(group, "p") == first
    assert drawing.speed_svg(group, "q") == "drawn as q"
    assert drawing.speed_svg(other, "p") == "drawn as p"


def test_a_report_is_drawn_where_nothing_can_be_kept(
    green: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "file" / "state"))
    group, *_ = figures.speeds(green)
    assert drawing.speed_svg(group, "p") == plot.speed_svg(group, "p")


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
