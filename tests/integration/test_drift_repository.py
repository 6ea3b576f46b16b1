"""Drift against a real repository: RPMs by rpmbuild, indexed by createrepo_c, served on loopback."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from pipeline.core import paths
from pipeline.core.run import run
from pipeline.source import download
from tests import webserver
from tests.drift import kit
from tests.drift.kit import ARCH, LD, LOADER, LOADER_RSEQ, call
from tests.elf_fixtures import LIBC, Dso, release_root
from tests.webserver import Page, Web

pytestmark = pytest.mark.integration

SPEC = r"""
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
Name: glibc
Version: 2.34
Release: %{its_release}
Summary: Small DSOs in the place of the GNU libc
License: LGPL-2.1-or-later
%description
Small DSOs.
%install
cp -a %{its_root}/. %{buildroot}/
%files
/lib64/*
"""
HOME = 'name = "repo"\nkind = "dnf"\nagainst = "baseline:el9/9.0"\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BASELINES", tmp_path / "abi-baselines")
    monkeypatch.setattr(download, "PAUSE", 0.01)
    kit.commit_baseline(tmp_path)


def build(into: Path, release: str, loader: Dso = LOADER, libc: Dso = LIBC) -> Path:
    """A real RPM, made by rpmbuild."""
    with tempfile.TemporaryDirectory() as top:
        root = release_root(Path(top) / "root", loader, libc)
        spec = Path(top) / "glibc.spec"
        spec.write_text(SPEC)
        defines = {
            "_topdir": top,
            "_rpmdir": str(into),
            "_rpmfilename": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
            "its_release": release,
            "its_root": str(root),
        }
        options = [a for k, v in defines.items() for a in ("--define", f"{k} {v}")]
        run(["rpmbuild", "-bb", "--target", ARCH, *options, spec], env={"HOME": top})
    return into / f"glibc-2.34-{release}.{ARCH}.rpm"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Releases of glibc: as the baseline, and three that drift in one way each."""
    top = tmp_path_factory.mktemp("rpms")
    return {
        "same": build(top, "9.el9"),
        "adds": build(top, "10.el9", LOADER_RSEQ),
        "withdraws": build(top, "11.el9", libc=kit.LIBC_LESS),
    }


@pytest.fixture
def web() -> Iterator[Web]:
    with webserver.serve() as running:
        yield running


def repository(tmp_path: Path, *rpms: Path, options: tuple[str, ...] = ()) -> Path:
    """A directory that createrepo_c has indexed."""
    top = Path(tempfile.mkdtemp(prefix="repo-", dir=tmp_path))
    (top / "Packages").mkdir()
    for rpm in rpms:
        (top / "Packages" / rpm.name).write_bytes(rpm.read_bytes())
    if not any(option.startswith("--general-compress-type") for option in options):
        options = ("--general-compress-type=gz", *options)  # from 1.0 on, its default is zstd
    run(["createrepo_c", "--quiet", *options, top])
    return top


def publish(web: Web, top: Path, at: str = "/repo") -> str:
    for file in top.rglob("*"):
        if file.is_file():
            web.pages[f"{at}/{file.relative_to(top)}"] = Page(file.read_bytes())
    return f"{web.url}{at}/"


def primary_of(web: Web, at: str = "/repo") -> str:
    return next(p for p in web.pages if p.startswith(at) and "-primary.xml" in p)


def source(tmp_path: Path, *lines: str) -> Path:
    return kit.sources(tmp_path, HOME + "\n".join(lines))


def look(tmp_path: Path, file: Path) -> tuple[int, dict[str, object]]:
    out = tmp_path / "o.json"
    code = call("--sources", file, "--json", out).return_value
    (record,) = json.loads(out.read_text())["looks"]
    return code, record


def text(record: dict[str, object]) -> str:
    return str(record["message"])


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_a_repository_as_it_should_be(
    tmp_path: Path, web: Web, packages: dict[str, Path], compression: str
) -> None:
    options = (f"--general-compress-type={compression}",) if compression else ()
    top = repository(tmp_path, packages["same"], options=options)
    url = publish(web, top)
    code, record = look(tmp_path, source(tmp_path, f'baseurl = ["{url}"]'))
    assert (code, record["sight"]) == (0, "no drift"), record
    assert primary_of(web).endswith(compression or "gz")
    assert record["dsos"] == 3


def recompressed(top: Path, suffix: str, data: bytes) -> None:
    """createrepo_c of Debian 12 does not know zstd: the index with another compression of primary."""
    repomd = (top / "repodata" / "repomd.xml").read_text()
    block = next(b for b in re.findall(r"<data .*?</data>", repomd, re.S) if 'type="primary"' in b)
    new = re.sub(
        r"(<checksum type=\"sha256\">)\w+", rf"\g<1>{hashlib.sha256(data).hexdigest()}", block, count=1
    )
    new = re.sub(r"<size>\d+", f"<size>{len(data)}", new)
    new = re.sub(r'href="[^"]+"', f'href="repodata/the-primary.xml{suffix}"', new)
    (top / "repodata" / "repomd.xml").write_text(repomd.replace(block, new))
    (top / "repodata" / f"the-primary.xml{suffix}").write_bytes(data)


def plain_primary(top: Path) -> bytes:
    return gzip.decompress(next((top / "repodata").glob("*-primary.xml.gz")).read_bytes())


def test_zstd(tmp_path: Path, web: Web, packages: dict[str, Path]) -> None:
    top = repository(tmp_path, packages["same"])
    recompressed(top, ".zst", zstandard.compress(plain_primary(top)))
    code, record = look(tmp_path, source(tmp_path, f'baseurl = ["{publish(web, top)}"]'))
    assert code == 0, record
    assert "/repo/repodata/the-primary.xml.zst" in [path for path, _ in web.asked]


def test_an_update_that_adds_symbols(tmp_path: Path, web: Web, packages: dict[str, Path]) -> None:
    """9 to 10: the newest by version, not by name."""
    url = publish(web, repository(tmp_path, packages["same"], packages["adds"]))
    code, record = look(tmp_path, source(tmp_path, f'baseurl = ["{url}"]'))
    assert (code, record["sight"]) == (1, "drift")
    changes = record["changes"]
    assert isinstance(changes, list)
    assert [(c["sign"], c["dso"], c["node"], c["symbol"], c["size"], c["package"]) for c in changes] == [
        ("+", LD, "GLIBC_2.35", symbol, size, "glibc-2.34-10.el9")
        for symbol, size in (("__rseq_flags", 4), ("__rseq_offset", 8), ("__rseq_size", 4))
    ]


def test_an_update_that_withdraws_one(tmp_path: Path, web: Web, packages: dict[str, Path]) -> None:
    url = publish(web, repository(tmp_path, *packages.values()))
    code, record = look(tmp_path, source(tmp_path, f'baseurl = ["{url}"]'))
    changes = record["changes"]
    assert isinstance(changes, list)
    assert code == 1
    assert [(c["sign"], c["dso"], c["symbol"]) for c in changes] == [("-", "libc.so.6", "stdout")]


def test_tampered_index_or_package_is_named(tmp_path: Path, web: Web, packages: dict[str, Path]) -> None:
    url = publish(web, repository(tmp_path, packages["same"]))
    file = source(tmp_path, f'baseurl = ["{url}"]')
    rpm = f"/repo/Packages/{packages['same'].name}"
    for path in (primary_of(web), rpm):
        whole = web.pages[path].body
        web.pages[path] = Page(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        code, record = look(tmp_path, file)
        assert (code, record["sight"]) == (4, "could not look")
        assert path.rpartition("/")[2] in text(record)
        assert "altered" in text(record)
        web.pages[path] = Page(whole)
    assert look(tmp_path, file)[0] == 0


def test_an_index_that_is_no_index(tmp_path: Path, web: Web, packages: dict[str, Path]) -> None:
    top = repository(tmp_path, packages["same"])
    publish(web, top)
    file = source(tmp_path, f'baseurl = ["{web.url}/repo"]')
    for body, says in (
        (b"<html>moved</html>", "names no primary"),
        (b"\0\1", "is not XML"),
        (b"", "is not XML"),
    ):
        web.pages["/repo/repodata/repomd.xml"] = Page(body)
        code, record = look(tmp_path, file)
        assert (code, record["sight"]) == (4, "could not look")
        assert says in text(record)
    for href in ("../../etc/passwd", "http://127.0.0.1:1/x.rpm"):
        top = repository(tmp_path, packages["same"])
        evil = plain_primary(top).replace(f"Packages/{packages['same'].name}".encode(), href.encode())
        recompressed(top, ".xz", lzma.compress(evil))
        publish(web, top)
        code, record = look(tmp_path, file)
        assert code == 4
        assert re.search("leads out of the repository|not the name of an RPM", text(record))
    cut = lzma.compress(plain_primary(top))[:-200]
    recompressed(top, ".xz", cut)
    publish(web, top)
    assert look(tmp_path, file)[0] == 4


def test_weak_checksums_prove_nothing(tmp_path: Path, web: Web, packages: dict[str, Path]) -> None:
    top = repository(tmp_path, packages["same"])
    repomd = top / "repodata" / "repomd.xml"  # createrepo_c from 1.0 on does not write sha1 any more
    primary = next((top / "repodata").glob("*-primary.xml.gz")).read_bytes()
    strong, weak = (f">{hashlib.new(name, primary).hexdigest()}</checksum>" for name in ("sha256", "sha1"))
    repomd.write_text(repomd.read_text().replace(strong, weak).replace('"sha256"', '"sha1"'))
    url = publish(web, top)
    code, record = look(tmp_path, source(tmp_path, f'baseurl = ["{url}"]'))
    assert code == 4
    assert "proves nothing" in text(record)
    url = publish(web, repository(tmp_path, packages["same"], options=("--checksum=sha512",)), "/strong")
    assert look(tmp_path, source(tmp_path, f'baseurl = ["{url}"]'))[0] == 0


def test_empty_and_unreachable_and_gone(tmp_path: Path, web: Web) -> None:
    url = publish(web, repository(tmp_path))
    code, record = look(tmp_path, source(tmp_path, f'baseurl = ["{url}"]'))
    assert (code, record["sight"]) == (3, "nothing there")
    for dead in (f"{web.url}/gone/", "http://127.0.0.1:1/repo/", "http://no-such-host.invalid/"):
        code, record = look(tmp_path, source(tmp_path, f'baseurl = ["{dead}"]'))
        assert (code, record["sight"]) == (4, "could not look")
        assert dead in text(record)


def test_a_mirrorlist_whose_first_mirror_is_dead(tmp_path: Path, web: Web, packages: dict[str, Path]) -> None:
    url = publish(web, repository(tmp_path, packages["same"]), f"/{ARCH}/os")
    listed = f"# mirrors\nhttp://127.0.0.1:1/dead/\n{web.url}/gone/\n{url.replace(ARCH, '$basearch')}\n"
    web.pages["/mirrors"] = Page(listed.encode())
    code, record = look(tmp_path, source(tmp_path, f'mirrorlist = "{web.url}/mirrors"'))
    assert code == 0, record


def metalink(web: Web, digest: str, *urls: str) -> None:
    lines = "".join(
        f'<url protocol="http" type="http" preference="{100 - n}">{u}repodata/repomd.xml</url>'
        for n, u in enumerate(urls)
    )
    web.pages["/metalink"] = Page(
        f'<?xml version="1.0"?><metalink version="3.0" xmlns="http://www.metalinker.org/"><files>'
        f'<file name="repomd.xml"><verification><hash type="md5">{"0" * 32}</hash>'
        f'<hash type="sha256">{digest}</hash></verification><resources>{lines}</resources></file>'
        f"</files></metalink>".encode()
    )


def test_a_metalink_vouches_for_the_index(tmp_path: Path, web: Web, packages: dict[str, Path]) -> None:
    """A mirror with another, consistent index (an old one, or a forged one) is passed over."""
    good, old = repository(tmp_path, packages["adds"]), repository(tmp_path, packages["same"])
    good_url, old_url = publish(web, good, "/good"), publish(web, old, "/old")
    digest = hashlib.sha256((good / "repodata" / "repomd.xml").read_bytes()).hexdigest()
    file = source(tmp_path, f'metalink = "{web.url}/metalink"')
    metalink(web, digest, "http://127.0.0.1:1/dead/", old_url, good_url)
    code, record = look(tmp_path, file)
    assert (code, record["sight"]) == (1, "drift"), record
    metalink(web, digest, old_url)
    code, record = look(tmp_path, file)
    assert (code, record["sight"]) == (4, "could not look")
    assert "/old/repodata/repomd.xml" in text(record)
    assert "altered" in text(record)
    web.pages["/metalink"] = Page(b"<metalink/>")
    assert look(tmp_path, file)[0] == 4
