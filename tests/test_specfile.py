"""Reading what rpm expands a spec to (rpm itself expands some in integration/test_distgit.py)."""

from __future__ import annotations

import pytest

from pipeline.core.errors import UsageError
from pipeline.rpm import spec as specfile
from pipeline.rpm.spec import Application

PREAMBLE = """
Name: glibc
Version: 2.34
Release: 28.el9
Source0: https://example.org/releases/glibc-2.34.tar.xz
Source1: nsswitch.conf
Patch3: a.patch
Patch: b.patch
%description
Name: not this one
"""

#: rpm 4.18's words for %setup -q -n, %patch20 -p1, %patch -P 3 -p0 -b .x -F 3, %patch4 -R
NEWER = """
%prep
cd '/root/rpmbuild/BUILD'
rm -rf 'glibc-2.34'
/usr/lib/rpm/rpmuncompress -x /src/glibc-2.34.tar.xz
STATUS=$?
if [ $STATUS -ne 0 ]; then
  exit $STATUS
fi
cd 'glibc-2.34'
/bin/chmod -Rf a+rX,u+w,g-w,o-w .
echo "Patch #20 (d.patch):"
/usr/bin/patch --no-backup-if-mismatch -f -p1  --fuzz=0 < /src/d.patch

echo "Patch #3 (a.patch):"
/usr/bin/patch --no-backup-if-mismatch -f -p0 -b --suffix .x --fuzz=3 < /src/a.patch

echo "Patch #4 (b.patch):"
/usr/bin/patch --no-backup-if-mismatch -f -p0  --fuzz=1 -R < /src/b.patch
echo pipeline: here ends prep
patch -p1 < /src/not-in-prep.patch
"""

#: rpm 4.16's words for %autosetup -p1
OLDER = """
%prep
cd '/root/rpmbuild/BUILD'
rm -rf 'foo'
/usr/bin/xz -dc '/src/glibc-2.34.tar.xz' | /usr/bin/tar -xof -
STATUS=$?
if [ $STATUS -ne 0 ]; then
  exit $STATUS
fi
cd 'foo'
/usr/bin/chmod -Rf a+rX,u+w,g-w,o-w .
/usr/bin/cat /src/b.patch |
/usr/bin/patch -p1 -s --fuzz=0 --no-backup-if-mismatch -f
/usr/bin/gzip -dc /src/c.patch.gz | \\
/usr/bin/patch -p2 -s
%build
"""


def prep(*lines: str) -> str:
    return PREAMBLE + "\n".join(["%prep", "cd 'glibc-2.34'", *lines, "%build"])


def test_patches_come_in_the_order_and_with_the_options_rpm_gives_them() -> None:
    found = specfile.parse(PREAMBLE + NEWER, "x")
    assert (found.name, found.version, found.topdir) == ("glibc", "2.34", "glibc-2.34")
    assert found.sources == ("glibc-2.34.tar.xz", "nsswitch.conf")
    assert found.patches == ("a.patch", "b.patch")
    quiet = ("--no-backup-if-mismatch", "-f")
    assert found.applied == (
        Application("d.patch", (*quiet, "-p1", "--fuzz=0")),
        Application("a.patch", (*quiet, "-p0", "-b", "--suffix", ".x", "--fuzz=3")),
        Application("b.patch", (*quiet, "-p0", "--fuzz=1", "-R")),
    )
    assert [a.plain for a in found.applied] == [True, False, False]
    assert [a.fuzz for a in found.applied] == [0, 3, 1]
    assert found.further == ()


def test_the_end_of_prep_is_marked() -> None:
    spec = b"%install was not\nName: x\n%prep\n%setup\n# %build\n%build -q\nmake\n%install\n"
    assert specfile.mark(spec) == spec.replace(b"\n%build -q", b"\necho pipeline: here ends prep\n%build -q")
    assert specfile.mark(b"Name: x\n%build\n") == b"Name: x\n%build\n"


def test_patches_that_are_piped() -> None:
    found = specfile.parse(PREAMBLE + OLDER, "x")
    assert found.topdir == "foo"
    assert [(a.file, a.plain) for a in found.applied] == [("b.patch", True), ("c.patch.gz", False)]
    assert found.applied[1].fuzz == 2, "patch(1) itself takes 2 where nothing is said"
    assert found.further == ()


@pytest.mark.parametrize(
    "line",
    [
        "/usr/bin/git apply --index --reject -p1 - < /src/a.patch && git commit -q -m a",
        "/usr/lib/rpm/rpmuncompress /src/a.patch | \n/usr/bin/git am --reject -q -p1",
        "git apply /src/a.patch",
    ],
)
def test_git_applies_without_fuzz(line: str) -> None:
    (found,) = specfile.parse(prep(line.replace("- < ", "")), "x").applied
    assert (found.file, found.plain, found.fuzz) == ("a.patch", True, 0)


def test_the_fuzz_may_be_said_in_several_ways() -> None:
    assert Application("a", ("-p1", "-F", "3")).fuzz == 3
    assert Application("a", ("-p1", "-F4")).fuzz == 4
    assert Application("a", ("-p1", "--fuzz", "5")).fuzz == 5


def test_what_else_prep_does_is_told() -> None:
    more = "/usr/lib/rpm/rpmuncompress -x /src/more.tar.xz"
    found = specfile.parse(prep("# a comment", more, "touch configure", "echo done", "rm -f sysdeps/x"), "x")
    assert found.further == (more, "touch configure", "rm -f sysdeps/x")
    assert found.applied == ()


@pytest.mark.parametrize(
    "lines",
    [
        ["for p in *.patch; do patch -p1 < $p; done"],
        ["xz -dc /src/a.patch.xz | sed s/x/y/ | patch -p1"],
        ["patch -p1 < /src/a.patch > log"],
        ["cd localedata", "patch -p0 < /src/a.patch"],
        ["find /src -name '*.diff' -exec git apply {} +"],
    ],
)
def test_a_patch_that_cannot_be_followed_is_never_passed_over(lines: list[str]) -> None:
    with pytest.raises(UsageError, match="cannot be followed") as failed:
        specfile.parse(prep(*lines), "the.spec")
    assert lines[-1] in failed.value.message
    assert "%autosetup" in failed.value.hint


def test_back_in_the_top_directory_patches_are_followed_again() -> None:
    lines = ["pushd localedata", "touch x", "popd", "patch -p1 --fuzz=0 < /src/a.patch"]
    assert [a.file for a in specfile.parse(prep(*lines), "x").applied] == ["a.patch"]


def test_a_patch_that_rpm_cannot_read() -> None:
    with pytest.raises(UsageError, match=r"patch gone\.patch is not there"):
        specfile.parse(prep("echo 'Cannot read /src/gone.patch'; exit 1;"), "x")


@pytest.mark.parametrize("tag", ["Name", "Version", "Source"])
def test_a_spec_without_a_tag_it_needs(tag: str) -> None:
    text = "\n".join(line for line in PREAMBLE.splitlines() if not line.startswith(tag))
    with pytest.raises(UsageError, match=f"has no {tag}"):
        specfile.parse(text, "x")


def test_our_spec_gets_plain_patches_as_always() -> None:
    plain = tuple(Application(f, ("-s", "-p1", "--fuzz=0")) for f in ("b.patch", "a.patch"))
    assert specfile.patches_inc(plain) == (
        "%global _default_patch_fuzz 0\nPatch1: b.patch\nPatch2: a.patch\n"
    )


def test_our_spec_applies_others_as_theirs_did() -> None:
    text = specfile.patches_inc(
        (Application("b.patch", ("-p0", "--suffix", ".a b", "--fuzz=1")), Application("a%.patch", ("-p1",)))
    )
    assert "%define autopatch(vqp:m:M:)" in text
    assert "%{__patch} -p0 --suffix '.a b' --fuzz=1 < %{PATCH1} \\\n" in text
    assert "echo 'Patch #2 (a%%.patch)'" in text


def test_a_list_in_quotes_is_one_command_and_hides_no_patch() -> None:
    """RHEL's %prep writes three hundred locales with one echo."""
    head, end, _ = NEWER.partition("echo pipeline: here ends prep")
    locales = "".join(f"l{n}_XX\n" for n in range(300))
    text = f"{head}set +x\nchmod +x scripts/a\necho 'aa_DJ\n{locales}' > SUPPORTED.spec\nrm x\n{end}\n"
    found = specfile.parse(PREAMBLE + text, "x")
    assert len(found.applied) == 3
    commands = specfile.commands(found.further)
    assert [c.split()[0] for c in commands] == ["chmod", "echo", "rm"]
    assert "l299_XX" in commands[1]
    # what is grouped for people to read was looked through line by line before: no patch is lost in quotes
    hidden = text.replace("rm x\n", "true # it's not what it seems\n/usr/bin/patch -p1 < /src/c.patch\n")
    assert [a.file for a in specfile.parse(PREAMBLE + hidden, "x").applied][-1] == "c.patch"
