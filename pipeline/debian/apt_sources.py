"""The host's own apt sources, read, sifted and rewritten to a suite.

Both formats apt knows are read: one line an entry (``.list``) and deb822 stanzas (``.sources``), see
sources.list(5). Only what looks like the Debian archive itself is kept; a host's other repositories have
other keys and other suites.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from pipeline.core.run import run

#: deb822 fields and one-line options that choose what is fetched; ours are asked for instead.
CHOOSING = frozenset(
    (
        *("arch", "lang", "target", "architectures", "languages", "targets", "suites", "components"),
        *("uris", "types", "enabled", "description", "x-repolib-name"),
    )
)
#: Suites of the Debian archive by code name and by role.
RELEASES = (
    *("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid", "experimental"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
)
#: Suites that have neither updates nor a security archive.
ROLLING = frozenset(("sid", "unstable", "experimental"))
_SUITE = re.compile(
    rf"^(?P<base>{'|'.join(RELEASES)})(?P<rest>(-updates|-security|/updates|-proposed-updates|-backports(-sloppy)?)?)$"
)
_SNAPSHOT = re.compile(r"^\d{8}T\d{6}Z$")
_NO_MIRRORS = ("debian-ports", "debian-debug", "debian-lts", "debian-elts", "debian-multimedia")


@dataclass(frozen=True)
class AptEntry:
    """One archive: ``options`` are sources.list options by their one-line names (``signed-by``)."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def line(self, kind: str, suite: str, **more: str) -> str:
        """``deb [signed-by=…] URI SUITE COMPONENTS``."""
        options = {**self.options, **more}
        bracket = "[" + " ".join(f"{k}={v}" for k, v in options.items()) + "] " if options else ""
        return f"{kind} {bracket}{self.uri} {suite} {' '.join(self.components)}"

    @property
    def is_security(self) -> bool:
        """Whether this is the archive of security updates."""
        named = all("-security" in s or s.endswith("/updates") for s in self.suites)
        return named or _place(self.uri).startswith("debian-security")

    @property
    def is_debian(self) -> bool:
        """Whether this is the Debian archive or a mirror of it, as far as its entry tells.

        Its suites and its component ``main`` are Debian's, and either its keyring is Debian's or, where
        the entry leaves the key to the host, the last part of its address is ``debian…``.
        """
        if "main" not in self.components or not any(_SUITE.match(s) for s in self.suites):
            return False
        if self.uri.startswith("cdrom:"):
            return False
        keys = self.options.get("signed-by", "")
        if keys.startswith("/"):
            return any(Path(k).name.startswith("debian-archive") for k in keys.split(","))
        return _place(self.uri).startswith("debian") and _place(self.uri) not in _NO_MIRRORS


def _place(uri: str) -> str:
    """The part of an address that names the archive: ``debian``, ``debian-security``, ``debian.list``."""
    parts = [p for p in re.sub(r"^[^:]+:", "", uri).split("/") if p]
    while parts and _SNAPSHOT.match(parts[-1]):  # a dated copy, as snapshot archives name it
        parts.pop()
    return parts[-1] if parts else ""


def parse_one_line(text: str) -> list[AptEntry]:
    """Entries of a ``.list`` file; what is not an entry is passed over, as apt's own check is stricter."""
    entries = []
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip()
        match = re.match(r"^deb(?:-src)?\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<rest>\S.*)$", line)
        if not match:
            continue
        options: dict[str, str] = {}
        for item in (match["options"] or "").split():
            name, sign, value = item.partition("=")
            if sign and name.rstrip("+-").lower() not in CHOOSING:
                options[name.lower()] = value
        words = match["rest"].split()
        if len(words) >= 2:
            entries.append(AptEntry(words[0], (words[1],), tuple(words[2:]), MappingProxyType(options)))
    return entries


def parse_deb822(text: str) -> list[AptEntry]:
    """Entries of a ``.sources`` file, one for each address of a stanza; disabled stanzas are left out.

    A key written into the stanza itself is kept as the value of ``signed-by`` (see `with_key_files`).
    """
    entries = []
    for stanza in re.split(r"\n(?:[ \t]*\n)+", _without_comments(text)):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() in ("no", "false", "without", "off", "disable"):
            continue
        options = {}
        for key, value in fields.items():
            if key in CHOOSING or not value:
                continue
            inline = "-----BEGIN" in value
            options[key] = value.strip() if inline else ",".join(value.replace(",", " ").split())
        suites = tuple(fields.get("suites", "").split())
        components = tuple(fields.get("components", "").split())
        entries += [
            AptEntry(uri, suites, components, MappingProxyType(options))
            for uri in fields.get("uris", "").split()
        ]
    return entries


def _without_comments(text: str) -> str:
    return "\n".join(line.rstrip("\r") for line in text.splitlines() if not line.startswith("#"))


def read_entries(sourcelist: Path, sourceparts: Path) -> list[AptEntry]:
    """All entries of a sources.list and the directory beside it, in apt's order."""
    entries: list[AptEntry] = []
    files = [sourcelist]
    if sourceparts.is_dir():
        files += sorted(p for p in sourceparts.iterdir() if p.suffix in (".list", ".sources"))
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:  # not there, or private to root: nothing that we could use
            continue
        entries += parse_deb822(text) if file.suffix == ".sources" else parse_one_line(text)
    return entries


def host_entries() -> list[AptEntry]:
    """What the host's own apt configuration names. Raises `ToolMissing` where there is no apt."""
    shown = run(
        ["apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]
    ).text
    where = dict(word.split("=", 1) for word in shlex.split(shown))
    return read_entries(
        Path(where.get("LIST", "/etc/apt/sources.list")), Path(where.get("PARTS", "/etc/apt/sources.list.d"))
    )


def base_of(suite: str) -> str:
    """``bookworm-backports`` -> ``bookworm``; an unknown name is its own base."""
    match = _SUITE.match(suite)
    return match["base"] if match else suite


def for_suite(entries: Iterable[AptEntry], suite: str) -> list[AptEntry]:
    """The host's Debian archives, each once, with the suites that make up ``suite``.

    The first entries hold the suite itself; updates and security follow for a released suite. Empty if
    the host has no Debian mirror.
    """
    base = base_of(suite)
    main: dict[str, AptEntry] = {}
    security: dict[str, AptEntry] = {}
    for entry in entries:
        if not entry.is_debian:
            continue
        foreign = base not in {base_of(s) for s in entry.suites}
        kept = replace(entry, components=("main",), options=_keys(entry.options, foreign=foreign))
        if entry.is_security:
            suites: tuple[str, ...] = () if base in ROLLING else (f"{base}-security",)
            security.setdefault(entry.uri.rstrip("/"), replace(kept, suites=suites))
        else:
            suites = (base,) if base in ROLLING else (base, f"{base}-updates")
            suites += (suite,) if suite not in suites else ()
            main.setdefault(entry.uri.rstrip("/"), replace(kept, suites=suites))
    return [*main.values(), *security.values()] if main else []


def _keys(options: Mapping[str, str], *, foreign: bool) -> Mapping[str, str]:
    """A foreign suite may be signed by keys that a keyring of one release does not hold."""
    keys = options.get("signed-by", "")
    whole = archive_keyring()
    if not foreign or not keys.startswith("/") or whole is None or str(whole) in keys.split(","):
        return options
    return MappingProxyType({**options, "signed-by": f"{keys},{whole}"})


def archive_keyring() -> Path | None:
    """The keyring of all Debian releases that the host has, if any (``.pgp`` from Debian 13 on)."""
    for suffix in ("gpg", "pgp"):
        keyring = Path(f"/usr/share/keyrings/debian-archive-keyring.{suffix}")
        if keyring.is_file():
            return keyring
    return None


def with_key_files(entries: Sequence[AptEntry], directory: Path) -> list[AptEntry]:
    """Entries whose keys were written into the stanza, with those keys in files below ``directory``."""
    done = []
    for number, entry in enumerate(entries):
        key = entry.options.get("signed-by", "")
        if "-----BEGIN" in key:
            file = directory / f"key-{number}.asc"
            file.parent.mkdir(parents=True, exist_ok=True)
            # in deb822 a blank line is written as a single dot
            file.write_text("\n".join("" if line == "." else line for line in key.splitlines()) + "\n")
            done.append(replace(entry, options=MappingProxyType({**entry.options, "signed-by": str(file)})))
        else:
            done.append(entry)
    return done
