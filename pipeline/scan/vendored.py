"""Libraries that come along: a program whose own library fails on a release fails there too.

Each file is judged with what the loader maps for it (`pipeline.scan.loading`). A library's own trouble is
looked at again in the scope of the program that loads it, for there it may find more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.scan.alike import Difference, difference
from pipeline.scan.facts import Kind
from pipeline.scan.inputs import INSIDE
from pipeline.scan.judge import Answer, Companion, Judgement, Missing, Setting, judge
from pipeline.scan.loading import Loaded, Scene
from pipeline.scan.release import Release


@dataclass
class Together:
    """The files of a scan, judged together. ``releases``: architecture -> the releases asked of its files."""

    scene: Scene
    releases: Mapping[str, Sequence[Release]]
    _settings: dict[int, tuple[Loaded, Setting]] = field(default_factory=dict)
    _alone: dict[int, dict[str, Judgement]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        #: architecture -> how releases differ from the first, and those that do so (None: one by itself)
        self._compared: dict[str, list[tuple[Difference | None, list[Release]]]] = {}
        for arch, releases in self.releases.items():
            groups = self._compared.setdefault(arch, [])
            for release in releases:
                differs = difference(releases[0], release)
                same = [
                    g for d, g in groups if d is not None and d == differs and g[0].private == release.private
                ]
                if same:
                    same[0].append(release)
                else:
                    groups.append((differs, [release]))

    def judgements(self, number: int) -> dict[str, Judgement]:
        """The answers for a file, by release, its libraries' trouble included."""
        own = dict(self._judged_alone(number))
        loaded = self._setting(number)[0]
        for companion in loaded.files[1:]:
            for release in self.releases[self.scene.facts(number).arch]:
                own[release.name] = self._with_library(own[release.name], number, companion, release)
        return own

    def _judged_alone(self, number: int) -> dict[str, Judgement]:
        """The answers for a file, of its libraries only their symbols considered."""
        if number not in self._alone:
            facts = self.scene.facts(number)
            setting = self._setting(number)[1]
            found: dict[str, Judgement] = {}
            first: Judgement | None = None
            for differs, group in self._compared[facts.arch]:
                judged = first
                if judged is None or differs is None or differs.touches(facts, setting):
                    judged = judge(facts, group[0], setting)
                first = first or judged
                found.update(dict.fromkeys([r.name for r in group], judged))
            self._alone[number] = {r.name: found[r.name] for r in self.releases[facts.arch]}
        return self._alone[number]

    def _setting(self, number: int) -> tuple[Loaded, Setting]:
        if number not in self._settings:
            loaded = self.scene.loaded(number)
            # what a file finds in itself, its import table does not list: only libraries are asked
            companions = {
                n: Companion(self._called(n, number), self.scene.exports(n)) for n in loaded.files[1:]
            }
            names = {
                name: companions[where] if where >= 0 and where in companions else where
                for name, where in loaded.names.items()
                if where != number
            }
            own = self.scene.has_own_loader(number)
            self._settings[number] = loaded, Setting(names, tuple(companions.values()), own)
        return self._settings[number]

    def _called(self, number: int, by: int) -> str:
        """The name of a file in what is said of ``by``: in the same archive without the archive's."""
        item = self.scene.items[number]
        same = item.member and item.file == self.scene.items[by].file
        return item.name.partition(INSIDE)[2] if same else item.name

    def _with_library(self, own: Judgement, number: int, companion: int, release: Release) -> Judgement:
        """``own`` with what the library ``companion`` means for the file ``number``."""
        item, setting = self.scene.items[companion], self._setting(number)[1]
        called = self._called(companion, number)
        if item.no_elf:
            says = f"{called}, which is found for a library, is no ELF file: ld.so stops"
            return self._stopped(own, says)
        if item.facts is None:
            why = f"its library {called} could not be read: {item.trouble}"
            return replace(own, answer=Answer.UNKNOWN, reason=why) if own.answer is Answer.STARTS else own
        if item.facts.no_library:
            return self._stopped(
                own, f"{called} is {item.facts.no_library}, which ld.so does not load as a library"
            )
        library = self._judged_alone(companion)[release.name]
        closed = self.scene.facts(number).kind is Kind.PROGRAM and not setting.elsewhere
        if library.answer is Answer.FAILS or (closed and library.borrowed):
            root = Companion(self.scene.items[number].name, self.scene.exports(number))
            whole = Setting(setting.names, (root, *setting.companions))
            library = judge(item.facts, release, whole, closed=closed and not setting.unreadable)
        if library.answer is Answer.FAILS and own.answer in (Answer.STARTS, Answer.UNKNOWN):
            why = f"its library {called} fails"
            return replace(own, answer=Answer.FAILS, missing=library.missing, reason=why)
        if library.answer is Answer.UNKNOWN and own.answer is Answer.STARTS:
            why = f"its library {called} may not start: {library.reason}"
            return replace(own, answer=Answer.UNKNOWN, reason=why)
        return own

    @staticmethod
    def _stopped(own: Judgement, says: str) -> Judgement:
        if own.answer not in (Answer.STARTS, Answer.UNKNOWN):
            return own
        return replace(own, answer=Answer.FAILS, missing=(Missing("", says=says),), reason="")
