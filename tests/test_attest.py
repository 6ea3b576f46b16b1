"""One changed byte, wherever it is, is found and named."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pipeline.cli.report import command
from pipeline.core import store
from pipeline.core.errors import ExitCode, UsageError
from pipeline.core.outcome import Outcome
from pipeline.core.records import BuildManifest, file_record
from pipeline.signoff import attest, envelope, statements
from pipeline.signoff.document import write
from pipeline.signoff.records import Evidence
from tests.report.factory import draft, rebuilt_as_it_is

PEM = serialization.Encoding.PEM


@dataclass
class Signed:
    """A signed sign-off on disk."""

    evidence: Evidence
    out: Path
    rpms: Path
    key: envelope.PrivateKey

    @property
    def evidence_file(self) -> Path:
        return self.out / "evidence.json"

    @property
    def attestations(self) -> Path:
        return self.out / "attestations"

    @property
    def bundle(self) -> Path:
        return sorted(self.attestations.iterdir())[0]

    @property
    def rpm(self) -> Path:
        return sorted(self.rpms.rglob("*.rpm"))[0]

    def verify(self) -> list[attest.Problem]:
        return attest.verify(self.evidence_file, self.attestations, self.rpms, self.key.public_key())


def make_rpms(build: BuildManifest, directory: Path) -> BuildManifest:
    """Files in place of RPMs, and the manifest that records them."""
    directory.mkdir(parents=True)

    def made(name: str) -> Path:
        (directory / name).write_bytes(b"\xed\xab\xee\xdb" + name.encode() * 3)
        return directory / name

    assert build.srpm
    return rebuilt_as_it_is(
        build.model_copy(
            update={
                "rpms": tuple(file_record(made(r.file)) for r in build.rpms[:2]),
                "srpm": file_record(made(build.srpm.file)),
            }
        )
    )


KEYS: dict[str, Callable[[], envelope.PrivateKey]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
}


@pytest.fixture(params=sorted(KEYS))
def signed(request: pytest.FixtureRequest, tmp_path: Path) -> Signed:
    made = draft(("x86_64",))
    rpms = tmp_path / "rpms"
    made.builds = [make_rpms(b, rpms / b.target.release) for b in made.builds]
    evidence = made.evidence()
    out = tmp_path / "out"
    write(evidence, out)
    key = KEYS[request.param]()
    attest.write(evidence, out / "attestations", key)
    return Signed(evidence, out, rpms, key)


def flip(path: Path, at: int, bit: int = 1) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= bit
    path.write_bytes(raw)


def test_untouched_it_verifies(signed: Signed) -> None:
    assert signed.verify() == []
    assert len(list(signed.attestations.iterdir())) == 9
    assert attest.exit_code([]) is ExitCode.PASS


def test_a_changed_rpm_is_named(signed: Signed) -> None:
    flip(signed.rpm, 9)
    (problem,) = signed.verify()
    assert (problem.kind, problem.file) == ("changed", signed.rpm.name)
    assert store.file_sha256(signed.rpm) in problem.text
    assert attest.exit_code([problem]) is ExitCode.FAILED


@pytest.mark.parametrize("at", [0, 1, -2, -1, 5000])
def test_changed_evidence_is_named(signed: Signed, at: int) -> None:
    flip(signed.evidence_file, at)
    (problem,) = signed.verify()
    assert (problem.kind, problem.file) == ("changed", "evidence.json")


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_every_byte_of_a_statement_counts(kind: str, tmp_path: Path) -> None:
    """Also those that a lenient reader of JSON or base64 would overlook."""
    made = draft(("x86_64",))
    made.findings, made.not_judged, made.questions = made.findings[:2], [], made.questions[:2]
    made.builds = made.builds[:1]
    key = KEYS[kind]()
    bundle = attest.write(made.evidence(), tmp_path, key)[0]
    raw, public = bundle.read_bytes(), key.public_key()
    unnoticed = []
    for at in range(len(raw)):
        flip(bundle, at)
        with contextlib.suppress(*attest.WRONG):
            attest._bundle(bundle, public)
            unnoticed.append(at)
        bundle.write_bytes(raw)
    assert unnoticed == []
    assert attest._bundle(bundle, public)[0] == bundle.name.removesuffix(attest.SUFFIX)


def test_a_changed_statement_is_named_with_exit_1(signed: Signed) -> None:
    flip(signed.bundle, 40)
    problems = signed.verify()
    assert [(p.kind, p.file) for p in problems] == [("changed", signed.bundle.name)]
    assert attest.exit_code(problems) is ExitCode.FAILED


def test_a_cut_statement_is_changed(signed: Signed) -> None:
    raw = signed.bundle.read_bytes()
    for cut in (0, 1, len(raw) // 2, len(raw) - 1):
        signed.bundle.write_bytes(raw[:cut])
        assert [p.kind for p in signed.verify()] == ["changed"], cut


def test_a_missing_file_of_each_kind_is_exit_3(signed: Signed) -> None:
    for path in (signed.rpm, signed.bundle, signed.evidence_file):
        raw = path.read_bytes()
        path.unlink()
        problems = signed.verify()
        missing = [p for p in problems if p.kind == "missing"]
        assert missing, path
        if path != signed.bundle and path == signed.rpm:
            assert missing[0].file == path.name
            assert attest.exit_code(problems) is ExitCode.MISSING
        path.write_bytes(raw)
    assert signed.verify() == []


def test_a_missing_bundle_is_named(signed: Signed) -> None:
    name = signed.bundle.name
    signed.bundle.unlink()
    assert ("missing", name) in [(p.kind, p.file) for p in signed.verify()]


def test_nothing_at_all_is_not_verified(signed: Signed, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    problems = attest.verify(signed.evidence_file, empty, empty, signed.key.public_key())
    assert attest.exit_code(problems) is ExitCode.MISSING
    problems = attest.verify(signed.evidence_file, empty, tmp_path / "none", signed.key.public_key())
    assert attest.exit_code(problems) is ExitCode.MISSING


def test_an_rpm_nobody_judged_is_named(signed: Signed) -> None:
    (signed.rpms / "glibc-evil-1-1.x86_64.rpm").write_bytes(b"new")
    (problem,) = signed.verify()
    assert (problem.kind, problem.file) == ("changed", "glibc-evil-1-1.x86_64.rpm")


def test_an_rpm_behind_a_link_is_not_overlooked(signed: Signed, tmp_path: Path) -> None:
    """A directory is searched without following links: what lies behind one would ship unseen."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "evil.rpm").write_bytes(b"never judged")
    (signed.rpms / "more").symlink_to(tmp_path / "elsewhere")
    (problem,) = signed.verify()
    assert (problem.kind, Path(problem.file).name) == ("changed", "more")


def test_another_key_is_not_accepted(signed: Signed) -> None:
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    problems = attest.verify(signed.evidence_file, signed.attestations, signed.rpms, other)
    assert {p.kind for p in problems} == {"changed"}
    assert "another key" in problems[0].text


def test_keys_name_swapped_in_does_not_help(signed: Signed) -> None:
    """An attacker signs anew and writes our key's name beside his signature."""
    raw = signed.bundle.read_bytes()
    theirs = ed25519.Ed25519PrivateKey.generate()
    lines = []
    for line in raw.splitlines():
        there = json.loads(line)
        statement = json.loads(base64.b64decode(there["payload"]))
        forged = envelope.sign(statement, theirs)
        forged["signatures"][0]["keyid"] = there["signatures"][0]["keyid"]
        lines.append(json.dumps(forged, sort_keys=True, separators=(",", ":")))
    signed.bundle.write_text("\n".join(lines) + "\n")
    assert [(p.kind, p.file) for p in signed.verify()] == [("changed", signed.bundle.name)]


def test_bundles_swapped_between_rpms_are_found(signed: Signed) -> None:
    first, second = sorted(signed.attestations.iterdir())[:2]
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    assert {p.file for p in signed.verify()} >= {first.name, second.name}


def test_source_rpms_of_two_architectures_share_a_name(tmp_path: Path) -> None:
    """Each architecture's build makes a source RPM of one name and other bytes; both were judged."""
    made = draft(("x86_64", "aarch64"))
    builds = []
    for build in made.builds:
        at_hand = make_rpms(build, tmp_path / "rpms" / f"{build.target.release}-{build.target.arch}")
        assert at_hand.srpm
        source = tmp_path / "rpms" / f"{build.target.release}-{build.target.arch}" / at_hand.srpm.file
        source.write_bytes(source.read_bytes() + build.target.arch.encode())
        builds.append(rebuilt_as_it_is(at_hand.model_copy(update={"srpm": file_record(source)})))
    made.builds = builds
    evidence = made.evidence()
    key = KEYS["ed25519"]()
    write(evidence, tmp_path)
    written = attest.write(evidence, tmp_path / "attestations", key)
    signed = Signed(evidence, tmp_path, tmp_path / "rpms", key)
    assert len(set(written)) == len(attest.rpms_of(evidence)) == 18
    assert signed.verify() == []

    one, other = sorted(signed.rpms.rglob("*.src.rpm"))[0], sorted(signed.rpms.rglob("*.src.rpm"))[-1]
    raw = one.read_bytes()
    one.unlink()
    (problem,) = signed.verify()
    assert (problem.kind, problem.file) == ("missing", one.name)
    one.write_bytes(raw + b"!")
    assert [(p.kind, p.file) for p in signed.verify()] == [("changed", one.name)]
    one.write_bytes(raw)
    (signed.attestations / f"{other.name}.12.1-x86_64.intoto.jsonl").unlink()
    assert "missing" in {p.kind for p in signed.verify()}


def test_statements_of_another_sign_off_are_found(signed: Signed) -> None:
    """A green statement kept from an earlier run, beside evidence that is red by now."""
    made = draft(("x86_64",))
    made.builds = list(signed.evidence.builds)
    made.spoil("abi.delta")
    write(made.evidence(), signed.out)
    (problem,) = signed.verify()
    assert (problem.kind, problem.file) == ("changed", "evidence.json")


def test_a_provenance_of_another_sign_off_is_found(signed: Signed, tmp_path: Path) -> None:
    """Both are signed and about the same RPM, and one of them says that it was made in another way."""
    builds = [b.model_copy(update={"hermetic": False}) for b in signed.evidence.builds]
    other = signed.evidence.model_copy(update={"builds": tuple(builds)})
    attest.write(other, tmp_path / "other", signed.key)
    made = (tmp_path / "other" / signed.bundle.name).read_bytes().split(b"\n")[0]
    judged = signed.bundle.read_bytes().split(b"\n")[1]
    signed.bundle.write_bytes(b"\n".join([made, judged, b""]))
    (problem,) = signed.verify()
    assert (problem.kind, problem.file) == ("changed", signed.bundle.name)
    assert "not what the evidence says" in problem.text


def test_statements_say_what_was_made_from_what(signed: Signed) -> None:
    build = signed.evidence.builds[1]
    made = statements.provenance(signed.evidence, build, build.rpms[0])
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://slsa.dev/provenance/v1"
    assert made["subject"] == [{"name": build.rpms[0].file, "digest": {"sha256": build.rpms[0].sha256}}]
    digests = {d["digest"]["sha256"] for d in made["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert build.source
    assert {build.source.sha256, *(p.sha256 for p in build.patches)} <= digests
    assert made["predicate"]["runDetails"]["builder"]["id"]


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (Outcome.PASS, "PASSED"),
        (Outcome.FAIL, "FAILED"),
        (Outcome.MISSING, "FAILED"),
        (Outcome.ERROR, "FAILED"),
    ],
)
def test_only_green_is_passed(outcome: Outcome, result: str) -> None:
    made = draft(("x86_64",))
    made.spoil("abi.delta", outcome)
    evidence = made.evidence()
    said = statements.test_result(evidence, evidence.builds[0], evidence.builds[0].rpms[0])
    assert said["predicate"]["result"] == result
    assert bool(said["predicate"]["failedTests"]) == (result == "FAILED")
    assert said["predicate"]["configuration"][0]["digest"]["sha256"] == evidence.sha256


# --- command line ----------------------------------------------------------------------------------------


def pem(key: envelope.PrivateKey, path: Path, password: bytes = b"") -> Path:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption))
    return path


def pub(key: envelope.PrivateKey, path: Path) -> Path:
    path.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path


def run(*args: str | Path, answer: str = "") -> tuple[int, str]:
    got = CliRunner().invoke(command, [str(a) for a in args], standalone_mode=False, input=answer)
    if got.exception is not None:
        raise got.exception
    return int(got.return_value), got.output


def test_sign_and_verify_on_the_command_line(signed: Signed, tmp_path: Path) -> None:
    for path in signed.attestations.iterdir():
        path.unlink()
    key, public = pem(signed.key, tmp_path / "key.pem"), pub(signed.key, tmp_path / "pub.pem")
    code, _ = run("--out", signed.out, "--attest", "--sign-key", key, "--rpms", signed.rpms)
    assert code == 0
    check = ("--out", signed.out, "--verify", "--key", public, "--rpms", signed.rpms)
    code, output = run(*check)
    assert (code, output.startswith("verified: 9 RPMs")) == (0, True)
    flip(signed.rpm, 0)
    assert run(*check)[0] == 1
    with pytest.raises(UsageError, match="is not the RPM that was judged"):
        run("--out", signed.out, "--attest", "--sign-key", key, "--rpms", signed.rpms)
    signed.rpm.unlink()
    assert run(*check)[0] == 3


def test_encrypted_key_asks_for_its_password(signed: Signed, tmp_path: Path) -> None:
    key = pem(signed.key, tmp_path / "key.pem", b"correct horse")
    assert run("--out", signed.out, "--attest", "--sign-key", key, answer="correct horse\n")[0] == 0
    assert signed.verify() == []
    with pytest.raises(UsageError, match="not a private key in PEM that opens"):
        run("--out", signed.out, "--attest", "--sign-key", key, answer="wrong\n")


def test_a_password_nobody_gives_is_no_interrupt(signed: Signed, tmp_path: Path) -> None:
    """A scheduler would run the same again for ever."""
    key = pem(signed.key, tmp_path / "key.pem", b"correct horse")
    with pytest.raises(UsageError, match="nobody is there to say its password"):
        run("--out", signed.out, "--attest", "--sign-key", key)


def test_a_forgotten_verify_is_not_taken_for_a_checked_signature(signed: Signed, tmp_path: Path) -> None:
    for options, says in (
        (("--key", tmp_path / "none.pem"), "--key is what --verify checks"),
        (("--rpms", signed.rpms), "--rpms and --attestations are for"),
        (("--attestations", signed.attestations), "--rpms and --attestations are for"),
    ):
        with pytest.raises(UsageError, match=says):
            run("--out", signed.out, *options)


def test_without_a_key_statements_are_not_taken_for_signed(signed: Signed) -> None:
    for path in signed.attestations.iterdir():
        path.unlink()
    assert run("--out", signed.out, "--attest")[0] == 0
    assert all(p.name.endswith(".statements.jsonl") for p in signed.attestations.iterdir())
    assert attest.exit_code(signed.verify()) is ExitCode.MISSING


def test_wrong_keys_are_wrong_use(tmp_path: Path) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    path = tmp_path / "rsa.pem"
    path.write_bytes(
        rsa_key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public = tmp_path / "rsa.pub"
    public.write_bytes(
        rsa_key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(UsageError, match="neither an Ed25519 nor an ECDSA key"):
        envelope.load_private(path, str)
    with pytest.raises(UsageError, match="neither an Ed25519 nor an ECDSA key"):
        envelope.load_public(public)
    with pytest.raises(UsageError, match="is not a public key"):
        envelope.load_public(path)
    with pytest.raises(UsageError, match="cannot be read"):
        envelope.load_public(tmp_path / "none.pem")
