"""A machine on which rpm cannot work is no answer about packages, and is not kept as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core import paths
from pipeline.core.arch import arch
from pipeline.core.errors import NoSpace, WorldError
from pipeline.rpm import transaction

NEWER = "\tinstalling package glibc-2.36-1.x86_64 needs 32MB more space on the / filesystem"
OLDER = "\tinstalling package glibc-2.36-1.x86_64 needs 32MB on the / filesystem"
INODES = "\tinstalling package glibc-2.36-1.x86_64 needs 7 more inodes on the / filesystem"
UNPACKING = "error: unpacking of archive failed on file /x: cpio: write failed - No space left on device"


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (f"printf '%s\\n' '{NEWER}' >&2; exit 1", NoSpace),
        (f"printf '%s\\n' '{OLDER}' >&2; exit 1", NoSpace),
        (f"printf '%s\\n' '{INODES}' >&2; exit 1", NoSpace),
        (f"printf '%s\\n' '{UNPACKING}'; exit 1", NoSpace),
        ("kill -9 $$", WorldError),
    ],
)
def test_a_machine_without_room_is_no_refusal_and_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, error: type[WorldError]
) -> None:
    rpm = tmp_path / "bin" / "rpm"
    rpm.parent.mkdir()
    rpm.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "RPM version 9" && exit\n{behaviour}\n')
    rpm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{rpm.parent}:/usr/bin:/bin")
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
    package = tmp_path / "a.rpm"
    package.write_bytes(b"never read")
    with pytest.raises(error) as e:
        transaction.transactions([package], {}, arch("x86_64"))
    assert type(e.value) is error
    assert not list((paths.state() / "rpm-transactions").glob("[!.]*"))
