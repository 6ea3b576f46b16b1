"""The runner's two formats: the job file it reads and the result lines it writes (probes/runner.c).

Every place uses these two functions, whatever carries the bytes: a pipe, a serial port, ssh.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from pipeline.core import jsontext
from pipeline.core.errors import UsageError
from pipeline.place import BatchResult, Job, JobResult, PlaceFacts

FORMAT = 1
#: Set in the environment of every job at an emulated place; ``pipeline/probes/getcpu_speed.c`` looks for it.
EMULATED = "PIPELINE_EMULATED"
#: What QEMU's emulation calls itself in CPUID; such a place is not real hardware whatever it says.
TCG = "TCGTCGTCGTCG"
#: Bytes that stand for themselves in a job file.
_PLAIN = "/:=,+@ "


def _escaped(value: str) -> str:
    raw = value.encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise UsageError(f"a job cannot hold a zero byte: {value!r}")
    return quote_from_bytes(raw, safe=_PLAIN)


def encode_jobs(jobs: Iterable[Job]) -> bytes:
    """The job file. Raises `UsageError` for two jobs of one id, a job without a program, or a zero byte."""
    lines = [f"jobs {FORMAT}"]
    seen: set[str] = set()
    for job in jobs:
        if job.id in seen:
            raise UsageError(f"two jobs are called {job.id!r}")
        if not job.argv:
            raise UsageError(f"job {job.id!r} has no program")
        seen.add(job.id)
        lines += [
            f"job {_escaped(job.id)}",
            f"root {_escaped(job.root)}",
            f"timeout {max(1, round(job.timeout * 1000))}",
        ]
        lines += [f"env {_escaped(f'{name}={value}')}" for name, value in job.env.items()]
        lines += [f"arg {_escaped(value)}" for value in job.argv]
    lines.append(f"end {len(seen)}")
    return "\n".join(lines).encode("ascii") + b"\n"


def for_emulation(jobs: Sequence[Job], patience: float) -> list[Job]:
    """The jobs as an emulated place runs them: ``patience`` times the limits, and `EMULATED` in the
    environment, by which a probe that times something knows that nothing will be judged by it."""
    return [replace(j, timeout=j.timeout * patience, env={**j.env, EMULATED: "1"}) for j in jobs]


def longest(jobs: Sequence[Job]) -> float:
    """Seconds within which a runner that works must have ended, all jobs timing out."""
    return 30.0 + sum(job.timeout + 3.0 for job in jobs)


def decode_results(
    data: bytes, *, place: str, emulation: str = "", log: Path | None = None, trouble: str = ""
) -> BatchResult:
    """What the runner wrote, as far as it came through.

    ``emulation`` is what the place knows of itself ("" real or KVM, ``tcg``, ``user``); a hypervisor that
    calls itself TCG overrides "". A line that cannot be read, a missing or wrong ``end`` line and a job that
    came twice are ``trouble``, never an exception; ``trouble`` given by the caller comes first.
    """
    troubles = [trouble] if trouble else []
    facts: PlaceFacts | None = None
    results: dict[str, JobResult] = {}
    end: int | None = None
    for number, raw in enumerate(data.split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            line = jsontext.loads(raw)
            kind = line["kind"]
            if end is not None:
                raise ValueError("a line after the end")
            if kind == "facts":
                facts = _facts(line, place, emulation)
            elif kind == "job":
                result = _result(line)
                if result.id in results:
                    raise ValueError(f"job {result.id} came twice")
                results[result.id] = result
            elif kind == "trouble":
                troubles.append(_text(line, "message"))
            elif kind == "end":
                end = _integer(line, "jobs")
            else:
                raise ValueError(f"unknown kind {kind!r}")
        except (ValueError, KeyError, TypeError) as e:
            troubles.append(f"line {number} of the results cannot be read ({e}): {raw[:80]!r}")
    if end is None:
        troubles.append(f"results are cut short after {len(results)} jobs")
    elif end != len(results):
        troubles.append(f"{len(results)} results came, {end} were sent")
    return BatchResult(facts=facts, results=results, log=log, trouble="; ".join(troubles))


def _text(line: dict[str, Any], name: str) -> str:
    value = line[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value.encode("latin-1").decode("utf-8", "surrogateescape")  # bytes travel as \u00XX


def _integer(line: dict[str, Any], name: str) -> int:
    value = line[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is no integer")
    return value


def _bytes(line: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(_text(line, name), validate=True)
    except binascii.Error as e:
        raise ValueError(f"{name}: {e}") from None


def _facts(line: dict[str, Any], place: str, emulation: str) -> PlaceFacts:
    if not emulation and line.get("hypervisor") == TCG:
        emulation = "tcg"
    return PlaceFacts(
        place=place,
        kernel=_text(line, "kernel"),
        kernel_version=_text(line, "kernel_version"),
        machine=_text(line, "machine"),
        cpus=_integer(line, "cpus"),
        cpu_model=_text(line, "cpu_model"),
        rseq=_text(line, "rseq"),
        emulation=emulation,
        page_size=_integer(line, "page_size"),
        rseq_feature_size=_integer(line, "rseq_feature_size"),
        rseq_align=_integer(line, "rseq_align"),
    )


def _result(line: dict[str, Any]) -> JobResult:
    return JobResult(
        id=_text(line, "id"),
        status=None if line["status"] is None else _integer(line, "status"),
        signal=None if line["signal"] is None else _integer(line, "signal"),
        timed_out=bool(line["timed_out"]),
        stdout=_bytes(line, "stdout"),
        stderr=_bytes(line, "stderr"),
        seconds=_integer(line, "ns") / 1e9,
        error=_text(line, "error"),
        code=_text(line, "code"),
    )
