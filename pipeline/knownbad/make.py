"""From an entry to the release it describes: edited packages, or packages built from changed source."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.build import supplied, variants
from pipeline.build.builder import Builder
from pipeline.build.variants import Variant
from pipeline.core import paths, store
from pipeline.core.arch import Arch
from pipeline.core.errors import EvidenceError
from pipeline.core.records import Built
from pipeline.knownbad import change, edits, elfedit, rpmfile
from pipeline.knownbad.entry import Entry
from pipeline.profile import Profile
from pipeline.rpm import writing


def edited(entry: Entry, profile: Profile, good: Built, machine: Arch) -> Built:
    """The good release with the entry's edits, read as packages from elsewhere are.

    Raises `UsageError` for an edit that does not fit, and what `supplied.supplied` raises.
    """
    inputs = {
        "good": [r.sha256 for r in good.manifest.files],
        "edits": [e.model_dump(mode="json") for e in entry.edit],
        "arch": machine.name,
        "code": [store.file_sha256(Path(str(m.__file__))) for m in (edits, elfedit, rpmfile, writing)],
    }
    made = store.produce("known-bad", inputs, lambda into: _write(entry, good, machine, into / "RPMS"))
    return _as_built(profile, good, made.path / "RPMS", machine)


def sourced(entry: Entry, builder: Builder, good: Built, machine: Arch) -> Built:
    """The release built with the entry's changes from the kept tree of the profile's newest one.

    Raises `UsageError` for a change that does not fit, and what `variants.build` raises.
    """
    profile = builder.profile
    target = good.target
    changes = [c for c in entry.change if not c.profiles or profile.name in c.profiles]
    tree = change.patched(builder, target)
    with tempfile.TemporaryDirectory(prefix="known-bad-") as work:
        patch = change.patch(entry.title, changes, tree, Path(work) / f"9999-{entry.name}.patch")
        rpms = variants.build(builder, Variant(target, (patch,)), target)
    built = _as_built(profile, good, rpms, machine)
    patches = (*good.manifest.patches, patch.record)
    return built.model_copy(update={"manifest": built.manifest.model_copy(update={"patches": patches})})


def _as_built(profile: Profile, good: Built, rpms: Path, machine: Arch) -> Built:
    """Packages read as any from elsewhere are, and asked all that a build of ours is asked."""
    built = supplied.supplied(profile, good.target.release, rpms, machine)
    if built is None:
        raise EvidenceError(f"{rpms} holds no package for {machine.name}")
    own = built.manifest
    manifest = good.manifest.model_copy(update={"key": own.key, "rpms": own.rpms, "srpm": own.srpm})
    return built.model_copy(update={"manifest": manifest})


def _write(entry: Entry, good: Built, machine: Arch, into: Path) -> None:
    into.mkdir()
    edits.apply(entry.edit, good, machine, into)


def logs_of(name: str) -> Path:
    """Where the logs of one entry's run are: entries are judged side by side."""
    return paths.logs() / "known-bad" / name
