"""A private apt: the host's mirrors, keys, proxies and options, but lists, cache and suite of our own.

Nothing of the host's apt is changed, and root is not needed. Any suite and any architecture of the Debian
archive can be asked for, whatever the host itself runs. What apt fetches, apt has verified: the archive's
signature, the index's hash, the file's hash.

The mirror's name is the host's own business: it is kept out of every message and record.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from pipeline.core import paths
from pipeline.core.errors import CommandFailed, HashMismatch, SourceUnreachable, ToolMissing
from pipeline.core.progress import warn
from pipeline.core.run import Completed, run
from pipeline.core.store import digest, file_sha256, write_atomically
from pipeline.debian.apt_conf import apt_conf
from pipeline.debian.apt_sources import AptEntry, base_of, for_suite, host_entries, with_key_files
from pipeline.debian.redact import MIRROR, redact

#: Lists younger than this are used without asking the mirror (seconds).
MAX_AGE = 3600.0
HELPER = "/usr/lib/apt/apt-helper"
NO_MIRROR = (
    "name a Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d/debian.sources, "
    "or give the source with --source (tarball:FILE-or-URL, git:REPOSITORY@REF, dir:PATH)"
)

#: Host settings that another apt (mmdebstrap's) needs to reach the same mirrors.
_REACHING = re.compile(
    r"^Acquire::(https?|ftp)::|^Acquire::(Check-Valid-Until|Check-Date|Max-ValidTime|Min-ValidTime|"
    r"ForceIPv[46]|Retries|AllowInsecureRepositories|AllowWeakRepositories)\b"
)


@dataclass(frozen=True)
class Offer:
    """A file the archive offers: its address, name, size (bytes) and hash (``SHA256:…``)."""

    uri: str
    file: str
    size: int
    hash: str


def reaching_options() -> list[str]:
    """The host's ``Acquire`` settings (proxies, dates) as lines of apt.conf, for another apt to be given."""
    lines = _apt(["apt-config", "dump"]).text.splitlines()
    return [line for line in lines if _REACHING.match(line) and not line.endswith(' "";')]


class PrivateApt:
    """The Debian archive's ``suite`` for ``deb_arch`` (``amd64``, ``arm64``), through the host's mirrors.

    Lists live under the state directory and are refreshed at most once in ``max_age`` seconds. All
    methods raise `SourceUnreachable` (no apt, no Debian mirror, nothing answers, no such package).
    With ``strict`` lists that could not be refreshed whole are an error, not a warning.
    """

    def __init__(self, suite: str, deb_arch: str, *, max_age: float = MAX_AGE, strict: bool = False) -> None:
        self.suite = suite
        self.strict = strict
        self.deb_arch = deb_arch
        self.max_age = max_age
        self._settled: set[str] = set()

    def sources_lines(self) -> list[str]:
        """``deb [signed-by=…] URI SUITE main`` for the suite, its updates and its security archive.

        They name the host's mirror: fit for mmdebstrap, not for a record.
        """
        return [entry.line("deb", suite) for entry in self._entries() for suite in entry.suites]

    def refresh(self, kind: Literal["deb", "deb-src"] = "deb", *, force: bool = False) -> None:
        """Have lists that are at most ``max_age`` old; old ones do where the mirror does not answer."""
        if kind in self._settled and not force:
            return
        root = self._root(kind)
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock"):
            lines = self._configure(kind)
            stamp, wanted = root / "refreshed.json", digest(lines)
            known = json.loads(stamp.read_text()) if stamp.is_file() else {}
            age = time.time() - float(known.get("at", 0)) if known.get("sources") == wanted else None
            if force or age is None or not 0 <= age <= self.max_age:
                try:
                    whole = self._update(kind)
                except SourceUnreachable as e:
                    if age is None or self.strict:
                        raise
                    warn(f"using package lists of {self.suite} that are {age / 3600:.0f} h old: {e.message}")
                else:
                    if whole:  # what is not whole never counts as young
                        write_atomically(stamp, json.dumps({"sources": wanted, "at": time.time()}))
        self._settled.add(kind)

    def candidate(self, name: str) -> str:
        """The version of package ``name`` that would be installed."""
        self.refresh()
        shown = self._run("deb", ["apt-cache", "policy", name]).text
        match = re.search(r"^  Candidate: (\S+)$", shown, re.MULTILINE)
        if not match or match[1] == "(none)":
            raise self._no_package(name)
        return match[1]

    def resolve_dependency(self, name: str, prefix: str) -> str:
        """The first dependency of ``name`` that begins with ``prefix``; ``name`` itself if it has none.

        So a metapackage (linux-image-cloud-arm64) leads to the package it stands for.
        """
        return next((d for d in self.dependencies(name) if d.startswith(prefix)), name)

    def dependencies(self, name: str) -> list[str]:
        """The names in the Depends of ``name``, alternatives too, in their order."""
        candidate = self.candidate(name)
        # of all versions: to show one alone apt weighs each package of the archive first, for 0.4 s
        shown = self._run("deb", ["apt-cache", "show", "--all-versions", name]).text
        version = re.compile(rf"^Version: {re.escape(candidate)}$", re.MULTILINE)
        stanza = next((text for text in shown.split("\n\n") if version.search(text)), "")
        match = re.search(r"^Depends: (.*)$", stanza, re.MULTILINE)
        choices = re.split(r"[,|]", match[1]) if match else []
        return [re.split(r"[ (:]", choice.strip(), maxsplit=1)[0] for choice in choices]

    def download_package(
        self, name: str, dest: Path, *, on_progress: Callable[[str], None] | None = None
    ) -> Path:
        """The ``.deb`` of package ``name``, in directory ``dest``; a whole one that is there is kept."""
        self.candidate(name)
        shown = self._run("deb", ["apt-get", "download", "--print-uris", name]).text
        offers = _offers(shown)
        if not offers:
            raise self._no_package(name)
        return self._download("deb", offers[0], dest, on_progress)

    def download_source_file(
        self, package: str, file: str, dest: Path, *, on_progress: Callable[[str], None] | None = None
    ) -> Path:
        """File ``file`` of source package ``package``, in directory ``dest``."""
        self.refresh("deb-src")
        done = self._run(
            "deb-src", ["apt-get", "source", "--print-uris", "--only-source", package], success_codes=None
        )
        offers = _offers(done.text)
        found = [o for o in offers if o.file == file]
        if not found:
            has = f"it has {', '.join(o.file for o in offers)}" if offers else self._redact(done.stderr)
            raise SourceUnreachable(
                f"{MIRROR} has no {file} for source package {package} of {self.suite} ({has.strip()})",
                hint=NO_MIRROR,
            )
        return self._download("deb-src", found[0], dest, on_progress)

    def probe(self, *, timeout: float = 5.0) -> None:
        """Ask the mirror for the suite's Release file; raises `SourceUnreachable` if it does not answer."""
        root = self._root("probe")
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock"):
            self._configure("probe")
            entry = self._entries()[0]
            uri = f"{entry.uri.rstrip('/')}/dists/{base_of(self.suite)}/InRelease"
            quick = ["-o", "Acquire::Retries=0", "-o", f"Acquire::http::Timeout={timeout:.0f}"]
            self._run("probe", [HELPER, *quick, "download-file", uri, str(root / "InRelease")], limit=timeout)

    def _root(self, kind: str) -> Path:
        name = {"deb": self.deb_arch, "deb-src": "source"}.get(kind, kind)
        return paths.state() / "apt" / f"{self.suite}-{name}"

    def _entries(self) -> list[AptEntry]:
        try:
            entries = for_suite(host_entries(), self.suite)
        except ToolMissing:
            raise SourceUnreachable(
                "this host has no apt, so the Debian archive cannot be had through it",
                hint="run on Debian, or give the source with --source "
                "(tarball:FILE-or-URL, git:REPOSITORY@REF, dir:PATH)",
            ) from None
        if not entries:
            raise SourceUnreachable("this host's apt configuration names no Debian mirror", hint=NO_MIRROR)
        return with_key_files(entries, paths.state() / "apt" / "keys")

    def _configure(self, kind: str) -> list[str]:
        """Write apt.conf and sources.list of the private root; returns the sources.

        The host's configuration is read first as ever, so its proxies, passwords and options hold; then
        ours, which puts every directory elsewhere and takes the host's hooks away.
        """
        root = self._root(kind)
        if kind == "deb":
            lines = [e.line("deb", s, target="Packages") for e in self._entries() for s in e.suites]
        else:  # a source stays in the suite it came with
            lines = [
                e.line("deb-src", s, target="Sources")
                for e in self._entries()
                for s in e.suites
                if s in (base_of(self.suite), self.suite)
            ]
        for directory in ("lists/partial", "archives/partial", "etc"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        _settle(root / "status", "")
        _settle(root / "etc" / "sources.list", "\n".join(lines) + "\n")
        _settle(root / "etc" / "apt.conf", apt_conf(root, self.deb_arch, self.suite))
        return lines

    def _update(self, kind: Literal["deb", "deb-src"]) -> bool:
        """Ask the mirror for lists; whether all came. Raises `SourceUnreachable` if the suite has none."""
        done = self._run(kind, ["apt-get", "update", "-q"], success_codes=None, limit=600)
        shown = self._run(kind, ["apt-get", "indextargets", "--format", "$(SUITE) $(CODENAME) $(FILENAME)"])
        base = base_of(self.suite)
        have = [line for line in shown.text.splitlines() if self._has(line, (base, self.suite))]
        if not have:
            raise SourceUnreachable(
                f"{MIRROR} did not give the package lists of {self.suite} ({self.deb_arch}): "
                + self._redact(done.stderr or done.stdout),
                hint=NO_MIRROR,
            )
        if done.returncode or b"\nW: Failed" in b"\n" + done.stderr:
            incomplete = f"{MIRROR} did not give all of {self.suite}: {self._redact(done.stderr)}"
            if self.strict:
                raise SourceUnreachable(incomplete, hint=NO_MIRROR)
            warn(incomplete)
            return False
        return True

    @staticmethod
    def _has(line: str, names: tuple[str, ...]) -> bool:
        suite, codename, file = line.split(" ", 2)
        return bool({suite, codename} & set(names)) and bool(
            list(Path(file).parent.glob(Path(file).name + "*"))
        )

    def _download(
        self, kind: str, offer: Offer, dest: Path, on_progress: Callable[[str], None] | None
    ) -> Path:
        dest.mkdir(parents=True, exist_ok=True)
        final = dest / offer.file
        algorithm, _, expected = offer.hash.partition(":")
        if final.is_file() and algorithm == "SHA256" and file_sha256(final) == expected:
            return final
        part = dest / f".{offer.file}.part"
        argv = [HELPER, "-q", "-o", "APT::Status-Fd=1", "download-file", offer.uri, str(part), offer.hash]
        log = paths.logs() / f"apt-{self.suite}-{offer.file}.log"

        def show(line: str) -> None:
            match = re.match(r"^dlstatus:\d+:([\d.]+):", line)
            if match and on_progress:
                on_progress(f"{float(match[1]):.0f} % of {offer.size / 1e6:.1f} MB")

        self._run(kind, argv, log=log, on_line=show, limit=3600)
        if algorithm == "SHA256" and file_sha256(part) != expected:
            raise HashMismatch(f"{offer.file} is not what {MIRROR} announced", hint="run the same again")
        if part.is_symlink():  # a mirror on this disk: apt links to its file
            shutil.copyfile(part, final)
            part.unlink()
        else:
            part.rename(final)
        return final

    def _run(
        self,
        kind: str,
        argv: list[str],
        *,
        success_codes: tuple[int, ...] | None = (0,),
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        limit: float = 120.0,
    ) -> Completed:
        argv = [argv[0], "-c", str(self._root(kind) / "etc" / "apt.conf"), *argv[1:]]
        try:
            return _apt(argv, success_codes=success_codes, log=log, on_line=on_line, limit=limit)
        except CommandFailed as e:
            what = self._redact((e.tail or e.message).encode())
            where = f"; full log: {e.log}" if e.log else ""
            raise SourceUnreachable(
                f"{MIRROR} did not answer as it should: {what}{where}", hint=NO_MIRROR
            ) from e

    def _redact(self, output: bytes) -> str:
        """apt's complaints without the names of mirrors and proxies."""
        lines = output.decode(errors="replace").splitlines()
        said = [line for line in lines if line.startswith(("E:", "W:", "Err:"))] or lines[-3:]
        return redact(" ".join(said), [entry.uri for entry in self._entries()])

    def _no_package(self, name: str) -> SourceUnreachable:
        return SourceUnreachable(
            f"{self.suite} has no package {name} for {self.deb_arch}",
            hint="check the name and the suite in the profile; a package may have left the archive",
        )


def _settle(path: Path, text: str) -> None:
    """Have ``text`` in the file. One that holds it keeps its time: apt makes its cache anew after another."""
    if not path.is_file() or path.read_text() != text:
        write_atomically(path, text)


def _apt(
    argv: list[str],
    *,
    success_codes: tuple[int, ...] | None = (0,),
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    limit: float = 120.0,
) -> Completed:
    try:
        return run(argv, success_codes=success_codes, log=log, on_line=on_line, timeout=limit)
    except ToolMissing:
        raise SourceUnreachable(
            "this host has no apt, so the Debian archive cannot be had through it",
            hint="run on Debian, or give the source with --source",
        ) from None


def _offers(output: str) -> list[Offer]:
    """Lines of ``--print-uris``: ``'URI' FILE SIZE HASH``."""
    lines = re.findall(r"^'([^']+)' (\S+) (\d+) (\S+)$", output, re.MULTILINE)
    return [Offer(uri, file, int(size), digest_) for uri, file, size, digest_ in lines]
