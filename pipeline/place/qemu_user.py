"""User-mode QEMU as a place: programs of a foreign architecture on the host's kernel.

It has no rseq (the system call says ENOSYS), so it shows that programs start and that glibc falls back, and
nothing else; its facts say so (``emulation`` is ``user``).

Nothing of the host is changed: no binfmt_misc is needed. The foreign runner itself runs under QEMU; a
program in a root is started as ``/probes/.qemu PROGRAM``, the static QEMU lying among the probes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.core import paths, progress
from pipeline.core.arch import Arch
from pipeline.core.errors import ToolMissing, UsageError
from pipeline.core.run import running
from pipeline.place import BatchResult, Job
from pipeline.place.batch import decode_results, encode_jobs, for_emulation, longest
from pipeline.place.watch import Watch, kept

PROBES = "/probes"
QEMU = ".qemu"
#: How much longer a job may take than on its own processor.
PATIENCE = 4.0


@dataclass(frozen=True)
class QemuUserPlace:
    """Runs jobs of architecture ``arch``; ``qemu`` is the static emulator ("": found by its usual name)."""

    arch: Arch
    qemu: str = ""
    log: Path | None = None
    name: str = "qemu-user"

    def run_batch(
        self, roots: Mapping[str, Path], overlay: Mapping[str, Path], jobs: Sequence[Job]
    ) -> BatchResult:
        """See `pipeline.place.Place`. Raises `ToolMissing` without QEMU, `UsageError` without a runner."""
        qemu = self._qemu()
        programs = overlay.get(PROBES)
        if programs is None or not (programs / "runner").is_file():
            raise UsageError(f"user-mode QEMU needs {PROBES}/runner in the overlay")
        log = self.log or paths.logs() / f"qemu-user-{self.arch.name}.results.jsonl"
        patient = [
            replace(job, argv=(f"{PROBES}/{QEMU}", *job.argv)) for job in for_emulation(jobs, PATIENCE)
        ]
        with (
            progress.step(f"{self.name} {self.arch.name}: {len(jobs)} jobs") as step,
            tempfile.TemporaryDirectory(prefix="glibc-pipeline-user-") as scratch,
            kept(log) as results,
        ):
            probes, job_file = Path(scratch, "probes"), Path(scratch, "jobs")
            shutil.copytree(programs, probes, symlinks=True)
            shutil.copy(qemu, probes / QEMU)
            job_file.write_bytes(encode_jobs(patient))
            argv: list[str | Path] = [
                *_as_root(),
                qemu,
                probes / "runner",
                "--jobs",
                job_file,
                "--out",
                results,
            ]
            for name, directory in roots.items():
                argv += ["--root", f"{name}={directory.absolute()}"]
            for path, directory in {**overlay, PROBES: probes}.items():
                argv += ["--overlay", f"{path}={directory.absolute()}"]
            errors = Path(scratch, "errors")
            with errors.open("wb") as stderr, running(argv, stderr=stderr) as process:
                watch = Watch(patient, results, ("starting", 60.0), ("ending", 30.0), longest(patient))
                trouble = watch.until_end(process, step)
            said = " ".join(errors.read_text(errors="replace").split())
            if not trouble and process.returncode:
                trouble = f"the runner ended with status {process.returncode}: {said or 'it said nothing'}"
            batch = decode_results(
                results.read_bytes(), place=self.name, emulation="user", log=log, trouble=trouble
            )
            step.done(f"{len(batch.results)} of {len(jobs)} results")
        if batch.trouble:
            progress.warn(f"{self.name}: {batch.trouble}")
        return batch

    @property
    def emulator(self) -> str:
        """The program's name."""
        return self.qemu or f"qemu-{self.arch.qemu}-static"

    def _qemu(self) -> Path:
        found = shutil.which(self.emulator)
        if not found:
            raise ToolMissing(
                f"{self.emulator} is not installed",
                hint="`nox -s setup` installs what is missing (Debian: qemu-user-static)",
            )
        return Path(found)


def _as_root() -> list[str]:
    """What an ordinary user needs in front to mount and chroot.

    The runner cannot make a user namespace itself here: QEMU has threads, and the kernel gives one only to
    a process with a single thread.
    """
    return [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
