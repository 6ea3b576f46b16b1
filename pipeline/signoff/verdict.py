"""The verdict, and whether a sign-off is release grade: two different questions.

The verdict says what the findings say. Release grade says whether what was judged is what ships, made the
way it ships: a stand-in profile, an unpinned source or a waiver cannot be made good by green findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pipeline.core.outcome import Finding, Outcome, worst
from pipeline.core.records import BuildManifest, FileRecord
from pipeline.signoff.records import Evidence, PlaceRecord, ProfileRecord


def verdict(findings: Iterable[Finding]) -> Outcome:
    """The worst outcome; of no findings at all it is MISSING."""
    return worst(f.outcome for f in findings)


def grade_reasons(evidence: Evidence) -> tuple[str, ...]:
    """Why a sign-off is not release grade, in the order a reader wants to know; empty if it is.

    What the evidence itself says of its grade is not looked at.
    """
    profile, findings = evidence.profile, evidence.findings
    reasons = [profile.stand_in] if profile.stand_in else []
    if not profile.shipped:  # a file of one's own may expect anything, under any name
        reasons.append(f"profile {profile.name} is not the one that comes with the pipeline")
    if evidence.pipeline.doubt:
        reasons.append(evidence.pipeline.doubt)
    reasons += not_covered(evidence)
    reasons += _kernels(profile, evidence.places, findings)
    reasons += _origin(evidence.builds)
    reasons += _cut(profile, evidence.builds)
    reasons += _baselines(profile, findings, evidence.baselines)
    for place in evidence.places:
        if place.trouble:
            reasons.append(f"place {place.place} ({place.arch}) had trouble: {place.trouble}")
    waived = sum(f.outcome is Outcome.WAIVED for f in findings)
    if waived:
        reasons.append(f"{waived} finding{'s are' if waived > 1 else ' is'} waived")
    return tuple(dict.fromkeys(reasons))


def not_covered(evidence: Evidence, *, on_request: bool = True) -> list[str]:
    """What of the profile was not judged: architectures, releases, and checks, release by release.

    A check counts where it was answered by a finding. What only declined it has not judged it. Without
    ``on_request`` a check with a condition (`Declaration.when`) that no runner was asked is not among them.
    """
    asked = {question.check for question in evidence.questions}
    profile, findings, not_judged = evidence.profile, evidence.findings, evidence.not_judged
    reasons = []
    built = {(b.target.release, b.target.arch) for b in evidence.builds}
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
    answered = {(f.check, f.target.release, f.target.arch) for f in findings}
    declined = {(n.check, n.target.release, n.target.arch) for n in not_judged} - answered
    for arch in arches:
        unasked: dict[tuple[str, ...], list[str]] = {}
        nowhere: list[str] = []
        for check in evidence.checks:
            if not check.release_grade or (not on_request and check.when and check.name not in asked):
                continue
            # of a release that is absent nothing can be asked, and that was said above
            whole = profile.asked(check.scope)
            about = tuple(r for r in whole if (r.rpartition(" -> ")[2], arch) in there)
            if lacking := tuple(r for r in about if (check.name, r, arch) not in answered | declined):
                unasked.setdefault(() if lacking == about else lacking, []).append(check.name)
            if any((check.name, r, arch) in declined for r in about):
                nowhere.append(check.name)
        for lacking, names in unasked.items():
            of = f" of {', '.join(lacking)}" if lacking else ""
            reasons.append(f"not asked{of} for {arch}: {', '.join(names)}")
        if nowhere:
            reasons.append(f"judged at no place for {arch}: {', '.join(nowhere)}")
    return reasons


def _kernels(profile: ProfileRecord, places: Sequence[PlaceRecord], findings: Sequence[Finding]) -> list[str]:
    """Kernels that the profile names and that did not boot, where an architecture is watched in machines.

    Of each release: several runners may have taken different kernels for different ones.
    """
    reasons = []
    for arch in profile.arches:
        machines = {
            (p.place, p.kernel): p.kernel_name
            for p in places
            if p.arch == arch and p.kernel_image and p.came_up
        }
        if not any(p.arch == arch and p.kernel_image for p in places):
            continue
        watched = [f for f in findings if f.place and f.target.arch == arch]
        on = {(f.target.judged, machines.get((f.place, f.kernel))) for f in watched}
        judged = [r for r in profile.releases if any(release == r for release, _ in on)]
        lacking: dict[str, list[str]] = {}
        for kernel in profile.kernels.get(arch, ()):
            without = [r for r in judged if (r, kernel) not in on]
            if without or (not judged and kernel not in machines.values()):
                lacking.setdefault("" if without == judged else f" ({', '.join(without)})", []).append(kernel)
        for whom, kernels in lacking.items():
            names = ", ".join(kernels)
            reasons.append(f"not watched on every kernel for {arch}: {names} of the profile{whom}")
    return reasons


def _baselines(
    profile: ProfileRecord, findings: Sequence[Finding], baselines: Sequence[FileRecord]
) -> list[str]:
    """Judged releases whose committed baseline is not among what was compared with, by content."""
    bound = {record.file for record in baselines}
    lacking = dict.fromkeys(
        f"{release}/{f.target.arch}"
        for f in findings
        if f.check.startswith("abi.")
        for release in f.target.release.split(" -> ")
        if f"abi-baselines/{profile.name}/{release}/{f.target.arch}" not in bound
    )
    return [f"no committed baseline of {', '.join(lacking)} is bound to it"] if lacking else []


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
    # releases are compared within an architecture, which may have had a machine and so an image of its own
    for arch in dict.fromkeys(b.target.arch for b in builds):
        images = {b.image.id for b in builds if b.image and b.target.arch == arch}
        if len(images) > 1:
            reasons.append(f"the releases of {arch} were built in {len(images)} different images")
    bases = {b.image.base.partition(" (")[0] for b in builds if b.image}
    if len(bases) > 1:
        reasons.append(f"the build images have different bases: {', '.join(sorted(bases))}")
    return reasons
