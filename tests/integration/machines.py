"""Programs and kernels for the tests that boot: compiled here, static, for either architecture."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from pipeline import profile
from pipeline.core import paths
from pipeline.core.arch import arch, host_arch
from pipeline.core.run import run
from pipeline.place import kernel

#: What the jobs of these tests do. Some wreck the machine: they run as its root.
SOURCES = {
    # What glibc (the compiler's own, linked in) got from the kernel. Weak: an old one has no such symbol.
    "rseq": """
        #define _GNU_SOURCE
        #include <sched.h>
        #include <stdio.h>
        extern const unsigned int __rseq_size __attribute__ ((weak));
        int main (void)
        {
          printf ("{\\"rseq_size\\": %u, \\"cpu\\": %d}\\n",
                  &__rseq_size ? __rseq_size : 0, sched_getcpu ());
        }
    """,
    "environment": """
        #include <stdio.h>
        #include <unistd.h>
        extern char **environ;
        int main (int argc, char **argv)
        {
          printf ("{\\"argc\\": %d, \\"uid\\": %d, ", argc, (int) getuid ());
          printf ("\\"last\\": \\"%s\\", \\"env\\": [", argv[argc - 1]);
          for (int i = 0; environ[i]; i++)
            printf ("%s\\"%s\\"", i ? ", " : "", environ[i]);
          puts ("]}");
        }
    """,
    "sleep": """
        #include <unistd.h>
        int main (void) { for (;;) pause (); }
    """,
    # The runner is a job's parent.
    "kill-runner": """
        #include <signal.h>
        #include <unistd.h>
        int main (void) { kill (getppid (), SIGKILL); pause (); }
    """,
    "stop-runner": """
        #include <signal.h>
        #include <unistd.h>
        int main (void) { kill (getppid (), SIGSTOP); for (;;) pause (); }
    """,
    "panic": """
        #include <fcntl.h>
        #include <sys/mount.h>
        #include <unistd.h>
        int main (void)
        {
          if (mount ("proc", "/proc", "proc", 0, 0) < 0)
            return 1;
          int fd = open ("/proc/sysrq-trigger", O_WRONLY);
          return write (fd, "c", 1) != 1;
        }
    """,
}


def compiler(name: str) -> str:
    """The C compiler for an architecture; a cross compiler that is missing fails the test by its name."""
    cross = f"{arch(name).triplet}-gcc"
    if name == host_arch().name and not shutil.which(cross):
        return "gcc"
    return cross


def compile_probes(name: str, directory: Path) -> Path:
    """init, runner and the programs of `SOURCES` for architecture ``name``, in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for program, source in SOURCES.items():
        (directory / f"{program}.c").write_text(source)
        _compile(name, directory / f"{program}.c", directory / program)
        (directory / f"{program}.c").unlink()
    for program in ("init", "runner"):
        _compile(name, paths.PROBES / f"{program}.c", directory / program)
    return directory


def _compile(name: str, source: Path, program: Path) -> None:
    run([compiler(name), "-O2", "-static", "-o", program, source])


def empty_root(directory: Path) -> Path:
    """A root for static programs: nothing but places to mount on."""
    for name in ("proc", "dev", "sys", "tmp", "probes"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    return directory


@cache
def kernel_for(arch_name: str, kernel_name: str) -> kernel.KernelImage:
    """A kernel of profile bookworm, from the user's own store: it is had once for all tests."""
    return kernel.fetch(profile.load("bookworm"), kernel_name, arch(arch_name))
