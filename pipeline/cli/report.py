"""``report``: render a sign-off again from its evidence, join runners' evidence, attest and verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import ending
from pipeline.core import paths, store
from pipeline.core.errors import EvidenceError, ExitCode, UsageError
from pipeline.core.identity import identity
from pipeline.core.progress import console, say, warn
from pipeline.core.records import timestamp
from pipeline.report import withdraw, write_all
from pipeline.signoff import document
from pipeline.signoff.merge import merge
from pipeline.signoff.records import Evidence
from pipeline.signoff.verdict import not_covered

if TYPE_CHECKING:
    from pipeline.signoff.envelope import PrivateKey

FILE = click.Path(dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
ATTESTATIONS = "attestations"


@click.command()
@click.option(
    "--evidence", "evidence_file", type=FILE, help="Evidence to render (default: OUT/evidence.json)."
)
@click.option("--merge", "merging", is_flag=True, help="Join the evidence FILES of several runners first.")
@click.option(
    "--complete", is_flag=True, help="With --merge: end with 3 unless every target of the profile was judged."
)
@click.option("--out", "outdir", type=DIRECTORY, help="Where reports go (default: out).")
@click.option("--attest", "attesting", is_flag=True, help="Write in-toto statements for every RPM.")
@click.option("--sign-key", type=FILE, help="Private key (PEM: Ed25519 or ECDSA) to sign them with.")
@click.option("--verify", "verifying", is_flag=True, help="Check signatures, evidence and RPMs.")
@click.option("--key", "public_key", type=FILE, help="Public key (PEM) for --verify.")
@click.option("--rpms", type=DIRECTORY, help="The RPMs, for --verify and --attest.")
@click.option("--attestations", "where", type=DIRECTORY, help="Their directory (default: OUT/attestations).")
@click.argument("files", nargs=-1, type=FILE)
def command(
    *,
    evidence_file: Path | None,
    merging: bool,
    complete: bool,
    outdir: Path | None,
    attesting: bool,
    sign_key: Path | None,
    verifying: bool,
    public_key: Path | None,
    rpms: Path | None,
    where: Path | None,
    files: tuple[Path, ...],
) -> ExitCode:
    """Render the sign-off again, from OUT/evidence.json or what --evidence or --merge names.

    Ends with the verdict's exit code. With --verify nothing is rendered: it ends with the verdict that was
    signed if everything is as it was signed, with 1 if something was changed, 3 if something is missing.
    """
    out = outdir or paths.out()
    attestations = where or out / ATTESTATIONS
    _fit(
        merging=merging,
        complete=complete,
        files=files,
        evidence_file=evidence_file,
        verifying=verifying,
        key=public_key,
        rpms=rpms,
        where=where,
        attesting=attesting,
        sign_key=sign_key,
    )
    if verifying:
        assert public_key is not None
        assert rpms is not None
        return _verify(evidence_file or out / document.FILE, attestations, rpms, public_key)
    parts = files if merging else (evidence_file or out / document.FILE,)
    try:
        evidence = merge([document.read(part) for part in parts])
    except EvidenceError:  # a page of an earlier sign-off must not be taken for what this was to be
        withdraw(out, keep=parts)
        raise
    _of_another(evidence)
    if attesting and rpms is not None:
        _at_hand(evidence, rpms)
    key = _private(sign_key) if sign_key else None
    reports = write_all(evidence, out)
    for waiver in evidence.waivers:
        if waiver.status == "applied" and waiver.expires < timestamp()[:10]:
            warn(f"the waiver of {waiver.check} {waiver.target} expired since, on {waiver.expires}")
    ending.tell(verdict=evidence.verdict.name, release_grade=evidence.release_grade, report=str(reports.html))
    say(f"report: {reports.html}")
    if attesting:
        from pipeline.signoff import attest  # noqa: PLC0415  # cryptography is loaded only for those who sign

        written = attest.write(evidence, attestations, key)
        say(f"{len(written)} {'attestations' if key else 'unsigned statements'} in {attestations}")
    unjudged = _unjudged(evidence) if complete else []
    for what in unjudged:
        warn(f"no runner's evidence is complete: {what}")
    # what fails outranks what is not known
    return ExitCode.MISSING if unjudged and evidence.verdict.green else evidence.verdict.exit_code


def _of_another(evidence: Evidence) -> None:
    """Say that another pipeline judged: its checks, profile and baselines can be compared with nothing."""
    if evidence.pipeline != identity():
        warn(
            f"judged by pipeline {evidence.tool}, and this is {identity().text}: which checks, profile and "
            "baselines that one had is not known here"
        )


def _unjudged(evidence: Evidence) -> list[str]:
    """What of the profile no runner judged: architectures, releases, checks that every runner is asked."""
    return not_covered(evidence, on_request=False)


def _fit(
    *,
    merging: bool,
    complete: bool,
    files: tuple[Path, ...],
    evidence_file: Path | None,
    verifying: bool,
    key: Path | None,
    rpms: Path | None,
    where: Path | None,
    attesting: bool,
    sign_key: Path | None,
) -> None:
    """Raises `UsageError` for options that do not go together."""
    if files and not merging:
        raise UsageError(
            f"what is {files[0]} for?", hint="`--merge FILE...` joins, `--evidence FILE` renders"
        )
    if complete and not merging:
        raise UsageError("--complete is about what --merge joins", hint="add --merge FILE...")
    if merging and (not files or evidence_file):
        raise UsageError("--merge takes evidence files as arguments", hint="report --merge a.json b.json")
    if key and not verifying:  # one who forgot --verify would take the 0 for a checked signature
        raise UsageError("--key is what --verify checks signatures with", hint="add --verify")
    if (rpms or where) and not (verifying or attesting):
        raise UsageError("--rpms and --attestations are for --verify and --attest", hint="add one of these")
    if verifying and not (key and rpms):
        raise UsageError(
            "--verify needs --key PUBLIC.pem and --rpms DIR", hint="a signature is checked or it is none"
        )
    if verifying and (merging or attesting):
        raise UsageError(
            "--verify only looks: it goes with neither --merge nor --attest", hint="run it by itself"
        )
    if sign_key and not attesting:
        raise UsageError("--sign-key signs what --attest writes", hint="add --attest")


def _private(path: Path) -> PrivateKey:
    from pipeline.signoff import envelope  # noqa: PLC0415

    def password() -> str:
        try:
            return str(click.prompt("Password of the key", hide_input=True, err=True))
        except click.Abort:
            if sys.stdin and sys.stdin.isatty():
                raise
            raise UsageError(
                f"{path} is encrypted, and nobody is there to say its password",
                hint="run it on a terminal, give the password on standard input, or name another key",
            ) from None

    return envelope.load_private(path, password)


def _at_hand(evidence: Evidence, rpms: Path) -> None:
    """Attest only what is there: raises `UsageError` for an RPM that is not the one judged."""
    found: dict[str, list[Path]] = {}
    for path in sorted(rpms.rglob("*.rpm")):
        found.setdefault(path.name, []).append(path)
    for build in evidence.builds:
        for rpm in build.files:
            if rpm.file not in found:
                raise UsageError(
                    f"{rpm.file} is not below {rpms}", hint="name the directory of the judged RPMs"
                )
            if rpm.sha256 not in {store.file_sha256(path) for path in found[rpm.file]}:
                raise UsageError(
                    f"{found[rpm.file][0]} is not the RPM that was judged", hint="judge it first"
                )


def _verify(evidence_file: Path, attestations: Path, rpms: Path, public_key: Path) -> ExitCode:
    from pipeline.signoff import attest, envelope  # noqa: PLC0415

    problems = attest.verify(evidence_file, attestations, rpms, envelope.load_public(public_key))
    for problem in problems:
        console.print(f"{problem.kind}: {problem}", style="red", markup=False)
    if problems:
        return attest.exit_code(problems)
    evidence = document.read(evidence_file)
    click.echo(
        f"verified: {len(attest.rpms_of(evidence))} RPMs, evidence and statements are as signed; "
        f"verdict {evidence.verdict.name}, "
        + ("release grade" if evidence.release_grade else "not release grade")
    )
    _of_another(evidence)
    # what is signed may be a FAIL: that it is unchanged does not make it green
    return evidence.verdict.exit_code
