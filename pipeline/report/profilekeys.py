"""CONTRIBUTING's tables of a profile's keys, made from the models: ``python -m pipeline.report.profilekeys``.

What a key means is the ``#:`` comment before its field in `pipeline.profile`.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline import profile
from pipeline.core import paths, store

BEGIN, END = "<!-- keys: python -m pipeline.report.profilekeys -->", "<!-- /keys -->"
FILE = paths.REPO / "CONTRIBUTING.md"

#: Tables as they stand in a file, with the model of each.
TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("", profile.Profile),
    ("[source] with kind = \"apt\"", profile.AptSource),
    ("[source] with kind = \"tarball\"", profile.TarballSource),
    ("[image]", profile.ImageKeys),
    ("[[release]] that is built", profile.BuiltRelease),
    ("[[release]] that others published", profile.PublishedRelease),
    ("[[step]]", profile.Step),
    ("[rseq]", profile.Rseq),
    ("[speed]", profile.SpeedLimits),
    ("[[kernel]]", profile.Kernel),
    ("[arch_options.ARCH]", profile.ArchOptions),
)  # fmt: skip
_FIELD = re.compile(r"^    (\w+): ")


def comments(model: type[BaseModel]) -> dict[str, str]:
    """Field -> its ``#:`` comment in one line, for the fields that have one; bases come first."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        lines: list[str] = []
        for line in inspect.getsource(base).splitlines():
            if line.startswith("    #: ") or (lines and line.startswith("    # ")):
                lines.append(line.strip().lstrip("#: "))
                continue
            if lines and (field := _FIELD.match(line)):
                found[field[1]] = " ".join(lines)
            lines = []
    return found


def words(kind: Any) -> str:
    """A type as someone writes it in TOML."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return words(inner[0])
    if origin is typing.Literal:
        return " or ".join(f"`{value!r}`".replace("'", '"') for value in inner)
    if origin is list:
        return f"list of {words(inner[0])}" if words(inner[0]) != "table" else "tables"
    if origin is dict:
        return f"table of {words(inner[1])}"
    if origin in (types.UnionType, typing.Union) or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return "table"
    return {"str": "string", "int": "integer", "float": "number", "bool": "true or false"}.get(
        getattr(kind, "__name__", str(kind)), str(kind)
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "the defaults below"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value!r}`".replace("'", '"') if value not in ("", [], {}) else "none"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    meaning = comments(model)
    for name, field in model.model_fields.items():
        # pydantic keeps the constraints of Annotated beside the bare type
        cells = (f"`{field.alias or name}`", words(field.annotation), _default(field), meaning.get(name, ""))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def tables() -> str:
    """All tables, as Markdown."""
    parts = []
    for title, model in TABLES:
        head = (
            [f"`{title.partition(' ')[0]}`{title.partition(' ')[1]}{title.partition(' ')[2]}", ""]
            if title
            else []
        )
        parts.append(
            "\n".join([*head, "| key | type | default | meaning |", "|---|---|---|---|", *_rows(model)])
        )
    return "\n\n".join(parts)


def document(text: str) -> str:
    """CONTRIBUTING's text with the tables. Raises ValueError if a mark is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"CONTRIBUTING.md has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def main(file: Path = FILE) -> None:
    store.write_atomically(file, document(file.read_text()))


if __name__ == "__main__":
    main()
