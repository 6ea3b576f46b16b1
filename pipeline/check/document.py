"""``docs/checks.md``, made from the declarations of the checks by ``python -m pipeline.check.document``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.check import registry
from pipeline.core import paths, store
from pipeline.core.declaration import Declaration

PAGE = paths.REPO / "docs" / "checks.md"

_HEAD = """\
# Checks

What is asked, of what, and what a place must have to answer it. This page is made from the declarations
of the checks (`pipeline/check/`) by `python -m pipeline.check.document`.

Programs run with the tunable unset, 0 and 1, in an environment built from nothing. Outcomes are
ERROR > FAIL > MISSING > WAIVED > PASS, and the worst wins. A question without an answer is MISSING, and
MISSING is never green. What a place cannot judge by its nature is listed as "not judged", by name.

"Release grade" says whether a sign-off needs an answer of the check, for everything in its scope and on
every architecture, to be release grade.
"""


def page(checks: Sequence[Declaration]) -> str:
    """``docs/checks.md``."""
    rows = []
    for check in checks:
        needs = ", ".join(check.needs)
        asked = check.scope + (f"; at {check.only_at} alone" if check.only_at else "")
        asked += f"; if {check.when}" if check.when else ""
        grade = "yes" if check.release_grade else "no"
        rows.append(f"| `{check.name}` | {check.question} | {asked} | {needs} | {grade} |")
    head = ["| check | question | scope | needs | release grade |", "|---|---|---|---|---|"]
    return _HEAD + "\n" + "\n".join([*head, *rows]) + "\n"


def documents() -> dict[Path, str]:
    """Each document with the text that it must have."""
    checks = registry.declarations()
    return {PAGE: page(checks)}


if __name__ == "__main__":
    for file, text in documents().items():
        store.write_atomically(file, text)
