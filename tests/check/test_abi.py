"""Each ABI check is green on releases that are right, and red on one that is wrong in exactly its way."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.abi import baseline
from pipeline.abi.baseline import Origin
from pipeline.check import Material
from pipeline.check import abi as checks
from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, Outcome, Question
from pipeline.core.records import BuildManifest, Built
from pipeline.profile import Profile
from tests.elf_fixtures import LD, LIBC, LOADER, LOADER_RSEQ, MODULE, RSEQ_NODES, Dso, release_root

BEFORE, UPDATE, AFTER = "12.0", "12.0.z", "12.1"
CHECKS = {check.name: check for check in checks.CHECKS}


@dataclass
class Stage:
    """Releases of the profile made of small DSOs, and a directory of baselines of their own."""

    directory: Path
    profile: Profile
    built: dict[str, Built] = field(default_factory=dict)

    @property
    def material(self) -> Material:
        return Material(profile=self.profile, arch=host_arch(), built=self.built, programs=self.directory)

    def release(self, name: str, loader: Dso, libc: Dso = LIBC, module: Dso = MODULE, **more: Dso) -> Path:
        """Make a release; returns its root."""
        root = release_root(self.directory / name, loader, libc, module, **more)
        manifest = BuildManifest(
            target=self.material.target(name),
            key="",
            nvr=f"glibc-2.36-{name}",
            rpms=(),
            srpm=None,
            mode="supplied",
            place="elsewhere",
            hermetic=False,
            source=None,
            patches=(),
            image=None,
            seconds=0,
        )
        self.built[name] = Built(manifest=manifest, rpms=self.directory, root=root)
        return root

    def commit(self, *names: str) -> None:
        """Commit the baselines of releases as they are now."""
        for name in names:
            target = self.material.target(name)
            made = baseline.from_root(self.built[name].root, target, Origin("build", f"glibc-{name}"))
            baseline.write(made, baseline.directory_of(target))

    def ask(self, check: str, release: str) -> Finding:
        """The one finding of a check about a release (or ``A -> B``); every question has one answer."""
        questions, findings = CHECKS[check].questions(self.material), CHECKS[check].run(self.material)
        assert [Question(check=f.check, target=f.target) for f in findings] == questions
        (finding,) = (f for f in findings if f.target.release == release)
        return finding


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Three right releases with their baselines; upstream's nodes are the committed ones."""
    baselines = tmp_path / "abi-baselines"
    shutil.copytree(paths.BASELINES / baseline.UPSTREAM, baselines / baseline.UPSTREAM)
    monkeypatch.setattr(paths, "BASELINES", baselines)
    made = Stage(tmp_path, profiles.load("bookworm"))
    made.release(BEFORE, LOADER)
    made.release(UPDATE, LOADER_RSEQ)
    made.release(AFTER, LOADER_RSEQ)
    made.commit(BEFORE, UPDATE, AFTER)
    return made


def test_right_releases_are_green(stage: Stage) -> None:
    found = [f for check in checks.CHECKS for f in check.run(stage.material)]
    assert {f.outcome for f in found} == {Outcome.PASS}, [f for f in found if f.outcome != Outcome.PASS]
    assert [(f.check, f.target.release) for f in found] == [
        *(("abi.baseline", release) for release in (BEFORE, UPDATE, AFTER)),
        ("abi.delta", "12.0 -> 12.0.z"),
        ("abi.delta", "12.0 -> 12.1"),
        ("abi.delta", "12.0.z -> 12.1"),
        *(("abi.node-whole", release) for release in (UPDATE, AFTER)),
        *(("abi.rseq-layout", release) for release in (BEFORE, UPDATE, AFTER)),
    ]
    step = stage.ask("abi.delta", f"{BEFORE} -> {AFTER}")
    assert step.seen.splitlines() == [
        f"+ {LD}: GLIBC_2.35 __rseq_flags D 0x4",
        f"+ {LD}: GLIBC_2.35 __rseq_offset D 0x8",
        f"+ {LD}: GLIBC_2.35 __rseq_size D 0x4",
    ]
    assert step.measures["added"] == 3
    assert step.measures["removed"] == 0
    assert step.measures[f"{LD}_symbols"] == 5
    assert step.measures["gconv/*_symbols"] == 2
    assert stage.ask("abi.delta", f"{UPDATE} -> {AFTER}").seen == "no difference"
    assert f"{LD} has all 3 symbols of GLIBC_2.35" in stage.ask("abi.node-whole", AFTER).seen
    assert "__rseq_offset 8 bytes in RELRO data" in stage.ask("abi.rseq-layout", AFTER).seen


def without(symbol: str) -> Dso:
    nodes = {node: tuple(s for s in symbols if s != symbol) for node, symbols in RSEQ_NODES.items()}
    return LOADER_RSEQ.but(nodes=nodes)


SHORT_OFFSET = LOADER_RSEQ.but(source=LOADER_RSEQ.source.replace("long __rseq_offset", "int __rseq_offset"))
FUNCTION = LOADER_RSEQ.but(
    source=LOADER_RSEQ.source.replace(
        "const unsigned int __rseq_flags = 0;", "int __rseq_flags (void) { return 0; }"
    )
)
EXTRA = LOADER_RSEQ.but(
    source=LOADER_RSEQ.source + "int __rseq_extra;\n",
    nodes={**RSEQ_NODES, "GLIBC_2.35": (*RSEQ_NODES["GLIBC_2.35"], "__rseq_extra")},
)
LIBC_GAINS = LIBC.but(nodes={**LIBC.nodes, "GLIBC_2.35": ("__memcmpeq",)})
LIBC_EMPTY_NODE = LIBC.but(nodes={**LIBC.nodes, "GLIBC_2.35": ()})
LIBC_LOSES = LIBC.but(nodes={"GLIBC_2.2.5": ("printf",), "GLIBC_2.34": ("environ",)})
LIBC_GROWS = LIBC.but(source=LIBC.source.replace("environ[2]", "environ[3]"))
LIBC_MOVES = LIBC.but(nodes={"GLIBC_2.2.5": ("printf", "stdout", "environ"), "GLIBC_2.34": ()})
WITH_RSEQ = LIBC.but(
    source=LIBC.source + LOADER_RSEQ.source, nodes={**LIBC.nodes, "GLIBC_2.35": RSEQ_NODES["GLIBC_2.35"]}
)
NEW_DSO = Dso("libnew.so.1", "int f (void) { return 0; }", {"GLIBC_2.2.5": ("f",)})


@dataclass(frozen=True)
class Wrong:
    """A wrong release, and the lines of its delta to the right one."""

    loader: Dso = LOADER_RSEQ
    libc: Dso = LIBC
    more: tuple[Dso, ...] = ()
    lines: tuple[str, ...] = ()


WRONG = {
    "a symbol taken away": Wrong(without("__rseq_flags"), lines=(f"- {LD}: GLIBC_2.35 __rseq_flags D 0x4",)),
    "an old symbol taken away": Wrong(libc=LIBC_LOSES, lines=("- libc.so.6: GLIBC_2.2.5 stdout D 0x8",)),
    "another size": Wrong(
        SHORT_OFFSET,
        lines=(
            f"- {LD}: GLIBC_2.35 __rseq_offset D 0x8 (changed)",
            f"+ {LD}: GLIBC_2.35 __rseq_offset D 0x4 (changed)",
        ),
    ),
    "an old symbol grows": Wrong(
        libc=LIBC_GROWS,
        lines=(
            "- libc.so.6: GLIBC_2.34 environ D 0x10 (changed)",
            "+ libc.so.6: GLIBC_2.34 environ D 0x18 (changed)",
        ),
    ),
    "a symbol too many": Wrong(EXTRA, lines=(f"+ {LD}: GLIBC_2.35 __rseq_extra D 0x4",)),
    "another kind": Wrong(
        FUNCTION,
        lines=(
            f"- {LD}: GLIBC_2.35 __rseq_flags D 0x4 (changed)",
            f"+ {LD}: GLIBC_2.35 __rseq_flags F (changed)",
        ),
    ),
    "in another DSO": Wrong(
        LOADER,
        WITH_RSEQ,
        lines=(
            f"- {LD}: GLIBC_2.35 __rseq_size D 0x4",
            "+ libc.so.6: GLIBC_2.35 __rseq_size D 0x4",
        ),
    ),
    "another DSO gains the node": Wrong(libc=LIBC_GAINS, lines=("+ libc.so.6: GLIBC_2.35 __memcmpeq F",)),
    "another DSO gains the bare node": Wrong(
        libc=LIBC_EMPTY_NODE, lines=("+ libc.so.6: GLIBC_2.35 GLIBC_2.35 A",)
    ),
    "at another node": Wrong(
        libc=LIBC_MOVES,
        lines=("- libc.so.6: GLIBC_2.34 environ D 0x10", "+ libc.so.6: GLIBC_2.2.5 environ D 0x10"),
    ),
    "another DSO": Wrong(
        more=(NEW_DSO,), lines=("+ libnew.so.1: the whole DSO", "+ libnew.so.1: GLIBC_2.2.5 f F")
    ),
    "another soname": Wrong(libc=LIBC.but(soname="libc.so.7"), lines=("+ libc.so.6: soname libc.so.7",)),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_release_is_red_against_its_baseline_and_the_step(stage: Stage, wrong: Wrong) -> None:
    root = stage.release(AFTER, wrong.loader, **{dso.soname: dso for dso in wrong.more})
    wrong.libc.build(root / "lib64/libc.so.6")
    against_baseline = stage.ask("abi.baseline", AFTER)
    assert against_baseline.outcome == Outcome.FAIL
    assert set(wrong.lines) <= set(against_baseline.seen.splitlines())
    # 12.0.z -> 12.1 has to be without any difference, so the very same lines are red there
    same = stage.ask("abi.delta", f"{UPDATE} -> {AFTER}")
    assert same.outcome == Outcome.FAIL
    assert set(wrong.lines) <= set(same.seen.splitlines())
    gaining = stage.ask("abi.delta", f"{BEFORE} -> {AFTER}")
    assert gaining.outcome == Outcome.FAIL
    assert ("expected and absent" in gaining.seen) == (
        wrong.loader in (without("__rseq_flags"), SHORT_OFFSET, FUNCTION, LOADER)
    )
    # and nothing else turns red with it
    assert stage.ask("abi.baseline", BEFORE).outcome == Outcome.PASS
    assert stage.ask("abi.delta", f"{BEFORE} -> {UPDATE}").outcome == Outcome.PASS


def test_a_lost_dso_is_red(stage: Stage) -> None:
    (stage.built[AFTER].root / "lib64/gconv/UTF-16.so").unlink()
    for check, release in (("abi.baseline", AFTER), ("abi.delta", f"{BEFORE} -> {AFTER}")):
        finding = stage.ask(check, release)
        assert finding.outcome == Outcome.FAIL
        assert "- gconv/UTF-16.so: the whole DSO\n- gconv/UTF-16.so: - gconv F" in finding.seen


def test_a_release_with_nothing_in_it_is_an_error(stage: Stage) -> None:
    shutil.rmtree(stage.built[AFTER].root / "lib64")
    finding = stage.ask("abi.baseline", AFTER)
    assert finding.outcome == Outcome.ERROR
    assert "has no DSO" in finding.seen


def test_no_baseline_is_missing_and_the_step_says_what_it_used(stage: Stage) -> None:
    shutil.rmtree(baseline.directory_of(stage.material.target(BEFORE)))
    finding = stage.ask("abi.baseline", BEFORE)
    assert finding.outcome == Outcome.MISSING
    assert "nox -s baseline -- --profile bookworm --release 12.0" in finding.seen
    step = stage.ask("abi.delta", f"{BEFORE} -> {AFTER}")
    assert step.outcome == Outcome.PASS
    assert "against the built 12.0, for which no baseline is committed" in step.expected
    del stage.built[BEFORE]
    for check, release in (("abi.delta", f"{BEFORE} -> {AFTER}"), ("abi.node-whole", AFTER)):
        finding = stage.ask(check, release)
        assert finding.outcome == Outcome.MISSING
        assert "neither a baseline nor a build" in finding.seen


def test_a_step_is_judged_against_the_baseline_not_a_build_that_drifted(stage: Stage) -> None:
    """Both releases wrong in the same way: builds alone would agree."""
    for release in (BEFORE, AFTER):
        LIBC_LOSES.build(stage.built[release].root / "lib64/libc.so.6")
    finding = stage.ask("abi.delta", f"{BEFORE} -> {AFTER}")
    assert finding.outcome == Outcome.FAIL
    assert "- libc.so.6: GLIBC_2.2.5 stdout D 0x8" in finding.seen


def test_a_corrupt_baseline_is_an_error_naming_the_line(stage: Stage) -> None:
    file = baseline.directory_of(stage.material.target(BEFORE)) / "libc.so.6.abilist"
    file.write_text(file.read_text().replace("printf F", "printf"))
    for check, release in (
        ("abi.baseline", BEFORE), ("abi.delta", f"{BEFORE} -> {AFTER}"), ("abi.node-whole", AFTER),
    ):  # fmt: skip
        finding = stage.ask(check, release)
        assert finding.outcome == Outcome.ERROR, check
        assert "libc.so.6.abilist:1:" in finding.seen
    assert stage.ask("abi.baseline", AFTER).outcome == Outcome.PASS


def test_a_malformed_library_is_an_error_of_its_release_alone(stage: Stage) -> None:
    libc = stage.built[AFTER].root / "lib64/libc.so.6"
    libc.write_bytes(libc.read_bytes()[:500])
    for check in CHECKS:
        release = f"{BEFORE} -> {AFTER}" if check == "abi.delta" else AFTER
        finding = stage.ask(check, release)
        assert finding.outcome == Outcome.ERROR
        assert "libc.so.6: malformed ELF file" in finding.seen
    assert stage.ask("abi.baseline", UPDATE).outcome == Outcome.PASS


def test_a_long_difference_is_cut_but_told_apart(stage: Stage) -> None:
    seen = []
    for last in ("a", "b"):
        names = [f"f{n:03}" for n in range(80)] + [f"g{last}"]
        source = LIBC.source + "".join(f"void {n} (void) {{}}\n" for n in names)
        many = LIBC.but(source=source, nodes={**LIBC.nodes, "GLIBC_2.36": tuple(names)})
        many.build(stage.built[AFTER].root / "lib64/libc.so.6")
        finding = stage.ask("abi.baseline", AFTER)
        assert finding.measures["added"] == 81
        assert f"GLIBC_2.36 g{last} F" in finding.measures["delta"]
        seen.append(finding.seen)
    assert "… and 21 more" in seen[0]
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    ("loader", "libc", "says"),
    [
        (LOADER, LIBC, f"{LD} has no GLIBC_2.35"),
        (without("__rseq_flags"), LIBC, f"not upstream's: - {LD}: GLIBC_2.35 __rseq_flags D 0x4"),
        (SHORT_OFFSET, LIBC, f"not upstream's: + {LD}: GLIBC_2.35 __rseq_offset D 0x4 (changed)"),
        (EXTRA, LIBC, f"not upstream's: + {LD}: GLIBC_2.35 __rseq_extra D 0x4"),
        (LOADER_RSEQ, LIBC_GAINS, "libc.so.6 gained GLIBC_2.35, which it must not have: __memcmpeq"),
        (LOADER_RSEQ, LIBC_EMPTY_NODE, "libc.so.6 gained GLIBC_2.35, which it must not have: no symbol"),
        (LOADER_RSEQ, WITH_RSEQ, "must not have: __rseq_flags, __rseq_offset, __rseq_size"),
    ],
)
def test_a_node_that_is_not_whole_or_not_wanted_is_red(
    stage: Stage, loader: Dso, libc: Dso, says: str
) -> None:
    # committed as its own baseline: the rule holds whatever was accepted as the baseline of the release
    stage.release(AFTER, loader, libc)
    stage.commit(AFTER)
    assert stage.ask("abi.baseline", AFTER).outcome == Outcome.PASS
    finding = stage.ask("abi.node-whole", AFTER)
    assert finding.outcome == Outcome.FAIL
    assert says in finding.seen
    assert stage.ask("abi.node-whole", UPDATE).outcome == Outcome.PASS


def test_the_whole_node_of_another_dso_is_red_all_the_same(stage: Stage) -> None:
    """libc's GLIBC_2.35 is four symbols upstream; bringing all four is not what the profile expects."""
    whole = baseline.load(baseline.upstream_directory("2.35", host_arch().name))
    assert whole is not None
    names = tuple(e.symbol for e in whole.listings["libc.so.6"].symbols)
    assert len(names) == 4
    new = [n for n in names if n != "__memcmpeq"]
    source = LIBC.source + "".join(f"void {n} (void) {{}}\n" for n in new)
    stage.release(AFTER, LOADER_RSEQ, LIBC.but(source=source, nodes={**LIBC.nodes, "GLIBC_2.35": names}))
    finding = stage.ask("abi.node-whole", AFTER)
    assert finding.outcome == Outcome.FAIL
    assert "libc.so.6 gained GLIBC_2.35" in finding.seen
    assert "epoll_pwait2" in finding.seen


def test_without_upstreams_list_a_node_is_missing_evidence(stage: Stage) -> None:
    shutil.rmtree(paths.BASELINES / baseline.UPSTREAM)
    finding = stage.ask("abi.node-whole", AFTER)
    assert finding.outcome == Outcome.MISSING
    assert "nox -s baseline -- --upstream 2.35 --node GLIBC_2.35" in finding.seen


def source_with(old: str, new: str) -> Dso:
    changed = LOADER_RSEQ.source.replace(old, new)
    assert changed != LOADER_RSEQ.source
    return LOADER_RSEQ.but(source=changed)


RELRO = ' __attribute__ ((section (".data.rel.ro")))'
HIDDEN = LOADER_RSEQ.but(
    source=LOADER_RSEQ.source.replace("__rseq_flags", "_flags")
    + '__asm__ (".symver _flags,__rseq_flags@GLIBC_2.35");\n'
)


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        (source_with(f"__rseq_size{RELRO}", "__rseq_size"), "__rseq_size in .* it is not in RELRO data"),
        (source_with(f"__rseq_offset{RELRO}", "__rseq_offset"), "__rseq_offset in .* not in RELRO data"),
        (source_with("const unsigned int __rseq_flags", f"unsigned int __rseq_flags{RELRO}"),
         "__rseq_flags in .* it is not in read-only data"),
        (SHORT_OFFSET, "__rseq_offset in .*: it has 4 bytes, not 8"),
        (FUNCTION, "__rseq_flags in .*: it is of type 2, not an object"),
        (without("__rseq_size"), "__rseq_size in .*: it is not at GLIBC_2.35"),
        (HIDDEN, "__rseq_flags in .*: GLIBC_2.35 is not its default version"),
        (LOADER_RSEQ.but(nodes={"GLIBC_2.2.5": (*RSEQ_NODES["GLIBC_2.2.5"], *RSEQ_NODES["GLIBC_2.35"])}),
         "must not be public there: .*: GLIBC_2.2.5 __rseq_size D 0x4"),
    ],
)  # fmt: skip
def test_a_symbol_in_the_wrong_place_is_red(stage: Stage, loader: Dso, says: str) -> None:
    loader.build(stage.built[AFTER].root / "lib64" / LD)
    finding = stage.ask("abi.rseq-layout", AFTER)
    assert finding.outcome == Outcome.FAIL
    assert re.search(says, finding.seen)
    assert LD in finding.seen


def test_a_release_that_must_not_export_them_is_red_if_it_does(stage: Stage) -> None:
    LOADER_RSEQ.build(stage.built[BEFORE].root / "lib64" / LD)
    finding = stage.ask("abi.rseq-layout", BEFORE)
    assert finding.outcome == Outcome.FAIL
    assert f"must not be public there: {LD}: GLIBC_2.35 __rseq_size D 0x4" in finding.seen


def test_private_ones_are_not_public(stage: Stage) -> None:
    private = {**LOADER.nodes, "GLIBC_PRIVATE": ("_rtld_global", *RSEQ_NODES["GLIBC_2.35"])}
    LOADER.but(nodes=private).build(stage.built[BEFORE].root / "lib64" / LD)
    assert stage.ask("abi.rseq-layout", BEFORE).outcome == Outcome.PASS
    assert stage.ask("abi.baseline", BEFORE).outcome == Outcome.PASS


def test_a_second_copy_in_another_dso_is_red(stage: Stage) -> None:
    WITH_RSEQ.build(stage.built[AFTER].root / "lib64/libc.so.6")
    finding = stage.ask("abi.rseq-layout", AFTER)
    assert finding.outcome == Outcome.FAIL
    assert "must not be public there: libc.so.6: GLIBC_2.35 __rseq_offset D 0x8" in finding.seen


def test_an_old_version_that_means_the_code_of_the_new_one_is_red(stage: Stage) -> None:
    """No listing shows it: names, versions and sizes stay."""
    code = LIBC.source + (
        "int old_call (void) { return 1; }\nint new_call (void) { return 2; }\n"
        'extern int same (void) __attribute__ ((alias ("new_call")));\n'
        '__asm__ (".symver new_call, call@@GLIBC_2.34");\n'
    )
    nodes = {"GLIBC_2.2.5": ("printf", "stdout", "call"), "GLIBC_2.34": ("environ", "call")}
    two, one = (
        LIBC.but(nodes=nodes, source=f'{code}__asm__ (".symver {name}, call@GLIBC_2.2.5");\n')
        for name in ("old_call", "same")
    )
    for release, libc in ((BEFORE, two), (UPDATE, two), (AFTER, two)):
        stage.release(release, LOADER if release == BEFORE else LOADER_RSEQ, libc)
    stage.commit(BEFORE, UPDATE, AFTER)
    delta = CHECKS["abi.delta"]

    def ours() -> None:
        for name, built in stage.built.items():
            own = built.manifest.model_copy(update={"mode": "native"})
            stage.built[name] = built.model_copy(update={"manifest": own})

    ours()
    assert {f.outcome for f in delta.run(stage.material)} == {Outcome.PASS}
    stage.release(AFTER, LOADER_RSEQ, one)
    assert {f.outcome for f in delta.run(stage.material)} == {Outcome.PASS}  # another maker's series
    ours()
    red = [f for f in delta.run(stage.material) if f.outcome is Outcome.FAIL]
    assert red
    words = "the versions of call are the code GLIBC_2.2.5=GLIBC_2.34, not GLIBC_2.2.5 and GLIBC_2.34"
    assert all(f.target.release.endswith(AFTER) and words in f.seen for f in red)
    assert {f.outcome for f in CHECKS["abi.baseline"].run(stage.material)} == {Outcome.PASS}
