"""What is said of each RPM: SLSA provenance v1 for the build, an in-toto test result for the verdict."""

from __future__ import annotations

from pipeline.core.outcome import Finding, Outcome, worst
from pipeline.core.records import BuildManifest, FileRecord
from pipeline.signoff.document import FILE
from pipeline.signoff.envelope import STATEMENT, Json
from pipeline.signoff.records import Evidence

PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
BUILD_TYPE = "urn:glibc-backport-pipeline:rpmbuild:v1"
BUILDER = "urn:glibc-backport-pipeline"
#: What test-result calls a verdict; nothing but PASS and WAIVED is anything but FAILED.
RESULTS = {Outcome.PASS: "PASSED", Outcome.WAIVED: "WARNED"}


def _descriptor(name: str, sha256: str, **more: object) -> Json:
    """An in-toto resource descriptor."""
    return {"name": name, "digest": {"sha256": sha256.removeprefix("sha256:")}, **more}


def _statement(rpm: FileRecord, predicate_type: str, predicate: Json) -> Json:
    return {
        "_type": STATEMENT,
        "subject": [_descriptor(rpm.file, rpm.sha256)],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def provenance(evidence: Evidence, build: BuildManifest, rpm: FileRecord) -> Json:
    """How the RPM was made: SLSA provenance v1."""
    materials = [_descriptor(f"profile {evidence.profile.name}", evidence.profile.sha256)]
    if build.source:
        materials.append(_descriptor(build.source.origin, build.source.sha256))
    materials += [_descriptor(p.file, p.sha256) for p in build.patches]
    if build.image:
        materials.append(_descriptor(f"build image on {build.image.base}", build.image.id))
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"command": evidence.command, "target": str(build.target)},
            "internalParameters": {
                "mode": build.mode,
                "place": build.place,
                "hermetic": build.hermetic,
                "tools": build.image.tools if build.image else {},
            },
            "resolvedDependencies": materials,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"glibc-backport-pipeline": evidence.tool}},
            "metadata": {"invocationId": build.key},
        },
    }
    return _statement(rpm, PROVENANCE, predicate)


def test_result(evidence: Evidence, build: BuildManifest, rpm: FileRecord) -> Json:
    """What the evidence says: in-toto test result v0.1, for the whole sign-off the RPM is part of."""
    tests: dict[str, list[Finding]] = {}
    for finding in evidence.findings:
        tests.setdefault(f"{finding.check} {finding.target}", []).append(finding)
    outcomes = {name: worst(f.outcome for f in found) for name, found in sorted(tests.items())}

    def named(result: str) -> list[str]:
        return [name for name, outcome in outcomes.items() if RESULTS.get(outcome, "FAILED") == result]

    predicate = {
        "result": RESULTS.get(evidence.verdict, "FAILED"),
        "configuration": [
            _descriptor(
                FILE,
                evidence.sha256,
                annotations={
                    "verdict": evidence.verdict.name,
                    "release-grade": "yes" if evidence.release_grade else "no",
                    "target": str(build.target),
                    "created": evidence.created,
                },
            )
        ],
        "passedTests": named("PASSED"),
        "warnedTests": named("WARNED"),
        "failedTests": named("FAILED"),
    }
    return _statement(rpm, TEST_RESULT, predicate)
