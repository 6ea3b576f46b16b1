"""Real rpmbuild, real transactions: small DSOs in the place of glibc's, and two test programs."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from pipeline.check import Material
from pipeline.check.rpm import PLAIN, RSEQ, Provides, Requires, Transaction, probe_rpm
from pipeline.core.arch import arch
from pipeline.core.errors import WorldError
from pipeline.core.outcome import Outcome
from pipeline.core.records import BuildMode, Built
from pipeline.core.run import run
from pipeline.rpm import package
from pipeline.rpm import transaction as rpmtools
from tests.check.rpm_bench import answers, built, material, outcomes

pytestmark = pytest.mark.integration

PASS, FAIL, ERROR, MISSING = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.MISSING
NODE = "GLIBC_2.35"
#: what a release's DSOs define besides the rseq node, oldest first
LIBC = ("GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.34")
RELEASES = {"12.0": False, "12.0.z": True, "12.1": True}

SPEC = r"""
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
Name: glibc
Version: 2.36
Release: %{its_release}
Summary: Small DSOs in the place of the GNU libc
License: LGPL-2.1-or-later
Provides: rtld(GNU_HASH) /lib64/does-not-exist
%{?its_requires:Requires: %{its_requires}}
Requires: glibc-common = %{version}-%{release}
%description
Small DSOs.
%package common
Summary: Something that needs them
Requires: glibc = %{version}-%{release}
%description common
Something.
%install
mkdir -p %{buildroot}/lib64 %{buildroot}/usr/share
cp %{dsos}/*.so.* %{buildroot}/lib64/
echo x > %{buildroot}/usr/share/x
# would fail if it were run
%post -p /lib64/does-not-exist
%files
/lib64/*
%files common
/usr/share/x
"""


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))


def retarget(path: Path, machine: str) -> None:
    """Let an x86-64 ELF file pass for one of ``machine``: rpm's generators read its tables, not its code."""
    with path.open("r+b") as file:
        file.seek(18)
        file.write(struct.pack("<H", arch(machine).elf_machine))


def dso(directory: Path, soname: str, nodes: Mapping[str, Iterable[str]], machine: str) -> Path:
    """A DSO with these version nodes and the symbols of each."""
    source, script, out = directory / "dso.c", directory / "dso.map", directory / soname
    source.write_text("".join(f"int {s} = 1;\n" for symbols in nodes.values() for s in symbols))
    script.write_text("\n".join(
        f"{node} {{ global: {' '.join(f'{s};' for s in symbols)} }};" for node, symbols in nodes.items()
    ))  # fmt: skip
    run([
        "gcc", "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{soname}", f"-Wl,--version-script={script}",
        source, "-o", out,
    ])  # fmt: skip
    retarget(out, machine)
    return out


def dsos(directory: Path, *, exports: bool, machine: str, libc: Iterable[str] = LIBC) -> Path:
    """A directory with a libc.so.6 and a loader."""
    directory.mkdir(parents=True)
    dso(directory, "libc.so.6", {n: [f"in_{n.replace('.', '_')}"] for n in libc}, machine)
    nodes = {"GLIBC_2.3": ["old"]} | ({NODE: ["__rseq_size"]} if exports else {})
    dso(directory, arch(machine).loader, nodes, machine)
    return directory


def packages(directory: Path, release: str, content: Path, machine: str, requires: str = "") -> list[Path]:
    spec = directory / "glibc.spec"
    spec.write_text(SPEC)
    defines = {"_topdir": str(directory / "top"), "its_release": release, "dsos": str(content)}
    if requires:
        defines["its_requires"] = requires
    options = [a for k, v in defines.items() for a in ("--define", f"{k} {v}")]
    run(["rpmbuild", "-bb", "--target", machine, *options, spec])
    return sorted(directory.glob(f"top/RPMS/{machine}/*.rpm"))


def releases(
    directory: Path,
    exports: Mapping[str, bool] = RELEASES,
    *,
    machine: str = "x86_64",
    libc: Iterable[str] = LIBC,
    requires: str = "",
    mode: BuildMode = "native",
) -> dict[str, Built]:
    found = {}
    for name, exported in exports.items():
        here = directory / name
        content = dsos(here / "dsos", exports=exported, machine=machine, libc=libc)
        rpms = packages(here, name, content, machine, requires)
        found[name] = built(name, rpms, machine=machine, mode=mode)
    return found


def programs(
    directory: Path, machine: str = "x86_64", *, rseq_uses: bool = True, plain_uses: bool = False
) -> Path:
    """Two programs, linked against small DSOs that export everything."""
    directory.mkdir()
    content = dsos(directory.parent / "link", exports=True, machine="x86_64")
    if machine != "x86_64":  # the loader of the other architecture, which the linker shall still take
        dso(content, arch(machine).loader, {"GLIBC_2.3": ["old"], NODE: ["__rseq_size"]}, "x86_64")
    for name, uses in ((RSEQ, rseq_uses), (PLAIN, plain_uses)):
        symbols = ["in_GLIBC_2_34", *(["__rseq_size"] if uses else [])]
        source = directory.parent / f"{name}.c"
        source.write_text(
            "".join(f"extern int {s};\n" for s in symbols)
            + f"int main(void) {{ return {' + '.join(symbols)}; }}\n"
        )
        run([
            "gcc", "-fPIC", "-nostdlib", "-Wl,-e,main", source, "-o", directory / name,
            content / "libc.so.6", "-Wl,--as-needed", content / arch(machine).loader,
        ])  # fmt: skip
        retarget(directory / name, machine)
    return directory


def transaction(workbench: Material) -> dict[tuple[str, str], Outcome]:
    found = Transaction().run(workbench)
    assert set(answers(found)) == {(q.target.release, q.case) for q in Transaction().questions(workbench)}
    return outcomes(found)


GREEN = {(r, c): PASS for r in RELEASES for c in ("glibc", RSEQ, PLAIN)}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_right_releases(tmp_path: Path, machine: str) -> None:
    workbench = material(releases(tmp_path, machine=machine), programs(tmp_path / "probes", machine), machine)
    loader = arch(machine).loader
    found = Requires().run(workbench)
    assert outcomes(found) == {("12.1", RSEQ): PASS, ("12.1", PLAIN): PASS}
    assert answers(found)["12.1", RSEQ].seen == f"naming {NODE}: {loader}({NODE})(64bit)"
    assert {f.outcome for f in Provides().run(workbench)} == {PASS}
    found = Transaction().run(workbench)
    assert outcomes(found) == GREEN
    refused = answers(found)["12.0", RSEQ]
    assert refused.seen == f"refused: {loader}({NODE})(64bit) is needed by launch-rseq-1-1.{machine}"
    assert answers(found)["12.1", RSEQ].seen == "accepted"
    # and a rerun asks rpm nothing again
    stored = sorted((tmp_path / "state").rglob("*"))
    assert outcomes(Transaction().run(workbench)) == GREEN
    assert sorted((tmp_path / "state").rglob("*")) == stored


def test_the_requires_are_those_rpm_reads(tmp_path: Path) -> None:
    on = material({}, programs(tmp_path / "probes"))
    for rpm in (probe_rpm(on, RSEQ), probe_rpm(on, PLAIN)):
        ours = sorted(str(d) for d in package.verify(rpm).requires)
        assert ours == sorted(run(["rpm", "-qp", "--requires", rpm]).text.splitlines())


def test_accepted_where_it_must_be_refused(tmp_path: Path) -> None:
    workbench = material(releases(tmp_path, RELEASES | {"12.0": True}), programs(tmp_path / "probes"))
    assert transaction(workbench) == GREEN | {("12.0", RSEQ): FAIL}
    assert outcomes(Provides().run(workbench)) == {
        ("12.0 -> 12.0.z", ""): FAIL, ("12.0 -> 12.1", ""): FAIL, ("12.0.z -> 12.1", ""): PASS,
    }  # fmt: skip


def test_refused_where_it_must_be_accepted(tmp_path: Path) -> None:
    workbench = material(releases(tmp_path, RELEASES | {"12.1": False}), programs(tmp_path / "probes"))
    assert transaction(workbench) == GREEN | {("12.1", RSEQ): FAIL}


def test_refused_for_another_reason(tmp_path: Path) -> None:
    workbench = material(
        releases(tmp_path, {"12.0": False}, libc=["GLIBC_2.2.5"]), programs(tmp_path / "probes")
    )
    found = Transaction().run(workbench)
    assert outcomes(found) == {("12.0", "glibc"): PASS, ("12.0", RSEQ): FAIL, ("12.0", PLAIN): FAIL}
    assert "libc.so.6(GLIBC_2.34)(64bit) is needed by" in answers(found)["12.0", RSEQ].seen


def test_a_program_that_does_not_use_the_symbols(tmp_path: Path) -> None:
    workbench = material(releases(tmp_path), programs(tmp_path / "probes", rseq_uses=False))
    assert outcomes(Requires().run(workbench)) == {("12.1", RSEQ): FAIL, ("12.1", PLAIN): PASS}
    assert transaction(workbench) == GREEN | {("12.0", RSEQ): FAIL}


def test_a_plain_program_that_does(tmp_path: Path) -> None:
    workbench = material(releases(tmp_path), programs(tmp_path / "probes", plain_uses=True))
    assert outcomes(Requires().run(workbench)) == {("12.1", RSEQ): PASS, ("12.1", PLAIN): FAIL}
    assert transaction(workbench) == GREEN | {("12.0", PLAIN): FAIL}


def test_own_packages_that_need_others_are_red(tmp_path: Path) -> None:
    workbench = material(
        releases(tmp_path, {"12.1": True}, requires="basesystem"), programs(tmp_path / "probes")
    )
    assert transaction(workbench) == {("12.1", "glibc"): FAIL, ("12.1", RSEQ): PASS, ("12.1", PLAIN): PASS}


def test_a_vendors_packages_may_need_others_and_it_is_said(tmp_path: Path) -> None:
    workbench = material(
        releases(tmp_path, requires="basesystem", mode="supplied"), programs(tmp_path / "probes")
    )
    found = Transaction().run(workbench)
    assert outcomes(found) == GREEN
    seen = answers(found)["12.1", "glibc"].seen
    assert "--nodeps" in seen
    assert "basesystem is needed by glibc-2.36-12.1.x86_64" in seen


def test_packages_that_cannot_be_installed_at_all(tmp_path: Path) -> None:
    workbench = material(releases(tmp_path, {"12.1": True}, machine="aarch64"), programs(tmp_path / "probes"))
    found = Transaction().run(workbench)
    assert outcomes(found) == {("12.1", "glibc"): FAIL, ("12.1", RSEQ): MISSING, ("12.1", PLAIN): MISSING}
    assert "intended for a different architecture" in answers(found)["12.1", "glibc"].seen


def test_without_rpm_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workbench = material(releases(tmp_path), programs(tmp_path / "probes"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    for check in (Requires(), Transaction()):
        found = check.run(workbench)
        assert {f.outcome for f in found} == {MISSING}
        assert "rpm is not installed" in found[0].seen
    assert {f.outcome for f in Provides().run(workbench)} == {PASS}  # needs no rpm


def test_an_ordinary_user_can_run_it_or_is_told_why_not(tmp_path: Path) -> None:
    base = releases(tmp_path, {"12.0": False})["12.0"]
    rseq = probe_rpm(material({}, programs(tmp_path / "probes")), RSEQ)
    with tempfile.TemporaryDirectory() as there:
        open_to_all = Path(there)
        open_to_all.chmod(0o777)
        files = []
        for file in (*base.rpms.glob("*.rpm"), rseq):
            files.append(open_to_all / file.name)
            files[-1].write_bytes(file.read_bytes())
            files[-1].chmod(0o644)
        child = os.fork()
        if child == 0:  # as nobody if we are root, and out at once whatever happens
            status = 9
            try:
                if os.getuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                os.environ.update(PIPELINE_STATE=f"{there}/state", TMPDIR=there, HOME=there)
                tempfile.tempdir = there
                done = rpmtools.transactions(files[:-1], {RSEQ: files[-1]}, arch("x86_64"))
                status = 0 if done.base.accepted and len(done.programs[RSEQ].unmet) == 1 else 1
            except WorldError as e:
                status = 0 if "user namespaces" in e.hint else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
