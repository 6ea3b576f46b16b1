"""Traits of symbols and files: each edit changes exactly one, and only the check that names it is red."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pipeline import elf
from pipeline.abi import baseline, traits
from pipeline.abi.files import elf_files
from pipeline.check import abi, abi_details, abi_lookup, abi_private
from pipeline.core.outcome import Outcome
from pipeline.core.records import SourceRecord
from pipeline.elf.hardening import DF_1_NOW, DT_FLAGS, DT_FLAGS_1, DT_TEXTREL
from pipeline.elf.image import DT_HASH, DT_RPATH, PT_GNU_RELRO, PT_GNU_STACK, PT_LOAD
from pipeline.elf.lookup import STB_GNU_UNIQUE
from pipeline.elf.notes import PT_GNU_PROPERTY, PT_NOTE
from tests import elf_edit as edits
from tests.check.release_kit import AFTER, BEFORE, UPDATE, Stage, make_stage
from tests.elf_edit import Edit
from tests.elf_fixtures import LD, LIBC, LOADER, LOADER_RSEQ

CHECKS = (*abi.CHECKS, *abi_lookup.CHECKS, *abi_details.CHECKS, *abi_private.CHECKS)
LOADER_PATH, LIBC_PATH, MODULE_PATH = f"lib64/{LD}", "lib64/libc.so.6", "lib64/gconv/UTF-16.so"
IMAGE = "mmdebstrap bookworm"
#: A libc with an indirect function, two versions of a symbol, thread-local data, and all marks there are.
DF_1_NODELETE, DF_1_INITFIRST = 8, 0x20

RICH = LIBC.but(
    source=LIBC.source
    + """
extern void _dl_mcount (void);
extern int _rtld_global;
__thread int error_number;
static void one (void) { _dl_mcount (); _rtld_global++; }
static void *chosen (void) { return one; }
void indirect (void) __attribute__ ((ifunc ("chosen")));
extern long __environ[2] __attribute__ ((alias ("environ")));
void old_copy (void) {}
void new_copy (void) {}
__asm__ (".symver old_copy,copy@GLIBC_2.2.5");
__asm__ (".symver new_copy,copy@@GLIBC_2.34");
#ifdef __x86_64__
/* .note.ABI-tag as glibc's csu/abi-note.c has it: Linux 3.2.0 */
__asm__ (".pushsection .note.ABI-tag,\\"a\\",@note\\n.long 4,16,1\\n.asciz \\"GNU\\"\\n.long 0,3,2,0\\n"
         ".popsection");
#endif
""",
    nodes={
        "GLIBC_2.2.5": (*LIBC.nodes["GLIBC_2.2.5"], "copy"),
        "GLIBC_2.34": ("environ", "__environ", "indirect", "error_number", "copy"),
    },
    flags=("-Wl,-z,now", "-Wl,--hash-style=both", "-fcf-protection=full", "-Wl,-z,noexecstack",
           "-Wl,--build-id=sha1", "-Wl,--no-as-needed"),
)  # fmt: skip


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = make_stage(tmp_path, monkeypatch)
    stub = LOADER_RSEQ.build(tmp_path / "stub" / LD)
    libc = RICH.but(flags=(*RICH.flags, str(stub)))
    for name, loader in ((BEFORE, LOADER), (UPDATE, LOADER_RSEQ), (AFTER, LOADER_RSEQ)):
        made.release(name, loader, libc, image=IMAGE)
    made.commit(BEFORE, UPDATE, AFTER, image=IMAGE)
    assert made.red(CHECKS) == {}
    return made


def _rwx(data: bytearray, binary: elf.Elf) -> None:
    loads = [s for s in binary.segments if s.type == PT_LOAD]
    edits.segment(PT_LOAD, nth=len(loads) - 1, flags=7)(data, binary)


def _note_word(kind: int, word: int, value: int) -> Edit:
    """A word of the descriptor of the first GNU note of a type."""

    def change(data: bytearray, binary: elf.Elf) -> None:
        for segment in binary.segments:
            at, end = segment.offset, segment.offset + segment.filesz
            while segment.type == PT_NOTE and at < end:
                name, size, found = struct.unpack_from("<3I", data, at)
                if found == kind:
                    struct.pack_into("<I", data, at + 16 + 4 * word, value)
                    return
                align = 8 if segment.align == 8 else 4
                at = -(-(at + 12 + name + size) // align) * align
        raise AssertionError(f"no note of type {kind}")

    return change


def _needed_swapped(data: bytearray, binary: elf.Elf) -> None:
    """DT_NEEDED names another library that is in the string table: the file's own."""
    struct.pack_into("<Q", data, edits.dynamic_entry(binary, 1) + 8, binary.tags[elf.image.DT_SONAME])


def _short_relro(data: bytearray, binary: elf.Elf) -> None:
    edits.segment(PT_GNU_RELRO, memsz=16)(data, binary)


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        (LIBC_PATH, edits.hidden_version("environ"), "GLIBC_2.34 environ hidden"),
        (
            LIBC_PATH,
            edits.symbol_info("indirect", elf.STB_GLOBAL, elf.STT_FUNC),
            "- libc.so.6: GLIBC_2.34 ind",
        ),
        (LIBC_PATH, edits.symbol_info("printf", elf.STB_WEAK, elf.STT_FUNC), "GLIBC_2.2.5 printf weak"),
        (LIBC_PATH, edits.symbol_info("stdout", STB_GNU_UNIQUE, elf.STT_OBJECT), "stdout unique"),
        (LIBC_PATH, edits.symbol_other("stdout", elf.STV_PROTECTED), "GLIBC_2.2.5 stdout protected"),
        (LIBC_PATH, edits.symbol_other("stdout", 0x80), "GLIBC_2.2.5 stdout other-0x80"),
        (LIBC_PATH, edits.symbol_info("stdout", elf.STB_GLOBAL, elf.STT_NOTYPE), "stdout notype"),
        (LIBC_PATH, edits.segment(traits.PT_TLS, memsz=64), "+ libc.so.6: tls 0x40 align 0x4"),
        (LIBC_PATH, edits.segment(traits.PT_TLS, align=32), "+ libc.so.6: tls 0x4 align 0x20"),
        (LOADER_PATH, edits.verdef_flags("GLIBC_2.35", 2), "node GLIBC_2.35 weak < GLIBC_2.2.5"),
        (LOADER_PATH, edits.verdef_flags("GLIBC_2.35", 4), "node GLIBC_2.35 info < GLIBC_2.2.5"),
        (LOADER_PATH, edits.without_parent("GLIBC_2.35"), "node GLIBC_2.35 < nothing"),
    ],
)
def test_what_a_listing_leaves_out(stage: Stage, path: str, change: Edit, says: str) -> None:
    stage.edit(AFTER, path, change)
    red = stage.red(CHECKS)
    # a default version that is hidden is not found without one, and another size is not that of the sections
    also = {("abi.lookup", AFTER)} if "hidden" in says or "tls" in says else set()
    assert {("abi.details", AFTER)} <= set(red) <= {("abi.details", AFTER)} | also
    assert says in red["abi.details", AFTER].seen
    if "tls 0x40" in says:
        assert "thread-local data at " in red["abi.lookup", AFTER].seen


def _elsewhere(data: bytearray, binary: elf.Elf) -> None:
    """__environ is the second half of environ."""
    address = next(s.value for s in binary.defined if s.name == "__environ")
    edits.symbol_value("__environ", address + 8)(data, binary)


def test_a_name_that_means_another_object_is_red(stage: Stage) -> None:
    stage.edit(AFTER, LIBC_PATH, _elsewhere)
    red = stage.red(CHECKS)
    assert set(red) == {("abi.aliases", AFTER)}
    assert "- libc.so.6: " in red["abi.aliases", AFTER].seen
    assert "__environ@GLIBC_2.34 environ@GLIBC_2.34" in red["abi.aliases", AFTER].seen


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        (LIBC_PATH, edits.segment(PT_GNU_STACK, flags=7), "+ libc.so.6: stack rwx"),
        (LIBC_PATH, edits.segment(PT_GNU_STACK, type=0), "stack executable: no PT_GNU_STACK"),
        (LIBC_PATH, edits.segment(PT_GNU_RELRO, type=0), "+ libc.so.6: relro none"),
        (MODULE_PATH, _short_relro, "+ gconv/UTF-16.so: relro less than a page"),
        (LIBC_PATH, _rwx, "+ libc.so.6: segment rwx"),
        (LIBC_PATH, edits.tag_value(DT_FLAGS_1, 0), "+ libc.so.6: flags-1 none"),
        (LIBC_PATH, edits.tag_becomes(DT_FLAGS, DT_TEXTREL), "+ libc.so.6: text relocations"),
        (LIBC_PATH, edits.tag_becomes(DT_HASH, 0x6FFFFDF5), "+ libc.so.6: hash gnu"),
        (LIBC_PATH, _needed_swapped, "+ libc.so.6: needed libc.so.6"),
        (MODULE_PATH, edits.tag_becomes(11, DT_RPATH, 1), "+ gconv/UTF-16.so: rpath "),
        (MODULE_PATH, edits.tag_becomes(11, 0x7FFFFFFD, 1), "+ gconv/UTF-16.so: auxiliary "),
        (MODULE_PATH, edits.tag_becomes(11, 0x7FFFFFFF, 1), "+ gconv/UTF-16.so: filter "),
        (MODULE_PATH, edits.tag_becomes(11, 0x6FFFFEFB, 1), "+ gconv/UTF-16.so: depaudit "),
        (MODULE_PATH, edits.tag_becomes(11, 16, 1), "+ gconv/UTF-16.so: symbolic"),
        (MODULE_PATH, lambda data, _: struct.pack_into("<I", data, 48, 5), "+ gconv/UTF-16.so: e_flags 0x5"),
        (MODULE_PATH, lambda data, _: struct.pack_into("<B", data, 7, 9), "+ gconv/UTF-16.so: osabi 9"),
        (LIBC_PATH, _note_word(1, 1, 6), "+ libc.so.6: abi-tag Linux 6.2.0"),
        (LIBC_PATH, _note_word(5, 2, 1), "+ libc.so.6: property x86 features: IBT"),
        (LIBC_PATH, edits.segment(PT_GNU_PROPERTY, type=0), "no PT_GNU_PROPERTY names"),
    ],
)
def test_hardening_and_notes(stage: Stage, path: str, change: Edit, says: str) -> None:
    stage.edit(AFTER, path, change)
    red = stage.red(CHECKS)
    # the linker's view still has the hash table that the loader has no more, and sections of one access
    also = {("abi.lookup", AFTER)} if "hash gnu" in says or "rwx" in says else set()
    assert {("elf.hardening", AFTER)} <= set(red) <= {("elf.hardening", AFTER)} | also
    assert says in red["elf.hardening", AFTER].seen, red["elf.hardening", AFTER].seen


def test_a_baseline_without_traits_is_missing_with_its_remedy(stage: Stage) -> None:
    target = stage.material.target(AFTER)
    made = baseline.load_target(target)
    assert made is not None
    directory = baseline.directory_of(target)
    for name in (traits.DETAILS, traits.HARDENING, traits.ALIASES):  # these loaders have no tunables
        (directory / name).unlink()
    with pytest.raises(Exception, match="blocks of traits"):  # never silently smaller
        baseline.load(directory)
    old = made.provenance.model_copy(update={"traits": {}})
    baseline.write(baseline.Baseline(made.listings, old), directory)
    red = stage.red(CHECKS)
    assert {k: f.outcome for k, f in red.items()} == {
        ("abi.aliases", AFTER): Outcome.MISSING,
        ("abi.details", AFTER): Outcome.MISSING,
        ("elf.hardening", AFTER): Outcome.MISSING,
    }
    assert f"nox -s baseline -- --profile bookworm --release {AFTER}" in red["abi.details", AFTER].seen


def test_another_compilers_marks(stage: Stage) -> None:
    """Built in another image, a file may have more marks than in the baseline, and not fewer."""
    stage.edit(AFTER, LIBC_PATH, _note_word(5, 2, 1))  # SHSTK is gone
    for image in ("registry ubi9", ""):
        built = stage.built[AFTER]
        record = built.manifest.image
        assert record is not None
        manifest = built.manifest.model_copy(
            update={"image": record.model_copy(update={"base": image}) if image else None}
        )
        stage.built[AFTER] = built.model_copy(update={"manifest": manifest})
        red = stage.red(CHECKS)
        assert set(red) == {("elf.hardening", AFTER)}
        assert red["elf.hardening", AFTER].seen == ("- libc.so.6: property x86 features: IBT SHSTK (now IBT)")
        stage.edit(AFTER, LIBC_PATH, _note_word(5, 2, 3 | 4))  # more than the baseline's
        assert stage.red(CHECKS) == {}
        stage.edit(AFTER, LIBC_PATH, _note_word(5, 2, 1))


def test_more_than_the_platform_promises(stage: Stage, tmp_path: Path) -> None:
    """An ISA level above the profile's is red without any baseline."""
    high = RICH.but(flags=(*RICH.flags, "-Wl,-z,x86-64-v3", str(tmp_path / "stub" / LD)))
    stage.release(AFTER, LOADER_RSEQ, high, image="another")
    seen = stage.red(CHECKS)["elf.hardening", AFTER].seen
    assert "libc.so.6 needs x86-64-v3, above x86-64-baseline" in seen


def test_what_private_lacks(stage: Stage, tmp_path: Path) -> None:
    """A loader without a private symbol that libc needs: no public listing shows it."""
    stage.release(
        AFTER,
        LOADER_RSEQ.but(
            source=LOADER_RSEQ.source.replace("_rtld_global", "_rtld_other"),
            nodes={**LOADER_RSEQ.nodes, "GLIBC_PRIVATE": ("_rtld_other",)},
        ),
        RICH.but(flags=(*RICH.flags, str(tmp_path / "stub" / LD))),
        image=IMAGE,
    )
    red = stage.red(CHECKS)
    assert set(red) == {("abi.private", AFTER)}
    seen = red["abi.private", AFTER].seen
    assert f"libc.so.6: needs _rtld_global@GLIBC_PRIVATE of {LD}, which is not there" in seen
    assert (
        f"GLIBC_PRIVATE compared with {UPDATE}: gained _rtld_other of {LD}; lost _rtld_global of {LD}" in seen
    )


def test_private_that_differs_from_the_releases_own_baseline(stage: Stage) -> None:
    stage.edit(AFTER, LOADER_PATH, edits.symbol_size("_rtld_global", 8))
    red = stage.red(CHECKS)
    assert set(red) == {("abi.private", AFTER)}
    assert f"compared with its baseline: + {LD}: private _rtld_global D 0x8" in red["abi.private", AFTER].seen


def from_a_dist_git(stage: Stage) -> None:
    built = stage.built[AFTER]
    source = SourceRecord(kind="distgit", origin="distgit:elsewhere", sha256="0" * 64, pinned=False)
    manifest = built.manifest.model_copy(update={"source": source})
    stage.built[AFTER] = built.model_copy(update={"manifest": manifest})


def test_a_dist_gits_series_changes_private_and_marks_as_its_maker_decides(stage: Stage) -> None:
    """Nothing of it is red, but a mark that is lost, or a private symbol that a file of the release needs."""
    from_a_dist_git(stage)
    stage.edit(AFTER, LOADER_PATH, edits.symbol_size("_rtld_global", 8))
    stage.edit(AFTER, LIBC_PATH, _note_word(5, 2, 3 | 4))
    assert stage.red(CHECKS) == {}
    stage.edit(AFTER, LIBC_PATH, _note_word(5, 2, 1))
    assert set(stage.red(CHECKS)) == {("elf.hardening", AFTER)}


def test_a_dist_gits_series_may_make_a_library_stay_and_nothing_else(stage: Stage) -> None:
    """NODELETE may come, is shown, and must not go; another flag is red, as NODELETE is in our own series."""
    stay = edits.tag_value(DT_FLAGS_1, DF_1_NOW | DF_1_NODELETE)
    stage.edit(AFTER, LIBC_PATH, stay)
    assert set(stage.red(CHECKS)) == {("elf.hardening", AFTER)}
    from_a_dist_git(stage)
    assert stage.red(CHECKS) == {}
    answer = stage.answers(CHECKS)["elf.hardening", AFTER]
    assert answer.seen == "no difference\nthe series gives libc.so.6 NODELETE"
    stage.edit(AFTER, LIBC_PATH, edits.tag_value(DT_FLAGS_1, DF_1_NOW | DF_1_NODELETE | DF_1_INITFIRST))
    assert "+ libc.so.6: flags-1 NOW INITFIRST" in stage.red(CHECKS)["elf.hardening", AFTER].seen
    stage.edit(AFTER, LIBC_PATH, stay)
    stage.commit(AFTER, image=IMAGE)
    stage.edit(AFTER, LIBC_PATH, edits.tag_value(DT_FLAGS_1, DF_1_NOW))
    assert "- libc.so.6: flags-1 NOW NODELETE" in stage.red(CHECKS)["elf.hardening", AFTER].seen


def test_what_private_gained_is_shown_and_green(stage: Stage, tmp_path: Path) -> None:
    stage.release(
        AFTER,
        LOADER_RSEQ.but(
            source=LOADER_RSEQ.source + "int _dl_new;\n",
            nodes={**LOADER_RSEQ.nodes, "GLIBC_PRIVATE": ("_rtld_global", "_dl_new")},
        ),
        RICH.but(flags=(*RICH.flags, str(tmp_path / "stub" / LD))),
        image=IMAGE,
    )
    stage.commit(AFTER, image=IMAGE)
    assert stage.red(CHECKS) == {}
    found = stage.answers(abi_private.CHECKS)["abi.private", AFTER]
    assert found.measures[f"private_gained_over_{UPDATE}"] == f"_dl_new of {LD}"
    assert "versioned imports of 3 files" in found.seen


def test_a_needed_node_or_library_that_is_not_there(stage: Stage) -> None:
    stage.edit(AFTER, LIBC_PATH, edits.verneed_hash("GLIBC_PRIVATE"))
    seen = stage.red(CHECKS)["abi.private", AFTER].seen
    assert f"needs GLIBC_PRIVATE of {LD}, which does not define it" in seen
    (stage.built[UPDATE].root / LOADER_PATH).unlink()
    seen = stage.red(CHECKS)["abi.private", UPDATE].seen
    assert f"libc.so.6: needs {LD}, which the release does not have" in seen


def test_a_second_copy_that_differs_hides_behind_no_name(stage: Stage) -> None:
    root = stage.built[AFTER].root
    copy = root / "usr" / "lib64" / "libc.so.6"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((root / LIBC_PATH).read_bytes())
    assert stage.red(CHECKS) == {}
    edits.edit(copy, edits.segment(PT_GNU_STACK, flags=7))
    red = stage.red(CHECKS)
    assert set(red) == {("elf.hardening", AFTER)}
    assert red["elf.hardening", AFTER].seen == "+ usr/lib64/libc.so.6: the whole file"


def test_files_of_traits_come_back_as_they_were(stage: Stage) -> None:
    blocks = traits.of_files(elf_files(stage.built[AFTER].root))
    for found in blocks.values():
        assert traits.parse(traits.render(found)) == found
    libc = blocks[traits.DETAILS]["libc.so.6"]
    assert "GLIBC_2.34 indirect ifunc" in libc
    assert "GLIBC_2.2.5 copy hidden" in libc
    assert blocks[traits.DETAILS]["gconv/UTF-16.so"] == (traits.PLAIN,)
    for text in ("x\n", "[a]\n\n", "[a]\nb", "[a]\nx\n[a]\ny\n", "[a b\n"):
        with pytest.raises(ValueError, match=r"line \d|no end"):
            traits.parse(text)
