"""The container engine, found by really running a container.

Machines differ: podman's default runtime may refuse the machine's cgroups, its default limits may be above
what the machine allows. So each way of calling an engine is tried with a real container, in the order of
`WAYS`, until one runs; what failed is shown if none does. A try is dear where every container is a copy of
its image (an ordinary user without an overlay file system): the way that ran last time is tried first, and
what ran since the machine started, with nothing changed that decides it, is not tried again.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import paths, store
from pipeline.core.errors import CommandFailed, NoSpace, PipelineError, ToolMissing
from pipeline.core.run import Completed, run

#: Limits that a root without CAP_SYS_RESOURCE may still set; podman's own defaults are higher.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")

#: (program, options before the verb, options of `run` and `build`), the plainest first.
WAYS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("podman", (), ()),
    ("podman", (), LIMITS),
    ("podman", ("--runtime", "runc"), LIMITS),
    ("podman", ("--runtime", "crun", "--cgroup-manager", "cgroupfs"), LIMITS),
    ("docker", (), ()),
)

#: How podman and docker end if not even the program of a container began (podman-run(1)). A program may end
#: so, too: then the next run tries once more.
ENGINES_OWN = (125, 126, 127)


class NoEngine(ToolMissing):
    """No way of running a container works here."""


@dataclass(frozen=True)
class Engine:
    """A way of calling podman or docker that was seen to work."""

    program: str
    options: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.program, *self.options))

    def call(self, *args: str | os.PathLike[str], timeout: float | None = None) -> Completed:
        """Run an engine verb that starts no container."""
        return run([self.program, *self.options, *args], timeout=timeout)

    def image_id(self, name: str) -> str | None:
        """The id (``sha256:…``) of a local image, None if there is none of that name."""
        done = run(
            [self.program, *self.options, "image", "inspect", "--format", "{{.Id}}", name],
            success_codes=None,
        )
        if done.returncode:
            return None
        found = done.text.strip()
        return found if found.startswith("sha256:") else f"sha256:{found}"

    def architecture(self, name: str) -> str:
        """The architecture of a local image as engines call it (``amd64``, ``arm64``); "" if not there."""
        return self._inspect(name, "{{.Architecture}}")

    def digest(self, name: str, reference: str) -> str:
        """``sha256:…`` by which a local image was pulled from ``reference``; "" if it was not."""
        found = self._inspect(name, "{{range .RepoDigests}}{{println .}}{{end}}").split()
        repository = re.sub(r"(@.*|:[^/]*)$", "", reference)
        own = [line.partition("@")[2] for line in found if line.partition("@")[0] == repository]
        return own[0] if own else ""

    def _inspect(self, name: str, form: str) -> str:
        done = run(
            [self.program, *self.options, "image", "inspect", "--format", form, name], success_codes=None
        )
        return "" if done.returncode else done.text.strip()

    def run(
        self,
        image: str,
        argv: Sequence[str],
        *,
        mounts: Mapping[str, Path] | None = None,
        read_only: Mapping[str, Path] | None = None,
        in_memory: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        remedy: str = "",
        network: bool = False,
        hostname: str = "",
    ) -> Completed:
        """Run ``argv`` in a new container; as `run_argv` and `pipeline.core.run.run` say.

        A container is no child of ours: ending the engine's client leaves it running. So whatever ends this
        call early (^C, a time limit) also ends the container, by its name.
        """
        name = f"pipeline-{uuid.uuid4().hex[:12]}"
        if self.program == "docker" and os.geteuid() and mounts:  # its root's files would not be ours to move
            argv = ["sh", "-c", _GIVE_BACK, shlex.join(mounts), *argv]
        line = self.run_argv(
            image, argv, mounts=mounts, read_only=read_only, in_memory=in_memory, env=env, name=name,
            network=network, hostname=hostname,
        )  # fmt: skip
        try:
            return run(line, timeout=timeout, log=log, on_line=on_line, remedy=remedy)
        except BaseException as e:
            if isinstance(e, CommandFailed) and e.returncode in ENGINES_OWN:
                forget(self.program)
            run([self.program, *self.options, "rm", "--force", name], success_codes=None, timeout=60)
            raise

    def run_argv(
        self,
        image: str,
        argv: Sequence[str],
        *,
        mounts: Mapping[str, Path] | None = None,
        read_only: Mapping[str, Path] | None = None,
        in_memory: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None,
        network: bool = False,
        workdir: str = "",
        name: str = "",
        hostname: str = "",
        extra: Sequence[str] = (),
    ) -> list[str]:
        """The command line of a container that is removed when it ends.

        ``mounts`` (writable) and ``read_only`` map paths inside to directories outside; ``in_memory`` maps
        directories that live and end with the container to their greatest size in bytes. Without
        ``network`` there is none. ``hostname``: what it is called, "" for a name of the engine's.
        """
        line = [self.program, *self.options, "run", "--rm", *self.limits]
        line += ["--network", "host" if network else "none", "--security-opt", "label=disable"]
        if self.program == "podman":
            line += ["--log-driver", "none"]
            if not network:  # podman hands the host's proxies, passwords and all, to every container
                line += ["--http-proxy=false"]
        if name:
            line += ["--name", name]
        if hostname:
            line += ["--hostname", hostname]
        if workdir:
            line += ["--workdir", workdir]
        for inside, outside in (mounts or {}).items():
            line += ["--volume", f"{outside}:{inside}"]
        for inside, outside in (read_only or {}).items():
            line += ["--volume", f"{outside}:{inside}:ro"]
        for inside, size in (in_memory or {}).items():
            line += ["--tmpfs", f"{inside}:rw,exec,mode=755,size={size}"]
        for key, value in (env or {}).items():
            line += ["--env", f"{key}={value}"]
        return [*line, *extra, image, *argv]

    def build_argv(
        self, directory: Path, tag: str, arguments: Mapping[str, str], *, network: bool
    ) -> list[str]:
        """The command line that builds an image from ``directory``/Containerfile."""
        line = [
            self.program,
            *self.options,
            "build",
            *self.limits,
            "--network",
            "host" if network else "none",
        ]
        for key, value in arguments.items():
            line += ["--build-arg", f"{key}={value}"]
        return [*line, "--tag", tag, "--file", str(directory / "Containerfile"), str(directory)]


#: Runs a program, then gives what it wrote to whoever has the directory: $0 are the directories, quoted.
_GIVE_BACK = """"$@"; status=$?; eval "set -- $0"
for d; do chown -R --reference="$d" "$d"; done; exit $status"""


def candidates() -> Iterator[Engine]:
    """The ways whose program is installed; PIPELINE_ENGINE (podman or docker) narrows them."""
    wanted = os.environ.get("PIPELINE_ENGINE", "")
    for program, options, limits in WAYS:
        if (not wanted or program == wanted) and shutil.which(program):
            yield Engine(program, options, limits)


def importers() -> Iterator[Engine]:
    """One way for each installed program, good enough to import an image (which runs nothing)."""
    seen = set()
    for engine in candidates():
        if engine.program not in seen:
            seen.add(engine.program)
            yield engine


def policy() -> dict[str, str]:
    """Files that decide which system calls a container may make (containers.conf(5)), by sha256."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    directories = (Path("/usr/share/containers"), Path("/etc/containers"), home / "containers")
    files = [d / name for d in directories for name in ("seccomp.json", "containers.conf")]
    if named := os.environ.get("CONTAINERS_CONF"):
        files.append(Path(named))
    return {str(file): store.file_sha256(file) for file in files if file.is_file()}


def found(image: str, program: str) -> Engine:
    """The way of ``program`` that ran ``image`` since the machine started, or `probe`.

    It is tried again if anything that decides it changed, and after `forget`. Raises as `probe`.
    """
    before = _known(program)
    if before.get("circumstances") == _circumstances(image, program):
        for engine in candidates():
            if engine.program == program and repr(engine) == before.get("way"):
                return engine
    return probe(image, program)


def forget(program: str) -> None:
    """Have the ways of ``program`` tried anew when it is used next."""
    _record(program).unlink(missing_ok=True)


def probe(image: str, program: str) -> Engine:
    """The first way of ``program`` that really runs ``true`` in ``image``, now.

    Raises `NoEngine` with what each way said.
    """
    said = []
    before = _known(program)
    ways = [engine for engine in candidates() if engine.program == program]
    for engine in sorted(ways, key=lambda way: repr(way) != before.get("way")):
        try:
            engine.run(image, ["true"], timeout=120)
        except NoSpace:
            raise
        except PipelineError as e:
            said.append(f"  {engine}{' with lower limits' if engine.limits else ''}: {last_word(e)}")
            continue
        now = {"way": repr(engine), "circumstances": _circumstances(image, program)}
        if now != before:
            with suppress(OSError):  # it only saves time
                store.write_atomically(_record(program), json.dumps(now))
        return engine
    raise no_engine("no way of running a container works here:\n" + "\n".join(said))


def _record(program: str) -> Path:
    return paths.state() / f"engine-{program}"


def _known(program: str) -> dict[str, Any]:
    """What is on record of a program; nothing if that cannot be read."""
    try:
        known = json.loads(_record(program).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _circumstances(image: str, program: str) -> dict[str, Any]:
    """What decides whether a container runs: the machine since its start, the user, the program, settings."""
    boot, cgroup = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/cgroup")
    file = shutil.which(program)
    status = Path(file).stat() if file else None
    return {
        "boot": boot.read_text().strip() if boot.is_file() else "",
        "user": os.geteuid(),
        "cgroup": cgroup.read_text() if cgroup.is_file() else "",
        "program": [file, status.st_mtime_ns, status.st_size] if status else [],
        "policy": policy(),
        "image": image,
    }


def last_word(error: PipelineError) -> str:
    """The last line of what a program said, or of our own message if it said nothing."""
    words = error.tail if isinstance(error, CommandFailed) and error.tail else error.message
    return words.strip().splitlines()[-1] if words.strip() else "no word"


def no_engine(message: str) -> NoEngine:
    """The error, with the remedies there are."""
    return NoEngine(
        message,
        hint="install podman with `nox -s setup`, or build without a container (recorded as not hermetic): "
        "`nox -s build verify -- --place host`",
    )
