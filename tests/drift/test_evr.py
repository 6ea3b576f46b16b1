"""Versions are ordered as rpm orders them."""

from __future__ import annotations

import itertools

import pytest

from pipeline.rpm.evr import Evr, rpmvercmp

#: From rpm's own tests/rpmvercmp.at: the relation of the two.
RPM_SAYS = """
1.0 1.0 0
1.0 2.0 -1
2.0 1.0 1
2.0.1 2.0.1 0
2.0 2.0.1 -1
2.0.1a 2.0.1a 0
2.0.1a 2.0.1 1
5.5p1 5.5p2 -1
5.5p1 5.5p10 -1
10xyz 10.1xyz -1
xyz10 xyz10.1 -1
xyz.4 8 -1
8 xyz.4 1
5.5p2 5.6p1 -1
5.6p1 6.5p1 -1
6.0.rc1 6.0 1
10b2 10a1 1
7.4 8 -1
1.0a 1.0aa -1
10.0001 10.0039 -1
4.999.9 5.0 -1
20101121 20101122 -1
2_0 2.0 0
2_0 2_0 0
a+ a_ 0
+a _a 0
1.0~rc1 1.0 -1
1.0 1.0~rc1 1
1.0~rc1 1.0~rc2 -1
1.0~rc1~git123 1.0~rc1 -1
1.0^ 1.0 1
1.0^git1 1.0^git2 -1
1.0^git1 1.01 -1
1.0^20160101 1.0.1 -1
1.0~rc1^git1 1.0~rc1 1
1.0^git1~pre 1.0^git1 -1
1.900 1.8000 -1
1.010 1.10 0
28.el9_0 28.el9_0.2 -1
40.el9 40.el9_1 -1
100.el9_4 83.el9 1
"""


@pytest.mark.parametrize("line", RPM_SAYS.strip().splitlines())
def test_as_rpm(line: str) -> None:
    one, other, expected = line.split()
    assert rpmvercmp(one, other) == int(expected)
    assert rpmvercmp(other, one) == -int(expected)


def test_a_number_longer_than_python_converts() -> None:
    assert rpmvercmp("1" * 5000, "1" * 4999) == 1


def test_epoch_comes_first_and_the_newest_is_found() -> None:
    old, new, epoch = Evr(0, "2.34", "28.el9_0"), Evr(0, "2.34", "100.el9"), Evr(1, "2.33", "1")
    for order in itertools.permutations([old, new, epoch]):
        assert max(order) is epoch
    assert sorted([new, old]) == [old, new]
    assert Evr(0, "1.0", "1") == Evr(0, "1.00", "1")
    assert Evr(0, "1.0", "1") != Evr(0, "1.0", "2")
