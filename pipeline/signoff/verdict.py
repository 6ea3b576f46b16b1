"""The verdict, and whether a sign-off is release grade: two different questions.

The verdict says what the findings say. Release grade says whether what was judged is what ships, made the
way it ships: a stand-in profile, an unpinned source or a waiver cannot be mended by green findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pipeline.core.outcome import Finding, NotJudged, Outcome, worst
from pipeline.core.records import BuildManifest
from pipeline.signoff.records import PlaceRecord, ProfileRecord

#: Checks without which a sign-off is not release grade; each must be asked of every architecture.
RELEASE_CHECKS = (
    "abi.baseline", "abi.delta", "abi.node-whole", "abi.rseq-layout",
    "rpm.provides", "rpm.requires", "rpm.transaction",
    "rseq.registered", "rseq.static", "rseq.secure", "rseq.tunable", "rseq.own", "rseq.critical",
    "getcpu.migration", "getcpu.path", "getcpu.steps", "getcpu.speed",
    "launch.matrix", "launch.needs",
)  # fmt: skip


def verdict(findings: Iterable[Finding]) -> Outcome:
    """The worst outcome; of no findings at all it is MISSING."""
    return worst(f.outcome for f in findings)


def grade_reasons(
    profile: ProfileRecord,
    builds: Sequence[BuildManifest],
    places: Sequence[PlaceRecord],
    findings: Sequence[Finding],
    not_judged: Sequence[NotJudged],
) -> tuple[str, ...]:
    """Why a sign-off is not release grade, in the order a reader wants to know; empty if it is."""
    reasons = [profile.stand_in] if profile.stand_in else []
    if not profile.shipped:  # a file of one's own may expect anything, under any name
        reasons.append(f"profile {profile.name} is not the one that comes with the pipeline")
    reasons += _coverage(profile, builds, findings, not_judged)
    reasons += _origin(builds)
    reasons += _cut(profile, builds)
    for place in places:
        if place.trouble:
            reasons.append(f"place {place.place} ({place.arch}) had trouble: {place.trouble}")
    waived = sum(f.outcome is Outcome.WAIVED for f in findings)
    if waived:
        reasons.append(f"{waived} finding{'s are' if waived > 1 else ' is'} waived")
    return tuple(dict.fromkeys(reasons))


def _coverage(
    profile: ProfileRecord,
    builds: Sequence[BuildManifest],
    findings: Sequence[Finding],
    not_judged: Sequence[NotJudged],
) -> list[str]:
    """Targets of the profile that were not there, and checks that were not asked of an architecture."""
    reasons = []
    built = {(b.target.release, b.target.arch) for b in builds}
    # what was built only to compare with, or to compile against, was not judged
    targets = [f.target for f in findings] + [n.target for n in not_judged]
    there = built & {(t.judged, t.arch) for t in targets}
    arches = [a for a in profile.arches if any(a == arch for _, arch in there)]
    for arch in profile.arches:
        absent = [r for r in profile.releases if (r, arch) not in there]
        if arch not in arches:
            reasons.append(f"architecture {arch} was not judged")
        elif absent:
            reasons.append(f"not judged for {arch}: {', '.join(absent)}")
    answers = {(f.check, f.target.arch) for f in findings} | {(n.check, n.target.arch) for n in not_judged}
    for arch in arches:
        unasked = [name for name in RELEASE_CHECKS if (name, arch) not in answers]
        if unasked:
            reasons.append(f"not asked of {arch}: {', '.join(unasked)}")
    return reasons


def _cut(profile: ProfileRecord, builds: Sequence[BuildManifest]) -> list[str]:
    """Builds of the pinned source with other patches than their release has (``--up-to``)."""
    reasons = []
    for build in builds:
        whole = profile.series.get(build.target.release)
        if whole is None or build.source is None or not build.source.pinned:
            continue
        if tuple(patch.sha256 for patch in build.patches) != whole:
            has = sum(patch.sha256 in whole for patch in build.patches)
            name = f"{build.target.release}/{build.target.arch}"
            reasons.append(f"{name} has {has} of the {len(whole)} patches of its series")
    return reasons


def _origin(builds: Sequence[BuildManifest]) -> list[str]:
    """What is wrong with where the RPMs came from."""
    reasons = []
    flaws: tuple[tuple[str, Callable[[BuildManifest], bool]], ...] = (
        ("RPMs were supplied, so what they were made from is not known", lambda b: b.source is None),
        ("the source is not the pinned one", lambda b: b.source is not None and not b.source.pinned),
        (
            "the build image is not the pinned one",
            lambda b: b.place == "container" and not (b.image and b.image.pinned),
        ),
        ("built on the host, not in a container", lambda b: b.place == "host"),
        ("the build was not hermetic", lambda b: b.place == "container" and not b.hermetic),
    )
    for what, wrong in flaws:
        hit = [f"{b.target.release}/{b.target.arch}" for b in builds if wrong(b)]
        if hit:
            reasons.append(what if len(hit) == len(builds) else f"{what} ({', '.join(hit)})")
    images = {b.image.id for b in builds if b.image}
    if len(images) > 1:
        reasons.append(f"the releases were built in {len(images)} different images")
    return reasons
