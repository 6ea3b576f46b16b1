"""Real packages by rpmbuild, wrong in one way each; rpm itself is the oracle of what the checks say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.check.packages import Conflicts, Install, Payload, inventory_path, make_inventory
from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.records import Built, file_record
from pipeline.core.run import run
from pipeline.rpm import inventory, package
from tests.check.rpm_bench import built, material
from tests.rpmwriter import REG, Item, cpio, write

pytestmark = pytest.mark.integration

PASS, FAIL = Outcome.PASS, Outcome.FAIL
SPEC = r"""
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
Name: glibc
Version: 2.36
Release: 12.0
Summary: Small packages in the place of the GNU libc's
License: LGPL-2.1-or-later
Requires: glibc-common = %{version}-%{release}
@MAIN@
%description
Small.
%package common
Summary: Something beside it
Requires: glibc = %{version}-%{release}
@COMMON@
%description common
Something.
%install
mkdir -p %{buildroot}/etc/conf.d %{buildroot}/usr/share %{buildroot}/usr/bin
echo main > %{buildroot}/etc/main.conf
: > %{buildroot}/etc/cache
echo x > %{buildroot}/usr/share/x
echo y > %{buildroot}/usr/share/y
ln %{buildroot}/usr/share/y %{buildroot}/usr/share/z
ln -s x %{buildroot}/usr/share/link
@INSTALL@
%post -p /sbin/ldconfig
%files
%dir /etc/conf.d
%config(noreplace) /etc/main.conf
%ghost /etc/cache
/usr/share/[xz]
/usr/share/y
/usr/share/link
@FILES@
%files common
@COMMON_FILES@
"""
PROVIDES_SHELL = "Provides: /sbin/ldconfig"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))


def packages(directory: Path, **parts: str) -> Built:
    """Release 12.0, its spec with the given parts."""
    text = SPEC
    for name in ("MAIN", "COMMON", "INSTALL", "FILES", "COMMON_FILES"):
        text = text.replace(f"@{name}@", parts.get(name, PROVIDES_SHELL if name == "MAIN" else ""))
    directory.mkdir(exist_ok=True)
    spec = directory / "glibc.spec"
    spec.write_text(text)
    run(["rpmbuild", "-bb", "--define", f"_topdir {directory}/top", spec], env={"HOME": str(directory)})
    return release(sorted(directory.glob("top/RPMS/*/*.rpm")))


def release(rpms: Sequence[Path]) -> Built:
    return built("12.0", rpms, machine=host_arch().name)


def ask(check: Payload | Conflicts | Install, of: Built) -> Finding:
    (finding,) = check.run(material({"12.0": of}, Path("/nowhere"), host_arch().name))
    return finding


def test_what_rpmbuild_makes_is_right(tmp_path: Path) -> None:
    made = packages(tmp_path / "a")
    for check in (Payload(), Conflicts(), Install()):
        assert ask(check, made).outcome is PASS, ask(check, made).seen
    inventory = make_inventory([made.rpms / r.file for r in made.manifest.rpms], "x").packages["glibc"]
    assert {
        "/etc/main.conf: file 0644 root:root config noreplace",
        "/etc/cache: file 0644 root:root ghost",
        "/etc/conf.d: dir 0755 root:root",
        "/usr/share/link: link root:root -> x",
        "provides glibc = VERSION-RELEASE",
        "requires glibc-common = VERSION-RELEASE",
        "requires /sbin/ldconfig (interp, post)",
        "script post /sbin/ldconfig",
    } <= inventory
    assert not any("rpmlib" in fact for fact in inventory)


@pytest.mark.parametrize(
    ("install", "files", "rpm_refuses"),
    [
        ("echo other > %{buildroot}/usr/bin/tool", "/usr/bin/tool", True),
        ("echo main > %{buildroot}/usr/bin/tool", "%attr(0700, root, root) /usr/bin/tool", True),
        ("ln -s other %{buildroot}/usr/bin/tool", "/usr/bin/tool", True),
        (
            "echo main > %{buildroot}/usr/bin/tool; chmod 755 %{buildroot}/usr/bin/tool",
            "/usr/bin/tool",
            False,
        ),
    ],
)
def test_two_packages_at_one_path(tmp_path: Path, install: str, files: str, rpm_refuses: bool) -> None:
    """What is called a conflict is what rpm calls one."""
    made = packages(
        tmp_path / "a",
        INSTALL="echo main > %{buildroot}/usr/bin/tool; chmod 755 %{buildroot}/usr/bin/tool",
        FILES="/usr/bin/tool",
    )
    theirs = packages(tmp_path / "b", INSTALL=install, COMMON_FILES=files)
    both = tmp_path / "both"
    both.mkdir()
    chosen = [
        next(made.rpms.glob("glibc-2*")).rename(both / "glibc.rpm"),
        next(theirs.rpms.glob("glibc-common*")).rename(both / "common.rpm"),
    ]
    mixed = release(chosen)
    expected = FAIL if rpm_refuses else PASS
    assert ask(Conflicts(), mixed).outcome is expected
    installed = ask(Install(), mixed)
    assert installed.outcome is expected, installed.seen
    if rpm_refuses:
        assert "file /usr/bin/tool" in installed.seen
        assert "conflicts" in installed.seen
        assert "/usr/bin/tool: " in ask(Conflicts(), mixed).seen


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("first", ["glibc", "glibc-common"])
def test_a_file_and_a_directory_at_one_path(tmp_path: Path, first: str, whole: bool) -> None:
    """A path is a file in one package and a directory in another, listed or only on the way to a file."""
    file = {"INSTALL": "echo x > %{buildroot}/usr/share/thing"}
    directory = {"INSTALL": "mkdir %{buildroot}/usr/share/thing; echo y > %{buildroot}/usr/share/thing/y"}
    names = {"file": "/usr/share/thing", "directory": f"/usr/share/thing{'' if whole else '/y'}"}
    mine, theirs = ("file", "directory") if first == "glibc" else ("directory", "file")
    parts = {"file": file, "directory": directory}
    made = packages(tmp_path / "a", FILES=names[mine], **parts[mine])
    other = packages(tmp_path / "b", COMMON_FILES=names[theirs], **parts[theirs])
    both = tmp_path / "both"
    both.mkdir()
    chosen = [
        next(made.rpms.glob("glibc-2*")).rename(both / "glibc.rpm"),
        next(other.rpms.glob("glibc-common*")).rename(both / "common.rpm"),
    ]
    mixed = release(chosen)
    said = ask(Conflicts(), mixed)
    assert said.outcome is FAIL
    assert "/usr/share/thing" in said.seen
    installed = ask(Install(), mixed)
    assert installed.outcome is FAIL, installed.seen
    root = tmp_path / "root"
    root.mkdir()
    for rpm in chosen:  # what is judged is still unpacked, for all other checks
        package.extract(rpm, root, first_stays=True)
    assert (root / "usr/share/thing").is_dir() is (mine == "directory")
    with pytest.raises(MalformedInput, match="director"):
        package.extract(chosen[1], root)


def test_a_release_that_cannot_be_installed(tmp_path: Path) -> None:
    version = packages(tmp_path / "a", MAIN=f"{PROVIDES_SHELL}\nRequires: glibc-common = 9.9")
    finding = ask(Install(), version)
    assert finding.outcome is FAIL
    assert "glibc-common = 9.9 is needed by glibc-2.36-12.0" in finding.seen
    conflicting = packages(tmp_path / "b", COMMON="Conflicts: glibc", MAIN=PROVIDES_SHELL)
    finding = ask(Install(), conflicting)
    assert finding.outcome is FAIL
    assert "conflicts with" in finding.seen


def test_what_other_packages_provide_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BASELINES", tmp_path / "abi-baselines")
    made = packages(tmp_path / "a", MAIN=f"{PROVIDES_SHELL}\nRequires: kernel-headers")
    finding = ask(Install(), made)  # whether there is such a package is known to nobody here
    assert finding.outcome is Outcome.MISSING
    assert "nothing here provides kernel-headers, and whether other packages do is not known" in finding.seen
    assert "nox -s baseline" in finding.seen
    written = make_inventory([made.rpms / r.file for r in made.manifest.rpms], "x")
    path = inventory_path(made.manifest.target)
    path.parent.mkdir(parents=True)
    path.write_text(inventory.render(written))
    finding = ask(Install(), made)
    assert finding.outcome is PASS
    assert "kernel-headers" in finding.seen


def test_a_payload_that_rpm_would_not_unpack(tmp_path: Path) -> None:
    """The header lists another content: rpm refuses, and so does the check that needs no rpm."""
    listed = [Item("/usr/bin/tool", REG | 0o755, b"good")]
    payload = cpio([Item("/usr/bin/tool", REG | 0o755, b"evil")])
    lies = release([write(tmp_path, "glibc", arch=host_arch().name, items=listed, payload=payload,
                          compressor="none", tags={1021: "linux"})])  # fmt: skip
    assert "/usr/bin/tool: sha256" in ask(Payload(), lies).seen
    assert ask(Install(), lies).outcome is FAIL


needs_x86 = pytest.mark.skipif(host_arch().beside == "", reason="no 32-bit packages beside this architecture")
MULTILIB = r"""
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
Name: glibc
Version: 2.36
Release: 12.0
Summary: One package of two word sizes
License: LGPL-2.1-or-later
Provides: /sbin/ldconfig, rtld(GNU_HASH)
%description
Small.
%build
echo 'int answer (void) { return BITS; }' > answer.c
gcc -m%{bits} -DBITS=%{bits} -shared -nostdlib -fPIC -Wl,-soname,libc.so.6 -o libc.so.6 answer.c
gcc -m%{bits} -DBITS=%{bits} -static -nostdlib -Wl,-eanswer -o tool answer.c
%install
mkdir -p %{buildroot}%{libdir} %{buildroot}/usr/sbin %{buildroot}/usr/share
install -m 755 libc.so.6 %{buildroot}%{libdir}
install -m 755 tool %{buildroot}/usr/sbin
echo '%{text}' > %{buildroot}/usr/share/text
%files
%{libdir}/libc.so.6
/usr/sbin/tool
/usr/share/text
"""


def multilib(directory: Path, text: str, needs: str = "") -> Built:
    """The 64-bit package, and beside it the 32-bit one with ``text`` in the file that both have."""
    machine = host_arch()
    taken = directory / "rpms"
    taken.mkdir(parents=True)
    spec = directory / "glibc.spec"
    for target, bits, libdir, words, more in (
        (machine.name, 64, "/lib64", "shared", ""), (machine.beside, 32, "/lib", text, needs),
    ):  # fmt: skip
        spec.write_text(MULTILIB.replace("%description", f"{more}\n%description", 1))
        values = {"bits": bits, "libdir": libdir, "text": words, "_topdir": directory / "top"}
        defines = [x for k, v in values.items() for x in ("--define", f"{k} {v}")]
        run(["rpmbuild", "-bb", "--target", f"{target}-linux", *defines, spec], env={"HOME": str(directory)})
    for rpm in directory.glob("top/RPMS/*/*.rpm"):
        rpm.rename(taken / rpm.name)
    made = release([taken / f"glibc-2.36-12.0.{machine.name}.rpm"])
    other = taken / f"glibc-2.36-12.0.{machine.beside}.rpm"
    manifest = made.manifest.model_copy(update={"beside": (file_record(other),), "mode": "supplied"})
    return made.model_copy(update={"manifest": manifest})


@needs_x86
def test_packages_of_two_word_sizes_are_installed_together(tmp_path: Path) -> None:
    """rpm keeps the 64-bit program where both have one, and takes any other difference for a conflict."""
    good = multilib(tmp_path / "good", "shared")
    for check in (Payload(), Conflicts(), Install()):
        finding = ask(check, good)
        assert finding.outcome is PASS, finding.seen
        assert finding.measures.get("packages", 2) == 2
    bad = multilib(tmp_path / "bad", "of 32 bits")
    conflict, refused = ask(Conflicts(), bad), ask(Install(), bad)
    assert (conflict.outcome, refused.outcome) == (FAIL, FAIL)
    assert conflict.seen.count("/usr") == 1
    assert re.search(
        r"/usr/share/text: different contents \(.*\) in glibc.x86_64 and glibc.i686", conflict.seen
    )
    assert "file /usr/share/text" in refused.seen
    assert "/usr/sbin/tool" not in conflict.seen + refused.seen


@needs_x86
def test_what_the_32_bit_package_needs_is_looked_for(tmp_path: Path) -> None:
    needing = multilib(tmp_path / "a", "shared", "Requires: glibc-common = 9.9")
    finding = ask(Install(), needing)
    assert finding.outcome is Outcome.MISSING, "supplied packages may need others, and which is not committed"
    assert "glibc-common = 9.9" in finding.seen
    conflicting = multilib(tmp_path / "b", "shared", "Conflicts: glibc(x86-64)")
    assert ask(Install(), conflicting).outcome is FAIL


@needs_x86
def test_a_damaged_32_bit_package_is_named(tmp_path: Path) -> None:
    made = multilib(tmp_path / "a", "shared")
    (record,) = made.manifest.beside
    rpm = made.rpms / record.file
    rpm.write_bytes(rpm.read_bytes()[:-1] + b"x")
    finding = ask(Payload(), made)
    assert finding.outcome is FAIL
    assert record.file in finding.seen
