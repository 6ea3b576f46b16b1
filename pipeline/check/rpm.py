"""What RPMs say of the backport: what the releases provide, what a program requires, what rpm makes of it.

Dependencies name a version node of a DSO, never a symbol: ``ld-linux-x86-64.so.2(GLIBC_2.35)(64bit)``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from pipeline.check import Material, StaticCheck
from pipeline.check.rule import Absent, outcome_of, words_of
from pipeline.core.declaration import Declaration, Scope
from pipeline.core.errors import EvidenceError, PipelineError
from pipeline.core.outcome import Finding, Outcome, Question
from pipeline.core.records import Built
from pipeline.profile import Step, for_arch
from pipeline.rpm import package as rpmfile
from pipeline.rpm import transaction
from pipeline.rpm.header import Dependency
from pipeline.rpm.inventory import OWN
from pipeline.rpm.sysroot import is_wanted

RSEQ, PLAIN = "launch-rseq", "launch-plain"
#: What a system without development tools has of glibc; the vendor's glibc requires a langpack.
RUNTIME = ("glibc", "glibc-common", "glibc-minimal-langpack", "glibc-gconv-extra")

_BUILD = "`nox -s build` makes the packages and the test programs"


def capability(dso: str, node: str) -> str:
    """How rpm names a version node of a 64-bit DSO."""
    return f"{dso}({node})(64bit)"


def rseq_capabilities(material: Material) -> set[str]:
    """The capabilities of the profile's public rseq symbols."""
    lines = for_arch(material.profile.rseq.symbols, material.arch)
    return {capability(*line.split()[:2]) for line in lines}


def probe_rpm(material: Material, program: str) -> Path:
    """The RPM of one test program, made by rpmbuild if need be.

    Raises `NotCompiled` if the packages are why it was not compiled, `NotThere`, `CommandFailed`,
    `ToolMissing`.
    """
    if known := material.not_compiled(program):
        raise NotCompiled(*known)
    if not (material.programs / program).is_file():
        raise NotThere(f"test program {program} was not compiled for {material.arch.name}", hint=_BUILD)
    return transaction.probe_rpm(material.programs / program, material.arch)


class NotThere(Absent):
    """What was to be judged is absent (MISSING), not broken (ERROR)."""


class NotCompiled(EvidenceError):
    """A test program that the packages do not let compile: ``outcome`` is FAIL, or MISSING."""

    def __init__(self, outcome: Outcome, words: str) -> None:
        super().__init__(words)
        self.outcome = outcome


def binary_rpms(built: Built) -> list[rpmfile.Rpm]:
    """The release's packages, verified, without debug information and sources.

    Debug packages provide their build ids, which differ in each build by nature. Raises `EvidenceError`.
    """
    found = []
    for record in built.manifest.rpms:
        path = built.rpms / record.file
        if is_wanted(rpmfile.read(path)):
            found.append(rpmfile.verify(path))
    if not found:
        raise NotThere(f"{built.target} has no RPMs", hint=_BUILD)
    return found


def provides(built: Built) -> Counter[str]:
    """Every Provides of the release's packages in rpm's notation, the package's own version replaced."""
    counted: Counter[str] = Counter()
    for rpm in binary_rpms(built):
        own = f"{rpm.version}-{rpm.release}"
        versions = {own} if rpm.epoch is None else {own, f"{rpm.epoch}:{own}"}
        for provided in rpm.provides:
            version = OWN if provided.version in versions else provided.version
            counted[str(Dependency(provided.name, provided.flags, version))] += 1
    return counted


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _answered(question: Question, expected: str, ask: Callable[[], tuple[Outcome, str]]) -> Finding:
    """The finding of one question, whatever goes wrong with it: one that cannot be read spoils no other."""
    try:
        outcome, seen = ask()
    except NotCompiled as e:
        outcome, seen = e.outcome, e.message
    except (PipelineError, OSError) as e:
        outcome, seen = outcome_of(e), words_of(e)
    return Finding(**question.model_dump(), outcome=outcome, expected=expected, seen=seen)


def _verdict(good: bool) -> Outcome:
    return Outcome.PASS if good else Outcome.FAIL


class Provides(StaticCheck):
    """For each step of the profile, what the packages provide grows by exactly the nodes that are new."""

    declared = Declaration(
        name="rpm.provides",
        question="Do the packages' Provides differ by that one node?",
        scope=Scope.STEP,
    )

    def questions(self, material: Material) -> list[Question]:
        return [question for _, question in material.steps(self.name)]

    def run(self, material: Material) -> list[Finding]:
        of = cache(lambda release: provides(material.built[release]))
        return [self._judge(material, step, question, of) for step, question in material.steps(self.name)]

    def _judge(
        self, material: Material, step: Step, question: Question, of: Callable[[str], Counter[str]]
    ) -> Finding:
        new = Counter({capability(*line.split()[:2]) for line in for_arch(step.added, material.arch)})

        def ask() -> tuple[Outcome, str]:
            before, after = of(step.before), of(step.after)
            added, removed = after - before, before - after
            seen = f"added: {_listed(added.elements())}; removed: {_listed(removed.elements())}"
            return _verdict(added == new and not removed), seen

        return _answered(question, f"added: {_listed(new)}; removed: nothing", ask)


class Requires(StaticCheck):
    """A program that uses the symbols gets the Requires by itself; one that does not, does not."""

    declared = Declaration(
        name="rpm.requires",
        question="Does a program that uses the symbols get the right Requires by itself?",
        scope=Scope.NEWEST,
    )

    def questions(self, material: Material) -> list[Question]:
        target = material.target(material.profile.build_against)
        return [Question(check=self.name, target=target, case=case) for case in (RSEQ, PLAIN)]

    def run(self, material: Material) -> list[Finding]:
        findings = []
        for question in self.questions(material):
            wanted = rseq_capabilities(material) if question.case == RSEQ else set()

            def ask(case: str = question.case, wanted: set[str] = wanted) -> tuple[Outcome, str]:
                return self.judge(material, probe_rpm(material, case), wanted)

            node = material.profile.rseq.node
            expected = f"automatic dependencies, naming {node} of: {_listed(wanted)}"
            findings.append(_answered(question, expected, ask))
        return findings

    @staticmethod
    def judge(material: Material, package: Path, wanted: set[str]) -> tuple[Outcome, str]:
        """Compare the Requires of a test program's package that name the node with ``wanted``."""
        required = {d.name for d in rpmfile.verify(package).requires}
        named = {name for name in required if f"({material.profile.rseq.node})" in name}
        if not any(name.startswith("libc.so.6(") for name in required):
            return Outcome.FAIL, f"no dependency on libc.so.6, so none were generated: {_listed(required)}"
        return _verdict(named == wanted), f"naming {material.profile.rseq.node}: {_listed(named)}"


class Transaction(StaticCheck):
    """rpm itself accepts the program's package on a release, or refuses it, for the one right reason."""

    declared = Declaration(
        name="rpm.transaction",
        question=(
            "Does a real rpm transaction accept that program where it must, and refuse it for "
            "that reason alone where it must not?"
        ),
    )

    def questions(self, material: Material) -> list[Question]:
        return [
            Question(check=self.name, target=material.target(release), case=case)
            for release in material.built
            if material.asks(release)
            for case in ("glibc", RSEQ, PLAIN)
        ]

    def run(self, material: Material) -> list[Finding]:
        @cache
        def done(release: str) -> transaction.Transactions:
            built = material.built[release]
            programs = {p: probe_rpm(material, p) for p in (RSEQ, PLAIN) if material.not_compiled(p) is None}
            base = [r.path for r in binary_rpms(built) if r.name in RUNTIME]
            if not base:
                raise NotThere(f"{built.target} has no package called glibc", hint=_BUILD)
            return transaction.transactions(base, programs, material.arch)

        return [self._judge(material, question, done) for question in self.questions(material)]

    def _judge(
        self, material: Material, question: Question, carried_out: Callable[[str], transaction.Transactions]
    ) -> Finding:
        release, case = question.target.release, question.case
        refused = case == RSEQ and not material.profile.get(release).exports_rseq
        wanted = rseq_capabilities(material) if refused else set()
        what = "the release's own packages" if case == "glibc" else f"{case}'s package"
        expected = f"{what} " + (f"refused, for want of {_listed(wanted)} alone" if refused else "accepted")

        def ask() -> tuple[Outcome, str]:
            if case == "glibc":
                return judge_base(carried_out(release), foreign=is_foreign(material.built[release]))
            package = rpmfile.read(probe_rpm(material, case))
            done = carried_out(release)
            if case not in done.programs:
                return Outcome.MISSING, f"not tried, for glibc could not be installed: {_said(done)}"
            return judge_program(done.programs[case], {f"{c} is needed by {package.nvra}" for c in wanted})

        return _answered(question, expected, ask)


def is_foreign(built: Built) -> bool:
    """Whether the packages were made by somebody else's spec, so that they may need other packages."""
    return built.manifest.mode == "supplied" or another_series(built)


def another_series(built: Built) -> bool:
    """Whether it was built from a dist-git: its maker decides what else it changes, within the public ABI."""
    source = built.manifest.source
    return source is not None and source.kind == "distgit"


def _said(done: transaction.Transactions) -> str:
    return (done.forced or done.base).said


def judge_base(done: transaction.Transactions, *, foreign: bool) -> tuple[Outcome, str]:
    """The release's own packages: closed among themselves, or (a vendor's) installable without that check."""
    if done.base.accepted:
        return Outcome.PASS, "accepted, dependencies checked"
    if done.forced is None or not done.forced.accepted:
        return Outcome.FAIL, f"refused: {_said(done)}"
    unmet = f"unmet among themselves: {_listed(done.base.unmet)}"
    if done.base.unmet and foreign:
        return Outcome.PASS, f"accepted with --nodeps (for these packages only); {unmet}"
    return Outcome.FAIL, f"refused; {unmet}" if done.base.unmet else f"refused: {done.base.said}"


def judge_program(attempt: transaction.Attempt, wanted: set[str]) -> tuple[Outcome, str]:
    """A program's package: refused for exactly the unmet dependencies ``wanted``, accepted if none is."""
    if attempt.accepted:
        return _verdict(not wanted), "accepted"
    seen = "refused: " + "; ".join([*attempt.unmet, *attempt.other.splitlines()])
    return _verdict(bool(wanted) and set(attempt.unmet) == wanted and not attempt.other), seen


CHECKS = (Provides(), Requires(), Transaction())
