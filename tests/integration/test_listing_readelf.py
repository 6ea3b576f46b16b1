"""Listings of real libraries agree with binutils' readelf, symbol by symbol, on both architectures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import elf
from pipeline.abi.delta import SymbolChange
from pipeline.abi.files import elf_files, listings
from pipeline.abi.findable import file_faults
from pipeline.abi.listing import PRIVATE, Line, Listing, listing_of
from pipeline.check.abi_nodes import misplaced
from pipeline.core.arch import ARCHES, Arch, host_arch
from pipeline.core.run import run
from pipeline.debian.apt import PrivateApt

pytestmark = pytest.mark.integration

#: ``   12: 0000000000035e10   256 FUNC    GLOBAL DEFAULT   16 puts@@GLIBC_2.2.5``; flags of st_other may
#: follow the visibility in brackets, and large sizes are hexadecimal.
_SYMBOL = re.compile(
    r"\s*\d+: [0-9a-f]+\s+(?P<size>\d+|0x[0-9a-f]+) (?P<type>\w+)\s+(?P<bind>\w+)\s+(?P<vis>\w+)\s+"
    r"(?:\[[^\]]*\]\s+)?(?P<ndx>\w+)\s+(?P<name>\S+)(?:\s+\(\d+\))?(?:\s+\[[^\]]*\])?"
)
_KINDS = {"FUNC": "F", "IFUNC": "F", "OBJECT": "D", "NOTYPE": "D", "COMMON": "D", "TLS": "T"}
_DEFINITION = re.compile(r"Rev: \d+\s+Flags: (?P<flags>.*?)\s+Index: \d+\s+Cnt: \d+\s+Name: (?P<name>\S+)")


def readelf(file: Path) -> tuple[set[Line], set[Line]]:
    """Public and private entries as readelf's output has them, by the rules of glibc's notation."""
    text = run(["readelf", "-W", "--dyn-syms", "--version-info", file]).text
    public: set[Line] = set()
    private: set[Line] = set()
    nodes = {m["name"] for m in _DEFINITION.finditer(text) if "BASE" not in m["flags"]}
    versioned = "Version symbols section" in text
    table = text[text.index("Symbol table") :].split("\n\n", 1)[0].splitlines()[2:]
    for line in table:
        match = _SYMBOL.fullmatch(line)
        if match is None:
            assert re.match(r"\s*0: 0+\s+0 NOTYPE  LOCAL  DEFAULT  UND", line), line
            continue
        if match["ndx"] == "UND" or match["bind"] == "LOCAL" or match["vis"] in ("HIDDEN", "INTERNAL"):
            continue
        name, _, node = match["name"].replace("@@", "@").partition("@")
        node = node or ("Base" if versioned else "-")
        kind = "A" if match["ndx"] == "ABS" else _KINDS[match["type"]]
        if kind == "A" and name in nodes:
            continue  # linkers repeat each node as a symbol, which readelf prints without a version
        entry = Line(node, name, kind, int(match["size"], 0) if kind in "DT" else None)
        (private if node == PRIVATE else public).add(entry)
    public |= {Line(n, n, "A") for n in nodes - {e.node for e in public} - {PRIVATE}}
    return public, private


def agrees(listing: Listing, file: Path) -> None:
    public, private = readelf(file)
    assert listing.symbols == public, f"{file}: {sorted(map(str, listing.symbols ^ public))[:10]}"
    assert listing.private == private, f"{file}: {sorted(map(str, listing.private ^ private))[:10]}"


def host_libraries() -> Iterator[Path]:
    places = [Path("/lib") / host_arch().triplet, Path("/lib64")]
    for name in (host_arch().loader, "libc.so.6", "libm.so.6", "libresolv.so.2", "libpthread.so.0"):
        yield next(place / name for place in places if (place / name).is_file())


def test_the_hosts_own_libraries() -> None:
    for file in host_libraries():
        listing = listing_of(elf.read(file), file.name)
        assert listing.symbols
        agrees(listing, file)


@pytest.fixture(scope="module", params=list(ARCHES.values()), ids=list(ARCHES))
def debian(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Arch, Path, dict[str, Listing]]:
    """Debian 12's libc6 for each architecture, unpacked, and its listings."""
    machine: Arch = request.param
    directory = tmp_path_factory.mktemp(machine.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_STATE", str(directory / "state"))
        deb = PrivateApt("bookworm", machine.deb).download_package("libc6", directory)
    root = directory / "root"
    run(["dpkg-deb", "-x", deb, root])
    return machine, root, listings(root)


def test_every_library_and_module_of_a_glibc(debian: tuple[Arch, Path, dict[str, Listing]]) -> None:
    machine, root, found = debian
    assert len(found) > 250
    assert {"libc.so.6", machine.loader, "libm.so.6", "gconv/UTF-16.so"} <= found.keys()
    for listing in found.values():
        assert listing.arch == machine.name
        agrees(listing, root / listing.path)


def test_the_loader_finds_what_a_glibc_lists(debian: tuple[Arch, Path, dict[str, Listing]]) -> None:
    """Every file of a distribution's glibc, programs too: no fault, and every listed symbol looked up."""
    _, root, found = debian
    counts: Counter[str] = Counter()
    for file in elf_files(root).values():
        assert list(file_faults(file, counts)) == []
    assert counts["symbols"] >= sum(len(listing.symbols) for listing in found.values())


def test_a_real_loader_has_the_rseq_symbols_where_they_belong(
    debian: tuple[Arch, Path, dict[str, Listing]],
) -> None:
    machine, root, found = debian
    node = found[machine.loader].node("GLIBC_2.35")
    assert sorted(map(str, node)) == [
        "GLIBC_2.35 __rseq_flags D 0x4",
        "GLIBC_2.35 __rseq_offset D 0x8",
        "GLIBC_2.35 __rseq_size D 0x4",
    ]
    binary = elf.read(root / found[machine.loader].path)
    for entry in node:
        assert misplaced(binary, SymbolChange(machine.loader, *entry)) == []
