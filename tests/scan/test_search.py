"""Where ld.so finds a library: links, $ORIGIN, what lies there in its place, what may be absent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.core.run import run
from pipeline.scan.judge import Answer
from tests.scan import kit
from tests.scan.kit import NEW
from tests.scan.odd_files import MAIN, SHARED, F
from tests.scan.test_loader_rules import ORIGIN, by_name, laid_out, patchelf

STARTS, FAILS, UNKNOWN = Answer.STARTS, Answer.FAILS, Answer.UNKNOWN
Parts = tuple[Path, Path]


def archived(top: Path) -> Path:
    run(["tar", "-C", top, "-cf", top.with_suffix(".tar"), "."])
    return top.with_suffix(".tar")


@pytest.mark.parametrize("absolute", [False, True])
def test_a_linked_directory_leads_to_the_library(tmp_path: Path, parts: Parts, *, absolute: bool) -> None:
    """Also by a link that is absolute in its root: on this machine it would lead elsewhere."""
    top = laid_out(tmp_path / "top", parts, "usr/bin/user", "opt/foo-1/lib/libfoo.so.1")
    patchelf(top / "usr/bin/user", "--set-rpath", "/opt/foo/lib")
    (top / "opt/foo").symlink_to("/opt/foo-1" if absolute else "foo-1")
    assert by_name(top)["usr/bin/user"].answer is FAILS
    assert by_name(archived(top))["./usr/bin/user"].answer is FAILS


def test_what_is_named_through_a_link_is_the_same_tree(tmp_path: Path, parts: Parts) -> None:
    top = laid_out(tmp_path / "top", parts, "bin/user", "lib/libfoo.so.1.2", *ORIGIN)
    (top / "lib/libfoo.so.1").symlink_to("libfoo.so.1.2")
    (tmp_path / "named").symlink_to("top")
    assert by_name(tmp_path / "named")["bin/user"].answer is FAILS


def test_links_in_a_circle_lead_nowhere(tmp_path: Path, parts: Parts) -> None:
    top = laid_out(tmp_path / "top", parts, "usr/bin/user", "opt/libfoo.so.1")
    patchelf(top / "usr/bin/user", "--set-rpath", "/opt/foo/lib:/opt/away")
    (top / "opt/foo").symlink_to("foo")
    (top / "opt/away").symlink_to("../../../..")
    for where, name in ((top, "usr/bin/user"), (archived(top), "./usr/bin/user")):
        assert by_name(where)[name].elsewhere == ("libfoo.so.1",)


@pytest.mark.parametrize("beside", ["link", "file"])
def test_a_librarys_origin_is_where_it_was_found(tmp_path: Path, beside: str) -> None:
    """libf.so is found as a link; what it needs by $ORIGIN lies beside the link, or beside the file."""
    top = tmp_path / "top"
    (top / "link").mkdir(parents=True)
    newer = kit.program(top / beside, "libg.so", kit.USES_RSEQ.replace("main", "g"), *SHARED)
    source = "int g (void);\nint f (void) { return g (); }\n"
    library = kit.program(top / "file", "libf.so", source, *SHARED, str(newer), "-Wl,-rpath,$ORIGIN")
    patchelf(library, "--replace-needed", str(newer), "libg.so")
    (top / "link" / "libf.so").symlink_to("../file/libf.so")
    kit.program(top, "user", MAIN, f"-L{top}/file", "-lf", "-Wl,-rpath,$ORIGIN/link,--allow-shlib-undefined")
    expected = (FAILS, ()) if beside == "link" else (STARTS, ("libg.so",))
    for where, name in ((top, "user"), (archived(top), "./user")):
        found = by_name(where)[name]
        assert (found.answer, found.elsewhere) == expected


@pytest.mark.parametrize("content", [b"libfoo.so.1.2", b"", b"/* GNU ld script */ INPUT (libfoo.so.1.2)"])
def test_a_file_that_is_no_elf_file_stops_the_loader(tmp_path: Path, parts: Parts, content: bytes) -> None:
    """A link that a wheel or a checkout holds as text; by itself it is nothing to speak of."""
    top = laid_out(tmp_path / "top", parts, "bin/user", "lib/libfoo.so.1", *ORIGIN)
    (top / "lib/libfoo.so.1").write_bytes(content)
    for where, name in ((top, "bin/user"), (archived(top), "./bin/user")):
        found = by_name(where, NEW)
        assert list(found) == [name]
        assert found[name].answer is FAILS
        assert "libfoo.so.1, which is found for a library, is no ELF file" in found[name].missing[0].sentence


def test_an_auxiliary_library_is_loaded_if_it_is_there(tmp_path: Path) -> None:
    flags = ("-Wl,-f,libaux.so", "-Wl,-rpath,$ORIGIN", "-Wl,-soname,libf.so")
    library = kit.program(tmp_path / "top", "libf.so", F, *SHARED, *flags)
    kit.program(tmp_path / "top", "user", MAIN, str(library), "-Wl,-rpath,$ORIGIN")
    found = by_name(tmp_path / "top")
    assert (found["user"].answer, found["user"].elsewhere) == (STARTS, ())
    kit.program(tmp_path / "top", "libaux.so", kit.USES_RSEQ.replace("main", "aux"), *SHARED)
    assert by_name(tmp_path / "top")["user"].answer is FAILS
    (tmp_path / "top" / "libaux.so").write_text("no library")
    assert by_name(tmp_path / "top")["user"].answer is STARTS


def test_a_program_with_a_soname_is_a_program(tmp_path: Path) -> None:
    """What it wants without a version and nobody has is missing: nobody loads it who could have it."""
    flags = ("-pie", "-rdynamic", "-Wl,-soname,p", "-Wl,--unresolved-symbols=ignore-all")
    kit.program(tmp_path, "p", "int absent (void);\nint main (void) { return absent (); }\n", *flags)
    assert by_name(tmp_path, NEW)["p"].answer is FAILS


def test_a_library_may_name_any_loader(tmp_path: Path) -> None:
    """Of a library ld.so does not look at PT_INTERP, which some have so that they can be run."""
    interp = '__attribute__ ((section (".interp"))) const char i[] = "/opt/ld.so";\n'
    kit.program(tmp_path, "libfoo.so.1", interp + kit.NEWER_FOO, *kit.SHARED_FOO)
    kit.program(tmp_path, "user", kit.FOO, str(tmp_path / "libfoo.so.1"), "-Wl,-rpath,$ORIGIN")
    found = by_name(tmp_path)
    assert found["libfoo.so.1"].answer is FAILS
    assert found["user"].answer is FAILS


def test_a_loader_of_ones_own_must_be_there(tmp_path: Path) -> None:
    """A loader of glibc's name where no release has it: unknown, unless it is scanned too."""
    loader = f"/opt/glibc/{kit.ARCH.loader}"
    top = tmp_path / "top"
    kit.program(top / "usr/bin", "p", kit.PLAIN, f"-Wl,-dynamic-linker,{loader}")
    found = by_name(top, NEW)["usr/bin/p"]
    assert (found.answer, loader in found.reason) == (UNKNOWN, True)
    (top / "opt/glibc").mkdir(parents=True)
    shutil.copy(run(["gcc", f"-print-file-name={kit.ARCH.loader}"]).text.strip(), top / "opt/glibc")
    assert by_name(top, NEW)["usr/bin/p"].answer is Answer.NOT_APPLICABLE


def test_what_is_glibcs_own_in_a_tree_is_not_judged(tmp_path: Path) -> None:
    """A root or an image has a C library of its own; on a release that one's is in its place."""
    library = Path(run(["gcc", "-print-file-name=libm.so.6"]).text.strip())
    for name in ("usr/lib64/libm.so.6", "opt/app/libm.so.6"):
        (tmp_path / "top" / name).parent.mkdir(parents=True)
        shutil.copy(library, tmp_path / "top" / name)
    maths = "#include <math.h>\nint main (int n, char **v) { return sin (n) > 2; }\n"
    kit.program(tmp_path / "top/usr/bin", "user", maths, "-Wl,-rpath,/usr/lib64", "-lm")
    for where, begin in ((tmp_path / "top", ""), (archived(tmp_path / "top"), "./")):
        found = by_name(where, NEW)
        assert found[f"{begin}usr/lib64/libm.so.6"].answer is Answer.NOT_APPLICABLE
        assert "glibc's own" in found[f"{begin}usr/lib64/libm.so.6"].reason
        assert found[f"{begin}opt/app/libm.so.6"].answer is UNKNOWN  # a copy that a program brings
        assert found[f"{begin}usr/bin/user"].answer is STARTS
        assert found[f"{begin}usr/bin/user"].notes == ()  # it brings none
