"""Places: where commands run. A place is a value passed in; a call is the same in each.

Everything that is observed is observed through a batch of jobs: one call carries the releases' roots, the
trees to lay over them and all jobs, and brings back one result a job. What did not come back is absent
from the results, and a check that misses it says MISSING.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import ConfigDict

from pipeline.core import jsontext
from pipeline.core.errors import EvidenceError

#: The runner's codes (`pipeline/probes/runner.c`) for a job that the place does not let start. Its others say
#: something of the job or its root: ``exec``, ``no-program``, ``output`` (ended, for it wrote too much).
PLACE_CODES = frozenset({"root", "fork", "chroot", "chdir"})


@dataclass(frozen=True)
class Job:
    """One program to run in one root.

    ``root`` names one of the batch's roots; the program is started there with that root as ``/`` (chroot),
    the working directory ``/``, no standard input and exactly the environment ``env`` (where the place is
    emulated, `batch.EMULATED` besides). ``argv[0]`` is a path inside the root. ``timeout`` is in seconds.
    """

    id: str
    root: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60.0


@dataclass(frozen=True)
class JobResult:
    """How a job ended: ``status`` (exit status, None if a signal ended it), ``signal``, and its output.

    ``error`` says why the program could not be started at all (errno text of chroot or exec), else "", and
    ``code`` is the runner's code for it.
    """

    #: output is bytes, and JSON holds text
    __pydantic_config__: ClassVar[ConfigDict] = {"ser_json_bytes": "base64", "val_json_bytes": "base64"}

    id: str
    status: int | None
    signal: int | None
    timed_out: bool
    stdout: bytes
    stderr: bytes
    seconds: float
    error: str = ""
    code: str = ""

    def lines(self) -> list[dict[str, Any]]:
        """The JSON objects the probe printed, one a line; raises `EvidenceError` on anything else."""
        objects = []
        for line in self.stdout.decode(errors="replace").splitlines():
            try:
                value = jsontext.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise EvidenceError(f"job {self.id} printed a line that is no JSON object: {line[:120]!r}")
            objects.append(value)
        return objects

    @property
    def place_at_fault(self) -> bool:
        """Whether it is the place, not the program, for which the runner could not start the job."""
        return self.code in PLACE_CODES

    def ending(self) -> str:
        """``status 0``, ``signal 11``, ``timed out`` or why it did not start."""
        if self.error:
            return f"not started: {self.error}"
        if self.timed_out:
            return "timed out"
        return f"signal {self.signal}" if self.signal is not None else f"status {self.status}"


@dataclass(frozen=True)
class PlaceFacts:
    """What a place really is, as found by looking there.

    ``kernel`` is ``uname -r``, ``machine`` ``uname -m``, ``cpus`` how many CPUs programs may run on. ``rseq``
    is what an rseq system call with wrong arguments said: ``EINVAL`` where the kernel has it, ``ENOSYS`` or
    ``EPERM`` where it does not.
    ``emulation`` is "" on real hardware and with KVM, else ``tcg`` or ``user``. ``page_size`` is in bytes;
    ``rseq_feature_size`` and ``rseq_align`` are what the kernel announces of the rseq area, in bytes
    (AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN; 0: nothing, as kernels before 6.3).
    """

    place: str
    kernel: str
    kernel_version: str
    machine: str
    cpus: int
    cpu_model: str
    rseq: str
    emulation: str = ""
    page_size: int = 0
    rseq_feature_size: int = 0
    rseq_align: int = 0

    @property
    def judges_time(self) -> bool:
        """Nanoseconds are judged only on real hardware."""
        return not self.emulation

    @property
    def judges_rseq(self) -> bool:
        """User-mode QEMU has no rseq: what is seen there says nothing of registration."""
        return self.emulation != "user"


@dataclass(frozen=True)
class BatchResult:
    """What came back: facts of the place (None if it never came up), results by job id, the full log.

    ``trouble`` says what went wrong with the place as a whole (a panic, a hang, a killed QEMU), else "".
    """

    facts: PlaceFacts | None
    results: Mapping[str, JobResult]
    log: Path | None = None
    trouble: str = ""


class Place(Protocol):
    """Where jobs run."""

    @property
    def name(self) -> str:
        """``host``, ``container``, ``vm:KERNEL``, ``qemu-user``, ``ssh:USER@HOST``."""
        ...

    def run_batch(
        self, roots: Mapping[str, Path], overlay: Mapping[str, Path], jobs: Sequence[Job]
    ) -> BatchResult:
        """Run all jobs in order and bring their results back.

        ``roots``: name -> directory of an extracted release (never written to). ``overlay``: absolute path
        inside every root -> directory that appears there (the probes at ``/probes``). Raises `WorldError`
        only if the place cannot be had at all; what goes wrong later is in ``trouble``.
        """
        ...
