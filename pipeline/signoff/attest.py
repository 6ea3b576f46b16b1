"""Attestations: in-toto statements for each RPM, signed in DSSE envelopes, and their verification.

For each RPM there is ``NAME.intoto.jsonl`` with two envelopes, one a line: SLSA provenance v1 for the
build, and an in-toto test result for the verdict, which names the sha256 of ``evidence.json``. Where several
builds made an RPM of one name (the source RPM of two architectures) it is ``NAME.RELEASE-ARCH.intoto.jsonl``.
Formats: in-toto attestation framework v1 (statement, test-result v0.1), SLSA v1.0, DSSE v1.0.0.

Verification trusts nothing but the public key: signatures first, then what was signed is compared with the
given RPMs and evidence. Files are compared with their canonical form, so that no byte is free to
change, not even one that a lenient reader of base64 or JSON would overlook.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core import store
from pipeline.core.errors import ExitCode, MalformedInput
from pipeline.core.records import BuildManifest, FileRecord
from pipeline.signoff.document import FILE, read
from pipeline.signoff.envelope import Json, PrivateKey, PublicKey, canonical, opened, sign
from pipeline.signoff.records import Evidence
from pipeline.signoff.statements import PROVENANCE, TEST_RESULT, provenance, test_result

SUFFIX = ".intoto.jsonl"

#: What reading a file that is no attestation may raise.
WRONG = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it was signed: ``file`` names it, ``kind`` decides the exit code."""

    file: str
    kind: Literal["changed", "missing"]
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


def exit_code(problems: Sequence[Problem]) -> ExitCode:
    """1 if anything was changed, 3 if something is merely absent, 0 if all is well."""
    if any(p.kind == "changed" for p in problems):
        return ExitCode.FAILED
    return ExitCode.MISSING if problems else ExitCode.PASS


def rpms_of(evidence: Evidence) -> list[tuple[BuildManifest, FileRecord]]:
    """Every RPM that was judged, source RPMs among them, with its build."""
    return [(b, r) for b in evidence.builds for r in b.files]


def _stems(evidence: Evidence) -> list[tuple[BuildManifest, FileRecord, str]]:
    """`rpms_of`, each with what its attestation is called before the suffix; no two are called the same."""
    judged = rpms_of(evidence)
    times = Counter(rpm.file for _, rpm in judged)
    return [(b, r, r.file if times[r.file] == 1 else _qualified(r.file, str(b.target))) for b, r in judged]


def _qualified(name: str, target: str) -> str:
    """The attestation's name for an RPM whose own name several targets share."""
    _, release, arch = target.split("/")
    return f"{name}.{release}-{arch}"


def write(evidence: Evidence, directory: Path, key: PrivateKey | None) -> list[Path]:
    """Write the attestations of every RPM; returns their paths.

    Without a key the bare statements are written as ``NAME.statements.jsonl``: something to sign elsewhere,
    which `verify` does not accept.
    """
    written = []
    for build, rpm, stem in _stems(evidence):
        statements = [provenance(evidence, build, rpm), test_result(evidence, build, rpm)]
        lines = [canonical(s if key is None else sign(s, key)) for s in statements]
        path = directory / f"{stem}{'.statements.jsonl' if key is None else SUFFIX}"
        store.write_atomically(path, b"\n".join(lines) + b"\n")
        written.append(path)
    return written


def verify(evidence_file: Path, attestations: Path, rpms: Path, key: PublicKey) -> list[Problem]:
    """Everything that is not as it was signed; an empty list means that all of it is.

    ``rpms`` is searched with its subdirectories: each RPM in it must have been judged, and each judged one
    must be there.
    """
    problems: list[Problem] = []
    signed: dict[str, tuple[str, str]] = {}
    statements: dict[str, tuple[Json, Json]] = {}
    evidence_digests: dict[str, str] = {}
    files = sorted(attestations.glob(f"*{SUFFIX}"))
    if not files:
        text = "there is no attestation; `report --attest --sign-key KEY` makes them"
        problems.append(Problem(str(attestations), "missing", text))
    for file in files:
        try:
            name, sha256, digest, statements[file.name] = _bundle(file, key)
        except WRONG as e:
            problems.append(Problem(file.name, "changed", str(e) or "not an attestation"))
            continue
        signed[file.name] = (name, sha256)
        evidence_digests[file.name] = digest
    problems += _check_evidence(evidence_file, evidence_digests, statements, {f.name for f in files})
    problems += _check_rpms(rpms, signed, complete=len(signed) == len(files) and bool(files))
    return problems


def _bundle(file: Path, key: PublicKey) -> tuple[str, str, str, tuple[Json, Json]]:
    """(RPM's name, its sha256, sha256 of the evidence, both statements) as signed; raises ValueError."""
    raw = file.read_bytes()
    lines = raw.split(b"\n")
    if len(lines) != 3 or lines[2]:
        raise ValueError(f"it must have two lines, not {len(lines) - 1}")
    made, judged = (opened(line, key) for line in lines[:2])
    if (made["predicateType"], judged["predicateType"]) != (PROVENANCE, TEST_RESULT):
        raise ValueError("it must hold a provenance and a test result, in this order")
    if made["subject"] != judged["subject"] or len(made["subject"]) != 1:
        raise ValueError("its two statements are about different files")
    subject = made["subject"][0]
    name = str(subject["name"])
    target = str(made["predicate"]["buildDefinition"]["externalParameters"]["target"])
    if file.name not in (name + SUFFIX, _qualified(name, target) + SUFFIX):
        raise ValueError(f"it is about {name}")
    digests = [c["digest"]["sha256"] for c in judged["predicate"]["configuration"] if c["name"] == FILE]
    if len(digests) != 1:
        raise ValueError(f"its test result does not name one {FILE}")
    return name, str(subject["digest"]["sha256"]), str(digests[0]), (made, judged)


def _check_evidence(
    file: Path, digests: Mapping[str, str], statements: Mapping[str, tuple[Json, Json]], bundles: set[str]
) -> list[Problem]:
    if not file.is_file():
        return [Problem(str(file), "missing", "there is no such file")]
    here = store.file_sha256(file)
    others = sorted(name for name, digest in digests.items() if digest != here)
    if others:
        was = digests[others[0]]
        return [
            Problem(
                file.name,
                "changed",
                f"its sha256 is {here}; {others[0]} was signed for {was}"
                + (f" (and {len(others) - 1} more)" if len(others) > 1 else ""),
            )
        ]
    if not digests:
        return []  # no signed statement speaks of it, which is a problem already named
    try:
        evidence = read(file)
    except MalformedInput as e:
        return [Problem(file.name, "changed", e.message)]
    problems = []
    for build, rpm, stem in _stems(evidence):
        bundle = stem + SUFFIX
        if bundle not in bundles:
            problems.append(Problem(bundle, "missing", f"{rpm.file} was judged but has no attestation"))
        elif bundle in statements:
            # each may be signed and yet be of another sign-off of the same RPM, made in another way
            says = (provenance(evidence, build, rpm), test_result(evidence, build, rpm))
            if canonical(statements[bundle]) != canonical(says):
                text = "its statements are not what the evidence says of the RPM and its build"
                problems.append(Problem(bundle, "changed", text))
    return problems


def _check_rpms(directory: Path, signed: Mapping[str, tuple[str, str]], *, complete: bool) -> list[Problem]:
    """Judged RPMs that are absent or changed; RPMs nobody judged, if all attestations could be read."""
    if not directory.is_dir():
        return [Problem(str(directory), "missing", "there is no such directory")]
    judged: dict[str, set[str]] = {}
    for name, sha256 in signed.values():
        judged.setdefault(name, set()).add(sha256)
    found: dict[str, list[Path]] = {}
    for path in sorted(directory.rglob("*.rpm")):
        found.setdefault(path.name, []).append(path)
    links = [path for path in sorted(directory.rglob("*")) if path.is_symlink() and path.is_dir()]
    problems = [
        Problem(str(path), "changed", "a link to a directory, which nobody looks into; copy what is judged")
        for path in links
    ]
    for name, wanted in sorted(judged.items()):
        here = [store.file_sha256(path) for path in found.get(name, [])]
        changed = [digest for digest in here if digest not in wanted]
        for digest in changed:
            text = f"its sha256 is {digest}; what was judged is {' or '.join(sorted(wanted))}"
            problems.append(Problem(name, "changed", text))
        for digest in sorted(wanted - set(here) if not changed else ()):
            which = f" with sha256 {digest}" if len(wanted) > 1 else ""
            problems.append(Problem(name, "missing", f"it was judged but is not below {directory}{which}"))
    if complete:
        for name in sorted(found.keys() - judged.keys()):
            problems.append(Problem(name, "changed", "nobody judged this RPM"))
    return problems
