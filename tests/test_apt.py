"""The host's apt sources as read, and what a private apt makes of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline import source
from pipeline.core import paths
from pipeline.core.errors import HashMismatch, SourceUnreachable
from pipeline.debian import apt, apt_sources
from pipeline.debian.apt import PrivateApt
from pipeline.debian.apt_sources import AptEntry, for_suite, parse_deb822, parse_one_line
from pipeline.debian.redact import MIRROR, redact
from pipeline.profile import AptSource, Profile
from tests.webserver import Page, Web, serve

KEYRING = "/usr/share/keyrings/debian-archive-bookworm-stable.gpg"
ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb cdrom:[Debian GNU/Linux 12.5.0 _Bookworm_]/ bookworm main
deb http://mirror.example/debian bookworm main contrib non-free-firmware  # the mirror
deb-src http://mirror.example/debian/ bookworm main
deb [ arch=amd64,i386 signed-by=NARROW ] http://mirror.example/debian-security bookworm-security main
deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] https://vendor.example/linux/debian bookworm stable
deb [trusted=yes] https://vendor.example/flat ./
deb https://php.example/php/ bookworm main
deb http://apt.llvm.example/bookworm/ llvm-toolchain-bookworm main
deb https://packages.vendor.example/debian/12/prod bookworm main
nonsense
""".replace("NARROW", KEYRING)

DEB822 = """\
Types: deb deb-src
# a comment within
URIs: http://one.example/debian
 http://two.example/debian/
Suites: trixie trixie-updates
Components: main
Architectures: amd64
Check-Valid-Until: no
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb
URIs: http://keys.example/debian-security
Suites: trixie-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEXEcE6RYJKwYBBAHaRw8BAQdArjWwk3FAqyiFbFBKT4TzXcVBqPTB3gmzlC/U
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: https://deb.node.example/node_20.x
Suites: nodistro
Components: main
Signed-By: /usr/share/keyrings/node.gpg
"""


def test_one_line_entries() -> None:
    entries = parse_one_line(ONE_LINE)
    assert [e.uri for e in entries if e.is_debian] == [
        "http://mirror.example/debian",
        "http://mirror.example/debian/",
        "http://mirror.example/debian-security",
    ]
    security = next(e for e in entries if e.uri.endswith("debian-security"))
    assert security.suites == ("bookworm-security",)
    assert dict(security.options) == {"signed-by": KEYRING}
    assert [e.is_security for e in entries if e.is_debian] == [False, False, True]


def test_deb822_entries(tmp_path: Path) -> None:
    entries = parse_deb822(DEB822)
    assert [e.uri for e in entries] == [
        "http://one.example/debian",
        "http://two.example/debian/",
        "http://keys.example/debian-security",
        "https://deb.node.example/node_20.x",
    ]
    assert [e.is_debian for e in entries] == [True, True, True, False]
    assert dict(entries[0].options) == {
        "check-valid-until": "no",
        "signed-by": "/usr/share/keyrings/debian-archive-keyring.pgp",
    }
    with_files = apt_sources.with_key_files(entries, tmp_path / "keys")
    key = Path(with_files[2].options["signed-by"])
    lines = key.read_text().splitlines()
    assert (lines[0], lines[1], lines[-1]) == (
        "-----BEGIN PGP PUBLIC KEY BLOCK-----",
        "",
        "-----END PGP PUBLIC KEY BLOCK-----",
    )


@pytest.mark.parametrize(
    ("line", "debian"),
    [
        ("deb http://snapshot.example/archive/debian/20250520T000000Z bookworm main", True),
        ("deb mirror+file:/etc/apt/mirrors/debian.list bookworm main", True),
        ("deb http://artifacts.example/repository/debian-remote/ stable main", True),
        (
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://x.example/mine sid main",
            True,
        ),
        ("deb http://x.example/debian bookworm contrib", False),
        ("deb http://x.example/debian jammy main", False),
        ("deb http://x.example/debian-ports sid main", False),
        ("deb http://x.example/ubuntu jammy main", False),
        ("deb [signed-by=/etc/apt/keyrings/corp.gpg] http://x.example/debian bookworm main", False),
    ],
)
def test_which_entries_are_the_debian_archive(line: str, debian: bool) -> None:
    (entry,) = parse_one_line(line)
    assert entry.is_debian is debian


def lines_for(suite: str, text: str) -> list[str]:
    return [e.line("deb", s) for e in for_suite(parse_one_line(text), suite) for s in e.suites]


HOST = (
    "deb http://m.example/debian bookworm main\ndeb http://m.example/debian-security bookworm-security main\n"
)


def test_a_suite_is_rewritten() -> None:
    assert lines_for("trixie", HOST) == [
        "deb http://m.example/debian trixie main",
        "deb http://m.example/debian trixie-updates main",
        "deb http://m.example/debian-security trixie-security main",
    ]
    assert lines_for("bookworm-backports", HOST)[2] == "deb http://m.example/debian bookworm-backports main"
    assert lines_for("sid", HOST) == ["deb http://m.example/debian sid main"]
    assert lines_for("trixie", "deb http://m.example/debian-security bookworm-security main") == []


def test_a_keyring_of_one_release_is_widened_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "debian-archive-keyring.gpg"
    monkeypatch.setattr(apt_sources, "archive_keyring", lambda: whole)
    host = f"deb [signed-by={KEYRING}] http://m.example/debian bookworm main"
    assert f"[signed-by={KEYRING}]" in lines_for("bookworm", host)[0]
    assert f"[signed-by={KEYRING},{whole}]" in lines_for("trixie", host)[0]


def test_files_are_read_in_apts_order_and_others_are_not(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    (parts / "z.list").write_text("deb http://c.example/debian bookworm main\n")
    (parts / "b.sources").write_text(DEB822.partition("\n\n")[0])
    (parts / "gone.list.disabled").write_text("deb http://no.example/debian bookworm main\n")
    found = apt_sources.read_entries(tmp_path / "sources.list", parts)
    assert [e.uri.split("/")[2] for e in found] == ["a.example", "one.example", "two.example", "c.example"]


def test_no_mirror_name_survives() -> None:
    text = (
        "E: Failed to fetch http://m.example:8080/debian/x/InRelease  404  Not Found [IP: 192.0.2.7 80] "
        "W: Could not connect to proxy.corp.example:3128 (198.51.100.4), via http://u:p@proxy.corp.example/ "
        "W: Temporary failure resolving 'cache.corp.example' Could not resolve 'm.example' "
        "E: The repository 'mirror+file:/etc/apt/debian.list x Release'"
    )
    shown = redact(text, ["http://m.example:8080/debian/", "mirror+file:/etc/apt/debian.list"])
    for secret in ("m.example", "192.0.2.7", "198.51.100.4", "u:p", "debian.list", "corp.example"):
        assert secret not in shown
    assert "404  Not Found" in shown


class TestPrivateApt:
    """The real apt, on a small archive served on loopback."""

    @pytest.fixture
    def web(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
        monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
        with serve() as running:
            host = tmp_path / "host"
            (host / "parts").mkdir(parents=True)
            (host / "sources.list").write_text(
                f"deb [trusted=yes] {running.url}/debian trixie main\n"
                f"deb [trusted=yes] {running.url}/other nodistro main\n"
            )
            config = host / "apt.conf"
            config.write_text(
                f'Dir::Etc::sourcelist "{host}/sources.list";\nDir::Etc::sourceparts "{host}/parts";\n'
                'Acquire::http::Proxy::127.0.0.1 "DIRECT";\nAcquire::Retries "0";\n'
                # a host's hook that must not run for us
                f'APT::Update::Post-Invoke-Success {{ "touch {host}/hook-ran"; }};\n'
            )
            monkeypatch.setenv("APT_CONFIG", str(config))
            publish(running, "bookworm")
            yield running

    def test_packages_of_a_foreign_suite_and_architecture(self, web: Web, tmp_path: Path) -> None:
        private = PrivateApt("bookworm", "arm64")
        assert private.candidate("linux-image-cloud-arm64") == "6.1-1"
        real = private.resolve_dependency("linux-image-cloud-arm64", "linux-image-")
        assert real == "linux-image-6.1.0-9-cloud-arm64"
        assert private.resolve_dependency(real, "linux-image-") == real
        got = private.download_package(real, tmp_path / "debs")
        assert got.read_bytes() == b"a deb"
        asked = len(web.asked)
        assert private.download_package(real, tmp_path / "debs") == got
        assert len(web.asked) == asked  # a whole one is kept
        assert not (tmp_path / "host" / "hook-ran").exists()
        with pytest.raises(SourceUnreachable, match="bookworm has no package nothing for arm64"):
            private.candidate("nothing")

    def test_a_source_file(self, web: Web, tmp_path: Path) -> None:
        private = PrivateApt("bookworm", "amd64")
        seen: list[str] = []
        got = private.download_source_file(
            "toy", "toy_1.orig.tar.gz", tmp_path / "src", on_progress=seen.append
        )
        assert hashlib.sha256(got.read_bytes()).hexdigest() == hashlib.sha256(ORIG).hexdigest()
        with pytest.raises(SourceUnreachable, match=r"has no toy_2.orig.tar.gz .*toy_1.orig.tar.gz"):
            private.download_source_file("toy", "toy_2.orig.tar.gz", tmp_path / "src")
        web.pages["/debian/pool/toy_1.orig.tar.gz"].body = b"\0" * len(ORIG)
        with pytest.raises(SourceUnreachable, match="Hash Sum mismatch"):
            private.download_source_file("toy", "toy_1.orig.tar.gz", tmp_path / "src2")

    def test_a_wrong_package_is_refused_and_the_mirror_not_named(self, web: Web, tmp_path: Path) -> None:
        web.pages["/debian/pool/kernel.deb"].body = b"A deb"
        with pytest.raises(SourceUnreachable) as caught:
            PrivateApt("bookworm", "arm64").download_package("linux-image-6.1.0-9-cloud-arm64", tmp_path)
        assert MIRROR in caught.value.message
        assert "127.0.0.1" not in caught.value.message

    def test_lists_are_asked_for_once_an_hour(self, web: Web) -> None:
        def asked() -> int:
            return sum("InRelease" in path for path, _ in web.asked)

        publish(web, "bookworm-updates")  # lists that are not whole are asked for each time
        PrivateApt("bookworm", "amd64").candidate("libc6")
        first = asked()
        assert first > 0
        PrivateApt("bookworm", "amd64").candidate("libc6")
        assert asked() == first
        PrivateApt("bookworm", "amd64").refresh(force=True)
        assert asked() > first
        second = asked()
        PrivateApt("bookworm", "amd64", max_age=0.0).candidate("libc6")
        assert asked() > second

    def test_apts_own_cache_serves_a_later_run(self, web: Web, tmp_path: Path) -> None:
        publish(web, "bookworm-updates")
        PrivateApt("bookworm", "amd64").candidate("libc6")
        cache = tmp_path / "state" / "apt" / "bookworm-amd64" / "pkgcache.bin"
        made = cache.stat().st_mtime_ns
        PrivateApt("bookworm", "amd64").candidate("libc6")
        assert cache.stat().st_mtime_ns == made
        sources = cache.with_name("etc") / "sources.list"
        sources.write_text("# changed\n")
        PrivateApt("bookworm", "amd64").candidate("libc6")
        assert web.url in sources.read_text()  # ours are put back

    def test_old_lists_do_where_the_mirror_is_away(
        self, web: Web, capsys: pytest.CaptureFixture[str]
    ) -> None:
        PrivateApt("bookworm", "amd64").candidate("libc6")
        web.pages.clear()
        time.sleep(0.01)
        assert PrivateApt("bookworm", "amd64", max_age=0.0).candidate("libc6") == "2.36-9"
        shown = capsys.readouterr().err
        assert "did not give" in shown
        assert "127.0.0.1" not in shown
        # and they do not count as young because of it: the mirror is asked again
        publish(web, "bookworm")
        asked = len(web.asked)
        assert PrivateApt("bookworm", "amd64").candidate("libc6") == "2.36-9"
        assert len(web.asked) > asked

    def test_strictly_old_or_incomplete_lists_will_not_do(self, web: Web) -> None:
        """Whoever asks what is published now must not be told what was."""
        with pytest.raises(SourceUnreachable, match="did not give all of bookworm"):
            PrivateApt("bookworm", "amd64", strict=True).refresh()  # there are no updates
        publish(web, "bookworm-updates")
        now = PrivateApt("bookworm", "amd64", max_age=0.0, strict=True)
        assert now.candidate("libc6") == "2.36-9"
        web.pages.clear()
        with pytest.raises(SourceUnreachable, match="did not give"):
            PrivateApt("bookworm", "amd64", max_age=0.0, strict=True).refresh()

    @pytest.mark.usefixtures("web")
    def test_a_suite_that_is_not_there(self) -> None:
        with pytest.raises(SourceUnreachable) as caught:
            PrivateApt("forky", "amd64").candidate("libc6")
        assert "package lists of forky" in caught.value.message
        assert "127.0.0.1" not in caught.value.message
        assert caught.value.hint

    @pytest.mark.usefixtures("web")
    def test_probe(self) -> None:
        PrivateApt("bookworm", "amd64").probe()
        with pytest.raises(SourceUnreachable, match="404"):
            PrivateApt("forky", "amd64").probe()

    def test_lines_for_mmdebstrap(self, web: Web) -> None:
        lines = PrivateApt("bookworm", "amd64").sources_lines()
        assert lines == [
            f"deb [trusted=yes] {web.url}/debian bookworm main",
            f"deb [trusted=yes] {web.url}/debian bookworm-updates main",
        ]
        assert 'Acquire::http::Proxy::127.0.0.1 "DIRECT";' in apt.reaching_options()

    @pytest.mark.usefixtures("web")
    def test_no_debian_mirror(self, tmp_path: Path) -> None:
        (tmp_path / "host" / "sources.list").write_text("deb http://x.example/ubuntu jammy main\n")
        with pytest.raises(SourceUnreachable, match="names no Debian mirror") as caught:
            PrivateApt("bookworm", "amd64").candidate("libc6")
        assert "--source" in caught.value.hint

    @pytest.mark.usefixtures("web")
    def test_no_apt(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        monkeypatch.setattr(
            "pipeline.core.run.clean_environment", lambda extra=None: {"PATH": str(empty), **(extra or {})}
        )
        with pytest.raises(SourceUnreachable, match="has no apt") as caught:
            PrivateApt("bookworm", "amd64").candidate("libc6")
        assert "--source" in caught.value.hint

    @pytest.mark.usefixtures("web")
    def test_nothing_of_the_host_is_used_for_lists(self, tmp_path: Path) -> None:
        PrivateApt("bookworm", "amd64").candidate("libc6")
        root = paths.state() / "apt" / "bookworm-amd64"
        assert any((root / "lists").glob("*Packages*"))
        assert (root / "status").read_bytes() == b""
        assert not any(p.name == "lists" for p in (tmp_path / "host").rglob("*"))

    def test_a_profile_pins_a_source_file(self, web: Web, tmp_path: Path) -> None:
        fetched = source.fetch(pinning(hashlib.sha256(ORIG).hexdigest()))
        assert (fetched.record.kind, fetched.record.pinned) == ("apt", True)
        assert "127.0.0.1" not in fetched.record.origin
        assert (fetched.unpack(tmp_path / "t") / "version.h").is_file()
        web.pages.clear()
        assert source.available(pinning(hashlib.sha256(ORIG).hexdigest())) == (
            True,
            "toy_1.orig.tar.gz is cached",
        )

    @pytest.mark.usefixtures("web")
    def test_what_the_archive_has_but_the_profile_does_not_pin_is_refused(self) -> None:
        with pytest.raises(HashMismatch, match=f"{hashlib.sha256(ORIG).hexdigest()}, not {'0' * 64}"):
            source.fetch(pinning("0" * 64))
        (aside,) = (paths.state() / "quarantine").iterdir()
        assert aside.read_bytes() == ORIG

    def test_an_archive_that_is_away_names_each_way_to_supply_the_source(self, web: Web) -> None:
        web.pages.clear()
        profile = pinning("0" * 64)
        ok, why = source.available(profile)
        assert not ok
        assert "127.0.0.1" not in why
        with pytest.raises(SourceUnreachable) as caught:
            source.fetch(profile)
        for way in (
            "debian.sources",
            "tarball:",
            "git:",
            "dir:",
            str(paths.state() / "sources" / ("0" * 64)),
        ):
            assert way in caught.value.hint


def pinning(sha256: str) -> Profile:
    pin = AptSource(
        kind="apt", suite="bookworm", package="toy", file="toy_1.orig.tar.gz", sha256=sha256, topdir="toy-1"
    )
    return profiles.load("bookworm").model_copy(update={"source": pin})


def _orig() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("toy-1/version.h"))
    return raw.getvalue()


ORIG = _orig()


def publish(web: Web, suite: str) -> None:
    """A whole archive of three packages and one source."""
    deb = b"a deb"

    def package(name: str, arch: str, version: str, depends: str = "") -> str:
        return (
            f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: x\n"
            + (f"Depends: {depends}\n" if depends else "")
            + f"Filename: pool/kernel.deb\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n"
            "Description: x\n\n"
        )

    real = "linux-image-6.1.0-9-cloud-arm64"
    dsc = b"x"
    files = {
        "main/binary-amd64/Packages": package("libc6", "amd64", "2.36-9"),
        "main/binary-arm64/Packages": package("libc6", "arm64", "2.36-9")
        + package("linux-image-cloud-arm64", "arm64", "6.1-1", f"linux-base (>= 1) | y, {real} (= 6.1-1)")
        + package(real, "arm64", "6.1-1", "linux-base"),
        "main/source/Sources": "Package: toy\nBinary: toy\nVersion: 1-1\nFormat: 3.0 (quilt)\n"
        "Directory: pool\nArchitecture: any\nChecksums-Sha256:\n"
        f" {hashlib.sha256(dsc).hexdigest()} {len(dsc)} toy_1-1.dsc\n"
        f" {hashlib.sha256(ORIG).hexdigest()} {len(ORIG)} toy_1.orig.tar.gz\n\n",
    }
    release = (
        f"Origin: Debian\nSuite: oldstable\nCodename: {suite}\nArchitectures: amd64 arm64\nComponents: main\n"
        "Date: Sat, 01 Jun 2024 00:00:00 UTC\nAcquire-By-Hash: no\nSHA256:\n"
    )
    base = f"/debian/dists/{suite}"
    for name, text in files.items():
        for suffix, data in (("", text.encode()), (".gz", gzip.compress(text.encode(), mtime=0))):
            web.pages[f"{base}/{name}{suffix}"] = Page(data)
            release += f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}{suffix}\n"
    # unsigned: the entry says trusted=yes
    web.pages[f"{base}/Release"] = Page(release.encode())
    web.pages[f"{base}/InRelease"] = Page(release.encode())
    web.pages["/debian/pool/kernel.deb"] = Page(deb)
    web.pages["/debian/pool/toy_1-1.dsc"] = Page(dsc)
    web.pages["/debian/pool/toy_1.orig.tar.gz"] = Page(ORIG)


def test_an_entry_without_options_has_no_brackets() -> None:
    assert AptEntry("http://m.example/debian", ("sid",), ("main",)).line("deb", "sid") == (
        "deb http://m.example/debian sid main"
    )
