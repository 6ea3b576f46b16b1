"""Are the packages themselves right: whole, free of conflicts, installable together, and as committed?"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pipeline.abi import baseline
from pipeline.check import Material, StaticCheck
from pipeline.check.abi_facts import Fact, answered, remedy, shown
from pipeline.check.rpm import NotThere, is_foreign
from pipeline.core import paths, store
from pipeline.core.declaration import Declaration, Unit, measured
from pipeline.core.errors import MalformedInput
from pipeline.core.outcome import Finding, Outcome, Question, Target
from pipeline.core.records import Built
from pipeline.rpm import coherence, inventory, transaction
from pipeline.rpm import package as rpmfile
from pipeline.rpm.inventory import Inventory
from pipeline.rpm.sysroot import is_wanted

#: Raised when `coherence.payload_faults` compares more than it did.
READER = 3
#: Digests that no machine in FIPS mode checks: rpm installs no such package there.
WEAK, NOT_TAKEN = ("md5", "sha1"), ", which a machine in FIPS mode does not take"
#: When packages and headers are compared with what is committed.
COMMITTED = "they are ours, or that maker's are committed (`nox -s baseline`)"


def inventory_path(target: Target, *, foreign: bool = False) -> Path:
    """Where the inventory of a target's packages is committed, beside the baseline of its ABI.

    ``foreign``: of packages that another maker's spec made, which hold other files.
    """
    name = f"{target.arch}.supplied.packages" if foreign else f"{target.arch}.packages"
    return baseline.directory_of(target).with_name(name)


def make_inventory(rpms: Sequence[Path], origin: str) -> Inventory:
    """The inventory of packages, without those of debug information and sources. Raises `MalformedInput`."""
    read = [rpmfile.verify(path) for path in rpms]
    return Inventory(inventory.of(rpm for rpm in read if is_wanted(rpm)), origin)


def together(built: Built) -> list[rpmfile.Rpm]:
    """`all_rpms`, and those of the 32-bit architecture that may be installed with them."""
    return [*all_rpms(built), *(rpmfile.read(built.rpms / record.file) for record in built.manifest.beside)]


def all_rpms(built: Built) -> list[rpmfile.Rpm]:
    """Every binary package of a release, those with debug information too. Raises `EvidenceError`."""
    found = [rpmfile.read(built.rpms / record.file) for record in built.manifest.rpms]
    if not found:
        raise NotThere(f"{built.target} has no RPMs", hint="`nox -s build` makes them")
    return [rpm for rpm in found if not rpm.is_source]


class EachPackaging(StaticCheck):
    """One question for each release."""

    def questions(self, material: Material) -> list[Question]:
        return material.each(self.name)

    def run(self, material: Material) -> list[Finding]:
        return [
            answered(question, self.expected, partial(self._unless_absent, material, question))
            for question in self.questions(material)
        ]

    expected: str

    def _unless_absent(self, material: Material, question: Question) -> Fact:
        try:
            return self.ask(material, question.target.release)
        except NotThere as e:
            return Fact(Outcome.MISSING, self.expected, e.explained)

    def ask(self, material: Material, release: str) -> Fact:
        raise NotImplementedError


def judged(expected: str, seen: str, faults: Sequence[str], measures: dict[str, int]) -> Fact:
    """PASS without faults, else FAIL with all of them."""
    text = shown(faults) if faults else seen
    return Fact(Outcome.FAIL if faults else Outcome.PASS, expected, text, measures=dict(measures))


class Payload(EachPackaging):
    """Each package's digests are right, and its payload holds exactly what its header lists."""

    declared = Declaration(
        name="rpm.payload",
        measures=measured(Unit.COUNT, "files", "packages"),
        question="Are each package's digests right, and does its payload hold exactly what its header lists?",
    )
    expected = "header and payload have their digests; members, modes, sizes, digests and links as listed"

    def ask(self, material: Material, release: str) -> Fact:
        built = material.built[release]
        rpms = together(built)
        faults = [f"{rpm.path.name}: {fault}" for rpm in rpms for fault in payload_faults(rpm.path)]
        files = sum(len(rpm.files) for rpm in rpms)
        seen = f"{len(rpms)} packages with {files} files, all as listed"
        return judged(self.expected, seen, faults, {"packages": len(rpms), "files": files})


def payload_faults(path: Path) -> list[str]:
    """`coherence.payload_faults` with the package's own digests, looked at once for each file."""

    def make(directory: Path) -> None:
        try:
            read = rpmfile.verify(path)
            faults = coherence.payload_faults(path)
            weak = {read.payload_hash: "the payload", read.file_hash: "its files"}
            faults += [f"the digests of {what} are {h}" + NOT_TAKEN for h, what in weak.items() if h in WEAK]
        except MalformedInput as e:  # it is what the package says that is wrong
            faults = [e.message]
        (directory / "faults.json").write_text(json.dumps(faults) + "\n")

    inputs = {"rpm": store.file_sha256(path), "reader": READER}
    entry = store.produce("rpm-payload", inputs, make)
    found: list[str] = json.loads((entry.path / "faults.json").read_text())
    return found


class Conflicts(EachPackaging):
    """No two packages of a release have different things at one path."""

    declared = Declaration(
        name="rpm.conflicts",
        measures=measured(Unit.COUNT, "packages", "paths"),
        question="Does no path have different contents in two packages of a release?",
    )
    expected = "one content, mode and owner for each path, whichever package it is taken from"

    def ask(self, material: Material, release: str) -> Fact:
        rpms = together(material.built[release])
        paths_ = {coherence.installed_path(f.path) for rpm in rpms for f in rpm.files}
        return judged(
            self.expected, f"{len(paths_)} paths, no conflict", coherence.conflicts(rpms),
            {"packages": len(rpms), "paths": len(paths_)},
        )  # fmt: skip


class Install(EachPackaging):
    """rpm takes all packages of a release in one transaction, and finds installed what they say."""

    declared = Declaration(
        name="rpm.install",
        measures=measured(Unit.COUNT, "differ", "unmet"),
        question="Does rpm install all packages of a release together, and find each file as it should be?",
    )
    expected = "accepted in one transaction, but for other makers' packages; `rpm -Va` finds no difference"

    def ask(self, material: Material, release: str) -> Fact:
        built = material.built[release]
        rpms = together(built)
        light = [rpm.path for rpm in rpms if is_wanted(rpm)]
        done = transaction.installation([rpm.path for rpm in rpms], light, material.arch)
        # all that a build made is here; of packages from elsewhere somebody may have brought a part
        own = "" if built.manifest.mode == "supplied" else built.manifest.nvr.removeprefix("glibc-")
        answer = judge_installation(done, self.expected, *_unmet_expected(material, release, rpms), own=own)
        if answer.outcome is not Outcome.MISSING:
            return answer
        file = _shown_path(_path_for(material, release))
        words = f"{answer.seen}: {file} does not say it; {remedy(material.target(release))}"
        return Fact(answer.outcome, answer.expected, words, measures=answer.measures)


def _unmet_expected(
    material: Material, release: str, rpms: Sequence[rpmfile.Rpm]
) -> tuple[frozenset[str], frozenset[str]]:
    """Names that other packages provide as the committed inventory says, and as only the packages say."""
    wanted = [rpm for rpm in rpms if is_wanted(rpm)]
    # what others provide to our packages they provide to another maker's, too
    files = {_path_for(material, release), inventory_path(material.target(release))}
    known = [found for file in files if (found := inventory.load(file)) is not None]
    says = frozenset[str]().union(*(inventory.outside(found.packages) for found in known))
    own = inventory.of(rpm for rpm in wanted if rpm.arch != material.arch.beside)
    beside = inventory.of(rpm for rpm in wanted if rpm.arch == material.arch.beside)
    also = {f"{name}.{material.arch.beside}": facts for name, facts in beside.items()}
    return says, inventory.outside({**own, **also})


def judge_installation(
    done: transaction.Installation,
    expected: str,
    committed: frozenset[str],
    claimed: frozenset[str] = frozenset(),
    *,
    own: str = "",
) -> Fact:
    """Faults of one transaction; what no package here provides must be ``committed`` as from elsewhere.

    MISSING if only the packages claim so (``claimed``): a wrong package requires what nothing provides, too.
    ``own``: version and release of the build. What is required at just that nobody else can provide.
    """
    faults: list[str] = []
    allowed: list[str] = []
    unsaid: list[str] = []
    for unmet in done.tested.unmet:
        name = unmet.partition(" is needed by ")[0]
        names = {name, name.split(" ")[0]}
        if own and name.endswith(f" = {own}"):
            names = set()
        found = allowed if names & committed else unsaid if names & claimed else faults
        found.append(unmet)
    faults += done.tested.other.splitlines()
    if not done.tested.accepted and not done.tested.unmet and not done.tested.other:
        faults.append(f"refused: {done.tested.said}")
    if not done.installed.accepted:
        faults += [line for line in done.installed.said.splitlines() if line not in faults]
        faults = faults or ["refused without a word"]
    faults += [f"rpm -Va: {line}" for line in done.verified]
    measures = {"unmet": len(done.tested.unmet), "differ": len(done.verified)}
    if unsaid and not faults:
        words = f"nothing here provides {_names(unsaid)}, and whether other packages do is not known"
        return Fact(Outcome.MISSING, expected, words, measures=measures)
    seen = "accepted and verified"
    if allowed:
        seen += f"; from other packages, as the committed inventory says: {_names(allowed)}"
    return judged(expected, seen, faults, measures)


def _names(unmet: Sequence[str]) -> str:
    return ", ".join(sorted({u.partition(" is needed by ")[0] for u in unmet}))


def _path_for(material: Material, release: str) -> Path:
    return inventory_path(material.target(release), foreign=is_foreign(material.built[release]))


def _comparable(material: Material, release: str) -> Inventory | None:
    """The committed inventory of the same maker's packages, if any. Raises `MalformedInput`."""
    return inventory.load(_path_for(material, release))


def foreign_without(path: Callable[[Material, str], Path], material: Material, release: str) -> bool:
    """Whether these are another maker's packages, with which nothing committed can be compared."""
    return is_foreign(material.built[release]) and not path(material, release).exists()


class _Committed(EachPackaging):
    """The packages compared with the committed inventory, both ways.

    Packages of another maker hold other files by another spec: they are compared with an inventory that was
    made from that maker's RPMs, and without one there is no question, and no release grade. Of packages that
    are ours to judge the inventory must be there: one that is gone is MISSING, not unasked.
    """

    files: bool
    expected = "a committed inventory that can be read"

    def questions(self, material: Material) -> list[Question]:
        asked = super().questions(material)
        return [q for q in asked if not foreign_without(_path_for, material, q.target.release)]

    def ask(self, material: Material, release: str) -> Fact:
        target = material.target(release)
        file = _path_for(material, release)
        committed = _comparable(material, release)
        if committed is None:
            words = f"there is no {_shown_path(file)}; {remedy(target)}"
            return Fact(Outcome.MISSING, "a committed inventory of the packages", words)
        rpms = [rpm for rpm in all_rpms(material.built[release]) if is_wanted(rpm)]
        found = inventory.of(rpms)
        faults = inventory.difference(committed.packages, found, files=self.files)
        facts = sum(fact.startswith("/") is self.files for lines in found.values() for fact in lines)
        what = "files" if self.files else "relations, scriptlets and labels"
        answer = judged(
            f"{what} of {len(committed.packages)} packages as committed (from {committed.origin})",
            f"{facts} {what}, no difference", faults, {"packages": len(found), "facts": facts},
        )  # fmt: skip
        return Fact(answer.outcome, answer.expected, answer.seen, (_shown_path(file),), answer.measures)


def _shown_path(path: Path) -> str:
    return str(path.relative_to(paths.BASELINES.parent))


class FileLists(_Committed):
    declared = Declaration(
        name="rpm.files",
        measures=measured(Unit.COUNT, "facts", "packages"),
        question="Are the packages' files, modes, owners, links, flags and capabilities as committed?",
        when=COMMITTED,
    )
    files = True


class Metadata(_Committed):
    declared = Declaration(
        name="rpm.metadata",
        measures=measured(Unit.COUNT, "facts", "packages"),
        question=(
            "Are relations to other packages, scriptlets, triggers and what a package says of itself "
            "(licence, vendor, change log) as committed?"
        ),
        when=COMMITTED,
    )
    files = False


CHECKS: tuple[StaticCheck, ...] = (Payload(), Conflicts(), FileLists(), Metadata(), Install())
