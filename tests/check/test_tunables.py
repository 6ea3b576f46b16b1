"""abi.tunables and tunables.baseline: a table that differs from a release's, or from the committed one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.abi import baseline, traits
from pipeline.check.abi_tunables import ARCHIVE, MEMBER, TunablesBaseline, step_faults
from pipeline.core.arch import host_arch
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.records import SourceRecord
from pipeline.elf import tunables
from pipeline.elf.tunables import Tunable
from tests.check.release_kit import AFTER, BEFORE, UPDATE, Stage, make_stage
from tests.elf_fixtures import LOADER, LOADER_RSEQ, Dso

OURS = "glibc.pthread.rseq"
SPIN = Tunable("glibc.pthread.mutex_spin_count", "INT_32", 0, 32767, 100, "SXID_ERASE", "")
ARENA = Tunable("glibc.malloc.arena_max", "SIZE_T", 1, 2**64 - 1, 0, "SXID_IGNORE", "MALLOC_ARENA_MAX")
RSEQ = Tunable(OURS, "INT_32", 0, 1, 0, "SXID_ERASE", "")
TABLE = (ARENA, RSEQ, SPIN)


def by_name(*table: Tunable) -> dict[str, Tunable]:
    return {tunable.name: tunable for tunable in table}


def source(*table: Tunable, was_set: int = 0) -> str:
    """The table as glibc's compiler lays it out."""
    rows = "".join(
        f'{{"{t.name}", {tunables._TYPES.index(t.type)}, {t.minimum}, {t.maximum}ul, {t.default}, {was_set}, '
        f'{tunables._LEVELS.index(t.security)}, "{t.alias}"}},\n'
        for t in table
    )
    width = max((len(t.name) for t in table), default=0) + 1
    return (
        f"struct row {{ char name[{width}]; unsigned int type; unsigned long low, high, value; _Bool set;\n"
        "             unsigned int level; char alias[23]; };\n"
        '__attribute__ ((section (".data.rel.ro"), used)) static struct row tunable_list[] = {\n'
        f"{rows}}};\n"
    )


def loader(of: Dso, *table: Tunable) -> Dso:
    return of.but(source=of.source + source(*table))


def with_default(default: int) -> tuple[Tunable, ...]:
    return tuple(t._replace(default=default) if t.name == OURS else t for t in TABLE)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = make_stage(tmp_path, monkeypatch)
    made.release(BEFORE, loader(LOADER, *with_default(0)))
    made.release(UPDATE, loader(LOADER_RSEQ, *with_default(0)))
    made.release(AFTER, loader(LOADER_RSEQ, *with_default(1)))
    for name, one in made.built.items():
        ours = one.manifest.model_copy(update={"mode": "native"})
        made.built[name] = one.model_copy(update={"manifest": ours})
    made.commit(BEFORE, UPDATE, AFTER)
    return made


def ask(stage: Stage, release: str) -> Finding:
    return stage.answers((TunablesBaseline(),))["tunables.baseline", release]


def replaced(stage: Stage, *table: Tunable) -> None:
    """The newest release's loader has another table."""
    loader(LOADER_RSEQ, *table).build(stage.built[AFTER].root / "lib64" / host_arch().loader)


def archive(stage: Stage, member: str, *table: Tunable) -> None:
    """The newest release has a libc.a."""
    work = stage.directory / "archive"
    work.mkdir(exist_ok=True)
    (work / "x.c").write_text(source(*table))
    subprocess.run(["gcc", "-c", "x.c", "-o", member], cwd=work, check=True, timeout=60)
    file = stage.built[AFTER].root / ARCHIVE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    subprocess.run(["ar", "rc", file, member], cwd=work, check=True, timeout=60)


def test_the_committed_table_is_green_and_read_as_it_was_written(stage: Stage) -> None:
    assert stage.red((TunablesBaseline(),)) == {}
    found = baseline.load_target(stage.material.target(AFTER))
    assert found is not None
    assert found.traits[traits.TUNABLES] == {host_arch().loader: tuple(t.line for t in with_default(1))}
    archive(stage, MEMBER, *with_default(1))
    assert ask(stage, AFTER).outcome is Outcome.PASS
    assert dict(ask(stage, AFTER).measures) == {"tunables": 3, "more": 0}


ALIKE = (
    ((ARENA, SPIN), f"- {host_arch().loader}: {OURS}"),
    ((ARENA._replace(alias="MALLOC_ARENA_MAY"), RSEQ, SPIN), "SXID_IGNORE MALLOC_ARENA_MAY"),
    ((ARENA._replace(security="NONE"), RSEQ, SPIN), "default 0 NONE MALLOC_ARENA_MAX"),
    ((ARENA, RSEQ, SPIN._replace(default=1)), "0 to 32767 default 1"),
    ((ARENA, RSEQ, SPIN._replace(maximum=3)), "0 to 3 default 100"),
    ((ARENA, RSEQ, SPIN._replace(type="UINT_64")), "mutex_spin_count UINT_64"),
    ((ARENA, RSEQ, SPIN, SPIN._replace(name="glibc.pthread.more")), "glibc.pthread.more"),
    ((SPIN, RSEQ, ARENA), "in another order"),
)


@pytest.mark.parametrize(("table", "words"), ALIKE)
def test_what_is_wrong_alike_in_all_releases_is_red(
    stage: Stage, table: tuple[Tunable, ...], words: str
) -> None:
    for release, of in ((BEFORE, LOADER), (UPDATE, LOADER_RSEQ), (AFTER, LOADER_RSEQ)):
        default = 1 if release == AFTER else 0
        here = tuple(t._replace(default=default) if t.name == OURS else t for t in table)
        loader(of, *here).build(stage.built[release].root / "lib64" / host_arch().loader)
    found = stage.red((TunablesBaseline(),))
    assert {r for _, r in found} == {BEFORE, UPDATE, AFTER}
    assert all(f.outcome is Outcome.FAIL and words in f.seen for f in found.values())


def test_a_table_of_libc_a_that_is_another_is_red(stage: Stage) -> None:
    archive(stage, MEMBER, ARENA, RSEQ._replace(default=1), SPIN._replace(security="NONE"))
    assert ask(stage, AFTER).outcome is Outcome.FAIL
    assert f"libc.a: {SPIN.name}: security is NONE, not SXID_ERASE" in ask(stage, AFTER).seen
    archive(stage, "another.o", *with_default(1))
    assert f"libc.a: it has no {MEMBER}" in ask(stage, AFTER).seen


def test_another_makers_tunables_are_shown_and_the_bases_must_be_there(stage: Stage) -> None:
    one = stage.built[AFTER]
    theirs = SourceRecord(kind="distgit", origin="x", sha256="0" * 64, pinned=False)
    manifest = one.manifest.model_copy(update={"source": theirs})
    stage.built[AFTER] = one.model_copy(update={"manifest": manifest})
    more = SPIN._replace(name="glibc.rtld.dynamic_sort")
    replaced(stage, more, SPIN, ARENA, RSEQ._replace(default=1))  # numbers are theirs
    found = ask(stage, AFTER)
    assert found.outcome is Outcome.PASS
    assert f"the series has one more: {more.line}" in found.seen
    replaced(stage, more, SPIN._replace(maximum=3), ARENA, RSEQ._replace(default=1))
    assert f"- {host_arch().loader}: {SPIN.line}" in ask(stage, AFTER).seen
    replaced(stage, more, ARENA, RSEQ._replace(default=1))
    assert ask(stage, AFTER).outcome is Outcome.FAIL


def test_without_a_committed_table_nothing_is_said(stage: Stage) -> None:
    target = stage.material.target(AFTER)
    found = baseline.load_target(target)
    assert found is not None
    kept = {k: v for k, v in found.traits.items() if k != traits.TUNABLES}
    counts = {k: len(v) for k, v in kept.items()}
    bare = found.provenance.model_copy(update={"traits": counts})
    baseline.write(baseline.Baseline(found.listings, bare, kept), baseline.directory_of(target))
    assert ask(stage, AFTER).outcome is Outcome.MISSING
    replaced(stage)
    assert ask(stage, AFTER).outcome is Outcome.ERROR


def test_a_table_that_differs_from_the_earlier_releases_says_how() -> None:
    off, on = by_name(*TABLE), by_name(*with_default(1))
    assert step_faults(off, off, OURS, 0) == []
    assert step_faults(off, on, OURS, 1) == []
    assert step_faults(off, on, OURS, 0) == [f"{OURS}: default is 1, not 0"]
    assert step_faults(off, off, OURS, 1) == [f"{OURS}: default is 0, not 1"]
    bounds = by_name(ARENA, RSEQ._replace(default=1, maximum=2), SPIN)
    assert step_faults(off, bounds, OURS, 1) == [f"{OURS}: maximum is 2, not 1"]
    alias = by_name(ARENA._replace(alias=""), RSEQ, SPIN)
    assert step_faults(off, alias, OURS, 0) == [f"{ARENA.name}: alias is none, not MALLOC_ARENA_MAX"]
    turned = dict(reversed(off.items()))
    assert step_faults(off, turned, OURS, 0) == [f"numbers differ, from {SPIN.name} on"]
    more = {**off, "glibc.y.y": SPIN._replace(name="glibc.y.y")}
    assert step_faults(off, more, OURS, 0) == ["+ glibc.y.y"]
    assert step_faults(more, off, OURS, 0) == ["- glibc.y.y"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.replace(b"\x03" + bytes(7) + b"\x00", b"\x09" + bytes(7) + b"\x00"),
        lambda data: data[:60],
        lambda data: data.replace(b"mutex_spin_count\0\0", b"mutex_spin_count\0x"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path: Path, spoil: object) -> None:
    strings = SPIN._replace(type="STRING", minimum=0, maximum=0, default=0)
    data = loader(LOADER, ARENA, RSEQ, strings).build(tmp_path / "x").read_bytes()
    at = data.index(ARENA.name.encode())
    row = data[at : at + 400]
    assert tunables.tunables(row, "x")[SPIN.name] == strings
    assert callable(spoil)
    with pytest.raises(MalformedInput):
        tunables.tunables(spoil(row), "x")


def test_the_table_of_this_machines_loader_is_what_it_lists() -> None:
    file = Path(host_arch().interp)
    said = subprocess.run([file, "--list-tunables"], capture_output=True, text=True, check=True, timeout=60)
    listed = [line.partition(":")[0] for line in said.stdout.splitlines()]
    assert list(tunables.rows(file.read_bytes(), str(file))) == listed


def later_source(*table: Tunable, value: int | None = None) -> str:
    """The table of 2.39 and later: the default, the value, and no security level."""
    rows = "".join(
        f'{{"{t.name}", {tunables._TYPES.index(t.type)}, {t.minimum}, {t.maximum}ul, {{{t.default}}}, '
        f'{{{t.default if value is None else value}}}, 0, "{t.alias}"}},\n'
        for t in table
    )
    width = max(len(t.name) for t in table) + 1
    return (
        f"struct row {{ char name[{width}]; unsigned int type; unsigned long low, high, def[2], value[2];\n"
        "             _Bool set; char alias[26]; };\n"
        '__attribute__ ((section (".data.rel.ro"), used)) static struct row tunable_list[] = {\n'
        f"{rows}}};\n"
    )


def test_a_table_of_later_releases_is_read(tmp_path: Path) -> None:
    """From 2.39 on rows have another form, and no AT_SECURE program hears any tunable."""
    made = LOADER.but(source=LOADER.source + later_source(*TABLE)).build(tmp_path / "made")
    assert tunables.tunables(made.read_bytes(), "it") == by_name(
        *(t._replace(security="SXID_ERASE") for t in TABLE)
    )
    wrong = LOADER.but(source=LOADER.source + later_source(*TABLE, value=7)).build(tmp_path / "wrong")
    with pytest.raises(MalformedInput, match=r"the row of glibc\.malloc\.arena_max is not as glibc has it"):
        tunables.tunables(wrong.read_bytes(), "it")
