"""A second build under other conditions: the same packages, and red for what embeds any of the conditions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.build import rebuild
from pipeline.build.builder import Builder
from pipeline.build.conditions import OTHERS
from pipeline.check.rebuilt import judged
from pipeline.core.outcome import Outcome
from pipeline.core.records import RebuildRecord, timestamp
from pipeline.host.image import BuildImage
from tests.tiny_kit import Tiny

pytestmark = pytest.mark.integration

INSTALLS = "\tcp $(srcdir)/nss/nsswitch.conf $(root)/etc/\n"


def record_of(builder: Builder, tiny: Tiny, *, fresh: bool = False) -> RebuildRecord:
    made = rebuild.rebuilt(builder, builder.build(tiny.target("1.1")), fresh=fresh).manifest.rebuild
    assert made is not None
    return made


@pytest.mark.usefixtures("state")
def test_an_honest_build_comes_out_the_same_under_other_conditions(
    tiny: Tiny, host_in_a_container: BuildImage, capsys: pytest.CaptureFixture[str]
) -> None:
    builder = tiny.builder(image=host_in_a_container)
    record = record_of(builder, tiny)
    assert record.differences == ()
    assert len(record.compared) == 7  # the source package among them
    first = builder.build(tiny.target("1.1")).manifest
    seen = record.conditions
    assert seen["host"] == OTHERS.host
    assert seen["user"] == str(OTHERS.user)
    assert seen["umask"] == OTHERS.umask
    assert {seen["locale"], first.seen["locale"]} == {"UTF-8", "ANSI_X3.4-1968"}
    assert seen["directory"] == OTHERS.directory
    assert seen["time"][:4] > timestamp()[:4]
    before = first.seen
    assert seen["order of files"].split() == before["order of files"].split()[::-1]
    assert int(seen["processors"]) == int(before["processors"]) + 1
    assert judged(first, record)[0] is Outcome.PASS
    assert capsys.readouterr().err.count("once again") == 1
    assert record_of(builder, tiny) == record
    assert "once again" not in capsys.readouterr().err
    assert record_of(builder, tiny, fresh=True).differences == ()
    assert capsys.readouterr().err.count("once again") == 1


def test_on_the_host_it_is_wrong_use(tiny: Tiny, state: Path) -> None:  # noqa: ARG001
    done = tiny.call("verify", "--rebuild")
    assert done.returncode == 2
    assert "--rebuild is for builds in a container" in done.stderr


@pytest.mark.parametrize(
    "embedded",
    [
        "date +%Y",
        "uname -n",
        "id -u",
        'echo "$${LC_ALL-}"',
        "date +%Z",
        "echo $(MAKEFLAGS)",
        "find $(srcdir)/csu -type f -printf '%f '",
        "od -An -N8 -tx1 /dev/urandom",
        "pwd | cksum",
        "uname -r",
        "nproc",
        "id -g",
        'echo "$$HOME"',
        'echo "$$PATH"',
    ],
    ids=[
        "date",
        "host",
        "user",
        "locale",
        "zone",
        "jobs",
        "order",
        "random",
        "directory",
        "kernel",
        "processors",
        "group",
        "home",
        "path",
    ],
)
@pytest.mark.usefixtures("state")
def test_a_build_that_embeds_a_condition_is_red(
    tiny: Tiny, host_in_a_container: BuildImage, embedded: str
) -> None:
    more = f"{INSTALLS}\t( {embedded} ) >> $(root)/etc/nsswitch.conf\n"
    tiny.add("1.1", "0009-embed.patch", "Makerules", INSTALLS, more)
    builder = tiny.builder(image=host_in_a_container)
    record = record_of(builder, tiny)
    outcome, seen = judged(builder.build(tiny.target("1.1")).manifest, record)
    assert outcome is Outcome.FAIL
    assert "etc/nsswitch.conf: byte" in seen


@pytest.mark.usefixtures("state")
def test_a_stale_object_from_the_compiler_cache_is_red(tiny: Tiny, host_in_a_container: BuildImage) -> None:
    """The first build's compiler gave another object than the compiler gives: no cache hides it."""
    builder = tiny.builder(image=host_in_a_container)
    built = builder.build(tiny.target("1.1"))
    other = tiny.add("1.1", "0009-other.patch", "iconvdata/x.c", "return 0", "return 1")
    stale = tiny.builder(image=host_in_a_container).build(tiny.target("1.1"))
    other.unlink()
    lied = stale.model_copy(
        update={"manifest": stale.manifest.model_copy(update={"key": built.manifest.key})}
    )
    (tiny.patches / "tiny" / "1.1.series").write_text("# as it is\n")
    record = rebuild.rebuilt(tiny.builder(image=host_in_a_container), lied).manifest.rebuild
    assert record is not None
    wrong = {d.package.rsplit("-", 2)[0]: d.where for d in record.differences}
    assert "./usr/lib64/gconv/X.so: section .text, gconv+" in wrong["glibc-common"]
