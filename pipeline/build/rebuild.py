"""A release made once more from nothing, at another time and place, on another host, by another user.

The same packages must come out, bit by bit: else what was judged cannot be made again, and a difference
between two releases may be one of their builds. No compiler cache has a part in it.
"""

from __future__ import annotations

import getpass
import platform
import shutil
import tempfile
import time
from pathlib import Path

from pipeline.build import conditions, rpmbuild
from pipeline.build.builder import Builder
from pipeline.core import paths, store
from pipeline.core.errors import EvidenceError, reason
from pipeline.core.progress import say, warn
from pipeline.core.records import Built, RebuildDifference, RebuildRecord, timestamp
from pipeline.core.run import run
from pipeline.core.store import file_sha256
from pipeline.host import processor
from pipeline.rpm import elsewhere, writing
from pipeline.rpm.difference import first_difference

KIND = "rebuild"
RECORD = "rebuild.json"
#: What decides how a rebuild is made and compared.
CODE = (
    Path(__file__), conditions.SHIM,
    *(Path(str(module.__file__)) for module in (conditions, rpmbuild, elsewhere, writing)),
)  # fmt: skip


def rebuilt(builder: Builder, built: Built, *, fresh: bool = False) -> Built:
    """``built`` with the record of its rebuild, which is made if it is not stored; ``fresh``: made anew.

    What differs is kept beside the record. Raises as `Builder.make`, and `EvidenceError` if the stored record
    cannot be read.
    """
    manifest = built.manifest
    inputs = {
        "build": manifest.key,
        "packages": sorted(r.sha256 for r in manifest.files),
        "code": [file_sha256(file) for file in CODE],
    }

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory(dir=paths.state(), prefix="rebuild-") as work:
            record = _rebuild(builder, built, Path(work))
            for one in record.differences:
                if one.rebuilt:
                    shutil.copyfile(Path(work) / "RPMS" / one.package, into / one.package)
            _explain(built, record, into)
        (into / RECORD).write_text(record.model_dump_json(indent=1) + "\n")

    if fresh and (before := store.peek(KIND, inputs)):
        store.remove_tree(before.path)
    entry = store.produce(KIND, inputs, make)
    try:
        record = RebuildRecord.model_validate_json((entry.path / RECORD).read_text())
    except (OSError, ValueError) as e:
        raise EvidenceError(
            f"{entry.path / RECORD} cannot be read: {reason(e)}", hint=f"remove {entry.path} and run it again"
        ) from None
    if entry.reused:
        say(f"{built.target}: nothing changed since it was rebuilt at {record.at}")
    return built.model_copy(update={"manifest": manifest.model_copy(update={"rebuild": record})})


def _rebuild(builder: Builder, built: Built, work: Path) -> RebuildRecord:
    start = time.monotonic()
    other = conditions.others(built.manifest.seen.get("time", ""))
    seen = builder.again(built.target, work, other).seen
    elsewhere.moved(work / "RPMS", other.directory, conditions.DIRECTORY)
    first = {r.file: r.sha256 for r in built.manifest.files}
    second = {p.name: file_sha256(p) for p in (work / "RPMS").glob("*.rpm")}
    names = sorted({*first, *second})
    differences = []
    for name in names:
        if first.get(name) == second.get(name):
            continue
        if name in first and name in second:
            where = first_difference(built.rpms / name, work / "RPMS" / name)
        else:
            where = "only one of the builds made it"
        differences.append(
            RebuildDifference(
                package=name, built=first.get(name, ""), rebuilt=second.get(name, ""), where=where
            )
        )
    return RebuildRecord(
        at=timestamp(),
        machine=f"{getpass.getuser()} on {platform.node()}",
        processor=processor.name() or platform.machine(),
        conditions=seen,
        compared=first,
        differences=tuple(differences),
        seconds=round(time.monotonic() - start, 1),
    )


def _explain(built: Built, record: RebuildRecord, into: Path) -> None:
    """diffoscope's account of the first package that differs, where it is installed."""
    both = [d for d in record.differences if d.built and d.rebuilt]
    if not both:
        return
    name = both[0].package
    warn(f"{built.target}: {name} differs from its rebuild: {both[0].where}")
    if program := shutil.which("diffoscope"):
        report = into / f"{name}.diffoscope.txt"
        # it ends with 1 where there is a difference, and what it lacks is no fault of the packages
        run([program, "--text", report, built.rpms / name, into / name], success_codes=None)
