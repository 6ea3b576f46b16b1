"""Packages that are wrong in one way each, and the check that says so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.check import StaticCheck
from pipeline.check.packages import (
    Conflicts,
    FileLists,
    Metadata,
    Payload,
    inventory_path,
    judge_installation,
    make_inventory,
)
from pipeline.core import paths
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.records import Built
from pipeline.rpm import coherence, inventory
from pipeline.rpm import package as rpmfile
from pipeline.rpm.transaction import Attempt, Installation
from tests.check.rpm_bench import built, material
from tests.rpmwriter import DIR, LNK, REG, Item, cpio, write

PASS, FAIL, MISSING, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.MISSING, Outcome.ERROR
LIBC = Item("/lib64/libc.so.6", REG | 0o755, b"the library")
GLIBC = (
    Item("/etc/ld.so.conf.d", DIR | 0o755),
    Item("/etc/ld.so.conf", data=b"include\n"),
    LIBC,
    Item("/lib64/libc.so", LNK | 0o777, b"libc.so.6"),
)
COMMON = (Item("/usr/bin/ldd", REG | 0o755, b"#!/bin/sh\n"),)


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(paths, "BASELINES", tmp_path / "repository" / "abi-baselines")


def release(
    directory: Path, glibc: dict[str, Any] | None = None, common: dict[str, Any] | None = None
) -> Built:
    """Release 12.0 of two packages; the arguments replace what `write` is given for one of them."""
    directory.mkdir(exist_ok=True)
    first: dict[str, Any] = {"items": GLIBC, "provides": ["libc.so.6(GLIBC_2.34)(64bit)"],
                             "requires": ["glibc-common = 2.36-12.0", "kernel-headers"]}  # fmt: skip
    second: dict[str, Any] = {"items": COMMON}
    one = write(directory, "glibc", version="2.36", release="12.0", **(first | (glibc or {})))
    two = write(directory, "glibc-common", version="2.36", release="12.0", **(second | (common or {})))
    return built("12.0", [one, two])


def rpms_of(of: Built) -> list[Path]:
    return [of.rpms / r.file for r in of.manifest.rpms]


def commit(of: Built, *, foreign: bool = False) -> Path:
    """The inventory of a release, committed."""
    made = material({"12.0": of}, Path("/nowhere"))
    file = inventory_path(made.target("12.0"), foreign=foreign)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(inventory.render(make_inventory(rpms_of(of), "glibc-2.36-12.0")))
    return file


def ask(check: StaticCheck, of: Built) -> Finding:
    on = material({"12.0": of}, Path("/nowhere"))
    (finding,) = check.run(on)
    assert [(finding.check, finding.target)] == [(q.check, q.target) for q in check.questions(on)]
    return finding


# -- the payload and its header -------------------------------------------------------------------------


def test_whole_packages_pass(tmp_path: Path) -> None:
    made = release(tmp_path / "r")
    for check in (Payload(), Conflicts()):
        assert ask(check, made).outcome is PASS


def changed(items: Sequence[Item], **by: Any) -> bytes:
    """The archive of ``items`` with another libc than the header lists."""
    return cpio([replace(i, **by) if i is LIBC else i for i in items])


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (changed(GLIBC, data=b"another lib"), "/lib64/libc.so.6: sha256"),
        (changed(GLIBC, data=b"shorter"), "7 bytes in the payload, 11 in the file list"),
        (changed(GLIBC, mode=REG | 0o4755), "mode 104755 in the payload, 100755 in the file list"),
        (changed(GLIBC, path="/lib64/libc.so.7"), "/lib64/libc.so.7: in the payload, not in the file list"),
        (changed(GLIBC, path="/lib64/libc.so.7"), "/lib64/libc.so.6: in the file list, not in the payload"),
        (cpio([*GLIBC, LIBC]), "/lib64/libc.so.6: twice in the payload"),
        (cpio([*GLIBC[:3], Item("/lib64/libc.so", LNK | 0o777, b"evil.so.6")]), "leads to 'evil.so.6'"),
        (cpio(GLIBC[:3]), "/lib64/libc.so: in the file list, not in the payload"),
        (cpio(GLIBC) + b"and more", "something follows the end of the archive"),
        (cpio(GLIBC)[:-200], "the archive ends too early"),
    ],
)
def test_a_payload_that_is_not_what_the_header_lists(tmp_path: Path, payload: bytes, words: str) -> None:
    made = release(tmp_path / "r", {"payload": payload, "compressor": "none"})
    finding = ask(Payload(), made)
    assert finding.outcome is FAIL
    assert words in finding.seen


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({5097: ["0" * 64]}, "uncompressed payload has sha256"),
        ({5092: ["0" * 64]}, "the header says 0000"),
        ({1037: (64, 0, 0, 0)}, "although it is %ghost"),
    ],
)
def test_a_header_that_is_not_true(tmp_path: Path, tags: dict[int, object], words: str) -> None:
    finding = ask(Payload(), release(tmp_path / "r", {"tags": tags}))
    assert finding.outcome is FAIL
    assert words in finding.seen


def test_digests_that_fips_does_not_take(tmp_path: Path) -> None:
    weak = [hashlib.md5(i.data).hexdigest() if i.mode & REG == REG else "" for i in GLIBC]
    finding = ask(Payload(), release(tmp_path / "r", {"tags": {5011: 1, 1035: weak}}))
    assert finding.outcome is FAIL
    assert "the digests of its files are md5, which a machine in FIPS mode does not take" in finding.seen


def test_a_header_with_another_digest_than_its_own(tmp_path: Path) -> None:
    finding = ask(Payload(), release(tmp_path / "r", {"signature": {273: "0" * 64}}))
    assert finding.outcome is FAIL
    assert "altered" in finding.seen


def test_the_digest_of_the_archive_itself(tmp_path: Path) -> None:
    right = hashlib.sha256(cpio(GLIBC)).hexdigest()
    assert ask(Payload(), release(tmp_path / "r", {"tags": {5097: [right]}})).outcome is PASS


def test_hard_links_are_one_file(tmp_path: Path) -> None:
    pair = (
        Item("/usr/bin/a", REG | 0o755, b"", inode=7, links=2),
        Item("/usr/bin/b", REG | 0o755, b"data", inode=7, links=2),
    )
    digest, sizes = hashlib.sha256(b"data").hexdigest(), {1028: (4, 4)}
    good = {"items": pair, "tags": {**sizes, 1035: [digest, digest]}}
    assert ask(Payload(), release(tmp_path / "r", None, good)).outcome is PASS
    apart = {"items": pair, "tags": {**sizes, 1035: [digest, digest], 1096: (7, 8)}}
    finding = ask(Payload(), release(tmp_path / "s", None, apart))
    assert "one file in the payload, 2 in the file list" in finding.seen


# -- two packages at one path ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "tags", "words"),
    [
        ([Item(LIBC.path, LIBC.mode, b"another lib")], {}, "different contents"),
        ([Item("/usr" + LIBC.path, LIBC.mode, b"another lib")], {}, "different contents"),
        ([Item(LIBC.path, REG | 0o700, LIBC.data)], {}, "modes 100755 and 100700"),
        ([LIBC], {1039: ["nobody"]}, "owners root:root and nobody:root"),
        ([Item("/lib64/libc.so", LNK | 0o777, b"elsewhere")], {}, "links to libc.so.6 and elsewhere"),
        ([Item("/etc/ld.so.conf.d", DIR | 0o700)], {}, "modes 40755 and 40700"),
    ],
)
def test_two_packages_disagree(
    tmp_path: Path, items: list[Item], tags: dict[int, object], words: str
) -> None:
    made = release(tmp_path / "r", None, {"items": items, "tags": tags})
    finding = ask(Conflicts(), made)
    assert finding.outcome is FAIL
    assert words in finding.seen
    assert "in glibc and glibc-common" in finding.seen


def test_what_two_packages_share_is_no_conflict(tmp_path: Path) -> None:
    assert ask(Conflicts(), release(tmp_path / "r", None, {"items": GLIBC})).outcome is PASS
    ghost = {"items": [Item(LIBC.path, LIBC.mode, b"x")], "tags": {1037: (64,)}, "payload": cpio([])}
    assert ask(Conflicts(), release(tmp_path / "s", None, ghost | {"compressor": "none"})).outcome is PASS


# -- against the committed inventory --------------------------------------------------------------------


def test_as_committed(tmp_path: Path) -> None:
    made = release(tmp_path / "r")
    for check in (FileLists(), Metadata()):  # one that is gone is not unasked
        assert ask(check, made).outcome is MISSING
    commit(made)
    for check in (FileLists(), Metadata()):
        finding = ask(check, made)
        assert finding.outcome is PASS, finding.seen
        assert finding.evidence == ("abi-baselines/bookworm/12.0/x86_64.packages",)
    assert ask(FileLists(), made).measures == {"packages": 2, "facts": 5}


def other(items: Sequence[Item], path: str, **by: Any) -> list[Item]:
    return [replace(i, **by) if i.path == path else i for i in items]


@pytest.mark.parametrize(
    ("glibc", "words"),
    [
        ({"items": other(GLIBC, LIBC.path, mode=REG | 0o700)}, "/lib64/libc.so.6: file 0700 root:root"),
        ({"items": other(GLIBC, "/etc/ld.so.conf.d", mode=DIR | 0o777)}, "/etc/ld.so.conf.d: dir 0777"),
        ({"items": other(GLIBC, "/lib64/libc.so", data=b"libm.so.6")}, "link root:root -> libm.so.6"),
        ({"items": [*GLIBC, Item("/lib64/more")]}, "+ glibc: /lib64/more: file 0644 root:root"),
        ({"items": GLIBC[1:]}, "- glibc: /etc/ld.so.conf.d: dir 0755 root:root"),
        ({"tags": {1039: ["root", "root", "nobody", "root"]}}, "/lib64/libc.so.6: file 0755 nobody:root"),
        ({"tags": {1040: ["root", "root", "users", "root"]}}, "/lib64/libc.so.6: file 0755 root:users"),
        ({"tags": {1037: (0, 17, 0, 0)}}, "/etc/ld.so.conf: file 0644 root:root config noreplace"),
        ({"tags": {5010: ["", "", "cap_sys_admin=ep", ""]}}, "caps=cap_sys_admin=ep"),
        ({"tags": {1097: ["", "", "de", ""]}}, "0755 root:root lang=de"),
        ({"tags": {1045: (0xFFFFFFFF, 0xFFFFFFFF, 0, 0xFFFFFFFF)}}, "0755 root:root verified=0x0"),
    ],
)  # fmt: skip
def test_files_that_are_not_as_committed(tmp_path: Path, glibc: dict[str, Any], words: str) -> None:
    commit(release(tmp_path / "good"))
    made = release(tmp_path / "bad", glibc)
    finding = ask(FileLists(), made)
    assert finding.outcome is FAIL
    assert words in finding.seen
    assert ask(Metadata(), made).outcome is PASS


def relation(tags: tuple[int, int, int], name: str, flags: int, version: str = "") -> dict[int, object]:
    return {tags[0]: [name], tags[1]: (flags,), tags[2]: [version]}


@pytest.mark.parametrize(
    ("glibc", "words"),
    [
        ({"requires": ["glibc-common = 2.36-12.0", "kernel-headers", "moon"]}, "+ glibc: requires moon"),
        ({"requires": ["glibc-common = 2.36-12.0"]}, "- glibc: requires kernel-headers"),
        ({"requires": ["glibc-common = 9", "kernel-headers"]}, "+ glibc: requires glibc-common = 9"),
        ({"provides": ["libc.so.6(GLIBC_2.34)(64bit)", "bash"]}, "+ glibc: provides bash"),
        ({"tags": relation((1054, 1053, 1055), "bash", 2, "5")}, "+ glibc: conflicts bash < 5"),
        ({"tags": relation((1090, 1114, 1115), "bash", 0)}, "+ glibc: obsoletes bash"),
        ({"tags": relation((5046, 5048, 5047), "bash", 0)}, "+ glibc: recommends bash"),
        ({"tags": {1024: "rm -rf /\n", 1086: "/bin/sh"}}, "+ glibc: script post /bin/sh sha256"),
        ({"tags": {1152: "x", 1154: "<lua>", 5025: 1}}, "script posttrans <lua> sha256"),
        ({"tags": {1065: ["x"], 1092: ["/bin/sh"], 1066: ["bash"], 1068: (1 << 16,), 1067: [""],
                   1069: (0,)}}, "+ glibc: script triggerin on bash /bin/sh"),
        ({"tags": {5066: ["x"], 5067: ["/bin/sh"], 5069: ["/usr/lib"], 5072: (1 << 16,), 5071: [""],
                   5070: (0,), 5084: (1000,)}}, "script filetriggerin on /usr/lib priority 1000"),
        ({"tags": {1098: ["/opt"]}}, "+ glibc: prefix /opt"),
        ({"tags": {1003: 2}}, "+ glibc: epoch 2"),
        ({"tags": {1014: "Proprietary"}}, "+ glibc: label license Proprietary"),
        ({"tags": {1011: "Somebody"}}, "+ glibc: label vendor Somebody"),
        ({"tags": {1080: (1,), 1081: ["me - 2.36-12.0"], 1082: ["- x"]}}, "+ glibc: label changelog sha256 "),
        ({"tags": {5030: ["policy"]}}, "+ glibc: label tag-5030 8 1 "),
        ({"signature": {274: ["", "", "03", ""]}}, "+ glibc: label ima-signatures of 1 files of 4"),
        ({"tags": {1047: ["glibc"], 1112: (8,), 1113: ["2.36-12.1"]}}, "+ glibc: provides glibc = 2.36-12.1"),
    ],
)  # fmt: skip
def test_metadata_that_is_not_as_committed(tmp_path: Path, glibc: dict[str, Any], words: str) -> None:
    commit(release(tmp_path / "good"))
    made = release(tmp_path / "bad", glibc)
    finding = ask(Metadata(), made)
    assert finding.outcome is FAIL
    assert words in finding.seen
    assert ask(FileLists(), made).outcome is PASS


def test_a_script_that_only_names_its_release_is_the_same(tmp_path: Path) -> None:
    def with_script(name: str, version: str) -> Built:
        (tmp_path / name).mkdir()
        return built("12.0", [write(tmp_path / name, "glibc", version="2.36", release=version,
                                    tags={1024: f"echo 2.36-{version}", 1086: "/bin/sh"})])  # fmt: skip

    commit(with_script("a", "12.0"))
    assert ask(Metadata(), with_script("b", "12.0.1")).outcome is PASS


def test_a_package_more_or_less(tmp_path: Path) -> None:
    commit(release(tmp_path / "good"))
    made = release(tmp_path / "bad")
    more = [*rpms_of(made), write(made.rpms, "glibc-evil")]
    assert "+ package glibc-evil" in ask(FileLists(), built("12.0", more)).seen
    assert "- package glibc-common" in ask(Metadata(), built("12.0", more[:1])).seen


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("0755", "0755 ", 1),
        lambda text: text + "\n",
        lambda text: text.replace("requires kernel-headers\n", "") + "requires kernel-headers\n",
        lambda text: text[:-20],
        lambda _: "",
    ],
)
def test_an_edited_inventory_is_refused(tmp_path: Path, edit: Callable[[str], str]) -> None:
    made = release(tmp_path / "r")
    file = commit(made)
    file.write_text(edit(file.read_text()))
    finding = ask(FileLists(), made)
    assert finding.outcome in (ERROR, FAIL)
    assert finding.outcome is not PASS


def test_another_makers_packages_are_compared_with_their_own_inventory_only(tmp_path: Path) -> None:
    made = release(tmp_path / "r")
    theirs = made.model_copy(update={"manifest": made.manifest.model_copy(update={"mode": "supplied"})})
    on = material({"12.0": theirs}, Path("/nowhere"))
    commit(made)
    assert FileLists().questions(on) == []
    assert FileLists().run(on) == []
    assert commit(theirs, foreign=True).name == "x86_64.supplied.packages"
    assert ask(FileLists(), theirs).outcome is PASS
    other = release(tmp_path / "s", {"items": GLIBC[1:]})
    mode = {"manifest": other.manifest.model_copy(update={"mode": "supplied"})}
    assert ask(FileLists(), other.model_copy(update=mode)).outcome is FAIL


def test_an_inventory_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = release(tmp_path / "r", {"tags": {1024: "x", 1086: "/bin/sh", 1037: (0, 17, 0, 0)}})
    written = make_inventory(rpms_of(made), "glibc-2.36")
    assert inventory.parse(inventory.render(written), "x") == written
    assert inventory.outside(written.packages) == {"kernel-headers"}


def test_two_packages_of_one_name_have_no_inventory(tmp_path: Path) -> None:
    rpm = rpmfile.read(write(tmp_path, "glibc"))
    with pytest.raises(MalformedInput, match="second package glibc"):
        inventory.of([rpm, rpm])


# -- the transaction ------------------------------------------------------------------------------------

YES = Attempt(True, (), "")
NO_KERNEL = Attempt(False, ("kernel-headers is needed by glibc-devel-1-1.x86_64",), "…")
NEEDS_SHELL = Attempt(False, ("/bin/sh is needed by glibc-1-1.x86_64",), "…")


@pytest.mark.parametrize(
    ("done", "outcome", "words"),
    [
        (Installation(YES, YES, ()), PASS, "accepted and verified"),
        (Installation(NO_KERNEL, YES, ()), PASS, "from other packages"),
        (Installation(Attempt(False, ("moon is needed by glibc-1-1.x86_64",), "…"), YES, ()), FAIL, "moon"),
        (Installation(NEEDS_SHELL, YES, ()), Outcome.MISSING, "nothing here provides /bin/sh"),
        (Installation(NEEDS_SHELL, YES, ("S. /x",)), FAIL, "rpm -Va: S. /x"),
        (Installation(Attempt(False, (), "x", "file /x conflicts"), YES, ()), FAIL, "file /x conflicts"),
        (Installation(Attempt(False, (), "no"), YES, ()), FAIL, "refused: no"),
        (Installation(YES, Attempt(False, (), "bad digest"), ()), FAIL, "bad digest"),
        (Installation(YES, Attempt(False, (), ""), ()), FAIL, "refused without a word"),
        (Installation(YES, YES, (".M....... /lib64/libc.so.6",)), FAIL, "rpm -Va: .M"),
    ],
)
def test_what_rpm_says_of_all_packages(done: Installation, outcome: Outcome, words: str) -> None:
    answer = judge_installation(done, "…", frozenset({"kernel-headers"}), frozenset({"/bin/sh"}))
    assert answer.outcome is outcome
    assert words in answer.seen


def test_merged_usr() -> None:
    assert coherence.installed_path("/lib64/x") == "/usr/lib64/x"
    assert coherence.installed_path("/libx/x") == "/libx/x"
