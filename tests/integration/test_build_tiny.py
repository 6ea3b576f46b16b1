"""The build step whole, with the real rpmbuild, on a tree that builds in a second."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.abi.files import listings
from pipeline.build import rpmbuild
from pipeline.build.every import build_all
from pipeline.build.options import Options
from pipeline.build.stored import MANIFEST, MANIFEST_SEAL
from pipeline.core import paths
from pipeline.core.arch import ARCHES, host_arch
from pipeline.core.errors import CommandFailed, EvidenceError, ExitCode, UsageError
from pipeline.core.outcome import Target
from pipeline.core.records import Built
from pipeline.core.run import run
from pipeline.core.store import file_sha256
from pipeline.host import image as images
from pipeline.host.image import BuildImage
from pipeline.rpm import package
from tests.tiny_kit import TREE, Tiny

pytestmark = pytest.mark.integration

MACHINE = host_arch().name
PACKAGES = {"glibc", "glibc-common", "glibc-devel", "glibc-static", "glibc-utils", "glibc-debuginfo"}


def half_written(state: Path) -> list[Path]:
    return [p for p in (state / "build").glob(".*") if not p.name.endswith(".lock")]


def names(built: Built) -> set[str]:
    return {package.verify(built.rpms / r.file).name for r in built.manifest.rpms}


def rseq_symbols(built: Built) -> set[str]:
    return {s.symbol for s in listings(built.root)[host_arch().loader].symbols if "rseq" in s.symbol}


def test_two_releases_from_source_to_root(tiny: Tiny, state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    builder = tiny.builder()
    assert builder.find(tiny.target("1.0")) is None
    made = build_all(builder, [tiny.target("1.0"), tiny.target("1.1")])[MACHINE]
    old, new = made["1.0"], made["1.1"]
    assert names(old) == names(new) == PACKAGES
    assert rseq_symbols(old) == set()
    assert len(rseq_symbols(new)) == 3

    manifest = old.manifest
    assert (manifest.nvr, manifest.mode, manifest.place, manifest.hermetic) == (
        "glibc-2.36-1.t1_0", "native", "host", False,
    )  # fmt: skip
    assert [p.file for p in manifest.patches] == ["0001-withdraw.patch"]
    assert new.manifest.patches == ()
    assert manifest.image is None
    assert manifest.source is not None
    assert (manifest.source.kind, manifest.source.pinned) == ("dir", False)
    assert {r.file for r in manifest.rpms} == {f"{n}-2.36-1.t1_0.{MACHINE}.rpm" for n in PACKAGES}
    for record in manifest.rpms:
        assert file_sha256(old.rpms / record.file) == record.sha256
    assert old.rpm("glibc").name == f"glibc-2.36-1.t1_0.{MACHINE}.rpm"
    assert manifest.key == builder.make(tiny.target("1.0")).key

    # the second release finds what the first compiled, and nothing of the work is left
    assert sum(n for k, n in new.manifest.ccache.items() if k.endswith("hit")) > 0
    entry = builder.make(tiny.target("1.0"))
    kept = ["RPMS", "inputs.json", "manifest.json", "manifest.sha256", "warnings.json"]
    assert sorted(p.name for p in entry.path.iterdir()) == kept
    assert half_written(state) == []

    # a rerun, in another process too, does nothing
    capfd.readouterr()
    log = paths.logs() / f"build-tiny-1.0-{MACHINE}.log"
    before = log.stat().st_mtime_ns
    assert builder.make(tiny.target("1.0")).reused
    done = tiny.call("build")
    assert done.returncode == ExitCode.PASS, done.stderr
    assert f"tiny/1.0/{MACHINE}" in done.stdout
    assert str(old.rpms) in done.stdout
    assert "build tiny" not in done.stderr
    assert log.stat().st_mtime_ns == before


def test_the_source_rpm_holds_everything_and_builds_without_us(tiny: Tiny, tmp_path: Path) -> None:
    built = tiny.builder().build(tiny.target("1.0"))
    assert built.manifest.srpm is not None
    srpm = built.rpms / built.manifest.srpm.file
    assert srpm.name == "glibc-2.36-1.t1_0.src.rpm"
    inside = set(run(["rpm", "-qpl", srpm]).text.split())
    assert inside == {"glibc.spec", "release.inc", "patches.inc", "glibc.tar", "0001-withdraw.patch"}
    top = tmp_path / "elsewhere"
    headers = ["--define", f"kernel_headers {_headers(tmp_path)}"]  # as Debian has them in two directories
    run(["rpmbuild", "--rebuild", "--nodeps", "--define", f"_topdir {top}", *headers, srpm],
        log=tmp_path / "rebuild.log")  # fmt: skip
    again = {package.verify(p).name for p in top.glob("RPMS/*/*.rpm")}
    assert again == PACKAGES


def test_macros_that_add_debuginfo_to_every_spec_do_not_harm(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Red Hat's do: a second package of that name is an error, which our spec and our options prevent."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".rpmmacros").write_text(
        "%_enable_debug_packages 1\n"
        "%install %{?_enable_debug_packages:%{?buildsubdir:%{debug_package}}}\\\n%%install\\\n%{nil}\n"
    )
    others = tmp_path / "specs"  # a dist-git's spec, that knows nothing of this
    others.mkdir()
    spec = (paths.SPECS / "glibc.spec").read_text()
    assert spec.count("%undefine _enable_debug_packages\n") == 2
    (others / "glibc.spec").write_text(spec.replace("%undefine _enable_debug_packages\n", ""))
    with monkeypatch.context() as patch:
        patch.setattr(rpmbuild, "_NO_SECOND_DEBUGINFO", ())
        assert names(tiny.builder().build(tiny.target("1.0"))) == PACKAGES
    monkeypatch.setattr(paths, "SPECS", others)
    assert names(tiny.builder().build(tiny.target("1.0"))) == PACKAGES
    monkeypatch.setattr(rpmbuild, "_NO_SECOND_DEBUGINFO", ())
    with pytest.raises(CommandFailed):
        tiny.builder().build(tiny.target("1.1"))


def _headers(directory: Path) -> Path:
    headers = directory / "headers"
    headers.mkdir()
    own = Path("/usr/include") / host_arch().triplet / "asm"
    for where in (
        "/usr/include/linux",
        "/usr/include/asm-generic",
        own if own.is_dir() else "/usr/include/asm",
    ):
        (headers / Path(where).name).symlink_to(where)
    return headers


def in_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another state directory, and a copy of the tree with other times and modes, which count for nothing."""
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "another" / "state-of-another-length"))
    tree = tmp_path / "copy" / TREE.name
    shutil.copytree(TREE, tree)
    for file in tree.rglob("*"):
        os.utime(file, (1e9, 1e9))
        file.chmod(0o775 if file.stat().st_mode & 0o100 else 0o660)
    return tree


def test_two_builds_on_the_host_differ_only_in_where_they_were_made(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rpm writes the spec with its paths into the source RPM, and the source RPM's MD5 into every RPM."""
    first = tiny.builder().build(tiny.target("1.0"))
    second = tiny.builder(tree=in_another_place(tmp_path, monkeypatch)).build(tiny.target("1.0"))
    assert second.manifest.key == first.manifest.key
    for record in first.manifest.rpms:
        one, other = (_tags(built.rpms / record.file) for built in (first, second))
        differ = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
        assert differ <= {"Sourcepkgid", "Sigmd5", "Sha1header", "Sha256header"}, record.file
        assert "Payloaddigest" in one


def _tags(rpm: Path) -> dict[str, str]:
    """Every tag of a package, payload digests among them."""
    text = run(["rpm", "-qp", "--xml", rpm]).text
    return dict(re.findall(r'<rpmTag name="(\w+)">(.*?)</rpmTag>', text, re.DOTALL))


def test_two_builds_in_a_container_are_the_same_bytes(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host_in_a_container: BuildImage
) -> None:
    first = tiny.builder(image=host_in_a_container).build(tiny.target("1.0")).manifest
    tree = in_another_place(tmp_path, monkeypatch)
    second = tiny.builder(tree=tree, image=host_in_a_container).build(tiny.target("1.0")).manifest
    assert (first.place, first.hermetic, first.image) == ("container", True, host_in_a_container.record)
    assert second.key == first.key
    assert second.rpms == first.rpms
    assert second.srpm == first.srpm
    assert not [k for k, n in second.ccache.items() if k.endswith("cache_hit") and n]


def test_the_real_build_image_builds_it_too_where_there_is_one(
    tiny: Tiny, host_in_a_container: BuildImage
) -> None:
    """Making that image takes minutes, so where it is not there the same is asked of the host's tools."""
    image = images.find(profiles.load("bookworm")) or host_in_a_container
    old, new = (tiny.builder(image=image).build(tiny.target(r)) for r in ("1.0", "1.1"))
    assert names(old) == names(new) == PACKAGES
    assert (len(rseq_symbols(old)), len(rseq_symbols(new))) == (0, 3)
    assert sum(n for k, n in new.manifest.ccache.items() if k.endswith("cache_hit")) > 0


SLOW_LINK = "; $(dso) -Wl,--version-script,$(srcdir)/csu/libc.map -o $@ libc.o"


def test_an_interrupted_build_in_a_container_ends_the_container(
    tiny: Tiny, state: Path, host_in_a_container: BuildImage
) -> None:
    """rpmbuild is the container's first process, which does not hear SIGTERM, and is no child of ours."""
    tiny.add("1.0", "0002-slow.patch", "Makerules", SLOW_LINK, f"{SLOW_LINK}\n\ttouch here; sleep 600")
    thread = threading.Thread(target=_interrupt_when_it_is_there, args=(state,))
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        tiny.builder(image=host_in_a_container).make(tiny.target("1.0"))
    thread.join()
    assert half_written(state) == []
    running = host_in_a_container.engine.call("ps", "--all", "--format", "{{.Image}}").text.split()
    assert host_in_a_container.name not in running


def _interrupt_when_it_is_there(state: Path) -> None:
    end = time.monotonic() + 120
    while not list((state / "build").glob(".*.tmp-*/rpmbuild/BUILD/**/here")) and time.monotonic() < end:
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_hunk_that_does_not_fit_is_shown_with_file_and_line(tiny: Tiny, state: Path) -> None:
    patch = tiny.add("1.0", "0002-bad.patch", "csu/libc.c", "return s[0]", "return s[1]")
    patch.write_text(patch.read_text().replace("-  return s[0]", "-  return t[0]"))
    with pytest.raises(UsageError) as failed:
        tiny.builder().make(tiny.target("1.0"))
    assert f"{patch}:10: this hunk does not fit csu/libc.c:6" in failed.value.message
    assert half_written(state) == []
    done = tiny.call("build", "--release", "1.0")
    assert done.returncode == ExitCode.WRONG_USE
    assert f"{patch}:10:" in done.stderr
    assert "what to do:" in done.stderr


def test_a_patch_that_the_source_has_is_left_out_and_recorded(tiny: Tiny) -> None:
    """Once in other words, as the header says, and once word for word."""
    other = tiny.add("1.1", "0002-other.patch", "csu/libc.c", "return s[0]", "return s[1]")
    other.write_text(other.read_text().replace("Author:", "Present: csu/libc.c return s[0]\nAuthor:"))
    same = tiny.add("1.1", "0003-same.patch", "csu/libc.c", "return s[0]", "return s[1]")
    old, new = (line[1:] for line in same.read_text().splitlines() if re.match(r"[-+] ", line))
    same.write_text(same.read_text().replace(f"-{old}\n+{new}\n", f"-{new}\n+{old}\n"))
    tiny.add("1.1", "0004-new.patch", "elf/rtld.c", "/*", "/* and")
    built = tiny.builder().build(tiny.target("1.1"))
    assert {p.file: p.present for p in built.manifest.patches} == {
        "0002-other.patch": "csu/libc.c has 'return s[0]'",
        "0003-same.patch": "every hunk of it is there, word for word",
        "0004-new.patch": "",
    }
    assert built.manifest.srpm is not None
    inside = run(["rpm", "-qpl", built.rpms / built.manifest.srpm.file]).text.split()
    assert [name for name in inside if name.endswith(".patch")] == ["0004-new.patch"]


def test_a_compile_error_names_the_log_that_has_it(tiny: Tiny, state: Path) -> None:
    tiny.builder().make(tiny.target("1.1"))
    tiny.add("1.0", "0002-bad.patch", "csu/libc.c", "return s[0]", "return no_such_thing")
    with pytest.raises(CommandFailed) as failed:
        tiny.builder().make(tiny.target("1.0"))
    log = Path(failed.value.log)
    assert "no_such_thing" in log.read_text()
    assert str(log) in failed.value.message
    assert str(log) in failed.value.hint
    done = tiny.call("build")
    assert done.returncode == ExitCode.WORLD
    assert str(log) in done.stderr
    assert half_written(state) == []
    assert tiny.builder().find(tiny.target("1.1")) is not None


@pytest.mark.parametrize("which", ["glibc", "src"])
@pytest.mark.parametrize("harm", ["truncated", "flipped", "gone"])
def test_a_damaged_rpm_in_the_store_is_noticed(tiny: Tiny, which: str, harm: str) -> None:
    built = tiny.builder().build(tiny.target("1.1"))
    assert built.manifest.srpm is not None
    rpm = built.rpm("glibc") if which == "glibc" else built.rpms / built.manifest.srpm.file
    data = bytearray(rpm.read_bytes())
    if harm == "truncated":
        rpm.write_bytes(data[:-1])
    elif harm == "flipped":
        data[len(data) // 2] ^= 1
        rpm.write_bytes(data)
    else:
        rpm.unlink()
    with pytest.raises(EvidenceError) as failed:
        tiny.builder().build(tiny.target("1.1"))
    assert str(rpm) in failed.value.message
    assert f"remove {rpm.parent.parent}" in failed.value.hint
    if harm == "truncated":
        done = tiny.call("build", "--release", "1.1")
        assert done.returncode == ExitCode.MISSING
        assert rpm.name in done.stderr


def test_a_damaged_record_is_noticed(tiny: Tiny) -> None:
    entry = tiny.builder().make(tiny.target("1.1"))
    (entry.path / MANIFEST).write_text('{"target"')
    with pytest.raises(EvidenceError, match=r"manifest\.json cannot be read"):
        tiny.builder().build(tiny.target("1.1"))


def test_a_record_that_was_changed_by_hand_is_noticed(tiny: Tiny) -> None:
    entry = tiny.builder().make(tiny.target("1.1"))
    record, written = entry.path / MANIFEST, (entry.path / MANIFEST).read_text()
    changed = written.replace('"hermetic": false', '"hermetic": true')
    assert changed != written
    record.write_text(changed)
    with pytest.raises(EvidenceError, match=r"manifest\.json was changed since the build wrote it"):
        tiny.builder().build(tiny.target("1.1"))
    record.write_text(written)
    (entry.path / MANIFEST_SEAL).unlink()  # builds of older versions have none
    assert not tiny.builder().build(tiny.target("1.1")).manifest.hermetic
    record.write_text(changed)
    with pytest.raises(EvidenceError, match="was changed"):
        tiny.builder().build(tiny.target("1.1"))


def test_the_other_architecture_is_built_by_its_cross_compiler(tiny: Tiny) -> None:
    other = next(a for a in ARCHES.values() if a != host_arch())
    tiny.file.write_text(
        tiny.file.read_text().replace(f'arches = ["{MACHINE}"]', f'arches = ["{other.name}"]')
    )
    target = Target(profile="tiny", release="1.1", arch=other.name)
    made = tiny.builder().build(target)
    assert made.manifest.mode == "cross"
    assert names(made) == PACKAGES
    assert made.rpm("glibc").name == f"glibc-2.36-2.t1_1.{other.name}.rpm"
    loader = made.root / other.interp.lstrip("/")
    assert int.from_bytes(loader.read_bytes()[18:20], "little") == other.elf_machine
    assert len({s.symbol for s in listings(made.root)[other.loader].symbols if "rseq" in s.symbol}) == 3


def test_without_a_container_engine_the_way_out_is_told(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = tiny.call("build", "--place", "container", env={"PATH": str(tmp_path / "bin")})
    assert done.returncode == ExitCode.WORLD
    assert "neither podman nor docker is installed" in done.stderr
    assert "-- --place host" in done.stderr
    narrowed = tiny.call(
        "build", "--place", "container", env={"PATH": str(tmp_path / "bin"), "PIPELINE_ENGINE": "docker"}
    )
    assert narrowed.returncode == ExitCode.WORLD
    assert "PIPELINE_ENGINE=docker" in narrowed.stderr
    unknown = tiny.call("build", "--place", "container", env={"PIPELINE_ENGINE": "lxc"})
    assert unknown.returncode == ExitCode.WRONG_USE
    assert "PIPELINE_ENGINE is podman or docker" in unknown.stderr


def test_a_series_can_stop_before_its_end(tiny: Tiny) -> None:
    tiny.add("1.0", "0002-more.patch", "csu/libc.c", "return s[0]", "return s[1]")
    whole = tiny.builder().build(tiny.target("1.0")).manifest
    part = tiny.builder(Options(place="host", up_to="0001")).build(tiny.target("1.0")).manifest
    assert [p.file for p in part.patches] == ["0001-withdraw.patch"]
    assert whole.key != part.key


def processes_of(path: str) -> list[int]:
    """Processes whose command line or working directory mentions a path (our state directory)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + os.fsencode((entry / "cwd").readlink())
            except OSError:
                continue
            if os.fsencode(path) in text:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing_and_goes_on_when_run_again(
    tiny: Tiny, state: Path, signum: signal.Signals
) -> None:
    """^C while make runs: exit code 130, no process left, what was whole is kept, the rest made later."""
    tiny.builder().make(tiny.target("1.1"))
    slow = tiny.add("1.0", "0002-slow.patch", "Makerules", SLOW_LINK, f"{SLOW_LINK}\n\ttouch here; sleep 600")
    with subprocess.Popen(
        tiny.argv("build"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as ours:
        end = time.monotonic() + 120
        while not list((state / "build").glob(".*.tmp-*/rpmbuild/BUILD/**/here")):
            assert time.monotonic() < end, "make never got there"
            assert ours.poll() is None, ours.communicate()
            time.sleep(0.1)
        assert processes_of(str(state)) != []
        ours.send_signal(signum)
        _, stderr = ours.communicate(timeout=30)
    assert ours.returncode == ExitCode.INTERRUPTED
    assert "interrupted" in stderr
    assert "run the same command again" in stderr
    assert "Traceback" not in stderr
    end = time.monotonic() + 5
    while left := [p for p in processes_of(str(state)) if p != ours.pid]:
        assert time.monotonic() < end, left
        time.sleep(0.1)
    assert half_written(state) == []
    assert tiny.builder().find(tiny.target("1.0")) is None
    assert tiny.builder().find(tiny.target("1.1")) is not None
    slow.write_text(slow.read_text().replace("sleep 600", "sleep 0"))
    done = tiny.call("build")
    assert done.returncode == ExitCode.PASS, done.stderr
    assert "build tiny/1.1" not in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB; needs root, as a mount does."""
    assert os.geteuid() == 0, "run this test as root: it mounts a small file system"
    disk = tmp_path / "disk"
    disk.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk])
    try:
        yield disk
    finally:
        run(["umount", "--lazy", disk])


def test_a_full_disk_is_told_and_harms_nothing_that_was_whole(tiny: Tiny, small_disk: Path) -> None:
    env = {"PIPELINE_STATE": str(small_disk)}
    done = tiny.call("build", "--release", "1.1", env=env)
    assert done.returncode == ExitCode.PASS, done.stderr
    filler = small_disk / "filler"
    with filler.open("wb") as f:
        f.write(b"x" * (shutil.disk_usage(small_disk).free - 200_000))
    full = tiny.call("build", env=env)
    assert full.returncode == ExitCode.WORLD, full.stderr
    assert "disk filled up" in full.stderr or "no space left" in full.stderr
    assert "free some space" in full.stderr
    assert "Traceback" not in full.stderr
    assert half_written(small_disk) == []
    filler.unlink()
    again = tiny.call("build", env=env)
    assert again.returncode == ExitCode.PASS, again.stderr
    assert "build tiny/1.1" not in again.stderr
