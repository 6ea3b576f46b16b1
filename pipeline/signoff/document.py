"""Evidence as a file: its JSON Schema, writing, and reading that trusts nothing."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.core import jsontext, paths, store, tomlfile
from pipeline.core.errors import MalformedInput, UsageError
from pipeline.signoff.evidence import regraded
from pipeline.signoff.recheck import recheck
from pipeline.signoff.records import Evidence
from pipeline.signoff.upgrade import completed, upgraded

if TYPE_CHECKING:
    import jsonschema

SCHEMA_VERSION = 2
SCHEMA_FILE = paths.PACKAGE / "signoff" / "evidence.schema.json"
#: Version 1's schema, as it was committed with the last pipeline that wrote it.
SCHEMA_1_FILE = paths.PACKAGE / "signoff" / "evidence-1.schema.json"
FILE = "evidence.json"


def schema() -> dict[str, Any]:
    """The JSON Schema of evidence, generated from the model."""
    made = Evidence.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_bare(made)}


def _bare(value: Any) -> Any:
    """Without titles and descriptions: they are the docstrings' and would only follow them about."""
    if isinstance(value, dict):
        prose = ("title", "description")
        return {k: _bare(v) for k, v in value.items() if k not in prose or not isinstance(v, str)}
    return [_bare(v) for v in value] if isinstance(value, list) else value


@cache
def _version_1() -> jsonschema.Draft202012Validator:
    import jsonschema  # noqa: PLC0415  # it takes long to load, and this evidence is old

    return jsonschema.Draft202012Validator(json.loads(SCHEMA_1_FILE.read_text()))


def difference(read: Any, written: Any, where: str = "$") -> str:
    """Where JSON that was read is not what is written of it, and how; "" if it is the same.

    A model takes "1" for 1 and fills in what is absent. Evidence is what this pipeline writes, and no more.
    """
    if isinstance(read, dict) and isinstance(written, dict):
        for key in sorted(read.keys() ^ written.keys()):
            return f"{where}.{key}: {'is not expected' if key in read else 'is missing'}"
        found = (difference(read[key], written[key], f"{where}.{key}") for key in read)
    elif isinstance(read, list) and isinstance(written, list) and len(read) == len(written):
        found = (
            difference(r, w, f"{where}[{n}]") for n, (r, w) in enumerate(zip(read, written, strict=True))
        )
    elif isinstance(read, bool) is isinstance(written, bool) and read == written:
        return ""
    else:
        return f"{where}: {str(read)[:100]!r} is not what would be written: {str(written)[:100]!r}"
    return next(filter(None, found), "")


def write(evidence: Evidence, directory: Path) -> Path:
    """Write ``evidence.json`` atomically; returns its path."""
    path = directory / FILE
    store.write_atomically(path, evidence.text)
    return path


def read(path: Path) -> Evidence:
    """Evidence from a file.

    Raises `UsageError` if there is no such file and `MalformedInput` if it is not evidence, of another
    schema version, or if its verdict does not follow from its findings.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"there is no evidence at {path}",
            hint="`nox -s verify` makes it; `--evidence FILE` names another",
        ) from None
    return parse(raw, str(path))


def parse(raw: bytes, name: str) -> Evidence:
    """As `read`, from bytes; ``name`` is what error messages call them."""
    again = "make it anew with `nox -s verify`"
    try:
        data = jsontext.loads(raw)
    except ValueError as e:
        raise MalformedInput(f"{name} is not JSON: {e}", hint=again) from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version not in (1, SCHEMA_VERSION) or isinstance(version, bool):
        raise MalformedInput(
            f"{name} is evidence of schema version {version!r}; this pipeline reads 1 and {SCHEMA_VERSION}",
            hint="read it with the version of the pipeline that wrote it, or make it anew",
        )
    if version == 1 and (errors := sorted(_version_1().iter_errors(data), key=lambda e: e.json_path)):
        raise MalformedInput(f"{name}: {errors[0].json_path}: {errors[0].message[:300]}", hint=again)
    older = version == 1 or completed(data)
    try:
        evidence = Evidence.model_validate(upgraded(data) if version == 1 else data)
    except ValidationError as e:
        raise MalformedInput(tomlfile.in_words(e, f"{name}: $")[:1000], hint=again) from None
    if version == 1:
        evidence = regraded(evidence)
    elif wrong := difference(data, evidence.model_dump(mode="json", by_alias=True)):
        raise MalformedInput(f"{name}: {wrong}", hint=again)
    if older:
        evidence.keep_sha256(hashlib.sha256(raw).hexdigest())
    recheck(evidence, name)
    return evidence
