"""Evidence as a real run makes it: both architectures, three releases, every check; and ways to spoil it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipeline import profile as profiles
from pipeline.abi import baseline
from pipeline.check import TUNABLE_STATES, rebuilt, registry, tunable_case, tunable_facet
from pipeline.check.static import KINDS
from pipeline.core import paths
from pipeline.core.arch import arch
from pipeline.core.declaration import by_name
from pipeline.core.identity import Identity, identity
from pipeline.core.outcome import Finding, NotJudged, Outcome, Question, Target
from pipeline.core.records import BuildManifest, FileRecord, ImageRecord, RebuildRecord, SourceRecord
from pipeline.profile import Profile, for_arch
from pipeline.signoff.evidence import gather
from pipeline.signoff.records import Environment, Evidence, PlaceRecord, ProfileRecord
from pipeline.signoff.waiver import Waiver
from pipeline.source import series

CREATED = "2026-03-14T09:26:53Z"
HOST = "host"
PROGRAMS = ("c", "cxx", "threads", "static-pie", "rseq")


def sha(*parts: object) -> str:
    """A sha256 that only looks like one of a real file."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def record(name: str, *salt: object) -> FileRecord:
    return FileRecord(file=name, sha256=sha(name, *salt), size=int(sha(name)[:6], 16))


CLEAN = Identity(version="1.0.0", commit="0123456789abcdef0123456789abcdef01234567")


@dataclass
class Draft:
    """What goes into `gather`; tests spoil it before `evidence` is called."""

    profile: Profile
    builds: list[BuildManifest] = field(default_factory=list)
    places: list[PlaceRecord] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    not_judged: list[NotJudged] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    waivers: Sequence[Waiver] = ()
    baselines: list[FileRecord] = field(default_factory=list)
    pipeline: Identity = CLEAN
    #: what the evidence says of the profile beside what follows from it
    claims: dict[str, object] = field(default_factory=dict)
    command: str = "nox -s setup build verify -- --profile bookworm"

    def find(self, check: str, **wanted: str) -> int:
        """Index of the first finding of ``check`` whose release, arch, case or place are as wanted."""
        for i, f in enumerate(self.findings):
            has = {"release": f.target.release, "arch": f.target.arch, "case": f.case, "place": f.place}
            if f.check == check and all(has[k] == v for k, v in wanted.items()):
                return i
        raise LookupError(check)

    def spoil(self, check: str, outcome: Outcome = Outcome.FAIL, seen: str = "", **wanted: str) -> Finding:
        """Give that finding another outcome; returns the new one."""
        i = self.find(check, **wanted)
        update = {"outcome": outcome, "seen": seen or self.findings[i].seen}
        self.findings[i] = self.findings[i].model_copy(update=update)
        return self.findings[i]

    def evidence(self) -> Evidence:
        return gather(
            checks=registry.declarations(),
            pipeline=self.pipeline,
            baselines=self.baselines,
            profile=ProfileRecord.of(self.profile).model_copy(update=self.claims),
            targets=[b.target for b in self.builds],
            command=self.command,
            environment=Environment(
                os="Debian GNU/Linux 12 (bookworm)",
                kernel="6.18.5",
                machine="x86_64",
                python="3.11.7",
                tools={"podman": "4.3.1", "qemu-system-aarch64": "7.2.15", "rpmbuild": "4.18.0"},
            ),
            builds=self.builds,
            places=self.places,
            questions=self.questions,
            findings=self.findings,
            not_judged=self.not_judged,
            waivers=self.waivers,
            created=CREATED,
        )


def _build(profile: Profile, release: str, machine: str) -> BuildManifest:
    version = f"{profile.glibc}-{profile.get(release).rpm_release}"
    packages = ("glibc", "glibc-common", "glibc-devel", "glibc-static", "glibc-debuginfo")
    rpms = tuple(record(f"{p}-{version}.{machine}.rpm") for p in packages)
    source = record(f"glibc-{version}.src.rpm")
    return BuildManifest(
        target=Target(profile=profile.name, release=release, arch=machine),
        key=sha("key", release, machine)[:32],
        nvr=f"glibc-{version}",
        rpms=rpms,
        srpm=source,
        mode="native" if machine == "x86_64" else "cross",
        place="container",
        hermetic=True,
        source=SourceRecord(
            kind="apt", origin="bookworm glibc_2.36.orig.tar.xz", sha256=profile.source.sha256, pinned=True
        ),
        patches=tuple(p.record for p in series.load(profile.name, release).patches),
        image=ImageRecord(
            id="sha256:" + sha("image"), base="mmdebstrap bookworm", pinned=True, tools={"gcc": "12.2.0-14"}
        ),
        seconds=431.0,
        seen={**dict.fromkeys(rebuilt.CONDITIONS, "one"), "time": CREATED},
        rebuild=RebuildRecord(
            at=CREATED,
            machine="root on builder",
            processor="a processor",
            compared={r.file: r.sha256 for r in (*rpms, source)},
            conditions={**dict.fromkeys(rebuilt.CONDITIONS, "another"), "time": "2027-04-18T12:52:38Z"},
            differences=(),
            seconds=429.0,
        ),
    )


def place(name: str, machine: str, kernel: str, emulation: str = "", kernel_name: str = "") -> PlaceRecord:
    """A place that worked; one with an emulation has booted a kernel of its own."""
    return PlaceRecord(
        place=name,
        arch=machine,
        came_up=True,
        kernel=kernel,
        kernel_version="#1 SMP PREEMPT_DYNAMIC Debian",
        machine=machine,
        cpus=2,
        cpu_model="Cortex-A57" if machine == "aarch64" else "AMD EPYC 7B13",
        rseq="EINVAL",
        emulation=emulation,
        log=record(f"{machine}-{kernel}.log"),
        kernel_image=record(f"vmlinuz-{kernel}") if emulation else None,
        kernel_name=kernel_name,
    )


def samples(around: float, spread: float, seed: object, n: int = 40) -> list[float]:
    """Times per call as a busy machine gives them: a floor and a tail."""
    source = random.Random(repr(seed))
    return [round(around * (1 + abs(source.gauss(0, spread))), 3) for _ in range(n)]


def speed_measures(machine: str, where: str, release: str, case: str) -> dict[str, object]:
    """As getcpu.speed gives them: all series with the tunable on, one otherwise."""
    slow = machine == "aarch64"
    seed = (machine, where, release)
    off = (33000.0 if where != HOST else 210.0) if slow else 8.8
    on = 120.0 if slow else 7.1
    unset = on if release.endswith(".1") else off
    if case == "tunable=0":
        return {"off_ns": samples(off, 0.05, (*seed, "off"))}
    if case == "tunable unset":
        return {"unset_ns": samples(unset, 0.05, (*seed, "unset"))}
    return {
        "unset_ns": samples(unset, 0.05, (*seed, "unset")),
        "on_ns": samples(on, 0.06, (*seed, "on")),
        "off_ns": samples(off, 0.05, (*seed, "off")),
        "raw_ns": samples(off * 0.98 if slow else 201.0, 0.04, (*seed, "raw")),
        "direct_ns": samples(40.0 if slow else 1.9, 0.05, (*seed, "direct")),
        "empty_ns": samples(20.0 if slow else 0.6, 0.05, (*seed, "empty")),
    }


def counted(machine: str, exports: bool) -> dict[str, object]:
    """Symbols per DSO, as abi.baseline counts them."""
    loader = {"x86_64": 5, "aarch64": 6}[machine] + (3 if exports else 0)
    libc = {"x86_64": 2701, "aarch64": 2632}[machine]
    return {"dsos": 16, f"{arch(machine).loader}_symbols": loader, "libc.so.6_symbols": libc}


def _static(profile: Profile, machine: str) -> list[Finding]:
    loader = arch(machine).loader
    capability = f"{loader}(GLIBC_2.35)(64bit)"
    found = []
    for r in profile.release:
        target = Target(profile=profile.name, release=r.name, arch=machine)
        for check, expected, seen in (
            ("abi.baseline", "equal to the baseline, 24 DSOs", "24 DSOs, no difference"),
            ("abi.node-whole", "GLIBC_2.35 whole in ld.so, absent elsewhere", "as expected"),
            ("abi.rseq-layout", "flags .rodata 4, offset .data.rel.ro 8, size .data.rel.ro 4", "as expected"),
            ("rpm.requires", f"rseq-using program requires {capability}", capability),
        ):
            found.append(
                Finding(
                    check=check,
                    target=target,
                    outcome=Outcome.PASS,
                    expected=expected,
                    seen=seen,
                    measures=counted(machine, r.exports_rseq) if check == "abi.baseline" else {},
                )
            )
        accepted = "accepted" if r.exports_rseq else f"refused: {capability} is needed"
        found.append(
            Finding(
                check="rpm.transaction", target=target, outcome=Outcome.PASS, expected=accepted, seen=accepted
            )
        )
    newest = Target(profile=profile.name, release=profile.build_against, arch=machine)
    for program in PROGRAMS:
        text = f"needs GLIBC_2.35: {loader if program == 'rseq' else 'none'}"
        found.append(
            Finding(
                check="launch.needs",
                target=newest,
                case=program,
                outcome=Outcome.PASS,
                expected=text,
                seen=text,
            )
        )
    for step in profile.step:
        lines = for_arch(step.added, arch(machine))
        delta = "".join(f"+ {line.replace(' ', ': ', 1)}\n" for line in lines)
        text = delta.rstrip() or "no difference"
        found.append(
            Finding(
                check="abi.delta",
                target=Target(profile=profile.name, release=f"{step.before} -> {step.after}", arch=machine),
                outcome=Outcome.PASS,
                expected=f"against the baseline of {step.before}:\n{text}",
                seen=text,
                measures={"added": len(lines), "removed": 0, "delta": delta},
            )
        )
        found.append(found[-1].model_copy(update={"check": "rpm.provides", "measures": {}}))
    return found


def _launches(profile: Profile, machine: str, at: PlaceRecord) -> list[Finding]:
    found = []

    def launch(release: str, case: str, text: str, *, control: bool = False, **facets: str) -> None:
        target = Target(profile=profile.name, release=release, arch=machine)
        found.append(
            Finding(
                check="launch.matrix",
                target=target,
                case=case,
                place=at.place,
                kernel=at.kernel,
                facets=facets,
                control=control,
                outcome=Outcome.PASS,
                expected=text,
                seen=text,
            )
        )

    for r in profile.release:
        for program in PROGRAMS:
            refused = program == "rseq" and not r.exports_rseq
            text = "refused by the loader: version `GLIBC_2.35' not found" if refused else "starts"
            if program == "rseq":
                for state in TUNABLE_STATES:
                    case = f"{program} on {r.name}, {tunable_case(state)}"
                    launch(r.name, case, text, control=refused, program=program, tunable=tunable_facet(state))
            else:
                launch(r.name, f"{program} on {r.name}", text, program=program)
        if not r.exports_rseq:
            launch(r.name, "negative control", "one that must not start is seen not to start")
    return found


def _observed(profile: Profile, machine: str, at: PlaceRecord) -> tuple[list[Finding], list[NotJudged]]:
    found: list[Finding] = []
    declined: list[NotJudged] = []
    for r in profile.release:
        target = Target(profile=profile.name, release=r.name, arch=machine)
        for state in TUNABLE_STATES:
            on = bool(r.rseq_default if state is None else state)
            common = {"target": target, "case": tunable_case(state), "place": at.place, "kernel": at.kernel}
            word = "registered, 32 bytes" if on else "not registered"
            calls = 0 if on or machine == "x86_64" else 1
            steps = {"instructions": 11 if on else (34 if machine == "x86_64" else 29), "system_calls": calls}
            texts = {
                "rseq.registered": f"main and 16 threads {word}",
                "rseq.secure": "the default holds",
                "rseq.tunable": f"__rseq_size {32 if on else 0}, flags 0",
                "rseq.own": "EINVAL" if on else "accepted",
                "rseq.critical": "no increment lost, aborts seen",
                "getcpu.migration": "right on all CPUs",
                "getcpu.path": "reads the rseq area" if on else "does not read the rseq area",
                "getcpu.steps": f"{steps['instructions']} instructions, {calls} system calls",
            }
            static = [("rseq.static", f"{kind}, {tunable_case(state)}", word) for kind in KINDS]
            for check, case, text in [(c, tunable_case(state), t) for c, t in texts.items()] + static:
                found.append(
                    Finding(
                        check=check,
                        **(common | {"case": case}),
                        outcome=Outcome.PASS,
                        expected=text,
                        seen=text,
                        evidence=(f"{check}/{r.name}/{case}",),
                        measures=steps if check == "getcpu.steps" else {},
                    )
                )
            measures = speed_measures(machine, at.place, r.name, tunable_case(state))
            if at.emulation:
                declined.append(
                    NotJudged(
                        check="getcpu.speed", **common, measures=measures,
                        reason="emulated (tcg): times there say nothing of a speed",
                    )
                )  # fmt: skip
            else:
                found.append(
                    Finding(
                        check="getcpu.speed", **common, outcome=Outcome.PASS, measures=measures,
                        expected="on at most 8 x direct and on at most 1.25 x off",
                        seen="on 7.02-7.31 ns, direct 1.90-1.94 ns, off 8.81-9.01 ns",
                    )
                )  # fmt: skip
    return found, declined


def _others(profile: Profile, machine: str, at: PlaceRecord | None, made: Draft) -> list[Finding]:
    """A green answer of every check that has none above, so that a new check is in every draft by itself."""
    here = at.place if at else ""
    answers: tuple[Finding | NotJudged, ...] = (*made.findings, *made.not_judged)
    known = {a.check for a in answers if a.place == here and a.target.arch == machine}
    return [
        Finding(
            check=check.name,
            target=Target(profile=profile.name, release=about, arch=machine),
            place=here,
            kernel=at.kernel if at else "",
            outcome=Outcome.PASS,
            expected="what it should be",
            seen="as expected",
        )
        for check in (registry.WATCHED if at else registry.STATIC)
        if check.declared.release_grade and check.name not in known
        for about in ProfileRecord.of(profile).asked(check.declared.scope)
    ]


def draft(arches: tuple[str, ...] = ("x86_64", "aarch64"), *, hardware: bool = False) -> Draft:
    """Everything green, of the bookworm profile, on two kernels per architecture and on an x86_64 host.

    ``hardware``: on an AArch64 machine as well.
    """
    profile = profiles.load("bookworm")
    made = Draft(profile)
    for machine in arches:
        made.builds += [_build(profile, r.name, machine) for r in profile.release]
        at = [
            place("vm:stable", machine, f"6.1.0-42-{arch(machine).deb}", "tcg", "stable"),
            place("vm:cloud", machine, f"6.1.0-42-cloud-{arch(machine).deb}", "tcg", "next"),
        ]
        if machine == "x86_64":
            at = (
                [place(HOST, machine, "6.18.5"), *at] if hardware else [place(HOST, machine, "6.18.5"), at[0]]
            )
        elif hardware:
            at.insert(0, place("ssh:root@board", machine, "6.12.0"))
        made.baselines += [
            record(f"abi-baselines/{profile.name}/{r.name}/{machine}") for r in profile.release
        ]
        made.places += at
        made.findings += _static(profile, machine)
        made.findings += _others(profile, machine, None, made)
        for where in at:
            found, declined = _observed(profile, machine, where)
            made.findings += _launches(profile, machine, where) + found
            made.not_judged += declined
            made.findings += _others(profile, machine, where, made)
    declared, asked_of = by_name(registry.declarations()), ProfileRecord.of(profile)
    made.findings = [f for f in made.findings if f.target.release in asked_of.asked(declared[f.check].scope)]
    answers: list[Finding | NotJudged] = [*made.findings, *made.not_judged]
    made.questions = [
        Question(
            check=a.check, target=a.target, case=a.case, place=a.place, facets=a.facets, control=a.control
        )
        for a in answers
    ]
    return made


def release_grade() -> Draft:
    """The same as if the profile were the mission's own."""
    made = draft(hardware=True)
    made.profile = made.profile.model_copy(update={"stand_in": "", "title": "RHEL 9 glibc 2.34"})
    made.claims = {"shipped": True}
    return made


def of_this_pipeline(made: Draft) -> Draft:
    """The draft as if this very checkout had judged, with its baselines."""
    directories = [paths.BASELINES.parent / record.file for record in made.baselines]
    return replace(made, pipeline=identity(), baselines=[baseline.record(d) for d in directories])


def rebuilt_as_it_is(build: BuildManifest) -> BuildManifest:
    """The build, its rebuild's record one of the packages that it has now."""
    assert build.rebuild
    compared = {r.file: r.sha256 for r in build.files}
    return build.model_copy(update={"rebuild": build.rebuild.model_copy(update={"compared": compared})})


def with_builds(made: Draft, change: Callable[[BuildManifest], BuildManifest]) -> Draft:
    """The draft with every build changed."""
    return replace(made, builds=[change(b) for b in made.builds])
