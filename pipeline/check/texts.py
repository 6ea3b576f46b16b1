"""Are a release's texts what they were, from release to release and as committed?

Headers, scripts, tables, configuration and locales say no symbol, and decide what programs do. That releases
agree (`rpm.contents`) says nothing of a text that is wrong alike in all, so each is compared with a committed
digest as well (`rpm.texts`). That of programs, libraries and archives is what they export and do; documents
may say more.

Another maker's packages are not asked: a series that changes a header or a locale is that maker's business,
and which files its spec takes out is not known here. That its headers compile as the base's do is asked by
`devel.compile`.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.abi import baseline
from pipeline.check import Material
from pipeline.check.abi_facts import Fact, remedy
from pipeline.check.packages import EachPackaging, all_rpms, judged
from pipeline.check.rpm import is_foreign
from pipeline.check.updating import OURS, EachStep
from pipeline.core import paths
from pipeline.core.declaration import Declaration, Scope, Unit, measured
from pipeline.core.outcome import Outcome, Question, Target
from pipeline.core.records import Built
from pipeline.profile import Profile, Step
from pipeline.rpm import texts
from pipeline.rpm.sysroot import is_wanted
from pipeline.rpm.texts import Digests, Texts

#: Digits of a digest that a fault shows.
SHOWN = 16


def texts_path(profile: Profile, arch: str) -> Path:
    """Where the texts of a profile are committed: beside the release that programs are built against, which
    has all that any other has."""
    target = Target(profile=profile.name, release=profile.build_against, arch=arch)
    return baseline.directory_of(target).with_name(f"{arch}.texts")


def texts_of(built: Built) -> Texts:
    """The texts of a build. Raises `EvidenceError`, `MalformedInput`."""
    image = built.manifest.image
    found = texts.of(rpm for rpm in all_rpms(built) if is_wanted(rpm))
    return Texts(found, built.manifest.nvr, image.base if image else "")


def _rseq_headers(profile: Profile) -> set[str]:
    return {f"/usr/include/{header}" for header in profile.rseq.headers}


class Contents(EachStep):
    """Every text is as it was, byte by byte; new ones come with the symbols of rseq."""

    declared = Declaration(
        name="rpm.contents",
        measures=measured(Unit.COUNT, "files", "new"),
        question=(
            "From release to release, does no header, script, table or configuration file change but "
            "`<sys/rseq.h>`?"
        ),
        scope=Scope.STEP,
        when=OURS,
    )
    expected = "the same texts, byte by byte; new ones are the headers of the rseq symbols"

    def ask(self, material: Material, step: Step) -> Fact:
        before, after = (texts_of(material.built[r]).files for r in (step.before, step.after))
        brings = bool(step.added) and not material.profile.get(step.before).exports_rseq
        new = after.keys() - before.keys()
        theirs = _rseq_headers(material.profile) & new if brings else set()
        faults = _faults({**before, **{path: after[path] for path in theirs}}, after)
        return judged(
            self.expected, f"{len(after)} files; new: {', '.join(sorted(new)) or 'none'}", faults,
            {"files": len(after), "new": len(new)},
        )  # fmt: skip


def _faults(expected: Digests, found: Digests) -> list[str]:
    """What is gone, what is new, and what is another, a line each.

    With the beginning of its sha256: who accepts one content (a waiver) has not accepted the next.
    """
    faults = [f"- {path}" for path in sorted(expected.keys() - found.keys())]
    faults += [f"+ {path} ({found[path][:SHOWN]})" for path in sorted(found.keys() - expected.keys())]
    same = sorted(expected.keys() & found.keys())
    return faults + [
        f"{path}: another content ({found[path][:SHOWN]})" for path in same if expected[path] != found[path]
    ]


class CommittedTexts(EachPackaging):
    """Every text is as committed; the headers of rseq's symbols are there where the symbols are."""

    declared = Declaration(
        name="rpm.texts",
        measures=measured(Unit.COUNT, "files", "left_out"),
        question="Is every header, script, table, locale and configuration file as committed, byte by byte?",
        when=OURS,
    )
    expected = "a committed list of texts that can be read"

    def questions(self, material: Material) -> list[Question]:
        return [q for q in super().questions(material) if not is_foreign(material.built[q.target.release])]

    def ask(self, material: Material, release: str) -> Fact:
        profile = material.profile
        file = texts_path(profile, material.arch.name)
        shown = str(file.relative_to(paths.BASELINES.parent))
        committed = texts.load(file)
        if committed is None:
            target = material.target(profile.build_against)
            words = f"there is no {shown}; {remedy(target)}"
            return Fact(Outcome.MISSING, "a committed list of texts", words)
        found = texts_of(material.built[release])
        away = set() if profile.get(release).exports_rseq else _rseq_headers(profile)
        known = {path: digest for path, digest in committed.files.items() if path not in away}
        files, left_out = found.files, 0
        if found.image != committed.image:  # other tools wrote the same in other bytes
            same = {p: known[p] for p in files if p in known and p.endswith(texts.TOOL_MADE)}
            files, left_out = {**files, **same}, len(same)
        answer = judged(
            f"{len(known)} texts as committed (from {committed.origin})",
            f"{len(files)} texts, no difference"
            + (f"; of {left_out} that tools of another image wrote, the names alone" if left_out else ""),
            _faults(known, files), {"files": len(files), "left_out": left_out},
        )  # fmt: skip
        return Fact(answer.outcome, answer.expected, answer.seen, (shown,), answer.measures)


CHECKS = (Contents(), CommittedTexts())
