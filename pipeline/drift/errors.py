"""The two ways in which a look sees nothing, kept apart."""

from __future__ import annotations

from pipeline.core.errors import EvidenceError, WorldError


class CouldNotLook(WorldError):
    """The source did not answer, or what it gave is not what it says it is."""


class NothingThere(EvidenceError):
    """The source answers and has not what was to be looked at, or there is nothing to compare it with."""
