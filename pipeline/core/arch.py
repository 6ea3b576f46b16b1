"""What the pipeline must know of an architecture. The only table of its kind."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from pipeline.core.errors import UsageError


@dataclass(frozen=True)
class Arch:
    """Names and constants of one architecture.

    ``rseq_signature`` is glibc's ``RSEQ_SIG`` (``bits/rseq.h``). ``loader`` is the soname of ld.so,
    ``interp`` the path programs name in PT_INTERP. ``largest_page`` is that of memory in bytes (the psABI's
    maximum that linkers go by). ``beside`` is rpm's name of the 32-bit architecture whose packages may be
    installed with those of this one ("" for none). ``descriptor_below``: a thread's descriptor ends at its
    thread pointer and does not begin there (the two variants of thread-local storage in the ELF TLS ABI).
    ``emulated_cpu``: the processor that QEMU is asked to be in an emulated build ("": its own choice).
    """

    name: str
    deb: str
    triplet: str
    elf_machine: int
    loader: str
    interp: str
    qemu: str
    rseq_signature: int
    largest_page: int
    beside: str = ""
    descriptor_below: bool = False
    emulated_cpu: str = ""


ARCHES = {
    a.name: a
    for a in (
        Arch("x86_64", "amd64", "x86_64-linux-gnu", 62, "ld-linux-x86-64.so.2",
             "/lib64/ld-linux-x86-64.so.2", "x86_64", 0x53053053, 4096, "i686"),
        # All that QEMU can, with the algorithm for signing return addresses that costs least (QEMU's
        # docs/system/arm/cpu-features.rst): every function of RHEL 9's programs signs its own.
        Arch("aarch64", "arm64", "aarch64-linux-gnu", 183, "ld-linux-aarch64.so.1",
             "/lib/ld-linux-aarch64.so.1", "aarch64", 0xD428BC00, 65536,
             descriptor_below=True, emulated_cpu="max,pauth-impdef=on"),
    )
}  # fmt: skip


def arch(name: str) -> Arch:
    """The architecture called ``name``; raises `UsageError` for an unknown one."""
    try:
        return ARCHES[name]
    except KeyError:
        raise UsageError(f"unknown architecture {name!r}", hint=f"known: {', '.join(ARCHES)}") from None


def host_arch() -> Arch:
    """The architecture this process runs on."""
    return arch(platform.machine())
