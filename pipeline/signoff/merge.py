"""Joining the evidence of several runners into one, as if one machine had done it all."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from pipeline.core import store
from pipeline.core.errors import EvidenceError
from pipeline.core.records import BuildManifest
from pipeline.signoff.completeness import OWN_NAMES, complete
from pipeline.signoff.evidence import sealed
from pipeline.signoff.records import Environment, Evidence, PlaceRecord
from pipeline.signoff.waiver import WaiverRecord

T = TypeVar("T")
#: The more telling status of a waiver comes first.
WAIVER_RANK = ("applied", "refused", "expired", "unused")


def merge(parts: Sequence[Evidence]) -> Evidence:
    """One record of several; a single part comes back as it is.

    Parts must agree on pipeline version, profile, source and on whatever they both record; what they
    record identically is taken once. The verdict and the grade are drawn anew. Raises `EvidenceError`
    naming the first thing on which two parts disagree.
    """
    if not parts:
        raise EvidenceError("there is no evidence to merge", hint="name the runners' evidence.json files")
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    for other in parts[1:]:
        _same("pipeline version", first.tool, other.tool)
        _same("pipeline's changed files", str(first.pipeline.changed), str(other.pipeline.changed))
        _same("table of checks", str(first.checks), str(other.checks))
        _same("profile", first.profile.name, other.profile.name)
        _same(f"content of profile {first.profile.name}", first.profile.sha256, other.profile.sha256)
        _same(f"record of profile {first.profile.name}", _digest(first), _digest(other))
    builds = _builds([b for p in parts for b in p.builds])
    _one_source(builds)
    # a place that went wrong for one runner went wrong, though it worked for another
    every_place = sorted((x for p in parts for x in p.places), key=lambda place: not place.trouble)
    places = _join("place", every_place, _place_name, _place_essence)
    # findings about the evidence itself are drawn anew below
    findings = _join(
        "finding",
        (f for p in parts for f in p.findings if f.check not in OWN_NAMES),
        lambda f: f.key,
        lambda f: f.model_dump_json(),
    )
    declined = _join(
        "question not judged",
        (n for p in parts for n in p.not_judged),
        lambda n: (n.check, str(n.target), n.case, n.place, n.kernel),
        lambda n: n.model_dump_json(),
    )
    questions = list(dict.fromkeys(q for p in parts for q in p.questions))
    kept, declined = complete(questions, findings, declined, places, checks=first.declared)
    created = max(p.created for p in parts)
    waivers = _waivers(parts)
    for waiver in waivers:
        if waiver.status == "applied" and waiver.expires < created[:10]:
            raise EvidenceError(
                f"the waiver of {waiver.check} {waiver.target} held until {waiver.expires}, and the newest "
                f"part is of {created[:10]}",
                hint="judge again what it covered, then merge",
            )
    order = [(a, r) for a in first.profile.arches for r in first.profile.releases]
    targets = sorted({t for p in parts for t in p.targets}, key=lambda t: order.index((t.arch, t.release)))
    return sealed(
        created=created,
        command="; ".join(dict.fromkeys(p.command for p in parts)),
        profile=first.profile,
        targets=targets,
        environment=_environment(parts),
        builds=builds,
        places=places,
        questions=questions,
        findings=kept,
        not_judged=declined,
        waivers=waivers,
        pipeline=first.pipeline,
        checks=first.checks,
        baselines=_join("baseline", (x for p in parts for x in p.baselines), lambda x: x.file, str),
    )


def _digest(evidence: Evidence) -> str:
    return store.digest(evidence.profile.model_dump(mode="json"))[:16]


def _same(what: str, one: str, other: str) -> None:
    if one != other:
        raise EvidenceError(
            f"the parts disagree on the {what}: {one} and {other}",
            hint="merge only evidence of one run: same pipeline, same profile, same inputs",
        )


def _join(
    kind: str,
    records: Iterable[T],
    key: Callable[[T], Hashable],
    essence: Callable[[T], str],
) -> list[T]:
    """Records by key in order of appearance; two of one key must have the same essence."""
    joined: dict[Hashable, T] = {}
    for record in records:
        known = joined.setdefault(key(record), record)
        if known is not record and essence(known) != essence(record):
            name = key(record)
            label = " ".join(str(x) for x in name if x) if isinstance(name, tuple) else str(name)
            raise EvidenceError(
                f"two runners recorded different things of the same {kind}: {label}",
                hint="let each runner judge its own targets (`--release R --arch A`)",
            )
    return list(joined.values())


def _builds(every: Sequence[BuildManifest]) -> list[BuildManifest]:
    """One record of each build, its rebuilder's if there is one; raises as `_join`, and for two rebuilds."""
    order = list(dict.fromkeys(b.target for b in every))
    rebuilt = sorted(every, key=lambda b: b.rebuild is None)
    joined = {b.target: b for b in _join("build", rebuilt, lambda b: str(b.target), _build_essence)}
    for build in every:
        if build.rebuild not in (None, joined[build.target].rebuild):
            raise EvidenceError(
                f"two runners rebuilt {build.target}",
                hint="let each runner judge its own targets (`--release R --arch A`)",
            )
    return [joined[target] for target in order]


def _build_essence(build: BuildManifest) -> str:
    """How, when and where it was made may differ, and who rebuilt it; what came out and from what may not."""
    return build.model_dump_json(exclude={"seconds", "ccache", "seen", "tree", "rebuild"})


def _place_name(place: PlaceRecord) -> Hashable:
    """A machine called "host" is another one on another runner, so its kernel is part of the name."""
    return (place.place, place.arch, place.kernel)


def _place_essence(place: PlaceRecord) -> str:
    """Logs of two runs differ always; the machines may differ in size and model, not in nature."""
    return place.model_dump_json(include={"came_up", "machine", "rseq", "emulation", "kernel_image"})


def _one_source(builds: Sequence[BuildManifest]) -> None:
    sources = {b.source.sha256: b.target for b in builds if b.source}
    if len(sources) > 1:
        a, b = list(sources.items())[:2]
        raise EvidenceError(
            f"{a[1]} was built from source {a[0][:16]}…, {b[1]} from {b[0][:16]}…",
            hint="build all releases from one source, then merge",
        )
    patches: dict[str, tuple[str, str]] = {}
    for build in builds:
        for patch in build.patches:
            sha256, where = patches.setdefault(patch.file, (patch.sha256, str(build.target)))
            if sha256 != patch.sha256:
                raise EvidenceError(
                    f"patch {patch.file} of {where} is not the {patch.file} of {build.target}",
                    hint="build all releases from one checkout, then merge",
                )


def _waivers(parts: Sequence[Evidence]) -> list[WaiverRecord]:
    """Each waiver once: unused on one runner and applied on another is applied."""
    best: dict[str, WaiverRecord] = {}
    for record in (w for p in parts for w in p.waivers):
        identity = record.model_dump_json(exclude={"status", "note", "causes", "was"})
        known = best.setdefault(identity, record)
        if WAIVER_RANK.index(record.status) < WAIVER_RANK.index(known.status):
            best[identity] = record
        elif known is not record and record.status == known.status == "applied":
            causes = tuple(sorted({*known.causes, *record.causes}))
            was = tuple(sorted({*known.was, *record.was}))
            best[identity] = known.model_copy(update={"causes": causes, "was": was})
    return list(best.values())


def _environment(parts: Sequence[Evidence]) -> Environment:
    """The parts' environments; where they differ both are named."""

    def both(values: Iterable[str]) -> str:
        return ", ".join(dict.fromkeys(v for v in values if v))

    names = sorted({n for p in parts for n in p.environment.tools})
    return Environment(
        os=both(p.environment.os for p in parts),
        kernel=both(p.environment.kernel for p in parts),
        machine=both(p.environment.machine for p in parts),
        python=both(p.environment.python for p in parts),
        tools={n: both(p.environment.tools.get(n, "") for p in parts) for n in names},
    )
