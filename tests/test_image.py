"""The build image: its package list, its name, and what is told when it cannot be had."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.arch import ARCHES, Arch, arch, host_arch
from pipeline.core.errors import CommandFailed, SourceUnreachable, UsageError
from pipeline.host import binfmt
from pipeline.host import engine as engines
from pipeline.host import image as images
from pipeline.host.engine import NoEngine
from pipeline.host.image import packages
from pipeline.profile import Profile, load, load_file
from tests.tiny_kit import PROFILE

X86, ARM = arch("x86_64"), arch("aarch64")


def listed(tmp_path: Path, text: str) -> Path:
    (tmp_path / "packages.txt").write_text(text)
    return tmp_path


def test_names_of_this_architecture_comments_and_blank_lines(tmp_path: Path) -> None:
    directory = listed(tmp_path, "# all\n\ngcc\nrpm # builds\nonly-x [x86_64]\nonly-a [aarch64]  # why\n")
    assert packages(directory, X86) == ["gcc", "rpm", "only-x"]
    assert packages(directory, ARM) == ["gcc", "rpm", "only-a"]


@pytest.mark.parametrize("line", ["gcc make", "gcc [x86-64]", "gcc x86_64", "gcc [x86_64] more", "gcc []"])
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: str) -> None:
    """A misspelt architecture must not make a package silently go away."""
    with pytest.raises(UsageError, match=r"packages\.txt:2: expected 'NAME' or 'NAME \[ARCH\]'"):
        packages(listed(tmp_path, f"bison\n{line}\n"), X86)


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"packages\.txt does not exist"):
        packages(tmp_path, X86)


def test_the_lists_that_come_with_the_pipeline_hold_what_the_spec_wants() -> None:
    for machine in ARCHES.values():
        names = packages(paths.CONTAINERS / "bookworm", machine)
        assert {
            "gcc",
            "make",
            "bison",
            "gawk",
            "gettext",
            "texinfo",
            "python3",
            "perl",
            "rpm",
            "ccache",
        } <= set(names)
        other = next(a for a in ARCHES.values() if a is not machine)
        assert f"gcc-{other.triplet.replace('_', '-')}" in names
        assert f"gcc-{machine.triplet.replace('_', '-')}" not in names
        assert len(set(names)) == len(names)


#: What the host's apt needs to reach its mirror.
PROXY = 'Acquire::http::Proxy "http://proxy.example:3128";'


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with what the test puts there; every program writes down its calls."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(directory))

    def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**(extra or {}), "PATH": str(directory)}

    monkeypatch.setattr("pipeline.core.run.clean_environment", environment)
    monkeypatch.setattr(
        "pipeline.debian.apt.PrivateApt.sources_lines", lambda _: ["deb http://mirror.example x main"]
    )
    program(directory, "apt-config", f"echo '{PROXY}'; echo 'APT::Default-Release \"x\";'")
    return directory


def program(directory: Path, name: str, text: str = "") -> None:
    (directory / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {directory}/calls\n{text}\nexit 0\n')
    (directory / name).chmod(0o755)


def calls(directory: Path) -> list[str]:
    file = directory / "calls"
    return file.read_text().splitlines() if file.exists() else []


#: knows an image once it was built or imported, as a real engine does
MEMORY = """
case "$1 $2" in
"image inspect")
  for last; do :; done; grep -qx -- "$last" {0}/known 2>/dev/null || exit 1
  case "$4" in *Architecture*) echo "${{ARCH:-ARCHITECTURE}}" ;; *Digests*) echo ;; *) echo abc ;; esac ;;
esac
case "$*" in
*build*) while [ "$1" != --tag ]; do shift; done; echo "$2" >> {0}/known ;;
import*) echo "$3" >> {0}/known ;;
pull*) for last; do :; done; echo "$last" >> {0}/known ;;
tag*) echo "$3" >> {0}/known ;;
*gcc*) printf 'gcc=gcc 12\\nrpm=RPM 4.18\\n' ;;
esac
"""


def engine_with_memory(fake: Path) -> None:
    (fake / "grep").symlink_to("/bin/grep")
    program(fake, "podman", MEMORY.format(fake).replace("ARCHITECTURE", host_arch().deb))


def verbs(fake: Path) -> list[str]:
    return [line.split()[1] for line in calls(fake)]


@pytest.fixture
def bookworm() -> Profile:
    return load("bookworm")


def test_made_from_a_base_of_the_hosts_mirror_then_found_again(fake: Path, bookworm: Profile) -> None:
    engine_with_memory(fake)
    program(fake, "mmdebstrap")
    made = images.ensure(bookworm)
    assert made.record.id == "sha256:abc"
    assert (made.record.base, made.record.pinned) == ("mmdebstrap bookworm", True)
    assert made.record.tools == {"gcc": "gcc 12", "rpm": "RPM 4.18"}
    assert made.engine == engines.Engine("podman")
    strap = next(line for line in calls(fake) if line.startswith("mmdebstrap"))
    assert f"--architectures={host_arch().deb}" in strap
    assert "--include=bison," in strap
    assert f"--aptopt={PROXY}" in strap  # mmdebstrap's apt has none of the host's settings by itself
    assert "Default-Release" not in strap
    build = next(line for line in calls(fake) if " build " in line)
    assert f"--build-arg BASE={made.name}-base --tag {made.name} " in build
    assert "--network none" in build
    before = len(calls(fake))
    assert images.ensure(bookworm) == made
    assert images.find(bookworm) == made
    later = verbs(fake)[before:]
    assert "build" not in later
    assert "import" not in later


def test_another_architectures_image_is_made_where_the_kernel_starts_its_programs(
    fake: Path, bookworm: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = next(a for a in ARCHES.values() if a != host_arch())
    engine_with_memory(fake)
    program(fake, "mmdebstrap")
    looked: list[Arch] = []
    monkeypatch.setattr(binfmt, "ensure", looked.append)
    made = images.ensure(bookworm, machine=foreign)
    assert looked == [foreign]
    assert foreign.name in made.name
    strap = next(line for line in calls(fake) if line.startswith("mmdebstrap"))
    assert f"--architectures={foreign.deb}" in strap
    assert "--skip=check/qemu" in strap  # it wants a package of its own to look once more


@pytest.mark.parametrize("known", [True, False])
def test_the_emulator_is_a_processor_that_it_was_seen_to_be(
    fake: Path, bookworm: Profile, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Both while the image is made and for what runs in it; an old QEMU is what it chooses itself."""
    foreign = next(a for a in ARCHES.values() if a != host_arch())
    monkeypatch.setattr(binfmt, "ensure", lambda _: None)
    monkeypatch.setitem(ARCHES, foreign.name, replace(foreign, emulated_cpu="quick,x=on"))
    engine_with_memory(fake)
    program(fake, "mmdebstrap")
    if not known:
        text = (fake / "podman").read_text()
        refusing = 'case "$*" in *QEMU_CPU=*true) exit 1 ;; esac\n'
        (fake / "podman").write_text(text.replace("calls\n", f"calls\n{refusing}", 1))
    made = images.ensure(bookworm, machine=ARCHES[foreign.name])
    assert made.env == ({"QEMU_CPU": "quick,x=on"} if known else {})
    build = next(line for line in calls(fake) if " build " in line)
    assert ("--build-arg QEMU_CPU=quick,x=on" in build) is known
    assert any("--env QEMU_CPU=quick,x=on" in line and line.endswith(" true") for line in calls(fake))
    assert images.ensure(bookworm).env == {}


def test_the_name_follows_everything_it_is_made_from(fake: Path, bookworm: Profile, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    engine_with_memory(fake)
    program(fake, "mmdebstrap")
    containers = tmp_path / "containers"
    (containers / "bookworm").mkdir(parents=True)
    for name in ("Containerfile", "packages.txt"):
        (containers / "bookworm" / name).write_text((paths.CONTAINERS / "bookworm" / name).read_text())
    monkeypatch.setattr(paths, "CONTAINERS", containers)
    seen = {images.ensure(bookworm).name, images.ensure(bookworm, reference="other:9").name}
    for name, more in (("packages.txt", "hello\n"), ("Containerfile", "RUN true\n")):
        with (containers / "bookworm" / name).open("a") as file:
            file.write(more)
        seen.add(images.ensure(bookworm).name)
    assert len(seen) == 4


def test_another_base_is_pulled_and_recorded_as_not_pinned(fake: Path, bookworm: Profile) -> None:
    engine_with_memory(fake)
    made = images.ensure(bookworm, reference="registry.example/alma:9")
    assert (made.record.base, made.record.pinned) == ("registry.example/alma:9", False)
    assert f"podman pull --quiet --platform linux/{host_arch().deb} registry.example/alma:9" in calls(fake)
    assert f"podman tag registry.example/alma:9 {made.name}-base" in calls(fake)
    build = next(line for line in calls(fake) if " build " in line)
    assert "--network host" in build  # its packages come from that distribution's repositories


def test_an_image_of_another_architecture_is_never_taken_for_this_one(
    fake: Path, bookworm: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry may have the name for one architecture only, and local storage keeps one image a name."""
    foreign = next(a for a in ARCHES.values() if a != host_arch())
    engine_with_memory(fake)
    monkeypatch.setattr(binfmt, "ensure", lambda _: None)
    (fake / "known").write_text("registry.example/alma:9\n")
    with pytest.raises(SourceUnreachable, match=f"is for {host_arch().deb}, not for {foreign.deb}"):
        images.ensure(bookworm, reference="registry.example/alma:9", machine=foreign)
    assert f"podman pull --quiet --platform linux/{foreign.deb} registry.example/alma:9" in calls(fake)
    assert "build" not in verbs(fake)


def test_an_image_that_cannot_be_pulled(fake: Path, bookworm: Profile) -> None:
    program(fake, "podman", 'case "$1" in image) exit 1 ;; pull) echo "no such host" >&2; exit 125 ;; esac')
    with pytest.raises(
        SourceUnreachable, match=r"registry\.example/x cannot be pulled: no such host"
    ) as failed:
        images.ensure(bookworm, reference="registry.example/x")
    assert "--image" in failed.value.hint


def test_a_mirror_that_does_not_answer_is_no_broken_engine(fake: Path, bookworm: Profile) -> None:
    program(fake, "podman", 'case "$1" in image) exit 1 ;; esac')
    program(fake, "mmdebstrap", "echo 'E: Unable to fetch' >&2; exit 25")
    with pytest.raises(SourceUnreachable, match="E: Unable to fetch") as failed:
        images.ensure(bookworm)
    assert "apt-get update" in failed.value.hint
    assert not list((paths.state() / "image").glob("base-*"))


def test_a_containerfile_that_fails_names_its_log(fake: Path, bookworm: Profile) -> None:
    """That is no reason to try another engine, nor to say that there is none."""
    engine_with_memory(fake)
    program(fake, "mmdebstrap")
    program(fake, "docker")
    text = (fake / "podman").read_text().replace("*build*) ", "*build*) echo 'RUN failed'; exit 1; ")
    (fake / "podman").write_text(text)
    with pytest.raises(CommandFailed, match="RUN failed") as failed:
        images.ensure(bookworm)
    assert failed.value.log == str(paths.logs() / "image-bookworm.log")
    assert not any(line.startswith("docker") for line in calls(fake))


def test_without_an_engine_the_way_out_is_told(fake: Path, bookworm: Profile) -> None:  # noqa: ARG001
    with pytest.raises(NoEngine, match="neither podman nor docker") as failed:
        images.ensure(bookworm)
    assert "--place host" in failed.value.hint
    assert images.find(bookworm) is None


def test_each_engine_that_does_not_work_is_told_before_anything_is_made(
    fake: Path, bookworm: Profile
) -> None:
    program(fake, "podman", "echo 'podman: no subuids' >&2; exit 125")
    program(fake, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    program(fake, "mmdebstrap")
    with pytest.raises(NoEngine) as failed:
        images.ensure(bookworm)
    assert failed.value.message.splitlines() == [
        "podman does not work here: podman: no subuids",
        "docker does not work here: Cannot connect to the Docker daemon",
    ]
    assert not any(line.startswith("mmdebstrap") for line in calls(fake))


def test_a_profile_that_names_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    text = PROFILE.format(arch=host_arch().name, zeros="0" * 64)
    file.write_text(text.replace('directory = "bookworm"', 'directory = "nowhere"'))
    with pytest.raises(UsageError, match=r"image\.directory: .*nowhere has no Containerfile"):
        images.ensure(load_file(file))


def test_an_ordinary_users_base_is_made_without_root(
    fake: Path, bookworm: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_with_memory(fake)
    program(fake, "mmdebstrap")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    images.ensure(bookworm)
    assert any("--mode=unshare" in line for line in calls(fake))
