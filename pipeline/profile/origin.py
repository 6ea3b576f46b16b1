"""The models of what a profile takes from others: source, image, kernels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Keys(BaseModel):
    """Keys of a table of the file; one that is not known is an error."""

    # cached_property needs a place to write, so the model is not frozen by pydantic
    model_config = ConfigDict(extra="forbid")


class AptSource(Keys):
    """A file of a source package of a Debian suite; apt verifies the archive's signature."""

    #: the file comes through apt
    kind: Literal["apt"]
    #: the Debian suite, as apt names it
    suite: str
    #: name of the source package
    package: str
    #: the source package's file that is used
    file: str
    #: of that file
    sha256: Sha256
    #: the directory that the archive unpacks to
    topdir: str


class TarballSource(Keys):
    """A tarball at any of several addresses."""

    #: the file comes from an address
    kind: Literal["tarball"]
    #: addresses, tried in order
    urls: Annotated[list[str], Field(min_length=1)]
    #: name of the file
    file: str
    #: of that file
    sha256: Sha256
    #: bytes of that file
    size: Annotated[int, Field(gt=0)]
    #: the directory that the archive unpacks to
    topdir: str


KINDS = ("apt", "tarball")
Source = Annotated[AptSource | TarballSource, Field(discriminator="kind")]


class ImageKeys(Keys):
    """How the build image's base is had: ``mmdebstrap`` (suite) or ``registry`` (pinned reference)."""

    #: how the base is made: by mmdebstrap, or pulled
    base: Literal["mmdebstrap", "registry"]
    #: mmdebstrap: the Debian suite
    suite: str = ""
    #: registry: the image, pinned by digest
    reference: str = ""
    #: directory below containers/, holding Containerfile and packages.txt
    directory: str

    @model_validator(mode="after")
    def _base_is_named(self) -> ImageKeys:
        if self.base == "mmdebstrap" and not self.suite:
            raise ValueError("base = 'mmdebstrap' needs a suite")
        if self.base == "registry" and not self.reference:
            raise ValueError("base = 'registry' needs a reference")
        return self


class Kernel(Keys):
    """A kernel for virtual machines: a package of a suite, per architecture."""

    #: what `--kernel` calls it
    name: str
    #: the Debian suite it comes from
    suite: str
    #: architecture name -> package name (a metapackage is followed to the real one)
    packages: dict[str, str]
    #: whether it is booted unless the user names kernels
    usual: bool = True
