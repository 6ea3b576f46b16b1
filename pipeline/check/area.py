"""What the kernel says of a thread's rseq registration, and libc of its area, compared with what must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.check import Material
from pipeline.check.probing import MAX_CPU, REGISTRATION_FAILED

Word = Mapping[str, Any]
#: More than any machine has.
MAX_CPUS = 8192
#: A word of the area above it, and not as close below 2^32 (a code such as -2), is half of an address (0x7f12
#: and 0xaaab are upper ones) or was left there by something else: another in every run. The cause of a
#: finding, which a waiver names, is its text.
STEADY = 0xFF


def number(word: int) -> str:
    """A word of the area as a finding names it: the same in every run of the same fault."""
    steady = word <= STEADY or 0 < 2**32 - word <= STEADY
    return f"{word:#x}" if steady else f"above {STEADY:#x}"


def kernel_faults(material: Material, word: Word, *, on: bool) -> list[str]:
    """What is wrong with the kernel's word on a thread, and with the area that it names.

    ``word`` has ``pointer`` (any true value: registered), ``size`` in bytes, ``signature`` and ``flags`` of
    PTRACE_GET_RSEQ_CONFIGURATION, and of a registered area ``cpu_id_start`` and ``cpu_id``.
    """
    if not on:
        # not by the size: kernels before 6.3 give that of their structure, registered or not
        there = word["pointer"] or word["signature"] or word["flags"]
        return ["registered with the kernel"] if there else []
    if not word["pointer"]:
        return ["not registered with the kernel"]
    wanted = {
        "size": material.profile.rseq.area_size, "signature": material.arch.rseq_signature, "flags": 0,
    }  # fmt: skip
    faults = [
        f"the kernel's {key} is {word[key]:#x}, not {value:#x}"
        for key, value in wanted.items()
        if word[key] != value
    ]
    cpu_id = word.get("cpu_id", REGISTRATION_FAILED)
    if cpu_id > MAX_CPU or cpu_id != word["cpu_id_start"]:
        faults.append(f"the area holds no CPU number ({number(cpu_id)})")
    return faults


def words_faults(area: Word, *, on: bool) -> list[str]:
    """Whether the words are zero that the kernel obeys once it is registered: ``rseq_cs``, for no section is
    entered where this is asked, and ``flags`` (``area_flags``). Where nothing is registered ``cpu_id_start``
    is zero as well: a program may use it as an index without a look at ``cpu_id`` (linux/rseq.h)."""
    words = {"rseq_cs": "rseq_cs", "area_flags": "flags", **({} if on else {"cpu_id_start": "cpu_id_start"})}
    return [f"the area's {name} is {number(area[key])}, not 0" for key, name in words.items() if area[key]]


def tail_faults(tail: Sequence[int], *, on: bool, feature: int, node: int) -> list[str]:
    """Whether glibc keeps its hands off the area's last twelve bytes: they are the kernel's.

    ``feature`` is AT_RSEQ_FEATURE_SIZE, 0 before 6.3. Within it the kernel writes the ``node`` (at 20) and a
    number below that of the CPUs (mm_cid, at 24) where a thread is registered; all else is zero.
    """
    at = dict(zip((20, 24, 28), tail, strict=True))
    if on and feature >= 24 and at.pop(20) != node:
        return [f"the area's node_id is {number(tail[0])}, not {node:#x}"]
    if on and feature >= 28 and at.pop(24) >= MAX_CPUS:
        return [f"the area's mm_cid is {number(tail[1])}, more than there are CPUs"]
    if on and feature > 28:
        at.pop(28)
    return [f"the area's word at {place} is {number(word)}, not 0" for place, word in at.items() if word]


def place_faults(place: int, offset: int | None) -> list[str]:
    """Whether the kernel's area is where libc says, in bytes from the thread pointer (None: not said)."""
    if offset is None or place == offset:
        return []
    return [f"the kernel's area is at {place:+d}, __rseq_offset {offset:+d}"]


def descriptor_faults(material: Material, place: int, descriptor: Word) -> list[str]:
    """Whether an area at ``place`` lies in the thread's descriptor, in bytes that are no other member's.

    ``descriptor`` has ``size`` in bytes, 0 if libc does not tell it to debuggers, and ``members``: name,
    offset and size in bytes of each that it tells. (Members that it does not tell are not looked at.)
    """
    size, length = descriptor["size"], material.profile.rseq.area_size
    if not size:
        return ["libc does not say how large a thread's descriptor is (libthread_db reads that)"]
    begin = place + size if material.arch.descriptor_below else place
    if not 0 <= begin <= size - length:
        return [f"the area ({length} bytes at {place:+d}) is not within the thread's descriptor of {size}"]
    return [
        f"the area ({length} bytes at {begin} of the thread's descriptor) overlaps {name} ({bytes_} at {at})"
        for name, at, bytes_ in descriptor["members"]
        if at < begin + length and begin < at + bytes_
    ]


def symbol_faults(libc: Word, size: int) -> list[str]:
    """What is wrong with the values of the rseq symbols (``size``, ``flags``, ``offset``)."""
    faults = [
        f"__rseq_{name} is {libc[name]}, not {value}"
        for name, value in (("size", size), ("flags", 0))
        if libc[name] != value
    ]
    return faults + (["__rseq_offset is 0"] if libc["offset"] == 0 else [])


def cpu_id_faults(cpu_id: int, *, on: bool) -> list[str]:
    """Whether the area where libc says that it is holds a CPU number, or the mark of one unregistered."""
    if on and cpu_id > MAX_CPU:
        return [f"cpu_id is {number(cpu_id)}, no CPU number"]
    if not on and cpu_id != REGISTRATION_FAILED:
        return [f"cpu_id is {number(cpu_id)}, not -2 (not registered)"]
    return []
