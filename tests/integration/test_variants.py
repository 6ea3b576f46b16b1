"""Variants: what make is trusted with, what starts from nothing, and that either gives the same packages."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from pipeline.build import hook, rebuild, trees, variants
from pipeline.build.builder import Builder
from pipeline.build.every import build_all
from pipeline.build.rpmbuild import RESUMED
from pipeline.build.stored import WARNINGS
from pipeline.build.variants import Proof, Variant
from pipeline.check.rebuilt import judged
from pipeline.core import paths
from pipeline.core.errors import CommandFailed, UsageError
from pipeline.core.lanes import Piece, side_by_side
from pipeline.core.outcome import Outcome, Target
from pipeline.elf import Elf
from pipeline.elf import read as read_elf
from pipeline.host.image import BuildImage
from pipeline.knownbad.change import patch
from pipeline.knownbad.entry import Change
from pipeline.source.patchfile import Patch
from tests.tiny_kit import TREE, Tiny

pytestmark = pytest.mark.integration

SOURCE = {"file": "iconvdata/x.c", "find": "return 0", "replace": "return 1"}


@pytest.fixture
def builder(tiny: Tiny, state: Path, host_in_a_container: BuildImage) -> Builder:  # noqa: ARG001
    return tiny.builder(image=host_in_a_container)


def said(rpms: Path) -> str:
    """The log of the build that made these RPMs."""
    logs = sorted((paths.logs()).glob("variant-*.log"), key=lambda p: p.stat().st_mtime)
    assert rpms.is_dir()
    return logs[-1].read_text()


def compiled(log: str) -> set[str]:
    """The files that were compiled after the kept objects were taken."""
    after = log[log.index("resume: ") :]
    lines = [line.split() for line in after.splitlines() if " -c " in line and " -o " in line]
    return {Path(word).name for words in lines for word in words if word.endswith(".c")}


def changed(*changes: Mapping[str, Any], tree: Path = TREE) -> tuple[Patch, ...]:
    """The changes as a patch of the tree, if there are any."""
    where = paths.state() / "change.patch"
    return (patch("x", [Change(**c) for c in changes], tree, where),) if changes else ()


def proved(
    builder: Builder, target: Target, tree: Target, *changes: Mapping[str, Any], of: Path = TREE
) -> str:
    """The log of a variant whose packages are those of a build from nothing."""
    variant = Variant(target, changed(*changes, tree=of))
    log = said(variants.build(builder, variant, tree))
    assert variants.prove(builder, variant, tree).wrong == []
    return log


def test_a_changed_file_is_compiled_and_no_other(builder: Builder, tiny: Tiny) -> None:
    tree = tiny.target("1.1")
    log = proved(builder, tree, tree, SOURCE)
    assert f"\n{RESUMED}" in log
    assert compiled(log) == {"x.c"}


def test_nothing_changed_compiles_nothing_and_gives_the_good_packages(builder: Builder, tiny: Tiny) -> None:
    tree = tiny.target("1.1")
    good = builder.build(tree)
    rpms = variants.build(builder, Variant(tree), tree)
    assert compiled(said(rpms)) == set()
    assert variants.differences(rpms, good.rpms) == []


def test_a_header_compiles_all_that_include_it(builder: Builder, tiny: Tiny) -> None:
    tree = tiny.target("1.1")
    puts = "extern int puts"
    header = {"file": "include/stdio.h", "find": puts, "replace": f"extern int more;\n{puts}"}
    log = proved(builder, tree, tree, header)
    assert "objects of the kept tree" in log
    using = {p.name for p in TREE.rglob("*.c") if "stdio.h" in p.read_text()}
    assert using
    assert compiled(log) == using


def test_another_release_starts_from_the_same_tree(builder: Builder, tiny: Tiny) -> None:
    log = proved(builder, tiny.target("1.0"), tiny.target("1.1"))
    assert "objects of the kept tree" in log
    assert compiled(log) == set()  # only a version script differs
    assert "ld.map" in log
    whole = builder.build(tiny.target("1.0"))
    assert (
        variants.differences(
            variants.build(builder, Variant(tiny.target("1.0")), tiny.target("1.1")), whole.rpms
        )
        == []
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": "configure", "find": "int x;", "replace": "int y;"}, "rules changed: configure"),
        ({"file": "Makerules", "find": "-ffreestanding", "replace": "-ffreestanding -O1"}, "rules changed"),
        ({"file": "scripts/ldd", "find": "#!/bin/bash\n", "replace": "#!/bin/bash\n# x\n"}, "rules changed"),
        ({"file": "include/new.h", "add": "extern int y;\n"}, "added or removed"),
        ({"file": "include/sys/rseq.h", "remove": True}, "added or removed"),
    ],
    ids=["configure", "makefile", "script", "added", "removed"],
)
def test_what_make_cannot_know_by_times_starts_from_nothing(
    builder: Builder, tiny: Tiny, change: dict[str, Any], words: str
) -> None:
    tree = tiny.target("1.1")
    if change["file"] == "include/sys/rseq.h":  # the directory would be empty, and installing it would fail
        other = {"file": "include/sys/other.h", "add": "extern int y;\n"}
        log = proved(builder, tree, tree, change, other)
    else:
        log = proved(builder, tree, tree, change)
    assert words in log
    assert {"rtld.c", "libc.c"} <= compiled(log)


def test_an_abilist_compiles_nothing(
    tiny: Tiny,
    state: Path,  # noqa: ARG001
    tmp_path: Path,
    host_in_a_container: BuildImage,
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(TREE, tree)
    (tree / "elf" / "ld.abilist").write_text("GLIBC_2.35 __rseq_size D 0x4\n")
    builder = tiny.builder(tree=tree, image=host_in_a_container)
    target = tiny.target("1.1")
    change = {"file": "elf/ld.abilist", "find": "0x4", "replace": "0x8"}
    log = proved(builder, target, target, change, of=tree)
    assert "objects of the kept tree" in log
    assert compiled(log) == set()


def test_a_result_of_configure_that_differs_starts_from_nothing() -> None:
    source = {"a.c": ("1", 1)}
    kept = {"source": source, "configured": {"config.make": ("x", 1)}, "generating": [], "meanings": {}}
    assert hook.compare(source, {"config.make": ("x", 9)}, kept, {}) == ([], "")
    assert "another result" in hook.compare(source, {"config.make": ("y", 9)}, kept, {})[1]
    assert "another result" in hook.compare(source, {}, kept, {})[1]


@pytest.mark.parametrize(
    ("name", "nothing"),
    [
        ("localedata/charmaps/KOI8-R", "it is not known what is made from"),
        ("shlib-versions", "it is not known what is made from"),
        ("version.h", "rules changed:"),
        ("sysdeps/nptl/dl-tunables.list", ""),  # made first, and then compared (below)
        ("sysdeps/unix/sysv/linux/Versions", ""),
        ("sysdeps/unix/sysv/linux/syscalls.list", "headers are generated from"),
        ("sysdeps/x86_64/tcb-offsets.sym", "headers are generated from"),
        ("nptl/descr.h", "headers are generated from"),  # a generated header's list names it
        ("nptl/other.h", ""),
        ("nptl/pthread_create.c", ""),
        ("elf/ld.abilist", ""),
    ],
)
def test_what_headers_are_generated_from_starts_from_nothing(tmp_path: Path, name: str, nothing: str) -> None:
    """glibc's objects name a generated header by another path than its rule: it stayed as it was."""
    (tmp_path / "csu").mkdir()
    (tmp_path / "csu" / "tcb-offsets.h.d").write_text(
        "$(common-objpfx)tcb-offsets.h.d $(common-objpfx)tcb-offsets.h: \\\n"
        " $(..)include/libc-symbols.h $(common-objpfx)config.h \\\n $(..)nptl/descr.h\n"
    )
    generating = hook.generating(tmp_path)
    assert generating == ["include/libc-symbols.h", "nptl/descr.h"]
    kept = {"source": {name: ("1", 1)}, "configured": {}, "generating": generating, "meanings": {}}
    changed_, why = hook.compare({name: ("2", 2)}, {}, kept, {})
    assert changed_ == [name]
    assert why == (f"{nothing} {name}" if nothing else "")


#: As in glibc: what is generated from Versions and tunables lies in the build directory, is replaced only if
#: it changes, and objects name it by a relative path.
GENERATED = """
top := $(CURDIR)/
compile += -I../$(notdir $(CURDIR))
-include $(top)Versions.mk
rtld.o: | $(top)dl-tunable-list.h
libc.o: | $(top)first-versions.h
gconv/X.so: $(top)X.map
replace = if cmp -s $(top)$(1).new $(top)$(1); then rm $(top)$(1).new; else mv $(top)$(1).new $(top)$(1); fi
$(top)dl-tunable-list.h: $(top)dl-tunable-list.stmp ; @:
$(top)dl-tunable-list.stmp: $(srcdir)/elf/dl-tunables.list
\tsed 's/^/#define DEFAULT /' $< > $(top)dl-tunable-list.h.new
\t$(call replace,dl-tunable-list.h)
\ttouch $@
$(top)first-versions.h $(top)X.map $(top)Versions.mk: $(top)versions.stmp ; @:
$(top)versions.stmp: $(srcdir)/Versions
\tsed -n 's/^header //p' $< > $(top)first-versions.h.new
\t$(call replace,first-versions.h)
\tsed -n 's/^map //p' $< > $(top)X.map.new
\t$(call replace,X.map)
\tsed -n 's/^rule //p' $< > $(top)Versions.mk.new
\t$(call replace,Versions.mk)
\ttouch $@
"""
VERSIONS = "header #define FIRST 1\nmap V { global: *; };\nrule CFLAGS += -DSOME\n"


@pytest.fixture
def generating(tmp_path: Path) -> Path:
    """The tiny tree with a tunable's default and a symbol's version that are generated."""
    tree = tmp_path / "tree"
    shutil.copytree(TREE, tree)
    with (tree / "Makerules").open("a") as rules:
        rules.write(GENERATED)
    makerules = (tree / "Makerules").read_text()
    link = "-shared -nostdlib -o $@ $<"
    assert link in makerules
    map_of_x = "-Wl,--version-script,$(top)X.map"
    (tree / "Makerules").write_text(makerules.replace(link, f"-shared -nostdlib {map_of_x} -o $@ $<"))
    (tree / "elf" / "dl-tunables.list").write_text("1\n")
    (tree / "Versions").write_text(VERSIONS)
    for name, text in (
        ("elf/rtld.c", '#include "dl-tunable-list.h"\nint tunable_default = DEFAULT;\n'),
        ("csu/libc.c", '#include "first-versions.h"\nint first_version = FIRST;\n'),
    ):
        (tree / name).write_text(text + (tree / name).read_text())
    return tree


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"file": "elf/dl-tunables.list", "find": "1", "replace": "0"}, ({"rtld.c"}, "")),
        ({"file": "Versions", "find": "FIRST 1", "replace": "FIRST 2"}, ({"libc.c"}, "")),
        ({"file": "Versions", "find": "map V", "replace": "map W"}, (set(), "")),
        ({"file": "Versions", "find": "rule ", "replace": "other\nrule "}, (set(), "")),
        ({"file": "Versions", "find": "-DSOME", "replace": "-DANY"}, (None, "rules changed: Versions.mk")),
    ],
    ids=["tunable", "version", "map", "nothing of it", "rule"],
)
def test_what_is_generated_first_outdates_what_was_made_from_it(
    tiny: Tiny,
    host_in_a_container: BuildImage,
    generating: Path,
    change: dict[str, Any],
    expected: tuple[set[str] | None, str],
) -> None:
    files, words = expected
    builder = tiny.builder(tree=generating, image=host_in_a_container)
    target = tiny.target("1.1")
    log = proved(builder, target, target, change, of=generating)
    assert (words or "objects of the kept tree") in log
    if files is None:
        assert {"rtld.c", "libc.c", "x.c"} <= compiled(log)
    else:
        assert compiled(log) == files


def test_a_generated_header_taken_for_unchanged_is_seen(
    tiny: Tiny,
    host_in_a_container: BuildImage,
    generating: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hook that gives a changed header the kept one's time leaves a stale object, and the proof is red."""
    honest = trees.HOOK.read_text()
    telling = 'telling = {n for n in changed if n.endswith((".h", ".map"))}'
    assert telling in honest
    other = tmp_path / "hook.py"
    other.write_text(honest.replace(telling, "telling = set()"))
    monkeypatch.setattr(trees, "HOOK", other)
    builder = tiny.builder(tree=generating, image=host_in_a_container)
    target = tiny.target("1.1")
    change = changed({"file": "elf/dl-tunables.list", "find": "1", "replace": "0"}, tree=generating)
    wrong = variants.prove(builder, Variant(target, change), target).wrong
    assert any(d.package.startswith("glibc-1") or d.package.startswith("glibc-2") for d in wrong)
    assert not trees.kept(target, builder.inputs(target))


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("a = b\n", "a = b\n# more\n\ntests += tst-a tst-b\n", True),
        ("tests-static += tst-a \\\n  tst-b\n", "xtests += tst-c\ntst-a-ENV = X=1\n", True),
        ("sysdep_headers += sys/a.h \\\n\tsys/b.h\n", "sysdep_headers += sys/a.h\n", True),
        ("tests += tst-a\n", "tests += getent\n", False),
        ("tests += tst-a\n", "tests += $(routines)\n", False),
        ("tests += tst-a\n", "tests = tst-a\n", False),
        ("sysdep_routines += a\n", "sysdep_routines += a b\n", False),
        ("sysdep_headers += a.h\n", "sysdep_headers += $(shell touch x).h\n", False),
        ("tst-a-ENV = X\n", "tst-a-ENV = $(eval CFLAGS += -O1)\n", False),
        ("x:\n\ttests += tst-a\n", "x:\n\ttests += tst-b\n", False),  # a command
        ("x = a \\\ntests += tst-a\n", "x = a \\\ntests += tst-b\n", False),  # of another statement
        ("ifeq (a,b)\ntests += tst-a\nendif\n", "tests += tst-a\n", False),
        ("CFLAGS-a.c = -O1\n", "CFLAGS-a.c = -O2\n", False),
        ("define a\n#define L 1\nendef\n", "define a\n#define L 2\nendef\n", False),
        ("  override define a =\n# 1\nendef\n", "  override define a =\n# 2\nendef\n", False),
        ("a:\n\t\n", "a:\n", False),  # an empty recipe
    ],
)
def test_a_makefile_means_the_same_if_only_tests_or_installed_headers_differ(
    before: str, after: str, *, same: bool
) -> None:
    assert (hook.meaning(before) == hook.meaning(after)) is same


def test_a_further_release_begins_with_the_first_one_s_objects(tiny: Tiny, builder: Builder) -> None:
    """Of its own accord, and its packages are those of a build from nothing."""
    first, other = tiny.target("1.1"), tiny.target("1.0")
    made = build_all(builder, [first, other])[first.arch]
    assert made["1.1"].manifest.tree == ""
    (tree,) = trees.kept(first, builder.inputs(first))
    assert made["1.0"].manifest.tree == tree.name
    assert not (made["1.0"].rpms.parent / WARNINGS).exists()  # what was kept was not compiled
    assert variants.prove(builder, Variant(other), first) == Proof([], tree.name)
    again = paths.state() / "again"
    again.mkdir()
    builder.again(other, again)
    assert variants.differences(again / "RPMS", made["1.0"].rpms) == []


def test_builds_from_nothing_can_be_asked_for(
    tiny: Tiny, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_TREES", "no")
    made = build_all(builder, [tiny.target("1.1"), tiny.target("1.0")])
    assert all(b.manifest.tree == "" for releases in made.values() for b in releases.values())
    assert not (paths.state() / "trees").exists()


def test_a_tree_that_is_gone_is_not_offered(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "objects.tar").write_bytes(b"x")
    first = trees.lay_out(tmp_path / "top", [tmp_path / "tree"], keep=False)
    assert (first / "make").is_file()
    assert not list((tmp_path / "top").glob("hooks/kept/*"))


def test_a_stale_object_is_seen_and_its_tree_dropped(builder: Builder, tiny: Tiny, tmp_path: Path) -> None:
    tree = tiny.target("1.1")
    variants.keep_tree(builder, tree)
    (kept,) = trees.kept(tree, builder.inputs(tree))
    _spoil(kept / "objects.tar", tmp_path / "spoiled.tar")
    for changes in ((), changed(SOURCE)):
        wrong = variants.prove(builder, Variant(tree, changes), tree).wrong
        assert any(d.package.startswith("glibc-devel-") for d in wrong)
        assert not kept.exists()
        assert not list((paths.state() / "variant").glob("[0-9a-f]*"))
        assert builder.find(tree) is None
        if not changes:
            variants.keep_tree(builder, tree)
            _spoil(kept / "objects.tar", tmp_path / "spoiled.tar")
    assert variants.prove(builder, Variant(tree), tree).wrong == []


def test_a_stale_kept_object_is_red_in_a_rebuild(builder: Builder, tiny: Tiny, tmp_path: Path) -> None:
    first, other = tiny.target("1.1"), tiny.target("1.0")
    builder.build(first)
    (kept,) = trees.kept(first, builder.inputs(first))
    _spoil(kept / "objects.tar", tmp_path / "spoiled.tar")
    built = builder.build(other)
    assert built.manifest.tree == kept.name
    record = rebuild.rebuilt(builder, built).manifest.rebuild
    assert record is not None
    outcome, seen = judged(built.manifest, record)
    assert outcome is Outcome.FAIL
    assert "crt1.o: section .text" in seen


@pytest.mark.parametrize("embedded", ["date +%s%N", "od -An -N8 -tx1 /dev/urandom"], ids=["date", "random"])
def test_what_differs_from_build_to_build_fails_the_proof(
    tiny: Tiny, host_in_a_container: BuildImage, tmp_path: Path, embedded: str
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(TREE, tree)
    installs = "\tcp $(srcdir)/nss/nsswitch.conf $(root)/etc/\n"
    rules = (tree / "Makerules").read_text()
    assert installs in rules
    more = f"{installs}\t( {embedded} ) >> $(root)/etc/nsswitch.conf\n"
    (tree / "Makerules").write_text(rules.replace(installs, more))
    builder = tiny.builder(tree=tree, image=host_in_a_container)
    wrong = variants.prove(builder, Variant(tiny.target("1.0")), tiny.target("1.1")).wrong
    assert {d.package.rpartition("-2.36-")[0] for d in wrong} >= {"glibc"}


def _spoil(archive: Path, work: Path) -> None:
    """Give a kept object other bytes and leave its time as it was, as a build that is not honest would."""
    with tarfile.open(archive) as old, tarfile.open(work, "w", format=tarfile.PAX_FORMAT) as new:
        for member in old:
            data = old.extractfile(member) if member.isfile() else None
            raw = data.read() if data else b""
            if member.name.endswith("/crt1.o"):
                code = ELFFile(io.BytesIO(raw)).get_section_by_name(".text")
                assert code
                at = code["sh_offset"]
                raw = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            new.addfile(member, io.BytesIO(raw) if member.isfile() else None)
    archive.unlink()
    work.rename(archive)


def test_a_change_that_does_not_fit_is_wrong_use() -> None:
    for change, words in (
        ({**SOURCE, "find": "no such text"}, "0 times"),
        ({"file": "no/such.c", "remove": True}, "has no no/such.c"),
        ({"file": "Makerules", "add": "x"}, "there already"),
    ):
        with pytest.raises(UsageError, match=words):
            changed(change)


def test_a_build_that_breaks_leaves_nothing(builder: Builder, tiny: Tiny) -> None:
    tree = tiny.target("1.1")
    broken = Variant(tree, changed({**SOURCE, "replace": "this is no C"}))
    with pytest.raises(CommandFailed):
        variants.build(builder, broken, tree)
    assert not list((paths.state() / "variant").glob("[0-9a-f]*"))


def test_trees_are_evicted_by_size_and_the_one_in_use_stays(state: Path) -> None:
    kept = state / "trees"
    for number, name in enumerate(("old", "used", "new")):
        (kept / name).mkdir(parents=True)
        (kept / name / "objects.tar").write_bytes(b"x" * 900)
        (kept / name / "manifest.json").write_bytes(b"x" * 100)
        os.utime(kept / name, (number, number))
    trees.evict(kept / "used", room=1500)
    assert sorted(t.name for t in kept.iterdir()) == ["new", "used"]


def test_two_builds_of_a_target_at_once_share_no_log_and_no_tree(tiny: Tiny, state: Path) -> None:
    """The same release of two sources, both begun before either ends."""
    changed = state.parent / "changed"
    shutil.copytree(TREE, changed)
    (changed / "iconvdata" / "x.c").write_text("int\nother (void)\n{\n  return 2;\n}\n")
    target = tiny.target("1.1")
    builders = [tiny.builder(), tiny.builder(tree=changed)]
    side_by_side([Piece(partial(b.make, target)) for b in builders], lanes=2)
    logs = [p for p in paths.logs().glob("build-tiny-1.1-*.log") if not p.is_symlink()]
    assert len(logs) == 2
    assert all(log.read_text().count("Wrote:") == 7 for log in logs)
    names = [{s.name for s in _gconv(b.build(target).root).defined} for b in builders]
    assert "gconv" in names[0]
    assert "other" in names[1]


def _gconv(root: Path) -> Elf:
    return read_elf(root / "usr/lib64/gconv/X.so")
