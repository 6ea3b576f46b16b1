"""Drift on the real Debian archive, compared with what readelf says. Needs the host's Debian mirror."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest

from pipeline.core.arch import ARCHES
from pipeline.core.run import run
from pipeline.debian.apt import PrivateApt
from tests.drift.kit import call

pytestmark = pytest.mark.integration


def test_two_looks_at_debian_12_find_no_difference(tmp_path: Path) -> None:
    """Both against the committed baseline or, where an update has come out since, against each other."""
    args = ("--source", "debian-12", "--against", "previous", "--database", tmp_path / "h.sqlite")
    assert call(*args).return_value == 3  # the first look has nothing to be compared with
    second = call(*args)
    assert second.return_value == 0, second.stdout
    assert second.stdout.count("no drift") == 2
    with sqlite3.connect(tmp_path / "h.sqlite") as db:
        assert db.execute("SELECT count(*), count(DISTINCT snapshot) FROM look").fetchone() == (4, 2)
    db.close()


def readelf(file: Path) -> set[tuple[str, str]]:
    """(node, symbol) of all public definitions, as binutils reads them."""
    shown = run(["readelf", "-W", "--dyn-syms", file]).text
    found = set()
    for line in shown.splitlines():
        match = re.match(r"\s*\d+: [0-9a-f]+ +\S+ +(\w+) +(\w+) +(\w+) +(?:\[.*\] +)?(\S+) (\S+)", line)
        if not match or match[4] == "UND" or match[2] == "LOCAL" or match[3] in ("HIDDEN", "INTERNAL"):
            continue
        name, _, node = match[5].partition("@")
        if node and not node.startswith("@GLIBC_PRIVATE") and node != "GLIBC_PRIVATE":
            found.add((node.lstrip("@"), name))
    return found


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_bookworm_and_trixie_differ_exactly_as_readelf_says(tmp_path: Path, arch: str) -> None:
    machine = ARCHES[arch]
    out = tmp_path / "o.json"
    result = call("--source", "debian-13", "--arch", arch, "--against", "source:debian-12", "--json", out)
    assert result.return_value == 1
    (look,) = json.loads(out.read_text())["looks"]
    roots = {}
    for suite in ("bookworm", "trixie"):
        deb = PrivateApt(suite, machine.deb).download_package("libc6", tmp_path / suite)
        roots[suite] = tmp_path / suite / "root"
        run(["dpkg-deb", "-x", deb, roots[suite]])
    for dso in ("libc.so.6", machine.loader, "libm.so.6"):
        old, new = (readelf(next(p for p in roots[s].rglob(dso) if not p.is_symlink())) for s in roots)
        assert len(old) > 3
        said = {
            sign: {(c["node"], c["symbol"]) for c in look["changes"] if c["dso"] == dso and c["sign"] == sign}
            for sign in "+-"
        }
        changed = said["+"] & said["-"]
        # a node without symbols (NODE NODE A) is no symbol that readelf could show
        nodes = {(c["node"], c["symbol"]) for c in look["changes"] if c["kind"] == "A"}
        assert all(node == symbol for node, symbol in nodes)
        assert said["+"] - changed - nodes == new - old, dso
        assert said["-"] - changed - nodes == old - new, dso
    assert any(c["dso"] == "libc.so.6" and c["symbol"] == "strlcpy" for c in look["changes"])
