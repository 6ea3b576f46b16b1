"""One rule from an error to an outcome, for checks that read and for checks that watch.

- What is judged cannot be read or makes no sense (`EvidenceError`, OSError): ERROR. Only that it is not there
  at all (``absent``) is MISSING.
- The machine does not give what is needed (`WorldError`): MISSING, for nothing was seen of what is judged.
- No space (`NoSpace`, or an OSError that says so) and wrong use (`UsageError`) say nothing of what is judged
  and concern every question alike: they are raised on, and end the run with their own exit codes.
"""

from __future__ import annotations

from pipeline.core.errors import EvidenceError, NoSpace, PipelineError, UsageError, is_disk_full
from pipeline.core.outcome import Outcome


class Absent(EvidenceError):
    """What is to be judged is not there, so nothing can be said of it."""


def outcome_of(error: PipelineError | OSError) -> Outcome:
    """ERROR or MISSING; raises the error again, or `NoSpace`, if it is none of a single question's."""
    if isinstance(error, OSError):
        if is_disk_full(error):
            raise NoSpace(f"no space left: {error}") from error
        return Outcome.ERROR
    if isinstance(error, (NoSpace, UsageError)):
        raise error
    if isinstance(error, EvidenceError) and not isinstance(error, Absent):
        return Outcome.ERROR
    return Outcome.MISSING


def words_of(error: PipelineError | OSError) -> str:
    """What a finding says of it."""
    return str(error) if isinstance(error, OSError) else error.explained
