"""Releases of the stand-in profile, made of small DSOs, with committed baselines of their own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.abi import baseline
from pipeline.abi.baseline import Origin
from pipeline.check import Material, StaticCheck
from pipeline.core import paths
from pipeline.core.arch import host_arch
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.records import BuildManifest, Built, ImageRecord
from pipeline.profile import Profile
from tests.elf_edit import Edit, edit
from tests.elf_fixtures import LIBC, MODULE, Dso, release_root

BEFORE, UPDATE, AFTER = "12.0", "12.0.z", "12.1"


@dataclass
class Stage:
    """Releases of the profile made of small DSOs, and a directory of baselines of their own."""

    directory: Path
    profile: Profile
    built: dict[str, Built] = field(default_factory=dict)

    @property
    def material(self) -> Material:
        return Material(profile=self.profile, arch=host_arch(), built=self.built, programs=self.directory)

    def release(
        self, name: str, loader: Dso, libc: Dso = LIBC, module: Dso = MODULE, image: str = "", **more: Dso
    ) -> Path:
        """Make a release; returns its root. ``image`` is the base of the image it was built in."""
        root = release_root(self.directory / name, loader, libc, module, **more)
        manifest = BuildManifest(
            target=self.material.target(name),
            key="",
            nvr=f"glibc-2.36-{name}",
            rpms=(),
            srpm=None,
            mode="supplied",
            place="elsewhere",
            hermetic=False,
            source=None,
            patches=(),
            image=ImageRecord(id="sha256:0", base=image, pinned=True) if image else None,
            seconds=0,
        )
        self.built[name] = Built(manifest=manifest, rpms=self.directory, root=root)
        return root

    def commit(self, *names: str, image: str = "") -> None:
        """Commit the baselines of releases as they are now."""
        for name in names:
            target = self.material.target(name)
            origin = Origin("build", f"glibc-{name}", image=image)
            baseline.write(
                baseline.from_root(self.built[name].root, target, origin), baseline.directory_of(target)
            )

    def edit(self, release: str, path: str, change: Edit) -> None:
        edit(self.built[release].root / path, change)

    def answers(self, checks: tuple[StaticCheck, ...]) -> dict[tuple[str, str], Finding]:
        """(check, release) -> finding, of a bench that has read nothing yet."""
        material = self.material
        return {(f.check, f.target.release): f for check in checks for f in check.run(material)}

    def red(self, checks: tuple[StaticCheck, ...]) -> dict[tuple[str, str], Finding]:
        """Those answers that are not green."""
        return {k: f for k, f in self.answers(checks).items() if f.outcome is not Outcome.PASS}


def make_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage without releases; upstream's nodes are the committed ones."""
    baselines = tmp_path / "abi-baselines"
    shutil.copytree(paths.BASELINES / baseline.UPSTREAM, baselines / baseline.UPSTREAM)
    monkeypatch.setattr(paths, "BASELINES", baselines)
    return Stage(tmp_path, profiles.load("bookworm"))
