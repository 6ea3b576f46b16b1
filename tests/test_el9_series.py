"""The el9 patches: whole, used, and in the shape the three releases promise. No source tree is needed."""

from __future__ import annotations

import re

import pytest

from pipeline import profile
from pipeline.abi import baseline
from pipeline.core.arch import arch
from pipeline.core.outcome import Target
from pipeline.profile import Profile
from pipeline.source import series
from pipeline.source.series import Series

SYMBOLS = {"__rseq_flags", "__rseq_offset", "__rseq_size"}


@pytest.fixture(scope="module")
def el9() -> Profile:
    return profile.load("el9")


def added_to(release: Series, target: str) -> list[str]:
    """The lines a release's patches add to one file of the tree, less those a later patch takes away."""
    lines: list[str] = []
    for patch in release.patches:
        for hunk in patch.hunks():
            if hunk.target == target:
                for line in hunk.lines:
                    if line.startswith("-") and line[1:] in lines:
                        lines.remove(line[1:])
                    elif line.startswith("+"):
                        lines.append(line[1:])
    return lines


def test_nothing_is_wrong_with_the_patches(el9: Profile) -> None:
    assert series.lint(el9) == []


def test_every_patch_tells_its_upstream_or_is_ours_alone(el9: Profile) -> None:
    silent = {p.file for r in el9.releases for p in series.load("el9", r).patches if not p.upstream}
    assert silent == {"0003-elf-number-tunables-by-name.patch", "0014-nptl-rseq-off-by-default.patch"}


def test_fixes_that_need_each_other_are_both_named(el9: Profile) -> None:
    """2.34-74.el9 took 2c6b4b272e without 7a76f21867, and sched_getcpu lost rseq (RHEL-28119)."""
    for release in el9.releases:
        named = {u.split()[0] for p in series.load("el9", release).patches for u in p.upstream}
        assert {"2c6b4b272e", "7a76f21867"} <= named


@pytest.mark.parametrize("release", ["9.0", "9.0.z", "9.1"])
def test_symbols_and_default_are_those_of_the_profile(el9: Profile, release: str) -> None:
    wanted = el9.get(release)
    patches = series.load("el9", release)
    exported = {
        line.strip().rstrip(";")
        for line in added_to(patches, "sysdeps/unix/sysv/linux/Versions")
        if line.strip().startswith("__")
    }
    assert exported == (SYMBOLS if wanted.exports_rseq else set())
    tunable = "\n".join(added_to(patches, "sysdeps/nptl/dl-tunables.list"))
    assert re.findall(r"default: (\d)", tunable) == [str(wanted.rseq_default)]


PORTS = 31
PLACEHOLDER = "GLIBC_2.34 __rtld_version_placeholder F"


def abilists(release: str) -> dict[str, list[str]]:
    """The file of each port that lists the loader's symbols -> the lines a release adds to it."""
    loaded = series.load("el9", release)
    targets = {h.target for p in loaded.patches for h in p.hunks() if h.target.endswith("/ld.abilist")}
    return {target: added_to(loaded, target) for target in targets}


@pytest.mark.parametrize(("port", "machine"), [("x86_64/64", "x86_64"), ("aarch64", "aarch64")])
def test_abilists_say_what_the_profile_says(el9: Profile, port: str, machine: str) -> None:
    assert machine in el9.arches
    expected = [line.split(" ", 1)[1] for line in el9.rseq.symbols]
    for release in el9.releases.values():
        lines = abilists(release.name)[f"sysdeps/unix/sysv/linux/{port}/ld.abilist"]
        assert lines == [PLACEHOLDER, *(expected if release.exports_rseq else [])]


def test_the_loader_of_every_port_has_the_node_of_its_version(el9: Profile) -> None:
    """RHEL 9.0 GA has it (2.34-22.el9 and later); Hurd's loader too, which has no rseq."""
    for release in el9.releases:
        found = abilists(release)
        assert len(found) == PORTS
        assert all(lines[0] == PLACEHOLDER for lines in found.values())
        for target, lines in found.items():
            symbols = {line.split()[1] for line in lines[1:]}
            exports = el9.get(release).exports_rseq and "/linux/" in target
            assert symbols == (SYMBOLS if exports else set()), target


def test_the_nodes_are_in_no_other_dso(el9: Profile) -> None:
    ours = {"elf/Versions", "sysdeps/unix/sysv/linux/Versions"}
    for release in el9.releases:
        for patch in series.load("el9", release).patches:
            for hunk in patch.hunks():
                if any(re.match(r"\+.*GLIBC_2\.3[45]\b", line) for line in hunk.lines):
                    prose = hunk.target.endswith("dl-node-placeholder.c")
                    assert hunk.target in ours or prose or hunk.target.endswith("/ld.abilist"), hunk.target


def test_sched_getcpu_does_not_depend_on_a_macro(el9: Profile) -> None:
    """The cause of RHEL-28119 was a condition on RSEQ_SIG around the read of the area."""
    for release in el9.releases:
        loaded = series.load("el9", release)
        added = added_to(loaded, "sysdeps/unix/sysv/linux/sched_getcpu.c")
        assert any("rseq_area_cpu ()" in line for line in added)
        assert not [line for line in added if line.startswith(("#if", "# if"))]
        for port in ("nptl", "x86/nptl"):
            header = added_to(loaded, f"sysdeps/{port}/rseq-cpu.h")
            assert any("rseq_area.cpu_id" in line for line in header)
            conditions = [line for line in header if re.match(r"#\s*(if|elif|else)", line)]
            assert conditions == ["#ifndef _RSEQ_CPU_H"]


def test_the_descriptors_alignment_has_one_value(el9: Profile) -> None:
    """Tests include <pthreaddef.h> again behind <descr.h>, which therefore must not define another value."""
    for release in el9.releases:
        loaded = series.load("el9", release)
        defined = {
            h.target: [line for line in h.lines if re.match(r"\+#\s*(define|undef) TCB_ALIGNMENT\b", line)]
            for p in loaded.patches
            for h in p.hunks()
        }
        defined = {target: lines for target, lines in defined.items() if lines}
        assert len(defined) == 16  # all ports but x86 and hppa, which have 64
        for target, lines in defined.items():
            assert target.endswith("/pthreaddef.h")
            assert [line.split()[-1] for line in lines] == ["32"]
    assert {"nptl/tst-tls3", "nptl/tst-tls3-malloc"} <= set(el9.own_tests)


def test_the_default_is_tested_with_nothing_set_and_without_tunables(el9: Profile) -> None:
    for release in el9.releases:
        added = added_to(series.load("el9", release), "sysdeps/unix/sysv/linux/Makefile")
        tested = added.index("tests-internal += tst-rseq-default")
        assert tested < added.index("ifneq (no,$(have-tunables))")
        assert "tst-rseq-default-ENV = GLIBC_TUNABLES=" in added
        assert not [line for line in added if line.startswith("tests +=")]  # the host's system call numbers
        assert "nptl/tst-rseq-default" in el9.tests_of(release)


def test_the_tunables_are_numbered_alike_in_all_releases(el9: Profile) -> None:
    """By name (elf/tst-tunable-numbers sees to that in the build), so equal lists are equal numbers."""
    lists = set()
    for release in el9.releases:
        loaded = series.load("el9", release)
        assert "  tunables = asorti (types, by_name)" in added_to(loaded, "scripts/gen-tunables.awk")
        changed = {
            h.target for p in loaded.patches for h in p.hunks() if h.target.endswith("dl-tunables.list")
        }
        assert changed == {"sysdeps/nptl/dl-tunables.list"}
        added = added_to(loaded, "sysdeps/nptl/dl-tunables.list")
        lists.add(tuple(line for line in added if "default:" not in line))
        assert "elf/tst-tunable-numbers" in el9.tests_of(release)
    assert len(lists) == 1


def test_every_test_of_the_series_is_run_by_the_build(el9: Profile) -> None:
    """But for cancellation, which needs a libgcc_s that 2.34 can load: GCC 12's needs 2.35."""
    for release in el9.releases:
        loaded = series.load("el9", release)
        new = {h.target for p in loaded.patches for h in p.hunks() if h.start == 0}
        named = {f"nptl/{m[1]}" for t in new if (m := re.match(r".*/(tst-rseq[\w-]*)\.c$", t))}
        assert len(named) == (11 if el9.get(release).exports_rseq else 7) + 1
        asked = {t for t in el9.tests_of(release) if t.startswith("nptl/tst-rseq")}
        assert named - asked == {"nptl/tst-rseq-cancel"}
        assert asked <= named


def test_what_rhel_ships_is_configured(el9: Profile) -> None:
    shared = {"--disable-crypt", "--enable-bind-now", "--enable-stack-protector=strong", "--enable-tunables"}
    for machine in el9.arches:
        options = el9.configure_of(machine)
        assert shared <= set(options)
        assert "--disable-werror" not in options
    assert "--enable-cet" in el9.configure_of("x86_64")
    assert "--with-rtld-early-cflags=-march=x86-64" in el9.configure_of("x86_64")
    assert "-march=x86-64-v2" in el9.cflags_of("x86_64")
    assert "--enable-memory-tagging" in el9.configure_of("aarch64")
    assert not [o for o in el9.configure_of("aarch64") + el9.cflags_of("aarch64") if "x86" in o or "cet" in o]
    assert {line.split()[0] for line in el9.differences} >= {"annobin's", "SystemTap's"}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_baselines_are_of_rhels_base(el9: Profile, machine: str) -> None:
    """9.0's loader has 5 symbols on x86_64 and 6 on AArch64, the later releases three more; no libcrypt."""
    for release in el9.releases.values():
        found = baseline.load_target(Target(profile="el9", release=release.name, arch=machine))
        assert found is not None
        assert "libcrypt.so.1" not in found.listings
        loader = {e for e in found.listings[arch(machine).loader].symbols if e.kind != "A"}
        assert ("GLIBC_2.34", "__rtld_version_placeholder", "F", None) in {tuple(e) for e in loader}
        count = {"x86_64": 5, "aarch64": 6}[machine]
        assert len(loader) == count + (3 if release.exports_rseq else 0)
        assert found.provenance.kind == "build" or "release/2.34/master" in found.provenance.note
