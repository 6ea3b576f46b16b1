"""What cannot be watched is refused before anything is built, for each architecture that will be watched."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pipeline.arch import ARCHES, host_arch
from pipeline.errors import UsageError
from pipeline.profile import Kernel, Profile, load
from pipeline.sites import Sites

FOREIGN = next(a for a in ARCHES.values() if a != host_arch())


@pytest.fixture
def profile() -> Profile:
    """One kernel is there for the foreign architecture alone."""
    found = load("bookworm").model_copy(deep=True)
    found.kernel = [Kernel(name="odd", suite="bookworm", packages={FOREIGN.name: "linux-image-odd"})]
    return found


def test_a_kernel_is_asked_for_only_where_one_is_booted(profile: Profile) -> None:
    Sites(profile, (), ("odd",)).check([host_arch(), FOREIGN])
    with pytest.raises(UsageError, match=f"has no kernel 'odd' for {host_arch().name}"):
        Sites(profile, ("vm",), ("odd",)).check([host_arch()])
    with pytest.raises(UsageError, match=f"names no kernel for {host_arch().name}"):
        Sites(profile, ("vm",)).check([FOREIGN, host_arch()])


def test_a_file_that_cannot_be_read_is_refused_even_if_nothing_boots_it(
    profile: Profile, tmp_path: Path
) -> None:
    image = tmp_path / "Image.gz"
    image.write_bytes(gzip.compress(b"\0" * 0x38 + b"ARM\x64" + b"\0" * 64))
    Sites(profile, (), (str(image),)).check([host_arch()])
    with pytest.raises(UsageError, match=r"kernel .*/none: No such file"):
        Sites(profile, (), (str(tmp_path / "none"),)).check([host_arch()])
