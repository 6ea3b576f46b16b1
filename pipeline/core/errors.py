"""One class for each way to fail: each has an exit code, a message and a remedy.

Exit codes (README): 0 pass, 1 a check failed, 2 wrong use, 3 evidence missing, 4 the world failed,
130 interrupted.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Sequence
from enum import IntEnum

#: How programs say ENOSPC and EDQUOT in the C locale; Go's, as podman, say it in small letters.
_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded|\bENOSPC\b", re.IGNORECASE)


class ExitCode(IntEnum):
    """What the process says to its caller."""

    PASS = 0
    FAILED = 1
    WRONG_USE = 2
    MISSING = 3
    WORLD = 4
    INTERRUPTED = 130


class PipelineError(Exception):
    """A failure that is explained to the user, never shown as a traceback.

    ``message`` says what happened (one sentence), ``hint`` says what to do next.
    """

    exit_code: ExitCode = ExitCode.WORLD

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def explained(self) -> str:
        """Message and remedy in one line of prose, for findings."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(PipelineError):
    """The command line or a file the user wrote (profile, patch, series) is wrong."""

    exit_code = ExitCode.WRONG_USE


class EvidenceError(PipelineError):
    """What was to be judged cannot be read or is incomplete, so nothing can be said of it."""

    exit_code = ExitCode.MISSING


class MalformedInput(EvidenceError):
    """An ELF file, RPM, baseline or evidence file is not what it says it is."""


class WorldError(PipelineError):
    """The machine or the network does not give what is needed."""

    exit_code = ExitCode.WORLD


class ToolMissing(WorldError):
    """A program the pipeline calls is not installed."""


class SourceUnreachable(WorldError):
    """A source, package or image cannot be had from any of its places."""


class HashMismatch(WorldError):
    """What arrived is not what was pinned; it was kept aside for inspection."""


class NoSpace(WorldError):
    """The disk is full; the remedy is the same wherever it was seen."""

    REMEDY = (
        "free some space (`nox -s clean` drops stored results) or point PIPELINE_STATE at a larger disk, "
        "then run the same command again"
    )

    def __init__(self, message: str, *, hint: str = REMEDY) -> None:
        super().__init__(message, hint=hint)


def says_disk_full(words: str) -> bool:
    """Whether a program tells of a full disk."""
    return _DISK_FULL.search(words) is not None


def is_disk_full(error: OSError) -> bool:
    """Whether a call failed for a full disk; `shutil.copytree` keeps only the words of its many errors."""
    if isinstance(error, shutil.Error):
        return says_disk_full(str(error))
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class CommandFailed(WorldError):
    """A program ended with a status that was not expected.

    ``returncode`` is the status (negative: the signal that ended it), ``log`` the full output's path if
    one was kept, ``tail`` its last lines.
    """

    def __init__(
        self, message: str, *, hint: str = "", returncode: int = -1, log: str = "", tail: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.returncode = returncode
        self.log = log
        self.tail = tail


class PrepFailed(CommandFailed):
    """rpmbuild failed in %prep, where sources are unpacked and patches applied."""


class NoMirror(SourceUnreachable):
    """No address gave a file; ``troubles`` says of each what was wrong."""

    def __init__(self, message: str, *, hint: str = "", troubles: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.troubles = tuple(troubles)


def reason(error: Exception) -> str:
    """What an error says, without its number and the file that the message has named already."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def of_system_call(error: OSError) -> WorldError:
    """The error for a system call that was not handled where it failed: file, reason, possible remedy."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        source, target, words = error.args[0][0]
        named, why = f"{source} -> {target}", re.sub(r"^\[Errno \d+\] ", "", str(words))
    else:
        named = " -> ".join(str(n) for n in (error.filename, error.filename2) if n is not None)
        why = reason(error)
    message = f"{named}: {why}" if named else f"a system call failed: {why}"
    if is_disk_full(error):
        return NoSpace(f"no space left: {message}")
    again = "and run the same command again"
    if not named:
        hint = f"fix that {again}; PIPELINE_TRACEBACK=1 shows what was being done"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = (
            f"make it yours to use (`ls -ld` shows whose it is), or move the state (PIPELINE_STATE), {again}"
        )
    elif error.errno == errno.ENOENT:
        hint = f"put it there, or name what is there, {again}"
    elif error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        hint = f"a file stands where a directory is wanted, or the reverse: move it away {again}"
    else:
        hint = f"fix that {again}; PIPELINE_TRACEBACK=1 shows what was being done"
    return WorldError(message, hint=hint)
