"""The loader's rules, on real programs of the host's compiler, each also where the answer is no."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.abi.listing import listing_of
from pipeline.core.errors import ExitCode
from pipeline.core.run import run
from pipeline.elf import read
from pipeline.scan import Scan, scan
from pipeline.scan.judge import Answer, Judgement
from tests.elf_fixtures import Dso
from tests.scan import kit
from tests.scan.kit import ARCH, MIDDLE, NEW, OLD

STARTS, FAILS, UNKNOWN, NOT_APPLICABLE = (
    Answer.STARTS,
    Answer.FAILS,
    Answer.UNKNOWN,
    Answer.NOT_APPLICABLE,
)
RELEASES = (OLD, MIDDLE, NEW)


def scanned(*paths: Path, releases: tuple[str, ...] = RELEASES, arches: tuple[str, ...] = ()) -> Scan:
    profile = profiles.load("bookworm")
    return scan(profile, releases, arches or tuple(profile.arches), paths)


def the_one(path: Path, release: str = OLD) -> Judgement:
    (file,) = scanned(path).files
    return file.judgements[release]


def answers(path: Path) -> list[Answer]:
    (file,) = scanned(path).files
    return [file.judgements[r].answer for r in RELEASES]


def words(judgement: Judgement) -> list[str]:
    return [str(m) for m in judgement.missing]


def test_a_plain_program_starts_everywhere(plain: Path) -> None:
    assert answers(plain) == [STARTS, STARTS, STARTS]
    assert scanned(plain).exit_code == ExitCode.PASS


def test_a_program_with_an_rseq_symbol_names_it_and_where(rseq: Path) -> None:
    assert answers(rseq) == [FAILS, STARTS, STARTS]
    assert words(the_one(rseq)) == [f"__rseq_offset@GLIBC_2.35 in {ARCH.loader}"]
    assert scanned(rseq).exit_code == ExitCode.FAILED
    assert scanned(rseq, releases=(NEW,)).exit_code == ExitCode.PASS


@pytest.mark.parametrize("flags", [("-fPIE", "-pie"), ("-fno-pie", "-no-pie"), ("-fPIC", "-pie")])
def test_however_it_is_linked(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """A copy relocation makes the symbol look as if the program defined it."""
    assert answers(kit.program(tmp_path, "p", kit.USES_RSEQ, *flags)) == [FAILS, STARTS, STARTS]


def test_a_symbol_gone_while_its_node_stays(plain: Path) -> None:
    listings = kit.host_listings()
    kit.put(OLD, kit.without(listings, "libc.so.6", symbol="puts"))
    assert answers(plain) == [FAILS, STARTS, STARTS]
    (missing,) = the_one(plain).missing
    assert (missing.dso, missing.symbol) == ("libc.so.6", "puts")


def test_a_weak_reference_refuses_nobody(tmp_path: Path) -> None:
    source = kit.USES_RSEQ.replace("extern", "extern __attribute__ ((weak))").replace(
        "__rseq_offset == 1", "&__rseq_offset == 0"
    )
    weak = kit.program(tmp_path, "weak", source, "-fPIC")
    assert answers(weak) == [STARTS, STARTS, STARTS]


def test_a_node_without_any_symbol_refuses_too(tmp_path: Path) -> None:
    """As GLIBC_ABI_DT_RELR does: nobody imports anything at it, yet the loader insists."""
    target = kit.program(tmp_path, "relr", kit.PLAIN, "-pie", "-Wl,-z,pack-relative-relocs")
    needs = run(["readelf", "-W", "-V", target]).text
    assert "GLIBC_ABI_DT_RELR" in needs
    listings = kit.host_listings()
    for release in RELEASES:
        kit.put(release, listings)
    assert answers(target) == [STARTS, STARTS, STARTS]
    kit.put(OLD, kit.without(listings, "libc.so.6", node="GLIBC_ABI_DT_RELR"))
    assert words(the_one(target)) == ["the version GLIBC_ABI_DT_RELR itself in libc.so.6"]


def test_a_symbol_that_moved_to_libc_is_found_there(tmp_path: Path) -> None:
    """Programs of before 2.34 name libpthread.so.0 for what is in libc.so.6 today."""
    fake = Dso("libpthread.so.0", "int pthread_create (void) { return 0; }\n",
               {"GLIBC_2.2.5" if ARCH.name == "x86_64" else "GLIBC_2.17": ("pthread_create",)})  # fmt: skip
    fake.build(tmp_path / "libpthread.so.0")
    source = "int pthread_create (void);\nint main (void) { return pthread_create (); }\n"
    old = kit.program(tmp_path, "old", source, tmp_path / "libpthread.so.0")  # type: ignore[arg-type]
    assert "pthread_create" not in {e.symbol for e in kit.host_listings()["libpthread.so.0"].symbols}
    assert answers(old) == [STARTS, STARTS, STARTS]
    listings = kit.host_listings()
    kit.put(OLD, kit.without(listings, "libc.so.6", symbol="pthread_create"))
    assert answers(old) == [FAILS, STARTS, STARTS]


def test_a_library_of_glibc_that_one_release_lacks(tmp_path: Path) -> None:
    source = "#include <math.h>\nint main (int n, char **v) { (void) v; return sin (n) > 0.5; }\n"
    maths = kit.program(tmp_path, "maths", source, "-lm")
    assert answers(maths) == [STARTS, STARTS, STARTS]
    listings = kit.host_listings()
    kit.put(OLD, {n: x for n, x in listings.items() if n != "libm.so.6"})
    assert answers(maths) == [FAILS, STARTS, STARTS]
    assert words(the_one(maths)) == ["the library libm.so.6 itself"]


def test_a_program_without_versions_is_held_to_names(tmp_path: Path) -> None:
    """Linked against a stub without versions, as build systems with stub libraries do."""
    stub = Dso("libc.so.6", "int puts (const char *s) { return !s; }\nint no_such (void) { return 0; }\n", {})
    stub.build(tmp_path / "libc.so.6")
    for name, expected in (("puts", STARTS), ("no_such", FAILS)):
        source = f'int {name} ();\nvoid _start (void) {{ {name} (""); }}\n'
        file = kit.program(tmp_path, name, source, "-nostdlib", "-pie", "-w", str(tmp_path / "libc.so.6"))
        assert the_one(file).answer is expected
    assert words(the_one(tmp_path / "no_such")) == ["no_such"]


def test_what_a_plugin_takes_from_its_host_is_not_missing(tmp_path: Path) -> None:
    source = "int host_api (void);\nint plugin (void) { return host_api (); }\n"
    plugin = kit.program(tmp_path, "plugin.so", source, "-shared", "-fPIC")
    assert answers(plugin) == [STARTS, STARTS, STARTS]


def test_other_libraries_are_named_and_not_judged(tmp_path: Path) -> None:
    foo = Dso("libfoo.so.1", "int foo (void) { return 0; }\n", {"FOO_1": ("foo",)})
    foo.build(tmp_path / "lib" / "libfoo.so.1")
    source = "int foo (void);\nint main (void) { return foo (); }\n"
    user = kit.program(tmp_path, "user", source, str(tmp_path / "lib" / "libfoo.so.1"))
    judgement = the_one(user)
    assert (judgement.answer, judgement.elsewhere) == (STARTS, ("libfoo.so.1",))


def test_libcrypt_is_libxcrypts_even_where_glibc_builds_one(tmp_path: Path) -> None:
    xcrypt = Dso("libcrypt.so.1", "int crypt (void) { return 0; }\n", {"XCRYPT_2.0": ("crypt",)})
    library = xcrypt.build(tmp_path / "lib" / "libcrypt.so.1")
    glibcs = xcrypt.but(nodes={"GLIBC_2.2.5": ("crypt",)}).build(tmp_path / "own" / "libcrypt.so.1")
    own = listing_of(read(glibcs), "libcrypt.so.1")
    for release in RELEASES:
        kit.put(release, {**kit.host_listings(), "libcrypt.so.1": own})
    source = "int crypt (void);\nint main (void) { return crypt (); }\n"
    judgement = the_one(kit.program(tmp_path, "login", source, str(library)))
    assert (judgement.answer, judgement.elsewhere) == (STARTS, ("libcrypt.so.1",))


def test_a_library_that_comes_along_counts(tmp_path: Path) -> None:
    top = tmp_path / "app"
    library = kit.program(top / "lib", "libfoo.so.1", kit.USES_RSEQ.replace("main", "foo"),
                          "-shared", "-fPIC", "-Wl,-soname,libfoo.so.1")  # fmt: skip
    middle = kit.program(top / "lib", "libbar.so.1", "int foo (void);\nint bar (void) { return foo (); }\n",
                         "-shared", "-fPIC", "-Wl,-soname,libbar.so.1", "-Wl,-rpath,$ORIGIN",
                         str(library))  # fmt: skip
    kit.program(top / "bin", "user", "int bar (void);\nint main (void) { return bar (); }\n", str(middle),
                "-Wl,-rpath,$ORIGIN/../lib", "-Wl,--allow-shlib-undefined")  # fmt: skip
    files = {Path(f.item.file).name: f.judgements for f in scanned(top).files}
    assert {n: j[OLD].answer for n, j in files.items()} == dict.fromkeys(files, FAILS)
    assert {n: j[NEW].answer for n, j in files.items()} == dict.fromkeys(files, STARTS)
    assert "its library" in files["user"][OLD].reason
    assert files["user"][NEW].elsewhere == ()


def test_another_size_of_a_copied_datum_is_told(tmp_path: Path) -> None:
    """The slip of 4 bytes for 8: the loader starts the program all the same, and copies what fits."""
    file = kit.program(tmp_path, "p", kit.USES_RSEQ, "-fno-pie", "-no-pie")
    listings = kit.host_listings()
    loader = listings[ARCH.loader]
    wrong = {e._replace(size=4) if e.symbol == "__rseq_offset" else e for e in loader.symbols}
    kit.put(
        MIDDLE,
        {**listings, ARCH.loader: type(loader)(loader.name, loader.soname, loader.arch, frozenset(wrong))},
    )
    assert the_one(file, NEW).notes == ()
    if "COPY" in run(["readelf", "-W", "-r", file]).text:
        assert the_one(file, MIDDLE).notes == (
            "__rseq_offset@GLIBC_2.35 has 4 bytes there and 8 in the program",
        )
    else:
        assert ARCH.name != "x86_64"


def test_static_programs_start_anywhere(tmp_path: Path) -> None:
    source = "void _start (void) { for (;;); }\n"
    static = kit.program(tmp_path, "static", source, "-nostdlib", "-static")
    assert answers(static) == [STARTS, STARTS, STARTS]
    assert answers(kit.program(tmp_path, "pie", source, "-nostdlib", "-static-pie")) == [STARTS] * 3


@pytest.mark.parametrize("loader", [f"/lib/ld-musl-{ARCH.name}.so.1", "/opt/glibc/lib/ld.so"])
def test_another_loader_is_not_applicable(tmp_path: Path, loader: str) -> None:
    file = kit.program(tmp_path, "p", kit.USES_RSEQ, f"-Wl,--dynamic-linker={loader}")
    assert answers(file) == [NOT_APPLICABLE] * 3
    assert loader in the_one(file).reason
    assert scanned(file).exit_code == ExitCode.MISSING  # nothing at all was judged


def test_a_library_for_musl_is_not_applicable(tmp_path: Path) -> None:
    musl = Dso(f"libc.musl-{ARCH.name}.so.1", "int foo (void) { return 0; }\n", {})
    musl.build(tmp_path / "m.so")
    file = kit.program(tmp_path, "x.so", "int foo (void);\nint x (void) { return foo (); }\n",
                       "-shared", "-fPIC", "-nostdlib", str(tmp_path / "m.so"))  # fmt: skip
    assert answers(file) == [NOT_APPLICABLE] * 3


def test_object_files_are_not_applicable(tmp_path: Path) -> None:
    assert answers(kit.program(tmp_path, "x.o", kit.PLAIN, "-c")) == [NOT_APPLICABLE] * 3


def test_private_symbols_are_no_promise(tmp_path: Path) -> None:
    fake = Dso("libc.so.6", "int inner (void) { return 0; }\n", {"GLIBC_PRIVATE": ("inner",)})
    fake.build(tmp_path / "libc.so.6")
    file = kit.program(tmp_path, "p", "int inner (void);\nvoid _start (void) { inner (); }\n",
                       "-nostdlib", str(tmp_path / "libc.so.6"))  # fmt: skip
    assert answers(file) == [UNKNOWN] * 3
    assert "GLIBC_PRIVATE" in the_one(file).reason
    assert scanned(file).exit_code == ExitCode.MISSING


def test_no_baseline_is_unknown_never_a_start(plain: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "abi-baselines" / "bookworm" / MIDDLE)
    assert answers(plain) == [STARTS, UNKNOWN, STARTS]
    assert scanned(plain).exit_code == ExitCode.MISSING
    assert f"no baseline of release {MIDDLE}" in the_one(plain, MIDDLE).reason


def retargeted(source: Path, to: Path, machine: int) -> Path:
    data = bytearray(source.read_bytes())
    data[18:20] = struct.pack("<H", machine)
    to.write_bytes(data)
    return to


def test_architectures(plain: Path, tmp_path: Path) -> None:
    vax = retargeted(plain, tmp_path / "vax", 75)
    assert answers(vax) == [UNKNOWN] * 3  # nobody knows what that needs
    other = next(a for a in ("x86_64", "aarch64") if a != ARCH.name)
    (file,) = scanned(retargeted(plain, tmp_path / "other", 183 if other == "aarch64" else 62)).files
    assert file.item.facts is not None
    assert file.item.facts.arch == other
    only = scanned(tmp_path / "other", plain, arches=(ARCH.name,))
    assert [f.judgements[NEW].answer for f in only.files] == [NOT_APPLICABLE, STARTS]
    assert only.exit_code == ExitCode.PASS


def test_32_bit_and_damaged_files_are_unknown(plain: Path, tmp_path: Path) -> None:
    data = plain.read_bytes()
    cut, narrow = tmp_path / "cut", tmp_path / "narrow"
    cut.write_bytes(data[:600])
    narrow.write_bytes(data[:4] + b"\1" + data[5:])
    for path in (cut, narrow):
        assert answers(path) == [UNKNOWN] * 3
        assert scanned(path, plain).exit_code == ExitCode.MISSING


def test_fails_outranks_unknown(rseq: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(rseq.read_bytes()[:600])
    assert scanned(tmp_path / "cut", rseq).exit_code == ExitCode.FAILED
