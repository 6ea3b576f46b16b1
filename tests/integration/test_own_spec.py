"""A dist-git's own spec, of RHEL's shape, built in a container whose rpm knows its packages, and judged.

The image's packages are RPMs of ours, indexed by createrepo_c, served on loopback and installed by dnf.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline.abi.files import listings
from pipeline.build import checkout, distgit, supplied
from pipeline.build.builder import Builder
from pipeline.build.options import Options
from pipeline.build.workplace import Workplace
from pipeline.check import Material, registry
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.records import Built
from pipeline.core.run import run
from pipeline.host import image as images
from pipeline.host.image import BuildImage
from pipeline.rpm import package
from pipeline.source import FetchedSource
from tests import rhel_shape, rpmwriter
from tests.distgit_kit import DistGitKit
from tests.tiny_kit import Tiny

pytestmark = pytest.mark.integration


@pytest.fixture
def kit(tmp_path: Path) -> DistGitKit:
    made = DistGitKit.lay_out(tmp_path / "glibc")
    made.write("glibc.spec", rhel_shape.SPEC)
    return made


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def rpm_of(work: Path, name: str, version: str) -> None:
    spec = work / f"{name}.spec"
    spec.write_text(
        f"Name: {name}\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n"
        "%description\nx\n%files\n"
    )
    run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {work}", spec])


def knowing(work: Path, into: Path, versions: dict[str, str]) -> None:
    """Have dnf install these packages below ``into`` from a repository on loopback."""
    work.mkdir()
    for name, version in versions.items():
        rpm_of(work, name, version)
    run(["createrepo_c", "--quiet", work / "RPMS"])
    with served(work / "RPMS") as address:
        run(
            ["dnf", "--quiet", "--assumeyes", f"--installroot={into}", "--releasever=9", "--nogpgcheck",
             "--disablerepo=*", f"--repofrompath=own,{address}", "--setopt=reposdir=/nonexistent",
             f"--setopt=cachedir={work}/cache", "install", *versions],
            env={"no_proxy": "127.0.0.1"}, timeout=300,
        )  # fmt: skip


@pytest.fixture
def image(host_in_a_container: BuildImage, tmp_path: Path) -> Iterator[BuildImage]:
    """The host's tools in a container, and the root below which dnf installs what its rpm is to know."""
    engine = host_in_a_container.engine
    root = tmp_path / "root"
    root.mkdir()
    tag = f"localhost/glibc-pipeline-tests-{os.getpid()}:knowing"

    knowing(tmp_path / "repo", root, {"gcc": "12.2.0", "make": "4.3"})
    exported = tmp_path / "host.tar"
    made = engine.call("create", host_in_a_container.name, "true").text.strip()
    engine.call("export", "--output", exported, made)
    engine.call("rm", made)
    run(["tar", "-C", root, "-xf", exported])
    run(["tar", "-C", root, "-cf", tmp_path / "all.tar", "."])
    engine.call("import", tmp_path / "all.tar", tag)
    found = engine.image_id(tag)
    assert found
    record = host_in_a_container.record.model_copy(update={"id": found})
    try:
        yield BuildImage(engine, tag, record)
    finally:
        engine.call("rmi", "--force", tag)


def no_source() -> FetchedSource:
    raise AssertionError("the profile's source was asked for")


def outcomes(tiny: Tiny, made: Built, directory: Path) -> dict[str, Finding]:
    """What the checks of packages say of one release by itself."""
    material = Material(tiny.profile, host_arch(), {made.target.release: made}, directory)
    asked = ("rpm.payload", "rpm.conflicts", "rpm.install")
    return {f.check: f for c in registry.STATIC if c.name in asked for f in c.run(material)}


def test_an_own_spec_of_rhel_s_shape_is_built_and_judged(
    tiny: Tiny, kit: DistGitKit, image: BuildImage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(images, "ensure", lambda *_, **__: image)

    def built(release: str) -> Built:
        theirs = {release: checkout.fetch(str(kit.directory))}
        return Builder(tiny.profile, no_source, Options(), theirs).build(tiny.target(release))

    theirs = checkout.fetch(str(kit.directory))
    workplace = Workplace(image, "native")
    assert sorted(workplace.run(["rpm", "-qa"]).text.split()) == ["gcc-12.2.0-1.noarch", "make-4.3-1.noarch"]
    read = distgit.read(theirs, tiny.profile, host_arch(), workplace, source=no_source)
    assert (read.own, read.why) == (True, "the container satisfies its BuildRequires")
    assert read.further == ()

    made = built("1.0")
    assert "its own spec (the container satisfies" in str(made.manifest.source)
    rpms = [package.verify(p) for p in made.rpms.glob("*.rpm")]
    names = {r.name for r in rpms if not r.is_source and r.arch == host_arch().name}
    assert names | {"glibc-doc"} == rhel_shape.PACKAGES
    providing = {r.name for r in rpms if any(p.name == "glibc-langpack" for p in r.provides)}
    languages = {f"glibc-langpack-{word}" for word in rhel_shape.LANGUAGES}
    assert providing == {"glibc-minimal-langpack", "glibc-all-langpacks", *languages}
    (db,) = (r for r in rpms if r.name == "nss_db")
    assert [f.path for f in db.files if "build-id" not in f.path] == ["/lib64/libnss_db.so.2"]
    assert "libnss_db.so.2" in {p.name.partition("(")[0] for p in db.provides}
    (headers,) = (r for r in rpms if r.name == "glibc-headers")
    assert f"glibc-headers({host_arch().name})" in {p.name for p in headers.provides}
    assert all("/include/" in f.path for f in headers.files)
    assert not [s for s in listings(made.root)[host_arch().loader].symbols if "rseq" in s.symbol]
    assert [s.symbol for s in listings(made.root)["libnss_db.so.2"].symbols] == ["_nss_db_setpwent"]
    said = outcomes(tiny, made, tmp_path)
    assert {n: f.outcome for n, f in said.items()} == {
        "rpm.payload": Outcome.PASS, "rpm.conflicts": Outcome.PASS, "rpm.install": Outcome.MISSING,
    }  # fmt: skip
    # no inventory of this maker's packages is committed: what they need of others is their own word
    assert "supplied.packages does not say it" in said["rpm.install"].seen

    # beside an i686 package of the same name, as RHEL's repositories have it
    multilib = tmp_path / "multilib"
    shutil.copytree(made.rpms, multilib)
    rpmwriter.write(multilib, "glibc", version="2.36", release="7", arch="i686", items=[])
    given = supplied.supplied(tiny.profile, "1.0", multilib, host_arch())
    assert given is not None
    assert given.manifest.nvr == made.manifest.nvr == "glibc-2.36-7"
    assert not [r.file for r in given.manifest.rpms if "i686" in r.file]
    assert [r.file for r in given.manifest.beside if "i686" in r.file]
    # it takes part in the installation: this one is as no rpm of today writes it, and rpm says so
    beside = outcomes(tiny, given, tmp_path)["rpm.install"]
    assert beside.outcome is Outcome.FAIL
    assert "glibc-2.36-7.i686" in beside.seen

    # no package is the langpack that glibc requires: it could not be installed
    kit.write("glibc.spec", rhel_shape.SPEC.replace("Provides: glibc-langpack", "Provides: other"))
    refused = outcomes(tiny, built("1.0"), tmp_path)["rpm.install"]
    assert refused.outcome is Outcome.FAIL
    assert "glibc-langpack = 2.36-7" in refused.seen


def test_without_its_requirements_the_own_spec_is_not_used(
    tiny: Tiny, kit: DistGitKit, image: BuildImage
) -> None:
    """`%bcond` and versions count: what rpm does not find is named."""
    spec = rhel_shape.SPEC.replace("%bcond_with systemtap", "%bcond_without systemtap")
    kit.write("glibc.spec", spec.replace("make >= 4", "make >= 5"))
    read = distgit.read(
        checkout.fetch(str(kit.directory)), tiny.profile, host_arch(), Workplace(image, "native"),
        source=no_source,
    )  # fmt: skip
    assert read.own is False
    assert read.why.startswith("its own spec needs ")
    assert {"make >= 5", "a-systemtap-that-is-nowhere"} <= set(
        read.why.removeprefix("its own spec needs ").split(", ")
    )
    assert [p.record.file for p in read.patches] == ["glibc-rhel-withdraw.patch", "glibc-rhel-first.patch"]
    assert read.further == ("chmod +x scripts/ldd",)
