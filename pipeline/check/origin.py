"""Are all packages of one build, and is the source package what they were made from?

What a build was given is in its record, and in the source package, which ships, too: who builds that again
must get what was judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pipeline.build import rpmbuild
from pipeline.build.builder import CHECK_INC
from pipeline.check import Material, StaticCheck
from pipeline.check.abi_facts import Fact
from pipeline.check.packages import EachPackaging, judged, payload_faults, together
from pipeline.check.texts import SHOWN
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.outcome import Outcome
from pipeline.core.records import BuildManifest
from pipeline.core.store import file_sha256
from pipeline.rpm import inventory, package
from pipeline.rpm.package import Rpm

SPEC, RELEASE_INC, PATCHES_INC = "glibc.spec", "release.inc", "patches.inc"
#: Kinds of sources of which the record has the digest of the archive; of the others it has that of a tree.
ARCHIVES = ("apt", "tarball", "distgit")
#: Labels that rpmbuild writes alike into every package of a build, its source package too.
SHARED = ("vendor", "packager", "distribution", "modularitylabel", "vcs", "changelog")
_PATCH = re.compile(r"^Patch\d+: (\S+)$", re.MULTILINE)
_TOPDIR = re.compile(r"^%global glibc_topdir (\S+)$", re.MULTILINE)


class Origin(EachPackaging):
    """The packages name one source package and were made at one time; it holds what the record names."""

    declared = Declaration(
        name="rpm.origin",
        measures=measured(Unit.COUNT, "files", "packages"),
        question=(
            "Are all packages of one build, and does the source package hold what they were made from: "
            "source, patches in their order, spec?"
        ),
    )
    expected = "one build; a source package with the source, the patches in their order and the spec"

    def ask(self, material: Material, release: str) -> Fact:
        built = material.built[release]
        manifest, record = built.manifest, built.manifest.srpm
        rpms = together(built)
        number = manifest.nvr.removeprefix("glibc-")
        faults = [f"{r.nvr} is not of {number}" for r in rpms if f"{r.version}-{r.release}" != number]
        faults += _of_several(rpms)
        measures = {"packages": len(rpms), "files": 0}
        if record is None and manifest.mode != "supplied" and not faults:
            return Fact(Outcome.MISSING, self.expected, "the build left no source package", measures=measures)
        if record is None:
            return judged(self.expected, "of one build; no source package is with them", faults, measures)
        source = package.read(built.rpms / record.file)
        measures["files"] = len(source.files)
        faults += [
            f"{rpm.name} is made from {rpm.source_rpm}"
            for rpm in rpms
            if rpm.source_rpm != f"{source.nvra}.rpm"
        ]
        main = [rpm for rpm in rpms if rpm.name == "glibc" and rpm.arch == material.arch.name]
        says = [label for rpm in main for label in _labels(rpm, "license", "summary", "url")]
        said = _labels(source, "license", "summary", "url")
        faults += [f"{record.file}: it says {x!r}, and glibc not" for x in said if x not in says]
        faults += [f"{record.file}: glibc says {x!r}, and it not" for x in says if x not in said]
        faults += [f"{record.file}: {fault}" for fault in payload_faults(source.path)]
        faults += [f"{record.file}: {fault}" for fault in _faults(material, manifest, source)]
        seen = f"of one build; {record.file} holds {len(source.files)} files, as recorded"
        return judged(self.expected, seen, faults, measures)


def _of_several(rpms: Sequence[Rpm]) -> list[str]:
    """Packages of one architecture that were not made in one run of rpmbuild, or say that they were not."""
    faults = []
    for arch in sorted({rpm.arch for rpm in rpms}):
        builds: dict[str, list[str]] = {}
        for rpm in rpms:
            if rpm.arch == arch:
                builds.setdefault(", ".join([rpm.source_rpm, rpm.made, *_labels(rpm)]), []).append(rpm.name)
        if len(builds) > 1:
            faults += [
                f"{arch}: {', '.join(sorted(names))} of {how}" for how, names in sorted(builds.items())
            ]
    return faults


def _labels(rpm: Rpm, *more: str) -> list[str]:
    return [f"{name} {inventory.short(text)}" for name, text in rpm.labels if name in (*SHARED, *more)]


def _faults(material: Material, manifest: BuildManifest, source: Rpm) -> Iterator[str]:
    """What the source package has otherwise than the record of the build."""
    if source.nvr != manifest.nvr:
        yield f"it is that of {source.nvr}"
    if manifest.source is None:  # made elsewhere: nobody here knows from what
        return
    if source.file_hash != "sha256":
        yield f"its list has digests of kind {source.file_hash}, which no record has"
        return
    files = {f.path: f.digest for f in source.files}
    applied = [p for p in manifest.patches if not p.present]
    wanted = {p.file: p.sha256 for p in applied}
    if manifest.source.kind == "distgit" and RELEASE_INC not in files:  # built with its own spec and files
        if manifest.source.sha256 not in files.values():
            yield "the recorded source is not in it"
    else:
        wanted[SPEC] = rpmbuild.spec_sha256()
        if manifest.own_tests is not None:
            wanted[CHECK_INC.name] = file_sha256(CHECK_INC)
        rest = sorted(files.keys() - wanted.keys() - {RELEASE_INC, PATCHES_INC})
        yield from (f"+ {name} ({files[name][:SHOWN]})" for name in rest[1:])
        archive = rest[0] if rest else ""
        if manifest.source.kind in ARCHIVES:
            wanted[archive] = manifest.source.sha256
        yield from _inclusions(material, manifest, source, archive, [p.file for p in applied])
    yield from (f"- {name or 'the source'}" for name in sorted(wanted.keys() - files.keys()))
    yield from (
        f"{name}: another content than recorded ({files[name][:SHOWN]})"
        for name in sorted(wanted.keys() & files.keys())
        if files[name] != wanted[name]
    )


def _inclusions(
    material: Material, manifest: BuildManifest, source: Rpm, archive: str, patches: Sequence[str]
) -> Iterator[str]:
    """What is wrong with the two files that our spec includes."""
    with package.payload(source.path) as members:
        names = {f"/{name}": name for name in (RELEASE_INC, PATCHES_INC)}
        texts = {names[m.path]: m.read().decode(errors="replace") for m in members if m.path in names}
    listed = _PATCH.findall(texts.get(PATCHES_INC, ""))
    theirs = manifest.source is not None and manifest.source.kind == "distgit"  # may have options of patch(1)
    if listed != list(patches) or not (theirs or texts.get(PATCHES_INC) == rpmbuild.patches_inc(patches)):
        yield f"{PATCHES_INC} applies {', '.join(listed) or 'nothing'}, the record {', '.join(patches)}"
    found = texts.get(RELEASE_INC, "")
    topdir = _TOPDIR.search(found)
    release = material.profile.get(manifest.target.release)
    expected = rpmbuild.release_inc(
        material.profile, release, archive=archive, topdir=topdir[1] if topdir else ""
    )
    if found != expected:
        yield f"{RELEASE_INC}: not what the profile says of {release.name}"


CHECKS: tuple[StaticCheck, ...] = (Origin(),)
