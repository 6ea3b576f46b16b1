"""The container as a place: one container serves a whole batch.

The releases' roots are mounted read-only below /roots and the runner goes from one to the next by chroot,
exactly as in a virtual machine. The kernel is the host's.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import CommandFailed
from pipeline.core.progress import step
from pipeline.host.image import BuildImage
from pipeline.place import BatchResult, Job
from pipeline.place.batch import decode_results, encode_jobs, longest

#: A container's own start and end, beyond the time the runner may take.
SLACK_SECONDS = 60.0
#: Directories that a program elsewhere can lay a writable one over (`pipeline/probes/writable.h`).
WRITABLE = ("etc", "tmp")


@dataclass(frozen=True)
class ContainerPlace:
    """Runs batches in a container of ``image`` without network."""

    image: BuildImage

    @property
    def name(self) -> str:
        return "container"

    def run_batch(
        self, roots: Mapping[str, Path], overlay: Mapping[str, Path], jobs: Sequence[Job]
    ) -> BatchResult:
        """See `pipeline.place.Place`. The overlay's ``/probes`` holds the runner itself."""
        log = paths.logs() / "container-batch.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        mounts = {f"/roots/{name}": root for name, root in roots.items()}
        mounts |= {f"/roots/{name}{where}": tree for name in roots for where, tree in overlay.items()}
        mounts["/runner"] = overlay["/probes"]
        trouble = ""
        with (
            tempfile.TemporaryDirectory(prefix="batch-") as temporary,
            step(f"run {len(jobs)} jobs in a container"),
        ):
            work = Path(temporary)
            (work / "jobs").write_bytes(encode_jobs(jobs))
            results = work / "results"
            results.touch()
            writable = {"/batch": work}
            for name, root in roots.items():
                writable |= _own(work / "own" / name, root, f"/roots/{name}")
            try:
                self.image.engine.run(
                    self.image.name,
                    [
                        "/runner/runner",
                        "--jobs",
                        "/batch/jobs",
                        "--out",
                        "/batch/results",
                        "--roots",
                        "/roots",
                    ],
                    mounts=writable,
                    read_only=mounts,
                    log=log,
                    timeout=longest(jobs) + SLACK_SECONDS,
                )
            except CommandFailed as e:
                trouble = e.message.splitlines()[0]
            data = results.read_bytes()
        return decode_results(data, place=self.name, log=log, trouble=trouble)


def _own(own: Path, root: Path, there: str) -> dict[str, Path]:
    """Copies of a root's directories (`WRITABLE`) that programs may write to, by where they are mounted."""
    copies = {}
    for name in WRITABLE:
        if (root / name).is_dir():
            shutil.copytree(root / name, own / name, symlinks=True)
            (own / name).chmod(0o1777 if name == "tmp" else 0o755)
            copies[f"{there}/{name}"] = own / name
    return copies
