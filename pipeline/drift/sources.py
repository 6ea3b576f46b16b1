"""Sources of drift as data: what is looked at, on which architectures, and what it is compared with.

``sources.toml`` beside this module has those that come with the pipeline; ``--sources FILE`` names another.
``{arch}`` in an address or a path stands for the architecture.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.core import paths, tomlfile
from pipeline.core.arch import ARCHES
from pipeline.core.errors import UsageError
from pipeline.core.outcome import Frozen

DEFAULT = paths.PACKAGE / "drift" / "sources.toml"
PREVIOUS = "previous"
AGAINST = re.compile(r"^(previous|baseline:[^/:\s]+/[^/:\s]+|source:\S+)$")


def _against(value: str) -> str:
    if not AGAINST.match(value):
        raise ValueError(f"{value!r} is not baseline:PROFILE/RELEASE, source:NAME or previous")
    return value


Against = Annotated[str, AfterValidator(_against)]
Text = Annotated[str, Field(min_length=1)]


class _Source(Frozen):
    """What every source has.

    ``against``: a committed baseline, what another source publishes now, or this source's previous look.
    ``packages``: the first one is the one whose version is shown; all must be there. ``dsos`` are patterns of
    the stable names that are compared, ``ignore`` of those that are not.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    title: str = ""
    arches: Annotated[tuple[str, ...], Field(min_length=1)]
    against: Against
    packages: Annotated[tuple[Text, ...], Field(min_length=1)]
    dsos: Annotated[tuple[Text, ...], Field(min_length=1)] = ("*",)
    ignore: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _arches_are_known(self) -> Self:
        for name in self.arches:
            if name not in ARCHES:
                raise ValueError(f"arches: unknown architecture {name!r}; known: {', '.join(ARCHES)}")
        return self

    def compares(self, dso: str) -> bool:
        """Whether a DSO of this stable name is compared."""
        chosen = any(fnmatchcase(dso, pattern) for pattern in self.dsos)
        return chosen and not any(fnmatchcase(dso, pattern) for pattern in self.ignore)


class DnfSource(_Source):
    """A dnf repository: its directories, or who lists them. A metalink also vouches for repomd.xml."""

    kind: Literal["dnf"]
    baseurl: tuple[Text, ...] = ()
    mirrorlist: str = ""
    metalink: str = ""

    @model_validator(mode="after")
    def _place_is_named(self) -> Self:
        if not (self.baseurl or self.mirrorlist or self.metalink):
            raise ValueError("name a baseurl, a mirrorlist or a metalink")
        return self


class AptSuite(_Source):
    """A suite of the Debian archive, through the host's own apt configuration."""

    kind: Literal["apt"]
    suite: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]*$")]


class RpmDirectory(_Source):
    """A directory of RPMs (below the directory of the file that names it, if relative)."""

    kind: Literal["rpms"]
    path: Text


Source = Annotated[DnfSource | AptSuite | RpmDirectory, Field(discriminator="kind")]


class Sources(Frozen):
    """A file of sources."""

    schema_version: Literal[1] = Field(alias="schema")
    source: Annotated[tuple[Source, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [s.name for s in self.source]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are called {name!r}")
        for source in self.source:
            kind, _, other = source.against.partition(":")
            if kind == "source" and (other not in names or other == source.name):
                raise ValueError(f"{source.name}: against: there is no other source {other!r}")
        return self

    def get(self, name: str) -> DnfSource | AptSuite | RpmDirectory:
        """The source called ``name``; raises `UsageError`."""
        for source in self.source:
            if source.name == name:
                return source
        raise UsageError(
            f"there is no source {name!r}", hint=f"there are: {', '.join(s.name for s in self.source)}"
        )


def load(file: Path = DEFAULT) -> Sources:
    """Read a file of sources; raises `UsageError` naming file, key and what was expected."""
    data = tomlfile.read(file)
    found = tomlfile.checked(
        Sources, data, file, hint="fix the keys named above; docs/drift.md has the schema"
    )
    return found.model_copy(update={"source": tuple(_anchored(s, file) for s in found.source)})


def _anchored(source: Source, file: Path) -> Source:
    if isinstance(source, RpmDirectory):
        return source.model_copy(update={"path": str(file.parent / source.path)})
    return source
