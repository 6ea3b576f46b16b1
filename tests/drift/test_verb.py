"""The verb ``drift`` on directories of RPMs: the four outcomes, what they say, and the history they leave."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from pipeline import drift
from pipeline.abi import baseline
from pipeline.core import paths
from pipeline.core.errors import UsageError, WorldError
from pipeline.core.outcome import Target
from pipeline.drift import history, timeline
from pipeline.drift.record import SCHEMA_FILE, Sight, exit_code, schema_text
from tests.drift import kit
from tests.drift.kit import LD, LIBC, LOADER, LOADER_RSEQ, call
from tests.elf_fixtures import release_root

BASELINE = 'name = "ours"\nkind = "rpms"\npath = "rpms"\nagainst = "baseline:el9/9.0"'
PREVIOUS = BASELINE.replace("baseline:el9/9.0", "previous")


def test_no_drift(tmp_path: Path) -> None:
    kit.commit_baseline(tmp_path)
    kit.rpm(tmp_path / "rpms", "2.el9")
    result = call("--sources", kit.sources(tmp_path, BASELINE))
    assert result.return_value == 0
    assert "no drift" in result.stdout
    assert "glibc-2.34-2.el9" in result.stdout
    assert f"baseline el9/9.0/{kit.ARCH}" in result.stdout


def test_drift_names_symbol_dso_node_size_and_package(tmp_path: Path) -> None:
    kit.commit_baseline(tmp_path)
    kit.rpm(tmp_path / "rpms", "2.el9", LOADER_RSEQ, kit.LIBC_LESS)
    kit.rpm(tmp_path / "rpms", "1.el9")
    out, md = tmp_path / "o.json", tmp_path / "o.md"
    result = call("--sources", kit.sources(tmp_path, BASELINE), "--json", out, "--summary", md)
    assert result.return_value == 1
    lines = {x for x in result.stdout.splitlines() if x.startswith(("+ ", "- "))}
    assert lines == {
        f"+ {LD}: GLIBC_2.35 __rseq_flags D 0x4 (glibc-2.34-2.el9)",
        f"+ {LD}: GLIBC_2.35 __rseq_offset D 0x8 (glibc-2.34-2.el9)",
        f"+ {LD}: GLIBC_2.35 __rseq_size D 0x4 (glibc-2.34-2.el9)",
        "- libc.so.6: GLIBC_2.2.5 stdout D 0x8 (glibc-2.34-2.el9)",
    }
    data = json.loads(out.read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(data)
    (look,) = data["looks"]
    assert (look["sight"], data["exit_code"], len(look["changes"])) == ("drift", 1, 4)
    assert look["packages"][0]["file"] == f"glibc-2.34-2.el9.{kit.ARCH}.rpm"
    text = md.read_text()
    assert text.startswith(f"# The published glibc has drifted: ours {kit.ARCH}\n")
    assert lines <= set(text.splitlines())


def test_another_size_is_drift(tmp_path: Path) -> None:
    kit.commit_baseline(tmp_path, LOADER_RSEQ)
    kit.rpm(tmp_path / "rpms", "2.el9", kit.LOADER_SLIP)
    result = call("--sources", kit.sources(tmp_path, BASELINE))
    assert result.return_value == 1
    assert [x for x in result.stdout.splitlines() if x.startswith(("+ ", "- "))] == [
        f"- {LD}: GLIBC_2.35 __rseq_offset D 0x8 (changed) (glibc-2.34-2.el9)",
        f"+ {LD}: GLIBC_2.35 __rseq_offset D 0x4 (changed) (glibc-2.34-2.el9)",
    ]


def test_a_whole_dso_is_drift_and_one_that_is_not_compared_is_none(tmp_path: Path) -> None:
    kit.commit_baseline(tmp_path)
    made = baseline.load_target(kit.TARGET)
    assert made is not None
    listings = {n: x for n, x in made.listings.items() if "/" not in n}
    baseline.write(
        baseline.make(listings, kit.TARGET, baseline.Origin("root", "without gconv")),
        baseline.directory_of(kit.TARGET),
    )
    kit.rpm(tmp_path / "rpms", "1.el9")
    result = call("--sources", kit.sources(tmp_path, BASELINE))
    assert result.return_value == 1
    assert "+ gconv/UTF-16.so: the whole DSO (glibc-2.34-1.el9)" in result.stdout
    assert call("--sources", kit.sources(tmp_path, BASELINE + '\nignore = ["gconv/*"]')).return_value == 0
    nothing = call("--sources", kit.sources(tmp_path, BASELINE + '\ndsos = ["libz*"]'))
    assert nothing.return_value == 3
    assert "no DSO to compare" in " ".join(nothing.stdout.split())


def test_nothing_there_and_could_not_look_are_kept_apart(tmp_path: Path) -> None:
    kit.commit_baseline(tmp_path)
    file = kit.sources(tmp_path, BASELINE)
    unreachable = call("--sources", file)
    assert unreachable.return_value == 4
    assert "could not look" in unreachable.stdout
    (tmp_path / "rpms").mkdir()
    empty = call("--sources", file)
    assert empty.return_value == 3
    assert "nothing there" in empty.stdout
    kit.rpm(tmp_path / "rpms", "1.el9", name="bash")
    assert call("--sources", file).return_value == 3
    rpm = kit.rpm(tmp_path / "rpms", "1.el9")
    data = bytearray(rpm.read_bytes())
    data[-40] ^= 1
    rpm.write_bytes(data)
    damaged = call("--sources", file)
    assert damaged.return_value == 4
    assert rpm.name in " ".join(damaged.stdout.split()).replace(" ", "")
    assert call("--sources", file, "--against", "baseline:el9/7").return_value == 4
    rpm.unlink()
    kit.rpm(tmp_path / "rpms", "1.el9")
    without = call("--sources", file, "--against", "baseline:el9/7")
    assert without.return_value == 3
    assert "there is no baseline" in without.stdout


def test_a_broken_baseline_is_never_no_drift(tmp_path: Path) -> None:
    kit.commit_baseline(tmp_path)
    kit.rpm(tmp_path / "rpms", "1.el9")
    file = baseline.directory_of(kit.TARGET) / "libc.so.6.abilist"
    file.write_text(file.read_text().rstrip("\n"))
    assert call("--sources", kit.sources(tmp_path, BASELINE)).return_value == 3


def test_of_several_sources_drift_counts_first(tmp_path: Path) -> None:
    drifted, down, none, fine = Sight.DRIFT, Sight.COULD_NOT_LOOK, Sight.NOTHING, Sight.NO_DRIFT
    assert exit_code([fine, none, down, drifted]) == 1
    assert exit_code([fine, none, down]) == 4
    assert exit_code([fine, none]) == 3
    assert exit_code([fine]) == 0
    assert exit_code([]) == 3
    kit.commit_baseline(tmp_path)
    kit.rpm(tmp_path / "rpms", "1.el9", LOADER_RSEQ)
    (tmp_path / "empty").mkdir()
    names = {"down": "nowhere", "none": "empty"}
    more = [
        BASELINE.replace("ours", n).replace('"rpms"\nagainst', f'"{p}"\nagainst') for n, p in names.items()
    ]
    file = kit.sources(tmp_path, BASELINE, *more)
    assert call("--sources", file).return_value == 1
    assert call("--sources", file, "--source", "down", "--source", "none").return_value == 4
    assert call("--sources", file, "--source", "none").return_value == 3


def test_the_previous_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = iter(f"2026-01-{day:02}T06:00:00Z" for day in range(1, 29))
    monkeypatch.setattr(drift, "timestamp", lambda: next(days))
    file = kit.sources(tmp_path, PREVIOUS)
    rpms = tmp_path / "rpms"
    kit.rpm(rpms, "1.el9")
    first = call("--sources", file)
    assert first.return_value == 3
    assert "first look" in first.stdout
    assert call("--sources", file).return_value == 0
    kit.rpm(rpms, "2.el9", LOADER_RSEQ)
    second = call("--sources", file)
    assert second.return_value == 1
    assert "the look of 2026-01-02" in " ".join(second.stdout.split())
    assert call("--sources", file).return_value == 0
    kit.rpm(rpms, "3.el9", LOADER, LIBC)
    assert call("--sources", file).return_value == 1

    svg, png = tmp_path / "h.svg", tmp_path / "h.png"
    shown = call("--sources", file, "--history", "--plot", svg)
    assert shown.return_value == 0
    rows = [re.split(r"  +", x) for x in shown.stdout.splitlines() if "__rseq_offset" in x]
    symbol = ["D", "0x8"]
    assert rows == [
        [f"2026-01-{day}T06:00:00Z", "ours", kit.ARCH, sign, LD, "GLIBC_2.35", "__rseq_offset", *symbol, nvr]
        for day, sign, nvr in (("03", "+", "glibc-2.34-2.el9"), ("05", "-", "glibc-2.34-3.el9"))
    ]
    texts = " ".join(e.text or "" for e in ElementTree.parse(svg).iter() if e.tag.endswith("text"))
    assert f"{LD}: __rseq_offset@GLIBC_2.35 (8 bytes)" in texts
    assert call("--sources", file, "--history", "--plot", png).return_value == 0
    assert png.read_bytes().startswith(b"\x89PNG")


def test_listings_are_kept_once(tmp_path: Path) -> None:
    file, db = kit.sources(tmp_path, PREVIOUS), tmp_path / "db" / "h.sqlite"
    kit.rpm(tmp_path / "rpms", "1.el9")
    for _ in range(3):
        call("--sources", file, "--database", db)
    with sqlite3.connect(db) as connection:
        count = {
            t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0]
            for t in ("look", "snapshot", "listing")
        }
        assert count == {"look": 3, "snapshot": 1, "listing": 3}
        row = connection.execute("SELECT source, arch, nvr, sight, sha256 FROM look ORDER BY id").fetchone()
        assert row[:4] == ("ours", kit.ARCH, "glibc-2.34-1.el9", "nothing there")
        assert re.fullmatch("[0-9a-f]{64}", row[4])
    connection.close()


def test_a_look_that_saw_nothing_is_recorded_and_forgets_nothing(tmp_path: Path) -> None:
    file = kit.sources(tmp_path, PREVIOUS)
    rpm = kit.rpm(tmp_path / "rpms", "1.el9")
    call("--sources", file)
    rpm.rename(tmp_path / "away.rpm")
    assert call("--sources", file).return_value == 3
    (tmp_path / "away.rpm").rename(rpm)
    assert call("--sources", file).return_value == 0
    shown = call("--sources", file, "--history")
    assert "2 of 3" in shown.stdout
    assert "no symbol came or went" in shown.stdout


def test_a_track_with_many_symbols_is_drawn_by_node(tmp_path: Path) -> None:
    names = [f"f{n}" for n in range(100)]
    many = LIBC.but(
        source=LIBC.source + "".join(f"void {n} (void) {{}}\n" for n in names),
        nodes={**LIBC.nodes, "GLIBC_2.99": tuple(names)},
    )
    file = kit.sources(tmp_path, PREVIOUS)
    kit.rpm(tmp_path / "rpms", "1.el9")
    call("--sources", file)
    kit.rpm(tmp_path / "rpms", "2.el9", libc=many)
    assert call("--sources", file).return_value == 1
    call("--sources", file, "--history", "--plot", tmp_path / "x.svg")
    assert "libc.so.6: GLIBC_2.99 (100 symbols)" in (tmp_path / "x.svg").read_text()


def test_databases_of_something_else(tmp_path: Path) -> None:
    file = kit.sources(tmp_path, PREVIOUS)
    bad = tmp_path / "bad.sqlite"
    bad.write_text("words, and not a database at all\n" * 100)
    result = call("--sources", file, "--database", bad)
    assert isinstance(result.exception, WorldError)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    assert isinstance(call("--sources", file, "--database", other).exception, UsageError)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as connection:
        connection.execute(f"PRAGMA user_version = {history.VERSION + 1}")
    connection.close()
    result = call("--sources", file, "--database", newer)
    assert isinstance(result.exception, UsageError)
    assert "newer pipeline" in result.exception.message


def test_accept_makes_a_distributions_baseline_and_never_a_profiles(tmp_path: Path) -> None:
    kit.rpm(tmp_path / "rpms", "1.el9")
    theirs = BASELINE.replace("el9/9.0", "distro/9")
    file = kit.sources(tmp_path, theirs)
    assert call("--sources", file).return_value == 3
    assert call("--sources", file, "--accept").return_value == 0
    made = baseline.load_target(Target(profile="distro", release="9", arch=kit.ARCH))
    assert made is not None
    assert made.provenance.origin == "glibc-2.34-1.el9"
    assert call("--sources", file).return_value == 0
    refused = call("--sources", kit.sources(tmp_path, BASELINE), "--accept")
    assert isinstance(refused.exception, UsageError)
    assert baseline.load_target(kit.TARGET) is None


PUBLISHED = f"""schema = 1
name = "own"
title = "t"
glibc = "2.34"
arches = ["{kit.ARCH}"]
[[release]]
name = "9.2"
derived_from = "distro/9.0"
[[release]]
name = "9.7"
derived_from = "9.2"
nodes = ["@loader GLIBC_2.35"]
"""


def test_the_latest_release_is_compared_derived_until_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "PROFILES", tmp_path / "profiles")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "own.toml").write_text(PUBLISHED)
    base = PUBLISHED.replace('"own"', '"distro"').partition("[[release]]")[0]
    (tmp_path / "profiles" / "distro.toml").write_text(
        base + '[[release]]\nname = "9.0"\nderived_from = "nothing/1"\n'
    )
    root = release_root(tmp_path / "b", LOADER, LIBC)
    target = Target(profile="distro", release="9.0", arch=kit.ARCH)
    made = baseline.from_root(root, target, baseline.Origin("root", "glibc-2.34-28.el9_0"))
    baseline.write(made, baseline.directory_of(target))
    whole = release_root(tmp_path / "u", LOADER_RSEQ, LIBC)
    upstream = Target(profile="upstream", release="2.35", arch=kit.ARCH)
    nodes = baseline.from_root(whole, upstream, baseline.Origin("root", "2.35"), ("GLIBC_2.35",))
    baseline.write(nodes, baseline.upstream_directory("2.35", kit.ARCH))

    kit.rpm(tmp_path / "rpms", "1.el9_7", LOADER_RSEQ)
    theirs = BASELINE.replace("el9/9.0", "own/latest") + '\nignore = ["gconv/*"]'
    file = kit.sources(tmp_path, theirs)
    seen = call("--sources", file)
    assert seen.return_value == 0, seen.stdout
    assert "distro/9.0 (glibc-2.34-28.el9_0) +" in " ".join(seen.stdout.split())
    assert call("--sources", file, "--against", "baseline:own/9.2").return_value == 1
    kit.rpm(tmp_path / "rpms", "2.el9_7", kit.LOADER_SLIP)
    assert call("--sources", file).return_value == 1

    accepted = Target(profile="own", release="9.7", arch=kit.ARCH)
    assert call("--sources", file, "--accept").return_value == 0
    found = baseline.load_target(accepted)
    assert found is not None
    assert (found.provenance.kind, found.provenance.origin) == ("rpm", "glibc-2.34-2.el9_7")
    assert "gconv/UTF-16.so" in found.listings, "what the source does not compare is as it was"
    assert call("--sources", file).return_value == 0


def test_against_another_source(tmp_path: Path) -> None:
    kit.rpm(tmp_path / "rpms", "1.el9")
    kit.rpm(tmp_path / "new", "5.el9", LOADER_RSEQ)
    newer = 'name = "new"\nkind = "rpms"\npath = "new"\nagainst = "source:ours"'
    result = call("--sources", kit.sources(tmp_path, PREVIOUS, newer), "--source", "new")
    assert result.return_value == 1
    assert "ours (glibc-2.34-1.el9)" in result.stdout
    assert result.stdout.count("+ ld-linux") == 3


def test_wrong_use(tmp_path: Path) -> None:
    file = kit.sources(tmp_path, BASELINE)
    for args, says in (
        (("--source", "none"), "there is no source 'none'"),
        (("--arch", "vax"), "unknown architecture 'vax'"),
        (("--against", "x"), "is not understood"),
        (("--against", "source:none"), "there is no source 'none'"),
        (("--plot", "x.svg"), "--plot draws what --history shows"),
        (("--arch", "vax", "--arch", "x86_64"), "unknown architecture 'vax'"),
        (("--history", "--accept"), "--history looks at nothing"),
        (("--history", "--json", "x.json"), "--json and --summary are of a look"),
        (("--accept", "--summary", "x.md"), "--json and --summary are of a look"),
    ):
        result = call("--sources", file, *args)
        assert isinstance(result.exception, UsageError), args
        assert says in result.exception.message
    assert call("--sources", file, "--history").return_value == 3
    assert "ours" in call("--sources", file, "--list").stdout


def test_a_look_that_fails_leaves_no_earlier_result(tmp_path: Path) -> None:
    file, old = kit.sources(tmp_path, BASELINE), tmp_path / "drift.md"
    old.write_text("no drift, yesterday")
    (tmp_path / "damaged.sqlite").write_text("not a database " * 100)
    result = call("--sources", file, "--database", tmp_path / "damaged.sqlite", "--summary", old)
    assert result.exception is not None
    assert not old.exists()
    blocked = call("--sources", file, "--json", tmp_path / "damaged.sqlite" / "x.json")
    assert isinstance(blocked.exception, UsageError)
    assert "--json FILE" in blocked.exception.hint


def test_a_plot_of_an_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a plot is"):
        timeline.draw([], tmp_path / "x.gif")


def test_the_committed_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text() == schema_text(), "run python -m pipeline.drift.schema"
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))
