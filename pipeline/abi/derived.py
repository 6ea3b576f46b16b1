"""The ABI of releases that others published: a baseline read from their packages, or one derived until then.

A derived listing is that of another release and whole nodes of upstream. A profile states it, nobody measured
it, and whatever follows from it says that it is derived.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline import profile as profiles
from pipeline.abi import baseline
from pipeline.abi.baseline import Baseline, Origin
from pipeline.abi.listing import Listing
from pipeline.core.arch import arch
from pipeline.core.errors import UsageError
from pipeline.core.outcome import Target
from pipeline.profile import Outline, PublishedRelease

#: The name that stands for a profile's last release.
LATEST = "latest"


def known(outline: Outline, release: str, arch: str) -> Baseline | None:
    """The baseline of a release: committed, else derived if it is published, else None.

    Raises `MalformedInput` for a broken baseline, `UsageError` for a release that cannot be derived.
    """
    return _Known(arch).of(outline, release, ())


def all_known(outline: Outline, arch: str) -> dict[str, Baseline]:
    """Each release of a profile that has a baseline, in the profile's order; raises as `known`."""
    memory = _Known(arch)
    found = {name: memory.of(outline, name, ()) for name in outline.names}
    return {name: made for name, made in found.items() if made is not None}


class _Known:
    """Baselines of one architecture, each read or derived once."""

    def __init__(self, arch: str) -> None:
        self.arch = arch
        self._found: dict[str, Baseline | None] = {}

    def of(self, outline: Outline, release: str, on_the_way: tuple[str, ...]) -> Baseline | None:
        name = f"{outline.name}/{release}"
        if name not in self._found:
            self._found[name] = self._read(outline, release, on_the_way)
        return self._found[name]

    def _read(self, outline: Outline, release: str, on_the_way: tuple[str, ...]) -> Baseline | None:
        target = Target(profile=outline.name, release=release, arch=self.arch)
        committed = baseline.load_target(target)
        published = outline.published.get(release)
        if committed is not None or published is None:
            return committed
        return self._derived(outline, published, target, (*on_the_way, f"{outline.name}/{release}"))

    def _derived(
        self, outline: Outline, published: PublishedRelease, target: Target, on_the_way: tuple[str, ...]
    ) -> Baseline | None:
        profile, _, other = published.derived_from.rpartition("/")
        below = profiles.load_outline(profile) if profile else outline
        if f"{below.name}/{other}" in on_the_way:
            raise UsageError(
                f"{' from '.join((*on_the_way, f'{below.name}/{other}'))}: releases derived from each other",
                hint="correct derived_from in one of the profiles",
            )
        if other not in below.names:
            raise UsageError(
                f"{target} is derived from {published.derived_from}, and there is no such release",
                hint=f"profile {below.name} has: {', '.join(below.names)}",
            )
        base = self.of(below, other, on_the_way)
        return None if base is None else _extended(base, published, target)


def _extended(base: Baseline, published: PublishedRelease, target: Target) -> Baseline:
    """The listings of ``base`` and the nodes that ``published`` has beyond."""
    found = dict(base.listings)
    for line in published.nodes:
        dso, node = line.replace("@loader", arch(target.arch).loader).split()
        for name, whole in _node(dso, node, target).items():
            old = found.get(name, Listing(name, whole.soname, target.arch, frozenset()))
            found[name] = Listing(name, old.soname, target.arch, old.symbols | whole.symbols)
    p = base.provenance
    said = p.origin.startswith("derived from ")  # a committed one may be derived, too, and names its build
    start = p.origin if said else f"derived from {p.profile}/{p.release} ({p.origin})"
    origin = Origin("derived", " + ".join([start, *published.nodes]))
    return baseline.make(found, target, origin)


def _node(dso: str, node: str, target: Target) -> Mapping[str, Listing]:
    """Upstream's set of ``node`` in ``dso``, or in each DSO that has it (``*``); `UsageError` if unknown."""
    whole = baseline.upstream_node(node, target.arch)
    if whole is None:
        version = node.removeprefix("GLIBC_")
        raise UsageError(
            f"{target} has {node}, and no upstream list of it is committed for {target.arch}",
            hint=f"make it: `nox -s baseline -- --upstream {version} --node {node} --arch {target.arch} "
            "--from-deb FILE`",
        )
    if dso == "*":
        return whole
    if dso not in whole:
        raise UsageError(
            f"{target} has {node} in {dso}, where upstream has no such node on {target.arch}",
            hint=f"upstream has it in {', '.join(whole)}",
        )
    return {dso: whole[dso]}


__all__ = ["LATEST", "all_known", "known"]
