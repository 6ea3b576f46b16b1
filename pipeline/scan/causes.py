"""Why files fail, gathered: a cause is a version node (or library) that releases lack, with all who want it.

Everything said here comes from the files and the committed baselines: since when a symbol exists, its version
node says, for glibc names nodes after its releases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.scan.facts import Facts
from pipeline.scan.inputs import Item
from pipeline.scan.judge import Answer, Judgement, Missing
from pipeline.scan.release import RELR

_NODE = re.compile(r"GLIBC_(\d+\.\d+(?:\.\d+)?)$")
#: glibc's nodes that are not named after a release -> the release (NEWS of each).
_NAMED = {RELR: "2.36", "GLIBC_ABI_GNU_TLS": "2.42", "GLIBC_ABI_GNU2_TLS": "2.42",
          "GLIBC_ABI_DT_X86_64_PLT": "2.42"}  # fmt: skip
#: The tag of a wheel that promises glibc X_Y (PEP 600), and the older names of three such promises.
_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_(x86_64|aarch64)")
_OLD_TAGS = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


@dataclass
class Cause:
    """A node of a DSO that releases lack (``node`` "": the DSO itself; ``says``: another reason)."""

    dso: str
    node: str
    says: str = ""
    symbols: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    releases: dict[str, None] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The cause in a few words."""
        if self.says:
            return self.says
        if not self.node:
            return f"the library {self.dso}"
        if self.node == "-":
            return "symbols without a version"
        since = since_of(self.node)
        return f"{self.node} of {self.dso}" + (f", new in glibc {since}" if since else "")


def since_of(node: str) -> str:
    """The glibc release a node came with (``2.35``), "" if its name does not say."""
    match = _NODE.match(node)
    return match[1] if match else _NAMED.get(node, "")


def causes_of(files: Iterable[tuple[Item, dict[str, Judgement]]]) -> list[Cause]:
    """All causes, those of most files first."""
    found: dict[tuple[str, str, str], Cause] = {}
    for item, judgements in files:
        for release, judgement in judgements.items():
            for missing in judgement.missing if judgement.answer is Answer.FAILS else ():
                key = (missing.dso, missing.node, missing.says)
                cause = found.setdefault(key, Cause(*key))
                cause.files.add(item.name)
                cause.releases[release] = None
                if missing.symbol:
                    cause.symbols.add(missing.symbol)
    return sorted(found.values(), key=lambda c: (-len(c.files), c.dso, c.node, c.says))


def aggravations(facts: Facts, missing: Iterable[Missing]) -> list[str]:
    """What a developer wants to know of missing nodes beyond their names."""
    found = []
    for node, dso in sorted({(m.node, m.dso) for m in missing if m.node and m.dso and not m.says}):
        wanted = [i for i in facts.imports if (i.version, i.file) == (node, dso)]
        if wanted and all(i.weak for i in wanted):
            names = ", ".join(i.name for i in wanted[:4])
            found.append(f"all references at {node} are weak ({names}), the requirement itself is not")
    return found


def promised(item: Item) -> tuple[int, int] | None:
    """The newest glibc that a wheel's tag allows it to need, None if it is no wheel or says nothing."""
    wheel = item.member.partition("!")[0] if ".whl!" in item.member else item.file
    if not wheel.endswith(".whl"):
        return None
    tag = wheel.rpartition("/")[2]
    versions = [(int(a), int(b)) for a, b, _ in _MANYLINUX.findall(tag)]
    versions += [v for name, v in _OLD_TAGS.items() if f"{name}_" in tag]
    return min(versions, default=None)


def broken_promise(item: Item) -> str:
    """What a file in a wheel requires beyond the wheel's tag, "" if nothing."""
    limit = promised(item)
    if limit is None or item.facts is None:
        return ""
    beyond = {}
    for need in item.facts.needs:
        for version in need.versions:
            since = since_of(version)
            number = tuple(int(n) for n in since.split(".")[:2]) if since else (0, 0)
            if number > limit and version not in need.weak and version not in _NAMED:
                beyond[version] = number
    if not beyond:
        return ""
    worst = max(beyond, key=lambda v: beyond[v])
    return f"the wheel's tag promises glibc {limit[0]}.{limit[1]}, and this file requires {worst}"


def ways_out(causes: Iterable[Cause]) -> list[str]:
    """What usually helps."""
    found = []
    kinds = list(causes)
    if any(c.node and c.node != "-" and not c.says for c in kinds):
        found.append(
            "build on the oldest release to be served (or in its image), where older versions are bound"
        )
    if any(c.node == RELR for c in kinds):
        found.append("link with -Wl,-z,nopack-relative-relocs")
    if any(c.says and "not needed" in c.says for c in kinds):
        found.append("link with the library again: patchelf --remove-needed leaves its version requirements")
    if any("libgcc_s" in f or "libstdc++" in f for c in kinds for f in c.files):
        found.append(
            "take libgcc_s and libstdc++ from the system, or link with -static-libgcc -static-libstdc++"
        )
    return found
