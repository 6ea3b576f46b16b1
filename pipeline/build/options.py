"""What the user chose about a build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: ``auto``: with a cross compiler where there is one, else emulated
ForeignBuild = Literal["auto", "cross", "emulated"]
#: ``Options.up_to`` for the source as it is, with no patch at all
NO_PATCH = "(none)"


@dataclass(frozen=True)
class Options:
    """What the user chose about a build.

    ``place``: ``container``, or ``host`` for machines without an engine (recorded as not hermetic).
    ``foreign``: how a target of another architecture is built. ``image``: another base than the profile's.
    ``up_to``: the series stops after this patch (with dist-gits theirs stop, ours are whole; `NO_PATCH`: ours
    has not begun). ``check``: run glibc's own rseq tests in the build.
    ``shared_cache``: address of ccache's remote storage (`pipeline.build.sharedcache`), "" for none.
    """

    place: Literal["container", "host"] = "container"
    foreign: ForeignBuild = "auto"
    image: str = ""
    up_to: str = ""
    check: bool = False
    shared_cache: str = ""
