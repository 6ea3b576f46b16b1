"""launch.charsets: what charmaps say must come of each code, and an answer that is another."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pipeline.check.charsets import CHARMAPS, GCONV, SAMPLE, Charsets, charset, charsets
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Finding, Outcome
from tests.check import probe_kit

CHECK, RELEASE = Charsets(), "12.1"
HEAD = "<code_set_name> {name}\n<comment_char> %\n<escape_char> /\nCHARMAP\n"
SMALL = """<U0041>     /x41         LATIN CAPITAL LETTER A
<U0030>..<U0039>     /x80         DIGITS
<U0030>     /x30         DIGIT ZERO
<U20AC>     /xa4         EURO SIGN
%IRREVERSIBLE%<U00A4>     /xa4         CURRENCY SIGN
%IRREVERSIBLE%<UFFE0>     /xa2         FULLWIDTH CENT SIGN
END CHARMAP
"""
LARGE = "".join(f"<U{0x4E00 + n:04X}>     /xb0/x{0x40 + n % 0x60:02x}    X\n" for n in range(0x60))


def packed(name: str, body: str) -> bytes:
    return gzip.compress((HEAD.format(name=name) + body).encode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    maps, modules = tmp_path / CHARMAPS, tmp_path / GCONV
    maps.mkdir(parents=True)
    (modules / "gconv-modules.d").mkdir(parents=True)
    (maps / "SMALL.gz").write_bytes(packed("SMALL", SMALL))
    (maps / "LARGE.gz").write_bytes(packed("Large", "<U0041>     /x41   A\n" + LARGE))
    (maps / "UNKNOWN.gz").write_bytes(packed("UNKNOWN", SMALL))
    (modules / "gconv-modules").write_text("module\tSMALL//\tINTERNAL\tSMALL\t1\nalias LARGE// BIG//\n")
    return tmp_path


def answers(**other: str) -> dict[str, str]:
    """What the probe prints of a right release; ``other`` replaces the answer to a code (``xa4``)."""
    small = dict.fromkeys(range(256), "x") | {0x41: "41", 0x30: "30!", 0xA4: "20ac", 0xA2: "ffe0!"}
    small |= {0x80 + n: f"{0x30 + n:x}" for n in range(10)}
    small |= {int(code[1:], 16): word for code, word in other.items()}
    large = ["41", *(f"{0x4E00 + n:x}" for n in range(0x60))]
    return {"SMALL": " ".join(small.values()), "LARGE": " ".join(large)}


def judged(root: Path, said: dict[str, str]) -> Finding:
    on = probe_kit.material({RELEASE: root})
    lines = [{"charset": name, "answers": words} for name, words in said.items()]
    (job,) = CHECK.jobs(on)
    (answer,) = probe_kit.judge(CHECK, on, probe_kit.batch(probe_kit.said(job.id, *lines))).values()
    assert isinstance(answer, Finding)
    return answer


def test_sets_with_a_table_and_a_module_are_asked_about(root: Path) -> None:
    found = {one.name: one for one in charsets(root)}
    assert list(found) == ["LARGE", "SMALL"]
    assert found["SMALL"].argument == "SMALL"
    assert found["LARGE"].argument.startswith("LARGE=41,b040,b041,")
    assert found["SMALL"].codes[b"\x80"] == {"30", "30!"}
    assert found["SMALL"].codes[b"\x89"] == {"39"}
    assert found["SMALL"].codes[b"\xa4"] == {"20ac"}
    assert found["SMALL"].codes[b"\xa2"] == {"ffe0", "ffe0!"}
    assert found["SMALL"].codes[b"\xff"] == {"x"}
    (job,) = CHECK.jobs(probe_kit.material({RELEASE: root}))
    assert job.argv == ("/probes/charsets", found["LARGE"].argument, "SMALL")


def test_of_a_large_set_a_part_is_asked_about() -> None:
    lines = "".join(
        f"<U{0x4E00 + n:04X}>     /x{0xA0 + n // 90:02x}/x{0x40 + n % 90:02x}    X\n" for n in range(8000)
    )
    found = charset(lines, "L")
    assert SAMPLE <= len(found.codes) < SAMPLE + 30


def test_a_charmap_that_cannot_be_read_is_malformed(root: Path) -> None:
    (root / CHARMAPS / "X.gz").write_bytes(b"not packed")
    with pytest.raises(MalformedInput, match="charmap X"):
        charsets(root)


def test_what_is_kept_of_charmaps_is_of_these_very_ones(root: Path) -> None:
    before = charsets(root)
    assert charsets(root) is before
    (root / CHARMAPS / "SMALL.gz").write_bytes(packed("SMALL", SMALL.replace("<U20AC>", "<U20AB>")))
    changed = {one.name: one for one in charsets(root)}["SMALL"]
    assert changed.codes[b"\xa4"] == {"20ab"}
    (root / GCONV / "gconv-modules").write_text("module\tSMALL//\tINTERNAL\tSMALL\t1\n")
    assert [one.name for one in charsets(root)] == ["SMALL"]


def test_right_answers_are_green(root: Path) -> None:
    found = judged(root, answers())
    assert (found.outcome, found.measures) == (Outcome.PASS, {"charsets": 2, "codes": 353}), found.seen


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answers(x41="42"), "SMALL: 41 is 42, not 41"),
        (answers(x41="41!"), "SMALL: 41 is 41!, not 41"),
        (answers(x41="x"), "SMALL: 41 is x, not 41"),
        (answers(xa4="a4"), "SMALL: a4 is a4, not 20ac"),
        (answers(xff="ff"), "SMALL: ff is ff, not x"),
        (answers() | {"SMALL": "no conversion: EINVAL"}, "SMALL: no conversion: EINVAL"),
        (answers() | {"LARGE": "41"}, "LARGE: 41"),
    ],
)
def test_another_answer_is_red(root: Path, said: dict[str, str], words: str) -> None:
    found = judged(root, said)
    assert found.outcome is Outcome.FAIL
    assert words in found.seen


def test_a_set_without_an_answer_is_an_error(root: Path) -> None:
    assert judged(root, {"SMALL": answers()["SMALL"]}).outcome is Outcome.ERROR


def test_charmaps_that_say_nothing_are_no_green(root: Path) -> None:
    (root / GCONV / "gconv-modules").unlink()
    assert judged(root, {}).outcome is Outcome.MISSING
    (root / GCONV / "gconv-modules").write_text("module SMALL// INTERNAL SMALL 1\n")
    (root / CHARMAPS / "SMALL.gz").write_bytes(b"not packed")
    with pytest.raises(MalformedInput, match="charmap SMALL"):
        judged(root, {})


def test_packages_without_charmaps_are_not_asked(tmp_path: Path) -> None:
    on = probe_kit.material({RELEASE: tmp_path})
    assert CHECK.questions(on, "host") == []
    assert CHECK.jobs(on) == []
