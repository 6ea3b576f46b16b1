"""Does ld.so find what the listing lists, and nothing else (`pipeline.abi.findable`)?"""

from __future__ import annotations

from pipeline.check import Material
from pipeline.check.abi_facts import EachRelease, Fact, built_reading, shown
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome


class LoaderLookup(EachRelease):
    """Every symbol, version and table of every ELF file is where ld.so looks for it, and nothing else is."""

    declared = Declaration(
        name="abi.lookup",
        measures=(
            *measured(Unit.COUNT, "files", "lookups"),
            *measured(Unit.SYMBOLS, "symbols"),
        ),
        question=(
            "Does the loader find each listed symbol by its name and version, and no other, do segments and "
            "tags say what sections say, and does an unwinder find each function's frame?"
        ),
    )
    about = "files that can be read"

    def ask(self, material: Material, release: str) -> Fact:
        reading = built_reading(material, release)
        wrong, counts = reading.not_found
        files = len(reading.paths)
        return Fact(
            Outcome.FAIL if wrong else Outcome.PASS,
            "each symbol is found by its name and version through each hash table, as ld.so looks it up, and "
            "the tables hold nothing else; versions have the right hashes; the linker reads the same tables; "
            "sections, segments and tags agree; an unwinder finds each function's frame",
            shown(wrong) or f"{counts['symbols']} symbols found in {files} files, and nothing else",
            measures={"files": files, **counts},
        )


CHECKS = (LoaderLookup(),)
