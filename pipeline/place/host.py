"""The host itself as a place: the runner on the releases' extracted roots, the host's kernel and CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import CommandFailed
from pipeline.core.run import run
from pipeline.place import BatchResult, Job
from pipeline.place.batch import decode_results, encode_jobs, longest


@dataclass(frozen=True)
class HostPlace:
    """Runs jobs with the static program ``runner`` (compiled for this machine).

    The runner mounts the overlays over the roots in a mount namespace of its own, as root or, for an
    ordinary user, in a user namespace; the roots are read-only there. ``log`` keeps the raw result lines.
    ``emulation`` is for runners that are not of this machine's own kind (user-mode QEMU).
    """

    runner: Path
    log: Path | None = None
    name: str = "host"
    emulation: str = ""

    def run_batch(
        self, roots: Mapping[str, Path], overlay: Mapping[str, Path], jobs: Sequence[Job]
    ) -> BatchResult:
        """See `pipeline.place.Place`. Raises `ToolMissing` if there is no runner."""
        trouble = ""
        with tempfile.TemporaryDirectory(prefix="glibc-pipeline-") as scratch:
            job_file, out = Path(scratch, "jobs"), Path(scratch, "results")
            job_file.write_bytes(encode_jobs(jobs))
            argv: list[str | Path] = [self.runner.absolute(), "--jobs", job_file, "--out", out]
            for name, directory in roots.items():
                argv += ["--root", f"{name}={directory.absolute()}"]
            for path, directory in overlay.items():
                argv += ["--overlay", f"{path}={directory.absolute()}"]
            try:
                done = run(argv, success_codes=None, timeout=longest(jobs))
                if done.returncode:
                    words = done.stderr.decode(errors="replace").strip()
                    how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
                    trouble = f"the runner ended with {how}" + (f": {words}" if words else "")
            except CommandFailed as e:
                trouble = e.message
            data = out.read_bytes() if out.exists() else b""
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_bytes(data)
        return decode_results(data, place=self.name, emulation=self.emulation, log=self.log, trouble=trouble)
