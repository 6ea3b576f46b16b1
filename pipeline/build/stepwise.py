"""A series built patch by patch: does each step build, and does it bring new compiler warnings?"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.build.builder import Builder
from pipeline.build.options import NO_PATCH
from pipeline.build.stored import WARNINGS
from pipeline.core import paths, store
from pipeline.core.errors import CommandFailed, UsageError
from pipeline.core.outcome import Target
from pipeline.source import series


@dataclass(frozen=True)
class PatchStep:
    """One patch of a series built on those before it; ``patch`` is `NO_PATCH` for the source as it is.

    ``new``: warnings that the last step that built had not; None where there was none to compare with.
    ``trouble``: why it did not build. ``as_in``: the release whose step was the same one.
    """

    release: str
    patch: str
    warnings: frozenset[str]
    new: tuple[str, ...] | None
    trouble: str = ""
    as_in: str = ""

    @property
    def wrong(self) -> bool:
        """Whether a patch does not build or adds a warning. The unpatched source is never at fault."""
        return self.patch != NO_PATCH and bool(self.trouble or self.new)


def warnings_of(builder: Builder, target: Target) -> frozenset[str]:
    """The compiler's warnings in the build of ``target``, which is built if need be.

    A result of before builds kept their warnings is made once again (from ccache, which repeats them).
    Raises as `Builder.make`.
    """

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory(dir=paths.state(), prefix="again-") as work:
            builder.again(target, Path(work))
            shutil.copyfile(Path(work) / WARNINGS, into / WARNINGS)

    entry = builder.make(target)
    if not (entry.path / WARNINGS).is_file():
        entry = store.produce("warnings", {"build": builder.inputs(target), "form": 2}, make)
    return frozenset(json.loads((entry.path / WARNINGS).read_text()))


def each(builder: Builder, releases: list[str], arch: str, up_to: str = "") -> Iterator[PatchStep]:
    """Build every release of the profile step by step, in order.

    A step that two releases have (the same patches so far) is built once, for nothing that is compiled
    depends on the release's name. A step after one that does not build is compared with the last that did.
    Raises what is no patch's fault: no engine, no source, no space.
    """
    known: dict[tuple[str, ...], PatchStep] = {}
    for release in releases:
        patches = series.load(builder.profile.name, release).patches_up_to(up_to or None)
        before: frozenset[str] | None = None
        done: tuple[str, ...] = ()
        for name, sha256 in ((NO_PATCH, ""), *((p.file, p.sha256) for p in patches)):
            done = (*done, sha256)
            if done in known:
                step = replace(known[done], release=release, as_in=known[done].release)
            else:
                step = _step(builder, Target(profile=builder.profile.name, release=release, arch=arch), name)
                if before is not None and not step.trouble:
                    step = replace(step, new=tuple(sorted(step.warnings - before)))
                known[done] = step
            if not step.trouble:
                before = step.warnings
            yield step


def _step(builder: Builder, target: Target, name: str) -> PatchStep:
    try:
        found = warnings_of(builder.stopping_at(name), target)
    except (CommandFailed, UsageError) as e:
        if isinstance(e, CommandFailed) and e.returncode not in (1, 2):  # the engine's, not rpmbuild's
            raise
        return PatchStep(target.release, name, frozenset(), None, trouble=e.message)
    return PatchStep(target.release, name, found, None)
