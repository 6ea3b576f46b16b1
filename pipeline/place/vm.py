"""A virtual machine as a place: one boot runs a whole batch on a kernel that is not the host's.

The machine boots a kernel with an initramfs that carries roots, overlays and jobs. Results come over a
virtio-serial port into a file, the console goes into another; both are kept. Whatever goes wrong after
QEMU was found is trouble in the result, with what did come through: a machine that panics, hangs, is
killed or falls silent never raises and never passes.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths, progress
from pipeline.core.arch import Arch
from pipeline.core.errors import UsageError
from pipeline.core.run import running
from pipeline.place import BatchResult, Job, initramfs, machine
from pipeline.place.batch import decode_results, encode_jobs, for_emulation
from pipeline.place.kernel import KernelImage, machine_of, page_kib_of
from pipeline.place.watch import SILENCE, Watch, kept

#: Path in every root where the compiled probes lie, init and runner among them.
PROBES = "/probes"
#: How much longer a job may take where its processor is emulated.
TCG_PATIENCE = 4.0
#: Seconds from QEMU's start to the runner's first line, at most (emulated and not).
BOOT_LIMIT = {"tcg": 120.0, "kvm": 20.0}
#: Seconds from the last result to the end of QEMU.
SHUTDOWN_LIMIT = 30.0
INIT_FAILED = re.compile(r"pipeline-init: failed: (.*)")
PANIC = re.compile(r"Kernel panic - not syncing: (.*)")


@dataclass(frozen=True)
class VmPlace:
    """A machine of architecture ``arch`` that boots ``kernel``.

    ``accel``: ``auto`` takes KVM where it works for this guest. ``timeout_s`` limits the whole run (None:
    what the jobs' own limits add up to). ``extra_cmdline`` goes to the kernel. ``qemu_options`` go to QEMU.
    ``log_dir`` is where console and results are kept (default: `paths.logs`).
    """

    arch: Arch
    kernel: KernelImage
    memory_mib: int = 1024
    cpus: int = 2
    accel: machine.Accel = "auto"
    timeout_s: float | None = None
    extra_cmdline: tuple[str, ...] = ()
    qemu_options: tuple[str, ...] = ()
    log_dir: Path | None = None
    silence_s: float = SILENCE

    @property
    def name(self) -> str:
        return f"vm:{self.kernel.label}"

    def argv(self, files: machine.MachineFiles, acceleration: machine.Acceleration) -> list[str]:
        """QEMU's command line."""
        line = machine.command(
            self.arch,
            files,
            acceleration,
            memory_mib=self.memory_mib,
            cpus=self.cpus,
            options=self.extra_cmdline,
            page_kib=self._page_kib(),
        )
        return [*line, *self.qemu_options]

    def run_batch(
        self, roots: Mapping[str, Path], overlay: Mapping[str, Path], jobs: Sequence[Job]
    ) -> BatchResult:
        """See `pipeline.place.Place`.

        ``overlay["/probes"]`` must hold the static programs ``init`` and ``runner``, else `UsageError`.
        Raises `ToolMissing` without QEMU and `WorldError` if KVM was demanded and is not there.
        """
        wrong = self._wrong_kernel()
        if wrong:
            return BatchResult(facts=None, results={}, trouble=wrong)
        acceleration = machine.choose(self.arch, self.accel)
        batch = self._boot(roots, overlay, jobs, acceleration)
        if acceleration.kind == "kvm" and self.accel == "auto" and batch.facts is None:
            progress.warn(f"{self.name} does not come up with KVM, so it is emulated: {batch.trouble}")
            batch = self._boot(roots, overlay, jobs, machine.Acceleration("tcg", batch.trouble))
        return batch

    def _boot(
        self,
        roots: Mapping[str, Path],
        overlay: Mapping[str, Path],
        jobs: Sequence[Job],
        acceleration: machine.Acceleration,
    ) -> BatchResult:
        """One machine from start to end."""
        logs = self.log_dir or paths.logs()
        stem = re.sub(r"[^A-Za-z0-9.+_-]", "-", f"vm-{self.arch.name}-{self.kernel.label}")
        log = logs / f"{stem}.console.log"
        if acceleration.kind == "tcg":
            jobs = for_emulation(jobs, TCG_PATIENCE)
        with (
            progress.step(f"{self.name} {self.arch.name} ({acceleration.kind}): {len(jobs)} jobs") as step,
            tempfile.TemporaryDirectory(prefix="glibc-pipeline-vm-") as scratch,
            kept(log) as console,
            kept(logs / f"{stem}.results.jsonl") as results,
        ):
            step.at("packing the initramfs")
            files = machine.MachineFiles(self.kernel.image, Path(scratch, "initrd"), console, results)
            initramfs.write(files.initrd, self._layout(roots, overlay, jobs))
            trouble = self._run_qemu(acceleration, files, Path(scratch, "qemu.err"), jobs, step)
            batch = decode_results(
                results.read_bytes(),
                place=self.name,
                emulation=acceleration.emulation,
                log=log,
                trouble=trouble and f"{trouble} (console: {log})",
            )
            step.done(f"{len(batch.results)} of {len(jobs)} results")
        if batch.trouble:
            progress.warn(f"{self.name}: {batch.trouble}")
        return batch

    def _run_qemu(
        self,
        acceleration: machine.Acceleration,
        files: machine.MachineFiles,
        errors: Path,
        jobs: Sequence[Job],
        step: progress.Running,
    ) -> str:
        """Start QEMU and wait for its end; returns what went wrong, or ""."""
        argv = self.argv(files, acceleration)
        with errors.open("wb") as stderr, running(argv, stderr=stderr) as qemu:
            watch = Watch(
                jobs=jobs,
                results=files.results,
                starting=("booting", BOOT_LIMIT[acceleration.kind]),
                ending=("shutting down", SHUTDOWN_LIMIT),
                total_limit=self.timeout_s,
                silence=self.silence_s,
            )
            hang = watch.until_end(qemu, step)
        said = errors.read_text(errors="replace")
        return hang or _how_it_ended(argv[0], qemu.returncode, said, files.console)

    def _page_kib(self) -> int:
        with self.kernel.image.open("rb") as f:
            return page_kib_of(f.read(0x10000))

    def _wrong_kernel(self) -> str:
        """Why this kernel cannot be booted at all, or ""."""
        try:
            with self.kernel.image.open("rb") as f:
                found = machine_of(f.read(0x10000))
        except OSError as e:
            return f"kernel {self.kernel.image} cannot be read: {e.strerror}"
        if not found:
            return f"{self.kernel.image} is no kernel image that QEMU could boot ({self.arch.name} wanted)"
        if found != self.arch.name:
            return f"kernel {self.kernel.image} is for {found}, the machine is {self.arch.name}"
        return ""

    def _layout(
        self, roots: Mapping[str, Path], overlay: Mapping[str, Path], jobs: Sequence[Job]
    ) -> initramfs.RootLayout:
        programs = overlay.get(PROBES)
        for name in ("init", "runner"):
            if programs is None or not (programs / name).is_file():
                raise UsageError(f"a virtual machine needs {PROBES}/{name} in the overlay")
        assert programs is not None
        where = {path: f"overlays/{n}" for n, path in enumerate(overlay)}
        command = [
            f"/{where[PROBES]}/runner",
            "--jobs",
            "/pipeline/jobs",
            "--out",
            "fd:1",
            "--roots",
            "/roots",
        ]
        for path, directory in where.items():
            command += ["--overlay", f"{path}=/{directory}"]
        return initramfs.RootLayout(
            init=programs / "init",
            command=tuple(command),
            files={"pipeline/jobs": encode_jobs(jobs)},
            modules={m.name: m.read_bytes() for m in self.kernel.modules},
            roots={f"roots/{name}": tree for name, tree in roots.items()},
            overlays={where[path]: tree for path, tree in overlay.items()},
        )


def _how_it_ended(program: str, returncode: int, errors: str, console: Path) -> str:
    """What was wrong with a machine that ended by itself, or ""."""
    said = " ".join(errors.split())
    if returncode < 0:
        return f"{program} was killed by signal {-returncode}" + (f": {said}" if said else "")
    if returncode:
        return f"{program} ended with status {returncode}: {said or 'it said nothing'}"
    text = console.read_text(errors="replace")
    if found := INIT_FAILED.search(text):
        return f"init in the machine failed: {found[1].strip()}"
    if found := PANIC.search(text):
        return f"the kernel panicked: {found[1].strip()}"
    if "pipeline-init: done" in text:
        return ""
    begun = "its work was done" if "pipeline-init: up" in text else "its init began"
    return f"the machine ended before {begun}"
