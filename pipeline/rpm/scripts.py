"""What a package runs when it or another one comes or goes: scriptlets and triggers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pipeline.core.errors import MalformedInput
from pipeline.rpm.header import REMEDY, RpmHeader

#: rpm's name -> (body, interpreter, flags)
SCRIPTLETS = {
    "pre": (1023, 1085, 5020),
    "post": (1024, 1086, 5021),
    "preun": (1025, 1087, 5022),
    "postun": (1026, 1088, 5023),
    "pretrans": (1151, 1153, 5024),
    "posttrans": (1152, 1154, 5025),
    "preuntrans": (5104, 5106, 5108),
    "postuntrans": (5105, 5107, 5109),
    "verify": (1079, 1091, 5026),
}
#: rpm's name -> (bodies, interpreters, flags; names, flags and versions of what triggers, body of each;
#: priorities)
TRIGGERS = {
    "trigger": (1065, 1092, 5027, 1066, 1068, 1067, 1069, 0),
    "filetrigger": (5066, 5067, 5068, 5069, 5072, 5071, 5070, 5084),
    "transfiletrigger": (5076, 5077, 5078, 5079, 5082, 5081, 5080, 5085),
}
#: how the flags of a trigger say when it runs (rpmds.h)
WHEN = {1 << 25: "prein", 1 << 16: "in", 1 << 17: "un", 1 << 18: "postun"}


@dataclass(frozen=True, order=True)
class Script:
    """One scriptlet or trigger: its ``kind`` (with what triggers it), the interpreter with its arguments
    ("" where rpm runs none), the body, and rpm's flags (expansion of macros, criticality)."""

    kind: str
    interpreter: str
    body: str
    flags: int = 0

    @property
    def text(self) -> str:
        """One line: kind, interpreter, and a digest of the body where it has one."""
        raw = self.body.encode(errors="surrogateescape")
        body = f" sha256 {hashlib.sha256(raw).hexdigest()[:16]}" if raw.strip() else ""
        flags = f" flags {self.flags}" if self.flags else ""
        return f"{self.kind} {self.interpreter or '(no interpreter)'}{body}{flags}"


def read(header: RpmHeader) -> tuple[Script, ...]:
    """All scriptlets and triggers of a package, in a fixed order. Raises `MalformedInput`."""
    found = [
        Script(
            kind, " ".join(header.strings(interpreter)), header.string(body, ""), header.number(flags) or 0
        )
        for kind, (body, interpreter, flags) in SCRIPTLETS.items()
        if body in header or interpreter in header
    ]
    for kind in TRIGGERS:
        found += _triggers(header, kind)
    return tuple(found)


def _triggers(header: RpmHeader, kind: str) -> list[Script]:
    body, interpreter, flag, name, sense, version, index, priority = TRIGGERS[kind]
    bodies, interpreters, flags = header.strings(body), header.strings(interpreter), header.numbers(flag)
    priorities = header.numbers(priority)
    on = header.dependencies((name, sense, version))
    indexes = header.numbers(index)
    if len(indexes) != len(on) or any(i >= len(bodies) for i in indexes):
        raise MalformedInput(f"{header.where}: the columns of its {kind}s differ in length", hint=REMEDY)
    found = []
    for number, text in enumerate(bodies):
        causes = [d for d, i in zip(on, indexes, strict=True) if i == number]
        when = sorted({word for d in causes for bit, word in WHEN.items() if d.flags & bit})
        named = ", ".join(str(d) for d in causes)
        first = f" priority {priorities[number]}" if number < len(priorities) else ""
        found.append(
            Script(
                f"{kind}{'/'.join(when)} on {named}{first}",
                interpreters[number] if number < len(interpreters) else "",
                text,
                flags[number] if number < len(flags) else 0,
            )
        )
    return found
