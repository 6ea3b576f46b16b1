"""What a package says of itself and no transaction goes by: licence, vendor, change log and the like.

Auditors, inventories and scanners for known faults read these tags. Of tags that no reader here knows the
number and a digest is kept, so that none goes by unseen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pipeline.rpm.header import RpmHeader
from pipeline.rpm.scripts import SCRIPTLETS, TRIGGERS

#: rpm's name -> its tag (rpmtag.h)
_TAGS = {
    "summary": 1004, "description": 1005, "distribution": 1010, "vendor": 1011, "license": 1014,
    "packager": 1015, "group": 1016, "url": 1020, "disturl": 1123, "vcs": 5034, "modularitylabel": 5096,
}  # fmt: skip
#: Times, names and texts of the change log.
_CHANGED = (1080, 1081, 1082)
#: What `pipeline.rpm.package` reads, and what rpmbuild writes of itself and of the build: regions, table of
#: languages, sizes, times, host, platform, options, classes and dictionaries of files, digests of the
#: payload; of a source package its sources and patches, and the spec. (Where to report bugs, and the tag of a
#: distribution, come from macros of the image.)
_READ = frozenset(
    {*range(61, 64), 100, *range(1000, 1004), 1006, 1007, 1009, 1018, 1019, 1021, 1022, 1028, 1030,
     *range(1033, 1038), 1039, 1040, *range(1044, 1051), 1053, 1054, 1055, 1064, 1090, *range(1094, 1099),
     1106, *range(1112, 1119), 1122, *range(1124, 1127), 1132, *range(1140, 1147), 1155, *range(5008, 5013),
     *range(5035, 5038), *range(5046, 5058), 5062, 5092, 5093, 5097, 5099}
    | {tag for tags in (*SCRIPTLETS.values(), *TRIGGERS.values()) for tag in tags}
)  # fmt: skip
#: Signatures of the files themselves, for IMA and for fs-verity, in the header of signatures: a kernel that
#: asks for them opens no file whose own is wrong.
_SIGNATURES = {"ima-signatures": 274, "verity-signatures": 276}


def read(header: RpmHeader, signature: RpmHeader) -> tuple[tuple[str, str], ...]:
    """Name and text of each. Raises `MalformedInput`."""
    return tuple(_read(header, signature))


def _read(header: RpmHeader, signature: RpmHeader) -> Iterator[tuple[str, str]]:
    for name, tag in _TAGS.items():
        if text := header.string(tag, ""):
            yield name, text
    if times := header.numbers(_CHANGED[0]):
        lines = [line for tag in _CHANGED[1:] for line in header.strings(tag)]
        yield "changelog", "\n".join([*map(str, times), *lines])
    known = _READ.union(_TAGS.values(), _CHANGED)
    for tag, (kind, count, raw) in sorted(header.fields().items()):
        if tag not in known:
            yield f"tag-{tag}", f"{kind} {count} {hashlib.sha256(raw).hexdigest()[:16]}"
    for name, tag in _SIGNATURES.items():
        if found := signature.strings(tag):
            yield name, f"of {sum(map(bool, found))} files of {len(found)}"
