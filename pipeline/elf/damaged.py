"""What pyelftools raises on a damaged file, in one place.

It checks little before it follows what a file says, so that beside its own exceptions come those of Python:
offsets beyond what Python can seek to, sections whose compression is broken, names that are not text (seen by
a fuzzer). Who reads with it turns these into `MalformedInput`, and nothing else: an exception that is not
among them is a fault of ours.
"""

from __future__ import annotations

import struct
import zlib

from elftools.common.exceptions import DWARFError, ELFError
from elftools.construct.core import ConstructError

DAMAGED = (
    ELFError, DWARFError, ConstructError, AssertionError, LookupError, ArithmeticError, ValueError, TypeError,
    AttributeError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
