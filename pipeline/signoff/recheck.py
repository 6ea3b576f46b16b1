"""Evidence that was read is worked out again: what does not follow from its findings is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pipeline.abi import baseline
from pipeline.check import rebuilt, registry
from pipeline.core import paths
from pipeline.core.declaration import Need
from pipeline.core.errors import MalformedInput
from pipeline.core.identity import identity
from pipeline.core.outcome import Finding, Frozen, Outcome
from pipeline.core.records import FileRecord, file_record
from pipeline.profile import available, load
from pipeline.signoff.completeness import OWN, complete, stale
from pipeline.signoff.records import Evidence, ProfileRecord, profile_sha256
from pipeline.signoff.verdict import grade_reasons, verdict
from pipeline.signoff.waiver import Waiver, cause_of

#: What a kernel with rseq says to a call that is wrong in every way (`PlaceRecord.rseq`).
HAS_RSEQ = "EINVAL"


def recheck(evidence: Evidence, name: str) -> None:
    """Do the sums again; raises `MalformedInput` where they come out differently."""
    try:
        declared = evidence.declared
    except ValueError as e:
        raise MalformedInput(f"{name} was changed: {e}", hint="make it anew with `nox -s verify`") from None
    kept, declined = complete(
        evidence.questions, evidence.findings, evidence.not_judged, evidence.places, checks=declared
    )
    kept += stale(evidence.waivers, evidence.questions)
    own = {check.name for check in OWN}
    about = {(f.target.judged, f.target.arch) for f in evidence.findings if f.check not in own}
    wrong = ""
    if not _as_shipped(evidence.profile):
        wrong = f"its record of profile {evidence.profile.name} is not what that profile says"
    elif any(declared.get(own.name) != own for own in OWN):
        wrong = "its table of checks lacks one that every evidence has"
    elif found := [
        *_not_ours(evidence),
        *_twice(evidence),
        *_places_unknown(evidence),
        *_unable(evidence),
    ]:
        wrong = found[0]
    elif _sorted(kept) != _sorted(evidence.findings) or _sorted(declined) != _sorted(evidence.not_judged):
        wrong = "its findings do not answer the questions it says were planned"
    elif unnamed := about - {(t.release, t.arch) for t in evidence.targets}:
        wrong = f"a finding is about {'/'.join(min(unnamed))}, which it does not name as judged"
    elif found := [*_not_built(evidence), *_not_rebuilt(evidence)]:
        wrong = found[0]
    elif any(f.outcome is Outcome.WAIVED and not _waived(evidence, f) for f in evidence.findings):
        wrong = "a finding is WAIVED, but no waiver it records covers it"
    elif verdict(evidence.findings) is not evidence.verdict:
        wrong = f"its verdict is {evidence.verdict.name}, its findings say {verdict(evidence.findings).name}"
    else:
        reasons = grade_reasons(evidence)
        if reasons != evidence.grade_reasons or evidence.release_grade is not (not reasons):
            wrong = "its release grade does not follow from what it records"
    if wrong:
        raise MalformedInput(f"{name} was changed or cut: {wrong}", hint="make it anew with `nox -s verify`")


def _not_ours(evidence: Evidence) -> list[str]:
    """What evidence that this very pipeline made says otherwise than this pipeline does.

    A check that is gone from the table with its questions and its answers is missed by no sum. Of another
    commit's checks, profiles and baselines nothing is known here (`pipeline.cli.report` says so).
    """
    if evidence.pipeline != identity():
        return []
    made = "it says that this very pipeline made it, and"
    if evidence.checks != (*registry.declarations(), *OWN):
        return [f"{made} its table of checks is not this pipeline's"]
    profile = evidence.profile
    if profile.shipped and (
        profile.name not in available() or ProfileRecord.of(load(profile.name)) != profile
    ):
        return [f"{made} its profile {profile.name} is none that comes with it"]
    return [
        f"{made} the baseline {record.file} is not what it was compared with"
        for record in evidence.baselines
        if record != _committed(record)
    ]


def _committed(record: FileRecord) -> FileRecord | None:
    """What is there now of a baseline that evidence binds."""
    path = paths.BASELINES.parent / record.file
    if path.is_dir():
        return baseline.record(path)
    return file_record(path).model_copy(update={"file": record.file}) if path.is_file() else None


def _twice(evidence: Evidence) -> list[str]:
    """Of what there can be one record and there are several."""
    names = Counter(
        [
            *(f"the build of {b.target}" for b in evidence.builds),
            *(f"place {p.place} ({p.arch}, {p.kernel})" for p in evidence.places),
            *(f"the baseline {r.file}" for r in evidence.baselines),
        ]
    )
    return [f"it records {name} twice" for name, times in names.items() if times > 1]


def _waived(evidence: Evidence, finding: Finding) -> bool:
    """Whether a recorded waiver covers the finding, by name and cause, on the day of the evidence."""
    return any(
        cause_of(finding) in w.causes
        and w.expires >= evidence.created[:10]
        and Waiver.model_validate(w.model_dump(include=set(Waiver.model_fields))).covers(finding)
        for w in evidence.waivers
        if w.status == "applied"
    )


def _places_unknown(evidence: Evidence) -> list[str]:
    """Places and kernels that an answer came from and that the evidence does not describe."""
    known = {(p.place, p.arch, p.kernel) for p in evidence.places}
    came = {
        (f.place, f.target.arch, f.kernel)
        for f in evidence.findings
        if f.place and f.outcome is not Outcome.MISSING
    }
    return [
        f"programs ran at {place} ({', '.join(w for w in words if w)}), of which it has no record"
        for place, *words in sorted(came - known)
    ]


def _unable(evidence: Evidence) -> list[str]:
    """Green answers from places whose own record says that they cannot give one there.

    Without rseq behind the system calls (old evidence does not say), with emulated time, or on a machine of
    another architecture.
    """
    places = {(p.place, p.arch, p.kernel): p for p in evidence.places}
    found = []
    for finding in evidence.findings:
        place = places.get((finding.place, finding.target.arch, finding.kernel))
        if place is None or not finding.outcome.green:
            continue
        needs = evidence.declared[finding.check].needs if finding.check in evidence.declared else ()
        no_rseq = place.rseq not in ("", HAS_RSEQ) or place.emulation == "user"
        if (
            (Need.RSEQ in needs and no_rseq)
            or (Need.TIME in needs and place.emulation)
            or place.machine not in ("", finding.target.arch)
        ):
            what = f"{finding.check} is {finding.outcome.name} at {place.place}"
            found.append(f"{what}, which by its record cannot tell")
    return found


def _not_built(evidence: Evidence) -> list[str]:
    """Releases that are judged without packages of theirs."""
    built = {(b.target.release, b.target.arch) for b in evidence.builds if b.rpms}
    if {(t.release, t.arch) for t in evidence.targets} - built:
        return ["it has no record of the build of a release that it judges"]
    return []


def _not_rebuilt(evidence: Evidence) -> list[str]:
    """Answers to whether a release comes out the same that do not follow from the record of its rebuild.

    A record of a difference that nothing answers for had an answer, which was taken out.
    """
    answers = {f.target: f.outcome for f in evidence.findings if f.check == rebuilt.CHECK}
    builds = {b.target: b for b in evidence.builds}
    found = []
    for target in dict.fromkeys((*answers, *builds)):
        build, said = builds.get(target), answers.get(target)
        outcome = None
        if build and build.rebuild:
            outcome, _ = rebuilt.judged(build, build.rebuild)
        if said in (Outcome.PASS, Outcome.FAIL) and said is not outcome:
            has = (
                f"by the record of its rebuild {outcome.name}"
                if outcome
                else "there is no record of its rebuild"
            )
            found.append(f"{rebuilt.CHECK} is {said.name} for {target}, and {has}")
        elif said is None and outcome is Outcome.FAIL:
            found.append(f"{target} came out otherwise when it was rebuilt, and nothing answers for it")
    return found


def _as_shipped(record: ProfileRecord) -> bool:
    """False if the record claims to be of a profile that is here and says something else than that does.

    Which patches a series has is not the profile's word, and may be another in another checkout.
    """
    if record.name not in available():
        return True
    profile = load(record.name)
    if profile_sha256(profile) != record.sha256:
        return True  # another version of it, of which nothing is known here
    return ProfileRecord.of(profile).model_copy(update={"series": record.series}) == record


def _sorted(records: Iterable[Frozen]) -> list[str]:
    return sorted(r.model_dump_json() for r in records)
